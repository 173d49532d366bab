//! A bit turned at every byte of a small data directory: log, control state, snapshots. Beside healthy
//! members everything comes back; a node alone says what is damaged, or lacks nothing but the last
//! synced group, which may look torn. Never a wrong value, never a panic.
//!
//! Every 67th byte by default; `SIM_ROT_STEP=1` takes each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use understudy::command::KeyCommand;
use understudy::node::Serves;
use understudy::resp::Reply;
use understudy::units::Lsn;
use understudy::wal::sim_disk::SimDisk;

use super::cluster::{Cluster, Shape};
use super::number;
use super::process::Fate;
use super::run::{SHAPES, in_virtual_time};
use super::stories::{at_primary, begun_with, proven};

const LIMIT: Duration = Duration::from_secs(20);

fn small(shape: Shape) -> Shape {
    Shape {
        segment_bytes: Some(2048),
        ..shape
    }
}

/// A node without peers.
fn alone() -> Shape {
    Shape {
        data: 1,
        witnesses: 0,
        cluster: "mode = 'async'",
        ..small(SHAPES[0])
    }
}

fn name(n: usize) -> String {
    format!("key{}", n % 30)
}

/// Several segments and two snapshots, and what is in them.
async fn fill(cluster: &Arc<Cluster>, primary: u32) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for n in 0..120 {
        let value = format!("{n}.").repeat(1 + n % 25);
        let line = format!("SET {} {value}", name(n));
        let answers = at_primary(cluster, primary, &[&line]).await;
        assert_eq!(answers, [Reply::Simple("OK".into())]);
        values.insert(name(n), value);
        // Time for the keeper of snapshots to look.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    values
}

fn shows(cluster: &Cluster, place: u32, key: &str) -> Option<String> {
    let key = key.as_bytes().to_vec().into();
    let node = cluster.node(place)?;
    match node
        .store
        .read_only(&KeyCommand::Get { key }, true, Lsn::ZERO)?
    {
        Reply::Bulk(value) => Some(String::from_utf8_lossy(&value).into_owned()),
        _ => None,
    }
}

/// Log, control state and snapshots, each with its used bytes.
fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let files = disk.durable_files().into_iter();
    let kept = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("/wal/") || path.contains("/control.") || path.ends_with(".snap")
    };
    files
        .map(|file| (file.path, file.used))
        .filter(|(path, used)| kept(path) && *used > 0)
        .collect()
}

/// A bit of each `step`-th byte, over all files.
fn bits(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let step = number("SIM_ROT_STEP").unwrap_or(67) as usize;
    let all = files(disk).into_iter().flat_map(|(path, used)| {
        (0..used).map(move |byte| (path.clone(), byte * 8 + (byte * 5) % 8))
    });
    all.step_by(step.max(1)).collect()
}

#[test]
fn beside_healthy_members_every_turned_bit_is_mended() {
    in_virtual_time(11, async {
        let (cluster, primary) = begun_with(small(SHAPES[1])).await;
        let values = fill(&cluster, primary).await;
        assert!(cluster.until(LIMIT, proven).await, "all are the same");
        let victim = primary % 3 + 1;
        cluster.kill(victim);
        let image = cluster.with(victim, |machine| machine.disk.after_crash(0));
        let kinds = files(&image);
        let count = |part: &str| {
            let those = kinds
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains(part));
            those.count()
        };
        assert!(
            count("/wal/") >= 2 && count(".snap") >= 1 && count("control") == 2,
            "{kinds:?}"
        );
        let bits = bits(&image);
        for (path, bit) in &bits {
            let place = format!("bit {bit} of {}", path.display());
            cluster.with(victim, |machine| {
                machine.disk = image.after_crash(0);
                assert!(machine.disk.rot(path, *bit), "{place}");
            });
            cluster.start(victim);
            let back = |cluster: &Cluster| {
                let applied = |place| Some(cluster.node(place)?.store.applied());
                let serves = |place| Some(cluster.node(place)?.gate_now().serves);
                let same = applied(victim).is_some() && applied(victim) == applied(primary);
                same && serves(victim) == Some(Serves::Standby) && proven(cluster)
            };
            if !cluster.until(LIMIT, back).await {
                let refusal = cluster.with(victim, |machine| machine.refusal.clone());
                panic!("{place}: {refusal:?}, {:?}", cluster.ghost.violation());
            }
            for (key, value) in &values {
                let found = shows(&cluster, victim, key);
                assert_eq!(found.as_ref(), Some(value), "{place}: {key}");
            }
            cluster.kill(victim);
        }
        let used: u64 = kinds.iter().map(|(_, used)| used).sum();
        println!(
            "{} bits of {used} bytes in {} files: all mended",
            bits.len(),
            kinds.len()
        );
    });
}

#[test]
fn a_node_alone_shows_no_wrong_value_whatever_bit_turns() {
    in_virtual_time(12, async {
        let shape = alone();
        let (cluster, alone) = begun_with(shape).await;
        let values = fill(&cluster, alone).await;
        cluster.kill(alone);
        let image = cluster.with(alone, |machine| machine.disk.after_crash(0));
        let (mut refused, mut whole, mut torn) = (0, 0, 0);
        let bits = bits(&image);
        for (path, bit) in &bits {
            let place = format!("bit {bit} of {}", path.display());
            // A ghost that has seen nothing: it would take the same life for another.
            let cluster = Cluster::new(shape, 7, false);
            cluster.with(alone, |machine| {
                machine.disk = image.after_crash(0);
                assert!(machine.disk.rot(path, *bit), "{place}");
            });
            cluster.start(alone);
            let settled = |cluster: &Cluster| {
                cluster.serving() == Some(alone)
                    || cluster.with(alone, |machine| machine.refusal.is_some())
            };
            let settles = cluster.until(LIMIT, settled).await;
            assert!(settles, "{place}: {:?}", cluster.ghost.violation());
            if let Some(why) = cluster.with(alone, |machine| machine.refusal.take()) {
                assert!(
                    why.contains("damaged") || why.contains("missing"),
                    "{place}: {why}"
                );
                refused += 1;
            } else {
                let lacks = values
                    .iter()
                    .filter(|(key, value)| shows(&cluster, alone, key).as_ref() != Some(value));
                let lacks: Vec<&String> = lacks.map(|(key, _)| key).collect();
                // The last group: what was written last, alone.
                assert!(
                    lacks.iter().all(|key| **key == name(119)),
                    "{place}: {lacks:?}"
                );
                match lacks.is_empty() {
                    true => whole += 1,
                    false => torn += 1,
                }
            }
            if cluster.fate(alone) != Fate::Dead {
                cluster.kill(alone);
            }
        }
        println!(
            "{} bits: {refused} refused, {whole} lost nothing, {torn} the last record",
            bits.len()
        );
        assert!(refused > 0 && whole > 0);
    });
}

/// The first file whose path has this in it.
fn file_with(cluster: &Cluster, place: u32, part: &str) -> (PathBuf, u64) {
    let all = cluster.with(place, |machine| files(&machine.disk));
    let mut with = all.into_iter();
    with.find(|(path, _)| path.to_string_lossy().contains(part))
        .unwrap_or_else(|| panic!("no file with {part}"))
}

const PASS: Duration = Duration::from_secs(700);

/// Found by the scrub while the node runs, before anybody needs the bytes.
#[test]
fn the_scrub_has_a_rotten_segment_mended_and_a_rotten_snapshot_replaced() {
    in_virtual_time(13, async {
        let (cluster, primary) = begun_with(small(SHAPES[1])).await;
        fill(&cluster, primary).await;
        assert!(cluster.until(LIMIT, proven).await, "all are the same");
        let standby = primary % 3 + 1;
        for place in [standby, primary] {
            let (segment, used) = file_with(&cluster, place, "/wal/");
            let good = cluster.with(place, |machine| machine.disk.durable_bytes(&segment));
            let (snapshot, length) = file_with(&cluster, place, ".snap");
            cluster.with(place, |machine| {
                assert!(machine.disk.rot(&segment, used / 2 * 8 + 3));
                assert!(machine.disk.rot(&snapshot, length / 2 * 8 + 3));
            });
            let node = cluster.node(place).expect("it runs");
            let done = |cluster: &Cluster| {
                let node = cluster.node(place).expect("it runs");
                node.stats.scrub_mended.load(Ordering::Relaxed) == 2
            };
            assert!(cluster.until(PASS, done).await, "{:?}", node.scrub_state());
            assert_eq!(node.stats.scrub_findings.load(Ordering::Relaxed), 2);
            let mended = cluster.with(place, |machine| machine.disk.durable_bytes(&segment));
            let upto = used as usize;
            assert_eq!(
                mended.map(|bytes| bytes[..upto].to_vec()),
                good.map(|bytes| bytes[..upto].to_vec())
            );
            let clean = |cluster: &Cluster| {
                let node = cluster.node(place).expect("it runs");
                node.scrub_state().finding.is_none()
            };
            assert!(
                cluster.until(PASS, clean).await,
                "the next pass finds nothing"
            );
        }
        assert_eq!(cluster.serving(), Some(primary), "nobody was disturbed");
    });
}

/// Nobody has the records; the keyspace does not need them.
#[test]
fn a_node_alone_says_what_is_rotten_and_goes_on() {
    in_virtual_time(14, async {
        let (cluster, alone) = begun_with(alone()).await;
        let values = fill(&cluster, alone).await;
        let (segment, used) = file_with(&cluster, alone, "/wal/");
        cluster.with(alone, |machine| {
            assert!(machine.disk.rot(&segment, used / 2 * 8))
        });
        let node = cluster.node(alone).expect("it runs");
        let said = |cluster: &Cluster| {
            let node = cluster.node(alone).expect("it runs");
            node.scrub_state().finding.is_some()
        };
        assert!(cluster.until(PASS, said).await, "it is found");
        let finding = node.scrub_state().finding.expect("it was there");
        assert!(
            finding.contains("not mended: there is no other data node"),
            "{finding}"
        );
        assert_eq!(cluster.serving(), Some(alone));
        for (key, value) in &values {
            assert_eq!(shows(&cluster, alone, key).as_ref(), Some(value));
        }
    });
}
