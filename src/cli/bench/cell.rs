//! One cell of the comparison: a mode, a number of clients, a pipeline depth.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::load::throughput::{LoadResult, new_histogram};

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    /// Half of the operations took at most this.
    pub(super) p50_us: u64,
    /// 99 of 100.
    pub(super) p99_us: u64,
    /// 999 of 1000.
    pub(super) p999_us: u64,
    /// All.
    pub(super) max_us: u64,
}

/// What was measured in a cell, over all its rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cell {
    /// The mode, or the label of a server given by address.
    pub(super) mode: String,
    /// Connections.
    pub(super) clients: usize,
    /// Requests outstanding per connection.
    pub(super) pipeline: usize,
    /// Operations per second in each round, in the order measured.
    pub(super) per_second_by_round: Vec<f64>,
    /// Their median (of an even number, the lower middle one).
    pub(super) per_second: f64,
    /// Operations measured, all rounds.
    pub(super) operations: u64,
    /// Operations answered with an error; not part of the throughput.
    pub(super) errors: u64,
    /// The first such error.
    pub(super) first_error: Option<String>,
    /// Latencies of all rounds together; `None` if no operation succeeded.
    pub(super) latency: Option<Latency>,
}

impl Cell {
    /// Sums the rounds of one cell.
    pub(super) fn sum(mode: &str, clients: usize, pipeline: usize, rounds: &[LoadResult]) -> Cell {
        let mut all = new_histogram();
        for round in rounds {
            all.add(&round.latency_us)
                .expect("all histograms have the same bounds");
        }
        let per_second_by_round: Vec<f64> = rounds.iter().map(LoadResult::per_second).collect();
        let mut sorted = per_second_by_round.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Cell {
            mode: mode.to_owned(),
            clients,
            pipeline,
            per_second: sorted
                .get(sorted.len().saturating_sub(1) / 2)
                .copied()
                .unwrap_or(0.0),
            per_second_by_round,
            operations: rounds.iter().map(|round| round.operations).sum(),
            errors: rounds.iter().map(|round| round.errors).sum(),
            first_error: rounds.iter().find_map(|round| round.first_error.clone()),
            latency: latency(&all),
        }
    }
}

fn latency(all: &Histogram<u64>) -> Option<Latency> {
    // The histogram rounds up to its own resolution; never above what was seen.
    let at = |quantile: f64| all.value_at_quantile(quantile).min(all.max());
    (!all.is_empty()).then(|| Latency {
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: all.max(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn result(latencies_us: &[u64]) -> LoadResult {
        let mut latency_us = new_histogram();
        for us in latencies_us {
            latency_us.record(*us).expect("within the bounds");
        }
        LoadResult {
            operations: latencies_us.len() as u64,
            errors: 1,
            first_error: Some("ERR x".to_owned()),
            elapsed: Duration::from_secs(1),
            latency_us,
        }
    }

    #[test]
    fn rounds_are_summed_and_the_throughput_is_their_median() {
        let rounds = [result(&[10, 20, 30]), result(&[100]), result(&[40, 50])];
        let cell = Cell::sum("sync", 10, 16, &rounds);
        assert_eq!((cell.operations, cell.errors), (6, 3));
        assert_eq!(cell.per_second_by_round, [3.0, 1.0, 2.0]);
        assert!((cell.per_second - 2.0).abs() < 1e-9);
        let expected = Latency {
            p50_us: 30,
            p99_us: 100,
            p999_us: 100,
            max_us: 100,
        };
        assert_eq!(cell.latency, Some(expected));
        assert_eq!(cell.first_error.as_deref(), Some("ERR x"));
    }

    #[test]
    fn nothing_measured_has_no_latency() {
        let cell = Cell::sum("sync", 1, 1, &[]);
        assert_eq!((cell.operations, cell.latency), (0, None));
    }
}
