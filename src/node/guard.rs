//! The rules kept around the takeover machine that the feature `mutants` can take out, one at a
//! time, so that the simulator can show that it would notice.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// A reply goes only under a live lease of the reign that made it.
    R18,
    /// A deposed primary serves no reads until it has caught up.
    R19,
    /// Repaired keys are read, and stated in digests, once replay has passed their values.
    R28,
    /// A snapshot beyond the fork goes before the log is cut.
    R29,
    /// A snapshot counts only once what it may hold is released.
    R30,
    /// A snapshot counts only once another node has said the same of its keyspace.
    R30Confirmed,
    /// A reply waits for everything it saw.
    R32,
    /// How old a standby is, only a primary that serves can say.
    R34,
}

impl super::Settings {
    /// Whether a rule is kept: always, but for the mutants of the simulator.
    pub(crate) fn keeps(&self, guard: Guard) -> bool {
        #[cfg(feature = "mutants")]
        return self.without != Some(guard);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = guard;
            true
        }
    }
}
