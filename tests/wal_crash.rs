//! Crash at every write, sync, rename and truncate boundary of the log, the control file and a
//! snapshot, with lost and torn unsynced data.

mod wal;

use std::path::Path;
use std::sync::Arc;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ChainPoint, ControlFile, Disk, Kind, Loaded, SnapshotStore};
use wal::search::{Search, configs, rot};
use wal::{DIR, Story, config, control, disk, first_history, open, search};

fn holds(name: &str, search: &Search) {
    println!("{name}: {} disks", search.disks);
    assert_eq!(search.broken, None, "{name}");
}

fn holds_everywhere(name: &str, story: Story) {
    for config in configs(config()) {
        holds(name, &search::crashes(story, config));
        holds(name, &search::kills(story, config));
        holds(name, &search::errors(story, config));
        holds(name, &search::lost_segments(story, config));
    }
}

#[test]
fn the_log_keeps_every_synced_record_whatever_happens() {
    holds_everywhere("primary", wal::primary);
}

#[test]
fn truncation_leaves_one_history_whatever_happens() {
    holds_everywhere("truncation", wal::turncoat);
}

/// The failure that taught the mark (R31): records of a catch-up state what their primary had
/// synced; torn by a power cut, they made a standby refuse to start over nothing lost.
#[test]
fn a_standby_that_dies_while_it_catches_up_starts_again() {
    holds_everywhere("keeping up", wal::follower);
    holds_everywhere("catch-up", wal::standby);
    holds_everywhere("catch-up after truncation", wal::rejoiner);
}

/// A primary, and a standby that keeps up, pay nothing for the mark.
#[test]
fn a_segment_is_marked_only_where_its_records_say_more_than_is_true() {
    let marked = |story: Story| {
        let [_, large, _] = configs(config());
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
    holds("control file, dead", &control::crashes(&control::load));
    holds("control file, rot", &control::rot(&control::load));
    let lives = control::second_lives(&control::load);
    holds("control file, second lives", &lives);
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
    // A process that dies leaves one, the next finds it and shortens its log for it: it must stay.
    for boundary in 1..=boundaries {
        let dying = wal::disk();
        dying.crash_at(boundary);
        run(&dying);
        let after = dying.kill();
        let count = |disk: &SimDisk| {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let store = SnapshotStore::open(shared, Path::new(DIR)).unwrap();
            store.list().unwrap().len()
        };
        let found = count(&after);
        for seed in 0..10 {
            let left = count(&after.after_crash(seed));
            assert_eq!(left, found, "boundary {boundary} seed {seed}");
        }
    }
    println!("snapshot: {boundaries} boundaries, 10 images each");
}

#[test]
fn the_first_failed_operation_closes_the_log_for_good() {
    let failing = disk();
    let bench = open(&failing, config()).unwrap();
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

#[test]
fn every_flipped_bit_of_a_synced_log_is_found_out() {
    let [small, large, _] = configs(config());
    // Where one record alone follows the bad one, it cannot be told from noise once the header
    // before it is gone: the standby's last two are groups of one.
    holds("primary, small segments", &rot(wal::primary, small, 18, 3));
    holds("primary, one segment", &rot(wal::primary, large, 18, 7));
    holds("catch-up, marked", &rot(wal::standby, large, 44, 5));
}
