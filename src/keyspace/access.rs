//! How recently, or how often, a key was used: 24 bits beside it, counted as Redis counts.
//!
//! Only where a `maxmemory_policy` asks for it; without one a key has no such bits, and nobody looks.
//! Each node counts for itself: no record says it, and no digest.
//!
//! By recency they are the second of the last use. By frequency they are the minute of the last use (16
//! bits) and a counter of uses (8 bits), which grows ever more rarely, and shrinks by one a minute.

use crate::units::Millis;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Nothing.
    #[default]
    Nothing,
    /// When a key was used last (LRU).
    Recency,
    /// How often it is used (LFU).
    Frequency,
}

/// 24 bits.
const CLOCK_MASK: u64 = 0xff_ffff;
/// What a new key counts, so that it is not the first to go (Redis: `LFU_INIT_VAL`).
const FIRST_COUNT: u32 = 5;
/// How much more rarely each step is counted (Redis: `lfu-log-factor`).
const RARER: u64 = 10;

fn seconds(now: Millis) -> u64 {
    (now.0 / 1000) & CLOCK_MASK
}

fn minutes(now: Millis) -> u32 {
    ((now.0 / 60_000) & 0xffff) as u32
}

/// What is tracked, and the moment of what is just being applied: effects say no time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Access {
    pub(super) tracking: Tracking,
    pub(super) now: Millis,
    pub(super) random: u64,
}

impl Tracking {
    /// The bits of a key that was not counted before.
    pub(super) fn first(self, now: Millis) -> Option<u32> {
        match self {
            Tracking::Nothing => None,
            Tracking::Recency => Some(seconds(now) as u32),
            Tracking::Frequency => Some(minutes(now) << 8 | FIRST_COUNT),
        }
    }

    /// The bits of a key that is used now; `random` decides whether that is counted.
    pub(super) fn used(self, clock: u32, now: Millis, random: u64) -> u32 {
        match self {
            Tracking::Nothing => clock,
            Tracking::Recency => seconds(now) as u32,
            Tracking::Frequency => {
                let count = frequency(clock, now);
                let steps = u64::from(count.saturating_sub(FIRST_COUNT));
                let counted = count < 255 && random.is_multiple_of(steps * RARER + 1);
                minutes(now) << 8 | (count + u32::from(counted))
            }
        }
    }

    /// Who goes first: of two keys the one with more.
    pub(super) fn score(self, clock: u32, now: Millis) -> u64 {
        match self {
            Tracking::Nothing => 0,
            Tracking::Recency => idle_seconds(clock, now),
            Tracking::Frequency => u64::from(255 - frequency(clock, now)),
        }
    }
}

/// Seconds since the last use; those bits come round in 194 days.
pub(super) fn idle_seconds(clock: u32, now: Millis) -> u64 {
    seconds(now).wrapping_sub(u64::from(clock)) & CLOCK_MASK
}

/// The counter, less one for each minute since the last use.
pub(super) fn frequency(clock: u32, now: Millis) -> u32 {
    let passed = minutes(now).wrapping_sub(clock >> 8) & 0xffff;
    (clock & 0xff).saturating_sub(passed)
}

/// Numbers that look like chance, from one that is (SplitMix64, Steele and others, 2014).
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_in_seconds_and_comes_round() {
        let clock = Tracking::Recency.first(Millis(5_000_999)).unwrap();
        assert_eq!(idle_seconds(clock, Millis(5_000_999)), 0);
        assert_eq!(idle_seconds(clock, Millis(5_011_000)), 11);
        let late = Millis(CLOCK_MASK * 1000);
        let clock = Tracking::Recency.first(late).unwrap();
        assert_eq!(idle_seconds(clock, Millis(late.0 + 3000)), 3);
    }

    #[test]
    fn frequent_use_is_counted_ever_more_rarely_and_forgotten() {
        let (tracking, mut now, mut dice) = (Tracking::Frequency, Millis(60_000), Dice(1));
        let mut clock = tracking.first(now).unwrap();
        let mut after = Vec::new();
        for use_number in 1..=1_000_000 {
            clock = tracking.used(clock, now, dice.roll());
            if [100, 1000, 100_000, 1_000_000].contains(&use_number) {
                after.push(frequency(clock, now));
            }
        }
        // Redis tells of 10, 18, 142 and 255 (redis.conf, factor 10), give or take.
        let about = [6..=15, 14..=26, 125..=160, 250..=255];
        assert!(
            after
                .iter()
                .zip(&about)
                .all(|(count, about)| about.contains(count)),
            "{after:?}"
        );
        now.0 += 10 * 60_000;
        assert_eq!(frequency(clock, now), after[3] - 10);
        now.0 += 300 * 60_000;
        assert_eq!(frequency(clock, now), 0);
        assert_eq!(tracking.score(clock, now), 255);
    }
}
