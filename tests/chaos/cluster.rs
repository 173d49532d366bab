//! A cluster of real `serve` processes, on loopback or each on a host of its own ([`Hosts`]).
//!
//! Promises: every process is our child, ended by its handle, and gone with the [`Cluster`]; it
//! also ends by itself when we are killed, by the pipe on its standard input. A node that ends
//! without being told to is a failure of the run, unless its disk was made to fail.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use understudy::cli::answers;
use understudy::cli::http_client::HttpClient;
use understudy::cli::local_cluster::Folder;
use understudy::cli::local_cluster::ports::Reservation;

use super::hosts::Hosts;

/// How long a healed cluster may take until all of it works again.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// The shape of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Three data nodes, sync.
    ThreeSync,
    /// Two data nodes and a witness, semi-sync, level synced.
    PairAndWitness,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Shape::ThreeSync => "three data nodes, sync",
            Shape::PairAndWitness => "two data nodes and a witness, semi-sync, synced",
        }
    }

    pub fn is_witness(self, id: u32) -> bool {
        self == Shape::PairAndWitness && id == 3
    }

    fn cluster_keys(self) -> &'static str {
        match self {
            Shape::ThreeSync => "mode = \"sync\"",
            Shape::PairAndWitness => "mode = \"semi-sync\"\nlevel = \"synced\"",
        }
    }
}

/// All members' numbers.
pub const IDS: [u32; 3] = [1, 2, 3];

struct Node {
    client: SocketAddr,
    peer: SocketAddr,
    http: SocketAddr,
    data_dir: PathBuf,
    process: Option<Child>,
    /// Its process may end by itself: its disk was made to fail.
    may_end: bool,
}

/// The processes, their files and their hosts.
pub struct Cluster {
    pub shape: Shape,
    nodes: BTreeMap<u32, Node>,
    pub hosts: Option<Hosts>,
    // Held, not read: the ports stay ours while a node is down.
    _ports: Vec<Reservation>,
    folder: Folder,
}

impl Cluster {
    /// Prepares the files and starts all nodes. `more` is appended to each configuration.
    pub fn start(shape: Shape, hosts: Option<Hosts>, more: &str) -> Cluster {
        let folder = Folder::create(None, "chaos").expect("a temporary folder");
        let mut ports = Vec::new();
        let mut nodes = BTreeMap::new();
        for id in IDS {
            let [client, peer, http] = match &hosts {
                Some(hosts) => hosts.addresses(id),
                None => [0; 3].map(|_: u8| {
                    let port = Reservation::take().expect("ports are free");
                    let address = port.address();
                    ports.push(port);
                    address
                }),
            };
            let data_dir = match &hosts {
                Some(hosts) => hosts.data_dir(id),
                None => folder.path().join(format!("node-{id}")),
            };
            std::fs::create_dir_all(&data_dir).expect("a data folder");
            let node = Node {
                client,
                peer,
                http,
                data_dir,
                process: None,
                may_end: false,
            };
            nodes.insert(id, node);
        }
        let mut cluster = Cluster {
            shape,
            nodes,
            hosts,
            _ports: ports,
            folder,
        };
        cluster.configure(more);
        for id in IDS {
            cluster.start_node(id);
        }
        cluster
    }

    fn configure(&self, more: &str) {
        let folder = self.folder.path();
        std::fs::write(
            folder.join("secret"),
            "a-secret-for-tests-and-nothing-else\n",
        )
        .expect("a file of ours");
        let mut members = String::new();
        for (id, node) in &self.nodes {
            let role = if self.shape.is_witness(*id) {
                "witness"
            } else {
                "data"
            };
            members += &format!("\n[[cluster.member]]\nid = {id}\nrole = \"{role}\"\n");
            members += &node.address_keys();
        }
        for (id, node) in &self.nodes {
            let text = format!(
                "id = {id}\ndata_dir = '{}'\n{}\n[cluster]\nname = \"chaos\"\n{}\n\
                 secret_file = '{}'\n\n[auth]\nprotected_mode = false\n{members}\n{more}\n",
                node.data_dir.display(),
                node.address_keys(),
                self.shape.cluster_keys(),
                folder.join("secret").display(),
            );
            std::fs::write(self.config_file(*id), text).expect("a file of ours");
        }
    }

    fn config_file(&self, id: u32) -> PathBuf {
        self.folder.path().join(format!("node-{id}.toml"))
    }

    pub fn log_file(&self, id: u32) -> PathBuf {
        self.folder.path().join(format!("node-{id}.log"))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves all files in place for a person to look into.
    pub fn keep_files(&mut self) {
        self.folder.keep();
    }

    /// The members that hold data.
    pub fn data_nodes(&self) -> Vec<u32> {
        let data = IDS.into_iter().filter(|id| !self.shape.is_witness(*id));
        data.collect()
    }

    pub fn client_addr(&self, id: u32) -> SocketAddr {
        self.nodes[&id].client
    }

    pub fn peer_addr(&self, id: u32) -> SocketAddr {
        self.nodes[&id].peer
    }

    pub fn data_dir(&self, id: u32) -> &Path {
        &self.nodes[&id].data_dir
    }

    pub fn is_running(&self, id: u32) -> bool {
        self.nodes[&id].process.is_some()
    }

    pub fn start_node(&mut self, id: u32) {
        let config = self.config_file(id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file(id));
        let log = log.expect("a file of ours");
        let binary = env!("CARGO_BIN_EXE_understudy");
        let mut command = match &self.hosts {
            Some(hosts) => hosts.command_on(id, binary),
            None => Command::new(binary),
        };
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env("UNDERSTUDY_EXIT_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("an open file"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        if let Some(hosts) = &self.hosts {
            hosts.has_started(id, child.id());
        }
        let node = self.nodes.get_mut(&id).expect("a member");
        assert!(node.process.is_none(), "node {id} runs already");
        (node.process, node.may_end) = (Some(child), false);
    }

    /// SIGKILL, and waits for the end. Nothing where it does not run.
    pub fn kill9(&mut self, id: u32) {
        let node = self.nodes.get_mut(&id).expect("a member");
        if let Some(mut child) = node.process.take() {
            // It may have ended by itself by now, which is what we want.
            let _ = child.kill();
            child.wait().expect("our child");
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self, id: u32) {
        self.signal(id, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        let node = self.nodes.get_mut(&id).expect("a member");
        while let Some(child) = node.process.as_mut() {
            if child.try_wait().expect("our child").is_some() {
                node.process = None;
                return;
            }
            assert!(
                Instant::now() < deadline,
                "node {id} does not end on SIGTERM"
            );
            std::thread::sleep(PAUSE);
        }
    }

    pub fn signal(&mut self, id: u32, signal: Signal) {
        let node = self.nodes.get_mut(&id).expect("a member");
        if let Some(child) = &node.process {
            // A child that was not waited for keeps its number, so this never hits a stranger.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// From now on this node's process may end by itself.
    pub fn let_end(&mut self, id: u32) {
        self.nodes.get_mut(&id).expect("a member").may_end = true;
    }

    /// The error says which node ended that nobody told to.
    pub fn notice_deaths(&mut self) -> Result<(), String> {
        for (id, node) in &mut self.nodes {
            let Some(child) = node.process.as_mut() else {
                continue;
            };
            if let Some(status) = child.try_wait().expect("our child") {
                node.process = None;
                if !node.may_end {
                    return Err(format!("node {id} ended by itself: {status}"));
                }
            }
        }
        Ok(())
    }

    fn http(&self, id: u32) -> HttpClient {
        HttpClient::new(
            &self.nodes[&id].http.to_string(),
            Duration::from_millis(300),
        )
    }

    /// What a node says at `/cluster`, if it answers.
    pub fn seen_by(&self, id: u32) -> Option<answers::Cluster> {
        self.http(id).get("/cluster").ok()
    }

    /// Its takeovers.
    pub fn history_of(&self, id: u32) -> Option<answers::History> {
        self.http(id).get("/history").ok()
    }

    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub fn http_addr(&self, id: u32) -> SocketAddr {
        self.nodes[&id].http
    }

    /// The running data node that answers `/primary` with 200.
    pub fn primary(&self) -> Option<u32> {
        let running = self
            .data_nodes()
            .into_iter()
            .filter(|id| self.is_running(*id));
        let mut running = running;
        running.find(|id| matches!(self.http(*id).status("/primary"), Ok(200)))
    }

    /// Waits until all nodes run, all follow one primary and the mode is as configured. Returns
    /// the primary and how long that took; the error says what is missing.
    pub fn wait_ready(&mut self) -> Result<(u32, Duration), String> {
        let began = Instant::now();
        loop {
            self.notice_deaths()?;
            let missing = match self.primary() {
                None => "there is no primary".to_owned(),
                Some(primary) => match self.missing_at(primary) {
                    None => return Ok((primary, began.elapsed())),
                    Some(missing) => missing,
                },
            };
            if began.elapsed() > PATIENCE {
                return Err(format!(
                    "not ready {PATIENCE:?} after all was healed: {missing}"
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn missing_at(&self, primary: u32) -> Option<String> {
        let Some(seen) = self.seen_by(primary) else {
            return Some(format!("node {primary} does not answer"));
        };
        if seen.mode_state != "ok" {
            return Some(format!("the mode is {:?}", seen.mode_state));
        }
        for id in IDS.into_iter().filter(|id| *id != primary) {
            let member = seen.member(id);
            let follows = member.is_some_and(|member| {
                let state = member.state.as_str();
                member.connected == Some(true)
                    && (self.shape.is_witness(id) || state == "streaming")
            });
            if !follows {
                let state = member.map_or("unknown", |member| member.state.as_str());
                return Some(format!(
                    "node {id} is {state} to the primary, node {primary}"
                ));
            }
        }
        None
    }

    /// The ends of all nodes' logs.
    pub fn last_words(&self) -> String {
        let mut text = String::new();
        for id in IDS {
            let log = std::fs::read_to_string(self.log_file(id)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- node {id}\n");
            for line in &lines[lines.len().saturating_sub(15)..] {
                text += line;
                text.push('\n');
            }
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in IDS {
            if let Some(mut child) = self.nodes.get_mut(&id).and_then(|node| node.process.take()) {
                // Already gone is what we want.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Node {
    fn address_keys(&self) -> String {
        format!(
            "client_addr = \"{}\"\npeer_addr = \"{}\"\nhttp_addr = \"{}\"\n",
            self.client, self.peer, self.http
        )
    }
}
