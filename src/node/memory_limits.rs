//! How much memory keys and values may take, and what goes when it is full: `[limits] maxmemory` and
//! what belongs to it.
//!
//! Read before every write, changed while the node runs: atomics, each by itself. Each node goes by its
//! own; only a primary's count.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::keyspace::{EvictionPolicy, Tracking};

/// The most keys that are looked at for each that goes.
pub const MOST_SAMPLES: u32 = 64;

/// The limits of one node.
#[derive(Debug)]
pub struct MemoryLimits {
    bytes: AtomicU64,
    /// A place in [`EvictionPolicy::ALL`].
    policy: AtomicU8,
    samples: AtomicU32,
    evicted: AtomicU64,
}

impl MemoryLimits {
    /// Bytes (0: no limit), what goes when they are full, and how many keys are looked at for each.
    pub fn new(bytes: u64, policy: EvictionPolicy, samples: u32) -> MemoryLimits {
        let limits = MemoryLimits {
            bytes: AtomicU64::new(bytes),
            policy: AtomicU8::new(0),
            samples: AtomicU32::new(0),
            evicted: AtomicU64::new(0),
        };
        limits.set_policy(policy);
        limits.set_samples(samples);
        limits
    }

    /// `maxmemory`; 0: no limit.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `maxmemory_policy`.
    pub fn policy(&self) -> EvictionPolicy {
        let place = usize::from(self.policy.load(Ordering::Relaxed));
        EvictionPolicy::ALL.get(place).copied().unwrap_or_default()
    }

    /// `maxmemory_samples`.
    pub fn samples(&self) -> u32 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Changes `maxmemory`. What is above it goes with the next writes, and in the background.
    pub fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// See [`super::Store::set_eviction_policy`].
    pub(super) fn set_policy(&self, policy: EvictionPolicy) {
        let mut all = EvictionPolicy::ALL.iter();
        let place = all.position(|known| *known == policy).unwrap_or(0);
        self.policy.store(place as u8, Ordering::Relaxed);
    }

    /// Changes `maxmemory_samples`: from 1 to [`MOST_SAMPLES`].
    pub fn set_samples(&self, samples: u32) {
        let samples = samples.clamp(1, MOST_SAMPLES);
        self.samples.store(samples, Ordering::Relaxed);
    }

    /// Keys that this node has evicted since it started.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn count_evicted(&self, keys: u64) {
        self.evicted.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn tracking(&self) -> Tracking {
        self.policy().tracking()
    }
}
