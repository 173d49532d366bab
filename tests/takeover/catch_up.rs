//! A standby that was down catches up while writes go on: from the log, or by a snapshot where the
//! log no longer reaches back.

use std::path::Path;

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, PATIENCE, long, text, understudy, until};

/// LSN of the oldest record that a log still has, by its first segment's name.
pub fn oldest_lsn(data_dir: &Path) -> u64 {
    let segments = std::fs::read_dir(data_dir.join("wal")).expect("it has a log");
    let names = segments.map(|entry| entry.expect("it is readable").file_name());
    let first = names.filter_map(|name| name.to_str()?.strip_suffix(".wal")?.parse().ok());
    first.min().expect("it has a segment")
}

/// Stops the standby, writes much, waits until the primary has `cut` its log where it does, starts the
/// standby again under load, and expects it to become the same.
fn catches_up(more_toml: &str, writes: u64, cut: bool) -> (Lab, u32, u32, u64) {
    let (mut lab, primary) = Lab::start(Plan {
        more_toml: more_toml.to_owned(),
        ..Plan::pair_with_witness("t")
    });
    let standby = 3 - primary;
    let ended = lab.cluster.stop(standby, PATIENCE).expect("it runs");
    assert!(ended, "SIGTERM ends it");
    let last = lab
        .seen_by(primary)
        .member(primary)
        .and_then(|own| own.synced_lsn);
    lab.until_seen(primary, "the fall-back", |seen| seen.mode_state != "ok");
    let mut client = lab.connect(primary);
    for batch in 0..writes / 1000 {
        let mut pipe = redis::pipe();
        for n in 0..1000 {
            // Over 50,000 keys, so that a long run does not measure memory.
            let key = format!("fill:{}", (batch * 1000 + n) % 50_000);
            pipe.cmd("SET").arg(key).arg(batch).ignore();
        }
        pipe.query::<()>(&mut client)
            .expect("the primary goes on alone");
    }
    let last = last.expect("it knows its log");
    let dir = lab.data_dir(primary);
    until("a log that begins later", || {
        (!cut || oldest_lsn(&dir) > last + 1).then_some(())
    });
    let load = lab.load(2, 1);
    load.more(20);
    lab.cluster.start(standby).expect("it starts");
    assert_eq!(lab.ready(), primary);
    lab.until_seen(primary, "semi-sync again", |seen| seen.mode_state == "ok");
    load.more(50);
    let ledger = load.stop();
    lab.caught_up(standby, primary);
    lab.has_all(standby, &ledger);
    let mut there = lab.connect(standby);
    for key in (0..writes.min(50_000)).step_by(997) {
        let mut get = redis::cmd("GET");
        get.arg(format!("fill:{key}"));
        let values = [&mut there, &mut client].map(|c| get.query::<Option<String>>(c));
        let [there, here] = values.map(|value| value.expect("both answer"));
        assert!(here.is_some());
        assert_eq!(there, here, "fill:{key}");
    }
    (lab, primary, standby, last)
}

#[test]
fn a_standby_catches_up_from_the_log_while_writes_go_on() {
    let writes = if long() { 1_000_000 } else { 20_000 };
    let (mut lab, primary, standby, _) = catches_up("", writes, false);
    // What it caught up with is good for a takeover.
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.primary_among(&[standby]), standby);
}

#[test]
fn a_standby_catches_up_by_a_snapshot_where_the_log_was_cut() {
    let small =
        "[wal]\nsegment_size = \"128 KiB\"\nretain = \"256 KiB\"\nstandby_retain = \"256 KiB\"\n";
    let (mut lab, primary, standby, last) = catches_up(small, 20_000, true);
    let oldest = oldest_lsn(&lab.data_dir(primary));
    assert!(
        oldest > last + 1,
        "the log reaches back to LSN {oldest}, the standby ended at {last}: no snapshot was needed"
    );
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.primary_among(&[standby]), standby);
}

fn log_text(lab: &mut Lab, id: u32) -> String {
    std::fs::read_to_string(lab.log_file(id)).expect("it writes one")
}

/// Writes so many bytes in values of 1000.
fn write(lab: &Lab, primary: u32, bytes: u64) {
    let mut client = lab.connect(primary);
    for batch in 0..bytes / 100_000 {
        let mut pipe = redis::pipe();
        for n in 0..100 {
            let key = format!("fill:{}", (batch * 100 + n) % 500);
            pipe.cmd("SET").arg(key).arg(vec![b'x'; 1000]).ignore();
        }
        pipe.query::<()>(&mut client).expect("it goes on alone");
    }
}

#[test]
fn the_log_is_kept_for_an_absent_standby_until_the_budget_is_used_up() {
    let keys = "[wal]\nsegment_size = \"128 KiB\"\nretain = \"256 KiB\"\n\
                standby_retain = \"8 MiB\"\n";
    let (mut lab, primary) = Lab::start(Plan {
        more_toml: keys.to_owned(),
        ..Plan::pair_with_witness("t")
    });
    let standby = 3 - primary;
    let kept_for = |lab: &Lab| {
        let seen = lab.seen_by(primary);
        seen.member(standby)
            .and_then(|standby| standby.log_kept.clone())
    };
    write(&lab, primary, 100_000);
    lab.caught_up(standby, primary);
    assert!(lab.cluster.stop(standby, PATIENCE).expect("it runs"));
    let position = lab
        .seen_by(primary)
        .member(primary)
        .and_then(|own| own.synced_lsn);
    let position = position.expect("it knows its log");
    lab.until_seen(primary, "the fall-back", |seen| seen.mode_state != "ok");

    // Until snapshots replace what the standby lacks.
    let dir = lab.data_dir(primary).join("snapshot");
    until("two snapshots", || {
        write(&lab, primary, 300_000);
        (std::fs::read_dir(&dir).map_or(0, Iterator::count) >= 2).then_some(())
    });
    let kept = kept_for(&lab).expect("the primary says");
    assert_eq!(kept.state, "kept", "{kept:?}");
    assert!(
        kept.bytes.is_some_and(|bytes| bytes > 512 << 10),
        "{kept:?}"
    );
    assert!(
        kept.cut_loose_in_ms.is_some(),
        "it was just written to: {kept:?}"
    );
    assert!(oldest_lsn(&lab.data_dir(primary)) <= position + 1);
    let needs = format!("understudy_standby_needs_full_copy{{node=\"{standby}\"}}");
    assert_eq!(lab.metric(primary, &needs), Some(0.0));
    lab.cluster.start(standby).expect("it starts");
    lab.until_seen(primary, "semi-sync again", |seen| seen.mode_state == "ok");
    lab.caught_up(standby, primary);
    assert!(!log_text(&mut lab, standby).contains("taking a snapshot"));

    // Away for longer than the budget lasts.
    assert!(lab.cluster.stop(standby, PATIENCE).expect("it runs"));
    lab.until_seen(primary, "the fall-back", |seen| seen.mode_state != "ok");
    until("the standby to be cut loose", || {
        write(&lab, primary, 1_000_000);
        (kept_for(&lab)?.state == "full copy needed").then_some(())
    });
    assert_eq!(lab.metric(primary, &needs), Some(1.0));
    let why = format!("node {standby} needs a full copy");
    assert!(log_text(&mut lab, primary).contains(&why));
    let status = understudy(&["status", "--addr", &lab.http_addr(primary)]);
    assert!(text(&status.stdout).contains(&why), "{status:?}");
    // The log is cut to what it is without a standby: to what two snapshots lack. (Written to without a
    // rest, that is as much as comes while they are made.)
    let dir = lab.data_dir(primary).join("wal");
    let snapshots = |lab: &Lab| lab.metric(primary, "understudy_snapshots_total");
    until("the log to be short", || {
        let before = snapshots(&lab);
        write(&lab, primary, 300_000);
        until("a snapshot", || (snapshots(&lab) > before).then_some(()));
        let files = std::fs::read_dir(&dir).ok()?;
        let sizes = files.map(|entry| entry.and_then(|entry| entry.metadata()));
        let bytes: u64 = sizes.map(|meta| meta.map_or(0, |meta| meta.len())).sum();
        (bytes < 2 << 20).then_some(())
    });
    lab.cluster.start(standby).expect("it starts");
    lab.until_seen(primary, "semi-sync again", |seen| seen.mode_state == "ok");
    lab.caught_up(standby, primary);
    assert_eq!(
        kept_for(&lab).map(|kept| kept.state),
        Some("kept".to_owned())
    );
}
