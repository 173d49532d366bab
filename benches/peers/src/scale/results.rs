//! What was measured, round by round, and the medians of it.

use serde::Serialize;
use understudy::cli::bench::machine::Machine;

use super::axis::{Axis, Figure, Who};
use crate::cells::Operation;
use crate::measure::Measured;
use crate::report::median;

/// Where on an axis, in which round.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The sweep.
    pub axis: Axis,
    /// The point.
    pub at: u64,
    /// From 1.
    pub round: u32,
}

/// One figure of one system in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Where.
    pub place: Place,
    /// Of whom.
    pub who: Who,
    /// What.
    pub figure: Figure,
    /// How much.
    pub value: f64,
    /// Whether something else was busy meanwhile.
    pub disturbed: bool,
}

/// What could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The sweep.
    pub axis: Axis,
    /// The point; none where it is the whole sweep.
    pub at: Option<u64>,
    /// Of whom; none where it is everybody there.
    pub who: Option<Who>,
    /// What happened.
    pub error: String,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rounds.
    pub rounds: u32,
    /// Seconds per measurement.
    pub secs: f64,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value, where it is not the axis.
    pub value_bytes: usize,
    /// Number of keys, where it is not the axis.
    pub keys: u64,
    /// Connections, where it is not the axis.
    pub clients: usize,
}

/// Everything measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// What was asked for.
    pub settings: Settings,
    /// Where and when.
    pub machine: Machine,
    /// The other systems' versions.
    pub versions: Vec<String>,
    /// The sweeps, in the order made, and how long each took, seconds.
    pub took: Vec<(Axis, f64)>,
    /// All figures, in the order measured.
    pub samples: Vec<Sample>,
    /// What is missing.
    pub failures: Vec<Failure>,
}

/// The rounds of one figure of one system at one point.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The point.
    pub at: u64,
    /// The middle of the rounds.
    pub median: f64,
    /// Their least.
    pub lowest: f64,
    /// Their most.
    pub highest: f64,
    /// All of them.
    pub rounds: Vec<f64>,
    /// How many of them were disturbed.
    pub disturbed_rounds: usize,
}

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// The sweep.
    pub axis: Axis,
    /// What.
    pub figure: Figure,
    /// Of whom.
    pub who: Who,
    /// In the order of the axis.
    pub points: Vec<Summary>,
}

impl Results {
    /// One more figure.
    pub fn add(&mut self, place: Place, who: Who, figure: Figure, value: f64) {
        self.samples.push(Sample {
            place,
            who,
            figure,
            value,
            disturbed: false,
        });
    }

    /// All figures of a load; with an error among its answers it is a failure, and no figure.
    pub fn add_load(&mut self, place: Place, who: Who, value_bytes: usize, measured: &Measured) {
        if !measured.is_sound() {
            let error = measured.first_error.as_deref();
            let error = error.unwrap_or("nothing was answered in time");
            let round = place.round;
            self.failures.push(Failure {
                axis: place.axis,
                at: Some(place.at),
                who: Some(who),
                error: format!("{} in round {round}: {error}", measured.shape),
            });
            return;
        }
        for (figure, value) in figures(value_bytes, measured) {
            self.samples.push(Sample {
                place,
                who,
                figure,
                value,
                disturbed: measured.is_disturbed(),
            });
        }
    }

    /// The curves that these axes show, and those that only the file has.
    pub fn curves(&self) -> Vec<Curve> {
        let key = |sample: &Sample| (sample.place.axis, sample.figure, sample.who);
        let mut keys: Vec<_> = self.samples.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        let curve = |(axis, figure, who)| {
            let same = |sample: &&Sample| key(sample) == (axis, figure, who);
            let samples: Vec<&Sample> = self.samples.iter().filter(same).collect();
            Curve {
                axis,
                figure,
                who,
                points: summaries(&samples),
            }
        };
        keys.into_iter().map(curve).collect()
    }
}

fn figures(value_bytes: usize, measured: &Measured) -> Vec<(Figure, f64)> {
    let rate = measured.per_second;
    let mut figures = Vec::new();
    let (p99, cpu) = match measured.shape.operation {
        Operation::Set => {
            figures.push((Figure::SetPerSecond, rate));
            let megabytes = rate * value_bytes as f64 / 1e6;
            figures.push((Figure::SetMegabytesPerSecond, megabytes));
            (Figure::SetP99Us, Figure::SetCpuUs)
        }
        Operation::Get => {
            figures.push((Figure::GetPerSecond, rate));
            (Figure::GetP99Us, Figure::GetCpuUs)
        }
    };
    figures.extend(measured.p99_us.map(|us| (p99, us as f64)));
    figures.extend(measured.server_cpu_us.map(|us| (cpu, us)));
    figures
}

fn summaries(samples: &[&Sample]) -> Vec<Summary> {
    let mut points: Vec<u64> = samples.iter().map(|sample| sample.place.at).collect();
    points.sort_unstable();
    points.dedup();
    let summary = |at: u64| {
        let here: Vec<&&Sample> = samples.iter().filter(|one| one.place.at == at).collect();
        let rounds: Vec<f64> = here.iter().map(|sample| sample.value).collect();
        Some(Summary {
            at,
            median: median(rounds.iter().copied())?,
            lowest: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            highest: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            disturbed_rounds: here.iter().filter(|sample| sample.disturbed).count(),
            rounds,
        })
    };
    points.into_iter().filter_map(summary).collect()
}

impl Curve {
    /// Its figure at this point.
    pub fn at(&self, at: u64) -> Option<&Summary> {
        self.points.iter().find(|point| point.at == at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_summed_up_by_point() {
        let sample = |at, round, value| Sample {
            place: Place {
                axis: Axis::Keys,
                at,
                round,
            },
            who: Who::Sync,
            figure: Figure::Seconds,
            value,
            disturbed: value > 4.0,
        };
        let samples = [
            sample(10, 1, 3.0),
            sample(20, 1, 8.0),
            sample(10, 2, 1.0),
            sample(10, 3, 5.0),
        ];
        let samples: Vec<&Sample> = samples.iter().collect();
        let points = summaries(&samples);
        assert_eq!(points.len(), 2);
        assert_eq!((points[0].at, points[0].median), (10, 3.0));
        assert_eq!((points[0].lowest, points[0].highest), (1.0, 5.0));
        assert_eq!((points[0].disturbed_rounds, points[1].median), (1, 8.0));
    }
}
