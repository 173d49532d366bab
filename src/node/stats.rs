//! Counters of one node, for INFO and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::units::Micros;

/// What a node counts. Each goes up only.
#[derive(Debug)]
pub struct Stats {
    /// Client connections taken.
    pub connections: AtomicU64,
    /// Commands answered.
    pub commands: AtomicU64,
    /// Bytes read from clients.
    pub net_in: AtomicU64,
    /// Bytes written to clients.
    pub net_out: AtomicU64,
    /// Replies that ended in -UNCONFIRMED.
    pub unconfirmed: AtomicU64,
    /// Reads of keys that were there.
    pub hits: AtomicU64,
    /// Reads of keys that were not.
    pub misses: AtomicU64,
    /// Errors answered.
    pub errors: AtomicU64,
    /// Connections turned away: `max_clients`.
    pub turned_away: AtomicU64,
    /// Keys deleted because they expired.
    pub expired: AtomicU64,
    /// Reigns this node won since it started.
    pub takeovers: AtomicU64,
    /// Records this node discarded on rejoining.
    pub discarded: AtomicU64,
    /// Bytes of segments and snapshots that the scrub has read back.
    pub scrubbed_bytes: AtomicU64,
    /// Damage that it found in them.
    pub scrub_findings: AtomicU64,
    /// Damaged files that were mended or replaced.
    pub scrub_mended: AtomicU64,
    /// Times that this node's keyspace was found wrong and taken out of service.
    pub quarantines: AtomicU64,
    /// Times that memory did not hold what was written to it.
    pub memory_errors: AtomicU64,
    /// Keys set to the primary's values on rejoining.
    pub repaired_keys: AtomicU64,
    /// Bytes of these keys and values.
    pub repaired_bytes: AtomicU64,
    /// Bytes of records, repairs and copies that came from a primary.
    pub stream_received: AtomicU64,
    /// Snapshots sent to a standby whose log could not be matched, whole.
    pub copies_sent: AtomicU64,
    /// Snapshots made and verified since this node started.
    pub snapshots: AtomicU64,
    /// Snapshots that could not be read back after they were written.
    pub snapshots_unreadable: AtomicU64,
    /// When the last of them was finished, or this process began, in seconds of the wall clock.
    pub last_snapshot_at: AtomicU64,
    /// Up to where the last of them holds everything, or the one that this process began with.
    pub last_snapshot_lsn: AtomicU64,
    /// The last attempt failed on the disk.
    pub snapshot_failed: AtomicBool,
    /// Longest time that a snapshot's walk held the keyspace's lock, in microseconds.
    pub longest_walk_us: AtomicU64,
    /// Seconds that a snapshot's walk held the keyspace's lock, each time.
    pub walk_seconds: Histogram,
    /// Seconds per fdatasync of the log.
    pub sync_seconds: Histogram,
    /// Seconds from a write's execution to the release of its reply.
    pub commit_seconds: Histogram,
}

impl Default for Stats {
    fn default() -> Stats {
        let buckets = || exponential_buckets(0.00005, 2.0, 18);
        let zero = AtomicU64::default;
        Stats {
            connections: zero(),
            commands: zero(),
            net_in: zero(),
            net_out: zero(),
            unconfirmed: zero(),
            hits: zero(),
            misses: zero(),
            errors: zero(),
            turned_away: zero(),
            expired: zero(),
            takeovers: zero(),
            discarded: zero(),
            scrubbed_bytes: zero(),
            scrub_findings: zero(),
            scrub_mended: zero(),
            quarantines: zero(),
            memory_errors: zero(),
            repaired_keys: zero(),
            repaired_bytes: zero(),
            stream_received: zero(),
            copies_sent: zero(),
            snapshots: zero(),
            snapshots_unreadable: zero(),
            last_snapshot_at: zero(),
            last_snapshot_lsn: zero(),
            snapshot_failed: AtomicBool::new(false),
            longest_walk_us: zero(),
            walk_seconds: Histogram::new(exponential_buckets(0.00001, 2.0, 12)),
            sync_seconds: Histogram::new(buckets()),
            commit_seconds: Histogram::new(buckets()),
        }
    }
}

impl Stats {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// A snapshot's walk held the keyspace's lock this long.
    pub(super) fn observe_walk(&self, held: Micros) {
        self.longest_walk_us.fetch_max(held.0, Ordering::Relaxed);
        self.walk_seconds.observe(held.0 as f64 / 1e6);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
