//! How long to wait before the next attempt to reach a peer.
//!
//! Promise: delays double from the shortest to the longest, and each is drawn from the upper half
//! of its step, so that members that lost the same node do not return to it in step. The same seed
//! gives the same delays; no float, no clock.

use std::time::Duration;

/// The delays between attempts to reach one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    step: Duration,
    random: u64,
}

impl Backoff {
    /// Delays from `shortest` to `longest`; a `longest` below `shortest` counts as `shortest`.
    pub fn new(shortest: Duration, longest: Duration, seed: u64) -> Backoff {
        Backoff {
            shortest,
            longest: longest.max(shortest),
            step: shortest,
            random: seed,
        }
    }

    /// The delay before the next attempt: between half and all of the current step, which doubles
    /// up to the longest.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.longest);
        let half_micros = step.as_micros() as u64 / 2;
        let jitter_micros = self.next_random() % (half_micros + 1);
        step - Duration::from_micros(half_micros) + Duration::from_micros(jitter_micros)
    }

    /// The peer was reached: start from the shortest delay again.
    pub fn reset(&mut self) {
        self.step = self.shortest;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): enough to spread attempts, never for a secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
