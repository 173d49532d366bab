//! Bytes per second, kept by waiting for a moment: nothing is held meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// What may be made up for after somebody else was slow.
const CREDIT: Duration = Duration::from_millis(100);

/// Who works for a moment rests for three times as long: a quarter of a core at most. (A snapshot that took
/// as much as its rate allowed took most of a core on each of two nodes.)
const SHARE: u32 = 4;

/// The most that counts as one moment's work: what takes longer was a wait for somebody else.
const MOMENT: Duration = Duration::from_millis(20);

/// What is owed for less is paid for later: a timer takes a millisecond or two, however short. (A
/// snapshot of five hundred keys once took 55 ms, most of it for fifty of them.)
const TICK: Duration = Duration::from_millis(2);

/// Spends bytes at a rate.
#[derive(Debug)]
pub(in crate::node) struct Pace {
    per_second: u64,
    /// When all that was spent is paid for.
    paid: Instant,
    /// Since when it works, where time is paid for, too.
    worked_since: Option<Instant>,
}

impl Pace {
    /// `per_second` bytes; zero: as fast as it goes.
    pub(in crate::node) fn new(per_second: u64) -> Pace {
        Pace {
            per_second,
            paid: Instant::now(),
            worked_since: None,
        }
    }

    /// The same for background work of this machine's own: it rests, too, for as long as [`SHARE`]
    /// says. Time counts from here, and from each return of [`Pace::spend`].
    pub(in crate::node) fn with_rests(per_second: u64) -> Pace {
        let mut pace = Pace::new(per_second);
        pace.worked_since = Some(pace.paid);
        pace
    }

    /// Another rate from here on.
    pub(in crate::node) fn set(&mut self, per_second: u64) {
        self.per_second = per_second;
    }

    /// Waits until `bytes` more may follow those before. Always lets others run.
    pub(in crate::node) async fn spend(&mut self, bytes: u64) {
        if self.per_second == 0 {
            return tokio::task::yield_now().await;
        }
        let now = Instant::now();
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let cost = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        let worked = self
            .worked_since
            .map_or(Duration::ZERO, |since| now - since);
        self.paid = self.paid.max(earliest) + cost.max(worked.min(MOMENT) * SHARE);
        if self.paid > now + TICK {
            tokio::time::sleep_until(self.paid).await;
        } else {
            tokio::task::yield_now().await;
        }
        if let Some(since) = &mut self.worked_since {
            *since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn background_work_rests_for_three_times_as_long_as_it_takes() {
        let mut pace = Pace::with_rests(1 << 40);
        let began = Instant::now();
        for _ in 0..300 {
            tokio::time::advance(Duration::from_millis(2)).await;
            pace.spend(1).await;
        }
        let took = began.elapsed();
        assert!(
            (2300..2500).contains(&took.as_millis()),
            "600 ms took {took:?}"
        );
        // A wait for somebody else is not work.
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.spend(1).await;
        assert!(began.elapsed() <= MOMENT * SHARE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_idle_time_is_not_saved_up() {
        let began = Instant::now();
        let mut pace = Pace::new(1_000_000);
        for _ in 0..300 {
            pace.spend(10_000).await;
        }
        let took = began.elapsed();
        assert!(
            (2800..3200).contains(&took.as_millis()),
            "3 MB at 1 MB/s took {took:?}"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.spend(1_000_000).await;
        let took = began.elapsed();
        assert!((850..1100).contains(&took.as_millis()), "{took:?}");
        let mut free = Pace::new(0);
        let began = Instant::now();
        free.spend(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
