//! How old what is read on a standby can be.
//!
//! Promise: [`Machine::fresh`] names a moment of this node's clock and a record: everything that any client
//! was shown by any primary before that moment is within what is applied up to that record.
//!
//! R34: a beat that echoes this node's answer to an earlier one was sent after that answer was. If its sender
//! served when it sent it, nobody else did: it held leases (R12, R18), and its EpochStart was released, with
//! everything of the reigns before (R8). So everything that was shown until then is within what the beat
//! says to be released; once that is applied here, from the log of that reign, what is read here is no
//! older than the answer. No clock but this node's own is needed.

use super::machine::{Machine, Role};
use crate::units::{Epoch, Lsn, Micros};

/// What is read here is no older than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fresh {
    /// By this node's clock: everything that anybody was shown before …
    pub as_of: Micros,
    /// … is here where so much is applied. (A keyspace that is built again begins anew.)
    pub upto: Lsn,
}

/// Everything shown before `asked` is within `released`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Told {
    epoch: Epoch,
    released: Lsn,
    asked: Micros,
}

/// What a standby was told, and how much of it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Freshness {
    /// The oldest that is not applied, and the newest. Of those between, none is needed: a standby that is
    /// behind for ever longer would keep ever more.
    next: Option<Told>,
    newest: Option<Told>,
    fresh: Option<Fresh>,
}

impl Freshness {
    fn is_told(&mut self, told: Told) {
        match self.next {
            Some(next) if next.epoch == told.epoch => self.newest = Some(told),
            // What an earlier reign released may have been given up since (R21).
            _ => (self.next, self.newest) = (Some(told), None),
        }
    }

    fn applies(&mut self, applied: Lsn, matched: Option<Epoch>) {
        while let Some(next) = self.next
            && matched == Some(next.epoch)
            && next.released <= applied
        {
            self.fresh = Some(Fresh {
                as_of: next.asked,
                upto: next.released,
            });
            self.next = self.newest.take();
        }
    }
}

impl Machine {
    /// `None` where it is not known, and on a primary.
    pub fn fresh(&self) -> Option<Fresh> {
        match self.role {
            Role::Primary(_) => None,
            _ => self.freshness.fresh,
        }
    }

    /// A primary that served told what is released, after this node's answer of that moment.
    pub(super) fn is_told_after(&mut self, asked: Micros, epoch: Epoch, released: Lsn) {
        self.freshness.is_told(Told {
            epoch,
            released,
            asked,
        });
        self.note_freshness();
    }

    /// More is applied, or the log is known to be that of another reign.
    pub(super) fn note_freshness(&mut self) {
        self.freshness.applies(self.log.applied, self.matched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(as_of: u64, upto: u64) -> Option<Fresh> {
        Some(Fresh {
            as_of: Micros(as_of),
            upto: Lsn(upto),
        })
    }

    fn told(epoch: u64, released: u64, asked: u64) -> Told {
        Told {
            epoch: Epoch(epoch),
            released: Lsn(released),
            asked: Micros(asked),
        }
    }

    #[test]
    fn it_is_as_fresh_as_the_newest_that_is_applied() {
        let mut standby = Freshness::default();
        standby.is_told(told(1, 10, 100));
        standby.applies(Lsn(9), Some(Epoch(1)));
        assert_eq!(standby.fresh, None, "one is missing");
        standby.is_told(told(1, 20, 200));
        standby.is_told(told(1, 30, 300));
        standby.applies(Lsn(10), Some(Epoch(1)));
        assert_eq!(standby.fresh, fresh(100, 10));
        // What was told between is passed over: it waits for the newest.
        standby.applies(Lsn(29), Some(Epoch(1)));
        assert_eq!(standby.fresh, fresh(100, 10));
        standby.applies(Lsn(30), Some(Epoch(1)));
        assert_eq!(standby.fresh, fresh(300, 30));
    }

    #[test]
    fn another_reign_says_nothing_of_a_log_that_is_not_its_own() {
        let mut standby = Freshness::default();
        standby.is_told(told(1, 10, 100));
        standby.is_told(told(2, 8, 200));
        // Its record 8 may be another one.
        standby.applies(Lsn(9), Some(Epoch(1)));
        assert_eq!(standby.fresh, None);
        standby.applies(Lsn(9), None);
        assert_eq!(standby.fresh, None);
        standby.applies(Lsn(9), Some(Epoch(2)));
        assert_eq!(standby.fresh, fresh(200, 8));
    }
}
