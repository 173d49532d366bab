//! Stories of a full disk: every capacity, so that each place that asks for room is refused it.

use std::path::Path;
use std::sync::Arc;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{
    AppendError, AppendRawError, ControlError, ControlFile, Disk, EditError, Kind, Loaded,
    LogConfig, RESERVE_BYTES, Reserve, is_full,
};

use crate::wal::search::Search;
use crate::wal::{
    Bench, DIR, Promise, as_sent, check, config, contents, disk, first_history, go_on, kind_of,
    open,
};

/// Records of a story.
const LAST: u64 = 26;

/// Appends what comes next: one record, or a group. `false` when there is no room.
pub type Next = fn(&Bench) -> Result<bool, String>;

/// A primary's next record.
pub fn primary(bench: &Bench) -> Result<bool, String> {
    let lsn = bench.log.end().lsn.next().0;
    let epoch = Epoch(100 + lsn);
    let payload = first_history(lsn);
    match bench.log.append(epoch, Millis(lsn), kind_of(lsn), &payload) {
        Ok(_) => Ok(true),
        Err(AppendError::Full(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// A standby's next group; some of them larger than a segment.
pub fn standby(bench: &Bench) -> Result<bool, String> {
    let end = bench.log.end();
    let first = end.lsn.next().0;
    let raw = as_sent(end, first, first + first % 9);
    match bench.log.append_raw(&raw) {
        Ok(_) => Ok(true),
        Err(AppendRawError::Full(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Bytes that the whole story takes.
fn all_it_takes(config: LogConfig, next: Next) -> u64 {
    let whole = disk();
    let bench = open(&whole, config).expect("a disk without faults");
    while bench.log.end().lsn.0 < LAST {
        assert_eq!(next(&bench), Ok(true));
        bench.drive();
    }
    whole.used_bytes()
}

/// Appends until there is no room, or the story ends; whether it ended.
fn fill(bench: &Bench, next: Next) -> Result<bool, String> {
    while bench.log.end().lsn.0 < LAST {
        let taken = next(bench)?;
        bench.drive();
        let room = bench.log.room();
        if let Some(why) = bench.log.failure() {
            return Err(format!("a full disk closed the log: {why}"));
        }
        if !taken && room.full.is_none() {
            return Err("refused for no reason".into());
        }
        if !taken || room.left_bytes == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn promise(bench: &Bench) -> Promise {
    Promise {
        synced: bench.log.cursors().2.0,
        ..Promise::default()
    }
}

/// Every capacity: at the first refusal the machine may die, or the process, or there is room again
/// and everything goes on where it was.
pub fn goes_on(config: LogConfig, next: Next) -> Search {
    let mut search = Search::default();
    let (mut refused, mut stuck) = (0, 0);
    let most = all_it_takes(config, next);
    let step = (most / 120).max(11) as usize;
    for capacity in (0..=most).step_by(step) {
        let full = disk();
        full.set_capacity(Some(capacity));
        let bench = open(&full, config).expect("an empty log asks for no room");
        let told = fill(&bench, next);
        let ended = told == Ok(true);
        refused += u64::from(!ended);
        let (end, written, _) = bench.log.cursors();
        stuck += u64::from(!ended && written.lsn < end.lsn);
        let wrong = told.err();
        let place = |what: &str| format!("capacity {capacity}, {what}");
        // The power goes.
        let synced = Promise {
            wrong,
            ..promise(&bench)
        };
        for seed in 0..3 {
            let image = full.after_crash(seed * 1000 + capacity);
            image.set_capacity(None);
            if !search.look(|| place("dead"), check(&image, config, &synced)) {
                return search;
            }
        }
        if !search.look(|| place("went on"), made_room(&full, &bench, config, next)) {
            return search;
        }
        // The process dies, and starts on the full disk.
        let full = disk();
        full.set_capacity(Some(capacity));
        let bench = open(&full, config).expect("an empty log asks for no room");
        let _ = fill(&bench, next);
        let promised = promise(&bench);
        drop(bench);
        let second = full.kill();
        if !search.look(
            || place("started full"),
            starts_full(&second, config, &promised),
        ) {
            return search;
        }
    }
    assert!(refused > 0, "no capacity was too small");
    println!("{refused} capacities were too small, in {stuck} a group waited in memory");
    search
}

/// Nothing taken is lost, and the rest is taken.
fn made_room(disk: &SimDisk, bench: &Bench, config: LogConfig, next: Next) -> Result<(), String> {
    let taken = bench.log.end().lsn;
    disk.set_capacity(None);
    bench.log.ask_again();
    bench.drive();
    let room = bench.log.room();
    if room.full.is_some() {
        return Err(format!("there is room again: {room:?}"));
    }
    if bench.log.end().lsn != taken || bench.log.cursors().1.lsn != taken {
        return Err(format!("{:?}, taken was {taken}", bench.log.cursors()));
    }
    if fill(bench, next) != Ok(true) {
        return Err("it did not go on".into());
    }
    bench.log.close();
    check(&disk.after_crash(7), config, &promise(bench))
}

/// Every synced record is there, and a reign can begin where a segment is large enough to keep room
/// for that.
fn starts_full(disk: &SimDisk, config: LogConfig, promised: &Promise) -> Result<(), String> {
    let bench = open(disk, config).map_err(|error| error.to_string())?;
    let found = contents(&bench.log)?;
    if (found.len() as u64) < promised.synced {
        return Err(format!(
            "{} records, {} synced",
            found.len(),
            promised.synced
        ));
    }
    bench.drive();
    if let Some(why) = bench.log.failure() {
        return Err(why.to_string());
    }
    let (end, kept) = (bench.log.end(), config.segment_bytes / 16);
    if bench.log.room().full.is_some() && !found.is_empty() && kept > 100 {
        let begun = bench.log.append(
            Epoch(end.epoch.0 + 1),
            Millis(end.time.0),
            Kind::EpochStart,
            &[0; 16],
        );
        begun.map_err(|error| format!("no reign begins: {error}"))?;
        bench.drive();
        if bench.log.cursors().2 != bench.log.end().lsn {
            return Err("the reign's beginning is not synced".into());
        }
        return Ok(());
    }
    drop(bench);
    disk.set_capacity(None);
    let second = go_on(disk, config, promised.clone());
    check(&disk.after_crash(5), config, &second)
}

/// Records are taken back on a full disk: that needs no room.
pub fn truncated(config: LogConfig) -> Search {
    let mut search = Search::default();
    for capacity in (0..=all_it_takes(config, standby)).step_by(29) {
        for cut in [3, 11, 20] {
            let full = disk();
            full.set_capacity(Some(capacity));
            let bench = open(&full, config).expect("an empty log asks for no room");
            let found = fill(&bench, standby).and_then(|_| truncate(&full, &bench, config, cut));
            if !search.look(|| format!("capacity {capacity}, to {cut}"), found) {
                return search;
            }
        }
    }
    search
}

fn truncate(full: &SimDisk, bench: &Bench, config: LogConfig, cut: u64) -> Result<(), String> {
    let (end, written, _) = bench.log.cursors();
    if Lsn(cut) > end.lsn {
        return Ok(());
    }
    let left = match bench.log.truncate_after(Lsn(cut)) {
        Ok(_) => cut,
        // What is stuck in memory was never reported as written, and goes.
        Err(EditError::NotKept(_)) if Lsn(cut) > written.lsn => written.lsn.0,
        Err(error) => return Err(error.to_string()),
    };
    if bench.log.end().lsn != Lsn(left) || contents(&bench.log)?.len() as u64 != left {
        return Err(format!("it ends at {}, not {left}", bench.log.end().lsn));
    }
    full.set_capacity(None);
    bench.log.ask_again();
    bench.drive();
    if fill(bench, standby) != Ok(true) {
        return Err("it did not go on".into());
    }
    bench.log.close();
    check(&full.after_crash(3), config, &promise(bench))
}

fn reserve(disk: &SimDisk) -> Arc<Reserve> {
    Arc::new(Reserve::open(Arc::new(disk.clone()), Path::new(DIR)))
}

/// On a disk without a byte left, control state is stored in the reserve's room: votes go on.
pub fn control() -> Search {
    let mut search = Search::default();
    for payload_bytes in [1, 100, 5000, 65_536] {
        let full = disk();
        let kept = reserve(&full);
        assert!(kept.is_held(), "there is room for it");
        full.set_capacity(Some(full.used_bytes()));
        let load = |disk: &SimDisk, kept: &Arc<Reserve>| {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let (file, loaded) =
                ControlFile::load_within(Some(Arc::clone(kept)), shared, Path::new(DIR))
                    .map_err(|error| error.to_string())?;
            Ok::<_, String>((file, loaded))
        };
        let found = (|| {
            let (mut file, _) = load(&full, &kept)?;
            for version in 1..=9_u8 {
                let payload = vec![version; payload_bytes];
                file.store(&payload).map_err(|error| error.to_string())?;
                let (_, loaded) = load(&full.after_crash(u64::from(version)), &kept)?;
                if loaded != Loaded::Found(payload) {
                    return Err(format!("version {version} is not found"));
                }
            }
            Ok(())
        })();
        if !search.look(|| format!("{payload_bytes} bytes"), found) {
            return search;
        }
    }
    search
}

/// Where not even the reserve does, what was stored stays, and storing goes on when there is room.
pub fn control_without_room() -> Search {
    let mut search = Search::default();
    for capacity_left in (0..=400).step_by(10) {
        let full = disk();
        let shared: Arc<dyn Disk> = Arc::new(full.clone());
        let found = (|| {
            let load = |disk: Arc<dyn Disk>| {
                ControlFile::load(disk, Path::new(DIR)).map_err(|error| error.to_string())
            };
            let (mut file, _) = load(Arc::clone(&shared))?;
            file.store(b"old").map_err(|error| error.to_string())?;
            full.set_capacity(Some(full.used_bytes() + capacity_left));
            let new = vec![1; 300];
            match file.store(&new) {
                Ok(()) => return Ok(()),
                Err(ControlError::NoRoom { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            // A start that has to mend a copy needs room for it, too.
            let image = full.after_crash(capacity_left);
            image.set_capacity(None);
            let (_, loaded) = load(Arc::new(image))?;
            if loaded != Loaded::Found(b"old".to_vec()) && loaded != Loaded::Found(new.clone()) {
                return Err(format!("{loaded:?}"));
            }
            full.set_capacity(None);
            file.store(&new).map_err(|error| error.to_string())?;
            let (_, loaded) = load(Arc::new(full.after_crash(capacity_left)))?;
            match loaded == Loaded::Found(new) {
                true => Ok(()),
                false => Err(format!("then {loaded:?}")),
            }
        })();
        if !search.look(|| format!("{capacity_left} bytes left"), found) {
            return search;
        }
    }
    search
}

/// On a full disk, what a rejoin gives up is saved in the reserve's room; where that does not do,
/// nothing is left of the file, and nothing was taken back.
pub fn discarded() -> Search {
    let mut search = Search::default();
    let config = LogConfig {
        segment_bytes: 8 << 20,
        ..config()
    };
    for records in [1_u64, 30, 60] {
        let full = disk();
        let kept = reserve(&full);
        let bench = open(&full, config).expect("a disk without faults");
        bench.log.keep_reserve(Arc::clone(&kept));
        for lsn in 1..=records {
            let big = vec![7; 100_000];
            let appended = bench.log.append(Epoch(1), Millis(lsn), Kind::Effects, &big);
            appended.expect("there is room");
            bench.drive();
        }
        full.set_capacity(Some(full.used_bytes()));
        let fits = records * 100_100 < RESERVE_BYTES;
        let found = match bench.log.save_discarded(Lsn(0)) {
            Ok(Some(saved)) if fits && saved.records == records => Ok(()),
            Err(EditError::Io(error)) if !fits && is_full(&error) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let left = full
            .list(&Path::new(DIR).join("discarded"))
            .expect("it is read");
        assert_eq!(left.len(), usize::from(fits), "{left:?}");
        let whole = bench.log.end().lsn == Lsn(records) && bench.log.failure().is_none();
        assert!(whole, "the log is as it was");
        if !search.look(|| format!("{records} records"), found) {
            return search;
        }
    }
    search
}
