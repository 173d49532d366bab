//! Keyspace events: those of redis-server 7.0, in its order, and only of what is safe.
//!
//! `NOTIFICATIONS_SEED=n` repeats a comparison, `NOTIFICATIONS_COUNT=n` makes it longer.

mod common;
mod reference;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use common::{Lab, PATIENCE, until};
use reference::{Random, Redis, from_environment};
use understudy::cli::local_cluster::Plan;
use understudy::resp::{Reply, ReplyParser, encode_request};

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
const VALUES: [&str; 5] = ["", "v", "1", "2.5", "long enough"];

fn random_command(random: &mut Random) -> Vec<&'static str> {
    let (key, other) = (random.pick(&KEYS), random.pick(&KEYS));
    let value = random.pick(&VALUES);
    let later = "4102444800000";
    match random.below(58) {
        0 => vec!["SET", key, value],
        1 => vec!["SET", key, value, "EX", "100000"],
        2 => vec!["SET", key, value, "NX"],
        3 => vec!["SET", key, value, "XX", "GET"],
        4 => vec!["SET", key, value, "GET"],
        5 => vec!["SET", key, value, "KEEPTTL"],
        6 => vec!["SETNX", key, value],
        7 => vec!["SETEX", key, "100000", value],
        8 => vec!["PSETEX", key, "100000000", value],
        9 => vec!["GETSET", key, value],
        10 | 11 => vec!["GET", key],
        12 => vec!["GETDEL", key],
        13 => vec!["GETEX", key],
        14 => vec!["GETEX", key, "PERSIST"],
        15 => vec!["GETEX", key, "EX", "100000"],
        16 => vec!["GETEX", key, "PXAT", "1"],
        17 => vec!["MGET", key, other],
        18 => vec!["MSET", key, value, other, "x"],
        19 => vec!["MSETNX", key, value, other, "x"],
        20 => vec!["APPEND", key, value],
        21 => vec!["STRLEN", key],
        22 => vec!["GETRANGE", key, "0", "3"],
        23 => vec!["SETRANGE", key, "2", value],
        24 => vec!["INCR", key],
        25 => vec!["DECRBY", key, "3"],
        26 => vec!["INCRBYFLOAT", key, "0.5"],
        27..=29 => vec!["DEL", key, other],
        30 => vec!["UNLINK", key],
        31 => vec!["EXISTS", key, other],
        32 => vec!["TOUCH", key, other],
        33 => vec!["TYPE", key],
        34 => vec!["TTL", key],
        35 => vec!["EXPIRETIME", key],
        36 => vec!["EXPIRE", key, "100000"],
        37 => vec![
            "EXPIRE",
            key,
            "100000",
            random.pick(&["NX", "XX", "GT", "LT"]),
        ],
        38 => vec!["PEXPIREAT", key, random.pick(&["1", later])],
        39 => vec!["EXPIRE", key, "-1"],
        40 => vec!["PERSIST", key],
        41 => vec!["RENAME", key, other],
        42 => vec!["RENAMENX", key, other],
        43 => vec!["COPY", key, other],
        44 => vec!["COPY", key, other, "REPLACE"],
        45 => vec!["GETBIT", key, "3"],
        46 => vec![
            "SETBIT",
            key,
            random.pick(&["3", "900"]),
            random.pick(&["0", "1"]),
        ],
        47 => vec!["BITCOUNT", key],
        48 => vec!["BITPOS", key, "1"],
        49 => vec![
            "BITOP",
            random.pick(&["AND", "OR", "XOR"]),
            key,
            other,
            random.pick(&KEYS),
        ],
        50 => vec!["BITOP", "NOT", key, other],
        51 => vec![
            "BITFIELD",
            key,
            "SET",
            "u8",
            "#0",
            random.pick(&["0", "65"]),
        ],
        52 => vec!["BITFIELD", key, "GET", "u8", "0"],
        53 => vec!["BITFIELD_RO", key, "GET", "u8", "0"],
        54 => vec!["BITFIELD", key, "INCRBY", "u8", "0", "1"],
        55 => vec!["LCS", key, other],
        56 => vec!["DBSIZE"],
        _ => vec!["FLUSHALL"],
    }
}

/// A connection that takes what comes.
struct Raw {
    stream: TcpStream,
    parser: ReplyParser,
    buffer: BytesMut,
}

impl Raw {
    fn to(addr: SocketAddr) -> Raw {
        Raw::on(TcpStream::connect(addr).expect("it listens"))
    }

    fn on(stream: TcpStream) -> Raw {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Raw {
            stream,
            parser: ReplyParser::default(),
            buffer: BytesMut::new(),
        }
    }

    fn say(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = BytesMut::new();
        encode_request(&words, &mut out);
        self.stream.write_all(&out).expect("it reads");
    }

    fn hear(&mut self) -> Reply {
        loop {
            if let Some(reply) = self.parser.parse(&mut self.buffer).expect("a reply") {
                return reply;
            }
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk).expect("a reply");
            assert!(read > 0, "the connection was closed");
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }

    fn ask(&mut self, words: &[&str]) -> Reply {
        self.say(words);
        self.hear()
    }

    fn is_silent_for(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).expect("a timeout");
        let mut chunk = [0; 4096];
        let read = self.stream.read(&mut chunk);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        if let Ok(read) = &read {
            self.buffer.extend_from_slice(&chunk[..*read]);
        }
        read.is_err() && self.buffer.is_empty()
    }

    /// Channel and message of the next event.
    fn event(&mut self) -> (String, String) {
        let Reply::Array(parts) = self.hear() else {
            panic!("no message");
        };
        let text = |part: &Reply| match part {
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        (text(&parts[2]), text(&parts[3]))
    }

    /// The events up to that of this key, which has the last of them.
    fn events_until(&mut self, marker: &str) -> Vec<(String, String)> {
        let mut events = Vec::new();
        loop {
            let event = self.event();
            if event.0.ends_with(&format!("0__:{marker}")) && event.1 == "append" {
                return events;
            }
            events.push(event);
        }
    }
}

/// Who does something, and who hears of it.
struct Pair {
    does: Raw,
    hears: Raw,
}

impl Pair {
    fn new(does: Raw, mut hears: Raw, classes: &str) -> Pair {
        let mut pair = {
            hears.ask(&["PSUBSCRIBE", "__key*@0__:*"]);
            Pair { does, hears }
        };
        let set = pair
            .does
            .ask(&["CONFIG", "SET", "notify-keyspace-events", classes]);
        assert_eq!(set, Reply::OK);
        pair
    }
}

fn both(classes: &str) -> Option<(Redis, Pair, Lab, Pair)> {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: there is no redis-server");
        return None;
    };
    let theirs = Pair::new(Raw::on(redis.connect()), Raw::on(redis.connect()), classes);
    let plan = Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("notifications")
    };
    let (lab, node) = Lab::start(plan);
    let addr = lab.addr(node);
    let ours = Pair::new(Raw::to(addr), Raw::to(addr), classes);
    Some((redis, theirs, lab, ours))
}

fn compare(classes: &str, count: u64, seed: u64) {
    let Some((_redis, mut theirs, _lab, mut ours)) = both(classes) else {
        return;
    };
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut done = 0;
    while done < count {
        let mut story = Vec::new();
        for _ in 0..20 {
            let mut commands = vec![random_command(&mut random)];
            if random.below(8) == 0 {
                commands.insert(0, vec!["MULTI"]);
                commands.push(random_command(&mut random));
                commands.push(vec!["EXEC"]);
            }
            for command in commands {
                let (wanted, got) = (theirs.does.ask(&command), ours.does.ask(&command));
                if command[0] != "TTL" && !matches!(wanted, Reply::Array(_)) {
                    assert_eq!(got, wanted, "seed {seed}: {command:?}");
                }
                story.push(command);
                done += 1;
            }
        }
        for pair in [&mut theirs, &mut ours] {
            pair.does.ask(&["APPEND", "marker", "x"]);
        }
        let wanted = theirs.hears.events_until("marker");
        let got = ours.hears.events_until("marker");
        // The marker's own event on the other channel stands at the front of the next round.
        let first = (0..wanted.len().max(got.len())).find(|at| wanted.get(*at) != got.get(*at));
        if let Some(at) = first {
            let part = |events: &[(String, String)]| {
                let from = at.saturating_sub(3).min(events.len());
                events[from..events.len().min(at + 4)].to_vec()
            };
            panic!(
                "seed {seed}: event {at} differs: wanted {:?}, got {:?}, after {story:?}",
                part(&wanted),
                part(&got)
            );
        }
    }
}

#[test]
fn every_command_tells_what_redis_tells() {
    let seed = from_environment("NOTIFICATIONS_SEED", 17);
    compare("KEAnm", from_environment("NOTIFICATIONS_COUNT", 2000), seed);
}

#[test]
fn only_the_classes_that_are_asked_for_are_told() {
    let seed = from_environment("NOTIFICATIONS_SEED", 23);
    compare("K$n", 200, seed);
}

#[test]
fn keys_that_expire_say_so() {
    let Some((_redis, mut theirs, _lab, mut ours)) = both("KEA") else {
        return;
    };
    for pair in [&mut theirs, &mut ours] {
        pair.does.ask(&["SET", "soon", "v", "PX", "30"]);
        until("it expires", || {
            (pair.does.ask(&["GET", "soon"]) == Reply::Null).then_some(())
        });
        pair.does.ask(&["SET", "soon", "w"]);
        pair.does.ask(&["APPEND", "marker", "x"]);
    }
    let wanted = theirs.hears.events_until("marker");
    assert_eq!(ours.hears.events_until("marker"), wanted);
    assert!(
        wanted.iter().any(|(_, event)| event == "expired"),
        "{wanted:?}"
    );
}

#[test]
fn nobody_is_told_before_it_is_safe() {
    let plan = Plan::three_data_nodes("notifications");
    let (mut lab, primary) = Lab::start(plan);
    let addr = lab.addr(primary);
    let mut pair = Pair::new(Raw::to(addr), Raw::to(addr), "KEA");
    pair.does.ask(&["SET", "before", "v"]);
    assert_eq!(pair.hears.event().1, "set");
    assert_eq!(pair.hears.event().1, "before");
    let standbys = lab.others(&[primary]);
    for standby in &standbys {
        lab.cluster.freeze(*standby).expect("it runs");
    }
    pair.does.say(&["SET", "k", "v"]);
    assert!(
        pair.hears.is_silent_for(Duration::from_millis(200)),
        "an event of a write that may still be lost was told"
    );
    for standby in &standbys {
        lab.cluster.thaw(*standby).expect("it is there");
    }
    // Whoever reigns now: the event is told by a primary that confirmed the write, or by nobody.
    let confirmed = pair.does.hear() == Reply::OK;
    if confirmed {
        assert_eq!(
            pair.hears.event(),
            ("__keyspace@0__:k".into(), "set".into())
        );
    }
}

#[test]
fn a_standby_tells_what_it_applies() {
    let (lab, primary) = Lab::start(Plan::three_data_nodes("notifications"));
    let standby = lab.others(&[primary])[0];
    let mut does = Raw::to(lab.addr(primary));
    let addr = lab.addr(standby);
    let mut there = Pair::new(Raw::to(addr), Raw::to(addr), "KAn");
    for command in [
        &["SET", "k", "v"][..],
        &["EXPIRE", "k", "1000"],
        &["PERSIST", "k"],
        &["INCR", "n"],
        &["DEL", "k"],
    ] {
        assert!(!does.ask(command).is_error());
    }
    let told: Vec<String> = (0..7)
        .map(|_| there.hears.event())
        .map(|(channel, event)| {
            format!("{} {event}", channel.trim_start_matches("__keyspace@0__:"))
        })
        .collect();
    let wanted = [
        "k new",
        "k set",
        "k expire",
        "k persist",
        "n new",
        "n set",
        "k del",
    ];
    assert_eq!(told, wanted);
}
