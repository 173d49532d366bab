//! The rules of the log and the control file that the feature `mutants` can take out, one at a
//! time, so that the crash tests can show that they would notice. Without the feature every rule
//! is kept, and there is nothing to choose.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Control state is durable before it is reported stored.
    R1Control,
    /// There are two copies of it.
    R2,
    /// `synced` means that fdatasync returned.
    R3Sync,
    /// A segment is sealed synced.
    R3Seal,
    /// What a dead process left in the page cache is synced before it counts.
    R3Open,
    /// It is written again before that: a failed sync may have dropped it from the cache's duties.
    R3OpenAgain,
    /// The names it left are synced, too.
    R3OpenNames,
    /// The first error closes the log: a sync that failed is never tried again.
    R3Latch,
    /// The epoch history is truncated with the log.
    R4History,
    /// Each record states what was synced when it was written.
    R31Stamp,
    /// Damage below what is stated as synced is no torn tail.
    R31Judge,
    /// On a standby a mark says what itself has synced.
    R31Mark,
    /// The mark is lowered before records are taken back.
    R31MarkLowered,
    /// A cut zeroes what it takes back.
    R31CutZero,
    /// A cut is synced.
    R31CutSync,
    /// A segment follows the one before.
    R31Header,
}

/// The rules that are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(feature = "mutants")]
    pub(super) without: Option<Guard>,
}

impl Rules {
    /// Whether a rule is kept: always, but for the mutants of the crash tests.
    pub(super) fn keep(self, guard: Guard) -> bool {
        #[cfg(feature = "mutants")]
        return self.without != Some(guard);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = guard;
            true
        }
    }
}
