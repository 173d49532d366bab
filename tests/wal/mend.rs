//! A log with damage, and a peer with the same history: whatever was lost is put back where it stood,
//! or, from a peer with another history, nothing is changed.

use std::path::PathBuf;

use understudy::units::{Epoch, Lsn};
use understudy::wal::sim_disk::SimDisk;
use understudy::wal::{ChainPoint, Disk, Hole, Log, LogConfig, MendError, OpenError, mend};

use crate::wal::search::configs;
use crate::wal::{self, Bench, Story, config, contents, disk, open};

/// All epochs of the stories.
const PROMISED: Epoch = Epoch(1000);

/// What a peer answers.
fn fetch(peer: &Log, hole: &Hole) -> (ChainPoint, Vec<u8>) {
    let mut reader = peer.reader(hole.first.previous()).expect("it has all");
    let (after, mut bytes) = (reader.position(), Vec::new());
    while let Some(chunk) = reader.next_chunk(hole.last, 1 << 20).expect("it is good") {
        bytes.extend_from_slice(&chunk.bytes);
    }
    (after, bytes)
}

fn fill(image: &SimDisk, peer: &Log, hole: &Hole, promised: Epoch) -> Result<u64, MendError> {
    let (after, bytes) = fetch(peer, hole);
    mend(image, 7, promised, hole, after, &bytes)
}

/// Opens, and mends until it opens; how often something was missing.
fn whole(image: &SimDisk, config: LogConfig, peer: &Log) -> Result<(Bench, u32), String> {
    for times in 0..100 {
        let error = match open(image, config) {
            Ok(bench) => return Ok((bench, times)),
            Err(error) => error,
        };
        let hole = error.hole().ok_or_else(|| error.to_string())?;
        fill(image, peer, hole, PROMISED).map_err(|why| format!("{error}: {hole:?}: {why}"))?;
    }
    Err("it never opens".into())
}

fn segments(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let files = disk.durable_files().into_iter();
    let in_wal = files.filter(|file| file.path.parent().is_some_and(|dir| dir.ends_with("wal")));
    in_wal.map(|file| (file.path, file.used)).collect()
}

/// A finished life, and the same log for the peer.
fn lived(story: Story, config: LogConfig) -> (SimDisk, Bench, u64) {
    let lived = disk();
    let promise = story(&lived, config);
    let peer = open(&lived.after_crash(0), config).expect("nothing is wrong with it");
    (lived, peer, promise.synced)
}

struct Tally {
    images: u64,
    mended: u64,
    torn: u64,
    fewest: u64,
}

/// After any damage by `harm` all records are there but perhaps those of the last synced groups,
/// which may look torn: never fewer than `least`.
fn comes_back(
    name: &str,
    (story, config, least): (Story, LogConfig, u64),
    images: impl Fn(&SimDisk) -> Vec<(String, SimDisk)>,
) {
    let (original, peer, synced) = lived(story, config);
    let wanted = contents(&peer.log).expect("it is good");
    assert_eq!(wanted.len() as u64, synced);
    let mut tally = Tally {
        images: 0,
        mended: 0,
        torn: 0,
        fewest: synced,
    };
    for (harm, image) in images(&original) {
        tally.images += 1;
        let (bench, times) = match whole(&image, config, &peer.log) {
            Ok(opened) => opened,
            Err(why) => panic!("{name}, {harm}: {why}"),
        };
        let found = contents(&bench.log).unwrap_or_else(|why| panic!("{name}, {harm}: {why}"));
        assert_eq!(found[..], wanted[..found.len()], "{name}, {harm}");
        assert!(
            found.len() as u64 >= least,
            "{name}, {harm}: {}",
            found.len()
        );
        tally.mended += u64::from(times > 0);
        tally.torn += u64::from(found.len() < wanted.len());
        tally.fewest = tally.fewest.min(found.len() as u64);
    }
    println!(
        "{name}: {} disks, {} mended, {} with the end torn (never below LSN {} of {synced})",
        tally.images, tally.mended, tally.torn, tally.fewest
    );
    assert!(tally.mended > 0, "{name}: nothing was ever missing");
}

fn flips(original: &SimDisk) -> Vec<(String, SimDisk)> {
    let mut images = Vec::new();
    for (path, used) in segments(original) {
        for byte in 0..used {
            let image = original.after_crash(0);
            let bit = byte * 8 + byte % 8;
            assert!(image.rot(&path, bit));
            images.push((format!("bit {bit} of {}", path.display()), image));
        }
    }
    images
}

/// Zeroes at every multiple of a sector. Not the whole of a file, its mark included: the last one
/// would look as if nothing had ever been written to it, as after a crash at its birth.
fn zeroes(original: &SimDisk) -> Vec<(String, SimDisk)> {
    let mut images = Vec::new();
    for (path, used) in segments(original) {
        for begin in (0..used).step_by(16) {
            for len in [16, 64, 200, 1000] {
                let image = original.after_crash(0);
                let file = image.open(&path, false).expect("it is there");
                let len = len.min(used - begin);
                if begin < 96 && begin + len == used {
                    continue;
                }
                file.write_at(&vec![0; len as usize], begin)
                    .expect("it works");
                file.sync_data().expect("it works");
                images.push((
                    format!("{len} zeroes at {begin} of {}", path.display()),
                    image,
                ));
            }
        }
    }
    images
}

/// Files that are gone, or cut short; the last one may look as if it had never been.
fn gone(original: &SimDisk) -> Vec<(String, SimDisk)> {
    let mut images = Vec::new();
    let segments = segments(original);
    for (path, used) in &segments[..segments.len() - 1] {
        let image = original.after_crash(0);
        image.remove(path).expect("it is there");
        image
            .sync_dir(path.parent().expect("it has one"))
            .expect("it works");
        images.push((format!("{} gone", path.display()), image));
        for len in (0..*used).step_by(40) {
            let image = original.after_crash(0);
            let file = image.open(path, false).expect("it is there");
            file.set_len(len).expect("it works");
            file.sync_data().expect("it works");
            images.push((format!("{} cut to {len}", path.display()), image));
        }
    }
    // Two in a row.
    for pair in segments[..segments.len() - 1].windows(2) {
        let image = original.after_crash(0);
        for (path, _) in pair {
            image.remove(path).expect("it is there");
            image
                .sync_dir(path.parent().expect("it has one"))
                .expect("it works");
        }
        images.push((format!("{} and the next gone", pair[0].0.display()), image));
    }
    images
}

#[test]
fn whatever_bit_turns_a_peer_has_the_record() {
    let [small, large, _] = configs(config());
    comes_back("bits, small segments", (wal::primary, small, 18), flips);
    comes_back("bits, one segment", (wal::primary, large, 18), flips);
    comes_back("bits, marked", (wal::standby, large, 44), flips);
}

#[test]
fn whatever_is_zeroed_a_peer_has_the_record() {
    let [small, large, _] = configs(config());
    comes_back("zeroes, small segments", (wal::primary, small, 18), zeroes);
    comes_back("zeroes, marked", (wal::standby, large, 45), zeroes);
}

#[test]
fn whatever_file_is_gone_a_peer_has_its_records() {
    let [small, ..] = configs(config());
    comes_back("files, primary", (wal::primary, small, 20), gone);
    comes_back("files, standby", (wal::standby, small, 46), gone);
}

/// A crash in the middle of mending leaves what was there, or what was mended.
#[test]
fn mending_is_all_or_nothing() {
    let [small, ..] = configs(config());
    let (original, peer, synced) = lived(wal::primary, small);
    let wanted = contents(&peer.log).expect("it is good");
    let mut disks = 0;
    for (path, used) in segments(&original) {
        let rotten = original.after_crash(0);
        assert!(rotten.rot(&path, used / 2 * 8));
        let counted = rotten.after_crash(0);
        let before = counted.operations();
        whole(&counted, small, &peer.log).expect("it is mended");
        let boundaries = counted.operations() - before;
        for boundary in 1..=boundaries + 1 {
            for seed in 0..6 {
                let dying = rotten.after_crash(0);
                dying.crash_at(dying.operations() + boundary);
                let _ = whole(&dying, small, &peer.log);
                let after = dying.after_crash(seed * 31 + boundary);
                let (bench, _) = whole(&after, small, &peer.log)
                    .unwrap_or_else(|why| panic!("{} boundary {boundary}: {why}", path.display()));
                let found = contents(&bench.log).expect("it is good");
                assert_eq!(found[..], wanted[..found.len()]);
                assert!(found.len() as u64 >= synced - 2);
                disks += 1;
            }
        }
        println!("{}: {boundaries} boundaries, 6 images each", path.display());
    }
    assert!(disks > 0);
}

/// A peer that went on in another way behind LSN 11.
#[test]
fn a_peer_with_another_history_changes_nothing() {
    let [small, large, _] = configs(config());
    for config in [small, large] {
        let (original, _, _) = lived(wal::primary, config);
        let (_, stranger, _) = lived(wal::turncoat, config);
        let mut refused = 0;
        for (harm, image) in flips(&original) {
            let Err(error) = open(&image, config) else {
                continue;
            };
            let hole = error.hole().expect("records are missing");
            let before: Vec<_> = segments(&image)
                .iter()
                .map(|(path, _)| image.durable_bytes(path))
                .collect();
            let result = fill(&image, &stranger.log, hole, PROMISED);
            if hole.last <= Lsn(11) {
                result.unwrap_or_else(|why| panic!("{harm}: LSN up to 11 are the same: {why}"));
                continue;
            }
            let Err(why) = result else {
                // Nothing intact stood behind: it may be the peer's from there on.
                assert!(no_more_behind(&image, config, hole), "{harm}: {hole:?}");
                continue;
            };
            refused += 1;
            let after: Vec<_> = segments(&image)
                .iter()
                .map(|(path, _)| image.durable_bytes(path))
                .collect();
            assert!(before == after, "{harm}: refused ({why}), and yet changed");
        }
        println!("{refused} refused");
        assert!(refused > 50);
    }
}

/// Whether the log ends with what came.
fn no_more_behind(image: &SimDisk, config: LogConfig, hole: &Hole) -> bool {
    match open(image, config) {
        Ok(bench) => bench.log.end().lsn <= hole.last,
        Err(error) => error.hole().is_some_and(|next| next.first > hole.last),
    }
}

/// R1: nothing of an epoch is stored that is not promised.
#[test]
fn nothing_of_an_epoch_that_is_not_promised_is_stored() {
    let [small, ..] = configs(config());
    let (original, peer, _) = lived(wal::primary, small);
    let (path, _) = &segments(&original)[1];
    let image = original.after_crash(0);
    assert!(image.rot(path, 8 * 150));
    let error: OpenError = open(&image, small).err().expect("it is damaged");
    let hole = error.hole().expect("records are missing");
    let result = fill(&image, &peer.log, hole, Epoch(100));
    assert!(
        matches!(result, Err(MendError::NotPromised { .. })),
        "{result:?}"
    );
    assert!(fill(&image, &peer.log, hole, PROMISED).is_ok());
}

/// What comes is checked, whoever sends it.
#[test]
fn bytes_that_do_not_follow_are_refused() {
    let [small, ..] = configs(config());
    let (original, peer, _) = lived(wal::primary, small);
    let (path, _) = &segments(&original)[1];
    let image = original.after_crash(0);
    assert!(image.rot(path, 8 * 150));
    let error = open(&image, small).err().expect("it is damaged");
    let hole = error.hole().expect("records are missing");
    let (after, good) = fetch(&peer.log, hole);
    let attempt = |bytes: &[u8]| mend(&image, 7, PROMISED, hole, after, bytes);
    assert!(matches!(attempt(&[]), Err(MendError::Nothing(_))));
    assert!(matches!(
        attempt(&good[..good.len() - 1]),
        Err(MendError::DoesNotFollow { .. })
    ));
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        assert!(attempt(&bad).is_err(), "byte {byte}");
    }
    assert!(attempt(&good).is_ok());
}
