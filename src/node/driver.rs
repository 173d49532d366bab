//! The driver: gives the takeover machine everything that happens and carries out what it says.
//!
//! Whoever has news enters the machine under one short lock, on whatever thread it is: the log's
//! writer after a sync, a stream after an acknowledgement, the control thread on a message or a
//! timer. Nothing slow happens under the lock: control state is written by a thread of its own,
//! messages go into bounded queues, reigns begin and end in the steward's task.
//!
//! Lock order: the driver's lock, then the log's. Nobody who holds the store's lock enters here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::copies::CopyWaiters;
use super::digests::Digests;
use super::exposure::Heard;
use super::fitness::Unfit;
use super::gate::{Gate, Serves};
use super::guard::Guard;
use super::host::{Host, Seen};
use super::latency::{Latency, LatencyEvent};
use super::links::Word;
use super::outlook::Outlook;
use super::repair::Repair;
use super::reports::{ExactLoss, Reports};
use super::retention::Retention;
use super::rewriting::Rewriting;
use super::scrub::Scrub;
use super::stats::Stats;
use super::store::Store;
use super::tunables::Tunables;
use super::waiters::Waiters;
use crate::peer::Identity;
use crate::replica::{
    Ack, Control, Fresh, Input, Kind, Level, LogView, Machine, MaxLag, Now, Output, Report,
    Standing, View,
};
use crate::units::{Epoch, Lsn, Micros, NodeId};
use crate::wal::{ChainPoint, ControlError, ControlFile, Fsync, Progress, Reserve, SnapshotStore};

/// What the steward is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    BeginReign(Epoch),
    EndReign(Epoch),
    PauseWrites,
    ResumeWrites,
    /// The keyspace, from snapshot and log.
    Rebuild,
}

/// News for those who wait for an operation's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A switchover came to nothing.
    SwitchoverFailed(String),
    /// A forced promotion came to nothing.
    PromoteFailed(String),
    /// This node's reign of the epoch is over.
    ReignEnded(Epoch),
    /// Another primary is known (`+switch-master`).
    PrimaryChanged {
        /// Before.
        old: Option<NodeId>,
        /// Now.
        new: NodeId,
    },
    /// This node has won an election.
    ReignWon(Epoch),
    /// An epoch was promised that is higher than all before.
    EpochPromised(Epoch),
    /// This node takes the primary for down.
    PrimaryDown(NodeId),
    /// A majority of voters does.
    PrimaryAgreedDown(NodeId),
    /// It was not down, or hands over by its own word.
    PrimaryUp {
        /// Who.
        primary: NodeId,
        /// A majority had taken it for down.
        agreed: bool,
    },
    /// Another member is reached for the first time.
    Met(NodeId),
    /// A member that is not the primary is down.
    MemberDown(NodeId),
    /// It is back.
    MemberUp(NodeId),
    /// A standby, or this node itself, follows the new primary.
    Follows(NodeId),
}

/// A generation of control state.
type Generation = (u64, Box<Control>);

/// Control state waiting to be made durable, and whether to stop; a later generation replaces an
/// earlier one.
#[derive(Debug, Default)]
pub(super) struct PersistSlot {
    pub(super) next: Mutex<(Option<Generation>, bool)>,
    pub(super) changed: Notify,
}

impl PersistSlot {
    /// For another try, unless something newer waits.
    fn put_back(&self, tried: Generation) {
        let mut next = self.next.lock().expect("the slot is only moved in and out");
        next.0.get_or_insert(tried);
    }
}

struct Driver {
    machine: Machine,
    last_log: LogView,
    /// In which epoch, counted from where, the lag budget ended where.
    last_reach: (Epoch, Lsn, Lsn),
    deadline: Micros,
    heard: Heard,
}

/// One node, shared by all its parts.
pub struct Node {
    /// What the operator said.
    pub settings: Settings,
    /// What it stands on.
    pub host: Arc<dyn Host>,
    /// The data.
    pub store: Arc<Store>,
    /// Counters.
    pub stats: Stats,
    /// What CONFIG SET may change.
    pub tunables: Tunables,
    /// What took long.
    pub latency: Latency,
    /// Takeovers known.
    pub reports: Reports,
    /// Room kept back on the disk.
    pub reserve: Arc<Reserve>,
    /// Snapshots.
    pub snapshots: SnapshotStore,
    /// Who uses them.
    pub(super) desk: super::snapshots::Desk,
    pub(super) process: u64,
    driver: Mutex<Driver>,
    gate: watch::Sender<Gate>,
    pub(super) waiters: Waiters,
    pub(super) copy_waiters: CopyWaiters,
    /// The highest epoch promised, and whether this node reigns in it: moves rarely.
    reign: watch::Sender<(Epoch, bool)>,
    pub(super) events: broadcast::Sender<NodeEvent>,
    pub(super) outlook: Mutex<Outlook>,
    pub(super) outboxes: BTreeMap<NodeId, mpsc::Sender<Word>>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) acks: watch::Sender<Ack>,
    pub(super) history: mpsc::UnboundedSender<News>,
    pub(super) persist: Arc<PersistSlot>,
    pub(super) timer: Notify,
    /// Held while history is rewritten and while it is applied.
    pub(super) rewriting: Rewriting,
    /// This node's reign ended and it has not caught up with another primary since: what it holds
    /// may be long overtaken, and its old clients take it for the primary still.
    pub(super) deposed: AtomicBool,
    /// [`Machine::fresh`].
    fresh: Mutex<Option<Fresh>>,
    /// See [`Node::has_no_base`].
    pub(super) no_base: AtomicBool,
    /// Keys that wait for their values (R28).
    pub(super) repair: Mutex<Option<Repair>>,
    /// A repair has all its values: the applier may go on.
    pub(super) repaired: Notify,
    /// What the scrub has seen.
    pub(super) scrub: Scrub,
    /// Damage was found that cannot wait for the scrub.
    pub(super) damaged: Notify,
    /// The scrub has looked after it.
    pub(super) mended: Notify,
    /// What is known of keyspaces being the same.
    pub(super) digests: Digests,
    /// Its keyspace is not what its log says, or not the primary's: it serves nothing.
    pub(super) quarantined: AtomicBool,
    /// Why this node does not stand; empty when it may.
    pub(super) unfit: Mutex<BTreeSet<Unfit>>,
    retention: Mutex<Retention>,
    /// The log's disk is full; as told last.
    pub(super) full: AtomicBool,
    /// The newest LSN that a reply of this process may have shown, and the epoch (R33).
    pub(super) shown: Mutex<(Epoch, Lsn)>,
    /// Cancelled when the node stops.
    pub stopping: CancellationToken,
    /// When this process started.
    pub started: std::time::Instant,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.settings.id)
            .finish_non_exhaustive()
    }
}

/// What `start` has made before there is a node.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) host: Arc<dyn Host>,
    pub(super) store: Arc<Store>,
    pub(super) reports: Reports,
    pub(super) reserve: Arc<Reserve>,
    pub(super) snapshots: SnapshotStore,
    pub(super) machine: Machine,
    pub(super) process: u64,
    pub(super) outboxes: BTreeMap<NodeId, mpsc::Sender<Word>>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) history: mpsc::UnboundedSender<News>,
}

/// For the historian.
#[derive(Debug)]
pub(super) enum News {
    Report(Box<Report>),
    Discarded(Epoch, ExactLoss),
}

/// Writes the history, off everybody's way.
pub(super) async fn run_historian(node: Arc<Node>, mut news: mpsc::UnboundedReceiver<News>) {
    loop {
        let item = tokio::select! {
            item = news.recv() => item,
            () = node.stopping.cancelled() => news.try_recv().ok(),
        };
        let Some(item) = item else { return };
        node.host.disk_works().await;
        match item {
            News::Report(report) => node.reports.keep(*report),
            News::Discarded(epoch, loss) => node.reports.discarded(epoch, loss),
        }
    }
}

impl Node {
    pub(super) fn reports_of_others(&self, epoch: Epoch, loss: ExactLoss) {
        let _ = self.history.send(News::Discarded(epoch, loss));
    }

    pub(super) fn new(parts: Parts) -> Node {
        let members = parts.settings.members.iter();
        let outlook = Outlook::new(members.map(|m| m.member.id), parts.host.boot_time());
        let stats = Stats {
            last_snapshot_at: AtomicU64::new(parts.host.wall().0 / 1000),
            last_snapshot_lsn: AtomicU64::new(parts.store.applied().0),
            ..Stats::default()
        };
        Node {
            tunables: Tunables::new(&parts.settings),
            latency: Latency::default(),
            settings: parts.settings,
            host: parts.host,
            store: parts.store,
            stats,
            reports: parts.reports,
            reserve: parts.reserve,
            snapshots: parts.snapshots,
            desk: super::snapshots::Desk::default(),
            process: parts.process,
            driver: Mutex::new(Driver {
                machine: parts.machine,
                last_log: LogView::default(),
                last_reach: (Epoch::ZERO, Lsn::ZERO, Lsn::ZERO),
                deadline: Micros::ZERO,
                heard: Heard::default(),
            }),
            gate: watch::Sender::new(Gate::closed()),
            waiters: Waiters::default(),
            copy_waiters: CopyWaiters::default(),
            reign: watch::Sender::new((Epoch::ZERO, false)),
            events: broadcast::Sender::new(256),
            outlook: Mutex::new(outlook),
            outboxes: parts.outboxes,
            orders: parts.orders,
            acks: watch::Sender::new(Ack::default()),
            history: parts.history,
            persist: Arc::default(),
            timer: Notify::new(),
            rewriting: Rewriting::default(),
            deposed: AtomicBool::new(false),
            fresh: Mutex::default(),
            no_base: AtomicBool::new(false),
            repair: Mutex::default(),
            repaired: Notify::new(),
            scrub: Scrub::default(),
            damaged: Notify::new(),
            mended: Notify::new(),
            digests: Digests::default(),
            quarantined: AtomicBool::new(false),
            unfit: Mutex::default(),
            retention: Mutex::default(),
            full: AtomicBool::new(false),
            shown: Mutex::new((Epoch::ZERO, Lsn::ZERO)),
            stopping: CancellationToken::new(),
            started: std::time::Instant::now(),
        }
    }

    fn driver(&self) -> MutexGuard<'_, Driver> {
        self.driver
            .lock()
            .expect("the takeover machine found itself in an impossible state")
    }

    /// This node's number.
    pub fn id(&self) -> NodeId {
        self.settings.id
    }

    /// What sessions go by.
    pub fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Wakes when a reign begins or ends, and not with every release as the gate does.
    pub fn reign(&self) -> watch::Receiver<(Epoch, bool)> {
        self.reign.subscribe()
    }

    /// The gate now.
    pub fn gate_now(&self) -> Gate {
        *self.gate.borrow()
    }

    /// News.
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// The machine's view now.
    pub fn view(&self) -> View {
        self.driver().machine.view()
    }

    /// What this reign has heard from its standbys.
    pub(super) fn heard(&self) -> Heard {
        self.driver().heard.clone()
    }

    pub(super) fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention
            .lock()
            .expect("deciding what to keep does not panic")
    }

    /// What a promotion of this node would cost, and what stands against it.
    pub fn price(&self) -> (crate::replica::LossBound, Option<&'static str>) {
        let driver = self.driver();
        (driver.machine.price(), driver.machine.obstacle())
    }

    /// The highest epoch promised, asked of the machine itself.
    pub(super) fn promised(&self) -> Epoch {
        self.driver().machine.promised()
    }

    /// When the machine wants to be woken.
    pub(super) fn deadline(&self) -> Micros {
        self.driver().deadline
    }

    /// Who this node is, for a handshake.
    pub(super) fn identity(&self) -> Identity {
        let gate = self.gate_now();
        self.settings
            .identity(gate.cluster, gate.incarnation, self.process)
    }

    fn log_view(&self) -> LogView {
        let (appended, written, synced) = self.store.log().cursors();
        // R3: under any other fsync setting, durable means what that setting makes of it; levels
        // above received are then a configuration error.
        let synced = if self.settings.fsync == Fsync::Always {
            synced
        } else {
            written.lsn
        };
        let position = crate::replica::LogPos {
            epoch: appended.epoch,
            lsn: appended.lsn,
            time: appended.time,
        };
        LogView {
            appended: position,
            written: written.lsn,
            synced: synced.min(written.lsn),
            applied: self.store.applied(),
        }
    }

    /// Tells the machine, and does what it says.
    pub fn enter(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut driver = self.driver();
        let now = self.host.now();
        let log = self.log_view();
        if log != driver.last_log {
            driver.last_log = log;
            driver.machine.handle(now, Input::Log(log));
        }
        for input in inputs {
            let news = self.outlook_now().hear(self.id(), &input, now.boot);
            driver.machine.handle(now, input);
            self.tell(news);
        }
        self.measure_lag(&mut driver, now);
        while let Some(output) = driver.machine.poll_output() {
            self.carry_out(output);
        }
        self.publish(&mut driver, now);
        let deadline = driver.machine.poll_deadline();
        // Only when the timer would sleep too long. (It was once woken for every deadline in the
        // past, too, by its own tick: it never slept, and the heartbeats beside it starved.)
        if deadline < driver.deadline {
            self.timer.notify_one();
        }
        driver.deadline = deadline;
    }

    /// The machine counts LSNs; what a budget in bytes or time comes to is measured here.
    fn measure_lag(&self, driver: &mut Driver, now: Now) {
        let Some(lag) = driver.machine.lag_kept() else {
            return;
        };
        if matches!(lag.budget, MaxLag::Records(_)) {
            return;
        }
        let (base, limit) = (lag.base, self.store.lag_reach(&lag));
        let reach = (driver.machine.promised(), base, limit);
        if std::mem::replace(&mut driver.last_reach, reach) != reach {
            driver.machine.handle(now, Input::LagReach { base, limit });
        }
    }

    fn carry_out(&self, output: Output) {
        self.host.observe(Seen::Said(&output));
        match output {
            Output::Persist {
                generation,
                control,
            } => {
                let mut slot = self
                    .persist
                    .next
                    .lock()
                    .expect("the slot is only moved in and out");
                slot.0 = Some((generation, control));
                self.persist.changed.notify_one();
            }
            Output::Send { to, envelope } => {
                // A full queue is a peer that does not read; the protocol lives with loss.
                if let Some(outbox) = self.outboxes.get(&to) {
                    let _ = outbox.try_send(Word::Machine(*envelope));
                }
            }
            Output::BeginReign { epoch } => {
                tracing::info!(%epoch, "this node won; promoting");
                Stats::add(&self.stats.takeovers, 1);
                self.tell([NodeEvent::ReignWon(epoch)]);
                self.order(Order::BeginReign(epoch));
            }
            Output::EndReign {
                epoch,
                why,
                settled,
            } => {
                let settled = settled.map(|lsn| (epoch, lsn));
                self.gate.send_modify(|gate| gate.settled = settled);
                tracing::warn!(%epoch, "stepping down: {why}");
                let gate = *self.gate.borrow();
                if let Ok(mut shown) = self.shown.lock() {
                    *shown = (epoch, gate.shown);
                }
                self.outlook_now().reign_ended(epoch);
                self.deposed.store(true, Ordering::Release);
                let _ = self.events.send(NodeEvent::ReignEnded(epoch));
                self.order(Order::EndReign(epoch));
            }
            Output::PauseWrites => self.order(Order::PauseWrites),
            Output::ResumeWrites(why) => {
                tracing::warn!("switchover called off: {why}");
                let _ = self.events.send(NodeEvent::SwitchoverFailed(why));
                self.order(Order::ResumeWrites);
            }
            Output::Acknowledge { to: _, ack } => {
                let mut ack = ack;
                if self.settings.fsync != Fsync::Always {
                    ack.synced = ack.synced.min(self.store.log().cursors().2);
                }
                self.acks.send_replace(ack);
            }
            Output::PromoteFailed(why) => {
                tracing::warn!("promotion failed: {why}");
                let _ = self.events.send(NodeEvent::PromoteFailed(why));
            }
            Output::Report(report) => self.report(*report),
        }
    }

    pub(super) fn order(&self, order: Order) {
        // The steward ends only with the node.
        let _ = self.orders.send(order);
    }

    fn report(&self, report: Report) {
        if report.first_release.is_some() {
            let ms = |span: Option<Micros>| span.map_or(0.0, |span| span.0 as f64 / 1000.0);
            tracing::info!(
                epoch = %report.epoch,
                "serving: voted in {:.1} ms, promoted in {:.1} ms, first write released after {:.1} ms; {}",
                report.voted.0 as f64 / 1000.0,
                ms(report.promoted),
                ms(report.first_release),
                if report.bound.exact_zero { "nothing lost" } else { "loss possible, see history" }
            );
        }
        let _ = self.history.send(News::Report(Box::new(report)));
    }

    fn publish(&self, driver: &mut Driver, now: Now) {
        let view = driver.machine.view();
        driver.heard.note(&view);
        let following = driver.machine.following();
        let serves = self.serves(&view);
        *self.fresh_now() = driver.machine.fresh();
        let gate = Gate {
            serves,
            epoch: view.epoch,
            lease_until: view.lease_until,
            shown: view.shown,
            released: view.released,
            lag: view.lag,
            primary: view.primary,
            suspected: view.suspected,
            following,
            incomplete: view.incomplete,
            cluster: view.cluster.unwrap_or(0),
            incarnation: view.incarnation,
            // These two are set elsewhere.
            settled: None,
            stopping: false,
        };
        let mut before = None;
        self.gate.send_if_modified(|old| {
            let gate = Gate {
                settled: old.settled,
                stopping: old.stopping,
                ..gate
            };
            if *old != gate {
                before = Some(std::mem::replace(old, gate));
            }
            before.is_some()
        });
        if let Some(before) = before {
            self.waiters.gate_changed(&before, &gate);
        }
        let reign = (gate.epoch, gate.is_primary());
        let reign_moved = self
            .reign
            .send_if_modified(|old| std::mem::replace(old, reign) != reign);
        self.copy_waiters.moved(&view, reign_moved);
        let news = self.outlook_now().note(&view, now.boot);
        self.tell(news);
    }

    /// The digest of the keyspace and the record after which it is taken; `None` while the
    /// keyspace is not exact (a fuzzy snapshot without its log, a rebuild).
    pub fn digest(&self) -> Option<(ChainPoint, u64)> {
        self.store.digest()
    }

    fn fresh_now(&self) -> MutexGuard<'_, Option<Fresh>> {
        self.fresh
            .lock()
            .expect("nothing panics while it holds how fresh a standby is")
    }

    /// How old what is read on this standby may be, where so much is applied. `None` where it is not known,
    /// and on a primary.
    pub fn staleness(&self) -> Option<(Duration, Lsn)> {
        let fresh = (*self.fresh_now())?;
        let age = self.host.boot_time().since(fresh.as_of);
        let known = self.store.applied() >= fresh.upto;
        known.then(|| (Duration::from_micros(age.0), fresh.upto))
    }

    /// Whether its snapshots were damaged and its log does not reach back: until a full copy there is
    /// nothing to apply records to.
    pub(super) fn has_no_base(&self) -> bool {
        self.no_base.load(Ordering::Acquire)
    }

    /// From here on nothing but a full copy helps.
    pub(super) fn loses_base(&self) {
        self.no_base.store(true, Ordering::Release);
        self.unfit(Unfit::Copying);
    }

    /// The newest record behind which a node's keyspace was proven to be the primary's: on the
    /// primary for each data node, on a standby for itself.
    pub fn proven_equal(&self, node: NodeId) -> Option<Lsn> {
        self.digests.proven(node)
    }

    fn serves(&self, view: &View) -> Serves {
        if self.settings.kind() == Kind::Witness {
            return Serves::Witness;
        }
        if view.standing == Standing::Primary {
            return match (view.begun, view.paused) {
                (false, _) => Serves::YoungPrimary,
                (true, true) => Serves::PausedPrimary,
                (true, false) => Serves::Primary,
            };
        }
        let applied = self.store.applied();
        // R19, R23: readers see only what is known to be released.
        let deposed = self.deposed.load(Ordering::Acquire);
        let known = !deposed && applied <= view.released && view.released > Lsn::ZERO;
        let keeps = self.settings.keeps(Guard::R19);
        let sound = !self.quarantined.load(Ordering::Acquire);
        if sound && self.store.is_exact() && (known || !keeps) {
            Serves::Standby
        } else {
            Serves::Unsure
        }
    }

    /// Tells everyone to stop.
    pub fn stop(&self) {
        self.stopping.cancel();
        let before = *self.gate.borrow();
        self.gate.send_modify(|gate| gate.stopping = true);
        self.waiters.gate_changed(&before, &self.gate_now());
        if let Ok(mut slot) = self.persist.next.lock() {
            slot.1 = true;
        }
        self.persist.changed.notify_one();
        self.timer.notify_one();
    }

    /// The log's writer has news.
    pub(super) fn on_log_progress(&self, progress: &Progress) {
        if progress.was_sync {
            self.stats.sync_seconds.observe(progress.took.as_secs_f64());
            self.note_latency(LatencyEvent::WalSync, progress.took);
        }
        self.note_room(progress.full.as_deref());
        let received = self.settings.replies_wait_for() == Some(Level::Received);
        match &progress.failed {
            // Of a write that is about to be synced nobody has to know.
            None if !progress.was_sync && self.settings.fsync == Fsync::Always && !received => {}
            None => self.enter([]),
            Some(why) => {
                tracing::error!("{why}");
                self.unfit(Unfit::DiskFailed);
                self.enter([Input::StepDown(why.to_string())]);
            }
        }
    }
}

/// Until control state that had no room on the disk is stored again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Writes control state, one generation at a time, until the node stops or the disk fails.
pub(super) async fn run_persister(node: Arc<Node>, mut file: ControlFile) {
    let slot = Arc::clone(&node.persist);
    loop {
        let (work, stopping) = {
            let mut next = slot.next.lock().expect("the slot is only moved in and out");
            (next.0.take(), next.1)
        };
        let Some((generation, control)) = work else {
            if stopping {
                return;
            }
            slot.changed.notified().await;
            continue;
        };
        node.host.disk_works().await;
        let stored = match serde_json::to_vec(&control) {
            Ok(bytes) => file.store(&bytes),
            Err(why) => {
                tracing::error!("control state cannot be written down: {why}");
                node.unfit(Unfit::DiskFailed);
                return node.enter([Input::StepDown(why.to_string())]);
            }
        };
        match stored {
            Ok(()) => {
                node.host.observe(Seen::Durable(&control));
                node.enter([Input::Persisted(generation)]);
            }
            Err(why @ ControlError::NoRoom { .. }) => {
                // What depends on it is not said (R1), until there is room.
                tracing::error!("control state waits: {why}");
                slot.put_back((generation, control));
                tokio::select! {
                    () = node.stopping.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
            Err(why) => {
                // Never retried: what the disk holds now is not known.
                tracing::error!("control state was not written: {why}");
                node.unfit(Unfit::DiskFailed);
                node.enter([Input::StepDown(why.to_string())]);
                return;
            }
        }
    }
}
