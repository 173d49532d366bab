//! The load clients against a real redis-server, as an outside yardstick.
//!
//! Without `redis-server` on the PATH the tests say so loudly and pass: they test our client, and
//! nothing else here can stand in for Redis.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::runtime::Runtime;
use understudy::cli::load::connection::Connection;
use understudy::cli::load::directory::Directory;
use understudy::cli::load::follow::{Clock, FollowSpec, Following, State};
use understudy::cli::load::login::Login;
use understudy::cli::load::throughput::{self, Limit, LoadSpec};
use understudy::cli::local_cluster::ports::Reservation;
use understudy::resp::Reply;

/// A redis-server without persistence, killed on drop.
struct Redis {
    process: Child,
    address: SocketAddr,
    port: Option<Reservation>,
}

impl Redis {
    fn start(more: &[&str]) -> Option<Redis> {
        let port = Reservation::take().expect("a free port");
        let mut redis = Redis::start_at(port.address(), more)?;
        redis.port = Some(port);
        Some(redis)
    }

    fn start_at(address: SocketAddr, more: &[&str]) -> Option<Redis> {
        let spawned = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &address.port().to_string()])
            .args(more)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut process) = spawned else {
            eprintln!("SKIPPED: no redis-server on the PATH, so the load client is not tested");
            return None;
        };
        let output = process.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(output).lines();
        let ready = lines
            .by_ref()
            .any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
        assert!(ready, "redis-server did not start at {address}");
        // Read on, or a full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Redis {
            process,
            address,
            port: None,
        })
    }

    fn die(&mut self) {
        self.process.kill().expect("redis-server is our child");
        self.process.wait().expect("redis-server is our child");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn load_spec(address: SocketAddr) -> LoadSpec {
    LoadSpec {
        login: Login::default(),
        address,
        clients: 4,
        pipeline: 8,
        value_bytes: 100,
        keys: 1000,
        read_percent: 30,
        wait_replicas: 0,
        warm_up: Duration::ZERO,
        limit: Limit::Operations(4000),
        seed: 1,
    }
}

fn ask(runtime: &Runtime, address: SocketAddr, words: &[&str]) -> Reply {
    runtime.block_on(async {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut connection = Connection::open(address).await.expect("it listens");
        connection.ask(&words).await.expect("it answers")
    })
}

#[test]
fn the_histogram_holds_each_operation_that_the_server_counted() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    let result = runtime
        .block_on(throughput::run(&load_spec(redis.address)))
        .expect("it runs");
    assert_eq!((result.operations, result.errors), (4000, 0));
    assert_eq!(result.latency_us.len(), result.operations);
    assert!(result.elapsed > Duration::ZERO && result.per_second() > 0.0);
    let Reply::Bulk(stats) = ask(&runtime, redis.address, &["INFO", "commandstats"]) else {
        panic!("INFO answers a string");
    };
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let calls = |command: &str| -> u64 {
        let line = stats.lines().find_map(|line| {
            line.strip_prefix(&format!("cmdstat_{command}:calls="))?
                .split(',')
                .next()
        });
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    assert_eq!(calls("set") + calls("get"), 4000, "{stats}");
    assert!(
        (800..1600).contains(&calls("get")),
        "30% of 4000 are reads: {stats}"
    );
}

#[test]
fn a_timed_load_counts_only_its_window() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    let spec = LoadSpec {
        limit: Limit::Duration(Duration::from_millis(300)),
        warm_up: Duration::from_millis(100),
        ..load_spec(redis.address)
    };
    let result = runtime.block_on(throughput::run(&spec)).expect("it runs");
    assert_eq!(result.elapsed, Duration::from_millis(300));
    assert_eq!(result.latency_us.len(), result.operations);
    assert!(result.operations > 0);
}

#[test]
fn error_replies_are_counted_apart() {
    let Some(redis) = Redis::start(&["--requirepass", "x"]) else {
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    let spec = LoadSpec {
        limit: Limit::Operations(64),
        ..load_spec(redis.address)
    };
    let result = runtime.block_on(throughput::run(&spec)).expect("it runs");
    assert_eq!((result.operations, result.errors), (0, 64));
    assert!(result.first_error.expect("an error").starts_with("NOAUTH"));
}

#[test]
fn wait_without_a_replica_is_an_error_and_never_throughput() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    // WAIT 1 0 would wait for ever without a replica; a killed server ends it.
    let spec = LoadSpec {
        wait_replicas: 1,
        clients: 1,
        ..load_spec(redis.address)
    };
    let outcome = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(200), throughput::run(&spec)).await
    });
    assert!(outcome.is_err(), "nothing may count before WAIT answers");
}

#[test]
fn the_directory_finds_the_master_and_not_its_replica() {
    let Some(master) = Redis::start(&[]) else {
        return;
    };
    let port = master.address.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]).expect("there is one above");
    let runtime = Runtime::new().expect("a runtime");
    let nodes = [replica.address, master.address];
    let directory = Directory::new(runtime.handle(), &nodes, "none");
    directory.report_trouble();
    let mut primary = directory.subscribe();
    let found = runtime.block_on(async {
        let some = primary.wait_for(Option::is_some);
        let found = tokio::time::timeout(Duration::from_secs(10), some).await;
        *found.expect("in time").expect("the directory lives")
    });
    assert_eq!(found.expect("some").address, master.address);
}

#[test]
fn following_clients_account_for_every_write_through_a_restart_and_a_promotion() {
    let Some(mut master) = Redis::start(&[]) else {
        return;
    };
    let port = master.address.port().to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port]).expect("there is one above");
    let runtime = Runtime::new().expect("a runtime");
    let clock = Clock::start();
    let spec = FollowSpec {
        nodes: vec![master.address, replica.address],
        cluster_name: "none".to_owned(),
        clients: 3,
        value_bytes: 20,
        prefix: "t".to_owned(),
    };
    let following = Following::start(runtime.handle(), spec, clock);
    let wait_for = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(
                std::time::Instant::now() < deadline,
                "{what} did not happen"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait_for("a first write", &|| following.counters().read().0 >= 100);
    let fault_us = clock.now_us();
    master.die();
    assert_eq!(
        ask(&runtime, replica.address, &["REPLICAOF", "NO", "ONE"]),
        Reply::OK
    );
    wait_for("a write to the new master", &|| {
        following.counters().first_acknowledged_us(1).is_some()
    });
    let (before, ..) = following.counters().read();
    wait_for("more writes", &|| {
        following.counters().read().0 >= before + 100
    });
    let (acknowledged, unknown, refused) = {
        let sums = following.counters().read();
        assert!(sums.0 > 0);
        sums
    };
    let account = runtime.block_on(following.stop());

    let in_state = |state| account.in_state(state).count() as u64;
    assert!(in_state(State::Acknowledged) >= acknowledged);
    assert!(in_state(State::Unknown) >= unknown && in_state(State::Refused) >= refused);
    let all: usize = account.clients.iter().map(Vec::len).sum();
    let sum = [State::Acknowledged, State::Unknown, State::Refused].map(in_state);
    assert_eq!(
        sum.iter().sum::<u64>(),
        all as u64,
        "each write has exactly one state"
    );
    assert!(
        in_state(State::Unknown) <= 3,
        "at most one outstanding write per client"
    );
    let first_us = account
        .first_elsewhere_us(0, fault_us)
        .expect("the new master answered");
    assert!(first_us > fault_us);

    // What the new master acknowledged is there, with the value that names its key.
    let (client, sequence, _) = account
        .in_state(State::Acknowledged)
        .filter(|(_, _, write)| write.node == 1)
        .last()
        .expect("writes went there");
    let key = account.spec.key(client, sequence);
    let expected = Reply::bulk(account.spec.value(&key).as_bytes());
    assert_eq!(ask(&runtime, replica.address, &["GET", &key]), expected);
}
