//! Crash at every write, sync, rename and truncate boundary of the log, the control file and a
//! snapshot, with lost and torn unsynced data.

mod wal;

use std::path::Path;
use std::sync::Arc;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ChainPoint, ControlFile, Disk, Kind, Loaded, LogConfig, SnapshotStore};
use wal::{DIR, Story, check, config, contents, crash_everywhere, disk, first_history, open};

fn holds(name: &str, story: Story, config: LogConfig) {
    let search = crash_everywhere(story, config, 8);
    println!("{name}: {} images", search.images);
    assert_eq!(search.broken, None, "{name}");
}

/// Segments for a few records each, and one for all.
fn configs() -> [LogConfig; 2] {
    let large = LogConfig {
        segment_bytes: 8 << 10,
        ..config()
    };
    [config(), large]
}

#[test]
fn the_log_keeps_every_synced_record_whatever_the_crash() {
    for config in configs() {
        holds("primary", wal::primary, config);
    }
}

#[test]
fn truncation_leaves_one_history_whatever_the_crash() {
    for config in configs() {
        holds("truncation", wal::turncoat, config);
    }
}

/// The failure that taught the mark (R31): records of a catch-up state what their primary had
/// synced; torn by a power cut, they made a standby refuse to start over nothing lost.
#[test]
fn a_standby_that_dies_while_it_catches_up_starts_again() {
    for config in configs() {
        holds("catch-up", wal::standby, config);
        holds("catch-up after truncation", wal::rejoiner, config);
    }
}

/// A primary, and a standby that keeps up, pay nothing for the mark.
#[test]
fn a_segment_is_marked_only_where_its_records_say_more_than_is_true() {
    let marked = |story: Story| {
        let [_, large] = configs();
        let whole = disk();
        story(&whole, large);
        let [file] = &whole.durable_files()[..] else {
            panic!("one segment holds it all");
        };
        let bytes = whole.durable_bytes(&file.path).unwrap();
        u64::from_le_bytes(bytes[80..88].try_into().unwrap())
    };
    assert_eq!(marked(wal::primary), 0);
    assert_eq!(marked(wal::follower), 0);
    assert_eq!(marked(wal::standby), 45, "all but the last group");
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
    let whole = wal::disk();
    assert_eq!(run(&whole), 4);
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..20 {
            let disk = wal::disk();
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
        let disk = wal::disk();
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
    let whole = wal::disk();
    assert!(run(&whole));
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..10 {
            let disk = wal::disk();
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
    for config in configs() {
        let whole = disk();
        wal::primary(&whole, config);
        for operation in 1..=whole.operations() {
            let failing = disk();
            failing.fail_at(operation);
            let promise = wal::primary(&failing, config);
            for seed in 0..4 {
                let image = failing.after_crash(operation * 10 + seed);
                check(&image, config, promise)
                    .unwrap_or_else(|what| panic!("operation {operation}, seed {seed}: {what}"));
            }
        }
        let failing = disk();
        let bench = open(&failing, config).unwrap();
        failing.fail_at(failing.operations() + 3);
        for lsn in 1..=9 {
            let _ = bench
                .log
                .append(Epoch(1), Millis(1), Kind::Effects, &first_history(lsn));
            bench.drive();
        }
        let why = bench.log.failure().unwrap();
        assert!(why.contains("nothing is acknowledged any more"), "{why}");
        let refused = bench
            .log
            .append(Epoch(1), Millis(0), Kind::Effects, b"late")
            .unwrap_err();
        assert!(refused.to_string().contains("closed"), "{refused}");
    }
}

/// Refused, or nothing is missing but records of the last group, which no later one states as
/// synced; never another value. (Where one record alone follows, it cannot be told from noise once
/// the header before it is gone: the standby's last two are groups of one.)
#[test]
fn every_flipped_bit_of_a_synced_log_is_found_out() {
    let [small, large] = configs();
    let lives: [(Story, LogConfig, usize, usize); 3] = [
        (wal::primary, small, 18, 1),
        (wal::primary, large, 18, 7),
        (wal::standby, large, 44, 5),
    ];
    let mut flips = 0;
    for (story, config, known, step) in lives {
        let whole = disk();
        story(&whole, config);
        for file in whole.durable_files() {
            for bit in (0..file.used * 8).step_by(step) {
                flips += 1;
                let image = whole.after_crash(0);
                assert!(image.rot(&file.path, bit));
                let Ok(bench) = open(&image, config) else {
                    continue;
                };
                let found = contents(&bench.log).unwrap();
                let place = format!("{} bit {bit}", file.path.display());
                assert!(found.len() >= known, "{place}: {} records", found.len());
                for (before, record) in found.iter().enumerate() {
                    assert_eq!(*record, first_history(before as u64 + 1), "{place}");
                }
            }
        }
    }
    println!("{flips} flipped bits");
}
