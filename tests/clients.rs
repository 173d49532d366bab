//! Stock clients: the redis crate over RESP2 and RESP3, redis-cli and redis-benchmark where they
//! are installed (skipped loudly where not), and what Sentinel-aware clients ask.

mod common;

use std::collections::HashMap;
use std::process::{Command, Output, Stdio};

use common::{Lab, connect_with, text, until};
use understudy::cli::local_cluster::Plan;

fn modes() -> [Plan; 3] {
    let pair = Plan::pair_with_witness("shop");
    [
        Plan {
            mode: "async".to_owned(),
            level: None,
            ..pair.clone()
        },
        pair.clone(),
        Plan {
            mode: "sync".to_owned(),
            level: None,
            ..pair
        },
    ]
}

#[test]
fn the_redis_crate_works_over_resp2_and_resp3() {
    let (lab, primary) = Lab::start(Plan::three_data_nodes("shop"));
    for resp3 in [false, true] {
        let mut client = connect_with(lab.addr(primary), resp3).expect("it connects");
        let mut ask = |words: &[&str]| -> redis::Value {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let value = command.query(&mut client);
            value.unwrap_or_else(|error| panic!("{words:?}: {error}"))
        };
        use redis::Value::{BulkString, Int, Nil, Okay};
        let bulk = |text: &str| BulkString(text.as_bytes().to_vec());
        ask(&["FLUSHALL"]);
        assert_eq!(ask(&["SET", "a", "1"]), Okay);
        assert_eq!(ask(&["GET", "a"]), bulk("1"));
        assert_eq!(ask(&["GET", "none"]), Nil);
        assert_eq!(ask(&["INCRBY", "a", "41"]), Int(42));
        assert_eq!(ask(&["SET", "a", "x", "NX"]), Nil);
        assert_eq!(ask(&["SET", "a", "43", "IFEQ", "42", "GET"]), bulk("42"));
        assert_eq!(ask(&["MSET", "b", "2", "c", "3"]), Okay);
        let all = redis::Value::Array(vec![bulk("43"), bulk("2"), Nil]);
        assert_eq!(ask(&["MGET", "a", "b", "d"]), all);
        assert_eq!(ask(&["PEXPIRE", "b", "100000"]), Int(1));
        assert!(matches!(ask(&["PTTL", "b"]), Int(1..=100_000)));
        assert_eq!(ask(&["DEL", "b", "c", "d"]), Int(2));
        assert_eq!(ask(&["DBSIZE"]), Int(1));

        let pipelined: (String, i64, Option<String>) = redis::pipe()
            .cmd("SET")
            .arg("p")
            .arg(1)
            .cmd("INCR")
            .arg("p")
            .cmd("GET")
            .arg("q")
            .query(&mut client)
            .expect("a pipeline");
        assert_eq!(pipelined, ("OK".to_owned(), 2, None));
        let wrong = redis::cmd("HSET").arg(&["h", "f", "v"]).exec(&mut client);
        let wrong = wrong.expect_err("not a command here").to_string();
        assert!(wrong.contains("unknown command"), "{wrong}");
        let mut keys: Vec<String> = redis::cmd("SCAN")
            .cursor_arg(0)
            .clone()
            .iter(&mut client)
            .expect("a scan")
            .map(|key| key.expect("a key"))
            .collect();
        keys.sort();
        assert_eq!(keys, ["a", "p"]);
    }
}

#[test]
fn a_transport_that_stays_open_reads_its_own_writes() {
    let (lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let mut client = lab.connect(primary);
    for n in 0..200 {
        let read: i64 = redis::pipe()
            .cmd("SET")
            .arg("n")
            .arg(n)
            .ignore()
            .cmd("GET")
            .arg("n")
            .query::<(i64,)>(&mut client)
            .expect("a pipeline")
            .0;
        assert_eq!(read, n);
    }
    let load = lab.load(2, 1);
    load.more(20);
    let ledger = load.stop();
    lab.has_all(primary, &ledger);
}

/// The primary's client address, as this node tells it to Sentinel-aware clients.
fn asked_master(lab: &Lab, node: u32) -> Option<String> {
    let mut client = lab.connect(node);
    let (host, port): (String, String) = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg("shop")
        .query(&mut client)
        .ok()?;
    Some(format!("{host}:{port}"))
}

#[test]
fn every_node_tells_sentinel_aware_clients_who_is_primary() {
    let (mut lab, first) = Lab::start(Plan::pair_with_witness("shop"));
    for node in [1, 2, 3] {
        let expected = lab.addr(first).to_string();
        assert_eq!(asked_master(&lab, node), Some(expected.clone()));
        let mut client = lab.connect(node);
        let masters: Vec<HashMap<String, String>> = redis::cmd("SENTINEL")
            .arg("MASTERS")
            .query(&mut client)
            .expect("SENTINEL MASTERS");
        assert_eq!(masters.len(), 1);
        let master = &masters[0];
        assert_eq!(format!("{}:{}", master["ip"], master["port"]), expected);
        assert_eq!(master["name"], "shop");
        let list = |what: &str| -> usize {
            let mut client = lab.connect(node);
            let all: Vec<HashMap<String, String>> = redis::cmd("SENTINEL")
                .arg(what)
                .arg("shop")
                .query(&mut client)
                .unwrap_or_else(|error| panic!("SENTINEL {what}: {error}"));
            all.len()
        };
        assert_eq!(list("REPLICAS"), 1);
        assert_eq!(list("SENTINELS"), 2);
        let other: Option<(String, String)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg("another")
            .query(&mut client)
            .expect("an unknown name is nil");
        assert_eq!(other, None);
    }
    // A client that watches the witness hears of the takeover.
    let witness = redis::Client::open(format!("redis://{}", lab.addr(3))).expect("an address");
    let mut watching = witness.get_connection().expect("it connects");
    watching
        .set_read_timeout(Some(common::PATIENCE))
        .expect("above zero");
    let mut channel = watching.as_pubsub();
    channel.subscribe("+switch-master").expect("it subscribes");
    lab.cluster.kill9(first).expect("it runs");
    let message = channel.get_message().expect("news of the takeover");
    let said: String = message.get_payload().expect("text");
    let port = |id: u32| lab.addr(id).port();
    let second = 3 - first;
    let expected = format!("shop 127.0.0.1 {} 127.0.0.1 {}", port(first), port(second));
    assert_eq!(said, expected);
    for node in [second, 3] {
        until("the new primary's address", || {
            (asked_master(&lab, node)? == lab.addr(second).to_string()).then_some(())
        });
    }
}

/// Runs a client program against a node; `None`, said loudly, where it is not installed.
fn run(program: &str, port: u16, arguments: &[&str]) -> Option<Output> {
    let ran = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match ran {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed; nothing was tested with it");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn redis_cli_works() {
    let (lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let standby = 3 - primary;
    let cli = |node: u32, words: &[&str]| -> Option<String> {
        let output = run("redis-cli", lab.addr(node).port(), words)?;
        assert!(output.status.success(), "{words:?}: {output:?}");
        Some(text(&output.stdout).trim_end().to_owned())
    };
    let Some(said) = cli(primary, &["SET", "k", "v"]) else {
        return;
    };
    assert_eq!(said, "OK");
    let is = |node: u32, words: &[&str], expected: &str| {
        let said = cli(node, words).expect("it is installed");
        assert_eq!(said, expected, "{words:?}");
    };
    is(primary, &["GET", "k"], "v");
    is(primary, &["-3", "GET", "k"], "v");
    is(primary, &["--scan"], "k");
    is(primary, &["INCR", "n"], "1");
    until("the standby's copy", || {
        (cli(standby, &["GET", "n"])? == "1").then_some(())
    });
    let refused = cli(standby, &["SET", "k", "w"]).expect("it is installed");
    assert!(refused.starts_with("READONLY"), "{refused}");
    let info = cli(primary, &["INFO", "replication"]).expect("it is installed");
    assert!(info.contains("role:master"), "{info}");
    let role = cli(standby, &["ROLE"]).expect("it is installed");
    assert!(role.starts_with("slave"), "{role}");
    let port = lab.addr(primary).port().to_string();
    let master = ["SENTINEL", "get-master-addr-by-name", "shop"];
    is(3, &master, &format!("127.0.0.1\n{port}"));
}

#[test]
fn redis_benchmark_runs_clean_in_every_mode() {
    for plan in modes() {
        let mode = plan.mode.clone();
        let (lab, primary) = Lab::start(plan);
        // On a busy machine the first election may take two attempts.
        let epoch = lab.seen_by(primary).epoch;
        let arguments = [
            "-t", "set,get", "-P", "16", "-n", "20000", "-r", "1000", "-q",
        ];
        let Some(output) = run("redis-benchmark", lab.addr(primary).port(), &arguments) else {
            return;
        };
        let (said, complaints) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{mode}: {said}{complaints}");
        assert_eq!(complaints, "", "{mode}");
        for test in ["SET: ", "GET: "] {
            assert!(said.contains(test), "{mode}: {said}");
        }
        assert!(!said.contains("Error"), "{mode}: {said}");
        let seen = lab.seen_by(primary);
        assert_eq!((seen.mode, seen.mode_state.as_str()), (mode, "ok"));
        assert_eq!(seen.epoch, epoch, "nobody took over under the load");
        lab.caught_up(3 - primary, primary);
    }
}
