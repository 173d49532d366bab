//! The medians as one picture: a panel per shape, a bar per line, a whisker from the slowest round
//! to the fastest. Each panel has its own scale, from 0. The colours are those of Okabe and Ito.

use std::fmt::Write as _;

use understudy::cli::text::thousands;

use crate::cells::{Line, Shape, SystemKind};
use crate::report::{Cell, Results};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const BAR_WIDTH: f64 = 470.0;
const ROW: f64 = 20.0;
const PANEL_HEAD: f64 = 40.0;
const TOP: f64 = 70.0;
pub const WROTE: &str = "writing to a String cannot fail";

/// The whole document.
pub fn draw(results: &Results, cells: &[Cell]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    let mut shapes: Vec<Shape> = Vec::new();
    for cell in cells {
        if !shapes.contains(&cell.shape) {
            shapes.push(cell.shape);
        }
    }
    for shape in shapes {
        let rows: Vec<&Cell> = cells.iter().filter(|cell| cell.shape == shape).collect();
        y = panel(&mut body, y, shape, &rows);
    }
    let height = y + 20.0;
    let mut svg = begin(WIDTH, height);
    text(
        &mut svg,
        16.0,
        26.0,
        r#"font-size="17" font-weight="600""#,
        "The fair ring: operations per second",
    );
    let about = r##"font-size="9" fill="#666""##;
    text(&mut svg, 16.0, 42.0, about, &results.describe());
    let machine = results.machine.describe().replace('\n', ", ");
    let versions = results.versions.join("; ");
    text(
        &mut svg,
        16.0,
        54.0,
        about,
        &format!("{machine}; {versions}"),
    );
    svg + &body + "</svg>\n"
}

/// Draws one panel below `y`; returns where it ends.
fn panel(svg: &mut String, y: f64, shape: Shape, rows: &[&Cell]) -> f64 {
    let title = r#"font-size="14" font-weight="600""#;
    text(svg, 16.0, y + 26.0, title, &shape.to_string());
    let most = rows
        .iter()
        .map(|cell| cell.highest_per_second)
        .fold(1.0, f64::max);
    let mut y = y + PANEL_HEAD;
    for cell in rows {
        row(svg, y, cell, BAR_WIDTH / most);
        y += ROW;
    }
    y
}

fn row(svg: &mut String, y: f64, cell: &Cell, scale: f64) {
    let name = cell.line.name();
    let middle = y + ROW * 0.7;
    text(svg, 28.0, middle, "", name);
    let (colour, width) = (colour(cell.line), cell.per_second * scale);
    let bar = ROW * 0.7;
    writeln!(
        svg,
        r#"<rect x="{LEFT}" y="{:.1}" width="{width:.1}" height="{bar:.1}" fill="{colour}"><title>{name}: {:.0} per second</title></rect>"#,
        y + ROW * 0.15,
        cell.per_second
    )
    .expect(WROTE);
    writeln!(
        svg,
        r##"<line x1="{:.1}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}" stroke="#222"/>"##,
        LEFT + cell.lowest_per_second * scale,
        LEFT + cell.highest_per_second * scale,
        at = y + ROW * 0.5,
    )
    .expect(WROTE);
    let end = LEFT + cell.highest_per_second * scale + 8.0;
    text(svg, end, middle, "", &label(cell));
}

fn label(cell: &Cell) -> String {
    let mut label = thousands(cell.per_second.round() as u64);
    if cell.line != Line::OursSync
        && let Some(ratio) = cell.sync_ratio
    {
        write!(label, "  (sync is {ratio:.2} x)").expect(WROTE);
    }
    if cell.errors > 0 {
        label.push_str("  ! errors");
    }
    if cell.disturbed_rounds > 0 {
        label.push_str("  ~ disturbed");
    }
    label
}

fn colour(line: Line) -> &'static str {
    match line.system() {
        SystemKind::RedisPair | SystemKind::RedisAlone => "#e69f00",
        SystemKind::Etcd => "#009e73",
        SystemKind::Postgres => "#cc79a7",
        _ => "#0072b2",
    }
}

/// A document of this size, with nothing on it yet and without its end.
pub fn begin(width: f64, height: f64) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">
<rect width="{width}" height="{height}" fill="#fff"/>
"##
    )
}

/// Writes words at a place; `more` are attributes.
pub fn text(svg: &mut String, x: f64, y: f64, more: &str, words: &str) {
    let words = escape(words);
    writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" {more}>{words}</text>"#).expect(WROTE);
}

/// Words as they may stand inside of an element.
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_machine_name_stays_text() {
        assert_eq!(escape("a<b>&\n"), "a&lt;b&gt;&amp; ");
    }
}
