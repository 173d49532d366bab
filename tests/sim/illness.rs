//! Memory that is wrong: an effect that no record says, or a bit that turned in a stored value.
//!
//! From the fault on, the node's keyspace is wrong by definition: until that keyspace is gone the
//! ghost compares nothing with it, and what it answers as a primary is not judged. Everything else
//! stays demanded of everyone: that it is found in time ([`mind`]), that nobody healthy is taken for
//! the sick one, and that afterwards the same keys are everywhere, by digest and by what is stored.
//!
//! While a node is ill no fault is begun that could make it the only word left ([`is_harmless`]):
//! two copies that differ cannot be told apart, and the winner of an election is believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use understudy::command::KeyCommand;
use understudy::keyspace::{Effect, Effects};
use understudy::node::Node;
use understudy::resp::Reply;
use understudy::units::{Epoch, Lsn};

use super::cluster::{Cluster, own_id};
use super::faults::Fault;
use super::oracle::Ghost;
use super::process::{Fate, Process};
use super::random::Random;

/// A node's wrong memory.
#[derive(Clone, Debug)]
pub struct Ill {
    pub fault: Fault,
    process: u64,
    keyspace: u64,
    quarantines: u64,
    /// The digests it showed since. The same as a healthy node's: what was wrong was overwritten.
    pub digests: BTreeMap<(Lsn, Epoch), u64>,
}

impl Ill {
    pub fn new(fault: Fault, process: &Process, node: &Node) -> Ill {
        Ill {
            fault,
            process: process.number,
            keyspace: node.store.keyspace_seed(),
            quarantines: quarantines(node),
            digests: BTreeMap::new(),
        }
    }

    /// How it ended, if it has.
    pub fn end(&self, process: &Process, node: &Node) -> Option<End> {
        if self.process != process.number {
            return Some(End::Restarted);
        }
        if self.keyspace == node.store.keyspace_seed() {
            return None;
        }
        Some(match quarantines(node) > self.quarantines {
            true => End::Found,
            false => End::Replaced,
        })
    }
}

/// How an illness ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The node was taken out of service, and its keyspace built again.
    Found,
    /// The process ended before.
    Restarted,
    /// A later record said what the key holds: nothing is wrong any more.
    Overwritten,
    /// The keyspace was replaced for another reason.
    Replaced,
}

/// How often each.
pub type Ends = BTreeMap<(Fault, End), u64>;

/// How often this process was taken out of service.
pub fn quarantines(node: &Node) -> u64 {
    node.stats.quarantines.load(Ordering::Relaxed)
}

/// A digest that differs is found within this, where nothing disturbs the following. (A round of
/// heartbeats each 100 ms, half a second for a third opinion.)
const DIGEST_WITHIN: Duration = Duration::from_secs(1);

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long until this fault must have been found.
fn bound(cluster: &Cluster, fault: Fault) -> Duration {
    match fault {
        Fault::MemoryBit => {
            Duration::from_secs(u64::from(cluster.shape.scrub_secs)) + DIGEST_WITHIN
        }
        _ => DIGEST_WITHIN,
    }
}

/// Sees to it that an illness is found in time.
async fn mind(cluster: Arc<Cluster>, place: u32, fault: Fault) {
    let bound = bound(&cluster, fault);
    let (mut well, mut at) = (Duration::ZERO, Instant::now());
    while cluster.ghost.illness_of(place) == Some(fault) {
        sleep(LOOK_EVERY).await;
        let passed = at.elapsed();
        at = Instant::now();
        let runs = cluster.fate(place) == Fate::Runs;
        well = match fault {
            // The scrub needs nobody, and begins no pass anew.
            Fault::MemoryBit if runs => well + passed,
            Fault::MemoryBit => well,
            _ if is_undisturbed(&cluster, place) => well + passed,
            _ => Duration::ZERO,
        };
        if well > bound {
            cluster.ghost.violated(format!(
                "{fault:?} on node {place} was not found within {} ms of quiet",
                bound.as_millis()
            ));
            return;
        }
    }
}

/// Whether this node can be compared: everyone follows one primary, no fault lasts.
fn is_undisturbed(cluster: &Cluster, place: u32) -> bool {
    let exact = cluster
        .node(place)
        .is_some_and(|node| node.digest().is_some());
    exact && !cluster.is_stormy() && all_follow(cluster) && cluster.troubled().next().is_none()
}

/// Whether all nodes run, count and follow one primary, and nothing is the matter with them.
fn all_follow(cluster: &Cluster) -> bool {
    let Some(primary) = cluster.serving() else {
        return false;
    };
    let Some(view) = cluster.node(primary).map(|node| node.view()) else {
        return false;
    };
    let Some(rule) = &view.rule else { return false };
    cluster.places().all(|place| {
        if cluster.fate(place) != Fate::Runs {
            return false;
        }
        let Some(node) = cluster.node(place) else {
            return false;
        };
        let witness = place > cluster.shape.data;
        let follows = node.gate_now().following == Some((own_id(primary), view.epoch));
        let data = place == primary || (follows && node.digest().is_some());
        rule.rule.counts(own_id(place), node.view().incarnation)
            && node.unfit_reasons().is_empty()
            && (witness || data)
    })
}

/// Whether a fault may begin on this node while another, or it, is ill: the primary stays the
/// primary, and keeps those who contradict it if it is the sick one.
pub fn is_harmless(cluster: &Cluster, ill: u32, fault: Fault, victim: u32) -> bool {
    let Some(primary) = cluster.serving() else {
        return false;
    };
    match fault {
        Fault::Reset | Fault::WallJump => true,
        Fault::Weather => ill != primary,
        Fault::Switchover | Fault::StepDown | Fault::Force | Fault::Refuse => false,
        Fault::WrongEffect | Fault::MemoryBit => false,
        _ => {
            let another = cluster.troubled().any(|place| place != victim);
            ill != primary && victim != primary && !another
        }
    }
}

/// Makes a data node ill where the others can still say what is right: a standby, or, where two
/// are healthy to contradict it (R27), the primary.
pub fn sicken(cluster: &Arc<Cluster>, random: &mut Random, fault: Fault) -> bool {
    if !all_follow(cluster) {
        return false;
    }
    let Some(primary) = cluster.serving() else {
        return false;
    };
    // The primary stays it, and has its majority, whatever becomes of the node in trouble.
    let troubled = cluster.troubled().count();
    if cluster.troubled().any(|place| place == primary) || troubled > 1 {
        return false;
    }
    let data = cluster.shape.data;
    let reigns = data >= 3 && troubled == 0 && !cluster.is_stormy() && random.one_in(4);
    let place = match reigns {
        true => primary,
        false => (primary + random.below(u64::from(data) - 1) as u32) % data + 1,
    };
    // Wrong again before it was seen to be right, it would rightly be said to be wrong for good.
    let proven = cluster
        .node(primary)
        .and_then(|node| node.proven_equal(own_id(place)));
    if !reigns && proven.is_none_or(|proven| proven <= cluster.ghost.rebuilt_at(place)) {
        return false;
    }
    let Some(what) = afflict(cluster, place, fault, |node| spoil(node, random, fault)) else {
        return false;
    };
    let role = if reigns { "primary" } else { "standby" };
    let line = format!("FAULT {fault:?} {place} ({role}): {what}");
    cluster.ghost.note(&line);
    tokio::spawn(mind(Arc::clone(cluster), place, fault));
    true
}

/// Spoils a node's memory, and tells the ghost; what it was told.
pub fn afflict<T>(
    cluster: &Cluster,
    place: u32,
    fault: Fault,
    spoil: impl FnOnce(&Node) -> Option<T>,
) -> Option<T> {
    let process = cluster.with(place, |machine| machine.process.clone())?;
    let node = cluster.node(place)?;
    let ill = Ill::new(fault, &process, &node);
    let spoiled = spoil(&node)?;
    let reigns = cluster.serving() == Some(place);
    cluster.ghost.sickens(place, ill, reigns);
    Some(spoiled)
}

/// Keys that clients use: those that everybody fights for, and those that are seldom written.
const BUSY_KEYS: u64 = 3;
const ALL_KEYS: u64 = 153;

/// Spoils one key; what was done to it.
fn spoil(node: &Node, random: &mut Random, fault: Fault) -> Option<String> {
    let keys = if random.one_in(3) {
        BUSY_KEYS
    } else {
        ALL_KEYS
    };
    let (from, kind) = (random.below(keys), random.below(3));
    let names = (0..ALL_KEYS).map(|n| format!("k{}", (from + n) % ALL_KEYS));
    let is_there = |name: &String| {
        let key = name.as_bytes().to_vec().into();
        matches!(
            node.store
                .read_only(&KeyCommand::Get { key }, true, Lsn::ZERO),
            Some(Reply::Bulk(_))
        )
    };
    if fault == Fault::MemoryBit {
        let key = names
            .into_iter()
            .find(|name| node.store.turn_bit_of(name.as_bytes()))?;
        return Some(format!("a bit of {key}"));
    }
    let mut names = names.into_iter();
    let mut effects = Effects::new();
    let key = match kind {
        0 => format!("never{from}"),
        _ => names.find(is_there)?,
    };
    effects.push(match kind {
        2 => Effect::Del {
            key: key.as_bytes(),
        },
        _ => Effect::Set {
            key: key.as_bytes(),
            value: b"wrong",
            expire_at: None,
        },
    });
    node.store.misapply(effects.encoded()).ok()?;
    Some(format!(
        "{} {key}",
        ["SET of a new key,", "SET", "DEL"][kind as usize]
    ))
}

/// At the end: the same keys everywhere, by digest and by what is stored, and all are in service.
pub fn is_everyone_well(cluster: &Cluster) -> Result<(), String> {
    let mut first = None;
    for place in 1..=cluster.shape.data {
        let Some(node) = cluster.node(place) else {
            return Err(format!("node {place} is down"));
        };
        let reasons = node.unfit_reasons();
        if !reasons.is_empty() {
            return Err(format!("node {place} is out of service: {reasons:?}"));
        }
        if !node.store.is_sound() {
            return Err(format!("node {place} does not hold what it was told to"));
        }
        let Some((at, digest)) = node.digest() else {
            return Err(format!("node {place} has no digest"));
        };
        let here = (at.lsn, digest);
        if *first.get_or_insert(here) != here {
            return Err(format!("node {place} holds other keys than the others"));
        }
    }
    match cluster.ghost.who_is_ill() {
        Some(place) => Err(format!("node {place} is still ill")),
        None => Ok(()),
    }
}

impl Ghost {
    /// For [`mind`]: what is wrong with a node's memory.
    pub fn illness_of(&self, place: u32) -> Option<Fault> {
        self.ill(place).map(|ill| ill.fault)
    }
}
