//! The aims: each one a ratio of medians of this run, beside the aim and the rounds' spread.
//!
//! The figures compared are looked up by line and shape; nothing here knows a result. An aim with
//! an error in one of its measurements is void, whatever its figures say.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Results, median};
use crate::cells::{Line, Operation, Shape, SystemKind};
use crate::measure::Measured;
use crate::report::summary::rounds;

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Figure {
    Throughput,
    P50,
    ServerCpu,
}

/// With whom.
#[derive(Clone, Copy, Debug)]
enum Against {
    Line(Line),
    Floor,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// As much, or more.
    AtLeast(f64),
    /// As much, or less.
    AtMost(f64),
}

struct Claim {
    ours: Line,
    shape: Shape,
    figure: Figure,
    against: Against,
    aim: Aim,
}

/// What became of an aim.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    what: String,
    ratio: Option<f64>,
    lowest: Option<f64>,
    highest: Option<f64>,
    aim: Aim,
    reached: Option<bool>,
    /// Why it decides nothing.
    void: Option<String>,
}

/// Every aim that this run has figures for.
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    let claims = claims();
    let judged = claims.iter().filter_map(|claim| judge(claim, results));
    judged
        .chain(memory(results))
        .chain(checks(results))
        .collect()
}

/// The aims, as issue 5 states them.
fn claims() -> Vec<Claim> {
    use Against::{Floor, Line as Than};
    use Aim::{AtLeast, AtMost};
    use Figure::{P50, ServerCpu, Throughput};
    use Line::{
        Etcd, OursAlone, OursAsync, OursSync, PostgresOn, RedisAlone, RedisReplica, RedisWait,
    };
    let set = |clients, pipeline| Shape::new(Operation::Set, clients, pipeline);
    let get = |clients, pipeline| Shape::new(Operation::Get, clients, pipeline);
    let mut claims = Vec::new();
    let mut claim = |ours, shape, figure, against, aim| {
        claims.push(Claim {
            ours,
            shape,
            figure,
            against,
            aim,
        });
    };
    claim(
        OursSync,
        set(50, 1),
        Throughput,
        Than(RedisWait),
        AtLeast(2.0),
    );
    claim(
        OursSync,
        set(50, 1),
        Throughput,
        Than(PostgresOn),
        AtLeast(3.5),
    );
    claim(OursSync, set(50, 1), Throughput, Than(Etcd), AtLeast(5.0));
    claim(
        OursSync,
        set(50, 16),
        Throughput,
        Than(RedisWait),
        AtLeast(2.0),
    );
    claim(OursSync, set(1, 1), P50, Floor, AtMost(1.4));
    claim(OursSync, set(1, 1), P50, Than(RedisWait), AtMost(0.6));
    claim(OursSync, set(1, 1), P50, Than(PostgresOn), AtMost(0.6));
    for pipeline in [1, 16] {
        let (set, get) = (set(50, pipeline), get(50, pipeline));
        claim(OursAsync, set, Throughput, Than(RedisReplica), AtLeast(1.0));
        claim(OursAlone, set, Throughput, Than(RedisAlone), AtLeast(1.0));
        claim(OursSync, get, Throughput, Than(RedisReplica), AtLeast(1.0));
        claim(OursAsync, get, Throughput, Than(RedisReplica), AtLeast(1.0));
        // "Sync costs at most 35 % of async throughput."
        claim(OursSync, set, Throughput, Than(OursAsync), AtLeast(0.65));
        claim(OursSync, set, ServerCpu, Than(RedisWait), AtMost(1.0));
        claim(OursAsync, set, ServerCpu, Than(RedisReplica), AtMost(1.0));
    }
    claims
}

fn judge(claim: &Claim, results: &Results) -> Option<Verdict> {
    let ours = rounds(&results.measured, claim.ours, claim.shape);
    let ours_figures = figures(&ours, claim.figure);
    let (theirs, theirs_figures, name) = match claim.against {
        Against::Line(line) => {
            let theirs = rounds(&results.measured, line, claim.shape);
            let figures = figures(&theirs, claim.figure);
            (theirs, figures, line.name())
        }
        Against::Floor => {
            let floors = results.floors.iter().map(|floor| floor.p50_us);
            (Vec::new(), floors.collect(), "the floor")
        }
    };
    let measured = || ours.iter().chain(&theirs);
    if ours.is_empty() || (theirs.is_empty() && theirs_figures.is_empty()) {
        return None;
    }
    let what = format!(
        "{}, {}{} vs {name}",
        claim.ours.name(),
        claim.shape,
        figure_name(claim.figure)
    );
    let unsound = measured().find(|one| !one.is_sound());
    let void = unsound.map(|one| {
        let error = one.first_error.as_deref().unwrap_or("nothing was measured");
        format!("{} in round {}: {error}", one.line.name(), one.round)
    });
    Some(Verdict::new(
        what,
        &ours_figures,
        &theirs_figures,
        claim.aim,
        void,
    ))
}

fn figure_name(figure: Figure) -> &'static str {
    match figure {
        Figure::Throughput => "",
        Figure::P50 => ", p50",
        Figure::ServerCpu => ", CPU time of all servers per operation",
    }
}

/// A figure of each round.
fn figures(rounds: &[&Measured], figure: Figure) -> Vec<f64> {
    let pick = |one: &&Measured| match figure {
        Figure::Throughput => Some(one.per_second),
        Figure::P50 => one.p50_us.map(|us| us as f64),
        Figure::ServerCpu => one.server_cpu_us,
    };
    rounds.iter().filter_map(pick).collect()
}

impl Verdict {
    /// Of one figure each round of both; `void`: why it decides nothing.
    pub fn new(
        what: String,
        ours: &[f64],
        theirs: &[f64],
        aim: Aim,
        void: Option<String>,
    ) -> Verdict {
        let middle = |figures: &[f64]| median(figures.iter().copied());
        let ratio = middle(ours).zip(middle(theirs)).map(|(a, b)| a / b);
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        let each = ours.iter().zip(theirs).map(|(a, b)| a / b);
        let each: Vec<f64> = each.filter(|ratio| ratio.is_finite()).collect();
        let is_reached = |ratio: f64| match aim {
            Aim::AtLeast(least) => ratio >= least,
            Aim::AtMost(most) => ratio <= most,
        };
        Verdict {
            what,
            ratio,
            lowest: each.iter().copied().reduce(f64::min),
            highest: each.iter().copied().reduce(f64::max),
            aim,
            reached: ratio.filter(|_| void.is_none()).map(is_reached),
            void,
        }
    }
}

/// "Memory per key at most redis's."
fn memory(results: &Results) -> Option<Verdict> {
    let of = |wanted: &str| {
        let found = results.memory.iter().find(|one| one.system == wanted);
        found.map(|one| one.bytes_per_key)
    };
    let (ours, theirs) = (
        of(SystemKind::OursAsync.name())?,
        of(SystemKind::RedisPair.name())?,
    );
    let what = "understudy async, resident memory per key vs redis with replica".to_owned();
    Some(Verdict::new(
        what,
        &[ours],
        &[theirs],
        Aim::AtMost(1.0),
        None,
    ))
}

/// "Our own load client and redis-benchmark must agree within 10 %": the smaller over the greater.
fn checks(results: &Results) -> Vec<Verdict> {
    let mut pairs: Vec<(Line, Shape)> = Vec::new();
    for check in &results.checks {
        if !pairs.contains(&(check.line, check.shape)) {
            pairs.push((check.line, check.shape));
        }
    }
    let verdict = |(line, shape): (Line, Shape)| {
        let mine = results.checks.iter();
        let mine: Vec<_> = mine
            .filter(|c| c.line == line && c.shape == shape)
            .collect();
        let own: Vec<f64> = mine.iter().map(|c| c.own_per_second).collect();
        let benchmark: Vec<f64> = mine.iter().map(|c| c.benchmark_per_second).collect();
        let middle = |figures: &[f64]| median(figures.iter().copied()).unwrap_or(0.0);
        let ours_is_less = middle(&own) <= middle(&benchmark);
        let (low, high, order) = match ours_is_less {
            true => (&own, &benchmark, "our client's figure vs redis-benchmark's"),
            false => (&benchmark, &own, "redis-benchmark's figure vs our client's"),
        };
        let what = format!("{}, {shape}, {order}", line.name());
        Verdict::new(what, low, high, Aim::AtLeast(0.9), None)
    };
    pairs.into_iter().map(verdict).collect()
}

/// One line per aim.
pub fn text(verdicts: &[Verdict]) -> String {
    let mut text = String::from("Aims, each a ratio of medians of this run:\n");
    for verdict in verdicts {
        writeln!(text, "- {}", line(verdict)).expect("writing to a String cannot fail");
    }
    text
}

fn line(verdict: &Verdict) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let aim = match verdict.aim {
        Aim::AtLeast(least) => format!("at least {least}"),
        Aim::AtMost(most) => format!("at most {most}"),
    };
    let outcome = match (&verdict.void, verdict.reached) {
        (Some(why), _) => format!("VOID, {why}"),
        (None, Some(true)) => "reached".to_owned(),
        (None, Some(false)) => "NOT reached".to_owned(),
        (None, None) => "not measured".to_owned(),
    };
    format!(
        "{}: {} x (aim {aim}; rounds {} to {}): {outcome}",
        verdict.what,
        number(verdict.ratio),
        number(verdict.lowest),
        number(verdict.highest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_one_of_medians_and_an_error_voids_it() {
        let what = || "sync".to_owned();
        let aim = Aim::AtLeast(2.0);
        let good = Verdict::new(what(), &[4.0, 2.0, 9.0], &[2.0, 1.0, 3.0], aim, None);
        assert_eq!((good.ratio, good.reached), (Some(2.0), Some(true)));
        assert_eq!((good.lowest, good.highest), (Some(2.0), Some(3.0)));
        assert!(line(&good).contains("2.00 x (aim at least 2; rounds 2.00 to 3.00): reached"));
        let void = Verdict::new(what(), &[4.0], &[2.0], aim, Some("etcd is down".to_owned()));
        assert_eq!(void.reached, None);
        assert!(line(&void).contains("VOID, etcd is down"));
        let missed = Verdict::new(what(), &[3.0], &[2.0], aim, None);
        assert!(line(&missed).ends_with("NOT reached"));
    }
}
