//! A laboratory for tests with real processes: a cluster in a temporary folder, stock Redis clients
//! as its load, and waits that end.
//!
//! Promises: every process ends with its [`Lab`], in a panic too; nothing waits without a deadline;
//! no fixed sleep stands for an event (the short pauses lie between two questions). A test that
//! fails prints the end of every node's log.

// Each test binary compiles this file and uses a part of it.
#![allow(dead_code)]

pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use understudy::cli::answers::{Cluster, Takeover};
use understudy::cli::local_cluster::{Folder, LocalCluster, LocalError, Plan};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_understudy");

/// How long any single thing may take on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the long forms are wanted: `UNDERSTUDY_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("UNDERSTUDY_LONG").is_some_and(|value| value == "1")
}

/// Asks until there is an answer; panics with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}

/// One question of a stock client on a connection of its own, with bounded waits.
pub fn connect(addr: SocketAddr) -> redis::RedisResult<redis::Connection> {
    connect_with(addr, false)
}

/// As [`connect`], choosing RESP3 where wanted.
pub fn connect_with(addr: SocketAddr, resp3: bool) -> redis::RedisResult<redis::Connection> {
    let protocol = if resp3 { "?protocol=resp3" } else { "" };
    let client = redis::Client::open(format!("redis://{addr}/{protocol}"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(8)))?;
    connection.set_write_timeout(Some(Duration::from_secs(8)))?;
    Ok(connection)
}

/// The first word of an error, such as `READONLY`, or `io` where the connection failed.
pub fn code(error: &redis::RedisError) -> String {
    error.code().map_or_else(
        || {
            if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                "io".to_owned()
            } else {
                error.to_string()
            }
        },
        str::to_owned,
    )
}

/// A cluster of real processes.
pub struct Lab {
    pub cluster: LocalCluster,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for id in self.cluster.ids() {
            let log = std::fs::read_to_string(self.log_file(id)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- node {id}, the last lines of its log");
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// A node by itself.
pub fn alone() -> Plan {
    Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    }
}

impl Lab {
    /// Prepares a cluster; `edit` may rewrite each node's configuration. Starts nothing.
    pub fn prepare(plan: Plan, edit: impl Fn(u32, String) -> String) -> Lab {
        Lab::prepare_as(Path::new(BINARY), plan, edit)
    }

    /// As [`Lab::prepare`], of a program that becomes [`BINARY`].
    pub fn prepare_as(binary: &Path, plan: Plan, edit: impl Fn(u32, String) -> String) -> Lab {
        let folder = Folder::create(None, "test").expect("a temporary folder");
        let cluster = LocalCluster::prepare(binary, plan, folder).expect("ports are free");
        let mut lab = Lab { cluster };
        for id in lab.cluster.ids() {
            let path = lab.config_file(id);
            let text = std::fs::read_to_string(&path).expect("it was just written");
            std::fs::write(&path, edit(id, text)).expect("it is ours");
        }
        lab
    }

    /// Starts a cluster and waits until all follow the primary. Returns it with its primary.
    pub fn start(plan: Plan) -> (Lab, u32) {
        Lab::start_with(plan, "")
    }

    /// As [`Lab::start`] with more keys in `[cluster]`.
    pub fn start_with(plan: Plan, cluster_keys: &str) -> (Lab, u32) {
        let mut lab = Lab::prepare(plan, |_, text| in_cluster(&text, cluster_keys));
        lab.cluster.start_all().expect("they start");
        let primary = lab.ready();
        (lab, primary)
    }

    pub fn path(&mut self, name: &str) -> PathBuf {
        self.cluster.folder().path().join(name)
    }

    pub fn config_file(&mut self, id: u32) -> PathBuf {
        self.path(&format!("node-{id}.toml"))
    }

    pub fn data_dir(&mut self, id: u32) -> PathBuf {
        self.path(&format!("node-{id}"))
    }

    pub fn log_file(&mut self, id: u32) -> PathBuf {
        self.path(&format!("node-{id}.log"))
    }

    /// Waits until there is a primary and every running node follows it.
    pub fn ready(&mut self) -> u32 {
        let ready = self.cluster.wait_ready::<LocalError>(PATIENCE, || Ok(()));
        ready.unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn addr(&self, id: u32) -> SocketAddr {
        self.cluster.client_addr(id).expect("a member")
    }

    pub fn http_addr(&self, id: u32) -> String {
        self.cluster.http_addr(id).expect("a member").to_string()
    }

    /// A stock client's connection to this node.
    pub fn connect(&self, id: u32) -> redis::Connection {
        until("a client's connection", || connect(self.addr(id)).ok())
    }

    /// What this node says at `/cluster`.
    pub fn seen_by(&self, id: u32) -> Cluster {
        until("an answer of /cluster", || {
            self.cluster.cluster_json(id).expect("a member")
        })
    }

    /// Waits until what this node says at `/cluster` is as wanted.
    pub fn until_seen(&self, id: u32, what: &str, wanted: impl Fn(&Cluster) -> bool) -> Cluster {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(seen)) = self.cluster.cluster_json(id) {
                if wanted(&seen) {
                    return seen;
                }
                last = Some(seen);
            }
            std::thread::sleep(PAUSE);
        }
        panic!("node {id}: {what}: not within {PATIENCE:?}; it says {last:#?}");
    }

    /// Whether this node answers 200 at `/primary`.
    pub fn says_primary(&self, id: u32) -> bool {
        let says = self.cluster.http(id).expect("a member").status("/primary");
        matches!(says, Ok(200))
    }

    /// Waits until one of these is primary.
    pub fn primary_among(&self, ids: &[u32]) -> u32 {
        until("a primary", || {
            self.cluster.primary_among(ids).expect("members")
        })
    }

    /// The members but these.
    pub fn others(&self, not: &[u32]) -> Vec<u32> {
        let ids = self.cluster.ids().into_iter();
        ids.filter(|id| !not.contains(id)).collect()
    }

    /// This node's newest takeover report that is as wanted.
    pub fn takeover(&self, id: u32, what: &str, wanted: impl Fn(&Takeover) -> bool) -> Takeover {
        until(what, || {
            let history = self.cluster.history_json(id).expect("a member")?;
            history.takeovers.into_iter().rev().find(&wanted)
        })
    }

    /// One field of this node's INFO.
    pub fn info(&self, id: u32, field: &str) -> Option<String> {
        let mut connection = self.connect(id);
        let text: String = redis::cmd("INFO").query(&mut connection).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::to_owned)
    }

    /// The value of one metric.
    pub fn metric(&self, id: u32, name: &str) -> Option<f64> {
        let text = http_get(&self.http_addr(id), "/metrics");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// A load of `clients` stock clients that follow the primary over all data nodes.
    pub fn load(&self, clients: usize, pipeline: usize) -> Load {
        let plan = self.cluster.plan();
        let nodes = plan.ids().filter(|id| !plan.is_witness(*id));
        let nodes: Vec<SocketAddr> = nodes.map(|id| self.addr(id)).collect();
        Load::start(&nodes, clients, pipeline)
    }

    /// For a while nobody may become primary: watched for `span`, several rounds of elections.
    pub fn nobody_reigns(&self, ids: &[u32], span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            let primary = self.cluster.primary_among(ids).expect("members");
            assert_eq!(primary, None, "nobody may reign here");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until this node says why it does not take over.
    pub fn says_why_not(&self, id: u32, why: &str) {
        self.until_seen(id, &format!("a note with \"{why}\""), |seen| {
            let mut notes = seen.notes.iter();
            notes.any(|note| note.starts_with("No takeover by this node") && note.contains(why))
        });
    }

    /// Writes more than the sockets' buffers hold, so that a frozen standby cannot find it there
    /// when it wakes. Returns the keys.
    pub fn write_past_sockets(&self, primary: u32) -> BTreeSet<String> {
        let mut client = self.connect(primary);
        let value = vec![b'x'; 100_000];
        let (mut keys, mut acknowledged) = (BTreeSet::new(), 0);
        for batch in 0..15 {
            let mut pipe = redis::pipe();
            for n in 0..20 {
                let key = format!("big:{batch}:{n}");
                pipe.cmd("SET").arg(&key).arg(&value).ignore();
                keys.insert(key);
            }
            match pipe.query::<()>(&mut client) {
                Ok(()) => acknowledged += 20,
                // max_lag was reached: nothing more can be lost.
                Err(error) => {
                    assert!(error.to_string().contains("NOREPLICAS"), "{error}");
                    // Those of this batch that still fitted were written.
                    let mut there = |key: &String| -> bool {
                        let there = redis::cmd("EXISTS").arg(key).query(&mut client);
                        there.expect("it answers reads")
                    };
                    keys.retain(|key| !key.starts_with(&format!("big:{batch}:")) || there(key));
                    break;
                }
            }
        }
        assert!(acknowledged > 0);
        keys
    }

    /// Panics unless this node, asked as it stands, has every acknowledged write.
    pub fn has_all(&self, id: u32, ledger: &Ledger) {
        let missing = self.missing(id, ledger);
        assert!(
            missing.is_empty(),
            "node {id} lacks {} of {} acknowledged writes, such as {:?}",
            missing.len(),
            ledger.acked.len(),
            &missing[..missing.len().min(5)]
        );
    }

    /// The acknowledged writes that this node does not show.
    pub fn missing(&self, id: u32, ledger: &Ledger) -> Vec<String> {
        let mut connection = None;
        let mut missing = Vec::new();
        for keys in ledger.acked.chunks(1000) {
            let mut ask = redis::cmd("MGET");
            ask.arg(keys);
            let mut values: Vec<Option<String>> = Vec::new();
            // A young primary says CLUSTERDOWN until its reign has begun.
            until("an answer to MGET", || {
                let mut open = connection.take().or_else(|| connect(self.addr(id)).ok())?;
                values = ask.query(&mut open).ok()?;
                connection = Some(open);
                Some(())
            });
            let pairs = keys.iter().zip(values);
            missing.extend(pairs.filter_map(|(key, value)| {
                (value.as_deref() != Some(key.as_str())).then(|| key.clone())
            }));
        }
        missing
    }

    /// Waits until this standby shows everything the primary shows, by the number of keys.
    pub fn caught_up(&self, standby: u32, primary: u32) {
        let (mut there, mut here) = (self.connect(standby), self.connect(primary));
        until("the standby's catching up", || {
            let there: u64 = redis::cmd("DBSIZE").query(&mut there).ok()?;
            let here: u64 = redis::cmd("DBSIZE").query(&mut here).ok()?;
            (there == here).then_some(())
        });
    }
}

/// The configuration with more keys in `[cluster]`.
pub fn in_cluster(text: &str, keys: &str) -> String {
    text.replacen("[cluster]\n", &format!("[cluster]\n{keys}\n"), 1)
}

/// The body of a GET.
pub fn http_get(addr: &str, path: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .http_status_as_error(false)
        .build()
        .into();
    until("an answer over HTTP", || {
        let mut answer = agent.get(format!("http://{addr}{path}")).call().ok()?;
        answer.body_mut().read_to_string().ok()
    })
}

/// Runs the command line and waits for its end.
pub fn understudy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What clients were told. A write is `SET key key`, each key once.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Answered OK.
    pub acked: Vec<String>,
    /// Sent, with an answer that leaves it open, or none.
    pub unknown: Vec<String>,
    /// How often each error came.
    pub errors: BTreeMap<String, u64>,
}

impl Ledger {
    fn merge(&mut self, other: Ledger) {
        self.acked.extend(other.acked);
        self.unknown.extend(other.unknown);
        for (error, times) in other.errors {
            *self.errors.entry(error).or_default() += times;
        }
    }
}

/// Clients that write until they are stopped, and follow the primary.
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Ledger>>,
}

/// So that keys of two loads never meet.
static LOADS: AtomicU64 = AtomicU64::new(0);

impl Load {
    /// Starts `clients` clients, each sending `pipeline` writes at a time.
    pub fn start(nodes: &[SocketAddr], clients: usize, pipeline: usize) -> Load {
        let (stop, acked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let clients = (0..clients).map(|client| {
            let writer = Writer {
                nodes: nodes.to_vec(),
                at: client,
                name: format!("{load}:{client}"),
                pipeline,
                acked: Arc::clone(&acked),
                ledger: Ledger::default(),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || writer.run(&stop))
        });
        Load {
            clients: clients.collect(),
            stop,
            acked,
        }
    }

    /// Writes acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until this many more writes are acknowledged.
    pub fn more(&self, writes: u64) {
        let goal = self.acked() + writes;
        until("acknowledged writes", || {
            (self.acked() >= goal).then_some(())
        });
    }

    /// Ends the load and says what was answered.
    pub fn stop(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for client in self.clients.drain(..) {
            all.merge(client.join().expect("a client does not panic"));
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    nodes: Vec<SocketAddr>,
    at: usize,
    name: String,
    pipeline: usize,
    acked: Arc<AtomicU64>,
    ledger: Ledger,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) -> Ledger {
        let mut connection = None;
        let mut sequence = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let addr = self.nodes[self.at % self.nodes.len()];
            let Some(open) = connection.take().or_else(|| connect(addr).ok()) else {
                self.at += 1;
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            connection = self.write(open, &mut sequence);
        }
        self.ledger
    }

    /// Sends one batch; gives the connection back where it is still the one to use.
    fn write(
        &mut self,
        mut connection: redis::Connection,
        sequence: &mut u64,
    ) -> Option<redis::Connection> {
        let mut pipe = redis::pipe();
        let mut keys = Vec::new();
        for _ in 0..self.pipeline {
            let key = format!("{}:{sequence}", self.name);
            pipe.cmd("SET").arg(&key).arg(&key).ignore();
            keys.push(key);
            *sequence += 1;
        }
        // A pipeline of one is a plain command, so that its error is the error.
        let answer = match keys.as_slice() {
            [key] => redis::cmd("SET").arg(key).arg(key).query(&mut connection),
            _ => pipe.query::<()>(&mut connection),
        };
        match answer {
            Ok(()) => {
                self.acked.fetch_add(keys.len() as u64, Ordering::Relaxed);
                self.ledger.acked.extend(keys);
                Some(connection)
            }
            Err(error) => {
                let code = code(&error);
                let open = matches!(code.as_str(), "io" | "UNCONFIRMED") || self.pipeline > 1;
                if open {
                    self.ledger.unknown.extend(keys);
                }
                *self.ledger.errors.entry(code).or_default() += 1;
                self.at += 1;
                std::thread::sleep(Duration::from_millis(2));
                None
            }
        }
    }
}
