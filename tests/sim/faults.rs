//! What goes wrong: drawn from the seed, one after the other and some at once, each over after a
//! while. Never more than the cluster can be asked to survive: a disk's content is taken away only
//! while enough good copies are left (the atlas).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use understudy::replica::Input;

use super::cluster::{Cluster, own_id};
use super::illness::{is_harmless, sicken};
use super::process::Fate;
use super::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    PowerLoss,
    /// The power goes at one of the next operations on the disk.
    PowerLossAtWrite,
    Freeze,
    Isolate,
    IsolateFromMembers,
    CutOneWay,
    CutPair,
    Reset,
    Refuse,
    Weather,
    SlowDisk,
    FailingDisk,
    FullDisk,
    Wipe,
    /// A bit of what is synced turns.
    Rot,
    WallJump,
    Switchover,
    StepDown,
    Force,
    /// An effect on a keyspace that no record says.
    WrongEffect,
    /// A bit of a stored value turns in memory.
    MemoryBit,
}

/// Every kind, and how often it comes.
const KINDS: [(Fault, u64); 22] = [
    (Fault::Kill, 16),
    (Fault::PowerLoss, 8),
    (Fault::PowerLossAtWrite, 8),
    (Fault::Freeze, 8),
    (Fault::Isolate, 8),
    (Fault::IsolateFromMembers, 6),
    (Fault::CutOneWay, 8),
    (Fault::CutPair, 6),
    (Fault::Reset, 6),
    (Fault::Refuse, 4),
    (Fault::Weather, 4),
    (Fault::SlowDisk, 4),
    (Fault::FailingDisk, 5),
    (Fault::FullDisk, 3),
    (Fault::Wipe, 4),
    (Fault::Rot, 4),
    (Fault::WallJump, 3),
    (Fault::Switchover, 6),
    (Fault::StepDown, 1),
    (Fault::Force, 2),
    (Fault::WrongEffect, 8),
    (Fault::MemoryBit, 5),
];

/// How often each kind was injected.
pub type Counts = BTreeMap<Fault, u64>;

pub struct Nemesis {
    pub cluster: Arc<Cluster>,
    pub random: Random,
    pub counts: Counts,
}

impl Nemesis {
    fn kind(&mut self) -> Fault {
        let total: u64 = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(total);
        for (fault, weight) in KINDS {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        Fault::Kill
    }

    /// A node to hit; often the primary.
    fn victim(&mut self) -> u32 {
        match self.cluster.serving() {
            Some(primary) if self.random.one_in(2) => primary,
            _ => 1 + self.random.below(u64::from(self.cluster.shape.nodes())) as u32,
        }
    }

    fn other(&mut self, than: u32) -> u32 {
        let nodes = u64::from(self.cluster.shape.nodes());
        let step = 1 + self.random.below(nodes - 1) as u32;
        (than - 1 + step) % nodes as u32 + 1
    }

    fn while_ms(&mut self) -> Duration {
        let longest = if self.random.one_in(4) { 3000 } else { 900 };
        Duration::from_millis(1 + self.random.below(longest))
    }

    /// Injects faults until the time is over.
    pub async fn run(mut self, stop_at: Instant) -> Counts {
        while Instant::now() < stop_at && self.cluster.ghost.violation().is_none() {
            let pause = self.random.below(700);
            sleep(Duration::from_millis(pause)).await;
            let fault = self.kind();
            if self.inject(fault) {
                *self.counts.entry(fault).or_default() += 1;
            }
        }
        self.counts
    }

    fn later(&self, after: Duration, then: impl FnOnce(Arc<Cluster>) + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        tokio::spawn(async move {
            sleep(after).await;
            then(cluster);
        });
    }

    /// Somebody sees to the disk, and starts the node anew.
    fn restart_later(&self, victim: u32, over: Duration) {
        self.later(over + Duration::from_millis(500), move |cluster| {
            let hurt = cluster.with(victim, |machine| machine.hurt);
            if hurt && cluster.fate(victim) == Fate::Runs {
                cluster.kill(victim);
                revive(&cluster, victim);
            }
        });
    }

    fn note(&self, fault: Fault, of: u32) {
        self.cluster.ghost.note(&format!("FAULT {fault:?} {of}"));
    }

    /// `false` when it cannot happen now.
    fn inject(&mut self, fault: Fault) -> bool {
        let victim = self.victim();
        let over = self.while_ms();
        let cluster = Arc::clone(&self.cluster);
        let runs = cluster.fate(victim) == Fault::runs();
        if let Some(ill) = cluster.ghost.who_is_ill()
            && !is_harmless(&cluster, ill, fault, victim)
        {
            return false;
        }
        if let Some(lasts) = fault.lasts(over) {
            cluster.trouble(victim, lasts);
        }
        match fault {
            Fault::Kill if runs => {
                self.note(fault, victim);
                cluster.kill(victim);
                self.later(over, move |cluster| revive(&cluster, victim));
            }
            Fault::PowerLoss if runs => {
                self.note(fault, victim);
                cluster.power_off(victim);
                self.later(over, move |cluster| cluster.power_on(victim));
            }
            Fault::PowerLossAtWrite if runs => {
                self.note(fault, victim);
                let after = self.random.below(30);
                cluster.with(victim, |machine| {
                    machine.disk.crash_at(machine.disk.operations() + after);
                });
            }
            Fault::Freeze if runs => {
                self.note(fault, victim);
                let Some(process) = cluster.with(victim, |machine| machine.process.clone()) else {
                    return false;
                };
                process.freeze();
                self.later(over, move |_| {
                    if process.fate() == Fate::Frozen {
                        process.thaw();
                    }
                });
            }
            Fault::Isolate | Fault::IsolateFromMembers => {
                self.note(fault, victim);
                for place in cluster.places().filter(|place| *place != victim) {
                    cluster.net.cut(victim, place);
                    cluster.net.cut(place, victim);
                }
                if fault == Fault::Isolate {
                    for client in 100..110 {
                        cluster.net.cut(victim, client);
                        cluster.net.cut(client, victim);
                    }
                }
                self.later(over, |cluster| cluster.net.mend());
            }
            Fault::CutOneWay | Fault::CutPair => {
                self.note(fault, victim);
                let other = self.other(victim);
                cluster.trouble(other, over + SETTLES);
                cluster.net.cut(victim, other);
                if fault == Fault::CutPair {
                    cluster.net.cut(other, victim);
                }
                self.later(over, |cluster| cluster.net.mend());
            }
            Fault::Reset => {
                let other = self.other(victim);
                if !cluster.net.reset_one(victim, other) {
                    return false;
                }
                self.note(fault, victim);
            }
            Fault::Refuse if !cluster.shape.refused_is_dead => {
                self.note(fault, victim);
                cluster.net.refuse(victim, true);
                self.later(over, move |cluster| cluster.net.refuse(victim, false));
            }
            Fault::Weather => {
                let (delay, lossy) = (self.random.below(40), self.random.below(30));
                cluster
                    .ghost
                    .note(&format!("FAULT {fault:?} {delay} {lossy}"));
                cluster.net.weather(delay, lossy);
                cluster.storm(over + SETTLES);
                self.later(over, |cluster| cluster.net.weather(1, 0));
            }
            Fault::SlowDisk => {
                let longest = if self.random.one_in(3) { 2500 } else { 60 };
                let ms = 1 + self.random.below(longest);
                cluster
                    .ghost
                    .note(&format!("FAULT {fault:?} {victim} {ms}"));
                // What it has begun by then still takes so long. (Seed 254 of `witness`: the standby's memory
                // went wrong behind the end of this, the primary's sync was late by two seconds then, and it
                // handed over to the only copy that was wrong.)
                cluster.trouble(victim, over + Duration::from_millis(ms) + SETTLES);
                slow(&cluster, victim, ms);
                self.later(over, move |cluster| slow(&cluster, victim, 1));
            }
            Fault::FailingDisk if runs => {
                self.note(fault, victim);
                let after = self.random.below(20);
                cluster.with(victim, |machine| {
                    machine.disk.fail_at(machine.disk.operations() + after);
                    machine.hurt = true;
                });
                self.restart_later(victim, over);
            }
            Fault::FullDisk if runs => {
                self.note(fault, victim);
                let room = self.random.below(20_000);
                cluster.with(victim, |machine| {
                    let used = machine.disk.used_bytes();
                    machine.disk.set_capacity(Some(used + room));
                });
                // Somebody makes room, and that is all: the node goes on by itself.
                self.later(over, move |cluster| {
                    cluster.with(victim, |machine| machine.disk.set_capacity(None));
                });
            }
            Fault::Wipe | Fault::Rot => return self.take_content(fault, victim, over),
            Fault::WallJump => {
                let ms = self.random.below(20_000);
                cluster
                    .ghost
                    .note(&format!("FAULT {fault:?} {victim} {ms}"));
                cluster.with(victim, |machine| {
                    machine.clock.wall_offset_ms = ms;
                    if let Some(host) = &machine.host {
                        host.clock.lock().expect("one thread").wall_offset_ms = ms;
                    }
                });
            }
            Fault::Switchover => {
                let Some(primary) = cluster.serving() else {
                    return false;
                };
                let to = match self.random.one_in(2) {
                    true => None,
                    false => Some(own_id(
                        1 + self.random.below(u64::from(cluster.shape.data)) as u32,
                    )),
                };
                cluster
                    .ghost
                    .note(&format!("FAULT {fault:?} {primary} {to:?}"));
                tell(&cluster, primary, Input::Switchover(to));
            }
            Fault::StepDown => {
                let Some(primary) = cluster.serving() else {
                    return false;
                };
                self.note(fault, primary);
                tell(&cluster, primary, Input::StepDown("it was told to".into()));
            }
            Fault::Force => return self.force(),
            Fault::WrongEffect | Fault::MemoryBit => {
                return sicken(&cluster, &mut self.random, fault);
            }
            _ => return false,
        }
        true
    }

    /// A person promotes a node by force where nobody serves, and gives up nodes that are down.
    fn force(&mut self) -> bool {
        let cluster = Arc::clone(&self.cluster);
        let data = 1 + self.random.below(u64::from(cluster.shape.data)) as u32;
        if cluster.serving().is_some() || cluster.fate(data) != Fate::Runs {
            return false;
        }
        // Nobody gives up the nodes that hold the data for one that holds none.
        let whole = cluster.node(data).is_some_and(|node| {
            let view = node.view();
            let rule = view.rule.as_ref().map(|recorded| &recorded.rule);
            rule.is_some_and(|rule| rule.counts(own_id(data), view.incarnation))
        });
        if !whole {
            return false;
        }
        let dead = |place: &u32| cluster.fate(*place) == Fate::Dead;
        let lost: Vec<u32> = match self.random.one_in(2) {
            true => cluster.places().filter(dead).collect(),
            false => Vec::new(),
        };
        cluster
            .ghost
            .note(&format!("FAULT Force {data}, lost {lost:?}"));
        for place in &lost {
            cluster.with(*place, |machine| machine.condemned = true);
        }
        let lost = lost.into_iter().map(own_id).collect();
        tell(&cluster, data, Input::Promote(lost));
        true
    }

    /// A disk loses its content, or a bit of it: only while everyone is up and agrees, so that
    /// another good copy of everything is left.
    fn take_content(&mut self, fault: Fault, victim: u32, over: Duration) -> bool {
        let cluster = Arc::clone(&self.cluster);
        if !cluster.agrees() || cluster.serving() == Some(victim) {
            return false;
        }
        let bit = self.random.draw();
        let file = self.random.draw();
        if fault == Fault::Rot && !rot(&cluster, victim, file, bit) {
            return false;
        }
        self.note(fault, victim);
        cluster.kill(victim);
        if fault == Fault::Wipe {
            cluster.replace_disk(victim);
        }
        self.later(over, move |cluster| revive(&cluster, victim));
        true
    }
}

/// Turns one bit in a durable file. Not in the newest segment: what was synced last cannot be told
/// from a torn tail there.
fn rot(cluster: &Cluster, victim: u32, file: u64, bit: u64) -> bool {
    cluster.with(victim, |machine| {
        let files = machine.disk.durable_files();
        let newest = files
            .iter()
            .rposition(|file| file.path.extension().is_some_and(|kind| kind == "wal"));
        let files: Vec<_> = files
            .iter()
            .enumerate()
            .filter(|(place, file)| Some(*place) != newest && file.used > 0)
            .collect();
        let Some((_, file)) = files.get((file % files.len().max(1) as u64) as usize) else {
            return false;
        };
        machine.rotten = machine.disk.rot(&file.path, bit % (file.used * 8));
        machine.rotten
    })
}

/// What is left of a fault is over: connections are made again, a process has started.
const SETTLES: Duration = Duration::from_millis(500);

impl Fault {
    fn runs() -> Fate {
        Fate::Runs
    }

    /// How long something is the matter with its victim. (The power that goes at a write goes soon:
    /// there is always something written; the host is on again within a second and a half.)
    fn lasts(self, over: Duration) -> Option<Duration> {
        match self {
            Fault::PowerLossAtWrite => Some(Duration::from_secs(3)),
            Fault::FailingDisk => Some(over + 2 * SETTLES),
            Fault::Reset | Fault::WallJump | Fault::Weather => None,
            Fault::Switchover | Fault::StepDown | Fault::Force => None,
            Fault::WrongEffect | Fault::MemoryBit => None,
            _ => Some(over + SETTLES),
        }
    }
}

fn slow(cluster: &Cluster, place: u32, ms: u64) {
    cluster.with(place, |machine| {
        machine.disk_ms = ms;
        if let Some(host) = &machine.host {
            *host.disk_ms.lock().expect("one thread") = ms;
        }
    });
}

fn tell(cluster: &Cluster, place: u32, input: Input) {
    if let Some(node) = cluster.node(place) {
        node.enter([input]);
    }
}

/// Starts a process where there is none, on a host that has power.
pub fn revive(cluster: &Arc<Cluster>, place: u32) {
    if cluster.fate(place) == Fate::Dead {
        cluster.power_on(place);
    }
}

/// A node that still waits for records that its rotten disk lost gets a blank one, as its message
/// says: the others may have let go of them.
pub fn replace_unmendable(cluster: &Arc<Cluster>) {
    for place in cluster.places() {
        let waits = cluster.fate(place) == Fate::Runs && cluster.node(place).is_none();
        if waits && cluster.with(place, |machine| std::mem::take(&mut machine.rotten)) {
            cluster.kill(place);
            cluster.replace_disk(place);
            cluster.start(place);
        }
    }
}

/// A node that refuses to start because of what it found on its disk gets a blank one.
pub fn mind_refusals(cluster: &Arc<Cluster>) {
    for place in cluster.places() {
        let refused = cluster.with(place, |machine| machine.refusal.is_some());
        if refused && cluster.with(place, |machine| !machine.disk.is_off()) {
            if !cluster.with(place, |machine| std::mem::take(&mut machine.rotten)) {
                let why = cluster.with(place, |machine| machine.refusal.take());
                let why = why.unwrap_or_default();
                cluster.ghost.violated(format!(
                    "node {place} refuses a disk that only lost power: {why}"
                ));
                return;
            }
            cluster.kill(place);
            cluster.replace_disk(place);
            cluster.start(place);
        }
    }
}
