//! Amounts as an operator writes them where the unit decides: budgets of lag and loss, and how much
//! of the log is kept. Text in, plain numbers out; what is wrong says what to write instead.

use std::time::Duration;

use super::config::{ConfigError, Text, parse_bytes, wrong};
use crate::replica::{MaxLag, MaxLoss};

/// An amount that says its unit: records, bytes or time.
fn amount(text: &str) -> Option<MaxLag> {
    if let Some(digits) = text.strip_suffix("records") {
        return digits.trim().parse().ok().map(MaxLag::Records);
    }
    // Only with a B: "1 m" is a minute.
    if text.ends_with(['b', 'B'])
        && let Ok(bytes) = parse_bytes(&Text::String(text.to_string()))
    {
        return Some(MaxLag::Bytes(bytes));
    }
    let span = humantime::parse_duration(text).ok()?;
    Some(MaxLag::Ms(span.as_millis() as u64))
}

/// `max_loss`; nothing where it is not said.
pub(super) fn loss(text: Option<&Text>) -> Result<MaxLoss, ConfigError> {
    let text = match text {
        None | Some(Text::Number(0)) => return Ok(MaxLoss::Nothing),
        Some(Text::Number(records)) => return Ok(MaxLoss::Records(*records)),
        Some(Text::String(text)) => text.trim(),
    };
    match amount(text) {
        _ if text == "0" => Ok(MaxLoss::Nothing),
        Some(MaxLag::Records(records)) => Ok(MaxLoss::Records(records)),
        Some(MaxLag::Bytes(bytes)) => Ok(MaxLoss::Bytes(bytes)),
        Some(MaxLag::Ms(ms)) => Ok(MaxLoss::SpanMs(ms)),
        None => wrong(format!(
            "max_loss = \"{text}\": say 0, a span such as \"1 s\", or \"1000 records\" or \
             \"1 MiB\" (each needs max_lag in the same unit)"
        )),
    }
}

/// `max_lag`; no limit where it is not said.
pub(super) fn lag(text: Option<&Text>) -> Result<Option<MaxLag>, ConfigError> {
    let budget = match text {
        None => return Ok(None),
        Some(Text::Number(records)) => Some(MaxLag::Records(*records)),
        Some(Text::String(text)) => {
            let records = text.trim().parse().ok().map(MaxLag::Records);
            records.or_else(|| amount(text.trim()))
        }
    };
    match budget {
        Some(MaxLag::Records(0) | MaxLag::Bytes(0) | MaxLag::Ms(0)) => wrong(
            "max_lag must be above 0: with nothing allowed nothing could be written; leave it out \
             for no limit, or use mode = \"sync\" to lose nothing",
        ),
        Some(budget) => Ok(Some(budget)),
        None => wrong(
            "max_lag: say how far the standbys may be behind, as \"1000 records\", \"1 MiB\" or \
             \"500 ms\"",
        ),
    }
}

/// `wal.retain`: a size, a span, or both with a comma between them.
pub(super) fn retain(text: Option<&Text>) -> Result<(Option<u64>, Option<Duration>), ConfigError> {
    let text = match text {
        None => return Ok((None, None)),
        Some(Text::Number(bytes)) => return Ok((Some((*bytes).max(1)), None)),
        Some(Text::String(text)) => text,
    };
    let (mut bytes, mut span) = (None, None);
    for part in text.split(',').map(str::trim) {
        let twice = if part.ends_with('m') {
            return wrong(format!(
                "wal.retain = \"{text}\": say MiB or min instead of m"
            ));
        } else if let Ok(size) = parse_bytes(&Text::String(part.to_string())) {
            bytes.replace(size.max(1)).is_some()
        } else if let Ok(time) = humantime::parse_duration(part) {
            span.replace(time.max(Duration::from_secs(1))).is_some()
        } else {
            return wrong(format!(
                "wal.retain = \"{text}\": say a size, a span of time or both, as \"1 GiB\", \
                 \"1 h\" or \"1 GiB, 1 h\""
            ));
        };
        if twice {
            return wrong(format!(
                "wal.retain = \"{text}\": one size and one span of time at most"
            ));
        }
    }
    Ok((bytes, span))
}

#[cfg(test)]
mod tests {
    use super::super::config::{File, Settings, parse};
    use super::*;

    #[test]
    fn budgets_say_their_unit() {
        let settle = |text: &str| parse(text).and_then(Settings::settle);
        let lags = [
            ("1000", MaxLag::Records(1000)),
            ("'1000'", MaxLag::Records(1000)),
            ("'1000 records'", MaxLag::Records(1000)),
            ("'1 MiB'", MaxLag::Bytes(1 << 20)),
            ("'512 B'", MaxLag::Bytes(512)),
            ("'500 ms'", MaxLag::Ms(500)),
            ("'1 m'", MaxLag::Ms(60_000)),
        ];
        for (text, wanted) in lags {
            let settings = settle(&format!("[cluster]\nmode = 'async'\nmax_lag = {text}\n"));
            assert_eq!(settings.map(|s| s.max_lag), Ok(Some(wanted)), "{text}");
        }
        let losses = [
            ("0", MaxLoss::Nothing),
            ("'0'", MaxLoss::Nothing),
            ("7", MaxLoss::Records(7)),
            ("'64 KiB'", MaxLoss::Bytes(64 << 10)),
            ("'1 s'", MaxLoss::SpanMs(1000)),
        ];
        for (text, wanted) in losses {
            let settings = settle(&format!("[cluster]\nmax_loss = {text}\n"));
            assert_eq!(settings.map(|s| s.max_loss), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn the_log_is_kept_by_size_by_time_or_by_both() {
        let (gib, hour) = (1 << 30, Duration::from_secs(3600));
        let cases = [
            ("1 GiB", Ok((Some(gib), None))),
            ("1 h", Ok((None, Some(hour)))),
            ("1 GiB, 1 h", Ok((Some(gib), Some(hour)))),
            ("1h,1G", Ok((Some(gib), Some(hour)))),
            ("30 min", Ok((None, Some(hour / 2)))),
            ("30 m", Err("MiB or min")),
            ("1 GiB, 2 GiB", Err("one size")),
            ("1 h, 2 h", Err("one size and one span")),
            ("a while", Err("\"1 GiB, 1 h\"")),
            ("", Err("\"1 GiB, 1 h\"")),
        ];
        for (text, wanted) in cases {
            match (retain(Some(&Text::String(text.into()))), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{text}"),
                (Err(found), Err(wanted)) => assert!(found.0.contains(wanted), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let settings = Settings::settle(File::default()).unwrap();
        let kept = (settings.retain_bytes, settings.standby_retain_bytes);
        assert_eq!(kept, (256 << 20, 1 << 30));
        let unit = retain(Some(&Text::Number(4096)));
        assert_eq!(unit, Ok((Some(4096), None)));
    }

    #[test]
    fn a_budget_that_never_helps_is_noted() {
        let cases = [
            ("max_lag = '1 MiB'\nmax_loss = '1 MiB'", ""),
            (
                "max_lag = '1 MiB'\nmax_loss = 5",
                "without max_lag in records",
            ),
            ("max_loss = '1 MiB'", "without max_lag in bytes"),
            ("max_lag = '1 MiB'\nmode = 'sync'", "no effect in sync mode"),
        ];
        for (keys, wanted) in cases {
            let mode = if keys.contains("mode") {
                ""
            } else {
                "mode = 'async'"
            };
            let settings =
                parse(&format!("[cluster]\n{mode}\n{keys}\n")).and_then(Settings::settle);
            let notes = settings.expect(keys).notes().join(" ");
            assert!(notes.contains(wanted), "{keys}: {notes}");
            assert!(
                !wanted.is_empty() || !notes.contains("max_l"),
                "{keys}: {notes}"
            );
        }
    }
}
