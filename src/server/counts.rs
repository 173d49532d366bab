//! What INFO counts: since the start, or since CONFIG RESETSTAT. The counters themselves only go up, for
//! Prometheus; what they were at the reset is taken off here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::Server;
use crate::command::KeyCommand;
use crate::node::{Executed, Stats};
use crate::resp::Reply;

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) commands: u64,
    pub(super) net_in: u64,
    pub(super) net_out: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) errors: u64,
    pub(super) turned_away: u64,
    pub(super) expired: u64,
}

impl Counts {
    fn of(stats: &Stats) -> Counts {
        Counts {
            connections: Stats::get(&stats.connections),
            commands: Stats::get(&stats.commands),
            net_in: Stats::get(&stats.net_in),
            net_out: Stats::get(&stats.net_out),
            hits: Stats::get(&stats.hits),
            misses: Stats::get(&stats.misses),
            errors: Stats::get(&stats.errors),
            turned_away: Stats::get(&stats.turned_away),
            expired: Stats::get(&stats.expired),
        }
    }

    fn since(self, before: Counts) -> Counts {
        Counts {
            connections: self.connections.saturating_sub(before.connections),
            commands: self.commands.saturating_sub(before.commands),
            net_in: self.net_in.saturating_sub(before.net_in),
            net_out: self.net_out.saturating_sub(before.net_out),
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            errors: self.errors.saturating_sub(before.errors),
            turned_away: self.turned_away.saturating_sub(before.turned_away),
            expired: self.expired.saturating_sub(before.expired),
        }
    }
}

/// Of one node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    at_reset: Mutex<Counts>,
    /// Of the last second.
    commands: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The most that keys and values took, looked at once a second.
    peak: AtomicUsize,
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.at_reset.lock().expect("numbers do not panic")
    }

    /// CONFIG RESETSTAT.
    pub(super) fn reset(&self, stats: &Stats) {
        *self.lock() = Counts::of(stats);
    }

    /// Since the reset.
    pub(super) fn now(&self, stats: &Stats) -> Counts {
        Counts::of(stats).since(*self.lock())
    }

    /// The most that keys and values took, as far as it was seen, where they take so many bytes now.
    pub(super) fn peak(&self, now: usize) -> usize {
        self.peak.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Commands, bytes read and bytes written in the last whole second.
    pub(super) fn last_second(&self) -> (u64, u64, u64) {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (
            get(&self.commands),
            get(&self.bytes_in),
            get(&self.bytes_out),
        )
    }
}

/// Looks once a second how much was done in it.
pub(super) async fn watch(server: Arc<Server>) {
    let stats = &server.node.stats;
    let mut before = Counts::of(stats);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = second.tick() => {}
            () = server.node.stopping.cancelled() => return,
        }
        let now = Counts::of(stats);
        let done = now.since(std::mem::replace(&mut before, now));
        let counters = &server.counters;
        counters.commands.store(done.commands, Ordering::Relaxed);
        counters.bytes_in.store(done.net_in, Ordering::Relaxed);
        counters.bytes_out.store(done.net_out, Ordering::Relaxed);
        let (_, _, bytes) = server.node.store.size();
        counters.peak(bytes);
    }
}

/// Counts a batch that was executed, with one addition for each counter that moved.
pub(super) fn batch<'a>(
    stats: &Stats,
    commands: impl Iterator<Item = &'a KeyCommand>,
    done: &[Executed],
) {
    let (mut hits, mut misses) = (0, 0);
    for (command, executed) in commands.zip(done) {
        match (command, &executed.reply) {
            (KeyCommand::Get { .. }, Reply::Null) => misses += 1,
            (KeyCommand::Get { .. }, _) => hits += 1,
            (KeyCommand::MGet { .. }, Reply::Array(values)) => {
                let missing = values.iter().filter(|value| **value == Reply::Null).count();
                misses += missing as u64;
                hits += (values.len() - missing) as u64;
            }
            (KeyCommand::Exists { keys } | KeyCommand::Touch { keys }, Reply::Integer(there)) => {
                let there = there.unsigned_abs();
                hits += there;
                misses += (keys.len() as u64).saturating_sub(there);
            }
            _ => {}
        }
    }
    for (counter, count) in [(&stats.hits, hits), (&stats.misses, misses)] {
        if count > 0 {
            Stats::add(counter, count);
        }
    }
}
