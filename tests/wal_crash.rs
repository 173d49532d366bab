//! Crash at every write, sync, rename and truncate boundary of the log, the control file, a
//! snapshot and a copy of one, with lost and torn unsynced data.

#[path = "wal/mend.rs"]
mod mend;
#[path = "wal/full.rs"]
mod full;
#[path = "wal/retention.rs"]
mod retention;
#[path = "wal/snapshot.rs"]
mod snapshot;
mod wal;

use std::path::Path;
use std::sync::Arc;

use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{
    ChainPoint, ControlFile, Disk, Kind, Loaded, SnapshotKey, discarded_files, summarize,
};
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

/// Where room is refused, nothing was written, and nothing is lost: not by a crash then, not by a
/// start on the full disk, not by going on when there is room.
#[test]
fn a_full_disk_closes_nothing_wherever_it_is_met() {
    for config in configs(config()) {
        holds("full", &full::goes_on(config, full::primary));
        holds("full, catch-up", &full::goes_on(config, full::standby));
        holds("full, truncated", &full::truncated(config));
    }
    holds("full, control file", &full::control());
    let search = full::control_without_room();
    holds("full, control file without reserve", &search);
    holds("full, discarded", &full::discarded());
}

/// (One was listed as damaged while it was written: it had its name before its bytes.)
#[test]
fn what_is_listed_as_discarded_is_whole_whatever_happens() {
    let saves = |disk: &SimDisk| {
        // A dead disk takes nothing any more.
        let Ok(bench) = open(disk, config()) else {
            return (false, false);
        };
        for lsn in 1..=9 {
            let _ = bench
                .log
                .append(Epoch(1), Millis(lsn), Kind::Effects, &[7; 100]);
            bench.drive();
        }
        let first = bench.log.save_discarded(Lsn(4));
        let again = bench.log.save_discarded(Lsn(2));
        (matches!(first, Ok(Some(_))), matches!(again, Ok(Some(_))))
    };
    let check = |image: &SimDisk, (first, again): &(bool, bool)| {
        let listed = discarded_files(image, Path::new(DIR)).map_err(|error| error.to_string())?;
        let whole = listed.into_iter().map(|(name, path)| {
            let summary = summarize(image, &path, name).map_err(|error| error.to_string())?;
            summary.problem.map_or(Ok(summary.records), Err)
        });
        let records: Vec<u64> = whole.collect::<Result<_, String>>()?;
        match (first, again) {
            (true, true) if records != [7, 5] => Err(format!("two were saved: {records:?}")),
            (true, false) if !records.contains(&5) => Err(format!("one was: {records:?}")),
            _ => Ok(()),
        }
    };
    holds("discarded", &search::crashes_of(saves, check));
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
    let run = |disk: &SimDisk| snapshot::make(disk, 10);
    let whole = wal::disk();
    assert!(run(&whole));
    let boundaries = whole.operations() + 1;
    for boundary in 1..=boundaries {
        for seed in 0..10 {
            let disk = wal::disk();
            disk.crash_at(boundary);
            let finished = run(&disk);
            let store = snapshot::store(&disk.after_crash(seed * 31 + boundary));
            let found = store.list().unwrap();
            assert!(!finished || found.len() == 1, "a finished snapshot is gone");
            for (begin, end, path) in found {
                assert_eq!((begin, end), (Lsn(10), Lsn(12)));
                assert_eq!(snapshot::read(&store, &path), Ok(snapshot::blocks()));
            }
        }
    }
    // A process that dies leaves one, the next finds it and shortens its log for it: it must stay.
    for boundary in 1..=boundaries {
        let dying = wal::disk();
        dying.crash_at(boundary);
        run(&dying);
        let after = dying.kill();
        let count = |disk: &SimDisk| snapshot::store(disk).list().unwrap().len();
        let found = count(&after);
        for seed in 0..10 {
            let left = count(&after.after_crash(seed));
            assert_eq!(left, found, "boundary {boundary} seed {seed}");
        }
    }
    println!("snapshot: {boundaries} boundaries, 10 images each");
}

/// R24: what a node had counts until the copy does, and a copy that broke off goes on.
#[test]
fn a_copy_takes_the_place_of_everything_at_once_and_goes_on_where_it_broke_off() {
    let (bytes, key) = snapshot::source(30);
    let whole = snapshot::before_copy();
    let first = whole.operations();
    snapshot::copy(&whole, &bytes, key, 1).unwrap();
    let boundaries = whole.operations() - first + 1;
    let (mut before, mut after) = (0, 0);
    for boundary in first + 1..=first + boundaries {
        for seed in 0..10 {
            let disk = snapshot::before_copy();
            disk.crash_at(boundary);
            let settled = snapshot::copy(&disk, &bytes, key, 1).is_ok();
            for image in [disk.after_crash(seed * 31 + boundary), disk.kill()] {
                let there = snapshot::is_before_or_after(&image, key)
                    .unwrap_or_else(|wrong| panic!("boundary {boundary} seed {seed}: {wrong}"));
                assert!(
                    there || !settled,
                    "boundary {boundary}: a settled copy is gone"
                );
                if there {
                    after += 1;
                    continue;
                }
                before += 1;
                snapshot::copy(&image, &bytes, key, 3).unwrap();
                assert_eq!(snapshot::is_before_or_after(&image, key), Ok(true));
            }
        }
    }
    assert!(before > 0 && after > 0);
    println!("copy: {boundaries} boundaries, 20 images each; {before} as before, {after} replaced");
}

#[test]
fn a_part_of_another_copy_or_a_damaged_one_is_not_gone_on_with() {
    let (bytes, key) = snapshot::source(30);
    let (_, other) = snapshot::source(31);
    let disk = wal::disk();
    let store = snapshot::store(&disk);
    let mut receiver = store.receive(key).unwrap();
    receiver.write(&bytes[..300]).unwrap();
    drop(receiver);
    let held = store.receive(key).unwrap().held();
    assert!((200..=300).contains(&held), "{held} bytes are whole blocks");
    // A bad bit in the middle: what is before it is gone on with.
    let dir = Path::new(DIR).join("snapshot");
    let part = dir.join(disk.list(&dir).unwrap().pop().unwrap());
    disk.open(&part, false).unwrap().sync_data().unwrap();
    disk.sync_dir(&dir).unwrap();
    assert!(disk.rot(&part, 150 * 8));
    let less = store.receive(key).unwrap().held();
    assert!(less < 150, "{less} of {held} bytes are intact");
    let mut receiver = store.receive(key).unwrap();
    receiver.write(&bytes[less as usize..]).unwrap();
    assert!(receiver.write(b"x").is_err(), "longer than offered");
    // Another snapshot: from the start. The part of the one before goes.
    assert_eq!(store.receive(other).unwrap().held(), 0);
    assert_eq!(disk.list(&dir).unwrap().len(), 1);
    // Not what was offered: nothing is kept of it.
    let mut receiver = store.receive(SnapshotKey { id: 1, ..key }).unwrap();
    receiver.write(&bytes).unwrap();
    let refused = receiver.verify().unwrap_err().to_string();
    assert!(
        refused.contains("not the snapshot that was offered"),
        "{refused}"
    );
    assert_eq!(disk.list(&dir).unwrap().len(), 0);
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_found_out() {
    let (bits, unnoticed) = snapshot::rot();
    println!("snapshot, rot: {bits} bits");
    assert_eq!(unnoticed, None, "a flipped bit passed");
}

/// Whatever stands in a file, even under right checksums: an error, never a panic, and never more
/// memory than the file bears out.
#[test]
fn hostile_snapshots_are_refused() {
    assert_eq!(
        snapshot::read_bytes(&snapshot::forged(3, 1, b"abc")),
        Ok(vec![b"abc".to_vec()]),
        "the forger knows the format"
    );
    // A block of the largest length in a few bytes; a length that packing never reaches.
    for raw in [
        understudy::wal::MAX_BLOCK_BYTES as u32,
        256 * 40,
        u32::MAX,
        0,
        2,
    ] {
        let refused = snapshot::read_bytes(&snapshot::forged(raw, 1, &[0xff; 40])).unwrap_err();
        assert!(refused.contains("states"), "{raw}: {refused}");
    }
    // Good LZ4 under a wrong length.
    let packed = lz4_flex::block::compress(&[7; 1000]);
    for raw in [999, 1001, 2000] {
        let refused = snapshot::read_bytes(&snapshot::forged(raw, 1, &packed)).unwrap_err();
        assert!(refused.contains("block 0"), "{raw}: {refused}");
    }
    let (whole, _) = snapshot::source(10);
    let mut seed = 1_u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let (mut forged, mut refused) = (0, 0);
    for _ in 0..3000 {
        // LZ4 that nobody packed: most of it is none, and none of it is more than it states.
        let body: Vec<u8> = (0..draw(60) + 1).map(|_| draw(256) as u8).collect();
        let raw = body.len() + 1 + draw(300);
        let file = snapshot::forged(raw as u32, 1, &body);
        match snapshot::read_bytes(&file) {
            Ok(blocks) => assert_eq!(blocks[0].len(), raw),
            Err(_) => forged += 1,
        }
        let mut file = whole.clone();
        file.truncate(draw(whole.len()));
        file.extend((0..draw(100)).map(|_| 0xff));
        refused += usize::from(snapshot::read_bytes(&file).is_err());
    }
    println!("hostile snapshots: {forged} forged and {refused} cut files refused");
    assert!(forged > 2900, "{forged} of 3000");
    assert_eq!(refused, 3000);
}

/// `docs/formats.md`, by hand: a header, a block that is packed, one that is not, a footer.
#[test]
fn a_snapshot_s_bytes_are_pinned() {
    let disk = wal::disk();
    let store = snapshot::store(&disk);
    let begin = ChainPoint {
        lsn: Lsn(10),
        epoch: Epoch(3),
        crc: 0x0102_0304,
        time: Millis(5),
        offset: 6,
    };
    let mut writer = store.create(7, begin).unwrap();
    writer.block(&[0xaa; 40], 2).unwrap();
    writer.block(b"abc", 1).unwrap();
    let path = writer.finish(Lsn(12)).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "00000000000000000010-00000000000000000012.snap");
    let bytes = understudy::wal::read_all(&disk, &path).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = GOLDEN_SNAPSHOT.replace([' ', '\n'], "");
    assert_eq!(hex, golden);
    let info = store.describe(&path).unwrap();
    assert_eq!((info.cluster, info.begin, info.end), (7, begin, Lsn(12)));
    assert_eq!((info.blocks, info.keys, info.raw_bytes), (2, 3, 43));
}

const GOLDEN_SNAPSHOT: &str = "\
    55535459 534e5000 02000000 04030201 07000000 00000000 00000000 00000000 0a000000
    00000000 03000000 00000000 05000000 00000000 06000000 00000000 12a4270a
    28000000 0c000000 02000000 e8b7e352 1faa0100 0e60aaaa aaaaaaaa
    03000000 03000000 01000000 a6b3157e 616263
    ffffffff 02000000 0c000000 00000000 73000000 00000000 03000000 00000000 2b000000
    00000000 a6b3157e 166209cb";

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
    // The last synced group looks torn: three records of a primary, one of the standby.
    holds("primary, small segments", &rot(wal::primary, small, 18, 3));
    holds("primary, one segment", &rot(wal::primary, large, 18, 7));
    holds("catch-up, marked", &rot(wal::standby, large, 45, 5));
}
