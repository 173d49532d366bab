//! A full copy for a blank standby, over a slow link that breaks.

use std::path::PathBuf;

use understudy::cli::local_cluster::Plan;

use crate::blank::wipe;
use crate::catch_up::oldest_lsn;
use crate::common::{Lab, PATIENCE, until};

const VALUES: u64 = 4000;

/// 1,000 bytes that do not pack.
fn noise(n: u64) -> Vec<u8> {
    let mut seed = n;
    let mut draw = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    (0..125).flat_map(|_| draw().to_le_bytes()).collect()
}

/// The file of a copy under way, and its length.
fn part(lab: &mut Lab, id: u32) -> Option<(PathBuf, u64)> {
    let files = std::fs::read_dir(lab.data_dir(id).join("snapshot")).ok()?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    let path = paths.find(|path| path.extension().is_some_and(|end| end == "part"))?;
    let bytes = std::fs::metadata(&path).ok()?.len();
    Some((path, bytes))
}

/// R24: what was received is checked before it counts; what was received once need not come again.
#[test]
fn a_copy_that_broke_off_goes_on_where_it_was() {
    let (mut lab, primary) = Lab::start(Plan {
        more_toml: "[limits]\ncopy_rate = \"1 MiB\"\n\
                    [wal]\nsegment_size = \"256 KiB\"\nretain = \"512 KiB\"\n\
                    standby_retain = \"512 KiB\"\n"
            .to_owned(),
        ..Plan::pair_with_witness("t")
    });
    let standby = 3 - primary;
    assert!(lab.cluster.stop(standby, PATIENCE).expect("it runs"));
    wipe(&mut lab, standby);
    lab.until_seen(primary, "the fall-back", |seen| seen.mode_state != "ok");
    let mut client = lab.connect(primary);
    for batch in 0..VALUES / 100 {
        let mut pipe = redis::pipe();
        for n in batch * 100..batch * 100 + 100 {
            pipe.cmd("SET").arg(n).arg(noise(n)).ignore();
        }
        pipe.query::<()>(&mut client)
            .expect("the primary goes on alone");
    }
    // Where the log is all there, no copy is needed.
    let dir = lab.data_dir(primary);
    until("a log that begins later", || {
        (oldest_lsn(&dir) > 1).then_some(())
    });
    lab.cluster.start(standby).expect("it starts");
    let wanted = 1_500_000;
    let (path, _) = until("a good piece of the copy", || {
        part(&mut lab, standby).filter(|(_, bytes)| *bytes > wanted)
    });
    lab.cluster.kill9(standby).expect("it runs");
    let held = std::fs::metadata(&path).expect("it is left").len();
    assert!(held < VALUES * 1000, "the copy was still under way");
    // The end of what was received is not what was sent: it is found out, and only that comes again.
    let mut bytes = std::fs::read(&path).expect("it is readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("it is writable");
    lab.cluster.start(standby).expect("it starts");
    assert_eq!(lab.ready(), primary);
    lab.until_seen(primary, "semi-sync again", |seen| seen.mode_state == "ok");
    let said = std::fs::read_to_string(lab.log_file(standby)).expect("it has a log");
    let kept: Vec<u64> = said
        .lines()
        .filter_map(|line| {
            line.split("of which ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    let [0, again] = kept[..] else {
        panic!("two attempts, the first from nothing: {kept:?}");
    };
    // A block is about 256 KiB.
    assert!(
        (held - 600_000..held).contains(&again),
        "{again} of {held} bytes were taken again"
    );
    assert_eq!(part(&mut lab, standby), None, "nothing is left over");
    lab.caught_up(standby, primary);
    has_the_values(&lab, standby);
}

const SMALL: &str = "[wal]\nsegment_size = \"256 KiB\"\nretain = \"512 KiB\"\n\
                     standby_retain = \"2 MiB\"\n";

/// Three data nodes that let go of the beginning of their logs, one of them wiped and down. What the
/// primary keeps for that one reaches back behind the others' newest snapshots.
fn third_is_blank() -> (Lab, u32, u32, u32) {
    let (mut lab, primary) = Lab::start(Plan {
        more_toml: SMALL.to_owned(),
        ..Plan::three_data_nodes("t")
    });
    let [second, third] = lab.others(&[primary])[..] else {
        panic!("two standbys");
    };
    assert!(lab.cluster.stop(third, PATIENCE).expect("it runs"));
    wipe(&mut lab, third);
    let mut client = lab.connect(primary);
    for batch in 0..VALUES / 100 {
        let mut pipe = redis::pipe();
        for n in batch * 100..batch * 100 + 100 {
            pipe.cmd("SET").arg(n).arg(noise(n)).ignore();
        }
        pipe.query::<()>(&mut client).expect("two of three go on");
    }
    let dir = lab.data_dir(primary);
    until("a log that begins later", || {
        (oldest_lsn(&dir) > 1).then_some(())
    });
    (lab, primary, second, third)
}

fn copies_sent(lab: &Lab, id: u32) -> Option<f64> {
    lab.metric(id, "understudy_copies_sent_total")
}

fn has_the_values(lab: &Lab, id: u32) {
    let mut there = lab.connect(id);
    for n in (0..VALUES).step_by(97) {
        let value: Option<Vec<u8>> = redis::cmd("GET")
            .arg(n)
            .query(&mut there)
            .expect("it answers");
        assert_eq!(value, Some(noise(n)), "key {n}");
    }
}

#[test]
fn a_standby_gives_the_copy_in_the_primarys_stead() {
    let (mut lab, primary, second, third) = third_is_blank();
    lab.caught_up(second, primary);
    lab.cluster.start(third).expect("it starts");
    lab.caught_up(third, primary);
    assert_eq!(copies_sent(&lab, second), Some(1.0));
    assert_eq!(copies_sent(&lab, primary), Some(0.0));
    has_the_values(&lab, third);
}

/// Rot in what the standby gives is found out; the primary has all that is needed.
#[test]
fn where_the_standbys_snapshot_is_rotten_the_primary_gives_its_own() {
    let (mut lab, primary, second, third) = third_is_blank();
    lab.caught_up(second, primary);
    let dir = lab.data_dir(second).join("snapshot");
    // So new that no other is due.
    let newest = until("a snapshot at the standby", || {
        let files = std::fs::read_dir(&dir).ok()?;
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        let whole = paths.filter(|path| path.extension().is_some_and(|end| end == "snap"));
        let newest = whole.max()?;
        let begin: u64 = newest
            .file_name()?
            .to_str()?
            .split('-')
            .next()?
            .parse()
            .ok()?;
        (begin + 480 > VALUES).then_some(newest)
    });
    let mut bytes = std::fs::read(&newest).expect("it is readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).expect("it is writable");
    lab.cluster.start(third).expect("it starts");
    lab.caught_up(third, primary);
    assert_eq!(copies_sent(&lab, primary), Some(1.0));
    has_the_values(&lab, third);
}
