//! What a takeover tells afterwards: why, how fast, and at what price.

use serde::{Deserialize, Serialize};

use super::message::LogPos;
use crate::units::{Epoch, Micros, Millis, NodeId};

/// How a reign came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The cluster's first reign.
    Start,
    /// No other primary was known since this node started.
    Restart,
    /// The old primary's process was seen to be gone (R15).
    ProcessGone,
    /// The old primary's heartbeats stopped.
    MissedBeats,
    /// The old primary abdicated, or handed over.
    Abdication,
    /// A person forced it.
    Operator,
}

/// The bound on what a takeover may have lost, known at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LossBound {
    /// The winner's votes satisfy the rule: nothing was lost.
    pub exact_zero: bool,
    /// At most this many acknowledged records; `None`: not bounded in records.
    pub records: Option<u64>,
    /// At most this many bytes of acknowledged records; `None`: not bounded in bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// They were made within at most this many milliseconds; `None`: unknown. (As far as it was
    /// drawn from heartbeats they were acknowledged within it, too.)
    pub span_ms: Option<u64>,
    /// Records the last heartbeat announced and the winner's log lacks: a lower estimate.
    pub announced_missing: u64,
}

impl LossBound {
    /// Nothing lost, proven by R10.
    pub const ZERO: LossBound = LossBound {
        exact_zero: true,
        records: Some(0),
        bytes: Some(0),
        span_ms: Some(0),
        announced_missing: 0,
    };

    /// Nothing is known of it.
    pub const UNKNOWN: LossBound = LossBound {
        exact_zero: false,
        records: None,
        bytes: None,
        span_ms: None,
        announced_missing: 0,
    };
}

/// A takeover as its winner saw it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// The new reign.
    pub epoch: Epoch,
    /// What set it off.
    pub cause: Cause,
    /// A person forced it past the loss budget or declared members lost.
    pub forced: bool,
    /// Who reigned before, if known.
    pub old_primary: Option<NodeId>,
    /// The winner.
    pub new_primary: NodeId,
    /// Wall-clock when it won.
    pub at: Millis,
    /// The winner's clock when suspicion rose: zero of the phases below.
    pub suspected_at: Micros,
    /// From the last heartbeat to the suspicion, where one had been seen.
    pub since_last_beat: Option<Micros>,
    /// From suspicion to the win.
    pub voted: Micros,
    /// From suspicion to the end of promotion: everything applied, EpochStart appended.
    pub promoted: Option<Micros>,
    /// From suspicion to the release of EpochStart: writes are acknowledged from here on.
    pub first_release: Option<Micros>,
    /// The last record that the new reign shares with those before it.
    pub fork: LogPos,
    /// For a person.
    pub why_won: String,
    /// For a person: why each other member did not.
    pub others: Vec<(NodeId, String)>,
    /// What may have been lost.
    pub bound: LossBound,
}
