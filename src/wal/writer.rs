//! The writer: writes and syncs, one piece after the other. It takes everything that arrived while
//! the last sync ran. Its own thread does the pieces ([`run`]), or whoever steps the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::DiskFile;
use super::guard::Guard;
use super::log::{Fsync, Progress};
use super::record::ChainPoint;
use super::segment::SEGMENT_HEADER_BYTES;
use super::state::{Group, IDLE, Segment, Shared, State, create_segment};
use super::stepped::Step;
use crate::units::Lsn;

/// The segment being written.
struct OpenSegment {
    file: Box<dyn DiskFile>,
    segment: Segment,
    /// Where the next record goes.
    at: u64,
    rewritten: u64,
}

impl OpenSegment {
    /// R31 on a standby. A group whose records state as synced what is not synced here would, torn
    /// by a power cut, look like damage; so a mark that says what is synced is durable before it,
    /// and from then on comes along with each group, for one sync of both. (It may be lost with its
    /// group: the older one promises less.)
    fn keep_mark(&mut self, shared: &Shared, cluster: u128, claim: Lsn) -> io::Result<()> {
        // All before this segment was synced when it was begun.
        let synced = shared.lock().synced.max(self.segment.before.lsn);
        let stale = match self.segment.floor {
            Some(floor) => floor < synced,
            None => claim > synced && shared.config.rules().keep(Guard::R31Mark),
        };
        if !stale {
            return Ok(());
        }
        let file = self.file.as_ref();
        self.segment.write_mark(file, cluster, synced)?;
        if self.segment.floor.is_none() {
            file.sync_data()?;
        }
        self.segment.floor = Some(synced);
        if let Some(last) = shared.lock().segments.last_mut() {
            last.floor = self.segment.floor;
        }
        Ok(())
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: Option<OpenSegment>,
}

/// What the writer has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Write,
    Sync,
    /// A sync, after this long.
    SyncIn(Duration),
    Nothing,
    /// The log is closed, and everything is where it belongs.
    End,
}

impl Due {
    /// The order of the writer's work.
    pub(super) fn of(state: &State, fsync: Fsync, now: Duration) -> Due {
        if state.failed.is_some() {
            return Due::End;
        }
        let unsynced = state.synced < state.written.lsn;
        let sync_in = match fsync {
            Fsync::Interval(every) if unsynced => {
                Some(every.saturating_sub(now.saturating_sub(state.last_sync)))
            }
            _ => None,
        };
        // The sync first: a writer that never runs dry must not put it off.
        if state.sync_owed.is_some() || sync_in == Some(Duration::ZERO) {
            return Due::Sync;
        }
        if state.has_unwritten() {
            return Due::Write;
        }
        match sync_in {
            _ if state.closing && unsynced => Due::Sync,
            _ if state.closing => Due::End,
            Some(left) => Due::SyncIn(left),
            None => Due::Nothing,
        }
    }
}

pub(super) fn run(shared: Arc<Shared>) {
    let mut writer = Writer::new(shared);
    while writer.wait() {
        writer.step();
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Writer {
        Writer {
            shared,
            segment: None,
        }
    }

    fn keeps(&self, guard: Guard) -> bool {
        self.shared.config.rules().keep(guard)
    }

    /// Waits for work. `false` when the log is closed.
    fn wait(&self) -> bool {
        let mut state = self.shared.lock();
        let poisoned = "a thread panicked while it held the log";
        loop {
            state = match self.shared.due(&state) {
                Due::Write | Due::Sync => return true,
                Due::End => return false,
                Due::SyncIn(left) => {
                    let work = &self.shared.work;
                    work.wait_timeout(state, left).expect(poisoned).0
                }
                Due::Nothing => self.shared.work.wait(state).expect(poisoned),
            };
        }
    }

    /// One piece of work.
    pub(super) fn step(&mut self) -> Step {
        let groups = {
            let mut state = self.shared.lock();
            let groups = match self.shared.due(&state) {
                Due::Write => {
                    state.seal();
                    let from = state.tail.len() - state.unwritten;
                    state.tail.iter().skip(from).cloned().collect()
                }
                Due::Sync => Vec::new(),
                Due::SyncIn(_) | Due::Nothing | Due::End => return Step::Idle,
            };
            state.writer_busy = true;
            groups
        };
        let done = if groups.is_empty() {
            self.sync().map(|()| Step::Synced)
        } else {
            self.write_all(&groups)
        };
        match done {
            Ok(step) => {
                let mut state = self.shared.lock();
                state.writer_busy = false;
                if state.sync_owed.is_none() {
                    self.shared.in_flight_since.store(IDLE, Ordering::Relaxed);
                }
                drop(state);
                self.shared.idle.notify_all();
                step
            }
            Err(error) => {
                self.fail(&error);
                Step::Failed
            }
        }
    }

    fn write_all(&mut self, groups: &[Group]) -> io::Result<Step> {
        let began = self.begin();
        for group in groups {
            self.write(group)?;
        }
        let now = (self.shared.clock)();
        let progress = {
            let mut state = self.shared.lock();
            state.unwritten -= groups.len();
            state.written = groups.last().map_or(state.written, |last| last.after);
            let keep = self.shared.config.tail_bytes;
            state.trim_tail(keep);
            if self.shared.config.fsync == Fsync::Always {
                // In flight until it is synced, however long it takes the driver to go on.
                state.sync_owed = Some(now);
            }
            self.progress(
                state.written,
                state.synced,
                now.saturating_sub(began),
                false,
            )
        };
        (self.shared.on_progress)(&progress);
        let bytes = groups.iter().map(|group| group.bytes.len()).sum();
        Ok(Step::Wrote { bytes })
    }

    fn begin(&self) -> Duration {
        let now = (self.shared.clock)();
        self.shared
            .in_flight_since
            .store(now.as_micros() as u64, Ordering::Relaxed);
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
            if self.keeps(Guard::R3Seal) {
                self.sync()?;
            }
            self.segment = Some(self.new_segment(cluster, rewritten, group)?);
        }
        if self.segment.is_none() {
            self.segment = Some(match self.last_segment(rewritten, group.before)? {
                Some(last) => last,
                None => self.new_segment(cluster, rewritten, group)?,
            });
        }
        let segment = self.segment.as_mut().expect("opened just above");
        assert!(
            segment.segment.before.lsn < group.first,
            "a group before its segment"
        );
        segment.keep_mark(&self.shared, cluster, group.claim)?;
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
            segment: last,
            at,
            rewritten,
        }))
    }

    fn new_segment(&self, cluster: u128, rewritten: u64, group: &Group) -> io::Result<OpenSegment> {
        let (segment, file) = create_segment(&self.shared, cluster, group.before, group.claim)?;
        self.shared.lock().segments.push(segment.clone());
        Ok(OpenSegment {
            file,
            segment,
            at: SEGMENT_HEADER_BYTES as u64,
            rewritten,
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let (upto, owed) = {
            let state = self.shared.lock();
            (state.written, state.sync_owed)
        };
        let began = match owed {
            Some(since) => since,
            None => self.begin(),
        };
        if let Some(segment) = &self.segment
            && self.keeps(Guard::R3Sync)
        {
            segment.file.sync_data()?;
        }
        let now = (self.shared.clock)();
        let progress = {
            let mut state = self.shared.lock();
            state.last_sync = now;
            state.sync_owed = None;
            // Groups written to a segment that is being sealed are not `written` yet; they are
            // counted with the next sync.
            state.synced = state.synced.max(upto.lsn);
            self.progress(state.written, state.synced, now.saturating_sub(began), true)
        };
        (self.shared.on_progress)(&progress);
        Ok(())
    }

    /// The failure latch.
    fn fail(&mut self, error: &io::Error) {
        if !self.keeps(Guard::R3Latch) {
            self.shared.lock().writer_busy = false;
            return;
        }
        self.shared.fail(self.shared.lock(), error);
    }
}
