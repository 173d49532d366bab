//! What machines say to each other. Plain data; `peer` turns it into bytes.

use serde::{Deserialize, Serialize};

use super::rule::{RecordedRule, RuleId};
use crate::units::{Epoch, Lsn, Micros, Millis, NodeId};

/// The end of a log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPos {
    /// Epoch of the last record.
    pub epoch: Epoch,
    /// Its LSN.
    pub lsn: Lsn,
    /// Its time.
    pub time: Millis,
}

impl LogPos {
    /// Whether this log is at least as new as `other`: last epoch, then LSN (R10).
    pub fn at_least(&self, other: &LogPos) -> bool {
        (self.epoch, self.lsn) >= (other.epoch, other.lsn)
    }
}

/// What a node remembers of the newest heartbeat it saw; the ground of every loss bound (R21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeenBeat {
    /// The reign.
    pub epoch: Epoch,
    /// The heartbeat's number in it.
    pub seq: u64,
    /// Last record in the primary's log when it was sent.
    pub appended: Lsn,
    /// The primary's wall-clock when it was sent.
    pub wall: Millis,
    /// The lease asked for.
    pub lease: Micros,
}

/// What a voter tells about itself with each answer to a (pre-)vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// End of its log; zero on a witness.
    pub log: LogPos,
    /// The newest rule it has recorded.
    pub rule: Option<RecordedRule>,
    /// Its incarnation of membership (R25).
    pub incarnation: u64,
    /// Its host rebooted since it last acknowledged (R14).
    pub rebooted: bool,
    /// It gave up its log for a full copy and has not caught up since (R14).
    pub incomplete: bool,
    /// The newest heartbeat it saw.
    pub seen: Option<SeenBeat>,
    /// The highest epoch it has promised to.
    pub promised: Epoch,
}

/// Why a voter says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// It holds a live lease for another primary (R12).
    LeaseLive,
    /// Its own log is newer (R10).
    NewerLog,
    /// It voted for another, or promised a higher epoch (R11).
    HigherEpoch,
    /// It is blank, or not counted under this incarnation (R24, R25).
    NotCounted,
    /// It belongs to a cluster already and so founds no other (R24).
    NotBlank,
    /// It reigns itself.
    Reigning,
}

impl Refusal {
    /// For a person.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::LeaseLive => "holds a live lease for the old primary",
            Refusal::NewerLog => "has a newer log",
            Refusal::HigherEpoch => "promised a higher epoch or voted for another",
            Refusal::NotCounted => "is blank and not yet admitted",
            Refusal::NotBlank => "belongs to a cluster already",
            Refusal::Reigning => "is the primary",
        }
    }
}

/// A message with its sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Envelope {
    /// The member that says it.
    pub from: NodeId,
    /// Its cluster; `None` while blank.
    pub cluster: Option<u128>,
    /// Its incarnation of membership.
    pub incarnation: u64,
    /// What it says.
    pub message: Message,
}

/// Everything machines say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// The primary lives, and asks for the lease.
    Beat(Beat),
    /// The voter's answer.
    BeatAnswer(BeatAnswer),
    /// Would you vote for me? Changes nothing (R13).
    PreVote {
        /// The epoch it would stand in.
        epoch: Epoch,
        /// End of its log.
        log: LogPos,
        /// Its newest rule, when that is the founding one: a blank voter listed there may join.
        founding: Option<RecordedRule>,
        /// Echoed in the answer, so that an answer to an earlier question is not taken for one
        /// to this.
        round: u64,
    },
    /// The answer to `PreVote`.
    PreVoteAnswer {
        /// As asked.
        round: u64,
        /// `None`: yes.
        refused: Option<Refusal>,
        /// About the voter.
        ballot: Ballot,
    },
    /// Vote for me.
    Vote {
        /// The epoch it stands in, durably promised by the sender.
        epoch: Epoch,
        /// End of its log.
        log: LogPos,
        /// As in `PreVote`.
        founding: Option<RecordedRule>,
        /// Set: a blank node stands to begin a new cluster (R24).
        begin: bool,
    },
    /// The answer to `Vote`, durable before it is said (R1).
    VoteAnswer {
        /// As asked.
        epoch: Epoch,
        /// Incarnation of the candidate that asked: a replaced disk may stand in the same epoch, with
        /// less in its log (R11).
        candidate: u64,
        /// `None`: the vote is granted.
        refused: Option<Refusal>,
        /// About the voter.
        ballot: Ballot,
    },
    /// The primary proposes a commit rule.
    Propose {
        /// The reign.
        epoch: Epoch,
        /// The rule.
        rule: RecordedRule,
    },
    /// The voter has recorded the rule durably.
    Recorded {
        /// The reign that proposed it.
        epoch: Epoch,
        /// Which rule.
        rule: RuleId,
    },
    /// The sender's reign of this epoch is over for good (R20).
    Abdicate {
        /// The reign.
        epoch: Epoch,
        /// Who is to stand, if one was chosen.
        to: Option<NodeId>,
    },
    /// The sender is blank and would begin a cluster with the others if they are blank, too.
    Blank,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beat {
    /// The reign.
    pub epoch: Epoch,
    /// 1, 2, 3 … in it.
    pub seq: u64,
    /// The primary's clock when it was sent, echoed in the answer: leases count from here.
    pub sent_at: Micros,
    /// Highest of this voter's answers that the primary has seen (R16).
    pub echo: u64,
    /// Last record in the primary's log.
    pub appended: Lsn,
    /// Synced at the primary.
    pub synced: Lsn,
    /// Safe to apply.
    pub released: Lsn,
    /// The primary served when it was sent: it held leases, and its EpochStart was released.
    pub serves: bool,
    /// The primary's wall-clock.
    pub wall: Millis,
    /// The lease asked for.
    pub lease: Micros,
    /// The primary's process.
    pub process: u64,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// As in the beat.
    pub epoch: Epoch,
    /// As in the beat.
    pub seq: u64,
    /// As in the beat.
    pub sent_at: Micros,
    /// Whether the lease is promised.
    pub lease: bool,
    /// The highest epoch the voter has promised to; above `epoch`, the reign is over.
    pub promised: Epoch,
    /// End of the voter's log.
    pub log: LogPos,
    /// Synced there.
    pub synced: Lsn,
    /// Applied there.
    pub applied: Lsn,
    /// The newest rule it has recorded.
    pub rule: Option<RuleId>,
    /// It would stand for election: it is not out of disk, loading or repairing. A reign is handed
    /// over to no other.
    pub fit: bool,
}
