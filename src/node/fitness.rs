//! Why this node does not stand in elections, whatever its log says: it would win, and then have to
//! work before it could serve, or could not serve at all.

use std::collections::BTreeSet;
use std::fmt;

use super::driver::Node;
use crate::replica::Input;

/// A reason not to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// The log, the control state or the applying of records failed; for good.
    DiskFailed,
    /// Bytes of its log are damaged, and not mended yet.
    Damaged,
    /// There is no room on its disk; others are there that may have some.
    DiskFull,
    /// It takes a full copy.
    Copying,
    /// Keys wait for their values from the primary (R28).
    Repairing,
    /// Its keyspace is not what its log says, or is not the primary's.
    Quarantined,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::DiskFailed => "its disk failed",
            Unfit::Damaged => "its log is damaged",
            Unfit::DiskFull => "its disk is full",
            Unfit::Copying => "it takes a full copy",
            Unfit::Quarantined => "its keyspace is not the primary's",
            Unfit::Repairing => "it repairs keys whose records were given up",
        })
    }
}

impl Node {
    /// This node stands no more, until the reason is gone.
    pub(super) fn unfit(&self, why: Unfit) {
        self.change_fitness(|reasons| reasons.insert(why));
    }

    /// The reason is gone; others may be left.
    pub(super) fn fit_again(&self, why: Unfit) {
        self.change_fitness(|reasons| reasons.remove(&why));
    }

    /// Why this node does not stand; empty when it may.
    pub fn unfit_reasons(&self) -> Vec<Unfit> {
        let reasons = self.unfit.lock().expect("a set is only changed here");
        reasons.iter().copied().collect()
    }

    /// The machine hears of it under the set's lock: two changes reach it in their order.
    fn change_fitness(&self, change: impl FnOnce(&mut BTreeSet<Unfit>) -> bool) {
        let mut reasons = self.unfit.lock().expect("a set is only changed here");
        if change(&mut reasons) {
            self.enter([Input::Fit(reasons.is_empty())]);
        }
    }
}
