//! The same random commands against a real redis-server 7.0 and against plan, apply and encode:
//! every reply must be the same, byte for byte.
//!
//! Skipped, loudly, where no redis-server is on PATH. `COMMANDS_SEED=n` repeats a run,
//! `COMMANDS_COUNT=n` makes it longer.
//!
//! Time must not decide a reply: expiries lie either days away (and TTLs are compared up to the
//! time the run may take) or in the past.

mod reference;

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use reference::commands::{EXPIRIES, VALUES, random_command, sorted};
use reference::{Random, Redis, ask, encoded, from_environment};
use understudy::command::{Command, CommandSpec, KeyCommand, SessionCommand, lookup};
use understudy::keyspace::{HashSeed, Keyspace};
use understudy::resp::{
    Limits, Reply, ReplyParser, Request, RequestParser, Version, encode_request,
};
use understudy::units::{Lsn, Millis};

/// What this crate answers, as bytes.
fn ours(keyspace: &mut Keyspace, lsn: &mut Lsn, args: &[&[u8]], now: Millis) -> Reply {
    let mut wire = BytesMut::new();
    encode_request(args, &mut wire);
    let mut parser = RequestParser::new(Limits::default());
    let request = parser
        .parse(&mut wire)
        .expect("a valid request")
        .expect("a whole request");
    match Command::parse(&request) {
        Err(reply) => reply,
        Ok(Command::Keys(command)) => {
            let plan = keyspace.plan(&command, now, 0);
            if !plan.effects.is_empty() {
                *lsn = lsn.next();
                keyspace
                    .apply_encoded(plan.effects.encoded(), *lsn)
                    .expect("own effects");
            }
            plan.reply
        }
        Ok(Command::Session(command)) => panic!("no key command: {command:?}"),
    }
}

/// Commands whose integers are (or depend on) a point of time of two clocks read in turn.
fn same(name: &str, args: &[String], theirs: &Reply, ours: &Reply) -> bool {
    match (name, theirs, ours) {
        ("TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME", Reply::Integer(a), Reply::Integer(b)) => {
            let slack = if name.starts_with('P') { 20_000 } else { 20 };
            (a < &0) == (b < &0) && a.abs_diff(*b) <= slack
        }
        ("DUMP", Reply::Bulk(a), Reply::Bulk(b)) => a == b || restored(a) == restored(b),
        // Which key comes at random is checked by its unit test; here, whether one comes.
        ("RANDOMKEY", Reply::Bulk(_), Reply::Bulk(_)) if args.len() == 1 => true,
        _ => encoded(theirs) == encoded(ours),
    }
}

/// What a payload holds.
fn restored(payload: &[u8]) -> Reply {
    let (mut keyspace, mut lsn) = (Keyspace::new(HashSeed::new([1, 2])), Lsn::ZERO);
    let mut run = |args: &[&[u8]]| ours(&mut keyspace, &mut lsn, args, Millis(1000));
    assert_eq!(run(&[b"RESTORE", b"k", b"0", payload]), Reply::OK);
    run(&[b"GET", b"k"])
}

fn wall_clock() -> Millis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    Millis(since.as_millis() as u64)
}

#[test]
fn replies_are_those_of_redis() {
    compare_replies(Version::Resp2, 0x5eed);
}

#[test]
fn replies_are_those_of_redis_over_resp3() {
    compare_replies(Version::Resp3, 0x3eed);
}

fn compare_replies(version: Version, seed: u64) {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, replies were compared with nothing");
        return;
    };
    let seed = from_environment("COMMANDS_SEED", seed);
    let rounds = from_environment("COMMANDS_COUNT", 8000);
    eprintln!("COMMANDS_SEED={seed} COMMANDS_COUNT={rounds}");
    let mut random = Random(seed | 1);
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let (mut stream, mut parser) = (redis.connect(), ReplyParser::default());
    if version == Version::Resp3 {
        let hello = ask(&mut stream, &mut parser, &[b"HELLO", b"3"]);
        assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
    }
    let bytes_of = |reply: &Reply| {
        let mut out = bytes::BytesMut::new();
        reply.encode(version, &mut out);
        out.freeze()
    };
    for round in 0..rounds {
        let args = random_command(&mut random, &EXPIRIES);
        if args[0] == "DBSIZE" {
            // A key set with an expiry in the past still counts in Redis until someone sees it.
            let scan: [&[u8]; 4] = [b"SCAN", b"0", b"COUNT", b"1000"];
            ask(&mut stream, &mut parser, &scan);
            ours(&mut keyspace, &mut lsn, &scan, wall_clock());
        }
        let name = args[0].to_ascii_uppercase();
        let bytes: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let theirs = sorted(&name, ask(&mut stream, &mut parser, &bytes));
        let ours = sorted(&name, ours(&mut keyspace, &mut lsn, &bytes, wall_clock()));
        assert!(
            same(&name, &args, &theirs, &ours),
            "seed {seed}, round {round}: {args:?}\nRedis: {theirs:?}\nours:  {ours:?}"
        );
        // Where they may differ, as times do, they were looked at above.
        if encoded(&theirs) == encoded(&ours) {
            let (theirs, ours) = (bytes_of(&theirs), bytes_of(&ours));
            assert_eq!(theirs, ours, "seed {seed}, round {round}: {args:?}");
        }
    }
}

/// Values of every kind that a payload knows: numbers, what repeats itself, what does not.
fn random_value(random: &mut Random) -> Vec<u8> {
    let most = [12, 30, 100, 1000, 30_000][random.below(5)];
    let length = random.below(most);
    match random.below(6) {
        0 => random.pick(&VALUES).as_bytes().to_vec(),
        1 => {
            let number = random.next() as i64 >> random.below(64);
            number.to_string().into_bytes()
        }
        2 => (0..length).map(|_| random.next() as u8).collect(),
        3 => (0..length).map(|_| b"ab"[random.below(2)]).collect(),
        4 => vec![b'x'; length],
        _ => {
            let mut value: Vec<u8> = (0..20).map(|_| random.next() as u8).collect();
            while value.len() < length {
                let from = random.below(value.len());
                let upto = (from + random.below(300)).min(value.len());
                value.extend_from_within(from..upto);
                value.push(random.next() as u8);
            }
            value
        }
    }
}

/// With version and checksum, whatever it says.
fn sealed(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// DUMP gives the same bytes, each server restores the other's, and damage is judged alike.
#[test]
fn payloads_go_from_each_server_into_the_other() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, payloads were compared with nothing");
        return;
    };
    let seed = from_environment("COMMANDS_SEED", 0x5eed);
    let rounds = from_environment("COMMANDS_COUNT", 8000) / 4;
    eprintln!("COMMANDS_SEED={seed} COMMANDS_COUNT={}", rounds * 4);
    let mut random = Random(seed | 1);
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let (mut stream, mut parser) = (redis.connect(), ReplyParser::default());
    let mut both = |args: &[&[u8]]| {
        let theirs = ask(&mut stream, &mut parser, args);
        (theirs, ours(&mut keyspace, &mut lsn, args, wall_clock()))
    };
    let (mut packed, mut others, mut damaged, mut accepted) = (0, 0, 0, 0);
    for round in 0..rounds {
        let what = format!("seed {seed}, round {round}");
        let value = random_value(&mut random);
        let set = both(&[b"SET", b"k", &value]);
        assert_eq!(set, (Reply::OK, Reply::OK), "{what}");
        let (Reply::Bulk(theirs), Reply::Bulk(ours)) = both(&[b"DUMP", b"k"]) else {
            panic!("{what}: DUMP gives a payload");
        };
        packed += usize::from(ours.starts_with(b"\x00\xc3"));
        others += usize::from(theirs != ours);
        for payload in [&theirs, &ours] {
            let mut args: Vec<&[u8]> = vec![b"RESTORE", b"k", b"0", payload, b"REPLACE"];
            let absolute = random.below(2) == 0;
            let ttl = if absolute {
                args.push(b"ABSTTL");
                random.pick(&["0", "1", "4102444800000"])
            } else {
                random.pick(&["0", "500000", "9223372036854775807"])
            };
            args[2] = ttl.as_bytes();
            assert_eq!(both(&args), (Reply::OK, Reply::OK), "{what}: {args:?}");
            let held = match ttl {
                // Long ago, the second by its overflow.
                "1" | "9223372036854775807" => Reply::Null,
                _ => Reply::Bulk(Bytes::from(value.clone())),
            };
            assert_eq!(both(&[b"GET", b"k"]), (held.clone(), held), "{what}");
            let (a, b) = both(&[b"PTTL", b"k"]);
            assert!(same("PTTL", &[], &a, &b), "{what}: {a:?} {b:?}");
        }
        // Damage behind the type, under a good checksum.
        let mut body = ours[..ours.len() - 10].to_vec();
        for _ in 0..random.below(3) {
            let at = 1 + random.below(body.len() - 1);
            body[at] = [random.next() as u8, 0x80, 0x81, 0xc3, 0xc4, 0xff][random.below(6)];
        }
        if random.below(4) == 0 {
            body.truncate(1 + random.below(body.len()));
        }
        // Redis reads behind such a payload's end.
        if body.starts_with(b"\x00\xc3\x00") {
            continue;
        }
        let payload = sealed(body, random.below(12) as u16);
        let (theirs, ours) = both(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]);
        assert_eq!(theirs, ours, "{what}: {payload:?}");
        damaged += usize::from(ours != Reply::OK);
        accepted += usize::from(ours == Reply::OK);
        let (theirs, ours) = both(&[b"GET", b"k"]);
        assert_eq!(theirs, ours, "{what}: {payload:?}");
    }
    eprintln!("{packed} packed, {others} by another table, {damaged} refused, {accepted} accepted");
    assert!(
        packed > rounds as usize / 5 && others * 100 <= packed,
        "{packed} packed, {others} of them differently"
    );
    assert!(damaged > 0 && accepted > 0, "{damaged}, {accepted}");
}

/// What OBJECT and MEMORY say of a value that was set as it is; what Redis only knows from a value's
/// history is in `docs/commands.md`.
#[test]
fn values_are_kept_as_redis_says() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, answers were compared with nothing");
        return;
    };
    let seed = from_environment("COMMANDS_SEED", 0x5eed);
    eprintln!("COMMANDS_SEED={seed}");
    let mut random = Random(seed | 1);
    let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
    let mut lsn = Lsn::ZERO;
    let (mut stream, mut parser) = (redis.connect(), ReplyParser::default());
    let mut same_of = |args: &[&[u8]]| {
        let theirs = ask(&mut stream, &mut parser, args);
        let ours = ours(&mut keyspace, &mut lsn, args, wall_clock());
        assert_eq!(encoded(&theirs), encoded(&ours), "seed {seed}: {args:?}");
    };
    for round in 0..1000 {
        let value = match random.below(3) {
            // Around the limits of what is embedded, and of shared numbers.
            0 => vec![b'x'; 40 + random.below(10)],
            1 => (random.below(30_000) as i64 - 10_000).to_string().into(),
            _ => random_value(&mut random),
        };
        same_of(&[b"SET", b"k", &value]);
        let key: &[u8] = if round % 10 == 0 { b"none" } else { b"k" };
        for question in ["ENCODING", "refcount", "FREQ"] {
            same_of(&[b"OBJECT", question.as_bytes(), key]);
        }
    }
    for line in [
        "OBJECT",
        "OBJECT x",
        "OBJECT ENCODING",
        "OBJECT FREQ a b",
        "OBJECT IDLETIME none",
        "MEMORY",
        "MEMORY x",
        "MEMORY USAGE",
        "MEMORY USAGE none",
        "MEMORY USAGE none SAMPLES 0",
        "MEMORY USAGE none samples 1 SAMPLES 2",
        "MEMORY USAGE k SAMPLES",
        "MEMORY USAGE k SAMPLES x",
        "MEMORY USAGE k SAMPLES -1",
        "MEMORY USAGE k x 1",
    ] {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        same_of(&args);
    }
    let theirs = ask(&mut stream, &mut parser, &[b"OBJECT", b"HELP"]);
    let args = ["OBJECT", "HELP"].map(Bytes::from).to_vec();
    let Ok(Command::Session(SessionCommand::Fixed(ours))) = Command::parse(&Request { args })
    else {
        panic!("OBJECT HELP helps");
    };
    assert_eq!(theirs, ours);
}

/// MEMORY USAGE adds up to what the keyspace counts.
#[test]
fn memory_usage_is_what_memory_is_used() {
    let (mut keyspace, mut lsn) = (Keyspace::new(HashSeed::new([1, 2])), Lsn::ZERO);
    let mut sum = 0;
    for number in 0..100_usize {
        let (key, value) = (number.to_string(), vec![b'v'; number * 100]);
        let mut args: Vec<&[u8]> = vec![b"SET", key.as_bytes(), &value];
        if number % 3 == 0 {
            args.extend([&b"EX"[..], b"100"]);
        }
        ours(&mut keyspace, &mut lsn, &args, Millis(1000));
        let usage: [&[u8]; 3] = [b"MEMORY", b"USAGE", key.as_bytes()];
        match ours(&mut keyspace, &mut lsn, &usage, Millis(1000)) {
            Reply::Integer(bytes) => sum += bytes as usize,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sum, keyspace.used_bytes());
}

/// What is refused before a key is looked at, and the session commands' errors.
#[test]
fn refusals_are_those_of_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, refusals were compared with nothing");
        return;
    };
    let long = "x".repeat(200);
    let requests: Vec<Vec<&str>> = vec![
        vec!["foo"],
        vec!["foo", "a", "b"],
        vec!["foo", &long, "b"],
        vec![
            "foo",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &long,
            "c",
        ],
        vec![&long, "a"],
        vec!["foo", "a\r\nb"],
        vec!["get|x", "a"],
        vec!["config|get", "a"],
        vec!["client"],
        vec!["client", "nosuch"],
        vec!["client", &long],
        vec!["client", "setname", "a b"],
        vec!["client", "setname"],
        vec!["client", "no-evict", "x"],
        vec!["client", "list", "x"],
        vec!["client", "list", "type", "x"],
        vec!["client", "list", "id", "x"],
        vec!["client", "list", "id"],
        vec!["config"],
        vec!["config", "get"],
        vec!["config", "nosuch"],
        vec!["command", "nosuch"],
        vec!["command", "list", "x"],
        vec!["command", "list", "filterby", "x", "y"],
        vec!["command", "getkeys", "nosuch"],
        vec!["command", "getkeys", "ping"],
        vec!["command", "getkeys", "get"],
        vec!["command", "getkeys", "object", "encoding", "k"],
        vec!["command", "getkeys", "object", "nosuch", "k"],
        vec!["command", "getkeys", "object", "encoding"],
        vec!["command", "getkeys", "memory", "usage", "k", "samples", "1"],
        vec!["object", "nosuch"],
        vec!["memory", "nosuch"],
        vec!["command", "getkeys", "mset", "a", "1", "b", "2"],
        vec!["command", "getkeys", "del", "a", "b"],
        vec!["command", "info", "nosuch"],
        vec![
            "command", "info", "get", "set", "del", "mset", "scan", "append", "ping", "bitop",
            "copy",
        ],
        vec!["hello", "4"],
        vec!["hello", "x"],
        vec!["hello", "2", "bogus"],
        vec!["hello", "2", "setname", "a b"],
        vec!["hello", "2", "auth", "x"],
        vec!["select", "x"],
        vec!["select", "-1"],
        vec!["select", "99999"],
        vec!["select", "99999999999"],
        vec!["ping", "a", "b"],
        vec!["echo"],
        vec!["auth"],
        vec!["auth", "a", "b", "c"],
        vec!["wait", "x", "1"],
        vec!["wait", "1", "x"],
        vec!["wait", "1", "-1"],
        vec!["subscribe"],
        vec!["publish", "a"],
        vec!["time", "a"],
        vec!["flushall", "x"],
        vec!["flushall", "sync", "x"],
        vec!["set", "k"],
        vec!["mset", "a", "1", "b"],
    ];
    let (mut stream, mut parser) = (redis.connect(), ReplyParser::default());
    for args in requests {
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let theirs = ask(&mut stream, &mut parser, &bytes);
        let request = Request {
            args: args
                .iter()
                .map(|arg| Bytes::from(arg.to_string()))
                .collect(),
        };
        let ours = match Command::parse(&request) {
            Err(reply) => reply,
            Ok(Command::Session(SessionCommand::Command(query))) => query.answer(),
            Ok(other) => panic!("{args:?} was accepted as {other:?}, Redis said {theirs:?}"),
        };
        assert_eq!(encoded(&theirs), encoded(&ours), "{args:?}");
    }
}

/// Whether Redis 7.0 does not have it yet.
fn is_later(since: &str) -> bool {
    if since.starts_with("understudy") {
        return true;
    }
    let version = since.split('.').map(|part| part.parse().unwrap_or(0));
    version.collect::<Vec<u32>>() >= vec![7, 1]
}

/// COMMAND INFO of every command that has no subcommands.
#[test]
fn the_command_table_is_that_of_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, the table was compared with nothing");
        return;
    };
    let (mut stream, mut parser) = (redis.connect(), ReplyParser::default());
    // What a later version, or Valkey, has brought is unknown to it.
    let of_keys = ["object", "memory"].map(|name| lookup(name.as_bytes()).expect("a container"));
    let simple = understudy::command::commands()
        .filter(|spec| spec.subcommands().count() == 0)
        .chain(of_keys.into_iter().flat_map(CommandSpec::subcommands))
        .filter(|spec| !is_later(spec.since));
    for spec in simple {
        let request = [&b"COMMAND"[..], b"INFO", spec.name.as_bytes()];
        let args = request
            .iter()
            .map(|arg| Bytes::copy_from_slice(arg))
            .collect();
        let Ok(Command::Session(SessionCommand::Command(query))) =
            Command::parse(&Request { args })
        else {
            panic!("COMMAND INFO is a query");
        };
        let theirs = ask(&mut stream, &mut parser, &request);
        assert_eq!(encoded(&theirs), encoded(&query.answer()), "{}", spec.name);
    }
}

/// Runs lines on a keyspace of its own, at the time 1000.
fn runner() -> impl FnMut(&str) -> Reply {
    let (mut keyspace, mut lsn) = (Keyspace::new(HashSeed::new([1, 2])), Lsn::ZERO);
    move |line| {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        ours(&mut keyspace, &mut lsn, &args, Millis(1000))
    }
}

/// IFEQ is Valkey's, so no Redis 7.0 can be asked.
#[test]
fn set_if_equal_compares_and_sets() {
    let mut run = runner();
    assert_eq!(run("SET k v IFEQ x"), Reply::Null);
    assert_eq!(run("GET k"), Reply::Null);
    assert_eq!(run("SET k v"), Reply::OK);
    assert_eq!(run("SET k w IFEQ x"), Reply::Null);
    assert_eq!(run("SET k w IFEQ v PX 100"), Reply::OK);
    assert_eq!(run("PTTL k"), Reply::Integer(100));
    assert_eq!(run("SET k x IFEQ v GET"), Reply::text("w"));
    assert_eq!(run("GET k"), Reply::text("w"));
    assert_eq!(run("SET k x IFEQ w GET KEEPTTL"), Reply::text("w"));
    assert_eq!(run("PTTL k"), Reply::Integer(100));
}

/// Every expiry beside IFEQ, with GET and without, in any order; what is refused changes nothing.
#[test]
fn set_if_equal_goes_with_every_option_that_makes_sense() {
    let mut run = runner();
    // What is left of the 500 ms that the key had before.
    let expiries = [
        ("", -1),
        ("KEEPTTL", 500),
        ("EX 7", 7000),
        ("PX 70", 70),
        ("EXAT 9", 8000),
        ("PXAT 1900", 900),
    ];
    for (expiry, left) in expiries {
        for get in ["", "GET"] {
            for order in [
                [0, 1, 2],
                [0, 2, 1],
                [1, 0, 2],
                [1, 2, 0],
                [2, 0, 1],
                [2, 1, 0],
            ] {
                for (wanted, stored) in [("old", true), ("other", false)] {
                    assert_eq!(run("SET k old PX 500"), Reply::OK);
                    let condition = format!("IFEQ {wanted}");
                    let options = order.map(|place| [&condition[..], expiry, get][place]);
                    let words = ["SET k new"].into_iter().chain(options);
                    let line: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
                    let line = line.join(" ");
                    let reply = match (get, stored) {
                        ("", true) => Reply::OK,
                        ("", false) => Reply::Null,
                        _ => Reply::text("old"),
                    };
                    assert_eq!(run(&line), reply, "{line}");
                    let value = if stored { "new" } else { "old" };
                    assert_eq!(run("GET k"), Reply::text(value), "{line}");
                    let left = Reply::Integer(if stored { left } else { 500 });
                    assert_eq!(run("PTTL k"), left, "{line}");
                    // Where there is no such key, nothing is equal to anything.
                    assert_eq!(run("DEL k"), Reply::Integer(1));
                    assert_eq!(run(&line), Reply::Null, "{line}");
                    assert_eq!(run("EXISTS k"), Reply::Integer(0), "{line}");
                }
            }
        }
    }
    let syntax_error = Reply::error("ERR syntax error");
    for clash in [
        "IFEQ x NX",
        "NX IFEQ x",
        "XX IFEQ x",
        "IFEQ x XX",
        "IFEQ x IFEQ x",
        "IFEQ",
        "GET IFEQ",
        "IFEQ x EX 1 KEEPTTL",
        "KEEPTTL IFEQ x PX 1",
        "IFEQ x PX 1 EX 1",
    ] {
        assert_eq!(run("SET k x"), Reply::OK);
        assert_eq!(run(&format!("SET k v {clash}")), syntax_error, "{clash}");
        assert_eq!(run("GET k"), Reply::text("x"), "{clash}");
    }
}

/// DELIFEQ is Valkey's, too.
#[test]
fn delete_if_equal_compares_and_deletes() {
    let mut run = runner();
    assert_eq!(run("DELIFEQ k v"), Reply::Integer(0));
    assert_eq!(run("SET k v PX 100"), Reply::OK);
    assert_eq!(run("DELIFEQ k w"), Reply::Integer(0));
    assert_eq!(run("DELIFEQ k "), Reply::Integer(0));
    assert_eq!(run("GET k"), Reply::text("v"));
    assert_eq!(run("delifeq k v"), Reply::Integer(1));
    assert_eq!(run("DELIFEQ k v"), Reply::Integer(0));
    assert_eq!(run("EXISTS k"), Reply::Integer(0));
    // An expired key is none.
    assert_eq!(run("SET k v PXAT 999"), Reply::OK);
    assert_eq!(run("DELIFEQ k v"), Reply::Integer(0));
    let arity = "ERR wrong number of arguments for 'delifeq' command";
    assert_eq!(run("DELIFEQ k"), Reply::error(arity));
    assert_eq!(run("DELIFEQ k v w"), Reply::error(arity));
}

/// The table says what Redis says, so a command is a write here exactly where Redis flags it.
#[test]
fn writes_are_those_the_table_flags() {
    for (line, is_write) in [
        ("GET k", false),
        ("GETEX k", true),
        ("SET k v", true),
        ("DEL k", true),
        ("DELIFEQ k v", true),
        ("TTL k", false),
    ] {
        let args: Vec<Bytes> = line
            .split(' ')
            .map(|arg| Bytes::from(arg.to_owned()))
            .collect();
        let spec = lookup(&args[0]).expect("a known command");
        let Ok(Command::Keys(command)) = Command::parse(&Request { args }) else {
            panic!("{line} is a key command");
        };
        assert_eq!(KeyCommand::is_write(&command), is_write);
        assert_eq!(spec.has_flag("write"), is_write);
    }
}
