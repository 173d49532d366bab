//! CLIENT PAUSE: for a while, writes or all commands wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Longer than anybody means, and within what the clock can count.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Whether clients are paused, and until when.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// So that nobody pays for it while nobody is.
    on: AtomicBool,
    state: Mutex<Paused>,
    /// Ended before its time.
    pub(super) ended: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Paused {
    writes_until: Option<Instant>,
    all_until: Option<Instant>,
}

impl Pause {
    fn state(&self) -> std::sync::MutexGuard<'_, Paused> {
        self.state.lock().expect("nothing panics here")
    }

    /// Pauses for so long; a pause that lasts longer is not cut short, as in Redis.
    pub(super) fn begin(&self, time: Duration, all: bool) {
        let until = Instant::now() + time.min(LONGEST);
        let mut state = self.state();
        let later = |old: Option<Instant>| Some(old.map_or(until, |old| old.max(until)));
        state.writes_until = later(state.writes_until);
        if all {
            state.all_until = later(state.all_until);
        }
        self.on.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        *self.state() = Paused::default();
        self.on.store(false, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Whether anything is, as far as is known without a look at the clock.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Until when what writes, or what does not, has to wait.
    pub(super) fn holds(&self, writes: bool) -> Option<Instant> {
        if !self.is_on() {
            return None;
        }
        let now = Instant::now();
        let mut state = self.state();
        if state.writes_until.is_none_or(|until| until <= now) {
            *state = Paused::default();
            self.on.store(false, Ordering::Release);
            return None;
        }
        let until = match writes {
            true => state.writes_until,
            false => state.all_until,
        };
        until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_pause_stays_and_reads_go_on_unless_all_are_paused() {
        let pause = Pause::default();
        assert!(pause.holds(true).is_none());
        pause.begin(Duration::from_secs(50), false);
        pause.begin(Duration::from_secs(1), false);
        let until = pause.holds(true).expect("writes are paused");
        assert!(until > Instant::now() + Duration::from_secs(40));
        assert!(pause.holds(false).is_none());
        pause.begin(Duration::from_secs(5), true);
        assert!(pause.holds(false).is_some());
        pause.end();
        assert!(!pause.is_on() && pause.holds(true).is_none());
        pause.begin(Duration::ZERO, true);
        assert!(pause.holds(true).is_none() && !pause.is_on());
    }
}
