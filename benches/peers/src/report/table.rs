//! The tables for a person.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};
use understudy::cli::text::{span_us, table_style, thousands};

use super::{Results, median};
use crate::cells::Shape;
use crate::report::Cell;

const WROTE: &str = "writing to a String cannot fail";

const HEADER: [&str; 11] = [
    "",
    "ops/s",
    "min-max",
    "sync ÷ it",
    "p50",
    "p99",
    "p99.9",
    "max",
    "server CPU/op",
    "client CPU/op",
    "marks",
];

/// One table per shape. The column `sync ÷ it` is understudy sync's throughput over the row's.
pub fn cells(cells: &[Cell]) -> String {
    let mut shapes: Vec<Shape> = Vec::new();
    for cell in cells {
        if !shapes.contains(&cell.shape) {
            shapes.push(cell.shape);
        }
    }
    let mut text = String::new();
    for shape in shapes {
        let rows = cells.iter().filter(|cell| cell.shape == shape);
        writeln!(text, "{shape}\n{}\n", table(rows)).expect(WROTE);
    }
    let unsound = cells.iter().filter(|cell| cell.errors > 0);
    for cell in unsound {
        let first = cell.first_error.as_deref().unwrap_or("unknown");
        let name = cell.line.name();
        writeln!(text, "! {}: {name}: first error: {first}", cell.shape).expect(WROTE);
    }
    text
}

fn table<'a>(cells: impl Iterator<Item = &'a Cell>) -> Table {
    let mut table = Table::new();
    table.load_style(table_style());
    table.set_header(HEADER);
    for cell in cells {
        table.add_row(row(cell));
    }
    for index in 1..HEADER.len() - 1 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(cell: &Cell) -> Vec<String> {
    let whole = |value: f64| thousands(value.round() as u64);
    let span = |us: Option<f64>| dash(us.map(|us| span_us(us.round() as u64)));
    let cpu = |us: Option<f64>| dash(us.map(|us| format!("{us:.1} µs")));
    vec![
        cell.line.name().to_owned(),
        whole(cell.per_second),
        format!(
            "{}-{}",
            whole(cell.lowest_per_second),
            whole(cell.highest_per_second)
        ),
        dash(cell.sync_ratio.map(|ratio| format!("{ratio:.2}"))),
        span(cell.p50_us),
        span(cell.p99_us),
        span(cell.p999_us),
        dash(cell.max_us.map(span_us)),
        cpu(cell.server_cpu_us),
        cpu(cell.client_cpu_us),
        marks(cell),
    ]
}

fn marks(cell: &Cell) -> String {
    let mut marks = Vec::new();
    if cell.errors > 0 {
        marks.push(format!("! {} errors", thousands(cell.errors)));
    }
    if cell.disturbed_rounds > 0 {
        marks.push(format!("~ disturbed in {}", cell.disturbed_rounds));
    }
    marks.join(", ")
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// The floor and memory.
pub fn aside(results: &Results) -> String {
    let mut text = String::new();
    let of = |pick: fn(&crate::floor::Floor) -> f64| median(results.floors.iter().map(pick));
    if let (Some(all), Some(syncs), Some(trips), Some(one)) = (
        of(|floor| floor.p50_us),
        of(|floor| floor.syncs_us),
        of(|floor| floor.trips_us),
        results.floors.first(),
    ) {
        writeln!(
            text,
            "floor of a synced write on two nodes, p50: {all:.0} µs = two fdatasyncs of {} bytes \
             side by side {syncs:.0} µs + two loopback round trips {trips:.0} µs",
            one.record_bytes
        )
        .expect(WROTE);
    }
    for memory in &results.memory {
        let (system, bytes) = (&memory.system, memory.bytes_per_key);
        writeln!(text, "resident memory per key, {system}: {bytes:.0} B").expect(WROTE);
    }
    text
}
