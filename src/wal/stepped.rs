//! A log without a thread, for a simulator that is single-threaded and has a clock of its own: the
//! same writer, but each piece of its work is done by the caller of [`Log::step`].
//!
//! Promises: between two steps nothing reaches the disk and no time is read but the given clock's;
//! the same calls do the same operations. `truncate_after`, `reset` and `close` do the steps they
//! depend on themselves. A log dropped without `close` writes nothing more: that is how a
//! simulated process dies.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::log::{Driven, Log, LogConfig, OnProgress, Opened};
use super::record::ChainPoint;
use super::recover::OpenError;
use super::state::{Shared, State};
use super::writer::{Due, Writer};

/// Time since some fixed moment; never runs backwards.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The machine's own clock.
pub(super) fn machine_clock() -> Clock {
    let born = Instant::now();
    Arc::new(move || born.elapsed())
}

/// What one step of the writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was due.
    Idle,
    /// Everything that had been appended went to the operating system: so many bytes. A segment
    /// that was full was synced first, and a new one begun.
    Wrote {
        /// Bytes of records.
        bytes: usize,
    },
    /// What had been written is durable.
    Synced,
    /// Room was asked for, ahead of need or again, and granted or refused: [`Log::room`] says which.
    AskedRoom,
    /// The disk refused; the log is closed for good.
    Failed,
}

impl Step {
    /// Whether the next step may do more.
    pub fn did_something(self) -> bool {
        matches!(self, Step::Wrote { .. } | Step::Synced | Step::AskedRoom)
    }
}

impl Shared {
    pub(super) fn due(&self, state: &State) -> Due {
        Due::of(state, &self.config, (self.clock)())
    }
}

impl Log {
    /// As [`Log::open`], without a thread: nothing is written until [`Log::step`] is called.
    /// `clock` is the only time the log knows.
    ///
    /// `on_progress` is called by `step`; it may append, but not step, truncate, reset or close.
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: LogConfig,
        cluster: u128,
        start: ChainPoint,
        on_progress: OnProgress,
        clock: Clock,
    ) -> Result<Opened, OpenError> {
        let (shared, recovered) =
            Shared::recover(disk, dir, config, cluster, start, on_progress, clock)?;
        let writer = Writer::new(Arc::clone(&shared));
        let log = Log {
            shared,
            driven: Driven::Steps(Mutex::new(writer)),
        };
        Ok(Opened { log, recovered })
    }

    /// Does the writer's next piece of work: a write, or the sync that follows it. Between the two
    /// the write counts as in flight ([`Log::stalled_for`]) and the sync's time runs
    /// ([`Progress::took`](super::Progress)), so a driver that waits there is a slow disk.
    ///
    /// A log with a thread is always idle here.
    pub fn step(&self) -> Step {
        match &self.driven {
            Driven::Thread(_) => Step::Idle,
            Driven::Steps(writer) => writer
                .lock()
                .expect("a step that panicked ended the simulation")
                .step(),
        }
    }

    /// Whether a step would do something now.
    pub fn has_work(&self) -> bool {
        let state = self.shared.lock();
        self.shared.due(&state).is_work()
    }

    /// How long until work falls due although nothing is appended: a sync ([`Fsync::Interval`]), or
    /// asking a full disk again. `None` when none will, or when there is work now.
    ///
    /// [`Fsync::Interval`]: super::Fsync::Interval
    pub fn due_in(&self) -> Option<Duration> {
        let state = self.shared.lock();
        match self.shared.due(&state) {
            Due::In(left) => Some(left),
            _ => None,
        }
    }

    /// Waits until a step would do something; `false` once the log has failed or is closed and
    /// none ever will. For one waiter: whoever steps the log. It does not wake for what falls due
    /// by time; see [`Log::due_in`].
    pub async fn work(&self) -> bool {
        loop {
            let due = {
                let state = self.shared.lock();
                self.shared.due(&state)
            };
            match due {
                Due::Write | Due::Sync | Due::AskRoom => return true,
                Due::End => return false,
                Due::In(_) | Due::Nothing => self.shared.stirred.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::units::{Epoch, Lsn, Millis};
    use crate::wal::sim_disk::SimDisk;
    use crate::wal::{AppendError, Fsync, Kind, Progress};

    const DIR: &str = "/data";

    /// A log on a simulated disk, its virtual milliseconds, and all it reported.
    struct Bench {
        log: Log,
        now: Arc<AtomicU64>,
        told: Arc<Mutex<Vec<Progress>>>,
    }

    fn bench(disk: &SimDisk, fsync: Fsync) -> Bench {
        let (now, told) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let (hand, ears) = (Arc::clone(&now), Arc::<Mutex<Vec<_>>>::clone(&told));
        let config = LogConfig {
            segment_bytes: 400,
            fsync,
            ..LogConfig::default()
        };
        let opened = Log::open_stepped(
            Arc::new(disk.clone()),
            Path::new(DIR),
            config,
            7,
            ChainPoint::default(),
            Arc::new(move |progress: &Progress| ears.lock().unwrap().push(progress.clone())),
            Arc::new(move || Duration::from_millis(hand.load(Ordering::Relaxed))),
        );
        let log = opened.unwrap().log;
        Bench { log, now, told }
    }

    impl Bench {
        fn append(&self, payload: &[u8]) -> Result<ChainPoint, AppendError> {
            self.log.append(Epoch(1), Millis(1), Kind::Effects, payload)
        }

        fn pass(&self, ms: u64) {
            self.now.fetch_add(ms, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_write_and_its_sync_are_two_steps_and_time_passes_only_between_them() {
        let bench = bench(&SimDisk::new(), Fsync::Always);
        assert_eq!(bench.log.step(), Step::Idle);
        let end = bench.append(b"one").unwrap();
        let end = ChainPoint { lsn: Lsn(1), ..end };
        let bytes = end.offset as usize;
        assert!(bench.log.has_work());
        assert_eq!(bench.log.step(), Step::Wrote { bytes });
        assert_eq!(bench.log.cursors(), (end, end, Lsn(0)));
        bench.pass(30);
        assert_eq!(bench.log.stalled_for(), Duration::from_millis(30));
        bench.append(b"two").unwrap();
        assert_eq!(bench.log.step(), Step::Synced, "the sync comes first");
        assert_eq!(bench.log.stalled_for(), Duration::ZERO);
        let told = bench.told.lock().unwrap().clone();
        let brief: Vec<_> = told
            .iter()
            .map(|p| (p.written.lsn.0, p.synced.0, p.was_sync, p.took.as_millis()))
            .collect();
        assert_eq!(brief, [(1, 0, false, 0), (1, 1, true, 30)]);
    }

    #[test]
    fn an_interval_falls_due_by_the_given_clock() {
        let bench = bench(&SimDisk::new(), Fsync::Interval(Duration::from_millis(50)));
        bench.append(b"one").unwrap();
        assert!(matches!(bench.log.step(), Step::Wrote { .. }));
        assert_eq!(bench.log.step(), Step::Idle);
        assert_eq!(bench.log.due_in(), Some(Duration::from_millis(50)));
        bench.pass(50);
        assert_eq!(bench.log.step(), Step::Synced);
        assert_eq!(bench.log.due_in(), None);
    }

    #[test]
    fn truncation_reset_and_close_do_the_steps_they_need() {
        let disk = SimDisk::new();
        let bench = self::bench(&disk, Fsync::Always);
        for _ in 0..9 {
            bench.append(&[7; 90]).unwrap();
        }
        bench.log.truncate_after(Lsn(4)).unwrap();
        assert_eq!(bench.log.cursors().2, Lsn(4));
        bench.append(b"five").unwrap();
        bench.log.close();
        assert_eq!(bench.log.cursors().2, Lsn(5));
        assert_eq!(bench.log.step(), Step::Idle);
        drop(bench);
        let bench = self::bench(&disk, Fsync::Always);
        assert_eq!(bench.log.end().lsn, Lsn(5));
        bench.append(b"six").unwrap();
        bench.log.reset(ChainPoint::default()).unwrap();
        assert_eq!(bench.log.end().lsn, Lsn(0));
    }

    #[test]
    fn a_dropped_log_writes_nothing_and_a_failed_one_never_again() {
        let disk = SimDisk::new();
        let bench = self::bench(&disk, Fsync::Always);
        bench.append(b"one").unwrap();
        let before = disk.operations();
        drop(bench);
        assert_eq!(disk.operations(), before);

        let bench = self::bench(&disk, Fsync::Always);
        bench.append(b"one").unwrap();
        assert!(bench.log.step().did_something());
        disk.fail_at(disk.operations() + 1);
        assert_eq!(bench.log.step(), Step::Failed);
        assert!(bench.append(b"two").is_err());
        assert_eq!(bench.log.step(), Step::Idle);
        assert!(bench.told.lock().unwrap().last().unwrap().failed.is_some());
    }

    #[tokio::test]
    async fn work_wakes_for_an_append_and_ends_with_the_log() {
        let bench = bench(&SimDisk::new(), Fsync::Always);
        let log = Arc::new(bench.log);
        let driver = Arc::clone(&log);
        let task = tokio::spawn(async move {
            let mut steps = Vec::new();
            while driver.work().await {
                steps.push(driver.step());
                if steps.len() == 2 {
                    driver.close();
                }
            }
            steps
        });
        tokio::task::yield_now().await;
        let end = log
            .append(Epoch(1), Millis(1), Kind::Effects, b"x")
            .unwrap();
        let bytes = end.offset as usize;
        assert_eq!(task.await.unwrap(), [Step::Wrote { bytes }, Step::Synced]);
    }
}
