//! Bringing a node up: lock, control state, snapshot, log, machine, threads; and down again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

use super::config::Settings;
use super::digests;
use super::driver::{Node, Parts, run_historian, run_persister};
use super::evict::SHARE;
use super::gather;
use super::host::{Apart, Host, Seen, Task};
use super::links;
use super::memory_limits::MemoryLimits;
use super::mend::Asker;
use super::reports::Reports;
use super::room;
use super::scrub;
use super::snapshots::{self, CannotLoad};
use super::steward;
use super::store::{NEVER, Store};
use crate::peer::{ListenError, Listener};
use crate::replica::{Control, Input, LogPos, LogView, Machine};
use crate::units::{Lsn, Micros};
use crate::wal::{
    ControlError, ControlFile, Disk, Held, Loaded, Log, LogConfig, OpenError, Progress, Reserve,
    SnapshotError, SnapshotStore, segment_files, segment_first, segment_header,
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
    /// No snapshot can be loaded, and the log alone does not do.
    #[error(transparent)]
    CannotLoad(#[from] CannotLoad),
    /// A damaged snapshot held records that the log behind the one before it does not.
    #[error(
        "a snapshot that held everything up to LSN {wanted} is damaged, and the log ends at LSN \
         {found}: LSN {} to {wanted} are missing. Restore the snapshot, or \
         move the data directory away and let the node take a copy from its primary",
        found.next()
    )]
    LogTooShort {
        /// Where the log ends.
        found: Lsn,
        /// Where the snapshot ended.
        wanted: Lsn,
    },
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
    apart: Vec<Apart>,
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
    /// Whose log it is, where the control state is lost and a person says to begin again with it.
    orphaned: Option<u128>,
    file: ControlFile,
    reserve: Arc<Reserve>,
    loaded: snapshots::Loaded,
    snapshots: SnapshotStore,
    lock: Box<dyn Held>,
}

fn look_at_disk(host: &dyn Host, settings: &Settings) -> Result<Found, StartError> {
    let disk = &host.disk();
    let dir = settings.data_dir.as_path();
    disk.create_dir_all(dir).map_err(at_path(dir))?;
    let lock = match disk.lock(&dir.join("LOCK")) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(StartError::InUse(dir.to_path_buf()));
        }
        lock => lock.map_err(at_path(dir))?,
    };
    check_owner(disk.as_ref(), settings)?;
    let reserve = Arc::new(Reserve::open(Arc::clone(disk), dir));
    let kept = Some(Arc::clone(&reserve));
    let (file, loaded) = ControlFile::load_within(kept, Arc::clone(disk), dir)?;
    let control: Option<Control> = match &loaded {
        Loaded::Found(bytes) => {
            Some(serde_json::from_slice(bytes).map_err(StartError::ControlContent)?)
        }
        _ => None,
    };
    let segments = segment_files(disk.as_ref(), dir).map_err(at_path(dir))?;
    let member = control.as_ref().is_some_and(|c| c.cluster.is_some());
    let orphan = segments.first().filter(|_| !member);
    if orphan.is_some() && !settings.bootstrap {
        let what = match loaded {
            Loaded::Missing => "missing",
            Loaded::Damaged => "damaged",
            Loaded::Found(_) => "of no cluster",
        };
        return Err(StartError::LogWithoutControl {
            dir: dir.to_path_buf(),
            what,
        });
    }
    let orphaned = orphan.and_then(|path| segment_header(disk.as_ref(), path));
    let snapshots = SnapshotStore::open(Arc::clone(disk), dir)?;
    let log_first = segments.first().and_then(|path| segment_first(path));
    let mut found = Found {
        control,
        orphaned: orphaned.map(|header| header.cluster),
        file,
        reserve,
        loaded: snapshots::Loaded::nothing(host),
        snapshots,
        lock,
    };
    match snapshots::load_newest(host, &found.snapshots, log_first) {
        Ok(loaded) => found.loaded = loaded,
        Err(error @ CannotLoad::NothingElse { .. }) if found.may_copy(settings) => {
            tracing::error!("{error}. Going on without it, for a full copy from the primary");
            found.do_without_snapshots(disk.as_ref(), segments.first().map(PathBuf::as_path))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(found)
}

impl Found {
    /// Whether what this disk lost can be had from another data node, without this one being taken
    /// for what it was.
    fn may_copy(&self, settings: &Settings) -> bool {
        self.control.is_some() && settings.other_data_nodes().next().is_some()
    }

    /// No keyspace can be had from this disk. The log is what it was, where there is one: it goes on
    /// counting, and only cannot be replayed. Without it this node is less than it acknowledged.
    fn do_without_snapshots(
        &mut self,
        disk: &dyn Disk,
        first: Option<&Path>,
    ) -> Result<(), StartError> {
        let header = first.and_then(|path| segment_header(disk, path));
        match header {
            Some(header) => {
                self.loaded.begin = header.before;
                self.loaded.end = NEVER;
                Ok(())
            }
            None => self.has_less_than_acknowledged(),
        }
    }

    /// R14: durable before anybody can ask.
    fn has_less_than_acknowledged(&mut self) -> Result<(), StartError> {
        let Some(control) = &mut self.control else {
            return Ok(());
        };
        control.incomplete = true;
        let bytes = serde_json::to_vec(control).map_err(StartError::ControlContent)?;
        Ok(self.file.store(&bytes)?)
    }
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
pub async fn start(settings: Settings, host: Arc<dyn Host>) -> Result<Running, StartError> {
    let disk = host.disk();
    // The port first: a node that cannot have it must not touch its promises.
    let network = host.network();
    let listener = network
        .listen(&settings.peer_addr, MAX_UNPROVEN, settings.lease)
        .await?;
    let mut found = host.blocking(|| look_at_disk(host.as_ref(), &settings))?;
    let cell: Arc<OnceLock<Weak<Node>>> = Arc::default();
    let process = host.draw();
    let log = open_whole_log(&host, &settings, &found, &cell, process).await?;
    host.blocking(|| do_without_damaged(&mut found, &settings, log.end().lsn))?;
    let mut config = settings.machine(process, host.as_ref());
    if let Some(cluster) = found.orphaned {
        config.new_cluster_id = cluster;
    }
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
    if let Some(control) = &found.control {
        host.observe(Seen::Durable(control));
    }
    let no_base = found.loaded.end == NEVER;
    let machine = Machine::new(Arc::new(config), found.control, view, host.now());
    let store = Arc::new(Store::new(
        Arc::clone(&host),
        log,
        found.loaded.keyspace,
        found.loaded.begin,
        found.loaded.end,
        MemoryLimits::new(
            settings.maxmemory,
            settings.maxmemory_policy,
            settings.maxmemory_samples,
        ),
    ));
    let events = settings.notify_keyspace_events;
    store.notify().set(events.bits());
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
    let (history, news) = mpsc::unbounded_channel();
    let reserve = Arc::clone(&found.reserve);
    let reports = Reports::load(Arc::clone(&disk), reserve, &settings.data_dir);
    let node = Arc::new(Node::new(Parts {
        settings,
        host: Arc::clone(&host),
        store,
        reports,
        reserve: found.reserve,
        snapshots: found.snapshots,
        machine,
        process,
        outboxes,
        orders,
        history,
    }));
    if no_base {
        node.loses_base();
    }
    // Set once, just above the only other user: the log's writer, idle until something is written.
    let _ = cell.set(Arc::downgrade(&node));
    // Only now: what the writer says of a full disk is to be heard.
    node.store.log().keep_reserve(Arc::clone(&node.reserve));
    let apart = |name: &'static str, task: Task| {
        let failed = at_path(Path::new(name));
        host.spawn_apart(name, task).map_err(failed)
    };
    let persister = run_persister(Arc::clone(&node), found.file);
    let mut aside = vec![
        apart("control-writer", Box::pin(persister))?,
        apart(
            "historian",
            Box::pin(run_historian(Arc::clone(&node), news)),
        )?,
        apart(
            "control",
            Box::pin(run_control(Arc::clone(&node), listener, inboxes)),
        )?,
    ];
    if !host.has_threads() {
        let steps = step_log(Arc::clone(&node));
        aside.push(apart("wal-writer", Box::pin(steps))?);
    }
    let tasks = vec![
        host.spawn(Box::pin(steward::run(Arc::clone(&node), orders_to))),
        host.spawn(Box::pin(steward::apply_released(Arc::clone(&node)))),
        host.spawn(Box::pin(gather::run(Arc::clone(&node)))),
        host.spawn(Box::pin(snapshots::keep(Arc::clone(&node)))),
        host.spawn(Box::pin(expire(Arc::clone(&node)))),
        host.spawn(Box::pin(scrub::run(Arc::clone(&node)))),
        host.spawn(Box::pin(digests::run(Arc::clone(&node)))),
        host.spawn(Box::pin(digests::scrub_memory(Arc::clone(&node)))),
    ];
    node.enter([Input::Tick]);
    Ok(Running {
        node,
        apart: aside,
        tasks,
        _lock: found.lock,
    })
}

/// A damaged snapshot was passed over: the log must hold all that it held, and then it goes aside.
fn do_without_damaged(
    found: &mut Found,
    settings: &Settings,
    log_end: Lsn,
) -> Result<(), StartError> {
    let wanted = found.loaded.damaged.iter().map(|damaged| damaged.end).max();
    if let Some(wanted) = wanted.filter(|wanted| *wanted > log_end) {
        let error = StartError::LogTooShort {
            found: log_end,
            wanted,
        };
        if !found.may_copy(settings) {
            return Err(error);
        }
        tracing::error!("{error}. Going on from there; the primary has the rest");
        found.has_less_than_acknowledged()?;
    }
    Ok(found.loaded.set_aside(&found.snapshots)?)
}

/// Opens the log, mended where it must be.
async fn open_whole_log(
    host: &Arc<dyn Host>,
    settings: &Settings,
    found: &Found,
    cell: &Arc<OnceLock<Weak<Node>>>,
    process: u64,
) -> Result<Arc<Log>, StartError> {
    loop {
        let error = match host.blocking(|| open_log(host, settings, found, cell)) {
            Err(StartError::Log(error)) => error,
            opened => return opened,
        };
        let (Some(hole), Some(control)) = (error.hole(), &found.control) else {
            return Err(error.into());
        };
        let asker = Asker {
            host,
            settings,
            cluster: control.cluster.unwrap_or(0),
            incarnation: control.incarnation,
            promised: control.promised,
            process,
        };
        if settings.other_data_nodes().next().is_none() {
            return Err(error.into());
        }
        tracing::error!("{error}");
        asker.fill(hole).await;
    }
}

fn open_log(
    host: &Arc<dyn Host>,
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
        .or(found.orphaned)
        .unwrap_or(0);
    let for_log = Arc::clone(cell);
    let on_progress = Arc::new(move |progress: &Progress| {
        if let Some(node) = for_log.get().and_then(Weak::upgrade) {
            node.on_log_progress(progress);
        }
    });
    let dir = settings.data_dir.as_path();
    let (disk, begin) = (host.disk(), found.loaded.begin);
    let opened = if host.has_threads() {
        Log::open(disk, dir, config, cluster, begin, on_progress)?
    } else {
        let clock = Arc::clone(host);
        let clock = Arc::new(move || Duration::from_micros(clock.boot_time().0));
        Log::open_stepped(disk, dir, config, cluster, begin, on_progress, clock)?
    };
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

/// The control plane: speaking, listening, and the timer.
async fn run_control(
    node: Arc<Node>,
    listener: Box<dyn Listener>,
    inboxes: Vec<(crate::units::NodeId, mpsc::Receiver<links::Word>)>,
) {
    let host = Arc::clone(&node.host);
    for (peer, words) in inboxes {
        host.spawn_here(Box::pin(links::speak(Arc::clone(&node), peer, words)));
    }
    host.spawn_here(Box::pin(links::listen(Arc::clone(&node), listener)));
    keep_time(&node).await;
}

/// The log's writer on a host without threads.
async fn step_log(node: Arc<Node>) {
    let log = Arc::clone(node.store.log());
    loop {
        // Not less than a millisecond: this clock and the log's may drift apart.
        let again = log.due_in().map(|left| left.max(Duration::from_millis(1)));
        let far = Duration::from_secs(3600);
        tokio::select! {
            more = log.work() => if !more {
                return;
            },
            () = tokio::time::sleep(again.unwrap_or(far)) => {}
        }
        if log.has_work() {
            node.host.disk_works().await;
            log.step();
        }
    }
}

/// Wakes the machine when it wants to be woken, and watches over this node's own health.
async fn keep_time(node: &Arc<Node>) {
    let longest = Duration::from_millis(100);
    let mut last = node.host.boot_time();
    let mut room = room::Watch::new(last);
    loop {
        let now = node.host.boot_time();
        if node.gate_now().stopping {
            return;
        }
        let gap = now.since(last);
        last = now;
        let frozen = gap > Micros(node.settings.lease.as_micros() as u64) && gap.0 > 200_000;
        let stalled = node.store.log().stalled_for();
        room.look(node, now);
        node.look_around();
        let health = if frozen {
            Some(format!("this process stood still for {} ms", gap.as_ms()))
        } else if stalled > node.settings.stall && node.view().successor.is_some() {
            // Without a standby that could take over, stepping down would only end the reads, too.
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
        let wait = Duration::from_micros(node.deadline().since(node.host.boot_time()).0);
        let wait = wait.clamp(Duration::from_micros(200), longest);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = node.timer.notified() => tokio::task::yield_now().await,
        }
    }
}

/// Deletes expired keys, and what memory has no room for, ten times a second.
async fn expire(node: Arc<Node>) {
    loop {
        let gate = node.gate_now();
        if gate.stopping {
            return;
        }
        let (mut deleted, mut evicted) = (0, 0);
        if gate.serves == super::gate::Serves::Primary && gate.lease_until > node.host.boot_time() {
            deleted = node.store.expire(gate.epoch, gate.released, gate.lag);
            super::stats::Stats::add(&node.stats.expired, deleted as u64);
            evicted = node.store.evict(gate.epoch, gate.released, gate.lag);
        }
        let more = deleted >= 500 || evicted >= SHARE;
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
        let host = Arc::clone(&self.node.host);
        host.blocking(|| {
            self.node.store.log().close();
            self.apart.drain(..).for_each(Apart::join);
        });
    }
}
