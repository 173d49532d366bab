//! `status`: the cluster as its primary sees it.
//!
//! The node asked may be a standby, which knows less: if it names a primary with an HTTP address,
//! that one is asked instead, and the output says who answered.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Cell, Table};
use serde_json::json;

use super::answers::{Cluster, DiskState, Exposure, Member, Rule};
use super::http_client::{ConnectArgs, HttpClient, HttpError};
use super::text::{count, or_dash, size, table_style, thousands};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints the cluster's state. Exit status 0 also when there is no primary: the answer is the
/// command's success.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = HttpClient::from_args(&args.connect)?;
    let raw = ask_primary_first(&client)?;
    if args.connect.json {
        let document = json!({ "schema": "understudy.status/1", "cluster": raw });
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let cluster: Cluster = serde_json::from_value(raw)?;
        anstream::print!("{}", render(&cluster));
    }
    Ok(ExitCode::SUCCESS)
}

/// `GET /cluster` of the primary if the node asked names one that answers, else its own answer.
/// The raw document, so that `--json` keeps keys this command does not know.
fn ask_primary_first(client: &HttpClient) -> Result<serde_json::Value, HttpError> {
    let own: serde_json::Value = client.get("/cluster")?;
    let cluster: Cluster = serde_json::from_value(own.clone()).unwrap_or_default();
    let elsewhere = primary_elsewhere(&cluster);
    Ok(elsewhere
        .and_then(|addr| client.at(addr).get("/cluster").ok())
        .unwrap_or(own))
}

/// The HTTP address of the primary that `cluster` names, unless the primary itself answered.
pub(super) fn primary_elsewhere(cluster: &Cluster) -> Option<&str> {
    let primary = cluster
        .primary
        .filter(|primary| cluster.answered_by != Some(*primary))?;
    cluster.member(primary)?.http_addr.as_deref()
}

/// The whole text.
fn render(cluster: &Cluster) -> String {
    let mut out = String::new();
    let primary = match cluster.primary {
        Some(primary) => format!("node {primary} is primary"),
        None => "NO PRIMARY".to_owned(),
    };
    let write = "writing to a String cannot fail";
    writeln!(
        out,
        "cluster {}: {primary}, epoch {}",
        cluster.scope, cluster.epoch
    )
    .expect(write);
    let state = match cluster.mode_state.as_str() {
        "" | "ok" => String::new(),
        other => format!(" ({})", other.to_uppercase()),
    };
    let rule = cluster
        .rule
        .as_ref()
        .map_or_else(String::new, |rule| format!(": {}", say(rule)));
    writeln!(out, "mode {}{state}{rule}", cluster.mode).expect(write);
    if let Some(worst) = cluster.worst_case_detection_ms {
        writeln!(out, "a silent primary is noticed within {worst} ms").expect(write);
    }
    if let Some(lost) = &cluster.lost_if_primary_died {
        let lost = say_lost(lost);
        writeln!(out, "lost if the primary died now: {lost}").expect(write);
    }
    writeln!(out, "\n{}\n", table(&cluster.members)).expect(write);
    for said in cluster.members.iter().filter_map(say_kept) {
        writeln!(out, "{said}").expect(write);
    }
    for member in cluster.members.iter().filter(|m| m.fit == Some(false)) {
        let id = member.id;
        writeln!(
            out,
            "node {id} would not take over now: it is out of disk, loading or repairing"
        )
        .expect(write);
    }
    if let Some(said) = cluster.disk.as_ref().and_then(say_disk) {
        writeln!(out, "{said}").expect(write);
    }
    for note in &cluster.notes {
        writeln!(out, "note: {note}").expect(write);
    }
    if let Some(node) = cluster.answered_by {
        let alone = if cluster.primary == Some(node) {
            ""
        } else {
            ", which is not the primary"
        };
        writeln!(out, "answered by node {node}{alone}").expect(write);
    }
    out
}

/// The commit rule as a sentence.
fn say(rule: &Rule) -> String {
    let nodes: Vec<String> = rule.members.iter().map(u32::to_string).collect();
    let lag = None
        .or(rule.max_lag_records.map(|n| count(n, "record")))
        .or(rule.max_lag_bytes.map(|n| count(n, "byte")))
        .or(rule.max_lag_ms.map(|n| format!("{n} ms")));
    let lag = lag.map_or_else(String::new, |lag| {
        format!("; writes wait beyond a lag of {lag}, and then fail")
    });
    format!(
        "{} of nodes {} must hold a write, {}{lag}",
        rule.copies,
        nodes.join(", "),
        rule.level
    )
}

/// The live RPO in every unit that is known.
fn say_lost(lost: &Exposure) -> String {
    if lost.records == 0 {
        return "nothing".to_owned();
    }
    let known = [
        Some(count(lost.records, "record")),
        lost.bytes.map(|bytes| count(bytes, "byte")),
        lost.ms.map(|ms| format!("{} ms", thousands(ms))),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    format!("up to {}", known.join(", "))
}

/// A disk that is full, nearly, or slow: of the node that answered.
fn say_disk(disk: &DiskState) -> Option<String> {
    let free = disk.free_bytes.map_or("?".to_owned(), size);
    match disk {
        DiskState { full: true, .. } => Some(format!(
            "DISK FULL for {} s, {free} free{}: it serves reads, and writes while they have room",
            disk.full_for_ms.unwrap_or(0) / 1000,
            if disk.reserve {
                ""
            } else {
                ", the reserve is in use"
            },
        )),
        DiskState { stalls: true, .. } => Some(format!(
            "DISK STALLS: the log's disk has not answered for {} ms",
            disk.stalled_ms
        )),
        _ => None,
    }
}

/// A standby that will need a full copy, or does.
fn say_kept(member: &Member) -> Option<String> {
    let (id, kept) = (member.id, member.log_kept.as_ref()?);
    if kept.state == "full copy needed" {
        return Some(format!(
            "node {id} needs a full copy: the log that it lacks is kept no more"
        ));
    }
    let left = Duration::from_secs(kept.cut_loose_in_ms? / 1000);
    Some(format!(
        "node {id} will need a full copy in {} at {}/s: {} of {} kept for it are used",
        humantime::format_duration(left),
        size(kept.append_bytes_per_second),
        size(kept.bytes.unwrap_or(0)),
        size(kept.budget_bytes),
    ))
}

fn table(members: &[Member]) -> Table {
    let mut table = Table::new();
    table.load_style(table_style());
    table.set_header([
        "node",
        "role",
        "state",
        "epoch",
        "appended",
        "synced",
        "released",
        "applied",
        "proven equal",
        "lag",
        "bytes",
        "ms",
        "lease ms",
        "votes",
        "in rule",
        "clients at",
    ]);
    for member in members {
        let yes_no = |value: Option<bool>| match value {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        table.add_row([
            Cell::new(member.id),
            Cell::new(if member.role == "leader" {
                "primary"
            } else {
                &member.role
            }),
            Cell::new(&member.state),
            Cell::new(or_dash(member.epoch)),
            Cell::new(or_dash(member.appended_lsn)),
            Cell::new(or_dash(member.synced_lsn)),
            Cell::new(or_dash(member.released_lsn)),
            Cell::new(or_dash(member.applied_lsn)),
            Cell::new(or_dash(member.proven_equal_lsn)),
            Cell::new(or_dash(member.lag_records)),
            Cell::new(or_dash(member.lag)),
            Cell::new(or_dash(member.lag_ms)),
            Cell::new(or_dash(member.lease_ms)),
            Cell::new(yes_no(member.vote)),
            Cell::new(yes_no(member.in_rule)),
            Cell::new(or_dash(member.client_addr.as_deref())),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a primary answers, one standby being down.
    const CANNED: &str = r#"{"schema":"understudy.cluster/1","scope":"shop","cluster_id":"ab",
        "answered_by":2,"epoch":7,"primary":2,"mode":"semi-sync","mode_state":"fallen back",
        "rule":{"epoch":7,"version":2,"members":[2],"copies":1,"level":"synced",
                "max_lag_records":null},
        "worst_case_detection_ms":400,"notes":["node 1 is not promoted: it fell behind"],
        "lost_if_primary_died":{"records":1204,"bytes":98304,"ms":40},
        "new_key":1,"disk":{"full":true,"full_for_ms":12345,"free_bytes":70000,"reserve":true},
        "members":[
         {"name":"1","id":1,"log_kept":{"state":"kept","bytes":1100000000,"budget_bytes":4300000000,
            "append_bytes_per_second":3100000,"cut_loose_in_ms":734567},"role":"replica","state":"unreachable","kind":"data","epoch":null,
          "appended_lsn":null,"lag":null,"lag_records":null,"vote":true,"in_rule":false,
          "http_addr":"127.0.0.1:7381","connected":false,"fit":false},
         {"name":"2","id":2,"role":"leader","state":"running","kind":"data","epoch":7,"lag":0,
          "appended_lsn":912,"synced_lsn":911,"released_lsn":910,"applied_lsn":910,"proven_equal_lsn":905,"lag_records":0,
          "lag_ms":0,"lease_ms":431,"vote":true,"in_rule":true,"client_addr":"10.0.0.2:7379",
          "connected":true,"self":true}]}"#;

    fn row(text: &str, node: &str) -> Vec<String> {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(node));
        let words = line.unwrap_or_default().split_whitespace();
        words
            .filter(|word| *word != "┆")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_table_shows_every_position_and_dashes_for_what_is_unknown() {
        let cluster: Cluster = serde_json::from_str(CANNED).expect("the canned answer is valid");
        let text = render(&cluster);
        assert!(
            text.starts_with("cluster shop: node 2 is primary, epoch 7\n"),
            "{text}"
        );
        assert!(
            text.contains("mode semi-sync (FALLEN BACK): 1 of nodes 2 must hold a write, synced\n"),
            "{text}"
        );
        assert!(text.contains("noticed within 400 ms"), "{text}");
        let lost = "lost if the primary died now: up to 1,204 records, 98,304 bytes, 40 ms\n";
        assert!(text.contains(lost), "{text}");
        assert!(
            text.contains("note: node 1 is not promoted: it fell behind\n"),
            "{text}"
        );
        let soon = "node 1 will need a full copy in 12m 14s at 3.1 MB/s: 1.1 GB of 4.3 GB kept for it are used\n";
        assert!(text.contains(soon), "{text}");
        let full = "DISK FULL for 12 s, 70 kB free: it serves reads";
        assert!(text.contains(full), "{text}");
        assert!(text.contains("node 1 would not take over now: it is out of disk"));
        let expected = "2 primary running 7 912 911 910 910 905 0 0 0 431 yes yes 10.0.0.2:7379";
        assert_eq!(
            row(&text, "2 "),
            expected.split(' ').collect::<Vec<_>>(),
            "{text}"
        );
        let expected = "1 replica unreachable - - - - - - - - - - yes no -";
        assert_eq!(
            row(&text, "1 "),
            expected.split(' ').collect::<Vec<_>>(),
            "{text}"
        );
    }

    #[test]
    fn a_standby_refers_to_the_primary_and_the_primary_does_not() {
        let mut cluster: Cluster = serde_json::from_str(CANNED).expect("valid");
        assert_eq!(primary_elsewhere(&cluster), None);
        cluster.primary = Some(1);
        assert_eq!(primary_elsewhere(&cluster), Some("127.0.0.1:7381"));
        cluster.primary = None;
        assert_eq!(primary_elsewhere(&cluster), None);
        assert!(render(&cluster).starts_with("cluster shop: NO PRIMARY"));
    }
}
