//! Which requests count, and their quantiles. Pure.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::paced::{Answers, Reign, Sample};

/// A span of time; requests due within it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here.
    pub from: Instant,
    /// Up to here.
    pub until: Instant,
}

/// Spans that overlap become one; in order.
pub fn merged(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_unstable_by_key(|window| window.from);
    let mut merged: Vec<Window> = Vec::new();
    for window in windows {
        match merged.last_mut() {
            Some(last) if window.from <= last.until => last.until = last.until.max(window.until),
            _ => merged.push(window),
        }
    }
    merged
}

/// Their length together.
pub fn length(windows: &[Window]) -> Duration {
    let each = windows.iter().map(|window| window.until - window.from);
    each.sum()
}

/// How long requests took; microseconds, absent where none counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many count.
    pub requests: u64,
    /// Half of them took at most this.
    pub p50_us: Option<u64>,
    /// 99 of 100.
    pub p99_us: Option<u64>,
    /// 999 of 1000.
    pub p999_us: Option<u64>,
    /// All.
    pub max_us: Option<u64>,
}

impl Latency {
    /// Of the requests that were due within one of these windows.
    pub fn within(answers: &Answers, windows: &[Window]) -> Latency {
        let counts = |sample: &&Sample| {
            let due = answers.began + sample.due;
            let mut windows = windows.iter();
            windows.any(|window| (window.from..window.until).contains(&due))
        };
        let counted = answers.samples.iter().filter(counts);
        let mut took: Vec<u64> = counted.map(|one| one.took.as_micros() as u64).collect();
        took.sort_unstable();
        Latency {
            requests: took.len() as u64,
            p50_us: quantile(&took, 0.5),
            p99_us: quantile(&took, 0.99),
            p999_us: quantile(&took, 0.999),
            max_us: took.last().copied(),
        }
    }
}

/// The smallest of these (sorted) that so large a share of them is at most (nearest rank).
fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The time without an answer around a takeover: from the last answer of the old primary to the
/// first of the new one.
pub fn silence(answers: &Answers) -> Option<Window> {
    let at = |reign: Reign| {
        let of = answers.samples.iter().filter(move |one| one.reign == reign);
        of.map(|one| answers.began + one.due + one.took)
    };
    let (from, until) = (at(Reign::First).max()?, at(Reign::Later).min()?);
    (from < until).then_some(Window { from, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(began: Instant, samples: &[(u64, u64)]) -> Answers {
        let sample = |(due, took): &(u64, u64)| Sample {
            due: Duration::from_millis(*due),
            took: Duration::from_millis(*took),
            reign: Reign::First,
        };
        Answers {
            began,
            samples: samples.iter().map(sample).collect(),
            errors: 0,
            first_error: None,
        }
    }

    fn window(began: Instant, from: u64, until: u64) -> Window {
        Window {
            from: began + Duration::from_millis(from),
            until: began + Duration::from_millis(until),
        }
    }

    #[test]
    fn only_requests_due_within_a_window_count_however_long_they_took() {
        let began = Instant::now();
        let answers = answers(began, &[(5, 1), (10, 500), (19, 2), (20, 900), (35, 3)]);
        let windows = [window(began, 10, 20), window(began, 30, 40)];
        let latency = Latency::within(&answers, &windows);
        assert_eq!((latency.requests, latency.max_us), (3, Some(500_000)));
        assert_eq!(latency.p50_us, Some(3_000));
        assert_eq!(Latency::within(&answers, &[]), Latency::default());
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let thousand: Vec<u64> = (1..=1000).collect();
        assert_eq!(quantile(&thousand, 0.5), Some(500));
        assert_eq!(quantile(&thousand, 0.999), Some(999));
        assert_eq!(quantile(&[7], 0.5), Some(7));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn windows_that_overlap_are_one() {
        let began = Instant::now();
        let all = vec![
            window(began, 30, 40),
            window(began, 0, 10),
            window(began, 5, 20),
            window(began, 20, 25),
        ];
        let merged = merged(all);
        assert_eq!(merged, [window(began, 0, 25), window(began, 30, 40)]);
        assert_eq!(length(&merged), Duration::from_millis(35));
    }

    #[test]
    fn the_silence_is_between_the_old_primarys_last_answer_and_the_new_ones_first() {
        let began = Instant::now();
        // Answers at 1, 101 and, of the new primary, 150 and 900: a later pause is no takeover's.
        let mut answers = answers(began, &[(0, 1), (100, 1), (105, 45), (150, 750)]);
        assert_eq!(silence(&answers), None);
        for sample in &mut answers.samples[2..] {
            sample.reign = Reign::Later;
        }
        assert_eq!(silence(&answers), Some(window(began, 101, 150)));
    }
}
