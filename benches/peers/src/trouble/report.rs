//! What a run found: as Markdown, as JSON, as a picture.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use understudy::cli::bench::machine::Machine;
use understudy::cli::text::{span_us, thousands};

use super::cases::{Case, Row, Run, Who};
use super::draw;
use super::press::Measured;
use super::times::Timed;
use crate::report::{Aim, Verdict, aims, median, write};

const WROTE: &str = "writing to a String cannot fail";

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rounds.
    pub rounds: u32,
    /// Seconds per latency measurement.
    pub secs: f64,
    /// Number of different keys.
    pub keys: u64,
    /// Writes that a standby misses, or a start replays.
    pub records: u64,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Connections of the paced load.
    pub clients: usize,
    /// Seed of the choice of keys.
    pub seed: u64,
}

/// Everything measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// What was asked for.
    pub settings: Settings,
    /// Where and when.
    pub machine: Machine,
    /// The other system's version.
    pub versions: Vec<String>,
    /// SETs per second of the paced load; none where no latency was asked for.
    pub per_second: Option<f64>,
    /// Latencies, in the order made.
    pub measured: Vec<Measured>,
    /// Times, in the order made.
    pub timed: Vec<Timed>,
}

impl Results {
    /// The load in one line.
    pub fn describe(&self) -> String {
        let Settings {
            rounds,
            keys,
            records,
            key_bytes,
            value_bytes,
            clients,
            ..
        } = self.settings;
        let load = self.per_second.map_or(String::new(), |rate| {
            format!(
                "{} SETs/s in an open loop over {clients} connections, ",
                thousands(rate as u64)
            )
        });
        format!(
            "{load}{key_bytes}-byte keys drawn from {}, {value_bytes}-byte values, {} records \
             missed or replayed, {rounds} rounds in turn",
            thousands(keys),
            thousands(records),
        )
    }
}

/// A case's rounds, summed up: medians, but for the maximum, which is the worst round's.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What.
    pub case: Case,
    /// Microseconds.
    pub p50_us: Option<f64>,
    /// Microseconds.
    pub p99_us: Option<f64>,
    /// Microseconds.
    pub p999_us: Option<f64>,
    /// Microseconds.
    pub max_us: Option<u64>,
    /// p99.9 over that of the same servers at rest.
    pub p999_ratio: Option<f64>,
    /// Requests that count, of all rounds.
    pub requests: u64,
    /// Seconds for which they became due, of all rounds.
    pub window_secs: f64,
    /// How much went on, of all rounds, in the unit of [`Case::counted`].
    pub amount: f64,
    /// The median silence around a takeover.
    pub silence_us: Option<f64>,
    /// The longest.
    pub longest_silence_us: Option<u64>,
    /// Errors of all rounds.
    pub errors: u64,
    /// Why the first round that does not count does not.
    pub fault: Option<String>,
    /// Rounds in which something else was busy meanwhile.
    pub disturbed_rounds: usize,
}

/// Every case that was measured, who by who, each at rest first.
pub fn cells(measured: &[Measured]) -> Vec<Cell> {
    let mut cases = Case::ALL;
    cases.sort_by_key(|case| (case.who(), case.row() != Row::Rest));
    let cells = cases.into_iter().filter_map(|case| cell(measured, case));
    cells.collect()
}

fn rounds(measured: &[Measured], case: Case) -> Vec<&Measured> {
    measured.iter().filter(|one| one.case == case).collect()
}

fn cell(measured: &[Measured], case: Case) -> Option<Cell> {
    let rounds = rounds(measured, case);
    if rounds.is_empty() {
        return None;
    }
    let middle = |pick: fn(&Measured) -> Option<u64>| of(&rounds, pick);
    let p999 = middle(|one| one.latency.p999_us);
    let rest = of(&self::rounds(measured, rest_of(case)), |one| {
        one.latency.p999_us
    });
    Some(Cell {
        case,
        p50_us: middle(|one| one.latency.p50_us),
        p99_us: middle(|one| one.latency.p99_us),
        p999_us: p999,
        max_us: rounds.iter().filter_map(|one| one.latency.max_us).max(),
        p999_ratio: p999.zip(rest).map(|(during, rest)| during / rest),
        requests: rounds.iter().map(|one| one.latency.requests).sum(),
        window_secs: rounds.iter().map(|one| one.window_secs).sum(),
        amount: rounds.iter().map(|one| one.amount).sum(),
        silence_us: middle(|one| one.silence_us),
        longest_silence_us: rounds.iter().filter_map(|one| one.silence_us).max(),
        errors: rounds.iter().map(|one| one.errors).sum(),
        fault: rounds.iter().find_map(|one| one.fault()),
        disturbed_rounds: rounds.iter().filter(|one| one.is_disturbed()).count(),
    })
}

/// The median of a figure over the rounds that have it.
fn of(rounds: &[&Measured], pick: fn(&Measured) -> Option<u64>) -> Option<f64> {
    let figures = rounds.iter().filter_map(|one| pick(one));
    median(figures.map(|figure| figure as f64))
}

fn rest_of(case: Case) -> Case {
    match case.who() {
        Who::Pair => Case::Rest,
        Who::Three => Case::ThreeRest,
        Who::Redis => Case::RedisRest,
    }
}

/// A run's rounds, summed up.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// What.
    pub run: Run,
    /// Median.
    pub secs: Option<f64>,
    /// Fastest round.
    pub least_secs: Option<f64>,
    /// Slowest round.
    pub most_secs: Option<f64>,
    /// Records per second, median.
    pub per_second: Option<f64>,
    /// That over Redis's; of several ways of Redis's, the fastest.
    pub ratio: Option<f64>,
    /// Why the first round that failed did.
    pub error: Option<String>,
}

/// Every run that was measured.
pub fn spans(timed: &[Timed]) -> Vec<Span> {
    Run::ALL
        .into_iter()
        .filter_map(|run| {
            let rounds: Vec<&Timed> = timed.iter().filter(|one| one.run == run).collect();
            let secs = || rounds.iter().filter_map(|one| one.secs);
            let per_second = median(speeds(timed, run));
            let theirs =
                fastest_of_redis(timed, run).and_then(|other| median(speeds(timed, other)));
            (!rounds.is_empty()).then(|| Span {
                run,
                secs: median(secs()),
                least_secs: secs().reduce(f64::min),
                most_secs: secs().reduce(f64::max),
                per_second,
                ratio: per_second.zip(theirs).map(|(ours, theirs)| ours / theirs),
                error: rounds.iter().find_map(|one| one.error.clone()),
            })
        })
        .collect()
}

fn speeds(timed: &[Timed], run: Run) -> Vec<f64> {
    let rounds = timed.iter().filter(|one| one.run == run);
    rounds.filter_map(Timed::per_second).collect()
}

/// What a run of ours is held against; none for Redis's own.
fn fastest_of_redis(timed: &[Timed], run: Run) -> Option<Run> {
    let speed = |run: Run| median(speeds(timed, run)).unwrap_or(0.0);
    match run {
        Run::Restart => Some(Run::RedisRestart),
        Run::Blank | Run::BlankUnpaced | Run::Away | Run::AwayUnpaced => {
            let ways = [Run::RedisDisk, Run::RedisDiskless].into_iter();
            ways.max_by(|a, b| speed(*a).total_cmp(&speed(*b)))
        }
        Run::RedisRestart | Run::RedisDisk | Run::RedisDiskless => None,
    }
}

/// Every aim that this run has figures for.
fn verdicts(results: &Results) -> Vec<Verdict> {
    let latencies = snapshot_verdict(&results.measured).into_iter();
    let runs = [
        (Run::Restart, 1.5, "records per second of a start"),
        (
            Run::Blank,
            2.0,
            "keys per second to a blank standby, defaults,",
        ),
        (
            Run::BlankUnpaced,
            2.0,
            "keys per second to a blank standby, unpaced,",
        ),
        (
            Run::Away,
            2.0,
            "records per second to a standby that was away, defaults,",
        ),
        (
            Run::AwayUnpaced,
            2.0,
            "records per second to a standby that was away, unpaced,",
        ),
    ];
    let speeds = runs.into_iter();
    let speeds = speeds.filter_map(|(run, least, what)| {
        speed_verdict(&results.timed, run, Aim::AtLeast(least), what)
    });
    latencies.chain(speeds).collect()
}

/// "During a snapshot p99.9 stays within 2 times that at rest."
fn snapshot_verdict(measured: &[Measured]) -> Option<Verdict> {
    let (during, rest) = (
        rounds(measured, Case::Snapshot),
        rounds(measured, Case::Rest),
    );
    if during.is_empty() || rest.is_empty() {
        return None;
    }
    let figures = |rounds: &[&Measured]| -> Vec<f64> {
        let found = rounds.iter().filter_map(|one| one.latency.p999_us);
        found.map(|us| us as f64).collect()
    };
    let mut all = during.iter().chain(&rest);
    let void = all.find_map(|one| Some(format!("round {}: {}", one.round, one.fault()?)));
    Some(Verdict::new(
        "understudy sync, p99.9 of SET during a snapshot vs at rest".to_owned(),
        &figures(&during),
        &figures(&rest),
        Aim::AtMost(2.0),
        void,
    ))
}

fn speed_verdict(timed: &[Timed], run: Run, aim: Aim, what: &str) -> Option<Verdict> {
    let other = fastest_of_redis(timed, run)?;
    let mut concerned = timed
        .iter()
        .filter(|one| one.run == run || one.run == other);
    let void = concerned.find_map(|one| {
        let error = one.error.as_deref()?;
        Some(format!(
            "{} in round {}: {error}",
            one.run.name(),
            one.round
        ))
    });
    let (ours, theirs) = (speeds(timed, run), speeds(timed, other));
    let measured = timed.iter().any(|one| one.run == run);
    let name = other.name();
    let what = format!("understudy, {what} vs {name}");
    measured.then(|| Verdict::new(what, &ours, &theirs, aim, void))
}

/// Prints the tables and the aims, and writes both files.
pub fn publish(results: &Results, json_file: &Path, svg_file: &Path) -> anyhow::Result<()> {
    let (cells, spans) = (cells(&results.measured), spans(&results.timed));
    let verdicts = verdicts(results);
    println!("{}", results.machine.describe());
    println!("{}\n{}\n", results.versions.join("; "), results.describe());
    print!("{}", tables(results, &cells, &spans));
    println!("{}", aims(&verdicts));
    let document = json!({
        "schema": "understudy.trouble/1",
        "machine": results.machine,
        "versions": results.versions,
        "settings": results.settings,
        "sets_per_second": results.per_second,
        "aims": verdicts,
        "latency_cells": cells,
        "time_cells": spans,
        "latency": results.measured,
        "times": results.timed,
    });
    write(
        json_file,
        &(serde_json::to_string_pretty(&document)? + "\n"),
    )?;
    write(svg_file, &draw::draw(results, &cells, &spans))
}

fn tables(results: &Results, cells: &[Cell], spans: &[Span]) -> String {
    let mut text = String::new();
    if !cells.is_empty() {
        let header = [
            "SET",
            "",
            "p50",
            "p99",
            "p99.9",
            "worst",
            "p99.9 ÷ at rest",
            "requests",
            "meanwhile",
            "marks",
        ];
        let rows: Vec<_> = cells.iter().map(latency_row).collect();
        writeln!(text, "{}", markdown(&header, &rows)).expect(WROTE);
        for cell in cells {
            aside(&mut text, results, cell);
        }
    }
    if !spans.is_empty() {
        let header = [
            "from the start to the first answer",
            "median",
            "rounds",
            "per second",
            "x redis",
            "marks",
        ];
        let rows: Vec<_> = spans.iter().map(time_row).collect();
        writeln!(text, "{}", markdown(&header, &rows)).expect(WROTE);
    }
    text
}

fn latency_row(cell: &Cell) -> Vec<String> {
    let span = |us: Option<f64>| dash(us.map(|us| span_us(us.round() as u64)));
    let meanwhile = cell.case.counted().map(|counted| {
        let amount = thousands(cell.amount.round() as u64);
        format!("{amount} {counted}, {:.1} s", cell.window_secs)
    });
    let mut marks = Vec::new();
    if cell.fault.is_some() {
        marks.push("! does not count".to_owned());
    }
    if cell.disturbed_rounds > 0 {
        marks.push(format!("~ disturbed in {}", cell.disturbed_rounds));
    }
    vec![
        cell.case.who().name().to_owned(),
        cell.case.name().to_owned(),
        span(cell.p50_us),
        span(cell.p99_us),
        span(cell.p999_us),
        dash(cell.max_us.map(span_us)),
        dash(cell.p999_ratio.map(|ratio| format!("{ratio:.2}"))),
        thousands(cell.requests),
        meanwhile.unwrap_or_default(),
        marks.join(", "),
    ]
}

/// What does not fit into a row.
fn aside(text: &mut String, results: &Results, cell: &Cell) {
    let name = format!("{}, {}", cell.case.who().name(), cell.case.name());
    if let (Some(silence), Some(longest)) = (cell.silence_us, cell.longest_silence_us) {
        let silence = span_us(silence.round() as u64);
        let rounds = results.settings.rounds;
        writeln!(
            text,
            "{name}: no request answered for {silence} (median of {rounds}), {} at worst\n",
            span_us(longest)
        )
        .expect(WROTE);
    }
    if let Some(fault) = &cell.fault {
        writeln!(text, "! {name}: {fault}\n").expect(WROTE);
    }
}

fn time_row(span: &Span) -> Vec<String> {
    let ms = |secs: Option<f64>| dash(secs.map(|secs| format!("{:.0} ms", secs * 1e3)));
    vec![
        span.run.name().to_owned(),
        ms(span.secs),
        format!("{} to {}", ms(span.least_secs), ms(span.most_secs)),
        dash(span.per_second.map(|rate| thousands(rate.round() as u64))),
        dash(span.ratio.map(|ratio| format!("{ratio:.2}"))),
        span.error
            .as_ref()
            .map_or(String::new(), |error| format!("! {error}")),
    ]
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// A table as Markdown has it.
fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n", header.join(" | "));
    writeln!(text, "|{}", " --- |".repeat(header.len())).expect(WROTE);
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        writeln!(text, "| {} |", cells.join(" | ")).expect(WROTE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::windows::Latency;
    use super::*;

    fn measured(round: u32, case: Case, p999_us: u64, max_us: u64) -> Measured {
        Measured {
            round,
            case,
            latency: Latency {
                requests: 1000,
                p50_us: Some(100),
                p99_us: Some(200),
                p999_us: Some(p999_us),
                max_us: Some(max_us),
            },
            window_secs: 1.0,
            amount: 2.0,
            silence_us: None,
            errors: 0,
            first_error: None,
            foreign_cores: Some(0.0),
            began_quiet: true,
        }
    }

    #[test]
    fn figures_are_medians_and_the_maximum_is_the_worst() {
        let all = [
            measured(1, Case::Rest, 1000, 5000),
            measured(1, Case::Snapshot, 1500, 9000),
            measured(2, Case::Rest, 3000, 4000),
            measured(2, Case::Snapshot, 2500, 7000),
        ];
        let cells = cells(&all);
        assert_eq!(cells.len(), 2);
        assert_eq!(cells[1].case, Case::Snapshot);
        assert_eq!(cells[1].p999_us, Some(2000.0));
        assert_eq!(cells[1].max_us, Some(9000));
        assert_eq!(cells[1].p999_ratio, Some(1.0));
        assert_eq!(cells[1].amount, 4.0);
    }

    #[test]
    fn a_round_that_broke_off_voids_the_aim() {
        let broken = Measured::new(2, Case::Snapshot, true, Err(anyhow::anyhow!("it is down")));
        let all = [
            measured(1, Case::Rest, 1000, 5000),
            measured(1, Case::Snapshot, 1500, 9000),
            broken,
        ];
        let verdict = snapshot_verdict(&all).expect("both were measured");
        assert!(aims(&[verdict]).contains("VOID, round 2: it is down"));
    }

    #[test]
    fn redis_counts_by_its_faster_way() {
        let timed = |run, secs| Timed {
            round: 1,
            run,
            records: 1000,
            secs: Some(secs),
            error: None,
        };
        let all = [
            timed(Run::BlankUnpaced, 1.0),
            timed(Run::RedisDisk, 4.0),
            timed(Run::RedisDiskless, 3.0),
        ];
        let spans = spans(&all);
        assert_eq!(spans[0].ratio, Some(3.0));
        assert_eq!(spans[1].ratio, None);
        let aim = Aim::AtLeast(2.0);
        let verdict = speed_verdict(&all, Run::BlankUnpaced, aim, "copied").expect("measured");
        let text = aims(&[verdict]);
        assert!(text.contains("diskless: 3.00 x (aim at least 2; rounds 3.00 to 3.00): reached"));
    }

    #[test]
    fn a_table_is_markdown_whatever_its_cells_say() {
        let text = markdown(&["a", "b"], &[vec!["1".into(), "x | y".into()]]);
        assert_eq!(text, "| a | b |\n| --- | --- |\n| 1 | x \\| y |\n");
    }
}
