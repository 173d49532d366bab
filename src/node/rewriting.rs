//! Who may rewrite history, or build on it: one at a time. (A reader's map of a segment that is
//! being cut would be a SIGBUS.)

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LockResult, Mutex, MutexGuard, TryLockResult};

/// A lock that tells whoever holds it for long that somebody waits. (A standby that had five million
/// records to apply once held it until it was done; its own stream, which had broken off, waited
/// for it, and so did the primary's clients.)
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    lock: Mutex<()>,
    waiting: AtomicUsize,
}

impl Rewriting {
    /// Waits for it.
    ///
    /// # Errors
    /// Whoever held it panicked.
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, ()>> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.lock.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// It, if nobody has it.
    pub(super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, ()>> {
        self.lock.try_lock()
    }

    /// Somebody waits for it. The applier makes way.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
