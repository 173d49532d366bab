//! The sweeps as Markdown, as JSON, as a picture.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use understudy::cli::text::{span_us, thousands};

use super::axis::{Axis, Figure, Who};
use super::picture;
use super::results::{Curve, Results, Summary};
use crate::report::write;

const WROTE: &str = "writing to a String cannot fail";

/// Prints the tables, and writes both files.
pub fn publish(results: &Results, json_file: &Path, svg_file: &Path) -> anyhow::Result<()> {
    let curves = results.curves();
    println!("{}", results.machine.describe());
    println!("{}\n{}\n", results.versions.join("; "), describe(results));
    for (axis, took) in &results.took {
        println!("## {}\n\n{}", capital(axis.name()), table(*axis, &curves));
        println!("{took:.0} s.\n");
    }
    println!("{}", failures(results));
    let took = results.took.iter();
    let took = took.map(|(axis, seconds)| json!({ "axis": axis, "seconds": seconds }));
    let document = json!({
        "schema": "understudy.scale/1",
        "machine": results.machine,
        "versions": results.versions,
        "settings": results.settings,
        "took": took.collect::<Vec<_>>(),
        "curves": curves,
        "failures": results.failures,
    });
    let json = serde_json::to_string_pretty(&document)? + "\n";
    write(json_file, &json)?;
    write(svg_file, &picture::draw(results, &curves))
}

/// The load in one line.
pub fn describe(results: &Results) -> String {
    let settings = &results.settings;
    format!(
        "{}-byte keys drawn from {}, {}-byte values, {} clients, no pipeline, two data nodes and a \
         witness, where the axis is not that; {} s per load, {} rounds, medians; the client runs \
         on this machine too",
        settings.key_bytes,
        thousands(settings.keys),
        settings.value_bytes,
        settings.clients,
        settings.secs,
        settings.rounds,
    )
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// A row per point; a column for each figure of each system, and ours over Redis's.
fn table(axis: Axis, curves: &[Curve]) -> String {
    let mut head = vec![axis.name().to_owned()];
    let mut rows: Vec<Vec<String>> = Vec::new();
    let points = points(axis, curves);
    rows.extend(points.iter().map(|at| vec![thousands(*at)]));
    for figure in axis.figures() {
        for who in axis.who() {
            head.push(format!("{}, {}", figure.name(), who.name()));
            for (row, at) in rows.iter_mut().zip(&points) {
                let summary = find(curves, axis, *figure, *who).and_then(|one| one.at(*at));
                row.push(summary.map_or("-".to_owned(), |one| cell(*figure, one)));
            }
        }
        for who in axis.who() {
            let Some(rival) = rival(axis, *who) else {
                continue;
            };
            head.push(format!("{} ÷ {}", who.name(), rival.name()));
            for (row, at) in rows.iter_mut().zip(&points) {
                row.push(ratio(curves, axis, *figure, (*who, rival), *at));
            }
        }
    }
    let mut text = String::new();
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    writeln!(text, "{}", line(&head)).expect(WROTE);
    let rule = vec!["---:".to_owned(); head.len()];
    writeln!(text, "{}", line(&rule)).expect(WROTE);
    for row in rows {
        writeln!(text, "{}", line(&row)).expect(WROTE);
    }
    text
}

/// All points of an axis at which anything was measured.
pub fn points(axis: Axis, curves: &[Curve]) -> Vec<u64> {
    let of_axis = curves.iter().filter(|curve| curve.axis == axis);
    let points = of_axis.flat_map(|curve| &curve.points);
    let mut points: Vec<u64> = points.map(|point| point.at).collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// One curve, if it was measured.
pub fn find(curves: &[Curve], axis: Axis, figure: Figure, who: Who) -> Option<&Curve> {
    let mut curves = curves.iter();
    curves.find(|one| (one.axis, one.figure, one.who) == (axis, figure, who))
}

fn rival(axis: Axis, who: Who) -> Option<Who> {
    let mut rivals = who.rival()?.iter().copied();
    rivals.find(|rival| axis.who().contains(rival))
}

fn ratio(curves: &[Curve], axis: Axis, figure: Figure, pair: (Who, Who), at: u64) -> String {
    let median = |who| Some(find(curves, axis, figure, who)?.at(at)?.median);
    let ratio = median(pair.0).zip(median(pair.1)).map(|(a, b)| a / b);
    let ratio = ratio.filter(|ratio| ratio.is_finite());
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// The median; `~` where something else was busy in one of the rounds.
fn cell(figure: Figure, summary: &Summary) -> String {
    let median = summary.median;
    let text = match figure {
        Figure::SetMegabytesPerSecond if median < 9.95 => format!("{median:.2}"),
        Figure::SetMegabytesPerSecond if median < 99.5 => format!("{median:.1}"),
        Figure::SetP99Us | Figure::GetP99Us => span_us(median.round() as u64),
        Figure::SetCpuUs | Figure::GetCpuUs if median < 1e3 => format!("{median:.1} µs"),
        Figure::SetCpuUs | Figure::GetCpuUs => span_us(median.round() as u64),
        Figure::BytesPerKey => format!("{median:.0} B"),
        Figure::RestartSeconds | Figure::Seconds => span_us((median * 1e6).round() as u64),
        _ => thousands(median.round() as u64),
    };
    match summary.disturbed_rounds {
        0 => text,
        _ => format!("{text} ~"),
    }
}

fn failures(results: &Results) -> String {
    let mut text = String::new();
    for failure in &results.failures {
        let at = failure.at.map(|at| format!("{} ", thousands(at)));
        let who = failure.who.map(|who| format!(", {}", who.name()));
        let (at, who) = (at.unwrap_or_default(), who.unwrap_or_default());
        let (axis, error) = (failure.axis.name(), &failure.error);
        writeln!(text, "! {at}{axis}{who}: {error}").expect(WROTE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(who: Who, points: &[(u64, f64)]) -> Curve {
        let point = |(at, value): &(u64, f64)| Summary {
            at: *at,
            median: *value,
            lowest: *value,
            highest: *value,
            rounds: vec![*value],
            disturbed_rounds: usize::from(*at == 2_000_000),
        };
        Curve {
            axis: Axis::Replay,
            figure: Figure::RecordsPerSecond,
            who,
            points: points.iter().map(point).collect(),
        }
    }

    #[test]
    fn a_table_has_what_was_measured_and_dashes() {
        let curves = [
            curve(Who::Alone, &[(1_000_000, 3000.0), (2_000_000, 1e6)]),
            curve(Who::Redis, &[(1_000_000, 1500.0)]),
        ];
        let table = table(Axis::Replay, &curves);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 4, "{table}");
        assert!(rows[0].contains("| records/s, redis | understudy ÷ redis |"));
        assert!(rows[2].starts_with("| 1,000,000 | 3,000 | 1,500 | 2.00 | - |"));
        assert!(rows[3].starts_with("| 2,000,000 | 1,000,000 ~ | - | - |"));
    }
}
