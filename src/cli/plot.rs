//! Small charts as SVG: grouped bars and lines, with readable axes and units.
//!
//! The writer knows nothing of what it draws. Every text is escaped; a missing value leaves a gap
//! and never a zero. The colours are those of Okabe and Ito, which colour-blind readers tell apart.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 106.0;
const BOTTOM: f64 = 56.0;
/// Characters of the subtitle that fit on a line, and lines that fit below the title.
const SUBTITLE_COLUMNS: usize = 120;
const SUBTITLE_LINES: usize = 3;
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
];
const WROTE: &str = "writing to a String cannot fail";

/// What to draw: one value per series and category.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Large, at the top.
    pub title: String,
    /// Small, below the title; wrapped, at most three lines.
    pub subtitle: String,
    /// What the categories are.
    pub x_label: String,
    /// Unit of the values.
    pub y_label: String,
    /// Along the horizontal axis.
    pub categories: Vec<String>,
    /// Name and one value per category.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

impl Chart {
    /// Gathers `(series, category, value)` points; series and categories keep the order in which
    /// they first appear.
    pub fn from_points(
        title: String,
        subtitle: &str,
        x_label: &str,
        y_label: &str,
        points: &[(String, String, Option<f64>)],
    ) -> Chart {
        let mut categories: Vec<String> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for (name, category, _) in points {
            if !categories.contains(category) {
                categories.push(category.clone());
            }
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let value = |name: &String, category: &String| {
            let point = points
                .iter()
                .find(|point| point.0 == *name && point.1 == *category);
            point
                .and_then(|point| point.2)
                .filter(|value| value.is_finite())
        };
        let values = |name: &String| {
            categories
                .iter()
                .map(|category| value(name, category))
                .collect()
        };
        let series = names
            .iter()
            .map(|name| (name.clone(), values(name)))
            .collect();
        Chart {
            title,
            subtitle: subtitle.to_owned(),
            x_label: x_label.to_owned(),
            y_label: y_label.to_owned(),
            categories,
            series,
        }
    }
}

/// A grouped bar chart as a whole SVG document.
pub fn bars(chart: &Chart) -> String {
    let scale = Scale::of(chart);
    let mut svg = frame(chart, &scale);
    let group = group_width(chart);
    let bar = group * 0.8 / chart.series.len().max(1) as f64;
    for (index, (name, values)) in chart.series.iter().enumerate() {
        for (place, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let x = LEFT + group * (place as f64 + 0.1) + bar * index as f64;
            let y = scale.y(*value);
            let height = HEIGHT - BOTTOM - y;
            let (colour, label) = (colour(index), escape(name));
            writeln!(
                svg,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{colour}"><title>{label}: {value:.1}</title></rect>"#,
                bar * 0.94
            )
            .expect(WROTE);
        }
    }
    svg + "</svg>\n"
}

/// A line chart as a whole SVG document. The categories are evenly spaced.
pub fn lines(chart: &Chart) -> String {
    let scale = Scale::of(chart);
    let mut svg = frame(chart, &scale);
    let group = group_width(chart);
    for (index, (name, values)) in chart.series.iter().enumerate() {
        let (colour, label) = (colour(index), escape(name));
        let point = |(place, value): (usize, &Option<f64>)| {
            let value = (*value)?;
            Some((LEFT + group * (place as f64 + 0.5), scale.y(value), value))
        };
        let points: Vec<Option<(f64, f64, f64)>> = values.iter().enumerate().map(point).collect();
        for stretch in points.split(Option::is_none) {
            let path: Vec<String> = stretch
                .iter()
                .flatten()
                .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
                .collect();
            let path = path.join(" ");
            writeln!(
                svg,
                r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>"#
            )
            .expect(WROTE);
        }
        for (x, y, value) in points.iter().flatten() {
            writeln!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"><title>{label}: {value:.3}</title></circle>"#
            )
            .expect(WROTE);
        }
    }
    svg + "</svg>\n"
}

/// The vertical axis: from 0 to a round number above the largest value, in round steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    fn of(chart: &Chart) -> Scale {
        let values = chart
            .series
            .iter()
            .flat_map(|(_, values)| values.iter().flatten());
        Scale::above(values.copied().fold(0.0, f64::max))
    }

    /// 4 to 10 steps of 1, 2 or 5 times a power of ten.
    fn above(largest: f64) -> Scale {
        if largest <= 0.0 || !largest.is_finite() {
            return Scale {
                step: 1.0,
                steps: 4,
            };
        }
        let power = 10f64.powf((largest / 10.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| largest / step <= 8.0)
            .unwrap_or(20.0 * power);
        Scale {
            step,
            steps: (largest / step).ceil().max(1.0) as u32,
        }
    }

    fn y(&self, value: f64) -> f64 {
        let share = value / (self.step * f64::from(self.steps));
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

/// Everything but the data: background, title, legend, axes, labels.
fn frame(chart: &Chart, scale: &Scale) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#222">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="26" font-size="17" font-weight="600">{}</text>
"##,
        escape(&chart.title)
    );
    let mut text = |x: f64, y: f64, anchor: &str, more: &str, words: &str| {
        let words = escape(words);
        writeln!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {more}>{words}</text>"#
        )
        .expect(WROTE);
    };
    for (number, line) in wrap(&chart.subtitle)
        .iter()
        .take(SUBTITLE_LINES)
        .enumerate()
    {
        let y = 43.0 + 12.0 * number as f64;
        text(LEFT, y, "start", r##"font-size="9" fill="#666""##, line);
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(middle, HEIGHT - 12.0, "middle", "", &chart.x_label);
    text(
        LEFT - 70.0,
        TOP - 8.0,
        "start",
        r##"fill="#444""##,
        &chart.y_label,
    );
    let group = group_width(chart);
    for (place, category) in chart.categories.iter().enumerate() {
        let x = LEFT + group * (place as f64 + 0.5);
        text(x, HEIGHT - BOTTOM + 18.0, "middle", "", category);
    }
    let mut x = WIDTH - RIGHT;
    for (index, (name, _)) in chart.series.iter().enumerate().rev() {
        text(x, TOP - 16.0, "end", "", name);
        x -= 8.0 * name.chars().count() as f64 + 6.0;
        text(
            x,
            TOP - 16.0,
            "end",
            &format!(r#"fill="{}""#, colour(index)),
            "■",
        );
        x -= 24.0;
    }
    for number in 0..=scale.steps {
        let value = scale.step * f64::from(number);
        let y = scale.y(value);
        text(LEFT - 8.0, y + 4.0, "end", "", &axis_number(value));
    }
    for number in 0..=scale.steps {
        let y = scale.y(scale.step * f64::from(number));
        let colour = if number == 0 { "#444" } else { "#ddd" };
        writeln!(
            svg,
            r#"<line x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="{colour}"/>"#,
            WIDTH - RIGHT
        )
        .expect(WROTE);
    }
    svg
}

/// Breaks a text between words, and at its own line ends.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let length = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > SUBTITLE_COLUMNS {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

fn group_width(chart: &Chart) -> f64 {
    (WIDTH - LEFT - RIGHT) / chart.categories.len().max(1) as f64
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// `1500` as `1.5 k`, `20000` as `20 k`; small numbers keep what they need.
fn axis_number(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn escape(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(
        String::with_capacity(text.len()),
        |mut out, c| {
            match c {
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '"' => out.push_str("&quot;"),
                other => out.push(other),
            }
            out
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that tags nest and attributes are quoted: enough to catch what this writer can get
    /// wrong. Returns the number of elements.
    fn assert_well_formed(svg: &str) -> usize {
        let mut open: Vec<&str> = Vec::new();
        let mut elements = 0;
        let mut rest = svg;
        while let Some(at) = rest.find('<') {
            assert!(
                !rest[..at].contains('>'),
                "a stray > before {}",
                &rest[at..]
            );
            let end = at + rest[at..].find('>').expect("every tag ends");
            let tag = &rest[at + 1..end];
            assert_eq!(
                tag.matches('"').count() % 2,
                0,
                "unbalanced quotes in <{tag}>"
            );
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "wrong end tag");
            } else {
                elements += 1;
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
        elements
    }

    fn chart() -> Chart {
        let point = |mode: &str, clients: &str, value| (mode.to_owned(), clients.to_owned(), value);
        Chart::from_points(
            "a < b & \"c\"".to_owned(),
            "sub",
            "connections",
            "ms",
            &[
                point("async", "1", Some(10.0)),
                point("async", "50", Some(1234.0)),
                point("sync", "1", None),
                point("sync", "50", Some(800.0)),
            ],
        )
    }

    #[test]
    fn points_become_series_in_order_and_a_missing_value_stays_missing() {
        let chart = chart();
        assert_eq!(chart.categories, ["1", "50"]);
        assert_eq!(
            chart.series[1],
            ("sync".to_owned(), vec![None, Some(800.0)])
        );
    }

    #[test]
    fn both_charts_are_well_formed_and_draw_every_value() {
        let svg = bars(&chart());
        assert_well_formed(&svg);
        assert_eq!(
            svg.matches("<rect").count(),
            1 + 3,
            "the background and three bars"
        );
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
        let svg = lines(&chart());
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn a_long_subtitle_is_wrapped_between_words() {
        let text = "word ".repeat(50);
        let lines = wrap(&format!("first\n{text}"));
        assert_eq!(lines[0], "first");
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() <= SUBTITLE_COLUMNS),
            "{lines:?}"
        );
        assert_eq!(lines.concat().matches("word").count(), 50);
    }

    #[test]
    fn an_empty_chart_is_well_formed() {
        let empty = Chart::from_points(String::new(), "", "", "", &[]);
        assert!(assert_well_formed(&bars(&empty)) > 3);
        assert!(!lines(&empty).contains("NaN"));
    }

    #[test]
    fn axes_end_at_a_round_number_above_the_largest_value() {
        for largest in [0.0003, 0.9, 1.0, 7.3, 10.0, 99.0, 123_456.0] {
            let scale = Scale::above(largest);
            let top = scale.step * f64::from(scale.steps);
            assert!(
                top >= largest * 0.999_999 && top <= largest * 2.0,
                "{largest}: {scale:?}"
            );
            assert!((1..=8).contains(&scale.steps), "{largest}: {scale:?}");
        }
        assert_eq!(axis_number(0.0), "0");
        assert_eq!(axis_number(0.25), "0.25");
        assert_eq!(axis_number(1500.0), "1.5 k");
        assert_eq!(axis_number(2_000_000.0), "2 M");
    }
}
