//! The sweeps as small multiples: a row of panels per axis, a panel per figure, a curve per system,
//! a whisker from the least round to the greatest. Each panel has its own scale: from 0, or
//! logarithmic where its figures differ by factors, and then it says so. The colours are those of
//! Okabe and Ito; ours are dots, Redis's are squares.

use std::fmt::Write as _;

use super::axis::{Axis, Figure, Who};
use super::report::{describe, find, points};
use super::results::{Curve, Results, Summary};
use crate::svg::{WROTE, begin, escape, text};

const COLUMNS: usize = 4;
const PANEL_WIDTH: f64 = 250.0;
const PANEL_HEIGHT: f64 = 190.0;
const WIDTH: f64 = 2.0 * MARGIN + PANEL_WIDTH * COLUMNS as f64;
const MARGIN: f64 = 16.0;
const AXIS_HEAD: f64 = 34.0;
const TOP: f64 = 64.0;
/// Room in a panel around its curves: for the figures at the left, the title, the points below.
const INSIDE: [f64; 4] = [46.0, 26.0, 14.0, 22.0];
/// Above this factor between its least and its greatest figure a panel is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;
/// What stands on a line of small print.
const LINE_LETTERS: usize = 170;
const SMALL: &str = r##"font-size="10" fill="#666""##;

/// The whole document.
pub fn draw(results: &Results, curves: &[Curve]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for (axis, _) in &results.took {
        y = row(&mut body, y, *axis, curves);
    }
    let height = y + MARGIN;
    let mut svg = begin(WIDTH, height);
    let title = r#"font-size="17" font-weight="600""#;
    text(&mut svg, MARGIN, 26.0, title, "Cost as the work grows");
    let machine = results.machine.describe().replace('\n', ", ");
    let about = format!("{}; {machine}", describe(results));
    let (first, rest) = broken(&about, LINE_LETTERS);
    text(&mut svg, MARGIN, 42.0, SMALL, first);
    text(&mut svg, MARGIN, 55.0, SMALL, rest);
    svg + &body + "</svg>\n"
}

/// In two, at the last blank within so many letters.
fn broken(text: &str, letters: usize) -> (&str, &str) {
    let end = text.char_indices().nth(letters);
    let end = end.and_then(|(end, _)| text[..end].rfind(' '));
    match end {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, ""),
    }
}

/// Draws an axis's panels below `y`; returns where they end.
fn row(svg: &mut String, y: f64, axis: Axis, curves: &[Curve]) -> f64 {
    let heading = r#"font-size="14" font-weight="600""#;
    text(svg, MARGIN, y + 24.0, heading, axis.name());
    let mut x = MARGIN + 250.0;
    for who in axis.who() {
        mark(svg, x, y + 20.0, *who, "");
        text(svg, x + 8.0, y + 24.0, "", who.name());
        x += 150.0;
    }
    let y = y + AXIS_HEAD;
    for (index, figure) in axis.figures().iter().enumerate() {
        let (column, line) = (index % COLUMNS, index / COLUMNS);
        let x = MARGIN + PANEL_WIDTH * column as f64;
        let y = y + PANEL_HEIGHT * line as f64;
        panel(svg, [x, y], axis, *figure, curves);
    }
    y + PANEL_HEIGHT * axis.figures().len().div_ceil(COLUMNS) as f64
}

fn panel(svg: &mut String, [x, y]: [f64; 2], axis: Axis, figure: Figure, curves: &[Curve]) {
    let found = axis.who().iter();
    let found = found.filter_map(|who| find(curves, axis, figure, *who));
    let shown: Vec<&Curve> = found.collect();
    let [left, above, right, below] = INSIDE;
    let across = [x + left, x + PANEL_WIDTH - right];
    let upwards = [y + PANEL_HEIGHT - below, y + above];
    let across = Scale::of_points(&points(axis, curves), axis.is_logarithmic(), across);
    let figures = shown.iter().flat_map(|curve| &curve.points);
    let figures: Vec<f64> = figures.flat_map(|one| [one.lowest, one.highest]).collect();
    let upwards = Scale::of_figures(&figures, upwards);
    let mut title = figure.name().to_owned();
    if !figure.unit().is_empty() {
        write!(title, ", {}", figure.unit()).expect(WROTE);
    }
    if upwards.is_logarithmic {
        title.push_str(", logarithmic");
    }
    text(svg, x + left, y + 14.0, r#"font-weight="600""#, &title);
    grid(svg, &across, &upwards);
    for at in points(axis, curves) {
        let middle = format!(r#"{SMALL} text-anchor="middle""#);
        let label = short(at as f64);
        text(
            svg,
            across.place(at as f64),
            upwards.from + 14.0,
            &middle,
            &label,
        );
    }
    for curve in shown {
        line(svg, curve, &across, &upwards);
    }
}

/// A line and a figure at each round value.
fn grid(svg: &mut String, across: &Scale, upwards: &Scale) {
    for value in upwards.rounds() {
        let y = upwards.place(value);
        writeln!(
            svg,
            r##"<line x1="{:.1}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="#ddd"/>"##,
            across.from - 6.0,
            across.to + 6.0
        )
        .expect(WROTE);
        let end = format!(r#"{SMALL} text-anchor="end""#);
        text(svg, across.from - 9.0, y + 3.5, &end, &short(value));
    }
}

fn line(svg: &mut String, curve: &Curve, across: &Scale, upwards: &Scale) {
    let place = |one: &Summary| (across.place(one.at as f64), upwards.place(one.median));
    let points = curve.points.iter().map(place);
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let colour = colour(curve.who);
    writeln!(
        svg,
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#,
        points.join(" ")
    )
    .expect(WROTE);
    for one in &curve.points {
        let (x, y) = place(one);
        writeln!(
            svg,
            r#"<line x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}" stroke="{colour}"/>"#,
            upwards.place(one.lowest),
            upwards.place(one.highest)
        )
        .expect(WROTE);
        let told = format!(
            "{}: {}: {}",
            curve.who.name(),
            short(one.at as f64),
            one.median
        );
        mark(svg, x, y, curve.who, &told);
    }
}

fn mark(svg: &mut String, x: f64, y: f64, who: Who, told: &str) {
    let (colour, told) = (colour(who), escape(told));
    let (left, top) = (x - 3.0, y - 3.0);
    let (name, place) = match who.rival() {
        Some(_) => ("circle", format!(r#"cx="{x:.1}" cy="{y:.1}" r="3""#)),
        None => (
            "rect",
            format!(r#"x="{left:.1}" y="{top:.1}" width="6" height="6""#),
        ),
    };
    writeln!(
        svg,
        r#"<{name} {place} fill="{colour}"><title>{told}</title></{name}>"#
    )
    .expect(WROTE);
}

fn colour(who: Who) -> &'static str {
    match who {
        Who::Sync | Who::Alone | Who::Unpaced => "#0072b2",
        Who::Async | Who::Paced => "#56b4e9",
        Who::RedisWaitOne | Who::RedisWaitMajority => "#d55e00",
        Who::Redis => "#e69f00",
    }
}

/// From values to places.
#[derive(Clone, Copy, Debug)]
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of_points(points: &[u64], is_logarithmic: bool, [from, to]: [f64; 2]) -> Scale {
        let least = points.iter().min().copied().unwrap_or(0);
        let most = points.iter().max().copied().unwrap_or(1);
        Scale {
            least: least as f64,
            most: most as f64,
            from,
            to,
            is_logarithmic,
        }
    }

    fn of_figures(figures: &[f64], [from, to]: [f64; 2]) -> Scale {
        let positive = figures.iter().copied().filter(|figure| *figure > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min);
        let most = positive.fold(0.0, f64::max);
        // Of no figures, too: infinity is above everything.
        let is_logarithmic = least < f64::INFINITY && most / least >= LOGARITHMIC_FROM;
        let (least, most) = match is_logarithmic {
            true => (ten_to(least.log10().floor()), ten_to(most.log10().ceil())),
            false => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
        };
        Scale {
            least,
            most,
            from,
            to,
            is_logarithmic,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let on = |value: f64| match self.is_logarithmic {
            true => value.max(f64::MIN_POSITIVE).log10(),
            false => value,
        };
        let span = on(self.most) - on(self.least);
        // A single point stands in the middle.
        let share = match span > 0.0 {
            true => (on(value) - on(self.least)) / span,
            false => 0.5,
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Powers of ten, or a few steps of 1, 2 or 5 times one.
    fn rounds(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let (first, last) = (self.least.log10().round(), self.most.log10().round());
            let exponents = (0..=(last - first) as u32).map(|more| first + f64::from(more));
            return exponents.map(ten_to).collect();
        }
        let power = ten_to((self.most / 4.0).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| self.most / step <= 5.0);
        let step = step.unwrap_or(self.most);
        let count = (self.most / step).floor() as u32;
        (0..=count).map(|index| f64::from(index) * step).collect()
    }
}

fn ten_to(exponent: f64) -> f64 {
    10f64.powf(exponent)
}

/// `0.25`, `20`, `4k`, `1.5M`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 1000.0).round() / 1000.0;
    format!("{rounded}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_says_where_a_value_is() {
        let linear = Scale::of_figures(&[100.0, 200.0], [100.0, 0.0]);
        assert!(!linear.is_logarithmic);
        assert_eq!(linear.place(0.0), 100.0);
        assert_eq!(linear.rounds(), [0.0, 50.0, 100.0, 150.0, 200.0]);
        let tens = Scale::of_figures(&[3.0, 900.0], [0.0, 30.0]);
        assert!(tens.is_logarithmic);
        assert!((tens.place(10.0) - 10.0).abs() < 1e-9);
        assert_eq!(tens.rounds(), [1.0, 10.0, 100.0, 1000.0]);
        let one = Scale::of_points(&[7], true, [0.0, 10.0]);
        assert_eq!(one.place(7.0), 5.0);
    }

    #[test]
    fn a_long_line_is_broken_at_a_blank() {
        assert_eq!(broken("one two three", 9), ("one two", "three"));
        assert_eq!(broken("one", 9), ("one", ""));
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.25, 20.0, 4000.0].map(short), ["0.25", "20", "4k"]);
        assert_eq!(short(1_500_000.0), "1.5M");
    }
}
