//! Numbers and errors as a person reads them.

use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{LineStyle, TableStyle};

use crate::units::Millis;

/// The error and its causes on one line, each once: some name their cause in their own sentence.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How all tables look: a line above, below and under the heading, none between rows.
pub const fn table_style() -> TableStyle {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new()
        .top_border(line)
        .header_separator(line)
        .bottom_border(line)
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A point in time: `2026-01-02T03:04:05.678Z`; as milliseconds where no calendar reaches.
pub fn when(at: Millis) -> String {
    const LAST: u64 = 253_402_300_799_999;
    if at.0 > LAST {
        return format!("{at} ms after 1970");
    }
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at.0)).to_string()
}

/// A number of bytes in the unit that keeps two figures: `512 B`, `3.1 MB`, `12 GB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut exact, mut unit) = (bytes as f64, 0);
    while exact >= 999.5 && unit + 1 < units.len() {
        (exact, unit) = (exact / 1e3, unit + 1);
    }
    let digits = usize::from(unit > 0 && exact < 9.95);
    format!("{exact:.digits$} {}", units[unit])
}

/// A span of microseconds in the unit that keeps three figures: `87 µs`, `1.24 ms`, `3.10 s`.
pub fn span_us(us: u64) -> String {
    let exact = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", exact / 1e3),
        10_000..100_000 => format!("{:.1} ms", exact / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", exact / 1e3),
        _ => format!("{:.2} s", exact / 1e6),
    }
}

/// Milliseconds with one decimal, for columns that are compared: `12.3`.
pub fn ms(us: u64) -> String {
    format!("{:.1}", us as f64 / 1e3)
}

/// Seconds as the user wrote them: `3 s`, `1.5 s`.
pub fn seconds(span: Duration) -> String {
    format!("{} s", (span.as_secs_f64() * 1e3).round() / 1e3)
}

/// A number, or a dash where a node does not know it.
pub fn or_dash<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |known| known.to_string())
}

/// `1 record`, `2 records`: the noun is English and regular.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let taken = || std::io::Error::other("the address is in use");
        let told = anyhow::Error::new(taken())
            .context("cannot listen: the address is in use; take another");
        assert_eq!(
            one_line(&told),
            "cannot listen: the address is in use; take another"
        );
        let not_told = anyhow::Error::new(taken()).context("cannot listen");
        assert_eq!(one_line(&not_told), "cannot listen: the address is in use");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (100_000, "100,000"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn no_time_is_too_late_to_be_said() {
        assert_eq!(when(Millis(1_763_700_000_123)), "2025-11-21T04:40:00.123Z");
        assert_eq!(
            when(Millis(253_402_300_799_999)),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            when(Millis(253_402_300_800_000)),
            "253402300800000 ms after 1970"
        );
        assert_eq!(when(Millis(u64::MAX)), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn spans_keep_three_figures_and_name_their_unit() {
        assert_eq!(span_us(87), "87 µs");
        assert_eq!(span_us(1_240), "1.24 ms");
        assert_eq!(span_us(43_210), "43.2 ms");
        assert_eq!(span_us(643_210), "643 ms");
        assert_eq!(span_us(3_100_000), "3.10 s");
    }

    #[test]
    fn an_error_with_causes_is_one_line() {
        let error = anyhow::anyhow!("cause\nin two lines").context("outer");
        assert_eq!(one_line(&error), "outer: cause in two lines");
    }
}
