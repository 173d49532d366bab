//! Bringing a node up: lock, control state, snapshot, log, machine, threads; and down again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

use super::clock;
use super::config::Settings;
use super::driver::{Node, Parts, run_historian, run_persister};
use super::links;
use super::reports::Reports;
use super::snapshots;
use super::steward;
use super::store::Store;
use crate::peer::{ListenError, PeerListener, listen};
use crate::replica::{Control, Input, LogPos, LogView, Machine};
use crate::units::Micros;
use crate::wal::{
    ControlError, ControlFile, Disk, Held, Loaded, Log, LogConfig, OpenError, Progress, RealDisk,
    SnapshotError, SnapshotStore,
};

/// Unproven peers that may hold a connection at once.
const MAX_UNPROVEN: usize = 64;

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process has the directory.
    #[error(
        "the data directory {} is in use by another understudy process; stop it, or give another \
         --data-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory is another node's.
    #[error(
        "the data directory {} belongs to node {found}, this is node {wanted}; is --data-dir right?",
        dir.display()
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// As stated there.
        found: String,
        /// This node.
        wanted: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The control file.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The control file's content.
    #[error("the control state is not understood: {0}; was it written by a newer version?")]
    ControlContent(serde_json::Error),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The peer address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A log without control state (R24).
    #[error(
        "{} holds a log but no valid control state ({what}). What this node promised is lost, so it \
         may not vote with that log. Move the directory away and let the node take a copy from its \
         primary; if it is the only copy, start it with --bootstrap",
        dir.display()
    )]
    LogWithoutControl {
        /// The directory.
        dir: PathBuf,
        /// Missing or damaged.
        what: &'static str,
    },
}

/// A running node; dropped, it stops.
pub struct Running {
    /// The node.
    pub node: Arc<Node>,
    control: Option<std::thread::JoinHandle<()>>,
    persister: Option<std::thread::JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _lock: Box<dyn Held>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

fn at_path(path: &Path) -> impl FnOnce(std::io::Error) -> StartError + '_ {
    move |source| StartError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// What the disk held.
struct Found {
    control: Option<Control>,
    file: ControlFile,
    loaded: snapshots::Loaded,
    snapshots: SnapshotStore,
    lock: Box<dyn Held>,
}

fn look_at_disk(disk: &Arc<dyn Disk>, settings: &Settings) -> Result<Found, StartError> {
    let dir = settings.data_dir.as_path();
    disk.create_dir_all(dir).map_err(at_path(dir))?;
    let lock = match disk.lock(&dir.join("LOCK")) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(StartError::InUse(dir.to_path_buf()));
        }
        lock => lock.map_err(at_path(dir))?,
    };
    check_owner(disk.as_ref(), settings)?;
    let (file, loaded) = ControlFile::load(Arc::clone(disk), dir)?;
    let control = match &loaded {
        Loaded::Found(bytes) => {
            Some(serde_json::from_slice(bytes).map_err(StartError::ControlContent)?)
        }
        _ => None,
    };
    let has_log = !disk
        .list(&dir.join("wal"))
        .map_err(at_path(dir))?
        .is_empty();
    if control.is_none() && has_log && !settings.bootstrap {
        let what = if loaded == Loaded::Damaged {
            "damaged"
        } else {
            "missing"
        };
        return Err(StartError::LogWithoutControl {
            dir: dir.to_path_buf(),
            what,
        });
    }
    let snapshots = SnapshotStore::open(Arc::clone(disk), dir)?;
    let loaded = snapshots::load_newest(&snapshots)?;
    Ok(Found {
        control,
        file,
        loaded,
        snapshots,
        lock,
    })
}

/// A directory is one node's for ever: its votes are in it.
fn check_owner(disk: &dyn Disk, settings: &Settings) -> Result<(), StartError> {
    let path = settings.data_dir.join("NODE");
    let own = format!("{} {}\n", settings.name, settings.id);
    match crate::wal::read_all(disk, &path) {
        Ok(found) if found == own.as_bytes() => Ok(()),
        Ok(found) => Err(StartError::OtherNode {
            dir: settings.data_dir.clone(),
            found: String::from_utf8_lossy(&found).trim().to_string(),
            wanted: own.trim().to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            crate::wal::replace(disk, &path, own.as_bytes()).map_err(at_path(&path))
        }
        Err(error) => Err(at_path(&path)(error)),
    }
}

/// Starts a node: afterwards it takes part in its cluster. Clients are `server`'s business.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    // The port first: a node that cannot have it must not touch its promises.
    let listener = listen(&settings.peer_addr, MAX_UNPROVEN).await?;
    let found = tokio::task::block_in_place(|| look_at_disk(&disk, &settings))?;
    let cell: Arc<OnceLock<Weak<Node>>> = Arc::default();
    let log = tokio::task::block_in_place(|| open_log(&disk, &settings, &found, &cell))?;
    let process = clock::draw();
    let config = Arc::new(settings.machine(process, clock::boot_id()));
    let end = log.end();
    let position = LogPos {
        epoch: end.epoch,
        lsn: end.lsn,
        time: end.time,
    };
    let view = LogView {
        appended: position,
        written: end.lsn,
        synced: end.lsn,
        applied: found.loaded.begin.lsn,
    };
    let machine = Machine::new(config, found.control, view, clock::now());
    let store = Arc::new(Store::new(log, found.loaded.keyspace, found.loaded.begin));
    let (orders, orders_to) = mpsc::unbounded_channel();
    let (mut outboxes, mut inboxes) = (BTreeMap::new(), Vec::new());
    for member in settings
        .members
        .iter()
        .filter(|m| m.member.id != settings.id)
    {
        let (sender, receiver) = mpsc::channel(1024);
        outboxes.insert(member.member.id, sender);
        inboxes.push((member.member.id, receiver));
    }
    let (history, news) = std::sync::mpsc::channel();
    let reports = Reports::load(Arc::clone(&disk), &settings.data_dir);
    let node = Arc::new(Node::new(Parts {
        settings,
        store,
        reports,
        snapshots: found.snapshots,
        machine,
        process,
        outboxes,
        orders,
        exact_from: found.loaded.end,
        history,
    }));
    // Set once, just above the only other user: the log's writer, idle until something is written.
    let _ = cell.set(Arc::downgrade(&node));
    let persister = spawn_persister(&node, found.file)?;
    spawn_historian(&node, news)?;
    let control = spawn_control(&node, listener, inboxes)?;
    let tasks = vec![
        tokio::spawn(steward::run(Arc::clone(&node), orders_to)),
        tokio::spawn(steward::apply_released(Arc::clone(&node))),
        tokio::spawn(snapshots::keep(Arc::clone(&node))),
        tokio::spawn(expire(Arc::clone(&node))),
    ];
    node.enter([Input::Tick]);
    Ok(Running {
        node,
        control: Some(control),
        persister: Some(persister),
        tasks,
        _lock: found.lock,
    })
}

fn open_log(
    disk: &Arc<dyn Disk>,
    settings: &Settings,
    found: &Found,
    cell: &Arc<OnceLock<Weak<Node>>>,
) -> Result<Arc<Log>, StartError> {
    let config = LogConfig {
        segment_bytes: settings.segment_bytes,
        fsync: settings.fsync,
        ..LogConfig::default()
    };
    let cluster = found
        .control
        .as_ref()
        .and_then(|control| control.cluster)
        .unwrap_or(0);
    let for_log = Arc::clone(cell);
    let on_progress = Arc::new(move |progress: &Progress| {
        if let Some(node) = for_log.get().and_then(Weak::upgrade) {
            node.on_log_progress(progress);
        }
    });
    let dir = settings.data_dir.as_path();
    let opened = Log::open(
        Arc::clone(disk),
        dir,
        config,
        cluster,
        found.loaded.begin,
        on_progress,
    )?;
    let recovered = &opened.recovered;
    if let Some(why) = &recovered.torn {
        tracing::warn!("cut a torn tail behind LSN {} ({why})", recovered.end.lsn);
    }
    tracing::info!(
        "log recovered: {} records, last LSN {}",
        recovered.records,
        recovered.end.lsn
    );
    Ok(Arc::new(opened.log))
}

fn spawn_persister(
    node: &Arc<Node>,
    file: ControlFile,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let node = Arc::clone(node);
    std::thread::Builder::new()
        .name("control-writer".into())
        .spawn(move || run_persister(&node, file))
        .map_err(at_path(Path::new("thread control-writer")))
}

fn spawn_historian(
    node: &Arc<Node>,
    news: std::sync::mpsc::Receiver<super::driver::News>,
) -> Result<(), StartError> {
    let weak = Arc::clone(node);
    std::thread::Builder::new()
        .name("historian".into())
        .spawn(move || run_historian(&weak, &news))
        .map(drop)
        .map_err(at_path(Path::new("thread historian")))
}

fn spawn_control(
    node: &Arc<Node>,
    listener: PeerListener,
    inboxes: Vec<(crate::units::NodeId, mpsc::Receiver<links::Word>)>,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let data = tokio::runtime::Handle::current();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(at_path(Path::new("control runtime")))?;
    // The listener was made on the other runtime; it moves to this one.
    let node = Arc::clone(node);
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            runtime.block_on(async {
                let links = inboxes.into_iter().map(|(peer, words)| {
                    tokio::spawn(links::speak(Arc::clone(&node), peer, words))
                });
                let _links: Vec<_> = links.collect();
                tokio::spawn(links::listen(Arc::clone(&node), listener, data));
                keep_time(&node).await;
            });
        })
        .map_err(at_path(Path::new("thread control")))
}

/// Wakes the machine when it wants to be woken, and watches over this node's own health.
async fn keep_time(node: &Arc<Node>) {
    let longest = Duration::from_millis(100);
    let mut last = clock::boot_time();
    loop {
        let now = clock::boot_time();
        if node.gate_now().stopping {
            return;
        }
        let gap = now.since(last);
        last = now;
        let frozen = gap > Micros(node.settings.lease.as_micros() as u64) && gap.0 > 200_000;
        let stalled = node.store.log().stalled_for();
        let health = if frozen {
            Some(format!("this process stood still for {} ms", gap.as_ms()))
        } else if stalled > node.settings.stall {
            Some(format!(
                "the log's disk has not answered for {} ms",
                stalled.as_millis()
            ))
        } else {
            None
        };
        match health {
            Some(why) if node.gate_now().is_primary() => node.enter([Input::StepDown(why)]),
            _ => node.enter([Input::Tick]),
        }
        let wait = Duration::from_micros(node.deadline().since(clock::boot_time()).0);
        let wait = wait.clamp(Duration::from_micros(200), longest);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = node.timer.notified() => tokio::task::yield_now().await,
        }
    }
}

/// Deletes expired keys, ten times a second.
async fn expire(node: Arc<Node>) {
    loop {
        let gate = node.gate_now();
        if gate.stopping {
            return;
        }
        let mut deleted = 0;
        if gate.serves == super::gate::Serves::Primary && gate.lease_until > clock::boot_time() {
            deleted = node
                .store
                .expire(gate.epoch, gate.released, gate.append_limit);
            super::stats::Stats::add(&node.stats.expired, deleted as u64);
        }
        let more = deleted >= 500;
        tokio::time::sleep(Duration::from_millis(if more { 1 } else { 100 })).await;
    }
}

impl Running {
    /// Hands over where it can, writes what is to be written, and ends every thread.
    pub async fn stop(mut self) {
        let gate = self.node.gate_now();
        if gate.is_primary() && self.node.settings.members.len() > 1 {
            self.node.enter([Input::Switchover(None)]);
            let mut gate = self.node.gate();
            let over = gate.wait_for(|gate| !gate.is_primary());
            let _ = tokio::time::timeout(Duration::from_millis(500), over).await;
        }
        self.node.stop();
        for task in self.tasks.drain(..) {
            task.abort();
        }
        tokio::task::block_in_place(|| {
            self.node.store.log().close();
            for thread in [self.control.take(), self.persister.take()]
                .into_iter()
                .flatten()
            {
                // A thread that panicked has said so already.
                let _ = thread.join();
            }
        });
    }
}
