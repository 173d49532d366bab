//! Room for a write while memory is full.
//!
//! The primary chooses keys (`keyspace/evict.rs`) and logs their deletion in records of their own *before*
//! the write's, under the same lock. So all nodes stay equal, and a standby never evicts; who watches such
//! a key hears of it; whoever sees that it is gone waits for that record; and a write that is refused for
//! another reason takes nothing back, for what was evicted is gone as if it had been before.
//!
//! A write makes room for what came since the last one, however much that was. What was above the limit
//! before that (the limit was lowered, or is another than the last primary's) goes in shares, so that no
//! single write pays for all of it, and in the background.

use super::store::{Inner, Refused, Store};
use crate::keyspace::{Eviction, EvictionPolicy, Tracking};
use crate::replica::Lag;
use crate::resp::Reply;
use crate::units::{Epoch, Lsn, Millis};
use crate::wal::{HEADER_BYTES, Kind};

/// What a write is answered for which there is no room.
pub(crate) const OUT_OF_MEMORY: Reply =
    Reply::error("OOM command not allowed when used memory > 'maxmemory'.");
/// The same of a transaction.
pub(super) const TRANSACTION_OUT_OF_MEMORY: Reply = Reply::error(
    "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
     'maxmemory'.",
);

/// Keys that one write, or one round in the background, deletes of what was above the limit before.
pub(super) const SHARE: usize = 512;
/// Keys of one record.
const BATCH: usize = 128;
/// Bytes of one record, about.
const BATCH_BYTES: usize = 64 << 10;

/// How far above the limit this node is without having grown: 0 until that was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inherited {
    /// The limit that it was looked at for.
    limit: u64,
    /// What may be used until that is down to the limit.
    ceiling: u64,
}

/// What became of a look for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is.
    Enough,
    /// Nothing is left that may go.
    None,
}

impl Store {
    /// Says of each key how it is used, where that is asked for. Before something is applied.
    pub(super) fn track(&self, inner: &mut Inner, now: Millis) {
        let tracking = self.memory.tracking();
        if tracking != Tracking::Nothing || inner.keyspace.tracking() != Tracking::Nothing {
            inner.keyspace.track(tracking, now, self.random());
        }
    }

    /// Changes `maxmemory_policy`; how keys are used is counted from now on.
    pub fn set_eviction_policy(&self, policy: EvictionPolicy) {
        self.memory.set_policy(policy);
        let mut inner = self.write();
        let now = self.now(&inner);
        self.track(&mut inner, now);
    }

    /// Whether there is no room, and none will be made.
    pub fn is_out_of_memory(&self) -> bool {
        let limit = self.memory.bytes();
        limit > 0
            && self.memory.policy() == EvictionPolicy::NoEviction
            && self.size().2 as u64 > limit
    }

    /// Makes room for a write, if memory is full.
    pub(super) fn make_room(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        lag: Option<Lag>,
        now: Millis,
    ) -> Result<Room, Refused> {
        let limit = self.memory.bytes();
        let used = |inner: &Inner| inner.keyspace.used_bytes() as u64;
        if limit == 0 || used(inner) <= limit {
            inner.inherited = Inherited {
                limit,
                ceiling: limit,
            };
            return Ok(Room::Enough);
        }
        if self.memory.policy() == EvictionPolicy::NoEviction {
            return Ok(Room::None);
        }
        if inner.inherited.limit != limit {
            let ceiling = used(inner);
            inner.inherited = Inherited { limit, ceiling };
        }
        let mut share = SHARE;
        while used(inner) > limit && (share > 0 || used(inner) > inner.inherited.ceiling) {
            let keys = if share > 0 { share.min(BATCH) } else { BATCH };
            let gone = self.evict_some(inner, epoch, lag, now, keys, used(inner) - limit)?;
            if gone == 0 {
                return Ok(Room::None);
            }
            share = share.saturating_sub(gone);
        }
        inner.inherited.ceiling = used(inner).max(limit);
        Ok(Room::Enough)
    }

    /// One record of deletions: of how many keys.
    fn evict_some(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        lag: Option<Lag>,
        now: Millis,
        keys: usize,
        bytes: u64,
    ) -> Result<usize, Refused> {
        if inner.paused {
            return Err(Refused::Paused);
        }
        let mut wanted = Eviction {
            policy: self.memory.policy(),
            samples: self.memory.samples() as usize,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            keys,
            effect_bytes: BATCH_BYTES,
        };
        let choose = |inner: &mut Inner, wanted| {
            let (pool, random) = (&mut inner.eviction_pool, self.random());
            inner.keyspace.choose_evictions(wanted, pool, now, random)
        };
        let mut effects = choose(inner, wanted);
        let bytes_of = |effects: &crate::keyspace::Effects| effects.encoded().len() + HEADER_BYTES;
        if !self.within(inner, lag, bytes_of(&effects), now) {
            // A budget in bytes may have room for one of them.
            wanted.keys = 1;
            effects = choose(inner, wanted);
            if !self.within(inner, lag, bytes_of(&effects), now) {
                return Err(Refused::Lagging);
            }
        }
        if effects.is_empty() {
            return Ok(0);
        }
        let log = self.log();
        let after = log.append_unannounced(epoch, now, Kind::Effects, effects.encoded())?;
        if let Some(classes) = self.notices.wanted() {
            let notices = inner.keyspace.notices_of_evicted(classes, &effects);
            self.notices.add(Some(epoch), after.lsn, notices);
        }
        inner.keyspace.apply(&effects, after.lsn);
        self.appended(inner, after);
        self.appended.notify_one();
        let gone = effects.iter().count();
        self.memory.count_evicted(gone as u64);
        Ok(gone)
    }

    /// Brings memory down where no write does; a primary's background work. How many keys went.
    pub fn evict(&self, epoch: Epoch, released: Lsn, lag: Option<Lag>) -> usize {
        let limit = self.memory.bytes();
        let none = limit == 0 || self.memory.policy() == EvictionPolicy::NoEviction;
        if none || self.size().2 as u64 <= limit {
            return 0;
        }
        let mut inner = self.write();
        if inner.reign != Some(epoch) {
            return 0;
        }
        inner.keyspace.prune_released(released);
        let (now, before) = (self.now(&inner), self.memory.evicted());
        // What is refused here is tried again, here or by a write that says why.
        let _ = self.make_room(&mut inner, epoch, lag, now);
        (self.memory.evicted() - before) as usize
    }
}
