//! Async: never by itself without a budget; within it, with a bound that the exact loss keeps to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, http_get, text, understudy, until};

fn async_pair(max_loss: Option<&str>) -> Plan {
    Plan {
        mode: "async".to_owned(),
        level: None,
        max_loss: max_loss.map(str::to_owned),
        ..Plan::pair_with_witness("t")
    }
}

#[test]
fn async_without_a_budget_never_takes_over_by_itself() {
    let (mut lab, primary) = Lab::start(async_pair(None));
    let standby = 3 - primary;
    let load = lab.load(2, 1);
    load.more(200);
    lab.cluster.kill9(primary).expect("it runs");
    let ledger = load.stop();
    lab.says_why_not(standby, "max_loss is 0");
    lab.nobody_reigns(&[standby, 3], Duration::from_millis(1500));
    let first: String = redis::cmd("GET")
        .arg(&ledger.acked[0])
        .query(&mut lab.connect(standby))
        .expect("a standby without a primary serves reads");
    assert_eq!(first, ledger.acked[0]);
    lab.cluster.start(primary).expect("it starts");
    // With the old primary's vote the standby may win, too, where it turns out to have everything.
    let winner = lab.ready();
    lab.has_all(winner, &ledger);
}

/// Writes that only the primary can have, then its death. Returns their keys.
fn lose_writes(lab: &mut Lab, primary: u32, standby: u32) -> BTreeSet<String> {
    lab.cluster.freeze(standby).expect("it runs");
    let keys = lab.write_past_sockets(primary);
    lab.cluster.kill9(primary).expect("it runs");
    lab.cluster.thaw(standby).expect("it is frozen");
    keys
}

/// The newest failover in this node's history, as it is on the wire.
fn failover(lab: &Lab, id: u32) -> Option<Value> {
    let history = http_get(&lab.http_addr(id), "/history");
    let history: Value = serde_json::from_str(&history).expect("it is JSON");
    let takeovers = history["takeovers"].as_array()?;
    let newest = takeovers.iter().rev().find(|t| t["kind"] == "failover");
    newest.cloned()
}

/// The keys of a log file's records, by `wal dump --json`.
fn keys_in(file: &str) -> (usize, BTreeSet<String>) {
    let dump = understudy(&["wal", "dump", "--json", file]);
    assert!(dump.status.success(), "{dump:?}");
    let (mut records, mut keys) = (0, BTreeSet::new());
    for line in text(&dump.stdout).lines() {
        let record: Value = serde_json::from_str(line).expect("a record a line");
        for effect in record["effects"].as_array().expect("effects") {
            let effect = effect.as_str().expect("text");
            if let Some(rest) = effect.strip_prefix("SET \"") {
                records += 1;
                keys.insert(rest.split('"').next().unwrap_or_default().to_owned());
            }
        }
    }
    (records, keys)
}

/// Takes over within the budget; afterwards bound, exact loss and discarded file must agree with
/// what the new primary really lacks.
fn takes_over_within(plan: Plan, cluster_keys: &str) {
    let (mut lab, primary) = Lab::start_with(plan, cluster_keys);
    let standby = 3 - primary;
    let load = lab.load(2, 1);
    load.more(100);
    let ledger = load.stop();
    lab.caught_up(standby, primary);
    let written = lose_writes(&mut lab, primary, standby);
    assert_eq!(lab.primary_among(&[standby]), standby);
    let report = until("the report", || failover(&lab, standby));
    let bound = &report["loss"]["bound"];
    assert_eq!(bound["exact_zero"], false, "{report}");

    lab.cluster.start(primary).expect("it starts");
    assert_eq!(lab.ready(), standby);
    let exact = until("the exact loss", || {
        let exact = failover(&lab, standby)?["loss"]["exact"].clone();
        (!exact.is_null()).then_some(exact)
    });
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{value} in {exact}"))
    };
    let (records, span_ms) = (
        number(&exact["records"]),
        number(&exact["last_ms"]) - number(&exact["first_ms"]),
    );
    let acknowledged = number(&exact["acknowledged"]["at_most"]);
    assert!(records > 0, "something was lost: {exact}");
    assert!(acknowledged <= records);
    if let Some(most) = bound["records"].as_u64() {
        assert!(records <= most, "{exact} beyond {bound}");
    }
    if let Some(most) = bound["bytes"].as_u64() {
        assert!(number(&exact["bytes"]) <= most, "{exact} beyond {bound}");
    }
    if let Some(most) = bound["span_ms"].as_u64() {
        assert!(span_ms <= most, "{exact} beyond {bound}");
    }

    let mut client = lab.connect(standby);
    let mut lacks = |key: &String| -> bool {
        let there: bool = redis::cmd("EXISTS")
            .arg(key)
            .query(&mut client)
            .expect("the new primary answers");
        !there
    };
    let missing: BTreeSet<String> = written.iter().filter(|key| lacks(key)).cloned().collect();
    let file = PathBuf::from(exact["file"].as_str().expect("a file"));
    let file = lab.data_dir(primary).join(file);
    let (count, discarded) = keys_in(&file.to_string_lossy());
    assert_eq!(discarded, missing, "the file holds exactly what is missing");
    assert_eq!(count as u64, records);
    lab.has_all(standby, &ledger);
    lab.caught_up(primary, standby);
    let there = lab.seen_by(primary);
    assert_eq!(there.primary, Some(standby));
}

#[test]
fn async_takes_over_within_a_budget_of_time() {
    takes_over_within(async_pair(Some("10 s")), "");
}

#[test]
fn async_takes_over_within_a_budget_of_records() {
    takes_over_within(async_pair(Some("1000 records")), "max_lag = 1000");
}

#[test]
fn async_takes_over_within_a_budget_of_bytes() {
    takes_over_within(async_pair(Some("9 MiB")), "max_lag = \"9 MiB\"");
}
