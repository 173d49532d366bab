//! The medians as one picture: latencies on a logarithmic axis, a line per case from its p50 to its
//! worst with marks for p99 and p99.9; below, times as bars. The colours are those of Okabe and
//! Ito.

use std::fmt::Write as _;

use super::cases::Who;
use super::report::{Cell, Results, Span};
use crate::svg::{WROTE, begin, text};

const WIDTH: f64 = 940.0;
const LEFT: f64 = 400.0;
const PLOT: f64 = 500.0;
/// What is left beside the longest bar for its label.
const LABEL: f64 = 120.0;
const ROW: f64 = 22.0;
const TOP: f64 = 80.0;
const HEAD: f64 = 44.0;
const OURS: &str = "#0072b2";
const THEIRS: &str = "#e69f00";
const TITLE: &str = r#"font-size="14" font-weight="600""#;
const SMALL: &str = r##"font-size="9" fill="#666""##;

/// The whole document.
pub fn draw(results: &Results, cells: &[Cell], spans: &[Span]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    if !cells.is_empty() {
        y = latencies(&mut body, y, cells);
    }
    if !spans.is_empty() {
        y = times(&mut body, y, spans);
    }
    let height = y + 20.0;
    let mut svg = begin(WIDTH, height);
    let title = r#"font-size="17" font-weight="600""#;
    text(&mut svg, 16.0, 26.0, title, "Latency under trouble");
    text(&mut svg, 16.0, 42.0, SMALL, &results.describe());
    let machine = results.machine.describe().replace('\n', ", ");
    text(&mut svg, 16.0, 54.0, SMALL, &machine);
    text(&mut svg, 16.0, 66.0, SMALL, &results.versions.join("; "));
    svg + &body + "</svg>\n"
}

/// A logarithmic axis of microseconds.
struct Axis {
    /// Powers of ten at its ends.
    from: i32,
    until: i32,
}

impl Axis {
    /// Whole decades around all figures.
    fn around(cells: &[Cell]) -> Axis {
        let least = cells.iter().filter_map(|cell| cell.p50_us);
        let most = cells.iter().filter_map(|cell| cell.max_us);
        let least = least.fold(f64::INFINITY, f64::min).clamp(1.0, 1e6);
        let most = most.max().unwrap_or(1000) as f64;
        let from = least.log10().floor() as i32;
        let until = most.log10().ceil() as i32;
        Axis {
            from,
            until: until.max(from + 1),
        }
    }

    fn x(&self, us: f64) -> f64 {
        let decades = f64::from(self.until - self.from);
        LEFT + PLOT * (us.max(1.0).log10() - f64::from(self.from)) / decades
    }

    fn draw(&self, svg: &mut String, top: f64, bottom: f64) {
        for power in self.from..=self.until {
            let us = 10f64.powi(power);
            let x = self.x(us);
            writeln!(
                svg,
                r##"<line x1="{x:.1}" y1="{top:.1}" x2="{x:.1}" y2="{bottom:.1}" stroke="#ddd"/>"##
            )
            .expect(WROTE);
            let label = match power {
                ..3 => format!("{us:.0} µs"),
                3..6 => format!("{:.0} ms", us / 1e3),
                _ => format!("{:.0} s", us / 1e6),
            };
            let middle = r##"font-size="9" fill="#666" text-anchor="middle""##;
            text(svg, x, top - 4.0, middle, &label);
        }
    }
}

/// Draws the latencies below `y`; returns where they end.
fn latencies(svg: &mut String, y: f64, cells: &[Cell]) -> f64 {
    text(svg, 16.0, y + 20.0, TITLE, "SET");
    let legend = "from p50 (|) over p99 (○) and p99.9 (●) to the worst (|)";
    text(svg, 50.0, y + 20.0, SMALL, legend);
    let axis = Axis::around(cells);
    let top = y + HEAD;
    axis.draw(svg, top, top + ROW * cells.len() as f64);
    for (place, cell) in cells.iter().enumerate() {
        latency(svg, &axis, top + ROW * place as f64, cell);
    }
    top + ROW * cells.len() as f64 + 10.0
}

fn latency(svg: &mut String, axis: &Axis, y: f64, cell: &Cell) {
    let (who, what) = (cell.case.who(), cell.case.name());
    let mark = match (cell.fault.is_some(), cell.disturbed_rounds > 0) {
        (true, _) => " !",
        (_, true) => " ~",
        _ => "",
    };
    let name = format!("{}: {what}{mark}", short(who));
    text(svg, 28.0, y + ROW * 0.7, "", &name);
    let (Some(p50), Some(p99), Some(p999), Some(max)) =
        (cell.p50_us, cell.p99_us, cell.p999_us, cell.max_us)
    else {
        return;
    };
    let colour = if who == Who::Redis { THEIRS } else { OURS };
    let (middle, low, high) = (y + ROW * 0.5, y + ROW * 0.25, y + ROW * 0.75);
    let (from, until) = (axis.x(p50), axis.x(max as f64));
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        writeln!(
            svg,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="2"/>"#
        )
        .expect(WROTE);
    };
    line(from, middle, until, middle);
    line(from, low, from, high);
    line(until, low, until, high);
    for (us, fill) in [(p99, "#fff"), (p999, colour)] {
        writeln!(
            svg,
            r#"<circle cx="{:.1}" cy="{middle:.1}" r="4" fill="{fill}" stroke="{colour}" stroke-width="2"><title>{us:.0} µs</title></circle>"#,
            axis.x(us)
        )
        .expect(WROTE);
    }
}

fn short(who: Who) -> &'static str {
    match who {
        Who::Pair => "understudy",
        Who::Three => "understudy, three data nodes",
        Who::Redis => "redis",
    }
}

/// Draws the times below `y`; returns where they end.
fn times(svg: &mut String, y: f64, spans: &[Span]) -> f64 {
    let title = "From the start of the process to the first answer, seconds";
    text(svg, 16.0, y + 26.0, TITLE, title);
    let longest = spans.iter().filter_map(|span| span.most_secs);
    let scale = (PLOT - LABEL) / longest.fold(f64::MIN_POSITIVE, f64::max);
    let mut y = y + HEAD;
    for span in spans {
        time(svg, y, span, scale);
        y += ROW;
    }
    y + 10.0
}

fn time(svg: &mut String, y: f64, span: &Span, scale: f64) {
    text(svg, 28.0, y + ROW * 0.7, "", span.run.name());
    let (Some(secs), Some(least), Some(most)) = (span.secs, span.least_secs, span.most_secs) else {
        text(svg, LEFT, y + ROW * 0.7, "", "! failed");
        return;
    };
    let theirs = span.run.name().starts_with("redis");
    let colour = if theirs { THEIRS } else { OURS };
    writeln!(
        svg,
        r##"<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>
<line x1="{:.1}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}" stroke="#222"/>"##,
        y + ROW * 0.15,
        secs * scale,
        ROW * 0.7,
        LEFT + least * scale,
        LEFT + most * scale,
        at = y + ROW * 0.5,
    )
    .expect(WROTE);
    let ratio = span.ratio;
    let ratio = ratio.map_or(String::new(), |ratio| format!("  ({ratio:.2} x redis)"));
    let label = format!("{secs:.2}{ratio}");
    text(svg, LEFT + most * scale + 8.0, y + ROW * 0.7, "", &label);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decade_is_as_wide_as_any_other() {
        let axis = Axis { from: 2, until: 5 };
        assert_eq!(axis.x(100.0), LEFT);
        assert!((axis.x(1000.0) - LEFT - PLOT / 3.0).abs() < 1e-9);
        assert!((axis.x(100_000.0) - LEFT - PLOT).abs() < 1e-9);
    }
}
