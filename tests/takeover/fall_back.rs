//! Semi-sync without its standby: it falls back after the timeout, visibly, and returns by itself;
//! the standby that missed writes is not promoted meanwhile.

use std::time::Duration;

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, Load, until};

/// A pair with its standby frozen, under load, after the fall-back was seen everywhere.
fn fallen_back() -> (Lab, u32, u32, Load) {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("t"));
    let standby = 3 - primary;
    assert_eq!(lab.info(primary, "mode_state").as_deref(), Some("ok"));
    assert_eq!(lab.metric(primary, "understudy_fallen_back"), Some(0.0));
    let load = lab.load(2, 1);
    load.more(50);
    lab.cluster.freeze(standby).expect("it runs");
    lab.until_seen(primary, "the fall-back", |seen| {
        seen.mode_state == "fallen back"
    });
    assert_eq!(
        lab.info(primary, "mode_state").as_deref(),
        Some("fallen back")
    );
    assert_eq!(lab.metric(primary, "understudy_fallen_back"), Some(1.0));
    load.more(100);
    assert!(lab.says_primary(primary));
    (lab, primary, standby, load)
}

#[test]
fn semi_sync_falls_back_visibly_and_returns_by_itself() {
    let (mut lab, primary, standby, load) = fallen_back();
    lab.cluster.thaw(standby).expect("it is frozen");
    let seen = lab.until_seen(primary, "the return", |seen| seen.mode_state == "ok");
    assert!(seen.rule.is_some_and(|rule| rule.copies == 2));
    assert_eq!(lab.metric(primary, "understudy_fallen_back"), Some(0.0));
    load.more(50);
    let ledger = load.stop();
    // A client that first met the standby was sent on.
    let only_redirected = ledger.errors.keys().all(|code| code == "READONLY");
    assert!(only_redirected, "{:?}", ledger.errors);
    lab.has_all(primary, &ledger);

    // With the return, the standby may take over again, and lacks nothing.
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.primary_among(&[standby]), standby);
    lab.has_all(standby, &ledger);
}

#[test]
fn a_standby_that_missed_a_recorded_fall_back_is_not_promoted() {
    let (mut lab, primary, standby, load) = fallen_back();
    lab.write_past_sockets(primary);
    lab.cluster.kill9(primary).expect("it runs");
    let ledger = load.stop();
    lab.cluster.thaw(standby).expect("it is frozen");
    lab.says_why_not(standby, "max_loss is 0");
    lab.nobody_reigns(&[standby], Duration::from_millis(1500));
    assert!(
        until("a metric", || lab.info(standby, "held_back")).contains("promote --force"),
        "a person is told what to do"
    );
    lab.cluster.start(primary).expect("it starts");
    assert_eq!(lab.ready(), primary, "the one that has everything returns");
    lab.has_all(primary, &ledger);
    lab.until_seen(primary, "semi-sync again", |seen| seen.mode_state == "ok");
}
