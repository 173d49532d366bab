//! What LATENCY tells: the worst of each second in which something took longer than the threshold.
//!
//! Memory is bounded: as in Redis, 160 seconds per event. It is written to by whoever had to wait, which
//! is rare by its nature; below the threshold nothing is locked.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::driver::Node;

/// Seconds that are remembered of an event.
const MOST_SAMPLES: usize = 160;

/// What may take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyEvent {
    /// The execution of commands, under the keyspace's lock.
    Command,
    /// The wait of a write for the commit rule.
    Commit,
    /// A sync of the log.
    WalSync,
}

impl LatencyEvent {
    /// All of them.
    pub const ALL: [LatencyEvent; 3] = [
        LatencyEvent::Command,
        LatencyEvent::Commit,
        LatencyEvent::WalSync,
    ];

    /// As LATENCY calls it.
    pub fn name(self) -> &'static str {
        match self {
            LatencyEvent::Command => "command",
            LatencyEvent::Commit => "commit",
            LatencyEvent::WalSync => "wal-sync",
        }
    }
}

/// The worst of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    /// Since 1970.
    pub seconds: u64,
    /// How long it took.
    pub ms: u64,
}

/// What is remembered of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySeries {
    /// Oldest first.
    pub samples: VecDeque<LatencySample>,
    /// The worst since it was reset.
    pub max_ms: u64,
}

impl LatencySeries {
    fn add(&mut self, sample: LatencySample) {
        self.max_ms = self.max_ms.max(sample.ms);
        match self.samples.back_mut() {
            Some(last) if last.seconds == sample.seconds => last.ms = last.ms.max(sample.ms),
            _ => {
                if self.samples.len() >= MOST_SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
            }
        }
    }
}

/// All events.
#[derive(Debug, Default)]
pub struct Latency {
    series: Mutex<[LatencySeries; LatencyEvent::ALL.len()]>,
}

impl Latency {
    fn lock(&self) -> MutexGuard<'_, [LatencySeries; LatencyEvent::ALL.len()]> {
        self.series.lock().expect("nothing panics with the samples")
    }

    /// What is remembered of an event; no samples: nothing.
    pub fn of(&self, event: LatencyEvent) -> LatencySeries {
        let series = self.lock();
        let mut all = LatencyEvent::ALL.iter().zip(series.iter());
        let found = all.find(|(known, _)| **known == event);
        found.map(|(_, found)| found.clone()).unwrap_or_default()
    }

    /// Forgets an event; whether there was anything to forget.
    pub fn reset(&self, event: LatencyEvent) -> bool {
        let mut series = self.lock();
        let mut all = LatencyEvent::ALL.iter().zip(series.iter_mut());
        all.find(|(known, _)| **known == event)
            .is_some_and(|(_, found)| !std::mem::take(found).samples.is_empty())
    }

    fn add(&self, event: LatencyEvent, sample: LatencySample) {
        let mut series = self.lock();
        for (known, found) in LatencyEvent::ALL.iter().zip(series.iter_mut()) {
            if *known == event {
                found.add(sample);
            }
        }
    }
}

impl Node {
    /// Remembers that something took this long, where that is worth it.
    pub fn note_latency(&self, event: LatencyEvent, took: Duration) {
        let threshold = self.tunables.latency_threshold_ms.get().unsigned_abs();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if threshold == 0 || ms < threshold {
            return;
        }
        let seconds = self.host.wall().0 / 1000;
        self.latency.add(event, LatencySample { seconds, ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_a_second_is_kept_and_not_more_than_160() {
        let latency = Latency::default();
        let event = LatencyEvent::Commit;
        for seconds in 0..300 {
            for ms in [5, 9, 7] {
                latency.add(event, LatencySample { seconds, ms });
            }
        }
        let series = latency.of(event);
        assert_eq!((series.samples.len(), series.max_ms), (MOST_SAMPLES, 9));
        assert!(series.samples.iter().all(|sample| sample.ms == 9));
        assert_eq!(
            series.samples.back().map(|sample| sample.seconds),
            Some(299)
        );
        assert!(latency.of(LatencyEvent::Command).samples.is_empty());
        assert!(latency.reset(event));
        assert!(!latency.reset(event));
    }
}
