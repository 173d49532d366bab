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
use super::segment::{MARK_AT, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use super::space::{DiskFull, Full, Reserve};
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
    /// The writer's thread has nothing to do and is to be woken.
    pub(super) writer_waits: bool,
    /// How many wait for the writer to have nothing in hand.
    pub(super) quiescing: usize,
    /// Up to here records are to be written; what is appended behind may gather.
    pub(super) announced: Lsn,
    /// When the write ended that must be synced before the next one (`Fsync::Always`).
    pub(super) sync_owed: Option<Duration>,
    /// When the last sync ended.
    pub(super) last_sync: Duration,
    /// Epoch and LSN of each EpochStart known; the first entry is what precedes the oldest record.
    pub(super) history: Vec<(Epoch, Lsn)>,
    pub(super) segments: Vec<Segment>,
    /// Files before the oldest segment that are to go, oldest first.
    pub(super) superfluous: VecDeque<PathBuf>,
    pub(super) cluster: u128,
    /// Bumped when history is rewritten: the writer's open file is void.
    pub(super) rewritten: u64,
    /// Bytes that the newest segment's file has room for behind what is written.
    pub(super) left_bytes: u64,
    /// Bytes of the next segment, made ahead of need; zero when it is not there.
    pub(super) spare_bytes: u64,
    /// The disk refused room for the next segment, or for the reserve.
    pub(super) full: Option<Full>,
    /// Made again by the writer when it is gone.
    pub(super) reserve: Option<Arc<Reserve>>,
}

/// A group with so many bytes of records takes over the buffer that they came in.
const COPIED_BYTES: usize = 64 << 10;

/// What a group takes besides its records.
const GROUP_BYTES: usize = size_of::<Group>();

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
    pub(super) is_full: watch::Sender<bool>,
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
            writer_waits: false,
            quiescing: 0,
            announced: end.lsn,
            sync_owed: None,
            last_sync: clock(),
            history: recovered.history.clone(),
            segments: recovered.segments.clone(),
            superfluous: VecDeque::new(),
            cluster,
            rewritten: 0,
            left_bytes: left_in_newest(disk.as_ref(), &recovered.segments, end),
            spare_bytes: 0,
            full: None,
            reserve: None,
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
            is_full: watch::Sender::new(false),
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
            full: None,
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

    /// A group waits for room on the disk, in memory.
    pub(super) fn is_stuck(&self) -> bool {
        self.full.as_ref().is_some_and(|full| full.stuck)
    }

    pub(super) fn writer_is_wanted(&self) -> bool {
        let in_hand = self.writer_busy || self.sync_owed.is_some();
        // What has no room is not waited for: that may take for ever.
        (in_hand || (self.has_unwritten() && !self.is_stuck())) && self.failed.is_none()
    }

    /// Bytes of the groups that are not in a file yet.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        let sealed = self.tail.iter().rev().take(self.unwritten);
        sealed.map(|group| group.bytes.len() as u64).sum::<u64>() + self.open.len() as u64
    }

    /// Bytes that surely have room in a file: all of it, as long as the disk is not full.
    pub(super) fn admitted_bytes(&self) -> u64 {
        if self.full.is_none() {
            return u64::MAX;
        }
        if self.is_stuck() {
            return 0;
        }
        // A group is not cut: it goes into one file or the other.
        let spare = self.spare_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64);
        let room = self.left_bytes.max(spare);
        room.saturating_sub(self.unwritten_bytes())
    }

    /// Whether so many bytes, and then `kept` more, have room.
    pub(super) fn refuse_if_full(&self, bytes: usize, kept: u64) -> Result<(), DiskFull> {
        match &self.full {
            Some(full) if (bytes as u64).saturating_add(kept) > self.admitted_bytes() => {
                Err(DiskFull(Arc::clone(&full.why)))
            }
            _ => Ok(()),
        }
    }

    /// Gives up what has no room. Nobody was told that this node holds it: acknowledgements name
    /// what was written.
    pub(super) fn drop_stuck(&mut self) {
        if !self.is_stuck() {
            return;
        }
        self.open.clear();
        self.open_claim = Lsn::ZERO;
        for group in self.tail.drain(self.tail.len() - self.unwritten..) {
            self.tail_bytes -= group.bytes.len() + GROUP_BYTES;
        }
        self.unwritten = 0;
        self.end = self.written;
        self.open_before = self.end;
        let end = self.end.lsn;
        self.history.retain(|(_, start)| *start <= end);
        if let Some(full) = &mut self.full {
            full.stuck = false;
        }
    }

    /// There is something to write, and it has gathered long enough.
    pub(super) fn has_due(&self) -> bool {
        let due = self.announced > self.written.lsn || self.closing || self.quiescing > 0;
        due && self.has_unwritten()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.unwritten > 0 || !self.open.is_empty()
    }

    /// Makes the open records a group that writer and readers share.
    pub(super) fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        // A small group is copied: with the buffer it came in, of 4 KiB at least, a tail of single
        // records took twenty-five times the memory that it was allowed.
        let bytes = match self.open.len() {
            len if len < COPIED_BYTES => {
                let copy = Bytes::copy_from_slice(&self.open);
                self.open.clear();
                copy
            }
            len => {
                let next = Vec::with_capacity(len.min(1 << 20));
                Bytes::from(std::mem::replace(&mut self.open, next))
            }
        };
        self.tail_bytes += bytes.len() + GROUP_BYTES;
        let before = self.open_before;
        self.tail.push_back(Group {
            first: before.lsn.next(),
            before,
            after: self.end,
            claim: std::mem::take(&mut self.open_claim),
            bytes,
        });
        self.unwritten += 1;
        self.open_before = self.end;
    }

    /// Lets go of old groups that are in a file.
    pub(super) fn trim_tail(&mut self, keep_bytes: usize) {
        while self.tail_bytes > keep_bytes && self.tail.len() > self.unwritten {
            if let Some(group) = self.tail.pop_front() {
                self.tail_bytes -= group.bytes.len() + GROUP_BYTES;
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
        self.announced = end.lsn;
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

/// Bytes that the newest segment's file has room for behind `end`.
pub(super) fn left_in_newest(disk: &dyn Disk, segments: &[Segment], end: ChainPoint) -> u64 {
    let Some(newest) = segments.last() else {
        return 0;
    };
    let used = SEGMENT_HEADER_BYTES as u64 + (end.offset - newest.before.offset);
    // What cannot be read now is found out when it is written.
    let len = disk.open(&newest.path, false).and_then(|file| file.len());
    len.unwrap_or(0).saturating_sub(used)
}

/// Makes a spare file the segment whose first record follows `before`, which is synced, and whose
/// first group states `claim` as synced; ready for writing, durable by name. The file holds zeroes,
/// but for a header where an earlier attempt ended early.
pub(super) fn install_segment(
    shared: &Shared,
    spare: (&Path, &dyn DiskFile),
    cluster: u128,
    before: ChainPoint,
    claim: Lsn,
) -> io::Result<Segment> {
    let (from, file) = spare;
    let path = segment_path(&shared.dir, before.lsn.next());
    file.write_at(&SegmentHeader { cluster, before }.encode(), 0)?;
    let mut segment = Segment {
        path,
        before,
        floor: None,
    };
    if claim > before.lsn && shared.config.rules().keep(Guard::R31Mark) {
        segment.write_mark(file, cluster, before.lsn)?;
        segment.floor = Some(before.lsn);
    }
    file.sync_data()?;
    shared.disk.rename(from, &segment.path)?;
    shared.disk.sync_dir(&shared.dir.join("wal"))?;
    Ok(segment)
}
