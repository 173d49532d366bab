//! The durable part of the machine: what a node must still know after a crash.
//!
//! Every field is persisted before anything that depends on it is said (R1).

use serde::{Deserialize, Serialize};

use super::rule::{RecordedRule, RuleId};
use crate::units::{Epoch, Micros, NodeId};

/// A node's control state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Control {
    /// The cluster this node belongs to; `None` on a blank node.
    pub cluster: Option<u128>,
    /// Drawn when the disk was blank (R25).
    pub incarnation: u64,
    /// The highest epoch this node has promised to.
    pub promised: Epoch,
    /// Whom it voted for in that epoch (R11).
    pub vote: Option<NodeId>,
    /// The newest commit rule it has recorded.
    pub rule: Option<RecordedRule>,
    /// The longest lease it ever promised; waited out after a restart (R12).
    pub longest_lease: Micros,
    /// The host's boot when it last acknowledged (R14).
    pub boot: u128,
    /// It gave up its log for a full copy, and with it records that it had acknowledged; it has not
    /// caught up since (R14).
    #[serde(default)]
    pub incomplete: bool,
}

impl Control {
    /// The control state of a node whose disk holds none.
    pub fn blank(incarnation: u64, boot: u128) -> Control {
        Control {
            cluster: None,
            incarnation,
            promised: Epoch::ZERO,
            vote: None,
            rule: None,
            longest_lease: Micros::ZERO,
            boot,
            incomplete: false,
        }
    }

    /// Whether this binds what the node may store and acknowledge otherwise than `before` did. Rules
    /// and leases do not; nor does a node that counts again as whole (R14): until that is durable, a
    /// crash only makes it count as not.
    pub(super) fn binds_otherwise(&self, before: &Control) -> bool {
        let Control {
            cluster,
            incarnation,
            promised,
            vote,
            rule: _,
            longest_lease: _,
            boot: _,
            incomplete,
        } = self;
        (cluster, incarnation, promised, vote)
            != (
                &before.cluster,
                &before.incarnation,
                &before.promised,
                &before.vote,
            )
            || (*incomplete && !before.incomplete)
    }

    /// Place of the newest recorded rule.
    pub fn rule_id(&self) -> Option<RuleId> {
        self.rule.as_ref().map(|recorded| recorded.id)
    }
}
