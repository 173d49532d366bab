use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::wal::disk::{Disk, DiskFile};

const FILE: &str = "/d/file";

fn path() -> &'static Path {
    Path::new(FILE)
}

/// A disk with one durable file of these bytes.
fn disk_with(bytes: &[u8]) -> (SimDisk, Box<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.open(path(), true).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    crate::wal::read_all(disk, path()).unwrap()
}

#[test]
fn a_power_cut_keeps_any_sectors_as_they_stood_at_some_time() {
    let (disk, file) = disk_with(&[0; 1536]);
    file.write_at(&[1; 1024], 0).unwrap();
    file.write_at(&[2; 1024], 512).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let found = content(&disk.after_crash(seed));
        assert_eq!(found.len(), 1536);
        let sectors: Vec<u8> = found
            .chunks(512)
            .map(|sector| {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a torn sector"
                );
                sector[0]
            })
            .collect();
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 2 * 3 * 2, "every combination: {seen:?}");
    assert_eq!(content(&disk.kill())[..1024], [[1; 512], [2; 512]].concat());
}

#[test]
fn a_later_write_to_a_sector_never_arrives_without_an_earlier_one() {
    let (disk, file) = disk_with(&[0; 512]);
    file.write_at(b"first", 0).unwrap();
    file.write_at(b"second", 100).unwrap();
    for seed in 0..200 {
        let found = content(&disk.after_crash(seed));
        let second = &found[100..106] == b"second";
        assert!(!second || &found[..5] == b"first", "seed {seed}");
    }
}

#[test]
fn a_growing_file_keeps_any_length_it_had() {
    let (disk, file) = disk_with(b"");
    for n in 1..=4_u64 {
        file.write_at(&[n as u8; 512], (n - 1) * 512).unwrap();
    }
    let lengths: BTreeSet<usize> = (0..200)
        .map(|seed| content(&disk.after_crash(seed)).len())
        .collect();
    assert_eq!(lengths, (0..=4).map(|n| n * 512).collect());
}

#[test]
fn a_failed_sync_leaves_the_cache_lying() {
    for seed in 0..100 {
        let (disk, file) = disk_with(&[0; 8192]);
        disk.set_seed(seed);
        file.write_at(&[1; 8192], 0).unwrap();
        disk.fail_nth(Operation::Sync, 1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&disk), [1; 8192], "the cache has it");
        let left = disk.durable_bytes(path()).unwrap();
        assert_eq!(
            content(&disk.after_crash(seed)),
            left,
            "nothing is pending, and the second sync brought nothing"
        );
        // Written again, a page goes to the platter as the cache has it.
        file.write_at(&[2], 0).unwrap();
        file.sync_data().unwrap();
        let page = &disk.durable_bytes(path()).unwrap()[..PAGE];
        assert_eq!((page[0], &page[1..]), (2, &[1; PAGE - 1][..]));
    }
    let lost = |seed| {
        let (disk, file) = disk_with(&[0; 8192]);
        disk.set_seed(seed);
        file.write_at(&[1; 8192], 0).unwrap();
        disk.fail_nth(Operation::Sync, 1);
        assert!(file.sync_data().is_err());
        disk.durable_bytes(path()).unwrap() != [1; 8192]
    };
    assert!((0..10).any(lost), "a failed sync must lose something");
}

#[test]
fn a_killed_process_loses_nothing_and_its_handles_are_dead() {
    let (disk, file) = disk_with(b"old");
    file.write_at(b"new", 0).unwrap();
    let lock = disk.lock(Path::new("/d/LOCK")).unwrap();
    let unnamed = disk.open(Path::new("/d/other"), true).unwrap();
    let operations = disk.operations();
    let after = disk.kill();
    assert!(disk.is_off() && !after.is_off());
    assert_eq!(after.operations(), operations);
    assert_eq!(content(&after), b"new");
    assert_eq!(after.list(Path::new("/d")).unwrap(), ["file", "other"]);
    assert!(file.write_at(b"x", 0).is_err() && file.sync_data().is_err());
    assert!(file.read_at(&mut [0], 0).is_err() && file.len().is_err());
    assert!(unnamed.write_at(b"x", 0).is_err());
    drop(lock);
    let held = after.lock(Path::new("/d/LOCK")).unwrap();
    assert!(after.lock(Path::new("/d/LOCK")).is_err());
    drop(held);
    // Still not synced: a power cut may take it.
    assert!((0..50).any(|seed| content(&after.after_crash(seed)) == b"old"));
    let image = after.crash(1);
    assert!(after.is_off() && !image.is_off());
    assert_eq!(image.operations(), 0);
}

#[test]
fn from_the_chosen_operation_on_nothing_works() {
    let (disk, file) = disk_with(b"old");
    disk.crash_at(disk.operations() + 2);
    file.write_at(b"a", 0).unwrap();
    assert!(file.write_at(b"b", 0).is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(disk.list(Path::new("/d")).is_err());
    assert!(disk.open(path(), false).is_err());
}

#[test]
fn each_kind_of_operation_fails_on_command_once() {
    let (disk, file) = disk_with(b"old");
    let other = Path::new("/d/other");
    type Try<'a> = (Operation, Box<dyn Fn() -> bool + 'a>);
    let tries: [Try<'_>; 5] = [
        (
            Operation::Read,
            Box::new(|| file.read_at(&mut [0], 0).is_ok()),
        ),
        (
            Operation::Write,
            Box::new(|| file.write_at(b"x", 0).is_ok()),
        ),
        (Operation::Sync, Box::new(|| file.sync_data().is_ok())),
        (
            Operation::Name,
            Box::new(|| {
                let made = disk.open(other, true).is_ok();
                let _ = disk.remove(other);
                made
            }),
        ),
        (
            Operation::SyncDir,
            Box::new(|| disk.sync_dir(Path::new("/d")).is_ok()),
        ),
    ];
    for (kind, works) in &tries {
        disk.fail_nth(*kind, 1);
        for (other, works) in &tries {
            assert_eq!(works(), kind != other, "{kind:?} due, {other:?} tried");
        }
        assert!(works(), "{kind:?} fails once");
    }
}

#[test]
fn a_full_disk_refuses_growth_until_something_is_removed() {
    let (disk, file) = disk_with(&[1; 100]);
    disk.set_capacity(Some(300));
    file.write_at(&[2; 100], 0).unwrap();
    file.allocate(300).unwrap();
    let other = disk.open(Path::new("/d/other"), true).unwrap();
    let error = other.write_at(b"x", 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOSPC));
    assert_eq!(disk.used_bytes(), 300);
    disk.remove(path()).unwrap();
    other.write_at(b"x", 0).unwrap();
    disk.rename(Path::new("/d/other"), path()).unwrap();
    assert_eq!(disk.used_bytes(), 1);
    disk.sync_dir(Path::new("/d")).unwrap();
    let image = disk.after_crash(0);
    assert_eq!(image.used_bytes(), image.durable_files()[0].len);
}

#[test]
fn rot_is_seen_where_the_platter_is_read() {
    let (disk, file) = disk_with(&[0; 8192]);
    let found = DurableFile {
        path: path().to_path_buf(),
        len: 8192,
        used: 0,
    };
    assert_eq!(disk.durable_files(), [found]);
    file.write_at(&[1; 10], 0).unwrap();
    assert!(disk.rot(path(), 4096 * 8 + 3) && disk.rot(path(), 8));
    assert!(!disk.rot(path(), 8192 * 8) && !disk.rot(Path::new("/d/none"), 0));
    let seen = content(&disk);
    assert_eq!((seen[1], seen[4096]), (1, 8), "a waiting page hides it");
    assert_eq!(disk.durable_bytes(path()).unwrap()[1], 1 << 0);
    assert_eq!(disk.durable_files()[0].used, 4097);
    file.sync_data().unwrap();
    assert_eq!(disk.durable_bytes(path()).unwrap()[..10], [1; 10]);
}

#[test]
fn room_costs_nothing_and_a_sync_only_what_changed() {
    let (disk, file) = disk_with(b"x");
    file.allocate(64 << 20).unwrap();
    file.sync_data().unwrap();
    for n in 0..5000_u64 {
        file.write_at(&[7; 60], n * 60).unwrap();
        file.sync_data().unwrap();
    }
    let inner = disk.inner();
    let inode = inner.inodes.values().next().unwrap();
    let pages = 5000 * 60_usize;
    assert_eq!(inode.now().page_count(), pages.div_ceil(PAGE));
    assert_eq!(inode.durable().page_count(), pages.div_ceil(PAGE));
    assert_eq!(inode.pending_count(), 0);
}

#[test]
fn replaced_files_are_forgotten() {
    let disk = SimDisk::new();
    for n in 0..500_u32 {
        crate::wal::replace(&disk, path(), &n.to_le_bytes()).unwrap();
    }
    assert!(disk.inner().inodes.len() < 40);
    assert_eq!(content(&disk.after_crash(3)), 499_u32.to_le_bytes());
}

#[derive(Clone, Debug)]
enum Deed {
    Write(u64, Vec<u8>),
    Len(u64),
    Sync,
    Kill,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..3000);
    let deed = prop_oneof![
        4 => (0..9000_u64, bytes).prop_map(|(at, bytes)| Deed::Write(at, bytes)),
        1 => (0..12_000_u64).prop_map(Deed::Len),
        1 => Just(Deed::Sync),
        1 => Just(Deed::Kill),
    ];
    proptest::collection::vec(deed, 1..30)
}

proptest! {
    /// Against a plain vector: what is read is what was written, what is synced survives, and each
    /// sector of a crash image stood there at some time since, cut where a length that survived
    /// cut it.
    #[test]
    fn it_is_a_file(deeds in deeds(), seed: u64) {
        let (mut disk, mut file) = disk_with(b"");
        let mut model: Vec<u8> = Vec::new();
        let mut stood = vec![model.clone()];
        for deed in deeds {
            match deed {
                Deed::Write(at, bytes) => {
                    file.write_at(&bytes, at).unwrap();
                    let end = at as usize + bytes.len();
                    if !bytes.is_empty() && model.len() < end {
                        model.resize(end, 0);
                    }
                    if !bytes.is_empty() {
                        model[at as usize..end].copy_from_slice(&bytes);
                    }
                }
                Deed::Len(len) => {
                    file.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                }
                Deed::Sync => {
                    file.sync_data().unwrap();
                    prop_assert_eq!(&disk.durable_bytes(path()).unwrap(), &model);
                    stood.clear();
                }
                Deed::Kill => {
                    disk = disk.kill();
                    file = disk.open(path(), false).unwrap();
                }
            }
            prop_assert_eq!(&content(&disk), &model);
            stood.push(model.clone());
        }
        let found = content(&disk.crash(seed));
        prop_assert!(stood.iter().any(|then| then.len() == found.len()));
        for (place, sector) in found.chunks(512).enumerate() {
            let written = sector.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let as_then = |then: &Vec<u8>| {
                let mut then = then.clone();
                then.resize(then.len().max(found.len()), 0);
                then[place * 512..][..written] == sector[..written]
            };
            prop_assert!(stood.iter().any(as_then), "sector {}", place);
        }
    }
}
