//! The keys and their values: plan, then apply.
//!
//! Promise: [`Keyspace::plan`] says what a command answers and which **effects** it has, without
//! changing anything and without a clock or randomness of its own; [`Keyspace::apply`] carries
//! effects out, without looking at commands or time. Effects are absolute, so that replaying them
//! in log order, from any point at or before a fuzzy snapshot's begin, ends in exactly the state
//! of the node that wrote them, and replaying one twice does no harm.
//!
//! It never locks, never does I/O, never reads a clock. The caller holds a lock around it: shared
//! for `plan` and the walks, exclusive for `apply`. A read whose plan has effects (it saw an
//! expired key) is planned again under the exclusive lock; a standby discards such effects.
//!
//! Invariants: the number of keys, of keys with expiry, the bytes, the digest and the expiry index
//! always describe exactly what the tables hold. An entry's position, its 64-bit hash, never
//! changes, whatever grows: SCAN and the snapshot walk go by it.

mod access;
mod apply;
mod digest;
mod dump;
mod effects;
mod entry;
mod evict;
mod expiry;
mod load;
mod notify;
mod pending;
mod plan;
mod repair;
mod requests;
mod scan;
mod scrub;
mod tables;
mod walk;
mod watch;

pub use access::Tracking;
pub use apply::Flushed;
pub(crate) use effects::keys_in;
pub use effects::{Effect, EffectError, EffectIter, Effects};
pub use evict::{Eviction, EvictionPolicy, EvictionPool};
pub use load::{LoadError, LoadRoom, Loader};
pub use notify::{EventClass, EventClasses, Notice};
pub use plan::Plan;
pub use repair::Touched;
pub use requests::{Remembered, decode_replies, encode_replies, is_reserved, request_key};
pub use tables::HashSeed;
pub use walk::{WalkBatch, WalkCursor, WalkLimit};
pub use watch::Changed;

use crate::units::{Lsn, Millis};
use access::Access;
use expiry::ExpiryIndex;
use pending::Pending;
use tables::Tables;
use watch::Watches;

/// All keys of one node.
#[derive(Debug)]
pub struct Keyspace {
    tables: Tables,
    expiries: ExpiryIndex,
    pending: Pending,
    digest: u64,
    bytes: usize,
    flushed: Option<Flushed>,
    watches: Watches,
    /// Entries that are no client's keys.
    own: usize,
    access: Access,
}

impl Keyspace {
    /// An empty keyspace.
    pub fn new(seed: HashSeed) -> Self {
        Keyspace {
            tables: Tables::new(seed),
            expiries: ExpiryIndex::default(),
            pending: Pending::default(),
            digest: 0,
            bytes: 0,
            flushed: None,
            watches: Watches::default(),
            own: 0,
            access: Access::default(),
        }
    }

    /// From here on it is counted how keys are used. What is applied next is applied `now`, and `random`
    /// decides what of it is counted. Needed again before each that is applied at another time.
    pub fn track(&mut self, tracking: Tracking, now: Millis, random: u64) {
        self.access = Access {
            tracking,
            now,
            random,
        };
    }

    /// What is counted.
    pub fn tracking(&self) -> Tracking {
        self.access.tracking
    }

    /// Number of keys, expired ones that nobody has seen yet included. What the node keeps for
    /// itself (remembered requests) are no keys.
    pub fn len(&self) -> usize {
        self.tables.len() - self.own
    }

    /// Number of requests that are remembered.
    pub fn remembered(&self) -> usize {
        self.own
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.tables.len() == 0
    }

    /// Number of keys that have an expiry.
    pub fn len_with_expiry(&self) -> usize {
        self.expiries.len()
    }

    /// Approximately the bytes of memory that keys and values take: their own and the entries'.
    pub fn used_bytes(&self) -> usize {
        self.bytes + self.tables.table_bytes() + self.expiries.used_bytes()
    }

    /// The order-independent digest of keys, values and expiries. Equal states give equal digests
    /// on every node; see `docs/formats.md`.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// LSN of the newest effect applied; zero before the first.
    pub fn applied(&self) -> Lsn {
        self.pending.newest()
    }

    /// Forgets which keys the effects up to `released` touched: whatever depends on them may be
    /// answered. Effects applied later at or below this LSN are not tracked at all, so a standby,
    /// which applies only what is released, calls this first.
    pub fn prune_released(&mut self, released: Lsn) {
        self.pending.prune(released);
    }

    /// Whatever is asked from here on waits for record `lsn`. Cheaper than to remember each key of
    /// the records up to there, where nothing is answered before.
    pub fn hold_all(&mut self, lsn: Lsn) {
        self.pending.touch_all(lsn);
    }

    /// Commands on these keys follow: fetches what they will look at into the caches. Worth it from
    /// some keys on.
    pub fn prefetch<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        self.tables.prefetch(keys);
    }

    /// Has `changed` set once `key` is changed, deleted or made.
    pub fn watch(&mut self, key: &[u8], changed: &Changed) {
        let hash = self.tables.hash(key);
        self.watches.add(hash, changed);
    }

    /// Whether a key that is there has expired by now.
    pub fn is_expired(&self, key: &[u8], now: Millis) -> bool {
        let entry = self.tables.find(self.tables.hash(key), key);
        entry.is_some_and(|entry| entry.is_expired(now))
    }

    /// Whether there is such a key, expired or not.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.tables.find(self.tables.hash(key), key).is_some()
    }

    /// When the next key expires, if any has an expiry.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first()
    }

    /// The value and expiry of `key` as stored, expired or not: for repairs and tests, which
    /// compare states and must not judge them by a clock.
    pub fn stored(&self, key: &[u8]) -> Option<(bytes::Bytes, Option<Millis>)> {
        let entry = self.tables.find(self.tables.hash(key), key)?;
        Some((entry.shared(..), entry.expire_at()))
    }
}
