//! A cluster of real `serve` processes on loopback, for `demo`, `bench` and the tests.
//!
//! Each node is a child process with its own configuration file, data folder and `node-<id>.log`
//! in one folder. The children never outlive their owner: they are killed by handle on drop, and
//! each holds a pipe to this process as its standard input, whose end it takes as the order to
//! exit ([`exit_with_parent`]), so that they go even when this process is killed. Ports stay
//! reserved while a node is down ([`ports`]).

mod config;
mod folder;
pub mod ports;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

pub use config::Plan;
pub use folder::Folder;

use super::answers::{Cluster, History};
use super::http_client::{HttpClient, HttpError};
use ports::{PortError, Reservation};

/// Set for each child: its standard input is the pipe described above.
const LEASH: &str = "UNDERSTUDY_EXIT_WITH_STDIN";

/// How long a node on this host may take to answer one question over HTTP.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two questions while waiting for a state that a node does not announce.
const ASK_PAUSE: Duration = Duration::from_millis(10);

/// In a process that a [`LocalCluster`] started: exits when the process that started it ends, even
/// by SIGKILL. Elsewhere it does nothing. `serve` calls it first of all.
///
/// The pipe is watched by a thread of its own. (A parent-death signal is bound to the *thread*
/// that forked, and would kill the nodes when a runtime retires that thread.)
pub fn exit_with_parent() {
    if std::env::var_os(LEASH).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(io::stdin().lock().read(&mut byte), Ok(1..)) {}
        std::process::exit(1);
    });
}

/// The binary to run as nodes: the one named, else the one running now.
pub fn own_binary(named: Option<&Path>) -> io::Result<PathBuf> {
    named.map_or_else(std::env::current_exe, |named| Ok(named.to_owned()))
}

/// Why a local cluster could not do what was asked.
#[derive(Debug, Error)]
pub enum LocalError {
    /// Files or processes.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// No ports.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// There is no such member.
    #[error("there is no node {0}")]
    NoSuchNode(u32),
    /// The node is not in the state that was assumed.
    #[error("node {0} is {1}")]
    WrongState(u32, &'static str),
    /// A node ended by itself.
    #[error("node {id} ended by itself ({status}): {last_words}")]
    Died {
        /// The node.
        id: u32,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
    },
    /// Not ready in time.
    #[error("the cluster was not ready after {waited:?}: {state}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What was still missing.
        state: String,
    },
}

/// A node's three addresses.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Redis protocol.
    pub client: SocketAddr,
    /// Peers.
    pub peer: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
}

#[derive(Debug)]
struct Node {
    client: Reservation,
    peer: Reservation,
    http: Reservation,
    config: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Node {
    fn addresses(&self) -> Addresses {
        Addresses {
            client: self.client.address(),
            peer: self.peer.address(),
            http: self.http.address(),
        }
    }
}

/// The processes, their ports and their folder. Dropping it kills and removes everything.
#[derive(Debug)]
pub struct LocalCluster {
    binary: PathBuf,
    plan: Plan,
    nodes: BTreeMap<u32, Node>,
    // After the nodes: they must be dead before their data is removed.
    folder: Folder,
}

impl LocalCluster {
    /// Prepares a cluster of `binary serve` processes: reserves ports and writes configuration
    /// files below `folder`. Starts nothing.
    pub fn prepare(binary: &Path, plan: Plan, folder: Folder) -> Result<LocalCluster, LocalError> {
        let mut nodes = BTreeMap::new();
        for id in plan.ids() {
            let node = Node {
                client: Reservation::take()?,
                peer: Reservation::take()?,
                http: Reservation::take()?,
                config: folder.path().join(format!("node-{id}.toml")),
                log: folder.path().join(format!("node-{id}.log")),
                process: None,
            };
            nodes.insert(id, node);
        }
        let cluster = LocalCluster {
            binary: binary.to_owned(),
            plan,
            nodes,
            folder,
        };
        for (id, node) in &cluster.nodes {
            let data_dir = cluster.folder.path().join(format!("node-{id}"));
            let toml = config::node_toml(&cluster.plan, *id, &data_dir, |member| {
                cluster
                    .nodes
                    .get(&member)
                    .expect("ids() names every node made")
                    .addresses()
            });
            std::fs::create_dir(&data_dir)
                .and_then(|()| std::fs::write(&node.config, toml))
                .map_err(|error| io_error("cannot write a node's configuration", error))?;
        }
        Ok(cluster)
    }

    /// All members' numbers.
    pub fn ids(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// The plan it was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The folder with configuration, data and logs.
    pub fn folder(&mut self) -> &mut Folder {
        &mut self.folder
    }

    /// Starts every node that is not running.
    pub fn start_all(&mut self) -> Result<(), LocalError> {
        for id in self.ids() {
            if !self.is_running(id)? {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Starts node `id`. Its output is appended to its log file.
    pub fn start(&mut self, id: u32) -> Result<(), LocalError> {
        self.start_with(id, &[])
    }

    /// As [`LocalCluster::start`], with these flags of `serve`.
    pub fn start_with(&mut self, id: u32, flags: &[&str]) -> Result<(), LocalError> {
        if self.is_running(id)? {
            return Err(LocalError::WrongState(id, "already running"));
        }
        let binary = self.binary.clone();
        let node = self.node_mut(id)?;
        let log = File::options().create(true).append(true).open(&node.log);
        let log = log.map_err(|error| io_error("cannot open a node's log file", error))?;
        let errors = log
            .try_clone()
            .map_err(|error| io_error("cannot share a file", error))?;
        let child = Command::new(&binary)
            .arg("serve")
            .arg("--config")
            .arg(&node.config)
            .args(flags)
            .env(LEASH, "1")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| io_error(&format!("cannot run {}", binary.display()), error))?;
        node.process = Some(child);
        Ok(())
    }

    /// Sends SIGKILL and waits until the process is gone. A frozen node dies as well.
    pub fn kill9(&mut self, id: u32) -> Result<(), LocalError> {
        let node = self.node_mut(id)?;
        let mut child = node
            .process
            .take()
            .ok_or(LocalError::WrongState(id, "not running"))?;
        child
            .kill()
            .and_then(|()| child.wait())
            .map_err(|error| io_error("cannot kill a node", error))?;
        Ok(())
    }

    /// Freezes the process: SIGSTOP. Returns once all of it stands still; until then it may go on
    /// answering.
    pub fn freeze(&mut self, id: u32) -> Result<(), LocalError> {
        self.signal(id, Signal::STOP)?;
        let pid = self
            .node_mut(id)?
            .process
            .as_ref()
            .map(std::process::Child::id);
        let Some(pid) = pid else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline && !stands_still(pid) {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Thaws the process: SIGCONT.
    pub fn thaw(&mut self, id: u32) -> Result<(), LocalError> {
        self.signal(id, Signal::CONT)
    }

    /// Asks the process to end by SIGTERM and waits for it, at most `patience`; then SIGKILL.
    /// Returns whether it ended by itself.
    pub fn stop(&mut self, id: u32, patience: Duration) -> Result<bool, LocalError> {
        self.signal(id, Signal::TERM)?;
        let deadline = Instant::now() + patience;
        while self.is_running(id)? {
            if Instant::now() >= deadline {
                self.kill9(id)?;
                return Ok(false);
            }
            std::thread::sleep(ASK_PAUSE);
        }
        self.node_mut(id)?.process = None;
        Ok(true)
    }

    fn signal(&mut self, id: u32, signal: Signal) -> Result<(), LocalError> {
        let node = self.node_mut(id)?;
        let child = node
            .process
            .as_ref()
            .ok_or(LocalError::WrongState(id, "not running"))?;
        // A child that was not waited for keeps its number, so this never hits a stranger.
        let pid = Pid::from_child(child);
        kill_process(pid, signal).map_err(|error| io_error("cannot signal a node", error.into()))
    }

    /// Whether the process is there (a frozen one is).
    pub fn is_running(&mut self, id: u32) -> Result<bool, LocalError> {
        let node = self.node_mut(id)?;
        let Some(child) = node.process.as_mut() else {
            return Ok(false);
        };
        let ended = child
            .try_wait()
            .map_err(|error| io_error("cannot watch a node", error))?;
        Ok(ended.is_none())
    }

    /// The number of node `id`'s process, if it was started and not waited for.
    pub fn process_id(&self, id: u32) -> Option<u32> {
        self.nodes.get(&id)?.process.as_ref().map(Child::id)
    }

    /// Node `id`'s addresses.
    pub fn addresses(&self, id: u32) -> Result<Addresses, LocalError> {
        Ok(self
            .nodes
            .get(&id)
            .ok_or(LocalError::NoSuchNode(id))?
            .addresses())
    }

    /// Where clients reach node `id`.
    pub fn client_addr(&self, id: u32) -> Result<SocketAddr, LocalError> {
        Ok(self.addresses(id)?.client)
    }

    /// Where node `id` answers HTTP.
    pub fn http_addr(&self, id: u32) -> Result<SocketAddr, LocalError> {
        Ok(self.addresses(id)?.http)
    }

    /// Which node clients reach at this address.
    pub fn node_at(&self, client_addr: SocketAddr) -> Option<u32> {
        self.nodes
            .iter()
            .find(|(_, node)| node.client.address() == client_addr)
            .map(|(id, _)| *id)
    }

    /// A client of node `id`'s HTTP, with a short timeout.
    pub fn http(&self, id: u32) -> Result<HttpClient, LocalError> {
        Ok(HttpClient::new(
            &self.http_addr(id)?.to_string(),
            ASK_TIMEOUT,
        ))
    }

    /// `GET /cluster` of node `id`; `None` while it does not answer.
    pub fn cluster_json(&self, id: u32) -> Result<Option<Cluster>, LocalError> {
        Ok(self.http(id)?.get("/cluster").ok())
    }

    /// `GET /history` of node `id`; `None` while it does not answer.
    pub fn history_json(&self, id: u32) -> Result<Option<History>, LocalError> {
        Ok(self.http(id)?.get("/history").ok())
    }

    /// The running node whose `GET /primary` says 200, if one does.
    pub fn primary(&self) -> Result<Option<u32>, LocalError> {
        self.primary_among(&self.ids())
    }

    /// As [`LocalCluster::primary`], asking only these nodes: a frozen one would be waited for.
    pub fn primary_among(&self, ids: &[u32]) -> Result<Option<u32>, LocalError> {
        for id in ids {
            let is_started = self
                .nodes
                .get(id)
                .is_some_and(|node| node.process.is_some());
            let says: Result<u16, HttpError> = self.http(*id)?.status("/primary");
            if is_started && matches!(says, Ok(200)) {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// Waits until a node is primary and has a connection to every other running one, its standbys
    /// streaming. Returns the primary. Fails at once when a started node ends by itself.
    ///
    /// `may_go_on` is asked between the questions; its error ends the wait.
    pub fn wait_ready<E: From<LocalError>>(
        &mut self,
        patience: Duration,
        may_go_on: impl Fn() -> Result<(), E>,
    ) -> Result<u32, E> {
        let deadline = Instant::now() + patience;
        loop {
            may_go_on()?;
            self.notice_deaths()?;
            let state = match self.primary()? {
                None => "no node is primary".to_owned(),
                Some(primary) => match self.missing_at(primary)? {
                    None => return Ok(primary),
                    Some(missing) => missing,
                },
            };
            if Instant::now() >= deadline {
                return Err(LocalError::NotReady {
                    waited: patience,
                    state,
                }
                .into());
            }
            std::thread::sleep(ASK_PAUSE);
        }
    }

    /// What `primary` still lacks: a sentence, or `None` when all running nodes follow it.
    fn missing_at(&mut self, primary: u32) -> Result<Option<String>, LocalError> {
        let Some(seen) = self.cluster_json(primary)? else {
            return Ok(Some(format!("node {primary} does not answer")));
        };
        for id in self.ids() {
            if id == primary || !self.is_running(id)? {
                continue;
            }
            let member = seen.member(id);
            let there = member.is_some_and(|member| {
                member.connected == Some(true)
                    && (member.kind == "witness" || member.state == "streaming")
            });
            if !there {
                let state = member.map_or("unknown", |member| member.state.as_str());
                return Ok(Some(format!(
                    "node {id} is {state} to the primary, node {primary}"
                )));
            }
        }
        Ok(None)
    }

    /// An error if a started node ended by itself, with the last line of its log.
    pub fn notice_deaths(&mut self) -> Result<(), LocalError> {
        for (id, node) in &mut self.nodes {
            let Some(child) = node.process.as_mut() else {
                continue;
            };
            let ended = child
                .try_wait()
                .map_err(|error| io_error("cannot watch a node", error))?;
            if let Some(status) = ended {
                node.process = None;
                let log = std::fs::read_to_string(&node.log).unwrap_or_default();
                let last_words = last_words(&log).to_owned();
                return Err(LocalError::Died {
                    id: *id,
                    status,
                    last_words,
                });
            }
        }
        Ok(())
    }

    fn node_mut(&mut self, id: u32) -> Result<&mut Node, LocalError> {
        self.nodes.get_mut(&id).ok_or(LocalError::NoSuchNode(id))
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        let mut children: Vec<Child> = self
            .nodes
            .values_mut()
            .filter_map(|node| node.process.take())
            .collect();
        for child in &mut children {
            // Already gone is what we want; anything else shows in the wait below.
            let _ = child.kill();
        }
        for mut child in children {
            let _ = child.wait();
        }
    }
}

/// The line of a log that most likely says why its process ended: the last that names an error,
/// else the last.
fn last_words(log: &str) -> &str {
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next().unwrap_or("it said nothing");
    lines
        .find(|line| line.to_ascii_lowercase().contains("error"))
        .unwrap_or(last)
}

fn io_error(what: &str, error: io::Error) -> LocalError {
    LocalError::Io {
        what: what.to_owned(),
        error,
    }
}

/// Whether every thread of a process is stopped.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_prefer_an_error() {
        assert_eq!(
            last_words("started\nerror: port taken\n\nTry --help\n"),
            "error: port taken"
        );
        assert_eq!(last_words("a\nb\n"), "b");
        assert_eq!(last_words("\n"), "it said nothing");
    }
}
