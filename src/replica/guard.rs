//! The switches that prove the model's worth: each leaves one rule of `docs/protocol.md`, or one
//! part of a rule, out of a machine, so that `tests/mutants.rs` can show that the model notices.
//!
//! Without the cargo feature `mutants` there is no switch: [`Machine::keeps`] is a constant `true`
//! that the compiler removes.

use super::machine::Machine;

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule, or a part of one, that a mutant leaves out at the place that keeps it.
        #[cfg_attr(
            not(feature = "mutants"),
            allow(dead_code, reason = "some are left out where a mutant is made")
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "mutants")]
        impl Guard {
            /// Every one of them.
            pub const ALL: &[Guard] = &[$(Guard::$name,)*];
        }
    };
}

guards! {
    /// R1: nothing is said before what it depends on is durable.
    R1,
    /// R1: nor is anything logged. Who begins a cluster belongs to it first.
    R1Begin,
    /// R4: a standby's cursors start afresh at each handshake.
    R4,
    /// R5: nothing is released before a majority has recorded a rule of this epoch.
    R5Majority,
    /// R5: one proposal is outstanding at a time.
    R5OneProposal,
    /// R6: the old rule counts until a majority has recorded the new one.
    R6Old,
    /// R6: the new rule counts from the decision on.
    R6New,
    /// R6: the proposal goes out when what is released meets the new rule.
    R6Met,
    /// R7: a winner alone waits until its whole log is synced.
    R7Synced,
    /// R7: a winner whose partner is dead goes on alone at once.
    R7AtOnce,
    /// R8: records of earlier epochs count only once EpochStart does.
    R8,
    /// R9: release does not wait for applied.
    R9Release,
    /// R9: replies do.
    R9Reply,
    /// R10: the newest rule that any vote carried decides.
    R10NewestRule,
    /// R10: enough members of that rule vote.
    R10Members,
    /// R10: no data node votes for an older log.
    R10Log,
    /// R11: one vote per epoch.
    R11Vote,
    /// R11: a node that is made a voter has no vote in the epoch that made it one.
    R11Known,
    /// R11: after a restart a node stands only in an epoch higher than any it knew.
    R11Restart,
    /// R11: a vote counts only for the disk that asked for it.
    R11Disk,
    /// R12: a live lease forbids a vote.
    R12Lease,
    /// R12: a live lease forbids the own candidacy, too.
    R12Own,
    /// R12: a restarted voter waits a lease out.
    R12Restart,
    /// R12: that lease is the longest it ever promised.
    R12Longest,
    /// R12: the primary counts its lease less the margin.
    R12Margin,
    /// R13: a candidate that could not win does not raise the epoch.
    R13,
    /// R14: what a rebooted host held at level received does not count.
    R14Forgot,
    /// R14: who gave up its log for a full copy neither stands nor counts as a copy.
    R14GaveUp,
    /// R14: it counts again only once the node has caught up.
    R14CaughtUp,
    /// R15: only the lease of the process that was seen to be gone is void.
    R15Process,
    /// R15: what others report counts for nothing.
    R15Hearsay,
    /// R16: a voter whose answers go unseen stops renewing.
    R16,
    /// R18: nothing is released without a lease.
    R18Lease,
    /// R18: a reign ends with its epoch.
    R18Epoch,
    /// R20: an abdication voids the lease of the reign it names, and no other's.
    R20Named,
    /// R20: later heartbeats of that reign are ignored.
    R20Over,
    /// R21: the loss budget refuses.
    R21Budget,
    /// R21: a bound that is unknown refuses.
    R21Unknown,
    /// R21: force waives the member votes, never the majority.
    R21Majority,
    /// R22: who is declared lost leaves the voters.
    R22Leave,
    /// R22: a forced promotion waits out the node's own promise.
    R22Wait,
    /// R22: it leaps over epochs that the lost may have used.
    R22Leap,
    /// R22: what the lost may have recorded is not taken for known.
    R22Unheard,
    /// R22: the lost come back only as blank nodes.
    R22Blank,
    /// R23: a standby takes for released only what it knows to match.
    R23,
    /// R24 with R25: a blank node does not vote, and no vote of another incarnation counts.
    R24Vote,
    /// R24: a cluster begins only when every voter is blank.
    R24Begin,
    /// R25: a majority without the newcomer records its admission first.
    R25Majority,
    /// R25: a newcomer is admitted once it holds everything released.
    R25Whole,
    /// R25: a lease counts only under the incarnation that promised it.
    R25Lease,
    /// R26: a change of voters is recorded by a majority of the old ones, too.
    R26,
    /// R29: what a lossy takeover took from a log is no longer released.
    R29,
}

impl Machine {
    /// Whether this machine keeps the rule.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    pub(super) const fn keeps(&self, _: Guard) -> bool {
        true
    }

    /// Whether this machine keeps the rule.
    #[cfg(feature = "mutants")]
    pub(super) fn keeps(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    /// This machine, just started, leaving a rule out.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn leaving_out(mut self, guard: Option<Guard>) -> Machine {
        self.without = guard;
        if !self.keeps(Guard::R12Restart) {
            self.lease.void();
        }
        if !self.keeps(Guard::R12Longest) {
            self.lease.shorten(self.quiet_since.plus(self.config.lease));
        }
        self
    }
}
