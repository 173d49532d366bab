//! Random lives of a log on a disk with random faults, against a plain list of records. Each seed
//! is one life; the same seed is the same life.
//!
//! `WAL_SEEDS=100000 cargo test --test wal_random -- --nocapture` lives longer; `WAL_SEED=n`
//! replays one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::{Operation, SimDisk};
use understudy::wal::{
    ChainPoint, EditError, Fsync, Kind, Log, LogConfig, OpenError, Stamp, Step, encode, records,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One life: the log, and what it should hold.
struct Life {
    random: Random,
    config: LogConfig,
    disk: SimDisk,
    now: Arc<AtomicU64>,
    log: Option<Log>,
    /// Every payload since the log's birth.
    model: Vec<Vec<u8>>,
    /// Where a snapshot begins that stands for all before.
    start: ChainPoint,
    /// How many of them must survive.
    promised: usize,
    /// A truncation to so many records was begun, and the disk failed in it.
    cutting: Option<usize>,
    epoch: u64,
    drawn: u64,
}

impl Life {
    fn begin(seed: u64) -> Life {
        let mut random = Random(seed);
        let sectors = [16, 64, 512][random.below(3) as usize];
        let fsync = match random.below(4) {
            0 => Fsync::Os,
            1 => Fsync::Interval(Duration::from_millis(20)),
            _ => Fsync::Always,
        };
        let synced = LogConfig {
            fsync,
            ..LogConfig::default()
        };
        let config = LogConfig {
            segment_bytes: [400, 2000, 100_000][random.below(3) as usize],
            tail_bytes: [0, 300, 100_000][random.below(3) as usize],
            ..synced
        };
        Life {
            random,
            config,
            disk: SimDisk::with_sectors(sectors),
            now: Arc::default(),
            log: None,
            model: Vec::new(),
            start: ChainPoint::default(),
            promised: 0,
            cutting: None,
            epoch: 1,
            drawn: 0,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open while it lives")
    }

    fn payload(&mut self) -> Vec<u8> {
        self.drawn += 1;
        let filling = self.random.below(120) as usize;
        format!("{} {}", self.drawn, "z".repeat(filling)).into_bytes()
    }

    /// Starts the log over what the disk has, and compares.
    fn open(&mut self) -> Result<(), String> {
        let hand = Arc::clone(&self.now);
        let opened = loop {
            let hand = Arc::clone(&hand);
            let opened = Log::open_stepped(
                Arc::new(self.disk.clone()),
                Path::new("/data"),
                self.config,
                7,
                self.start,
                Arc::new(|_| {}),
                Arc::new(move || Duration::from_millis(hand.load(Ordering::Relaxed))),
            );
            match opened {
                Ok(opened) => break opened,
                // A fault that was still waiting; the disk is well again.
                Err(OpenError::Io { source, .. }) if source.raw_os_error() == Some(5) => {}
                Err(_) if self.disk.is_off() => self.disk = self.disk.crash(self.drawn),
                Err(error) => return Err(error.to_string()),
            }
        };
        self.log = Some(opened.log);
        let found = self.contents()?;
        let least = match self.cutting {
            Some(cut) => self.promised.min(cut),
            None => self.promised,
        };
        if found.len() < least {
            return Err(format!("{} records, {least} promised", found.len()));
        }
        if self.model.get(..found.len()) != Some(&found[..]) {
            return Err("something else than was appended".into());
        }
        self.promised = found.len();
        self.model = found;
        self.cutting = None;
        Ok(())
    }

    fn contents(&self) -> Result<Vec<Vec<u8>>, String> {
        let log = self.log();
        let oldest = log.oldest();
        let mut reader = log.reader(oldest.lsn).map_err(|error| error.to_string())?;
        let (mut found, mut history) = (Vec::new(), vec![(oldest.epoch, oldest.lsn)]);
        loop {
            match reader.next_chunk(Lsn(u64::MAX), 500) {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    for record in records(&chunk.bytes) {
                        found.push(record.payload.to_vec());
                        if record.kind == Kind::EpochStart {
                            history.push((record.epoch, record.lsn));
                        }
                    }
                }
                Err(error) if error.raw_os_error() == Some(5) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if log.history() != history {
            return Err(format!("{:?}, but records say {history:?}", log.history()));
        }
        // Whole segments may have gone from the front.
        let gone = oldest.lsn.0 as usize;
        let front = self
            .model
            .get(..gone)
            .ok_or("more is gone than was there")?;
        Ok([front, &found].concat())
    }

    /// The process or the machine dies, and what it had synced is promised.
    fn die(&mut self, power: bool) {
        let reported = self.log().cursors().2.0 as usize;
        self.promised = self.promised.max(reported);
        self.log = None;
        self.disk = match power {
            true => self.disk.crash(self.drawn),
            false => self.disk.kill(),
        };
        // Somebody makes room.
        self.disk.set_capacity(None);
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(4);
        for _ in 0..count {
            let payload = self.payload();
            let kind = self.kind();
            let (epoch, log) = (Epoch(self.epoch), self.log());
            if log
                .append(epoch, Millis(self.drawn), kind, &payload)
                .is_ok()
            {
                self.model.push(payload);
            }
        }
    }

    fn kind(&mut self) -> Kind {
        match self.random.one_in(6) {
            true => {
                self.epoch += 1;
                Kind::EpochStart
            }
            false => Kind::Effects,
        }
    }

    /// A group from a primary that had synced much of it.
    fn append_raw(&mut self) {
        let (mut raw, mut sent) = (Vec::new(), Vec::new());
        let mut end = self.log().end();
        for _ in 0..1 + self.random.below(25) {
            let payload = self.payload();
            let stamp = Stamp {
                kind: self.kind(),
                epoch: Epoch(self.epoch),
                time: Millis(self.drawn),
                synced: Lsn(end.lsn.0 - self.random.below(3).min(end.lsn.0)),
            };
            end = encode(&mut raw, end, stamp, &[&payload]);
            sent.push(payload);
        }
        if self.log().append_raw(&raw).is_ok() {
            self.model.extend(sent);
        }
    }

    fn truncate(&mut self) -> Result<(), String> {
        let oldest = self.log().oldest().lsn.0;
        let end = self.log().end().lsn.0;
        let least = oldest.max(self.start.lsn.0);
        let lsn = least + self.random.below(end - least + 1);
        let left = lsn as usize;
        match self.log().truncate_after(Lsn(lsn)) {
            Ok(_) => {
                self.model.truncate(left);
                self.promised = left;
                self.epoch += 1;
                (self.contents()? == self.model)
                    .then_some(())
                    .ok_or("the wrong records were taken back".into())
            }
            // What had no room on a full disk, and was on no disk, is given up for it.
            Err(EditError::NotKept(_)) if self.log().end().lsn.0 < end => {
                self.model.truncate(self.log().end().lsn.0 as usize);
                (self.log().cursors().1 == self.log().end() && self.contents()? == self.model)
                    .then_some(())
                    .ok_or("more was given up than had no room".into())
            }
            // A record could not be read: nothing was begun.
            Err(_) if self.log().failure().is_none() && !self.disk.is_off() => {
                match self.contents()? == self.model {
                    true => Ok(()),
                    false => Err("a failed truncation left the log open".into()),
                }
            }
            // What was begun is not gone on with: see `act`.
            Err(_) => {
                self.cutting = Some(left);
                Ok(())
            }
        }
    }

    fn die_somehow(&mut self) {
        let power = self.disk.is_off() || self.random.one_in(2);
        self.die(power);
    }

    /// One deed.
    fn act(&mut self) -> Result<(), String> {
        match self.random.below(23) {
            0..=5 => self.append(),
            6..=8 => self.append_raw(),
            9..=14 => {
                let _ = self.log().step();
            }
            15 => while self.log().step().did_something() {},
            16 => {
                let ms = if self.random.one_in(4) { 600 } else { 15 };
                self.now.fetch_add(ms, Ordering::Relaxed);
            }
            17 => self.truncate()?,
            18 => self.forget(),
            19 => self.fault(),
            20 if self.random.one_in(3) => {
                self.die_somehow();
                self.open()?;
            }
            21 => {
                // Somebody makes room; the log finds out by itself, later or at once.
                self.disk.set_capacity(None);
                if self.random.one_in(2) {
                    self.log().ask_again();
                }
            }
            _ if self.disk.is_off() => {}
            _ => {
                if self.contents()? != self.model {
                    return Err("what is read is not what was appended".into());
                }
            }
        }
        let failed = self.log().failure().is_some();
        if failed {
            assert_eq!(self.log().step(), Step::Idle, "it works no more");
        }
        if failed || self.disk.is_off() {
            self.die_somehow();
            self.open()?;
        }
        Ok(())
    }

    /// A snapshot stands for the first records from now on.
    fn forget(&mut self) {
        let synced = self.log().cursors().2.0;
        let begin = self.start.lsn.0 + self.random.below(synced - self.start.lsn.0 + 1);
        if let Ok(start) = self.log().chain_at(Lsn(begin)) {
            self.start = start;
            self.promised = self.promised.max(synced as usize);
            // A failure leaves files that nobody needs.
            let _ = self.log().remove_before(Lsn(begin));
        }
    }

    fn fault(&mut self) {
        let nth = 1 + self.random.below(6);
        match self.random.below(7) {
            0 | 1 => self.disk.fail_nth(Operation::Sync, nth),
            2 => self.disk.fail_nth(Operation::Write, nth),
            3 => self.disk.fail_nth(Operation::Read, nth),
            4 => self.disk.fail_nth(Operation::SyncDir, nth),
            5 => {
                let room = self.random.below(2000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            _ => self.disk.crash_at(self.disk.operations() + nth),
        }
    }
}

fn live(seed: u64) -> Result<(), String> {
    let mut life = Life::begin(seed);
    life.open()?;
    for deed in 0..120 {
        life.act().map_err(|what| format!("deed {deed}: {what}"))?;
    }
    life.die(true);
    life.open().map_err(|what| format!("in the end: {what}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_the_log_keeps_its_promises() {
    let seeds = match number("WAL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WAL_SEEDS").unwrap_or(250),
    };
    println!("WAL_SEEDS={}", seeds.end);
    for seed in seeds {
        if let Err(what) = live(seed) {
            panic!("WAL_SEED={seed}: {what}");
        }
    }
}
