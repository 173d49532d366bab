//! LATENCY GRAPH: samples as columns of characters, in the manner of Redis.

use crate::node::LatencySeries;

/// Rows of a column, and columns of a line.
const ROWS: usize = 4;
const COLUMNS: usize = 80;
/// Within a row: low, middle, high.
const LEVELS: [char; 3] = ['_', 'o', '#'];

/// The drawing, with a title, and below each column how long ago it was.
pub(super) fn graph(name: &str, series: &LatencySeries, now_seconds: u64) -> String {
    let samples: Vec<(u64, String)> = series
        .samples
        .iter()
        .map(|sample| (sample.ms, ago(now_seconds.saturating_sub(sample.seconds))))
        .collect();
    let values = || samples.iter().map(|(ms, _)| *ms);
    let (least, most) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut text = format!(
        "{name} - high {most} ms, low {least} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(COLUMNS)
    );
    for part in samples.chunks(COLUMNS) {
        draw(part, least, most, &mut text);
        text.push('\n');
    }
    text
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn draw(samples: &[(u64, String)], least: u64, most: u64, text: &mut String) {
    let steps = ROWS * LEVELS.len();
    let spread = (most - least).max(1);
    let height = |ms: u64| {
        let step = (ms - least).saturating_mul(steps as u64) / spread;
        (step as usize).min(steps - 1)
    };
    for row in (0..ROWS).rev() {
        let line = samples.iter().map(|(ms, _)| {
            let level = height(*ms).checked_sub(row * LEVELS.len());
            level.map_or(' ', |level| LEVELS.get(level).copied().unwrap_or('|'))
        });
        push_line(line.collect(), text);
    }
    let longest = samples.iter().map(|(_, label)| label.len()).max();
    for place in 0..longest.unwrap_or(0) {
        let line = samples
            .iter()
            .map(|(_, label)| label.chars().nth(place).unwrap_or(' '));
        push_line(line.collect(), text);
    }
}

fn push_line(line: String, text: &mut String) {
    if !line.trim_end().is_empty() {
        text.push_str(&line);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::LatencySample;

    #[test]
    fn columns_grow_with_what_they_stand_for() {
        let sample = |seconds, ms| LatencySample { seconds, ms };
        let series = LatencySeries {
            samples: [sample(1, 10), sample(30, 60), sample(100, 120)].into(),
            max_ms: 500,
        };
        let drawn = graph("commit", &series, 100);
        let wanted = format!(
            "commit - high 120 ms, low 10 ms (all time high 500 ms)\n{}\n  #\n  |\n #|\n_||\n110\nmms\n\n",
            "-".repeat(80)
        );
        assert_eq!(drawn, wanted);
    }
}
