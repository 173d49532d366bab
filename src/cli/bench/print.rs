//! The measurements as a table and as plots.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table};

use crate::cli::plot;
use crate::cli::text::{span_us, table_style, thousands};

use super::cell::{Cell, Latency};

/// The table: one row per cell; a column for errors only where there are some.
pub(super) fn table(cells: &[Cell]) -> Table {
    let mut table = Table::new();
    table.load_style(table_style());
    let with_errors = cells.iter().any(|cell| cell.errors > 0);
    let mut header = vec![
        "mode", "clients", "pipeline", "ops/s", "min-max", "p50", "p99", "p99.9", "max",
    ];
    if with_errors {
        header.push("errors");
    }
    table.set_header(header);
    for cell in cells {
        let latency = |pick: fn(&Latency) -> u64| {
            cell.latency
                .as_ref()
                .map_or_else(|| "-".to_owned(), |all| span_us(pick(all)))
        };
        let mut row = vec![
            cell.mode.clone(),
            cell.clients.to_string(),
            cell.pipeline.to_string(),
            thousands(cell.per_second.round() as u64),
            spread(&cell.per_second_by_round),
            latency(|all| all.p50_us),
            latency(|all| all.p99_us),
            latency(|all| all.p999_us),
            latency(|all| all.max_us),
        ];
        if with_errors {
            row.push(thousands(cell.errors));
        }
        table.add_row(row);
    }
    for index in 1..10 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Lowest and highest throughput of the rounds; a dash for a single round.
fn spread(by_round: &[f64]) -> String {
    let [_, _, ..] = by_round else {
        return "-".to_owned();
    };
    let low = by_round.iter().copied().fold(f64::INFINITY, f64::min);
    let high = by_round.iter().copied().fold(0.0, f64::max);
    format!(
        "{}-{}",
        thousands(low.round() as u64),
        thousands(high.round() as u64)
    )
}

/// Two plots per pipeline depth: throughput, and 99th-percentile latency.
pub(super) fn draw(folder: &Path, what: &str, cells: &[Cell]) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let mut pipelines: Vec<usize> = cells.iter().map(|cell| cell.pipeline).collect();
    pipelines.dedup();
    pipelines.sort_unstable();
    pipelines.dedup();
    let mut drawn = Vec::new();
    for pipeline in pipelines {
        let chart = |title: String, unit: &str, pick: fn(&Cell) -> Option<f64>| {
            let at_depth = cells.iter().filter(|cell| cell.pipeline == pipeline);
            let points = at_depth
                .map(|cell| (cell.mode.clone(), cell.clients.to_string(), pick(cell)))
                .collect::<Vec<_>>();
            plot::Chart::from_points(title, what, "connections", unit, &points)
        };
        let throughput = chart(
            format!("Throughput, pipeline {pipeline}"),
            "operations per second",
            |cell| Some(cell.per_second),
        );
        let latency = chart(
            format!("99th-percentile latency, pipeline {pipeline}"),
            "milliseconds",
            |cell| Some(cell.latency?.p99_us as f64 / 1e3),
        );
        for (name, svg) in [
            (
                format!("throughput-pipeline-{pipeline}.svg"),
                plot::bars(&throughput),
            ),
            (
                format!("latency-pipeline-{pipeline}.svg"),
                plot::lines(&latency),
            ),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, svg)
                .with_context(|| format!("cannot write {}", path.display()))?;
            drawn.push(path);
        }
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_cell_and_errors_only_when_there_are_some() {
        let mut cell = Cell::sum("semi-sync", 50, 16, &[]);
        cell.per_second = 123_456.4;
        cell.per_second_by_round = vec![120_000.0, 123_456.4];
        cell.latency = Some(Latency {
            p50_us: 310,
            p99_us: 1_240,
            p999_us: 2_000,
            max_us: 43_210,
        });
        let text = table(std::slice::from_ref(&cell)).to_string();
        assert!(!text.contains("errors"), "{text}");
        let row = text
            .lines()
            .find(|line| line.contains("semi-sync"))
            .expect("a row");
        for part in ["123,456", "120,000-123,456", "310 µs", "1.24 ms", "43.2 ms"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        cell.errors = 7;
        assert!(table(&[cell]).to_string().contains("errors"));
    }
}
