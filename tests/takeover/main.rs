//! Takeovers of real processes under load, and what must not be taken over.
//!
//! `UNDERSTUDY_LONG=1` lets a standby miss 1,000,000 writes instead of 20,000, and an old primary
//! rejoin with 1,000,000 keys.

#[path = "../common/mod.rs"]
mod common;
mod blank;
mod catch_up;
mod copy;
mod discarded;
mod fall_back;
mod freeze;
mod lag;
mod loss;
mod pair;
mod planned;
mod rejoin;
mod sync_pair;

use common::Lab;
use understudy::cli::local_cluster::Plan;

/// SIGKILL under load: nothing acknowledged is lost, writes go on, the old primary rejoins.
fn kill_the_primary(plan: Plan) {
    let (mut lab, first) = Lab::start(plan);
    let load = lab.load(4, 1);
    load.more(200);
    lab.cluster.kill9(first).expect("it runs");
    let second = lab.primary_among(&lab.others(&[first]));
    load.more(200);
    lab.cluster.start(first).expect("it starts");
    assert_eq!(lab.ready(), second, "the old primary rejoins as a standby");
    load.more(100);
    let ledger = load.stop();
    lab.has_all(second, &ledger);
    lab.caught_up(first, second);
    lab.has_all(first, &ledger);

    let report = lab.takeover(second, "a report with phases", |takeover| {
        takeover.kind == "failover" && takeover.phases_us.first_release.is_some()
    });
    assert_eq!(report.old_primary, Some(first));
    assert_eq!(report.new_primary, second);
    assert_eq!(report.detected_by, "process gone");
    assert!(report.loss.bound.exact_zero, "{report:?}");
}

#[test]
fn three_data_nodes_in_sync_mode_lose_nothing_by_sigkill() {
    kill_the_primary(Plan::three_data_nodes("t"));
}

#[test]
fn a_pair_with_a_witness_loses_nothing_by_sigkill() {
    kill_the_primary(Plan::pair_with_witness("t"));
}
