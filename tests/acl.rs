//! ACL: rules, permissions and their log, as Redis has them.
//!
//! `ACL_SEED=n` repeats the comparisons with Redis, `ACL_COUNT=n` makes them longer.

mod common;
mod reference;

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use common::{Lab, alone};
use reference::{Client, Random, Redis, encoded, encoded_as, from_environment};
use understudy::resp::{Reply, Version};

/// Rules about single commands come out of Redis in the order of a hash table: the words of each text
/// are compared in order of the alphabet.
fn normal(reply: &Reply) -> Reply {
    match reply {
        Reply::Bulk(text) if text.starts_with(b"-@all") || text.starts_with(b"+@all") => {
            let mut words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
            // Redis 7.0 has no such commands.
            let theirs = |word: &&[u8]| {
                let name = word.get(1..).unwrap_or_default();
                let later = |since: &str| !since.starts_with("7.0") && since >= "7";
                let later = understudy::command::lookup(name).is_some_and(|it| later(it.since));
                !later && !name.starts_with(b"sentinel")
            };
            words.retain(theirs);
            words.sort_unstable();
            Reply::Bulk(Bytes::from(words.join(&b' ')))
        }
        // HELLO tells another version and another connection.
        Reply::Array(items) if items.first() == Some(&Reply::text("server")) => Reply::OK,
        Reply::Map(pairs)
            if pairs
                .first()
                .is_some_and(|(key, _)| *key == Reply::text("server")) =>
        {
            Reply::OK
        }
        Reply::Array(items) => Reply::Array(items.iter().map(normal).collect()),
        Reply::Map(pairs) => {
            Reply::Map(pairs.iter().map(|(k, v)| (normal(k), normal(v))).collect())
        }
        other => other.clone(),
    }
}

const NAMES: [&str; 24] = [
    "get",
    "set",
    "mget",
    "del",
    "exists",
    "copy",
    "bitop",
    "bitfield",
    "config",
    "config|get",
    "client",
    "client|id",
    "acl",
    "acl|whoami",
    "publish",
    "subscribe",
    "psubscribe",
    "lpush",
    "debug",
    "object|freq",
    "nosuch",
    "SELECT",
    "Config|SET",
    "getex",
];
const CATEGORIES: [&str; 12] = [
    "read",
    "write",
    "string",
    "keyspace",
    "admin",
    "dangerous",
    "fast",
    "slow",
    "connection",
    "pubsub",
    "transaction",
    "nosuch",
];
const PATTERNS: [&str; 8] = ["a*", "*", "b?", "[a-c]1", "key", "", "\\*", "a b"];
const WORDS: [&str; 22] = [
    "on",
    "off",
    "nopass",
    "resetpass",
    "allkeys",
    "resetkeys",
    "allchannels",
    "resetchannels",
    "allcommands",
    "nocommands",
    "+@all",
    "-@all",
    "reset",
    "clearselectors",
    "sanitize-payload",
    "skip-sanitize-payload",
    "ON",
    "what",
    "",
    ")",
    "#abc",
    "+",
];

fn random_permission(random: &mut Random) -> String {
    let sign = random.pick(&["+", "+", "-"]).to_string();
    match random.below(12) {
        0..=3 => sign + random.pick(&NAMES),
        4 | 5 => sign + "@" + random.pick(&CATEGORIES),
        6 => format!(
            "+{}|{}",
            random.pick(&NAMES),
            random.pick(&["get", "x", "", "0"])
        ),
        7 | 8 => "~".to_string() + random.pick(&PATTERNS),
        9 => {
            let letters = random.pick(&["R", "w", "RW", "", "X", "rr"]);
            format!("%{letters}~{}", random.pick(&PATTERNS))
        }
        10 => "&".to_string() + random.pick(&PATTERNS),
        _ => random
            .pick(&["%R", "resetkeys", "~*", "&*", "+@all", "-@all"])
            .to_string(),
    }
}

fn random_rule(random: &mut Random) -> String {
    match random.below(16) {
        0..=9 => random_permission(random),
        10 | 11 => random.pick(&WORDS).to_string(),
        12 => random.pick(&[">", "<", "#", "!"]).to_string() + random.pick(&["p", "q", ""]),
        13 => {
            let digest = "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940";
            random.pick(&["#", "!"]).to_string() + digest
        }
        _ => {
            let count = random.below(4);
            let rules: Vec<String> = (0..count).map(|_| random_permission(random)).collect();
            let close = random.pick(&[")", ")", ")", " )", ""]);
            format!("({}{close}", rules.join(" "))
        }
    }
}

fn random_request(random: &mut Random) -> Vec<&'static str> {
    let key = |random: &mut Random| random.pick(&["a1", "b1", "c1", "key", "*", "", "x"]);
    let (one, other) = (key(random), key(random));
    match random.below(26) {
        0 => vec!["get", one],
        1 => vec!["set", one, "v"],
        2 => vec!["set", one, "v", "GET"],
        3 => vec!["set", one, "get", "EX", "5"],
        4 => vec!["mget", one, other, "a1"],
        5 => vec!["copy", one, other],
        6 => vec!["rename", one, other],
        7 => vec!["bitop", "and", one, other, "a1"],
        8 => vec!["bitfield", one, "get", "u8", "0"],
        9 => vec![
            "bitfield", one, "get", "u8", "0", "overflow", "wrap", "incrby", "u8", "0", "1",
        ],
        10 => vec!["bitfield", one, "overflow", "sat", "get", "u8"],
        11 => vec!["mset", one, "1", other, "2"],
        12 => vec!["del", one, other],
        13 => vec!["exists", one],
        14 => vec!["getex", one],
        15 => vec!["publish", one, "m"],
        16 => vec!["subscribe", one, other],
        17 => vec!["psubscribe", one, other],
        18 => vec!["config", "get", "a"],
        19 => vec!["client", "ID"],
        20 => vec!["select", random.pick(&["0", "X"])],
        21 => vec!["acl", random.pick(&["whoami", "list", "nosuch"])],
        22 => vec!["client"],
        23 => vec!["nosuch", "a"],
        24 => vec!["GET"],
        _ => vec!["ping"],
    }
}

#[test]
fn rules_mean_what_they_mean_in_redis() {
    rules_mean_the_same(Version::Resp2, 11);
}

#[test]
fn rules_mean_what_they_mean_in_redis_over_resp3() {
    rules_mean_the_same(Version::Resp3, 13);
}

fn rules_mean_the_same(version: Version, seed: u64) {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, replies were compared with nothing");
        return;
    };
    let (lab, node) = Lab::start(alone());
    let mut pair = [Client::over(redis.connect()), Client::to(lab.addr(node))];
    for client in &mut pair {
        client.speaks(version);
    }
    let seed = from_environment("ACL_SEED", seed);
    let rounds = from_environment("ACL_COUNT", 2000);
    eprintln!("ACL_SEED={seed} ACL_COUNT={rounds}");
    let mut random = Random(seed | 1);
    let (mut taken, mut permitted, mut refused) = (0, 0, 0);
    for round in 0..rounds {
        let name = random.pick(&["u", "v"]);
        let mut both = |words: &[&str]| {
            let [theirs, ours] = pair.each_mut().map(|client| client.send(words));
            assert_eq!(
                encoded_as(version, &normal(&theirs)),
                encoded_as(version, &normal(&ours)),
                "seed {seed}, round {round}: {words:?}"
            );
            ours
        };
        let rules: Vec<String> = (0..1 + random.below(4))
            .map(|_| random_rule(&mut random))
            .collect();
        let mut words = vec!["ACL", "SETUSER", name];
        words.extend(rules.iter().map(String::as_str));
        taken += u64::from(both(&words) == Reply::OK);
        both(&["ACL", "GETUSER", name]);
        for _ in 0..4 {
            let mut words = vec!["ACL", "DRYRUN", name];
            words.extend(random_request(&mut random));
            match both(&words) {
                Reply::Simple(_) => permitted += 1,
                Reply::Bulk(_) => refused += 1,
                _ => {}
            }
        }
        match random.below(40) {
            0 => drop(both(&["ACL", "DELUSER", name, "nobody"])),
            1 => drop(both(&["ACL", "SETUSER", name, "reset", "+@all", "~*"])),
            2 => drop(both(&["ACL", "USERS"])),
            3 => drop(both(&[
                "ACL",
                "SETUSER",
                name,
                "reset",
                "+@all",
                random.pick(&["-@admin", "-get", "-@dangerous"]),
            ])),
            _ => {}
        }
    }
    assert!(
        taken > rounds / 4 && permitted > rounds / 2 && refused > rounds / 2,
        "{taken} taken, {permitted} permitted, {refused} refused: too few to mean anything"
    );
}

/// Connections that authenticate, are refused, and queue transactions, while their users change.
#[test]
fn connections_are_let_in_and_refused_as_in_redis() {
    let Some(redis) = Redis::start() else {
        eprintln!("SKIPPED: no redis-server on PATH, replies were compared with nothing");
        return;
    };
    let (lab, node) = Lab::start(alone());
    let seed = from_environment("ACL_SEED", 12);
    let rounds = from_environment("ACL_COUNT", 2000);
    eprintln!("ACL_SEED={seed} ACL_COUNT={rounds}");
    let mut random = Random(seed | 1);
    let pair = || [Client::over(redis.connect()), Client::to(lab.addr(node))];
    let mut admin = pair();
    let mut clients = [pair(), pair()];
    let both = |pair: &mut [Client; 2], words: &[&str], round: u64| {
        let [theirs, ours] = pair.each_mut().map(|client| client.send(words));
        assert_eq!(
            encoded_as(Version::Resp3, &normal(&theirs)),
            encoded_as(Version::Resp3, &normal(&ours)),
            "seed {seed}, round {round}: {words:?}"
        );
        ours
    };
    both(
        &mut admin,
        &[
            "ACL",
            "SETUSER",
            "root",
            "on",
            "nopass",
            "allkeys",
            "allchannels",
            "+@all",
        ],
        0,
    );
    both(&mut admin, &["AUTH", "root", "x"], 0);
    let (mut refused, mut aborted) = (0, 0);
    let mut began = [false; 2];
    for round in 0..rounds {
        if random.below(12) == 0 {
            // An open transaction would be refused whole here, and command by command there.
            for client in &mut clients {
                both(client, &["RESET"], round);
            }
            let rules: Vec<String> = (0..1 + random.below(3))
                .map(|_| random_rule(&mut random))
                .collect();
            let name = random.pick(&["u", "u", "v", "default"]);
            let mut words = vec!["ACL", "SETUSER", name];
            words.extend(rules.iter().map(String::as_str));
            both(&mut admin, &words, round);
            if random.below(3) == 0 {
                both(&mut admin, &["ACL", "SETUSER", name, "on", ">p"], round);
            }
            continue;
        }
        let client = random.below(2);
        let words = match random.below(20) {
            0 | 1 => vec![
                "auth",
                random.pick(&["u", "v", "default"]),
                random.pick(&["p", "p", "q"]),
            ],
            2 => vec!["auth", "p"],
            3 => vec![
                "hello",
                random.pick(&["2", "3"]),
                "AUTH",
                random.pick(&["u", "v"]),
                "p",
            ],
            4 => vec!["MULTI"],
            5 => vec!["EXEC"],
            6 => vec!["DISCARD"],
            7 => vec!["ACL", "WHOAMI"],
            8 => vec!["RESET"],
            _ => match random_request(&mut random) {
                // What they tell is another node's.
                words
                    if ["subscribe", "psubscribe", "config", "client", "acl"]
                        .contains(&words[0]) =>
                {
                    vec!["PING"]
                }
                // Longer ones end a connection that has not authenticated.
                words if words.len() > 10 => vec!["PING"],
                words => words,
            },
        };
        // Behind an AUTH in a transaction, Redis judges again.
        let signs_in = ["auth", "hello"].contains(&words[0]);
        if signs_in && std::mem::take(&mut began[client]) {
            both(&mut clients[client], &["RESET"], round);
        }
        began[client] |= words == ["MULTI"];
        match both(&mut clients[client], &words, round) {
            Reply::Error(text) if text.starts_with("NOPERM") => refused += 1,
            Reply::Error(text) if text.starts_with("EXECABORT") => aborted += 1,
            _ => {}
        }
    }
    let logs = admin
        .each_mut()
        .map(|client| client.send(&["ACL", "LOG", "5"]));
    let [theirs, ours] = logs.map(|log| entries(&log));
    assert_eq!(theirs, ours);
    assert!(
        refused > rounds / 20 && aborted > rounds / 200,
        "{refused} refused, {aborted} aborted: too few to mean anything"
    );
}

/// Of each entry of ACL LOG: count, reason, context, object and username.
fn entries(log: &Reply) -> Vec<Vec<Bytes>> {
    let Reply::Array(entries) = log else {
        panic!("no log: {log:?}");
    };
    let values = |entry: &Reply| {
        let Reply::Array(fields) = entry else {
            panic!("no entry: {entry:?}");
        };
        fields
            .iter()
            .skip(1)
            .step_by(2)
            .take(5)
            .map(encoded)
            .collect()
    };
    entries.iter().map(values).collect()
}

#[test]
fn permissions_that_are_taken_away_are_gone_everywhere() {
    let (lab, node) = Lab::start(alone());
    let connect = || Client::to(lab.addr(node));
    let mut admin = connect();
    admin.ok("ACL SETUSER u on nopass ~* &* +@all");
    let logged_in = |user: &str| {
        let mut client = connect();
        client.ok(&format!("AUTH {user} x"));
        client
    };
    let mut client = logged_in("u");
    assert!(client.text("CLIENT INFO").contains(" user=u "));
    // What was queued under other rules is not carried out.
    client.ok("MULTI");
    assert_eq!(client.text("SET a 1"), "+QUEUED");
    admin.ok("ACL SETUSER u -set");
    assert!(
        client.text("EXEC").starts_with("-EXECABORT "),
        "the rule is gone"
    );
    assert_eq!(admin.text("GET a"), "$-1");
    assert!(client.text("SET a 1").starts_with("-NOPERM "));
    client.ok("MULTI");
    assert_eq!(client.text("GET a"), "+QUEUED");
    admin.ok("ACL SETUSER other on");
    assert_eq!(
        client.text("EXEC"),
        "*1 $-1",
        "another's rules are not its own"
    );
    // Who listens to what it may not is disconnected.
    let mut listener = logged_in("u");
    assert_eq!(
        listener.text("SUBSCRIBE news"),
        "*3 $9 subscribe $4 news :1"
    );
    let mut allowed = logged_in("u");
    assert_eq!(allowed.text("SUBSCRIBE chat"), "*3 $9 subscribe $4 chat :1");
    admin.ok("ACL SETUSER u resetchannels &chat");
    assert!(listener.is_closed());
    assert_eq!(admin.text("PUBLISH chat hello"), ":1");
    // And who is nobody any more.
    let mut own = logged_in("u");
    assert_eq!(admin.text("ACL DELUSER u other nobody"), ":2");
    assert!(client.is_closed());
    assert!(own.is_closed());
    admin.ok("ACL SETUSER w on nopass +@all");
    let mut own = logged_in("w");
    assert_eq!(own.text("ACL DELUSER w"), ":1", "it is still told");
    assert!(own.is_closed());
}

#[test]
fn users_are_kept_in_a_file() {
    let mut lab = Lab::prepare(alone(), |_, text| text);
    let file = lab.path("users.acl");
    let config = lab.config_file(1);
    let text = fs::read_to_string(&config).expect("it was just written");
    let auth = format!("\n[auth]\nacl_file = '{}'\n", file.display());
    fs::write(&config, text + &auth).expect("it is ours");
    fs::write(
        &file,
        "user default on >p ~* &* +@all\nuser reader on nopass ~* +get\n",
    )
    .expect("it is ours");
    lab.cluster.start_all().expect("it starts");
    let node = lab.ready();
    let mut admin = Client::to(lab.addr(node));
    assert_eq!(admin.text("PING"), "-NOAUTH Authentication required.");
    admin.ok("AUTH p");
    let mut reader = Client::to(lab.addr(node));
    reader.ok("AUTH reader any");
    assert_eq!(reader.text("GET a"), "$-1");
    assert!(reader.text("SET a 1").starts_with("-NOPERM "));
    admin.ok("ACL SETUSER reader +set");
    admin.ok("ACL SETUSER more on >q +ping (~x +lpush)");
    admin.ok("ACL SAVE");
    let saved = fs::read_to_string(&file).expect("it was written");
    let lines: Vec<&str> = saved.lines().collect();
    assert_eq!(lines.len(), 3, "{saved}");
    assert!(lines[0].starts_with("user default on #"));
    assert!(
        lines[1].starts_with("user more on #")
            && lines[1].ends_with("(~x resetchannels -@all +lpush)")
    );
    assert_eq!(
        lines[2],
        "user reader on nopass ~* resetchannels -@all +get +set"
    );
    // A file with a mistake changes nothing.
    fs::write(
        &file,
        "user default on nopass ~* &* +@all\nuser reader on +nosuch\n",
    )
    .expect("ours");
    let wrong = admin.text("ACL LOAD");
    assert!(
        wrong.contains("Unknown command or category name in ACL"),
        "{wrong}"
    );
    reader.ok("SET a 1");
    // A good one does, at once; who is not in it is disconnected.
    let mut more = Client::to(lab.addr(node));
    more.ok("AUTH more q");
    fs::write(
        &file,
        "user default on >p ~* &* +@all\nuser reader on nopass ~* +get\n",
    )
    .expect("ours");
    admin.ok("ACL LOAD");
    assert!(more.is_closed());
    assert!(reader.text("SET a 2").starts_with("-NOPERM "));
    assert_eq!(reader.text("GET a"), "$1 1");
    // A node with a wrong file does not start, and says why.
    lab.cluster.stop(node, common::PATIENCE).expect("it stops");
    fs::write(&file, "user x on +nosuch\n").expect("ours");
    let refused = assert_cmd::Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["serve", "--config", &config.to_string_lossy()])
        .timeout(Duration::from_secs(30))
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("users.acl:1: Unknown command or category name in ACL"),
        "{said}"
    );
}
