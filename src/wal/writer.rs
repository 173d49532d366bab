//! The thread that writes and syncs. It takes everything that arrived while the last sync ran.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk::DiskFile;
use super::log::{Fsync, Group, Progress, Shared, create_segment};
use super::record::ChainPoint;
use super::segment::SEGMENT_HEADER_BYTES;
use crate::units::Lsn;

/// The segment being written.
struct OpenSegment {
    file: Box<dyn DiskFile>,
    before: ChainPoint,
    /// Where the next record goes.
    at: u64,
    rewritten: u64,
}

struct Writer<'a> {
    shared: &'a Arc<Shared>,
    segment: Option<OpenSegment>,
    last_sync: Instant,
}

pub(super) fn run(shared: &Arc<Shared>) {
    let mut writer = Writer {
        shared,
        segment: None,
        last_sync: Instant::now(),
    };
    while writer.next_group() {}
}

impl Writer<'_> {
    /// One round: gather, write, sync. `false` when the log is closed.
    fn next_group(&mut self) -> bool {
        let Some((groups, sync_only)) = self.gather() else {
            return false;
        };
        match self.write_and_sync(&groups, sync_only) {
            Ok(()) => {
                let mut state = self.shared.lock();
                state.writer_busy = false;
                self.shared.idle.notify_all();
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Waits for work: the groups to write, and whether only a sync is due.
    fn gather(&mut self) -> Option<(Vec<Group>, bool)> {
        let mut state = self.shared.lock();
        loop {
            if state.has_unwritten() {
                state.seal();
                state.writer_busy = true;
                let from = state.tail.len() - state.unwritten;
                return Some((state.tail.iter().skip(from).cloned().collect(), false));
            }
            let unsynced = state.synced < state.written.lsn;
            if state.closing {
                state.writer_busy = unsynced;
                return unsynced.then(|| (Vec::new(), true));
            }
            let due = match self.shared.config.fsync {
                Fsync::Interval(every) if unsynced => {
                    Some(every.saturating_sub(self.last_sync.elapsed()))
                }
                _ => None,
            };
            let poisoned = "a thread panicked while it held the log";
            match due {
                Some(Duration::ZERO) => {
                    state.writer_busy = true;
                    return Some((Vec::new(), true));
                }
                Some(left) => {
                    state = self
                        .shared
                        .work
                        .wait_timeout(state, left)
                        .expect(poisoned)
                        .0;
                }
                None => state = self.shared.work.wait(state).expect(poisoned),
            }
        }
    }

    fn write_and_sync(&mut self, groups: &[Group], sync_only: bool) -> io::Result<()> {
        let began = self.begin();
        for group in groups {
            self.write(group)?;
        }
        if let Some(last) = groups.last() {
            let progress = {
                let mut state = self.shared.lock();
                state.unwritten -= groups.len();
                state.written = last.after;
                let keep = self.shared.config.tail_bytes;
                state.trim_tail(keep);
                self.progress(last.after, state.synced, began.elapsed(), false)
            };
            (self.shared.on_progress)(&progress);
        }
        let due = match self.shared.config.fsync {
            Fsync::Always => true,
            Fsync::Interval(every) => sync_only || self.last_sync.elapsed() >= every,
            Fsync::Os => sync_only,
        };
        if due {
            self.sync()?;
        }
        self.shared.in_flight_since.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn begin(&self) -> Instant {
        let now = Instant::now();
        let micros = now.duration_since(self.shared.born).as_micros() as u64;
        self.shared
            .in_flight_since
            .store(micros.max(1), Ordering::Relaxed);
        now
    }

    fn progress(&self, written: ChainPoint, synced: Lsn, took: Duration, sync: bool) -> Progress {
        Progress {
            written,
            synced,
            took,
            was_sync: sync,
            failed: None,
        }
    }

    fn write(&mut self, group: &Group) -> io::Result<()> {
        let (cluster, rewritten) = {
            let state = self.shared.lock();
            (state.cluster, state.rewritten)
        };
        if self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.rewritten != rewritten)
        {
            self.segment = None;
        }
        let size = group.bytes.len() as u64;
        let full = self.segment.as_ref().is_some_and(|segment| {
            let used = segment.at > SEGMENT_HEADER_BYTES as u64;
            used && segment.at + size > self.shared.config.segment_bytes
        });
        if full {
            // A segment is sealed synced, whatever the fsync setting: recovery relies on it.
            self.sync()?;
            self.segment = Some(self.new_segment(cluster, rewritten, group.before)?);
        }
        if self.segment.is_none() {
            self.segment = Some(match self.last_segment(rewritten, group.before)? {
                Some(last) => last,
                None => self.new_segment(cluster, rewritten, group.before)?,
            });
        }
        let segment = self.segment.as_mut().expect("opened just above");
        assert!(
            segment.before.lsn < group.first,
            "a group before its segment"
        );
        segment.file.write_at(&group.bytes, segment.at)?;
        segment.at += size;
        Ok(())
    }

    /// The last segment, when there is room in it: after opening the log or rewriting history.
    fn last_segment(&self, rewritten: u64, end: ChainPoint) -> io::Result<Option<OpenSegment>> {
        let Some(last) = self.shared.lock().segments.last().cloned() else {
            return Ok(None);
        };
        let at = SEGMENT_HEADER_BYTES as u64 + (end.offset - last.before.offset);
        if at >= self.shared.config.segment_bytes {
            return Ok(None);
        }
        let file = self.shared.disk.open(&last.path, false)?;
        Ok(Some(OpenSegment {
            file,
            before: last.before,
            at,
            rewritten,
        }))
    }

    fn new_segment(
        &self,
        cluster: u128,
        rewritten: u64,
        before: ChainPoint,
    ) -> io::Result<OpenSegment> {
        let (segment, file) = create_segment(self.shared, cluster, before)?;
        self.shared.lock().segments.push(segment);
        Ok(OpenSegment {
            file,
            before,
            at: SEGMENT_HEADER_BYTES as u64,
            rewritten,
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(segment) = &self.segment else {
            return Ok(());
        };
        let began = self.begin();
        let upto = self.shared.lock().written;
        segment.file.sync_data()?;
        self.last_sync = Instant::now();
        let progress = {
            let mut state = self.shared.lock();
            // Groups written to a segment that is being sealed are not `written` yet; they are
            // counted with the next sync.
            state.synced = state.synced.max(upto.lsn);
            self.progress(state.written, state.synced, began.elapsed(), true)
        };
        (self.shared.on_progress)(&progress);
        Ok(())
    }

    /// The failure latch.
    fn fail(&mut self, error: &io::Error) {
        let why: Arc<str> = format!(
            "writing {} failed: {error}; nothing is acknowledged any more",
            self.shared.dir.join("wal").display()
        )
        .into();
        let progress = {
            let mut state = self.shared.lock();
            state.failed = Some(Arc::clone(&why));
            state.writer_busy = false;
            Progress {
                written: state.written,
                synced: state.synced,
                took: Duration::ZERO,
                was_sync: false,
                failed: Some(why),
            }
        };
        self.shared.idle.notify_all();
        (self.shared.on_progress)(&progress);
    }
}
