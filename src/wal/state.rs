//! What the log, its writer and its readers share: the records in memory, the cursors, and the
//! files as the log knows them.
//!
//! Invariants: synced <= written <= end, but for a moment of [`State::rewind`]; the groups in `tail`
//! follow each other, and those not written are its end; `open` follows them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::disk::{Disk, DiskFile};
use super::guard::{Guard, Rules};
use super::log::{LogClosed, LogConfig, OnProgress, Progress};
use super::record::ChainPoint;
use super::recover::{self, OpenError, Recovered};
use super::segment::{MARK_AT, SegmentHeader, segment_path};
use super::stepped::Clock;
use crate::units::{Epoch, Lsn};

/// Records that were appended together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) first: Lsn,
    pub(super) before: ChainPoint,
    pub(super) after: ChainPoint,
    /// The greatest LSN that a record in it states as synced (R31).
    pub(super) claim: Lsn,
    pub(super) bytes: Bytes,
}

/// A segment file as the log knows it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) before: ChainPoint,
    /// What its mark states, if it has one: everything up to here is synced on this node, whatever
    /// the records say.
    pub(super) floor: Option<Lsn>,
}

impl Segment {
    pub(super) fn write_mark(
        &self,
        file: &dyn DiskFile,
        cluster: u128,
        floor: Lsn,
    ) -> io::Result<()> {
        let before = self.before;
        let mark = SegmentHeader { cluster, before }.encode_mark(floor);
        file.write_at(&mark, MARK_AT as u64)
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// Records appended since the last group was sealed.
    pub(super) open: Vec<u8>,
    pub(super) open_before: ChainPoint,
    pub(super) open_claim: Lsn,
    /// Sealed groups, oldest first; the last `unwritten` of them are not in a file yet.
    pub(super) tail: VecDeque<Group>,
    pub(super) unwritten: usize,
    pub(super) tail_bytes: usize,
    pub(super) end: ChainPoint,
    pub(super) written: ChainPoint,
    pub(super) synced: Lsn,
    pub(super) failed: Option<Arc<str>>,
    pub(super) closing: bool,
    pub(super) writer_busy: bool,
    /// When the write ended that must be synced before the next one (`Fsync::Always`).
    pub(super) sync_owed: Option<Duration>,
    /// When the last sync ended.
    pub(super) last_sync: Duration,
    /// Epoch and LSN of each EpochStart known; the first entry is what precedes the oldest record.
    pub(super) history: Vec<(Epoch, Lsn)>,
    pub(super) segments: Vec<Segment>,
    pub(super) cluster: u128,
    /// Bumped when history is rewritten: the writer's open file is void.
    pub(super) rewritten: u64,
}

/// No write or sync is in flight.
pub(super) const IDLE: u64 = u64::MAX;

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) config: LogConfig,
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    /// As `work`, for whoever drives a log without a thread.
    pub(super) stirred: Notify,
    pub(super) idle: Condvar,
    pub(super) on_progress: OnProgress,
    pub(super) appended: watch::Sender<Lsn>,
    pub(super) clock: Clock,
    /// Microseconds on `clock` at which the write or sync in flight began; [`IDLE`] when
    /// nothing is in flight.
    pub(super) in_flight_since: AtomicU64,
}

impl Shared {
    /// What a log is before anybody drives it.
    pub(super) fn recover(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        cluster: u128,
        start: ChainPoint,
        on_progress: OnProgress,
        clock: Clock,
    ) -> Result<(Arc<Shared>, Recovered), OpenError> {
        let recovered = recover::recover(disk.as_ref(), dir, cluster, start, config.rules())?;
        let end = recovered.end;
        let (appended, _) = watch::channel(end.lsn);
        let state = State {
            open: Vec::new(),
            open_before: end,
            open_claim: Lsn::ZERO,
            tail: VecDeque::new(),
            unwritten: 0,
            tail_bytes: 0,
            end,
            written: end,
            synced: end.lsn,
            failed: None,
            closing: false,
            writer_busy: false,
            sync_owed: None,
            last_sync: clock(),
            history: recovered.history.clone(),
            segments: recovered.segments.clone(),
            cluster,
            rewritten: 0,
        };
        let shared = Shared {
            disk,
            dir: dir.to_path_buf(),
            config,
            state: Mutex::new(state),
            work: Condvar::new(),
            stirred: Notify::new(),
            idle: Condvar::new(),
            on_progress,
            appended,
            clock,
            in_flight_since: AtomicU64::new(IDLE),
        };
        Ok((Arc::new(shared), recovered))
    }

    /// The failure latch.
    pub(super) fn fail(&self, mut state: MutexGuard<'_, State>, error: &io::Error) {
        let why: Arc<str> = format!(
            "writing {} failed: {error}; nothing is acknowledged any more",
            self.dir.join("wal").display()
        )
        .into();
        state.failed = Some(Arc::clone(&why));
        state.writer_busy = false;
        let progress = Progress {
            written: state.written,
            synced: state.synced,
            took: Duration::ZERO,
            was_sync: false,
            failed: Some(why),
        };
        drop(state);
        self.idle.notify_all();
        self.work.notify_all();
        self.stirred.notify_one();
        (self.on_progress)(&progress);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock is a bug that already ended a thread; the state it left is not
        // to be trusted with anybody's data.
        self.state
            .lock()
            .expect("a thread panicked while it held the log")
    }
}

impl State {
    pub(super) fn refuse_if_closed(&self) -> Result<(), LogClosed> {
        match &self.failed {
            Some(why) => Err(LogClosed(Arc::clone(why))),
            None if self.closing => Err(LogClosed("the node is stopping".into())),
            None => Ok(()),
        }
    }

    pub(super) fn writer_is_wanted(&self) -> bool {
        let in_hand = self.writer_busy || self.sync_owed.is_some();
        (in_hand || self.has_unwritten()) && self.failed.is_none()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.unwritten > 0 || !self.open.is_empty()
    }

    /// Makes the open records a group that writer and readers share.
    pub(super) fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let capacity = self.open.len().clamp(4096, 1 << 20);
        let bytes = std::mem::replace(&mut self.open, Vec::with_capacity(capacity));
        self.tail_bytes += bytes.len();
        let before = self.open_before;
        self.tail.push_back(Group {
            first: before.lsn.next(),
            before,
            after: self.end,
            claim: std::mem::take(&mut self.open_claim),
            bytes: Bytes::from(bytes),
        });
        self.unwritten += 1;
        self.open_before = self.end;
    }

    /// Lets go of old groups that are in a file.
    pub(super) fn trim_tail(&mut self, keep_bytes: usize) {
        while self.tail_bytes > keep_bytes && self.tail.len() > self.unwritten {
            if let Some(group) = self.tail.pop_front() {
                self.tail_bytes -= group.bytes.len();
            }
        }
    }

    pub(super) fn forget_before(&mut self, oldest: ChainPoint) {
        let place = self
            .history
            .iter()
            .rposition(|(_, start)| *start <= oldest.lsn);
        if let Some(place) = place {
            self.history.drain(..place);
        }
        if let Some(first) = self.history.first_mut()
            && first.1 <= oldest.lsn
        {
            *first = (oldest.epoch, oldest.lsn);
        }
    }

    /// Everything behind `end` is gone.
    pub(super) fn rewind(&mut self, end: ChainPoint, rules: Rules) {
        self.open.clear();
        self.open_claim = Lsn::ZERO;
        self.tail.clear();
        self.tail_bytes = 0;
        self.unwritten = 0;
        self.open_before = end;
        self.end = end;
        self.written = end;
        self.synced = end.lsn;
        self.rewritten += 1;
        if rules.keep(Guard::R4History) {
            self.history.retain(|(_, start)| *start <= end.lsn);
        }
        if self.history.is_empty() {
            self.restart_history(end);
        }
    }

    pub(super) fn restart_history(&mut self, start: ChainPoint) {
        self.history = vec![(start.epoch, start.lsn)];
    }
}

/// Creates the segment whose first record follows `before`, which is synced, and whose first group
/// states `claim` as synced; ready for writing, durable by name.
pub(super) fn create_segment(
    shared: &Shared,
    cluster: u128,
    before: ChainPoint,
    claim: Lsn,
) -> io::Result<(Segment, Box<dyn DiskFile>)> {
    let path = segment_path(&shared.dir, before.lsn.next());
    let file = shared.disk.open(&path, true)?;
    file.set_len(0)?;
    file.allocate(shared.config.segment_bytes)?;
    file.write_at(&SegmentHeader { cluster, before }.encode(), 0)?;
    let mut segment = Segment {
        path,
        before,
        floor: None,
    };
    if claim > before.lsn && shared.config.rules().keep(Guard::R31Mark) {
        segment.write_mark(file.as_ref(), cluster, before.lsn)?;
        segment.floor = Some(before.lsn);
    }
    file.sync_data()?;
    shared.disk.sync_dir(&shared.dir.join("wal"))?;
    Ok((segment, file))
}
