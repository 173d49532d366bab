//! Bytes per second, kept by waiting for a moment: nothing is held meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// What may be made up for after somebody else was slow.
const CREDIT: Duration = Duration::from_millis(100);

/// Spends bytes at a rate.
#[derive(Debug)]
pub(in crate::node) struct Pace {
    per_second: u64,
    /// When all that was spent is paid for.
    paid: Instant,
}

impl Pace {
    /// `per_second` bytes; zero: as fast as it goes.
    pub(in crate::node) fn new(per_second: u64) -> Pace {
        Pace {
            per_second,
            paid: Instant::now(),
        }
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
        self.paid = self.paid.max(earliest) + cost;
        if self.paid > now {
            tokio::time::sleep_until(self.paid).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
