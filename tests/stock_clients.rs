//! Stock clients in their Sentinel mode, unmodified, follow a takeover and a switchover: no write that
//! they were told is done is lost, and they go on by themselves. Each prints the longest time between
//! two acknowledged writes. `tests/stock_clients/install.sh` installs them; where one is not there its
//! tests are skipped, said loudly.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Lab, PATIENCE, code, text, understudy, until};
use redis::sentinel::{SentinelClient, SentinelServerType};
use serde_json::Value;
use understudy::cli::local_cluster::Plan;

/// The longest that a client may need, with all its own pauses and timeouts.
const LONGEST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// SIGKILL of the primary.
    Kill,
    /// A switchover, as the command line orders it.
    Switchover,
}

/// Where `install.sh` puts them.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stock_clients")
}

/// A script's process; killed where the test ends before it.
struct Script {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Script {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Script {
    /// `None`, said loudly, where what it needs is not installed.
    fn start(name: &str, lab: &Lab) -> Option<Script> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock_clients");
        let place = installed();
        if !place.join("installed").exists() {
            eprintln!("SKIPPED: tests/stock_clients/install.sh has not run; {name} was not tested");
            return None;
        }
        let mut command = match name.ends_with(".py") {
            true => Command::new(place.join("venv/bin/python")),
            false => Command::new("node"),
        };
        let nodes: Vec<String> = lab
            .cluster
            .ids()
            .iter()
            .map(|id| lab.addr(*id).to_string())
            .collect();
        let mut child = command
            .arg(folder.join(name))
            .args(["shop", &nodes.join(",")])
            .env("NODE_PATH", place.join("npm/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (heard, lines) = mpsc::channel();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Script { child, lines })
    }

    fn line(&self, what: &str) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }

    /// Waits for a few hundred acknowledged writes that are still to come.
    fn writes(&self) {
        while self.lines.try_recv().is_ok() {}
        for _ in 0..3 {
            let line = self.line("acknowledged writes");
            assert!(line.starts_with("acked "), "{line}");
        }
    }

    /// What it says at its end.
    fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        loop {
            let line = self.line("the end of the script");
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("JSON");
            }
        }
    }
}

/// Does it, and waits until there is another primary.
fn change(lab: &mut Lab, change: Change, primary: u32) -> u32 {
    match change {
        Change::Kill => lab.cluster.kill9(primary).expect("it runs"),
        Change::Switchover => {
            let addr = lab.http_addr(primary);
            let done = understudy(&["switchover", "--addr", &addr]);
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
    }
    lab.primary_among(&lab.others(&[primary, 3]))
}

fn follows(script: &str, what: Change) {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let Some(client) = Script::start(script, &lab) else {
        return;
    };
    client.writes();
    change(&mut lab, what, primary);
    client.writes();
    let said = client.end();
    println!(
        "{script}, {what:?}: longest gap {} ms, {} writes, errors {}",
        said["longest_gap_ms"], said["acked"], said["errors"]
    );
    assert_eq!(said["lost"], Value::Array(Vec::new()), "{said}");
    let gap = said["longest_gap_ms"].as_u64().expect("a number");
    assert!(u128::from(gap) < LONGEST.as_millis(), "{said}");
}

macro_rules! stock_client {
    ($killed:ident, $switched:ident, $script:literal) => {
        #[test]
        fn $killed() {
            follows($script, Change::Kill);
        }

        #[test]
        fn $switched() {
            follows($script, Change::Switchover);
        }
    };
}

stock_client!(
    redis_py_survives_a_kill,
    redis_py_follows_a_switchover,
    "redis_py.py"
);
stock_client!(
    coredis_survives_a_kill,
    coredis_follows_a_switchover,
    "coredis_py.py"
);
stock_client!(
    ioredis_survives_a_kill,
    ioredis_follows_a_switchover,
    "ioredis.js"
);
stock_client!(
    node_redis_survives_a_kill,
    node_redis_follows_a_switchover,
    "node_redis.js"
);

/// Writes keys through the redis crate's Sentinel mode.
struct Writer {
    sentinel: SentinelClient,
    connection: Option<redis::Connection>,
    acked: Vec<String>,
    errors: Vec<String>,
    last: Option<Instant>,
    longest: Duration,
}

impl Writer {
    fn new(lab: &Lab) -> Writer {
        // docs/clients.md
        let nodes: Vec<String> = lab
            .cluster
            .ids()
            .iter()
            .map(|id| format!("redis://{}/", lab.addr(*id)))
            .collect();
        let sentinel =
            SentinelClient::build(nodes, "shop".to_owned(), None, SentinelServerType::Master);
        Writer {
            sentinel: sentinel.expect("addresses"),
            connection: None,
            acked: Vec::new(),
            errors: Vec::new(),
            last: None,
            longest: Duration::ZERO,
        }
    }

    /// Until it is answered; on any error with a connection that is found anew.
    fn again<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        until("an answer", || {
            let answer = self.open().and_then(|mut connection| {
                let answer = command.query(&mut connection);
                self.connection = answer.is_ok().then_some(connection);
                answer
            });
            if let Err(error) = &answer {
                self.errors.push(code(error));
            }
            answer.ok()
        })
    }

    fn open(&mut self) -> redis::RedisResult<redis::Connection> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let connection = self.sentinel.get_connection()?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(connection)
    }

    fn write(&mut self, times: usize) {
        for _ in 0..times {
            let key = format!("redis-rs:{}", self.acked.len());
            self.again::<()>(redis::cmd("SET").arg(&key).arg(&key));
            let now = Instant::now();
            let gap = self.last.replace(now).map(|last| now - last);
            self.longest = self.longest.max(gap.unwrap_or_default());
            self.acked.push(key);
        }
    }
}

fn redis_rs_follows(what: Change) {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("shop"));
    let mut writer = Writer::new(&lab);
    writer.write(300);
    change(&mut lab, what, primary);
    writer.write(300);
    for key in writer.acked.clone() {
        let value: Option<String> = writer.again(redis::cmd("GET").arg(&key));
        assert_eq!(
            value.as_deref(),
            Some(key.as_str()),
            "an acknowledged write"
        );
    }
    println!(
        "redis-rs, {what:?}: longest gap {} ms, {} writes, errors {:?}",
        writer.longest.as_millis(),
        writer.acked.len(),
        writer.errors
    );
    assert!(writer.longest < LONGEST);
}

#[test]
fn redis_rs_survives_a_kill() {
    redis_rs_follows(Change::Kill);
}

#[test]
fn redis_rs_follows_a_switchover() {
    redis_rs_follows(Change::Switchover);
}
