//! Crash at every write, sync, rename and truncate boundary of the log, the control file and a
//! snapshot, with lost and torn unsynced data.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{
    ChainPoint, ControlFile, Disk, Fsync, Kind, Loaded, Log, LogConfig, SnapshotStore, records,
};

const DIR: &str = "/data";

/// What the writer reported: the last synced LSN, and whether the log failed.
#[derive(Default)]
struct Seen {
    state: Mutex<(Lsn, bool)>,
    changed: Condvar,
}

impl Seen {
    fn synced(&self) -> Lsn {
        self.state.lock().unwrap().0
    }

    fn wait_for(&self, lsn: u64) {
        let guard = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(guard, |(synced, failed)| synced.0 < lsn && !*failed)
                .unwrap(),
        );
    }
}

fn open(disk: &SimDisk, synced: &Arc<Seen>) -> Result<Log, understudy::wal::OpenError> {
    let config = LogConfig {
        segment_bytes: 400,
        fsync: Fsync::Always,
        tail_bytes: 300,
    };
    let seen = Arc::clone(synced);
    let on_progress = Arc::new(move |progress: &understudy::wal::Progress| {
        let mut state = seen.state.lock().unwrap();
        state.0 = progress.synced.max(state.0);
        state.1 |= progress.failed.is_some();
        seen.changed.notify_all();
    });
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = Log::open(
        disk,
        Path::new(DIR),
        config,
        7,
        ChainPoint::default(),
        on_progress,
    )?;
    Ok(opened.log)
}

fn payload(lsn: u64) -> Vec<u8> {
    format!("record {lsn} {}", "x".repeat((lsn as usize * 13) % 90)).into_bytes()
}

fn contents(log: &Log) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    while let Some(chunk) = reader.next_chunk(Lsn(u64::MAX), 200).unwrap() {
        found.extend(records(&chunk.bytes).map(|record| record.payload.to_vec()));
    }
    found
}

/// Appends until the disk dies or all is written; what was reported synced, and the record that a
/// truncation took back up to.
fn work(disk: &SimDisk, truncate: bool) -> (Lsn, Option<Lsn>) {
    let synced = Arc::new(Seen::default());
    let Ok(log) = open(disk, &synced) else {
        return (Lsn::ZERO, None);
    };
    for lsn in 1..=20 {
        if log
            .append(Epoch(1), Millis(lsn), Kind::Effects, &payload(lsn))
            .is_err()
        {
            break;
        }
        // Groups of three, so that there are boundaries between them.
        if lsn % 3 == 0 {
            synced.wait_for(lsn);
        }
    }
    let mut cut = None;
    if truncate {
        // From here on only the first eleven are promised.
        cut = Some(Lsn(11));
        if log.truncate_after(Lsn(11)).is_ok() {
            for lsn in 12..=16 {
                let record = format!("second history {lsn}");
                if log
                    .append(Epoch(2), Millis(99), Kind::Effects, record.as_bytes())
                    .is_err()
                {
                    break;
                }
            }
        }
    }
    log.close();
    let promised = synced.synced();
    (promised, cut)
}

fn crash_everywhere(truncate: bool) -> u64 {
    let whole = SimDisk::with_sectors(16);
    work(&whole, truncate);
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..6 {
            let disk = SimDisk::with_sectors(16);
            disk.crash_at(boundary);
            let (promised, cut) = work(&disk, truncate);
            let image = disk.after_crash(seed * 1000 + boundary);
            let ignored = Arc::new(Seen::default());
            let log = open(&image, &ignored)
                .unwrap_or_else(|error| panic!("boundary {boundary} seed {seed}: {error}"));
            let found = contents(&log);
            let wanted = cut.map_or(promised, |cut| promised.min(cut)).0 as usize;
            assert!(
                found.len() >= wanted,
                "boundary {boundary} seed {seed}: {} records, {wanted} were promised",
                found.len()
            );
            for (place, record) in found.iter().enumerate() {
                let lsn = place as u64 + 1;
                let second = format!("second history {lsn}").into_bytes();
                let known = *record == payload(lsn) || (lsn > 11 && *record == second);
                assert!(
                    known,
                    "boundary {boundary} seed {seed}: LSN {lsn} is something else"
                );
            }
            // One history, not a mixture: once the second begins it goes on.
            let first_new = found
                .iter()
                .position(|record| record.starts_with(b"second"));
            if let Some(place) = first_new {
                assert!(
                    found[place..]
                        .iter()
                        .all(|record| record.starts_with(b"second"))
                );
            }
        }
    }
    boundaries
}

#[test]
fn the_log_keeps_every_synced_record_whatever_the_crash() {
    println!("log: {} boundaries, 6 images each", crash_everywhere(false));
}

#[test]
fn truncation_leaves_one_history_whatever_the_crash() {
    println!(
        "truncation: {} boundaries, 6 images each",
        crash_everywhere(true)
    );
}

#[test]
fn the_control_file_is_the_old_or_the_new() {
    let run = |disk: &SimDisk| -> u32 {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let Ok((mut file, _)) = ControlFile::load(shared, Path::new(DIR)) else {
            return 0;
        };
        let mut stored = 0;
        for version in 1..=4_u32 {
            if file.store(&version.to_le_bytes()).is_err() {
                break;
            }
            stored = version;
        }
        stored
    };
    let whole = SimDisk::with_sectors(16);
    assert_eq!(run(&whole), 4);
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..20 {
            let disk = SimDisk::with_sectors(16);
            disk.crash_at(boundary);
            let stored = run(&disk);
            let image: Arc<dyn Disk> = Arc::new(disk.after_crash(seed * 77 + boundary));
            let (_, loaded) = ControlFile::load(image, Path::new(DIR)).unwrap();
            let found = match loaded {
                Loaded::Found(bytes) => u32::from_le_bytes(bytes.try_into().unwrap()),
                Loaded::Missing => 0,
                Loaded::Damaged => panic!("a replaced file is whole: boundary {boundary}"),
            };
            assert!(
                found == stored || found == stored + 1,
                "stored {stored}, found {found}"
            );
        }
    }
    println!("control file: {boundaries} boundaries, 20 images each");
}

#[test]
fn one_bad_control_copy_is_mended_from_the_other() {
    for (bad, good) in [("control.a", "control.b"), ("control.b", "control.a")] {
        let disk = SimDisk::with_sectors(16);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let (mut file, loaded) = ControlFile::load(Arc::clone(&shared), Path::new(DIR)).unwrap();
        assert_eq!(loaded, Loaded::Missing);
        file.store(b"the promise").unwrap();
        disk.rot(&Path::new(DIR).join(bad), 8 * 30);
        let (_, loaded) = ControlFile::load(Arc::clone(&shared), Path::new(DIR)).unwrap();
        assert_eq!(loaded, Loaded::Found(b"the promise".to_vec()));
        disk.rot(&Path::new(DIR).join(good), 8 * 30);
        let (_, loaded) = ControlFile::load(Arc::clone(&shared), Path::new(DIR)).unwrap();
        assert_eq!(
            loaded,
            Loaded::Found(b"the promise".to_vec()),
            "the bad copy was rewritten"
        );
        for copy in [bad, good] {
            disk.rot(&Path::new(DIR).join(copy), 8 * 30);
        }
        let (_, loaded) = ControlFile::load(shared, Path::new(DIR)).unwrap();
        assert_eq!(loaded, Loaded::Damaged);
    }
}

#[test]
fn a_snapshot_counts_only_when_it_is_whole() {
    let blocks: Vec<Vec<u8>> = (0..5_u8).map(|i| vec![i; 50 + i as usize]).collect();
    let run = |disk: &SimDisk| -> bool {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let Ok(store) = SnapshotStore::open(shared, Path::new(DIR)) else {
            return false;
        };
        let begin = ChainPoint {
            lsn: Lsn(10),
            ..ChainPoint::default()
        };
        let Ok(mut writer) = store.create(7, begin) else {
            return false;
        };
        blocks.iter().all(|block| writer.block(block).is_ok()) && writer.finish(Lsn(12)).is_ok()
    };
    let whole = SimDisk::with_sectors(16);
    assert!(run(&whole));
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..10 {
            let disk = SimDisk::with_sectors(16);
            disk.crash_at(boundary);
            let finished = run(&disk);
            let image: Arc<dyn Disk> = Arc::new(disk.after_crash(seed * 31 + boundary));
            let store = SnapshotStore::open(image, Path::new(DIR)).unwrap();
            let found = store.list().unwrap();
            assert!(!finished || found.len() == 1, "a finished snapshot is gone");
            for (begin, end, path) in found {
                let mut read = Vec::new();
                let info = store
                    .read(&path, |block| {
                        read.push(block.to_vec());
                        Ok(())
                    })
                    .unwrap();
                assert_eq!((begin, end, info.begin.lsn), (Lsn(10), Lsn(12), Lsn(10)));
                assert_eq!(read, blocks);
            }
        }
    }
    println!("snapshot: {boundaries} boundaries, 10 images each");
}

#[test]
fn the_first_failed_operation_closes_the_log_for_good() {
    let whole = SimDisk::with_sectors(16);
    work(&whole, false);
    for operation in 8..whole.operations() {
        let disk = SimDisk::with_sectors(16);
        disk.fail_at(operation);
        let synced = Arc::new(Seen::default());
        let log = open(&disk, &synced).unwrap();
        for lsn in 1..=20 {
            if log
                .append(Epoch(1), Millis(lsn), Kind::Effects, &payload(lsn))
                .is_err()
            {
                break;
            }
        }
        log.close();
        let promised = synced.synced().0;
        if let Some(why) = log.failure() {
            assert!(why.contains("nothing is acknowledged any more"), "{why}");
            let refused = log
                .append(Epoch(1), Millis(0), Kind::Effects, b"late")
                .unwrap_err();
            assert!(refused.to_string().contains("closed"), "{refused}");
        }
        drop(log);
        let again = open(&disk.after_crash(operation), &synced).unwrap();
        assert!(
            contents(&again).len() as u64 >= promised,
            "operation {operation}"
        );
    }
}

#[test]
fn every_flipped_bit_of_a_synced_log_is_found_out() {
    let disk = SimDisk::with_sectors(16);
    work(&disk, false);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut flips = 0;
    for name in shared.list(&Path::new(DIR).join("wal")).unwrap() {
        let path = Path::new(DIR).join("wal").join(&name);
        let used = understudy::wal::read_all(shared.as_ref(), &path).unwrap();
        let used = used.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for bit in 0..used * 8 {
            flips += 1;
            let image = disk.after_crash(0);
            image.rot(&path, bit as u64);
            let ignored = Arc::new(Seen::default());
            // Refused, or only the last group is missing; never another value.
            if let Ok(log) = open(&image, &ignored) {
                for (place, record) in contents(&log).iter().enumerate() {
                    assert_eq!(*record, payload(place as u64 + 1), "{name} bit {bit}");
                }
            }
        }
    }
    println!("{flips} flipped bits");
}
