//! An old primary with records that the new one never had comes back, in proportion to these: thawed
//! with all in its memory, it repairs the keys that they touched; started again, it has not applied
//! them. Bytes and time stand beside those of a full copy.
//!
//! `UNDERSTUDY_LONG=1`, best with `--release`: 1,000,000 keys and 10,000 records to give up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, connect, long, understudy, until};

/// Keys, and records that only the old primary has.
fn size() -> (u64, u64) {
    if long() {
        (1_000_000, 10_000)
    } else {
        (20_000, 500)
    }
}

fn write(addr: SocketAddr, keys: impl Iterator<Item = u64>, value: u8) {
    let mut client = connect(addr).expect("it takes clients");
    let keys: Vec<u64> = keys.collect();
    for batch in keys.chunks(5000) {
        let mut pipe = redis::pipe();
        for key in batch {
            let value = [value; 84];
            // With its key a hundred bytes.
            let set = pipe.cmd("SET").arg(format!("key:{key:012}"));
            set.arg(&value).ignore();
        }
        pipe.query::<()>(&mut client).expect("it takes writes");
    }
}

fn value_at(lab: &Lab, node: u32, key: u64) -> Option<Vec<u8>> {
    let mut get = redis::cmd("GET");
    get.arg(format!("key:{key:012}"));
    get.query(&mut lab.connect(node)).ok()?
}

/// Two data nodes: the second has not what the first wrote last, and reigns by a person's order.
struct Diverged {
    lab: Lab,
    old: u32,
    new: u32,
}

fn diverge(end_old: impl Fn(&mut Lab, u32)) -> Diverged {
    let plan = Plan {
        mode: "async".to_owned(),
        level: None,
        ..Plan::pair_with_witness("t")
    };
    let (mut lab, old) = Lab::start(plan);
    let new = 3 - old;
    let (keys, diverged) = size();
    write(lab.addr(old), 0..keys, b'a');
    lab.caught_up(new, old);
    lab.cluster.kill9(new).expect("it runs");
    // Every hundredth key, so that they are all over the keyspace; some that were not there; one
    // that goes.
    let share = keys / diverged;
    write(lab.addr(old), (0..diverged - 11).map(|n| n * share), b'b');
    write(lab.addr(old), keys..keys + 10, b'b');
    let () = redis::cmd("DEL")
        .arg(format!("key:{:012}", 1))
        .query(&mut lab.connect(old))
        .expect("a write");
    end_old(&mut lab, old);
    lab.cluster.start(new).expect("it starts");
    let addr = lab.http_addr(new);
    until("the promotion", || {
        let promoted = understudy(&["promote", "--addr", &addr, "--force"]);
        promoted.status.success().then_some(())
    });
    assert_eq!(lab.primary_among(&[new]), new);
    // The new one goes on, also with keys that the old one changed.
    until("a write at the new primary", || {
        redis::cmd("SET")
            .arg("after")
            .arg("1")
            .query::<()>(&mut lab.connect(new))
            .ok()
    });
    write(lab.addr(new), (0..50).map(|n| n * 2 * share), b'c');
    Diverged { lab, old, new }
}

/// Waits until the old one serves what the new one has; how long that took.
fn rejoined(it: &Diverged, since: Instant) -> Duration {
    let applied = |node: u32| it.lab.metric(node, "understudy_applied_lsn");
    until("the rejoin", || {
        let seen = it.lab.cluster.cluster_json(it.old).ok()??;
        let follows = seen.primary == Some(it.new);
        let both = (applied(it.old)?, applied(it.new)?);
        let serves = value_at(&it.lab, it.old, 2).is_some();
        (follows && serves && both.0 == both.1).then_some(())
    });
    since.elapsed()
}

/// Every key that differed, and some that did not.
fn is_the_same(it: &Diverged) {
    let (keys, diverged) = size();
    let share = keys / diverged;
    let names = (0..diverged).map(|n| n * share);
    let names: Vec<u64> = names.chain(keys..keys + 10).chain(1..100).collect();
    let mut ask = redis::cmd("MGET");
    for key in &names {
        ask.arg(format!("key:{key:012}"));
    }
    let all = |node| -> Vec<Option<Vec<u8>>> {
        ask.query(&mut it.lab.connect(node)).expect("it is read")
    };
    let (here, there) = (all(it.old), all(it.new));
    let differ: Vec<&u64> = names
        .iter()
        .zip(here.iter().zip(&there))
        .filter_map(|(key, (here, there))| (here != there).then_some(key))
        .collect();
    assert!(
        differ.is_empty(),
        "{} keys differ: {differ:?}",
        differ.len()
    );
    assert_eq!(there[0].as_deref(), Some(&[b'c'; 84][..]));
    assert_eq!(value_at(&it.lab, it.old, share), Some(vec![b'a'; 84]));
    assert_eq!(value_at(&it.lab, it.old, keys), None);
    assert_eq!(value_at(&it.lab, it.old, 1), Some(vec![b'a'; 84]));
    it.lab.caught_up(it.old, it.new);
}

fn received(it: &Diverged) -> f64 {
    let bytes = it
        .lab
        .metric(it.old, "understudy_stream_received_bytes_total");
    bytes.expect("it counts")
}

fn repaired(it: &Diverged) -> f64 {
    let keys = it.lab.metric(it.old, "understudy_repaired_keys_total");
    keys.expect("it counts")
}

fn tell(how: &str, took: Duration, bytes: f64) {
    let (keys, diverged) = size();
    println!(
        "{how}: {keys} keys, {diverged} records given up: {:.0} ms, {:.2} MB over the stream",
        took.as_secs_f64() * 1000.0,
        bytes / 1e6
    );
}

#[test]
fn a_thawed_primary_repairs_the_keys_that_it_gave_up() {
    let mut it = diverge(|lab, old| lab.cluster.freeze(old).expect("it runs"));
    it.lab.cluster.thaw(it.old).expect("it is frozen");
    let took = rejoined(&it, Instant::now());
    is_the_same(&it);
    let (_, diverged) = size();
    assert_eq!(repaired(&it), diverged as f64);
    tell("thawed", took, received(&it));
    assert!(received(&it) < 10e6);
}

#[test]
fn a_restarted_primary_takes_back_what_it_had_not_applied() {
    let mut it = diverge(|lab, old| lab.cluster.kill9(old).expect("it runs"));
    let began = Instant::now();
    it.lab.cluster.start(it.old).expect("it starts");
    let took = rejoined(&it, began);
    is_the_same(&it);
    assert_eq!(repaired(&it), 0.0);
    tell("started again", took, received(&it));
    assert!(received(&it) < 10e6);
}

/// For comparison: the same node with nothing left.
#[test]
fn a_wiped_primary_takes_a_full_copy() {
    let mut it = diverge(|lab, old| {
        lab.cluster.kill9(old).expect("it runs");
        let dir = lab.data_dir(old);
        std::fs::remove_dir_all(&dir).expect("it is ours");
        std::fs::create_dir_all(&dir).expect("it is ours");
    });
    let began = Instant::now();
    it.lab.cluster.start(it.old).expect("it starts");
    let took = rejoined(&it, began);
    is_the_same(&it);
    let (keys, _) = size();
    tell("full copy", took, received(&it));
    assert!(received(&it) > keys as f64 * 50.0, "all of it came");
}
