//! The demo's text.

use crate::cli::answers::{Cluster, Takeover};
use crate::cli::history::say_exact;
use crate::cli::promote::say_bound;
use crate::cli::text::{count, ms, span_us, thousands};

use super::outcome::{Round, Spread};
use super::{Args, Fault};

/// What runs, in one line.
pub(super) fn header(args: &Args, cluster: &Cluster) -> String {
    let witnesses = if args.witness { " and a witness" } else { "" };
    let data_nodes = if args.witness { 2 } else { 3 };
    let rule = cluster.rule.as_ref().map_or_else(String::new, |rule| {
        format!(
            " ({} of {} copies, {})",
            rule.copies,
            rule.members.len(),
            rule.level
        )
    });
    format!(
        "{data_nodes} data nodes{witnesses}, {}{rule}; {} with one write outstanding each, {}-byte values",
        cluster.mode,
        count(args.clients as u64, "client"),
        args.value_bytes
    )
}

/// A round in full: its timeline and its result.
pub(super) fn round_in_full(round: &Round) -> String {
    let rate = round.writes.before_fault as f64 / (round.load_us as f64 / 1e6);
    let mut out = format!(
        "\n{} acknowledged by node {} in {} ({}/s)\n\n",
        count(round.writes.before_fault, "write"),
        round.old_primary,
        span_us(round.load_us),
        thousands(rate as u64)
    );
    for event in &round.timeline {
        // The winner's times are known to a millisecond, and are printed so.
        let at = match event.own_clock {
            true => format!("{:.1}", event.at_us as f64 / 1e3),
            false => format!("{:.0}  ", event.at_us as f64 / 1e3),
        };
        out.push_str(&format!("{at:>10} ms  {}\n", event.what));
    }
    out.push('\n');
    let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<11}{text}\n"));
    let or_never = |us: Option<u64>| us.map_or_else(|| "never".to_owned(), span_us);
    line(
        "RTO",
        format!(
            "{} from the fault to the first new acknowledgement",
            or_never(round.rto_us)
        ),
    );
    line(
        "write gap",
        format!(
            "{} without an acknowledgement, as clients saw it; later at most {}",
            or_never(round.gap_us),
            or_never(round.longest_pause_after_us)
        ),
    );
    if let Some(report) = &round.report {
        line("RPO", say_loss(report));
    }
    let writes = &round.writes;
    line(
        "unanswered",
        format!(
            "{} ({} took effect); {} refused",
            count(writes.unknown, "write"),
            thousands(writes.unknown_present),
            thousands(writes.refused)
        ),
    );
    if let Some(probes) = &round.probes {
        line(
            "after thaw",
            format!(
                "{} on old connections: {} stale, {} current, {} errors, {} closed",
                count(probes.asked, "read"),
                probes.stale.len(),
                probes.current,
                probes.errors,
                probes.closed
            ),
        );
    }
    out
}

fn say_loss(report: &Takeover) -> String {
    let bound = match &report.loss.bound {
        bound if bound.exact_zero => "0 by the commit rule".to_owned(),
        bound => say_bound(bound),
    };
    let exact = report.loss.exact.as_ref();
    let exact = exact.map_or_else(|| "what the rejoin found is unknown".to_owned(), say_exact);
    format!("{bound}; {exact}")
}

/// A round in one line, for runs of many.
pub(super) fn round_in_a_line(round: &Round) -> String {
    let new = round
        .new_primary
        .map_or_else(|| "-".to_owned(), |new| new.to_string());
    let detected = round
        .report
        .as_ref()
        .map_or("-", |report| &report.detected_by);
    let column = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), ms);
    format!(
        "{:>5}  {} -> {:<3}{:<14}{:>9}{:>9}{:>11}   lost {} of {}",
        round.round,
        round.old_primary,
        new,
        detected,
        column(round.rto_us),
        column(round.gap_us),
        column(round.rejoin_us),
        thousands(round.writes.lost),
        thousands(round.writes.acknowledged)
    )
}

/// The heading of [`round_in_a_line`].
pub(super) fn heading() -> String {
    format!(
        "\n{:>5}  {:<8}{:<14}{:>9}{:>9}{:>11}   acknowledged writes",
        "round", "node", "detected by", "RTO ms", "gap ms", "rejoin ms"
    )
}

/// The spread over all rounds.
pub(super) fn spreads(rounds: &[Round]) -> String {
    type Pick = fn(&Round) -> Option<u64>;
    let mut out = String::from("\n");
    let picks: [(&str, Pick); 3] = [
        ("write gap", |round| round.gap_us),
        ("RTO", |round| round.rto_us),
        ("rejoin", |round| round.rejoin_us),
    ];
    for (name, pick) in picks {
        if let Some(spread) = Spread::of(rounds.iter().map(pick)) {
            out.push_str(&format!(
                "  {name:<11}median {}, p99 {}, max {}\n",
                span_us(spread.median_us),
                span_us(spread.p99_us),
                span_us(spread.max_us)
            ));
        }
    }
    out
}

/// The last line: the sum of it all.
pub(super) fn verdict(args: &Args, rounds: &[Round]) -> String {
    let sum = |pick: fn(&Round) -> u64| rounds.iter().map(pick).sum::<u64>();
    let lost = sum(|round| round.writes.lost);
    let acknowledged = sum(|round| round.writes.acknowledged);
    let fault = match args.fault {
        Fault::Kill => "kill",
        Fault::Freeze => "freeze",
    };
    let times = match rounds.len() {
        1 => String::new(),
        many => format!(" in {many} {fault}s of the primary"),
    };
    format!(
        "  lost {} of {} acknowledged writes{times}",
        thousands(lost),
        thousands(acknowledged)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::outcome::{Event, Writes};

    fn round() -> Round {
        let event = |at_us, own_clock, what: &str| Event {
            at_us,
            own_clock,
            what: what.to_owned(),
        };
        Round {
            round: 3,
            old_primary: 1,
            new_primary: Some(2),
            load_us: 3_000_000,
            rto_us: Some(11_300),
            gap_us: Some(11_900),
            rejoin_us: Some(650_000),
            writes: Writes {
                acknowledged: 123_456,
                before_fault: 30_000,
                ..Writes::default()
            },
            timeline: vec![event(0, true, "fault"), event(4_000, false, "elected")],
            report: Some(Takeover {
                detected_by: "process gone".to_owned(),
                ..Takeover::default()
            }),
            ..Round::default()
        }
    }

    #[test]
    fn a_round_shows_its_timeline_and_what_was_measured() {
        let text = round_in_full(&round());
        assert!(
            text.contains("30,000 writes acknowledged by node 1 in 3.00 s (10,000/s)"),
            "{text}"
        );
        assert!(text.contains("       0.0 ms  fault\n"), "{text}");
        assert!(text.contains("       4   ms  elected\n"), "{text}");
        assert!(text.contains("RTO        11.3 ms"), "{text}");
        assert!(text.contains("write gap  11.9 ms"), "{text}");
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let line = round_in_a_line(&round());
        let heading = heading();
        let heading = heading.trim_start_matches('\n');
        let end = |text: &str, word: &str| text.find(word).map(|at| at + word.len());
        for (head, value) in [
            ("RTO ms", "11.3"),
            ("gap ms", "11.9"),
            ("rejoin ms", "650.0"),
        ] {
            assert_eq!(end(heading, head), end(&line, value), "{heading}\n{line}");
        }
        assert!(line.ends_with("lost 0 of 123,456"), "{line}");
    }
}
