//! The rounds of one line under one shape, summed up.

use serde::Serialize;

use super::median;
use crate::cells::{Line, Shape};
use crate::measure::Measured;

/// Medians over the rounds; the maximum is that of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Who.
    pub line: Line,
    /// Doing what.
    #[serde(flatten)]
    pub shape: Shape,
    /// Operations per second, median.
    pub per_second: f64,
    /// Of the slowest round.
    pub lowest_per_second: f64,
    /// Of the fastest round.
    pub highest_per_second: f64,
    /// understudy sync's throughput over this line's; none where one of them was not measured.
    pub sync_ratio: Option<f64>,
    /// Microseconds.
    pub p50_us: Option<f64>,
    /// Microseconds.
    pub p99_us: Option<f64>,
    /// Microseconds.
    pub p999_us: Option<f64>,
    /// Microseconds.
    pub max_us: Option<u64>,
    /// CPU time of all servers of the system per operation.
    pub server_cpu_us: Option<f64>,
    /// CPU time of the client per operation.
    pub client_cpu_us: Option<f64>,
    /// Errors of all rounds.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Rounds in which something else was busy meanwhile.
    pub disturbed_rounds: usize,
}

/// Every line and shape that was measured, in the order of the first round.
pub fn cells(measured: &[Measured]) -> Vec<Cell> {
    let first = measured.iter().map(|one| one.round).min();
    let order = measured.iter().filter(|one| Some(one.round) == first);
    order
        .map(|one| {
            let rounds = rounds(measured, one.line, one.shape);
            let sync = self::rounds(measured, Line::OursSync, one.shape);
            sum(one.line, one.shape, &rounds, &sync)
        })
        .collect()
}

/// All rounds of a line under a shape.
pub fn rounds(measured: &[Measured], line: Line, shape: Shape) -> Vec<&Measured> {
    let wanted = |one: &&Measured| one.line == line && one.shape == shape;
    measured.iter().filter(wanted).collect()
}

fn sum(line: Line, shape: Shape, rounds: &[&Measured], sync: &[&Measured]) -> Cell {
    let rates = || rounds.iter().map(|one| one.per_second);
    let per_second = median(rates()).unwrap_or(0.0);
    let sync = median(sync.iter().map(|one| one.per_second));
    let of = |pick: fn(&Measured) -> Option<f64>| median(rounds.iter().filter_map(|one| pick(one)));
    Cell {
        line,
        shape,
        per_second,
        lowest_per_second: rates().fold(f64::INFINITY, f64::min),
        highest_per_second: rates().fold(0.0, f64::max),
        sync_ratio: sync
            .map(|sync| sync / per_second)
            .filter(|ratio| ratio.is_finite()),
        p50_us: of(|one| one.p50_us.map(|us| us as f64)),
        p99_us: of(|one| one.p99_us.map(|us| us as f64)),
        p999_us: of(|one| one.p999_us.map(|us| us as f64)),
        max_us: rounds.iter().filter_map(|one| one.max_us).max(),
        server_cpu_us: of(|one| one.server_cpu_us),
        client_cpu_us: of(|one| one.client_cpu_us),
        errors: rounds.iter().map(|one| one.errors).sum(),
        first_error: rounds.iter().find_map(|one| one.first_error.clone()),
        disturbed_rounds: rounds.iter().filter(|one| one.is_disturbed()).count(),
    }
}
