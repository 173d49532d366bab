//! MULTI, EXEC and WATCH: as Redis answers, and as one record on every node.
//!
//! `TRANSACTIONS_SEED=n` repeats a comparison with Redis, `TRANSACTIONS_COUNT=n` makes it longer.

mod common;
mod reference;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Lab, until};
use reference::{Random, Redis, ask, encoded, from_environment};
use understudy::cli::local_cluster::Plan;
use understudy::resp::{Reply, ReplyParser};

const KEYS: [&str; 3] = ["a", "b", "c"];

/// A command of a connection that is in the middle of anything.
fn random_command(random: &mut Random) -> Vec<&'static str> {
    let key = random.pick(&KEYS);
    let value = random.pick(&["1", "2", "x", ""]);
    match random.below(26) {
        0..=3 => vec!["MULTI"],
        4..=7 => vec!["EXEC"],
        8 => vec!["DISCARD"],
        9 | 10 => vec!["WATCH", key],
        11 => vec!["WATCH", key, random.pick(&KEYS)],
        12 => vec!["UNWATCH"],
        13 | 14 => vec!["SET", key, value],
        15 => vec!["GET", key],
        16 => vec!["INCR", key],
        17 => vec!["DEL", key, random.pick(&KEYS)],
        18 => vec!["APPEND", key, value],
        19 => vec!["MSET", "a", value, "b", value],
        // What is wrong besides the number of arguments is found when it is carried out.
        20 => vec!["INCRBY", key, "x"],
        21 => vec!["MSET", "a", "1", "b"],
        22 => random_mistake(random),
        23 => vec!["PEXPIREAT", key, random.pick(&["1", "4102444800000"])],
        24 => vec!["PING", random.pick(&["a", "b"])],
        _ => match random.below(4) {
            0 => vec!["FLUSHALL"],
            1 => vec!["DBSIZE"],
            2 => vec!["RENAME", key, random.pick(&KEYS)],
            _ => vec!["RESET"],
        },
    }
}

fn random_mistake(random: &mut Random) -> Vec<&'static str> {
    match random.below(5) {
        0 => vec!["NOSUCH", "a"],
        1 => vec!["GET"],
        2 => vec!["EXEC", "a"],
        3 => vec!["CONFIG", "nosuch"],
        _ => vec!["WATCH"],
    }
}

fn connect(lab: &Lab, node: u32) -> TcpStream {
    let stream = TcpStream::connect(lab.addr(node)).expect("the node listens");
    stream.set_nodelay(true).expect("no delay");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a read timeout");
    stream
}

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, replies were compared with nothing");
        return;
    };
    let (lab, node) = Lab::start(Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    });
    let seed = from_environment("TRANSACTIONS_SEED", 7);
    let rounds = from_environment("TRANSACTIONS_COUNT", 6000);
    eprintln!("TRANSACTIONS_SEED={seed} TRANSACTIONS_COUNT={rounds}");
    let mut random = Random(seed | 1);
    let mut pairs: Vec<[(TcpStream, ReplyParser); 2]> = (0..3)
        .map(|_| {
            let both = [redis.connect(), connect(&lab, node)];
            both.map(|stream| (stream, ReplyParser::default()))
        })
        .collect();
    let (mut executed, mut broken, mut aborted) = (0, 0, 0);
    for round in 0..rounds {
        let who = random.below(pairs.len());
        let command = random_command(&mut random);
        let bytes: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
        let answers = pairs[who]
            .each_mut()
            .map(|(stream, parser)| ask(stream, parser, &bytes));
        let [theirs, ours] = &answers;
        assert_eq!(
            encoded(theirs),
            encoded(ours),
            "seed {seed}, round {round}: connection {who}: {command:?}"
        );
        match ours {
            Reply::Array(_) if command == ["EXEC"] => executed += 1,
            Reply::NullArray => broken += 1,
            Reply::Error(text) if text.starts_with("EXECABORT") => aborted += 1,
            _ => {}
        }
    }
    assert!(
        executed > 20 && broken > 20 && aborted > 20,
        "{executed} executed, {broken} broken, {aborted} aborted: too few to mean anything"
    );
}

/// Two keys that are only ever written together are the same on the primary and on the standby at any
/// moment, and on the new primary after the old one was killed in the middle of it.
#[test]
fn a_transaction_is_seen_whole_on_every_node() {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("t"));
    let standby = 3 - primary;
    let write = |client: &mut redis::Connection, number: u64| {
        let mut pipe = redis::pipe();
        let pair = pipe.atomic().cmd("SET").arg("a").arg(number).ignore();
        pair.cmd("SET").arg("b").arg(number).ignore();
        pair.query::<()>(client)
    };
    write(&mut lab.connect(primary), 0).expect("it is written");
    lab.caught_up(standby, primary);
    let stop = AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let looks = [primary, standby].map(|node| {
            let (lab, stop) = (&lab, &stop);
            scope.spawn(move || {
                let mut client = lab.connect(node);
                let (mut looked, mut last) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let mut get = redis::cmd("MGET");
                    let [a, b]: [u64; 2] = get.arg("a").arg("b").query(&mut client).expect("read");
                    assert_eq!(a, b, "half a transaction on node {node}");
                    looked += usize::from(a != last);
                    last = a;
                }
                looked
            })
        });
        let mut client = lab.connect(primary);
        for number in 1..=3000 {
            write(&mut client, number).expect("it is written");
        }
        stop.store(true, Ordering::Relaxed);
        looks.map(|look| look.join().expect("nothing was torn"))
    });
    assert!(
        looked.iter().all(|changes| *changes > 100),
        "{looked:?} changes seen"
    );
    // In the middle of it.
    let mut client = lab.connect(primary);
    let writer = std::thread::spawn(move || {
        let mut number = 3000;
        while write(&mut client, number + 1).is_ok() {
            number += 1;
        }
        number
    });
    std::thread::sleep(Duration::from_millis(200));
    lab.cluster.kill9(primary).expect("it runs");
    let acknowledged = writer.join().expect("the connection breaks");
    assert_eq!(lab.primary_among(&[standby]), standby);
    let [a, b] = until("an answer of the new primary", || {
        let mut get = redis::cmd("MGET");
        let client = &mut common::connect(lab.addr(standby)).ok()?;
        get.arg("a").arg("b").query::<[u64; 2]>(client).ok()
    });
    assert_eq!(a, b, "half a transaction survived");
    assert!(
        a >= acknowledged,
        "{acknowledged} was acknowledged, {a} is there"
    );
}

/// A standby carries out what only reads, and refuses the rest when it is queued, as Redis does.
#[test]
fn a_standby_reads_in_transactions_and_writes_nothing() {
    let (lab, primary) = Lab::start(Plan::pair_with_witness("t"));
    let standby = 3 - primary;
    let mut parser = ReplyParser::default();
    let mut at = |stream: &mut TcpStream, line: &str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        ask(stream, &mut parser, &words)
    };
    let mut there = connect(&lab, primary);
    assert_eq!(at(&mut there, "SET a 1"), Reply::OK);
    lab.caught_up(standby, primary);
    let mut here = connect(&lab, standby);
    let queued = Reply::Simple("QUEUED".into());
    assert_eq!(at(&mut here, "WATCH a"), Reply::OK);
    assert_eq!(at(&mut here, "MULTI"), Reply::OK);
    assert_eq!(at(&mut here, "GET a"), queued);
    assert_eq!(at(&mut here, "STRLEN a"), queued);
    let both = Reply::Array(vec![Reply::text("1"), Reply::Integer(1)]);
    assert_eq!(at(&mut here, "EXEC"), both);
    // What the primary's records change is heard of here, too.
    assert_eq!(at(&mut here, "WATCH a"), Reply::OK);
    assert_eq!(at(&mut there, "SET a 2"), Reply::OK);
    let mut other = connect(&lab, standby);
    until("the standby to apply it", || {
        (at(&mut other, "GET a") == Reply::text("2")).then_some(())
    });
    assert_eq!(at(&mut here, "MULTI"), Reply::OK);
    assert_eq!(at(&mut here, "GET a"), queued);
    assert_eq!(at(&mut here, "EXEC"), Reply::NullArray);
    assert_eq!(at(&mut here, "MULTI"), Reply::OK);
    let refused = at(&mut here, "SET a 3");
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("READONLY ")),
        "{refused:?}"
    );
    let aborted = at(&mut here, "EXEC");
    assert!(
        matches!(&aborted, Reply::Error(text) if text.starts_with("EXECABORT ")),
        "{aborted:?}"
    );
}
