//! CONFIG, SLOWLOG, LATENCY, MEMORY and INFO of a node.

mod common;
mod reference;

use std::net::SocketAddr;

use common::{Lab, alone};
use reference::{Client, Redis, answers_as};
use understudy::resp::Reply;

struct Raw(Client);

impl Raw {
    fn to(addr: SocketAddr) -> Raw {
        Raw(Client::to(addr))
    }

    fn ask(&mut self, request: &str) -> Reply {
        self.0.ask(request)
    }

    fn text(&mut self, request: &str) -> String {
        match self.ask(request) {
            Reply::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{request}: {other:?}"),
        }
    }

    fn list(&mut self, request: &str) -> Vec<Reply> {
        match self.ask(request) {
            Reply::Array(list) => list,
            other => panic!("{request}: {other:?}"),
        }
    }
}

const SAME: &[&str] = &[
    "CONFIG",
    "CONFIG x",
    "CONFIG SET",
    "CONFIG SET a",
    "CONFIG SET a b",
    "CONFIG SET maxclients x",
    "CONFIG SET maxclients 0",
    "CONFIG SET maxclients 100 maxclients 200",
    "CONFIG SET maxclients 100 bogus 3",
    "CONFIG SET bogus 3 maxclients x",
    "CONFIG SET maxclients 100 b",
    "CONFIG SET databases 3",
    "CONFIG SET databases 3 maxclients x",
    "CONFIG SET maxclients x databases 3",
    "CONFIG SET slowlog-log-slower-than x",
    "CONFIG SET slowlog-log-slower-than -2",
    "CONFIG SET slowlog-max-len 12x",
    "CONFIG SET slowlog-max-len ''",
    "CONFIG SET latency-monitor-threshold x",
    "CONFIG SET notify-keyspace-events q",
    "CONFIG SET notify-keyspace-events KEA",
    "CONFIG GET notify-keyspace-events",
    "CONFIG SET notify-keyspace-events K$mEx",
    "CONFIG GET notify-keyspace-events",
    "CONFIG SET notify-keyspace-events ''",
    "CONFIG GET notify-keyspace-events",
    "CONFIG SET slowlog-max-len 5 slowlog-log-slower-than x",
    "CONFIG GET slowlog-max-len",
    "CONFIG SET MAXCLIENTS 100 SlowLog-Max-Len 64",
    "CONFIG GET maxclients",
    "CONFIG GET SLOWLOG-max-len",
    "CONFIG GET nosuch",
    "CONFIG GET",
    "CONFIG RESETSTAT",
    "CONFIG RESETSTAT x",
    "CONFIG SET slowlog-log-slower-than -1",
    "SLOWLOG RESET",
    "SLOWLOG GET x",
    "SLOWLOG GET -2",
    "SLOWLOG GET -1",
    "SLOWLOG GET",
    "SLOWLOG GET 0",
    "SLOWLOG GET 1 2",
    "SLOWLOG LEN",
    "SLOWLOG LEN x",
    "SLOWLOG x",
    "SLOWLOG HELP",
    "LATENCY LATEST",
    "LATENCY HISTORY x",
    "LATENCY HISTORY",
    "LATENCY RESET",
    "LATENCY RESET a",
    "LATENCY GRAPH x",
    "LATENCY DOCTOR",
    "LATENCY x",
    "LATENCY HELP",
    "CONFIG SET latency-monitor-threshold 1000000",
    "LATENCY DOCTOR",
    "MEMORY DOCTOR",
    "MEMORY PURGE",
    "MEMORY x",
];

#[test]
fn the_server_answers_as_redis_does() {
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let (lab, node) = Lab::start(alone());
    answers_as(&redis, lab.addr(node), SAME);
}

#[test]
fn what_is_set_holds_and_is_written_back() {
    let (mut lab, node) = Lab::start(alone());
    let path = lab.config_file(node);
    let before = std::fs::read_to_string(&path).expect("its configuration");
    let commented = format!("# kept\n{before}");
    std::fs::write(&path, &commented).expect("it is ours");
    let mut client = Raw::to(lab.addr(node));
    let mut second = Raw::to(lab.addr(node));
    assert_eq!(second.ask("PING"), Reply::Simple("PONG".into()));
    let set = "CONFIG SET maxclients 2 notify-keyspace-events KEA slowlog-max-len 7";
    assert_eq!(client.ask(set), Reply::OK);
    let refused = Raw::to(lab.addr(node)).ask("PING");
    assert!(refused.is_error(), "a third client was served: {refused:?}");
    assert_eq!(client.ask("CONFIG REWRITE"), Reply::OK);
    let after = std::fs::read_to_string(&path).expect("its configuration");
    assert!(after.starts_with("# kept\n"), "{after}");
    for line in [
        "max_clients = 2",
        "notify_keyspace_events = \"AKE\"",
        "slowlog_max_len = 7",
    ] {
        assert!(after.contains(line), "{line}: {after}");
    }
    lab.cluster.kill9(node).expect("it runs");
    lab.cluster.start(node).expect("it starts with that file");
    lab.ready();
    let value = Raw::to(lab.addr(node)).list("CONFIG GET slowlog-max-len");
    assert_eq!(value, ["slowlog-max-len", "7"].map(Reply::text));
}

#[test]
fn all_of_a_config_set_or_nothing() {
    let (lab, node) = Lab::start(alone());
    let mut client = Raw::to(lab.addr(node));
    let value = |client: &mut Raw| client.list("CONFIG GET slowlog-max-len");
    let before = value(&mut client);
    for wrong in [
        "maxclients x",
        "databases 2",
        "nosuch 1",
        "server.slowlog_max_len 9",
    ] {
        assert!(
            client
                .ask(&format!("CONFIG SET slowlog-max-len 9 {wrong}"))
                .is_error()
        );
        assert_eq!(value(&mut client), before, "{wrong}");
    }
    let all = client.list("CONFIG GET *");
    assert!(all.len() > 80 && all.len().is_multiple_of(2));
}

/// The words of a slow log's entry.
fn words(entry: &Reply) -> Vec<String> {
    let Reply::Array(fields) = entry else {
        panic!("{entry:?}");
    };
    assert_eq!(fields.len(), 6);
    let Reply::Array(words) = &fields[3] else {
        panic!("{entry:?}");
    };
    let text = |word: &Reply| match word {
        Reply::Bulk(word) => String::from_utf8_lossy(word).into_owned(),
        other => panic!("{other:?}"),
    };
    words.iter().map(text).collect()
}

#[test]
fn slow_executions_are_logged() {
    let (lab, node) = Lab::start(alone());
    let mut client = Raw::to(lab.addr(node));
    assert_eq!(
        client.ask("CONFIG SET slowlog-log-slower-than 0"),
        Reply::OK
    );
    client.ask("SET key value");
    assert_eq!(words(&client.list("SLOWLOG GET 1")[0]), ["SET", "key"]);
    client.ask("MULTI");
    client.ask("GET key");
    client.ask("DEL key");
    client.ask("EXEC");
    let wanted = [
        "EXEC",
        "(2 commands, executed together)",
        "GET",
        "key",
        "DEL",
        "key",
    ];
    assert_eq!(words(&client.list("SLOWLOG GET 1")[0]), wanted);
    client.ask("CONFIG SET slowlog-max-len 3");
    for _ in 0..9 {
        client.ask("GET key");
    }
    assert_eq!(client.ask("SLOWLOG LEN"), Reply::Integer(3));
    assert_eq!(client.ask("SLOWLOG RESET"), Reply::OK);
    assert_eq!(client.ask("SLOWLOG LEN"), Reply::Integer(0));
}

#[test]
fn what_takes_long_is_remembered() {
    let (lab, node) = Lab::start(alone());
    let mut client = Raw::to(lab.addr(node));
    client.ask("CONFIG SET latency-monitor-threshold 1");
    // 40 MB are made, summed up and logged.
    client.ask("SETRANGE big 40000000 x");
    let names: Vec<Reply> = client
        .list("LATENCY LATEST")
        .into_iter()
        .map(|event| match event {
            Reply::Array(fields) => fields[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    for event in ["command", "commit"] {
        assert!(names.contains(&Reply::text(event)), "{event}: {names:?}");
    }
    assert!(!client.list("LATENCY HISTORY commit").is_empty());
    assert!(
        client
            .text("LATENCY GRAPH command")
            .starts_with("command - high ")
    );
    assert!(client.text("LATENCY DOCTOR").contains("commit rule"));
    let Reply::Integer(reset) = client.ask("LATENCY RESET") else {
        panic!("no number");
    };
    assert_eq!(reset as usize, names.len());
    assert!(client.list("LATENCY LATEST").is_empty());
}

#[test]
fn info_counts_and_forgets() {
    let (lab, node) = Lab::start(alone());
    let mut client = Raw::to(lab.addr(node));
    client.ask("SET key value");
    client.ask("GET key");
    client.ask("MGET key nosuch");
    client.ask("INCR key");
    let stats = client.text("INFO stats");
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).to_string()
    };
    assert_eq!(field(&stats, "keyspace_hits"), "2");
    assert_eq!(field(&stats, "keyspace_misses"), "1");
    assert_eq!(field(&stats, "total_error_replies"), "1");
    assert_eq!(client.ask("CONFIG RESETSTAT"), Reply::OK);
    assert_eq!(field(&client.text("INFO stats"), "keyspace_hits"), "0");
    let two = client.text("INFO cluster KEYSPACE");
    assert_eq!(
        two,
        "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
    );
    assert_eq!(client.text("INFO nosuch"), "");
    client.ask("GET key");
    let found = client.list("LATENCY HISTOGRAM get nosuch");
    assert_eq!(found.len(), 2, "name and numbers of one: {found:?}");
    assert_eq!(found[0], Reply::text("get"));
    let sections = |request| {
        let text = Raw::to(lab.addr(node)).text(request);
        let titles = text.lines().filter(|line| line.starts_with("# "));
        titles.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(sections("INFO"), sections("INFO default"));
    assert_eq!(sections("INFO everything"), sections("INFO all"));
    let more: Vec<String> = sections("INFO all");
    let more = more
        .iter()
        .filter(|title| !sections("INFO").contains(title));
    assert_eq!(more.collect::<Vec<_>>(), ["# Commandstats"]);
}

#[test]
fn timeout_closes_clients_that_ask_nothing_but_no_subscribers() {
    let (lab, node) = Lab::start(alone());
    let (mut idle, mut hears) = (Raw::to(lab.addr(node)), Raw::to(lab.addr(node)));
    let mut busy = Raw::to(lab.addr(node));
    hears.ask("SUBSCRIBE news");
    assert_eq!(idle.ask("PING"), Reply::Simple("PONG".into()));
    assert!(busy.ask("CONFIG SET timeout -1").is_error());
    assert_eq!(busy.ask("CONFIG SET timeout 1"), Reply::OK);
    let value = busy.list("CONFIG GET timeout");
    assert_eq!(value, ["timeout", "1"].map(Reply::text));
    let ends = std::thread::spawn(move || std::io::Read::read(&mut idle.0.stream, &mut [0; 1]));
    common::until("the end of the idle client", || {
        assert_eq!(busy.ask("PING"), Reply::Simple("PONG".into()));
        ends.is_finished().then_some(())
    });
    let end = ends.join().expect("it does not panic");
    assert!(matches!(end, Ok(0)), "it was not closed: {end:?}");
    // The subscriber did as little for longer.
    assert_eq!(busy.ask("PUBLISH news x"), Reply::Integer(1));
}

/// What exporters make metrics and alerts of.
#[test]
fn info_has_what_exporters_read() {
    let (lab, node) = Lab::start(alone());
    let mut client = Raw::to(lab.addr(node));
    client.ask("SET key value");
    let text = client.text("INFO everything");
    let fields: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    for wanted in [
        "uptime_in_seconds process_id connected_clients blocked_clients tracking_clients maxclients",
        "used_memory used_memory_rss used_memory_peak maxmemory mem_fragmentation_ratio",
        "loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time",
        "rdb_last_bgsave_status aof_enabled aof_last_write_status aof_rewrite_in_progress",
        "aof_last_bgrewrite_status total_connections_received total_commands_processed",
        "instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes rejected_connections",
        "expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns",
        "total_error_replies role connected_slaves master_repl_offset used_cpu_sys used_cpu_user",
        "cmdstat_set cluster_enabled db0",
    ] {
        for wanted in wanted.split(' ') {
            let found = fields.iter().find(|(name, _)| *name == wanted);
            let (_, value) = found.unwrap_or_else(|| panic!("{wanted} is missing in {text}"));
            assert!(!value.is_empty(), "{wanted} is empty");
        }
    }
    let number = |wanted: &str| -> f64 {
        let found = fields.iter().find(|(name, _)| *name == wanted);
        let found = found.and_then(|(_, value)| value.parse().ok());
        found.unwrap_or_else(|| panic!("{wanted} is no number"))
    };
    assert!(number("used_memory_rss") > number("used_memory"));
    assert!(number("used_memory_peak") >= number("used_memory"));
    assert!(
        number("rdb_changes_since_last_save") >= 1.0,
        "EpochStart and a SET"
    );
    assert!(number("rdb_last_save_time") > 1.7e9, "seconds");
}
