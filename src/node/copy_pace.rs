//! How fast a standby is given what it lacks: old records, or a snapshot.
//!
//! As fast as it goes while clients ask for next to nothing; else at `[limits] copy_rate`, so that they
//! notice little. A rate that is configured is kept at all times: somebody's network is meant.

use std::sync::atomic::Ordering;

use super::driver::Node;
use super::snapshots::Pace;
use crate::units::Micros;

/// How often it is looked whether clients are served, and how much they write.
const LOOK_EVERY: Micros = Micros::from_ms(50);

/// Commands and records, of clients and from the primary, that are next to nothing in that time.
const FEW: u64 = 5;

/// `[limits] copy_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRate {
    /// So many bytes per second, whatever happens; 0: no limit.
    Always(u64),
    /// So many while clients are served, and no limit while they are not.
    WhileServing(u64),
}

impl CopyRate {
    /// Bytes per second, while clients are served; 0: no limit.
    pub fn most(self) -> u64 {
        self.per_second(true)
    }

    /// Bytes per second; 0: no limit.
    pub(super) fn per_second(self, serving: bool) -> u64 {
        match self {
            CopyRate::Always(rate) => rate,
            CopyRate::WhileServing(rate) if serving => rate,
            CopyRate::WhileServing(_) => 0,
        }
    }
}

/// The pace of what goes to one standby.
pub(super) struct CopyPace {
    pace: Pace,
    looked: Micros,
    worked: u64,
}

impl CopyPace {
    /// Until the first look clients are taken to be served.
    pub(super) fn new(node: &Node) -> CopyPace {
        CopyPace {
            pace: Pace::new(node.settings.copy_rate.per_second(true)),
            looked: node.host.boot_time(),
            worked: worked(node),
        }
    }

    /// So many bytes went out. Returns when the next may. `at_least`: bytes per second below which it
    /// makes no sense to go.
    pub(super) async fn spend(&mut self, node: &Node, bytes: u64, at_least: impl FnOnce() -> u64) {
        let now = node.host.boot_time();
        if now.since(self.looked) >= LOOK_EVERY {
            let worked = worked(node);
            let serving = worked.abs_diff(self.worked) > FEW;
            (self.looked, self.worked) = (now, worked);
            let rate = match node.settings.copy_rate.per_second(serving) {
                0 => 0,
                rate => rate.max(at_least()),
            };
            self.pace.set(rate);
        }
        self.pace.spend(bytes).await;
    }
}

/// What this node has done for clients so far. (A repair may take some of it back.)
fn worked(node: &Node) -> u64 {
    node.stats.commands.load(Ordering::Relaxed) + node.store.applied().0
}
