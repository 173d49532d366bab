//! `history`: the reports of past takeovers, newest first.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::answers::{Acknowledged, Cluster, Exact, History, Takeover};
use super::http_client::{ConnectArgs, HttpClient};
use super::promote::say_bound;
use super::status::primary_elsewhere;
use super::text::{count, span_us};

/// Flags of `history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints all reports that the primary keeps (or the node asked, if there is no primary).
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = HttpClient::from_args(&args.connect)?;
    let cluster: Cluster = client.get("/cluster")?;
    let elsewhere =
        primary_elsewhere(&cluster).and_then(|addr| client.at(addr).get("/history").ok());
    let raw: Value = elsewhere.map_or_else(|| client.get("/history"), Ok)?;
    if args.connect.json {
        let takeovers = raw.get("takeovers").cloned().unwrap_or_else(|| json!([]));
        let document = json!({ "schema": "understudy.history/1", "takeovers": takeovers });
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(ExitCode::SUCCESS);
    }
    let history: History = serde_json::from_value(raw)?;
    if history.takeovers.is_empty() {
        anstream::println!("no takeover yet");
    }
    for takeover in history.takeovers.iter().rev() {
        anstream::println!("{}", render(takeover));
    }
    Ok(ExitCode::SUCCESS)
}

fn render(takeover: &Takeover) -> String {
    let mut out = String::new();
    let write = "writing to a String cannot fail";
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(takeover.at_ms));
    let from = takeover
        .old_primary
        .map_or_else(String::new, |old| format!("node {old} -> "));
    let Takeover {
        epoch,
        kind,
        new_primary,
        detected_by,
        ..
    } = takeover;
    writeln!(out, "epoch {epoch}  {at}  {kind}: {from}node {new_primary}").expect(write);
    let phases = &takeover.phases_us;
    let steps: Vec<String> = [
        ("votes", phases.voted),
        ("promoted", phases.promoted),
        ("first write released", phases.first_release),
    ]
    .into_iter()
    .filter_map(|(name, at)| Some(format!("{name} after {}", span_us(at?))))
    .collect();
    writeln!(out, "  detected by {detected_by}; {}", steps.join(", ")).expect(write);
    if !takeover.why_won.is_empty() {
        writeln!(out, "  node {new_primary} won: {}", takeover.why_won).expect(write);
    }
    for other in &takeover.others {
        writeln!(out, "  node {} did not: {}", other.id, other.why_not).expect(write);
    }
    let exact = takeover.loss.exact.as_ref();
    let exact = exact.map_or_else(|| "the old primary has not come back".to_owned(), say_exact);
    writeln!(out, "  lost: {}; {exact}", say_bound(&takeover.loss.bound)).expect(write);
    out
}

/// What the old primary found when it came back.
pub(super) fn say_exact(exact: &Exact) -> String {
    let discarded = match exact.records {
        0 => "0 records discarded at the rejoin".to_owned(),
        records => format!(
            "{} discarded at the rejoin ({} bytes)",
            count(records, "record"),
            exact.bytes
        ),
    };
    let acknowledged = match exact.acknowledged {
        _ if exact.records == 0 => String::new(),
        Some(Acknowledged::Exact(number)) => format!(", {number} of them acknowledged"),
        Some(Acknowledged::AtMost(number)) => format!(", at most {number} of them acknowledged"),
        None => String::new(),
    };
    let file = match (&exact.file, exact.node) {
        (Some(file), Some(node)) if exact.records > 0 => format!(", kept in {file} on node {node}"),
        _ => String::new(),
    };
    discarded + &acknowledged + &file
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANNED: &str = r#"{"schema":"understudy.history/1","takeovers":[{"epoch":8,
        "kind":"failover","old_primary":1,"new_primary":2,"at_ms":1763700000123,
        "detected_by":"process gone",
        "phases_us":{"suspected":0,"voted":3012,"promoted":5000,"first_release":null},
        "since_last_beat_us":12000,"fork":{"epoch":7,"lsn":123},
        "why_won":"the newest log","others":[{"id":3,"why_not":"its log ends 4 records earlier"}],
        "loss":{"bound":{"records":9,"span_ms":80,"exact_zero":false},
                "exact":{"records":3,"bytes":300,"first_lsn":124,"last_lsn":126,"first_ms":1,
                         "last_ms":2,"acknowledged":{"at_most":2},"node":1,
                         "file":"discarded/7-124-126.wal"}}}]}"#;

    #[test]
    fn a_report_says_why_how_fast_and_what_was_lost() {
        let history: History = serde_json::from_str(CANNED).expect("the canned answer is valid");
        let text = render(&history.takeovers[0]);
        let expected = "\
epoch 8  2025-11-21T04:40:00.123Z  failover: node 1 -> node 2
  detected by process gone; votes after 3.01 ms, promoted after 5.00 ms
  node 2 won: the newest log
  node 3 did not: its log ends 4 records earlier
  lost: at most 9 records (80 ms of writes); 3 records discarded at the rejoin (300 bytes), \
at most 2 of them acknowledged, kept in discarded/7-124-126.wal on node 1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn acknowledged_reads_both_shapes() {
        let exact: Exact = serde_json::from_str(r#"{"acknowledged":{"exact":0}}"#).expect("valid");
        assert!(matches!(exact.acknowledged, Some(Acknowledged::Exact(0))));
    }
}
