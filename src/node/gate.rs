//! What sessions need to know before they execute, and before they let a reply go: published by
//! the driver whenever the machine moves, read without asking it.

use crate::replica::Lag;
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// What this node may do for clients now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What kind of answers.
    pub serves: Serves,
    /// The highest epoch promised; a primary's own.
    pub epoch: Epoch,
    /// Until when a primary may let replies go (R18).
    pub lease_until: Micros,
    /// Replies may show effects up to here.
    pub shown: Lsn,
    /// Released, as far as known here; what a standby may apply (R23).
    pub released: Lsn,
    /// Async with `max_lag`: nothing is appended beyond.
    pub lag: Option<Lag>,
    /// The primary, if one is believed in.
    pub primary: Option<NodeId>,
    /// There is no live primary as far as this node knows.
    pub suspected: bool,
    /// Whom to follow now.
    pub following: Option<(NodeId, Epoch)>,
    /// It gave up its log for a full copy, or is about to, and has not caught up since (R14).
    pub incomplete: bool,
    /// The cluster; zero while blank.
    pub cluster: u128,
    /// This node's incarnation of membership.
    pub incarnation: u64,
    /// The newest reign that this node handed over, and the last LSN that was released in it: its
    /// successor holds all of that, so replies up to there may still go.
    pub settled: Option<(Epoch, Lsn)>,
    /// The node is shutting down.
    pub stopping: bool,
}

/// What kind of answers a node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Reads and writes, under leases.
    Primary,
    /// Reads; a switchover has paused writes.
    PausedPrimary,
    /// Nothing yet: the reign has not begun.
    YoungPrimary,
    /// Reads of what it has applied.
    Standby,
    /// Nothing: what it has applied may not be what was released (R19, R23).
    Unsure,
    /// Nothing but discovery.
    Witness,
}

impl Gate {
    pub(super) fn closed() -> Gate {
        Gate {
            serves: Serves::Unsure,
            epoch: Epoch::ZERO,
            lease_until: Micros::ZERO,
            shown: Lsn::ZERO,
            released: Lsn::ZERO,
            lag: None,
            primary: None,
            suspected: false,
            following: None,
            incomplete: false,
            cluster: 0,
            incarnation: 0,
            settled: None,
            stopping: false,
        }
    }

    /// Whether this node reigns.
    pub fn is_primary(&self) -> bool {
        matches!(
            self.serves,
            Serves::Primary | Serves::PausedPrimary | Serves::YoungPrimary
        )
    }
}
