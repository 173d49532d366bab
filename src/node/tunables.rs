//! What may be changed while the node runs, by CONFIG SET: numbers that whoever goes by them reads anew
//! each time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::config::Settings;

/// One of them.
#[derive(Debug)]
pub struct Tunable(AtomicI64);

impl Tunable {
    pub(super) fn new(value: i64) -> Tunable {
        Tunable(AtomicI64::new(value))
    }

    /// Its value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// From here on. The caller has checked the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// All of them, as configured at first.
#[derive(Debug)]
pub struct Tunables {
    /// Connections that are served at a time.
    pub max_clients: Tunable,
    /// Milliseconds that a write waits for the commit rule.
    pub write_timeout_ms: Tunable,
    /// Microseconds from which on an execution is logged; negative: none is.
    pub slowlog_slower_than_us: Tunable,
    /// Entries that the slow log keeps.
    pub slowlog_entries: Tunable,
    /// Milliseconds from which on an event is remembered; 0: none is.
    pub latency_threshold_ms: Tunable,
    /// Seconds that a client may ask nothing before its connection is closed; 0: without end.
    pub client_timeout_seconds: Tunable,
}

impl Tunables {
    pub(super) fn new(settings: &Settings) -> Tunables {
        let write_timeout = settings.write_timeout.as_millis();
        Tunables {
            max_clients: Tunable::new(i64::from(settings.max_clients)),
            write_timeout_ms: Tunable::new(i64::try_from(write_timeout).unwrap_or(i64::MAX)),
            slowlog_slower_than_us: Tunable::new(settings.slowlog_log_slower_than),
            slowlog_entries: Tunable::new(i64::from(settings.slowlog_max_len)),
            latency_threshold_ms: Tunable::new(i64::from(settings.latency_monitor_threshold)),
            client_timeout_seconds: Tunable::new(i64::from(settings.client_timeout)),
        }
    }

    /// How long a write waits for the commit rule.
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms.get().unsigned_abs())
    }
}
