//! The log: appended in memory, written and synced in groups by one writer, read back by whoever
//! ships or applies it.
//!
//! ```text
//!   append / append_raw -> open group -> sealed groups -> [writer thread: write, sync] -> files
//!                                          \-> readers (live tail, shared bytes)
//! ```
//!
//! Promises: a record reported synced survives any crash. The next group gathers while one syncs, and
//! until [`Log::announce`]; what is announced is not delayed. The first write or sync that fails
//! closes the log for good: a failed fdatasync leaves the page cache claiming what the disk does not
//! have, so nothing may be retried and nothing acknowledged (PostgreSQL learned this in 2018).
//!
//! A full disk closes nothing. Segments are preallocated, so only a new one asks for room, and the
//! next one is made when half of the present one is used: a full disk is known while there is still
//! room for what is in flight. From then on a record is taken only while it surely has room in a
//! file, else refused at once; the writer asks again on its own ([`super::space`]).
//!
//! Lock order: `state` is the only lock, held for memory work only; the writer does its I/O
//! without it. `truncate_after` and `reset` are the exceptions: they stop everyone, on purpose.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use super::disk::{Disk, remove_if_there};
use super::guard::{Guard, Rules};
use super::record::{self, ChainPoint, Kind, RecordError, Stamp};
use super::recover::{OpenError, Recovered};
use super::space::{DiskFull, Reserve, Room};
use super::state::{IDLE, Shared, State};
use super::stepped::machine_clock;
use super::writer::{self, Writer};
use crate::units::{Epoch, Lsn, Millis};

/// When writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Each group is synced before it counts.
    Always,
    /// At most this long after it was written.
    Interval(Duration),
    /// When the operating system likes.
    Os,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// When writes become durable.
    pub fsync: Fsync,
    /// Bytes of recent groups kept in memory for standbys and for applying.
    pub tail_bytes: usize,
    /// A rule that this log does without, so that a test can see that it would be missed.
    #[cfg(feature = "mutants")]
    pub without: Option<Guard>,
}

impl LogConfig {
    /// Bytes of a full disk's last segment that are kept for the beginnings of reigns: some sixty.
    pub(super) fn kept_bytes(&self) -> u64 {
        (self.segment_bytes / 16).min(4096)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            #[cfg(feature = "mutants")]
            without: self.without,
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 64 << 20,
            fsync: Fsync::Always,
            tail_bytes: 32 << 20,
            #[cfg(feature = "mutants")]
            without: None,
        }
    }
}

/// The log takes nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the log is closed: {0}")]
pub struct LogClosed(pub Arc<str>);

/// Why a record was not appended. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The log is closed.
    #[error(transparent)]
    Closed(#[from] LogClosed),
    /// There is no room for it now.
    #[error(transparent)]
    Full(#[from] DiskFull),
}

/// Why bytes from a primary were not appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendRawError {
    /// The log is closed.
    #[error(transparent)]
    Closed(#[from] LogClosed),
    /// There is no room for all of them now; none were appended.
    #[error(transparent)]
    Full(#[from] DiskFull),
    /// The bytes are not the next records; those before the bad one were appended.
    #[error("the record behind LSN {after} is not acceptable: {why}")]
    Bad {
        /// Last good record.
        after: Lsn,
        /// What is wrong.
        why: RecordError,
    },
}

/// Told after each write and each sync, and once on failure.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Behind the last record handed to the operating system.
    pub written: ChainPoint,
    /// Last durable record.
    pub synced: Lsn,
    /// How long the write or sync took.
    pub took: Duration,
    /// Whether it was a sync.
    pub was_sync: bool,
    /// The disk is full: what was refused room, and what to do. Told when it changes, and with
    /// each write.
    pub full: Option<Arc<str>>,
    /// The log has failed, and why.
    pub failed: Option<Arc<str>>,
}

/// Called by the writer; on failure also by whoever rewrites history.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// The write-ahead log of one node.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    pub(super) driven: Driven,
}

/// Who does the writer's work.
pub(super) enum Driven {
    /// A thread, until the log is closed.
    Thread(Mutex<Option<JoinHandle<()>>>),
    /// The caller of [`Log::step`].
    Steps(Mutex<Writer>),
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

/// An opened log and what recovery found.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What was found on the disk.
    pub recovered: Recovered,
}

impl Log {
    /// Recovers the log in `dir` and starts its writer.
    ///
    /// `cluster`: whose log this must be; zero on a blank node without segments. `start`: what the
    /// first record follows where there is no segment (a snapshot's begin, or the beginning).
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        cluster: u128,
        start: ChainPoint,
        on_progress: OnProgress,
    ) -> Result<Opened, OpenError> {
        let (shared, recovered) = Shared::recover(
            disk,
            dir,
            config,
            cluster,
            start,
            on_progress,
            machine_clock(),
        )?;
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("wal-writer".into())
            .spawn(move || writer::run(for_writer))
            .map_err(|source| OpenError::Io {
                path: dir.to_path_buf(),
                source,
            })?;
        let log = Log {
            shared,
            driven: Driven::Thread(Mutex::new(Some(writer))),
        };
        Ok(Opened { log, recovered })
    }

    /// Names the cluster whose history this log will hold; for a node that was blank.
    pub fn set_cluster(&self, cluster: u128) {
        self.shared.lock().cluster = cluster;
    }

    /// From now on the writer makes this reserve again whenever it is gone.
    pub fn keep_reserve(&self, reserve: Arc<Reserve>) {
        self.shared.lock().reserve = Some(reserve);
        self.ask_again();
    }

    /// How it stands with the disk's room.
    pub fn room(&self) -> Room {
        let state = self.shared.lock();
        let now = (self.shared.clock)();
        Room {
            full: state.full.as_ref().map(|full| Arc::clone(&full.why)),
            full_for: state
                .full
                .as_ref()
                .map_or(Duration::ZERO, |full| now.saturating_sub(full.since)),
            left_bytes: state.admitted_bytes(),
            spare: state.spare_bytes > 0,
        }
    }

    /// Something was removed, or the reserve was spent: the writer asks the disk for room now.
    pub fn ask_again(&self) {
        if let Some(full) = &mut self.shared.lock().full {
            full.again_at = Duration::ZERO;
        }
        self.shared.work.notify_all();
        self.shared.stirred.notify_one();
    }

    /// Waits until the disk is not full.
    pub async fn has_room(&self) {
        let mut full = self.shared.is_full.subscribe();
        // The sender lives as long as the log.
        let _ = full.wait_for(|full| !full).await;
    }

    /// Appends one record of the present reign; its LSN. Durable once `synced` reaches it.
    ///
    /// # Errors
    /// On a full disk what surely has room is still taken; of that, the last is for the beginnings
    /// of reigns, which a node needs even to serve reads.
    pub fn append(
        &self,
        epoch: Epoch,
        time: Millis,
        kind: Kind,
        payload: &[u8],
    ) -> Result<ChainPoint, AppendError> {
        let after = self.append_unannounced(epoch, time, kind, payload)?;
        self.announce(after.lsn);
        Ok(after)
    }

    /// As [`Log::append`], for one of several records: [`Log::announce`] the last of them, or nobody
    /// writes, syncs and ships them.
    ///
    /// # Errors
    /// Those of [`Log::append`].
    pub fn append_unannounced(
        &self,
        epoch: Epoch,
        time: Millis,
        kind: Kind,
        payload: &[u8],
    ) -> Result<ChainPoint, AppendError> {
        let mut state = self.shared.lock();
        state.refuse_if_closed()?;
        let kept = match kind {
            Kind::EpochStart => 0,
            _ => self.shared.config.kept_bytes(),
        };
        state.refuse_if_full(record::HEADER_BYTES + payload.len(), kept)?;
        let synced = match self.shared.config.rules().keep(Guard::R31Stamp) {
            true => state.synced,
            false => Lsn::ZERO,
        };
        let stamp = Stamp {
            epoch,
            time,
            synced,
            kind,
        };
        let before = state.end;
        let after = record::encode(&mut state.open, before, stamp, &[payload]);
        state.end = after;
        state.open_claim = state.open_claim.max(synced);
        if kind == Kind::EpochStart {
            state.history.push((epoch, after.lsn));
        }
        Ok(after)
    }

    /// Appends whole records as a primary sent them, each checked against the chain; the end
    /// behind them.
    pub fn append_raw(&self, bytes: &[u8]) -> Result<ChainPoint, AppendRawError> {
        let mut state = self.shared.lock();
        state.refuse_if_closed()?;
        state.refuse_if_full(bytes.len(), self.shared.config.kept_bytes())?;
        let (mut end, mut at) = (state.end, 0);
        let mut bad = None;
        while at < bytes.len() {
            match record::check(end, &bytes[at..]) {
                Ok(found) => {
                    at += (found.after.offset - end.offset) as usize;
                    end = found.after;
                    state.open_claim = state.open_claim.max(found.synced);
                    if found.kind == Kind::EpochStart {
                        state.history.push((found.epoch, found.lsn));
                    }
                }
                Err(why) => {
                    bad = Some(AppendRawError::Bad {
                        after: end.lsn,
                        why,
                    });
                    break;
                }
            }
        }
        state.open.extend_from_slice(&bytes[..at]);
        state.end = end;
        drop(state);
        self.announce(end.lsn);
        bad.map_or(Ok(end), Err)
    }

    /// There is something to write, up to here. (A wake-up of the writer is a system call whether it
    /// sleeps or not.)
    pub fn announce(&self, lsn: Lsn) {
        let waited = {
            let mut state = self.shared.lock();
            state.announced = state.announced.max(lsn);
            // Taken back here: until it runs, each further record would wake it again.
            std::mem::take(&mut state.writer_waits)
        };
        match &self.driven {
            Driven::Steps(_) => self.shared.stirred.notify_one(),
            Driven::Thread(_) if waited => self.shared.work.notify_one(),
            Driven::Thread(_) => {}
        }
        // Never backwards: two appenders may come here in either order.
        self.shared.appended.send_if_modified(|seen| {
            let news = lsn > *seen;
            *seen = lsn.max(*seen);
            news
        });
    }

    /// Behind the last record appended.
    pub fn end(&self) -> ChainPoint {
        self.shared.lock().end
    }

    /// The ends of what is appended, written and synced, at one moment.
    pub fn cursors(&self) -> (ChainPoint, ChainPoint, Lsn) {
        let state = self.shared.lock();
        (state.end, state.written, state.synced)
    }

    /// Wakes when something was appended. Goes back when the log is truncated.
    pub fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.shared.appended.subscribe()
    }

    /// Why the log is closed, if it is.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.lock().failed.clone()
    }

    /// How long the write or sync in flight has been running.
    pub fn stalled_for(&self) -> Duration {
        match self.shared.in_flight_since.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            since => (self.shared.clock)().saturating_sub(Duration::from_micros(since)),
        }
    }

    /// Epoch and LSN of each EpochStart, oldest first; the first entry is the epoch of the record
    /// before the oldest one kept (R4: derived from the log, truncated with it).
    pub fn history(&self) -> Vec<(Epoch, Lsn)> {
        self.shared.lock().history.clone()
    }

    /// What the oldest record kept follows.
    pub fn oldest(&self) -> ChainPoint {
        let state = self.shared.lock();
        state
            .segments
            .first()
            .map(|segment| segment.before)
            .unwrap_or_else(|| {
                state
                    .tail
                    .front()
                    .map_or(state.open_before, |group| group.before)
            })
    }

    /// What the first record of each segment kept follows, oldest first.
    pub fn segment_starts(&self) -> Vec<ChainPoint> {
        let state = self.shared.lock();
        state
            .segments
            .iter()
            .map(|segment| segment.before)
            .collect()
    }

    /// Bytes of all segment files kept, as record bytes (headers and reserve left out).
    pub fn kept_bytes(&self) -> u64 {
        self.end().offset - self.oldest().offset
    }

    /// Removes whole segments that end at or before `lsn`; only after what replaces them (a
    /// snapshot beginning at or behind `lsn`) is durable.
    pub fn remove_before(&self, lsn: Lsn) -> io::Result<usize> {
        {
            let mut state = self.shared.lock();
            while state.segments.len() > 1 && state.segments[1].before.lsn <= lsn {
                let segment = state.segments.remove(0);
                state.superfluous.push_back(segment.path);
            }
            if let Some(first) = state.segments.first().map(|segment| segment.before) {
                state.forget_before(first);
            }
        }
        let mut removed = 0;
        while self.remove_oldest_superfluous()? {
            removed += 1;
        }
        if removed > 0 {
            self.ask_again();
        }
        Ok(removed)
    }

    /// R30: always the oldest file, durably gone before the next: what is left is without a hole, or
    /// it would be damage. (The removal of one failed, that of the next did not: the node refused
    /// to start, for want of records that nobody needed. Seed 9000523 of the simulator's `three`.)
    fn remove_oldest_superfluous(&self) -> io::Result<bool> {
        let Some(path) = self.shared.lock().superfluous.front().cloned() else {
            return Ok(false);
        };
        // It may have gone before, and that was not known to be durable.
        remove_if_there(self.shared.disk.as_ref(), &path)?;
        self.shared.disk.sync_dir(&self.shared.dir.join("wal"))?;
        self.shared.lock().superfluous.retain(|left| *left != path);
        Ok(true)
    }

    /// Writes and syncs what is appended, then ends the writer.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.stirred.notify_one();
        match &self.driven {
            Driven::Thread(writer) => {
                let writer = writer.lock().expect("close does not panic").take();
                if let Some(writer) = writer {
                    // A writer that panicked has reported nothing as synced that is not.
                    let _ = writer.join();
                }
            }
            Driven::Steps(_) => while self.step().did_something() {},
        }
    }

    /// Waits until the writer has nothing in hand, keeping everybody else out meanwhile.
    pub(super) fn quiesce(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.lock();
        state.quiescing += 1;
        self.shared.work.notify_all();
        while state.writer_is_wanted() {
            state = match &self.driven {
                Driven::Thread(_) => self
                    .shared
                    .idle
                    .wait(state)
                    .expect("a thread panicked while it held the log"),
                Driven::Steps(_) => {
                    drop(state);
                    self.step();
                    self.shared.lock()
                }
            };
        }
        state.quiescing -= 1;
        state
    }

    pub(super) fn rewound(&self, lsn: Lsn) {
        self.shared.appended.send_replace(lsn);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A log without a thread is dropped by a simulator that kills its node: nothing more may
        // reach the disk then. See `open_stepped`.
        if matches!(self.driven, Driven::Thread(_)) {
            self.close();
        }
    }
}
