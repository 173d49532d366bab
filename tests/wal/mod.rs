//! Stories of a log's life on a simulated disk, and what must be found afterwards. Everything runs
//! on one thread: the same faults and seeds give the same disk every time.

pub mod control;
pub mod search;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{
    ChainPoint, Kind, Log, LogConfig, OpenError, Progress, Stamp, encode, records,
};

pub const DIR: &str = "/data";

/// Small enough for a handful of segments.
pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        tail_bytes: 300,
        ..LogConfig::default()
    }
}

/// A disk that tears small records, too.
pub fn disk() -> SimDisk {
    SimDisk::with_sectors(16)
}

/// A log that is stepped by hand, and what it reported.
pub struct Bench {
    pub log: Log,
    seen: Arc<Mutex<Option<Lsn>>>,
}

pub fn open(disk: &SimDisk, config: LogConfig) -> Result<Bench, OpenError> {
    open_from(disk, config, ChainPoint::default())
}

/// With a snapshot that begins at `start` and is durable.
pub fn open_from(disk: &SimDisk, config: LogConfig, start: ChainPoint) -> Result<Bench, OpenError> {
    let seen: Arc<Mutex<Option<Lsn>>> = Arc::default();
    let ears = Arc::clone(&seen);
    let on_progress = Arc::new(move |progress: &Progress| {
        *ears.lock().unwrap() = Some(progress.synced);
    });
    let opened = Log::open_stepped(
        Arc::new(disk.clone()),
        Path::new(DIR),
        config,
        7,
        start,
        on_progress,
        Arc::new(|| Duration::ZERO),
    )?;
    Ok(Bench {
        log: opened.log,
        seen,
    })
}

impl Bench {
    pub fn drive(&self) {
        while self.log.step().did_something() {}
    }

    /// Closes the log; what it reported last is promised.
    fn end(&self, promise: &mut Promise) {
        self.log.close();
        if let Some(synced) = self.seen.lock().unwrap().take() {
            promise.synced = synced.0;
        }
    }

    /// Each fifth record begins an epoch, so that there is a history.
    pub fn append(&self, epoch: u64, payload: &[u8]) -> bool {
        let lsn = self.log.end().lsn.next().0;
        let epoch = Epoch(epoch * 100 + lsn);
        self.log
            .append(epoch, Millis(lsn), kind_of(lsn), payload)
            .is_ok()
    }
}

pub fn kind_of(lsn: u64) -> Kind {
    match lsn % 5 {
        0 => Kind::EpochStart,
        _ => Kind::Effects,
    }
}

/// Every payload in the log; the log's epoch history must be theirs (R4).
pub fn contents(log: &Log) -> Result<Vec<Vec<u8>>, String> {
    let (mut found, mut history) = (Vec::new(), vec![(Epoch(0), Lsn(0))]);
    let mut reader = log.reader(Lsn::ZERO).map_err(|error| error.to_string())?;
    let mut next = || reader.next_chunk(Lsn(u64::MAX), 200);
    while let Some(chunk) = next().map_err(|error| error.to_string())? {
        for record in records(&chunk.bytes) {
            found.push(record.payload.to_vec());
            if record.kind == Kind::EpochStart {
                history.push((record.epoch, record.lsn));
            }
        }
    }
    if log.history() != history {
        return Err(format!("the epoch history is {:?}", log.history()));
    }
    Ok(found)
}

pub fn first_history(lsn: u64) -> Vec<u8> {
    format!("record {lsn} {}", "x".repeat((lsn as usize * 13) % 90)).into_bytes()
}

pub fn second_history(lsn: u64) -> Vec<u8> {
    format!("second history {lsn} {}", "y".repeat(lsn as usize % 7)).into_bytes()
}

/// What a log promised before it died.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// Reported as synced.
    pub synced: u64,
    /// The record up to which history was taken back, once that had begun.
    pub cut: Option<u64>,
    /// It was taken back: nothing behind it may rise again.
    pub cut_done: bool,
    /// Something was wrong while it lived.
    pub wrong: Option<String>,
}

/// A log's life until its end or the disk's.
pub type Story = fn(&SimDisk, LogConfig) -> Promise;

/// A primary: groups of three, each synced.
pub fn primary(disk: &SimDisk, config: LogConfig) -> Promise {
    match open(disk, config) {
        Ok(bench) => lead(&bench, 20),
        Err(_) => Promise::default(),
    }
}

fn lead(bench: &Bench, last: u64) -> Promise {
    let mut promise = Promise::default();
    for lsn in bench.log.end().lsn.0 + 1..=last {
        if !bench.append(1, &first_history(lsn)) {
            break;
        }
        if lsn % 3 == 0 {
            bench.drive();
        }
    }
    bench.end(&mut promise);
    promise
}

/// A node that takes its last records back and goes on with others.
pub fn turncoat(disk: &SimDisk, config: LogConfig) -> Promise {
    let mut promise = primary(disk, config);
    let Ok(bench) = open(disk, config) else {
        return promise;
    };
    if bench.log.end().lsn < Lsn(20) {
        return promise;
    }
    promise.cut = Some(11);
    if bench.log.truncate_after(Lsn(11)).is_err() {
        return promise;
    }
    promise.cut_done = true;
    promise.synced = 11;
    // A dead disk can be read no more; that is no fault of the log's.
    promise.wrong = contents(&bench.log).err().filter(|_| !disk.is_off());
    for lsn in 12..=17 {
        if !bench.append(2, &second_history(lsn)) {
            break;
        }
        if lsn % 2 == 0 {
            bench.drive();
        }
    }
    bench.end(&mut promise);
    promise
}

/// A standby that has the first records, then catches up in large groups, whose records state
/// (truly, of the primary) that those before them were synced; in the end it reigns itself.
pub fn standby(disk: &SimDisk, config: LogConfig) -> Promise {
    let groups = [(1, 2), (3, 4), (5, 18), (19, 26), (27, 27), (28, 40)];
    follow(disk, config, &groups)
}

/// A standby that keeps up: no record states as synced what is not synced here.
pub fn follower(disk: &SimDisk, config: LogConfig) -> Promise {
    let groups: Vec<_> = (1..=40).map(|lsn| (lsn, lsn)).collect();
    follow(disk, config, &groups)
}

fn follow(disk: &SimDisk, config: LogConfig, groups: &[(u64, u64)]) -> Promise {
    let mut promise = Promise::default();
    let Ok(bench) = open(disk, config) else {
        return promise;
    };
    for (first, last) in groups {
        let raw = as_sent(bench.log.end(), *first, *last);
        if bench.log.append_raw(&raw).is_err() {
            break;
        }
        bench.drive();
    }
    for lsn in 41..=46 {
        if !bench.append(1, &first_history(lsn)) {
            break;
        }
        bench.drive();
    }
    bench.end(&mut promise);
    promise
}

/// The next process over what the one before left: what it finds counts as synced, and a few
/// records come on top.
pub fn go_on(disk: &SimDisk, config: LogConfig, mut promise: Promise) -> Promise {
    let bench = match open(disk, config) {
        Ok(bench) => bench,
        Err(error) => {
            promise.wrong = Some(format!("the second life did not begin: {error}"));
            return promise;
        }
    };
    let found = bench.log.end().lsn.0;
    if found < promise.synced && (promise.cut.is_none() || promise.cut_done) {
        promise.wrong = Some(format!("{found} records, {} were synced", promise.synced));
        return promise;
    }
    let second = match contents(&bench.log) {
        Ok(found) => found.iter().any(|record| record.starts_with(b"second")),
        Err(wrong) => {
            promise.wrong = Some(wrong);
            return promise;
        }
    };
    promise.synced = found;
    for lsn in found + 1..=found + 4 {
        let (epoch, payload) = match second || promise.cut_done {
            true => (2, second_history(lsn)),
            false => (1, first_history(lsn)),
        };
        bench.append(epoch, &payload);
        bench.drive();
    }
    // Either what it was about to take back was taken back, or it never will be.
    promise.cut_done = second || promise.cut_done;
    if !promise.cut_done {
        promise.cut = None;
    }
    bench.end(&mut promise);
    promise
}

/// A standby that caught up, takes back the end of it, and catches up with another history.
pub fn rejoiner(disk: &SimDisk, config: LogConfig) -> Promise {
    let mut promise = standby(disk, config);
    if promise.synced < 46 {
        return promise;
    }
    let Ok(bench) = open(disk, config) else {
        return promise;
    };
    promise.cut = Some(11);
    if bench.log.truncate_after(Lsn(11)).is_err() {
        return promise;
    }
    promise.cut_done = true;
    promise.synced = 11;
    // A dead disk can be read no more; that is no fault of the log's.
    promise.wrong = contents(&bench.log).err().filter(|_| !disk.is_off());
    for (first, last) in [(12, 13), (14, 30)] {
        let mut raw = Vec::new();
        let mut end = bench.log.end();
        for lsn in first..=last {
            end = encode(&mut raw, end, stamp(2, lsn), &[&second_history(lsn)]);
        }
        if bench.log.append_raw(&raw).is_err() {
            break;
        }
        bench.drive();
    }
    bench.end(&mut promise);
    promise
}

fn stamp(epoch: u64, lsn: u64) -> Stamp {
    Stamp {
        epoch: Epoch(epoch * 100 + lsn),
        time: Millis(lsn),
        synced: Lsn(lsn - 1),
        kind: kind_of(lsn),
    }
}

/// Records as a primary sends them that had synced all before each.
pub fn as_sent(mut end: ChainPoint, first: u64, last: u64) -> Vec<u8> {
    let mut raw = Vec::new();
    for lsn in first..=last {
        end = encode(&mut raw, end, stamp(1, lsn), &[&first_history(lsn)]);
    }
    raw
}

/// What the next start finds is what was promised: everything synced, one history, nothing that
/// was taken back.
pub fn check(image: &SimDisk, config: LogConfig, promise: &Promise) -> Result<(), String> {
    if let Some(wrong) = &promise.wrong {
        return Err(wrong.clone());
    }
    let bench = open(image, config).map_err(|error| error.to_string())?;
    let found = contents(&bench.log)?;
    let wanted = match promise.cut {
        Some(cut) if !promise.cut_done => promise.synced.min(cut),
        _ => promise.synced,
    };
    if (found.len() as u64) < wanted {
        return Err(format!("{} records, {wanted} were synced", found.len()));
    }
    let turns = found
        .iter()
        .position(|record| record.starts_with(b"second"));
    for (place, record) in found.iter().enumerate() {
        let lsn = place as u64 + 1;
        let second = match (promise.cut, turns) {
            (Some(cut), _) if promise.cut_done => lsn > cut,
            (_, turn) => turn.is_some_and(|turn| place >= turn),
        };
        let due = if second {
            second_history(lsn)
        } else {
            first_history(lsn)
        };
        if *record != due {
            return Err(format!("LSN {lsn} is not what was written there last"));
        }
    }
    match turns {
        Some(turn) if promise.cut != Some(turn as u64) => {
            Err(format!("the second history begins behind LSN {turn}"))
        }
        _ => Ok(()),
    }
}
