//! What a node is told once, before it starts: who the members are, the mode, the timers.
//!
//! The configuration never changes while a machine lives, so it takes no part in the machine's
//! equality or hash (a model checker would otherwise hash it millions of times).

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::{Micros, NodeId};

/// What a member stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Log and keyspace.
    Data,
    /// Votes and control state only.
    Witness,
}

/// One member as the operator listed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// What it stores.
    pub kind: Kind,
    /// Whether it votes. A data node that does not follows, never stands and is in no rule.
    pub vote: bool,
    /// Zero: votes and acknowledges but never stands. Otherwise a higher number stands earlier.
    pub priority: u32,
}

/// Who must hold a record before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The primary alone.
    Async,
    /// The primary and `acks` standbys, falling back to the primary alone, visibly.
    SemiSync,
    /// `copies` data nodes, never fewer.
    Sync,
}

impl Mode {
    /// The name used on the command line and in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Async => "async",
            Mode::SemiSync => "semi-sync",
            Mode::Sync => "sync",
        }
    }

    /// How firmly standbys must hold a record in this mode, unless configured otherwise.
    pub fn level(self) -> Level {
        match self {
            Mode::SemiSync => Level::Received,
            Mode::Async | Mode::Sync => Level::Synced,
        }
    }
}

/// How firmly a standby must hold a record for it to count as a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Handed to the standby's operating system.
    Received,
    /// `fdatasync` returned (R3).
    Synced,
    /// Synced, and the reply also waits until the standby's readers see it (R9).
    Applied,
}

impl Level {
    /// The name used on the command line and in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Level::Received => "received",
            Level::Synced => "synced",
            Level::Applied => "applied",
        }
    }
}

/// The operator's loss budget for a takeover that cannot prove it has every released record (R21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaxLoss {
    /// Nothing may be lost: such a takeover is always refused.
    Nothing,
    /// At most this many records; needs `max_lag` in records, or no bound is known.
    Records(u64),
    /// At most this many bytes of log; needs `max_lag` in bytes, or no bound is known.
    Bytes(u64),
    /// At most the writes of this many milliseconds.
    SpanMs(u64),
}

/// How far the log of an async primary may be ahead of what any successor is sure to hold: the RPO
/// budget. Durable as part of a rule, since a takeover draws its bound from it (R21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxLag {
    /// This many records.
    Records(u64),
    /// This many bytes of records, headers included.
    Bytes(u64),
    /// The writes of this many milliseconds.
    Ms(u64),
}

impl std::fmt::Display for MaxLag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MaxLag::Records(n) => write!(f, "{n} records"),
            MaxLag::Bytes(n) => write!(f, "{n} bytes"),
            MaxLag::Ms(n) => write!(f, "{n} ms"),
        }
    }
}

/// Everything a machine is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Every member, this node included.
    pub members: Vec<Member>,
    /// The mode wanted.
    pub mode: Mode,
    /// Overrides the mode's own level.
    pub level: Option<Level>,
    /// Sync mode: copies wanted, this node's included. `None`: a majority of the data nodes, at
    /// least two where there are two.
    pub copies: Option<u32>,
    /// Semi-sync: standbys that must hold a record.
    pub acks: u32,
    /// Semi-sync: how long the oldest waiting record waits before the fall-back.
    pub semi_sync_timeout: Micros,
    /// Async: how far the primary may be ahead of its standbys.
    pub max_lag: Option<MaxLag>,
    /// The loss budget of an automatic takeover.
    pub max_loss: MaxLoss,
    /// Time between heartbeats.
    pub interval: Micros,
    /// Grace for one heartbeat's way.
    pub timeout: Micros,
    /// Missed heartbeats that raise suspicion.
    pub threshold: u32,
    /// A voter's promise, from receipt of a heartbeat.
    pub lease: Micros,
    /// Whether a refused connection proves that the process is dead.
    pub refused_is_dead: bool,
    /// A person allowed this node to begin a cluster alone (`serve --bootstrap`, R24).
    pub bootstrap: bool,
    /// Drawn at start: the id of the cluster, should this node be the one to begin it.
    pub new_cluster_id: u128,
    /// Drawn at start: this node's incarnation of membership, should it be blank (R25).
    pub new_incarnation: u64,
    /// Drawn at start: this process.
    pub process: u64,
    /// The host's boot id (R14).
    pub boot: u128,
}

impl Config {
    /// The lease as the primary counts it: shortened by a twentieth, so that clocks whose rates
    /// differ by less than five percent never let two nodes believe in their lease at once (R12).
    pub fn lease_at_primary(&self) -> Micros {
        Micros(self.lease.0 - self.lease.0 / 20)
    }

    /// Longest time from the primary's silence to a standby's suspicion.
    pub fn worst_case_detection(&self) -> Micros {
        Micros(u64::from(self.threshold) * self.interval.0 + self.timeout.0)
    }

    /// The member with this number, if it is listed.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// This node's own entry.
    pub fn own(&self) -> &Member {
        self.member(self.id)
            .expect("the configuration lists this node; checked by Machine::new")
    }

    /// Every other member's number, ascending as listed.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .iter()
            .map(|member| member.id)
            .filter(|id| *id != self.id)
    }

    /// How many standbys stand before this node does, with `gone` out of the race: the ones with
    /// a higher priority, then the ones with a lower number.
    pub(super) fn rank(&self, gone: Option<NodeId>) -> u64 {
        let own = self.own();
        let before = self.members.iter().filter(|other| {
            other.kind == Kind::Data
                && other.vote
                && other.priority > 0
                && Some(other.id) != gone
                && (std::cmp::Reverse(other.priority), other.id)
                    < (std::cmp::Reverse(own.priority), own.id)
        });
        before.count() as u64
    }
}

/// A shared value that never changes and so counts as equal to itself wherever it goes.
#[derive(Clone, Debug)]
pub(super) struct Fixed<T>(pub(super) Arc<T>);

impl<T> Deref for Fixed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> PartialEq for Fixed<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Fixed<T> {}

impl<T> Hash for Fixed<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
