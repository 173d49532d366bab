//! Blank nodes: they begin a cluster exactly once, and learn before they count again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, PATIENCE, until};

/// Empties a stopped node's data directory.
pub fn wipe(lab: &mut Lab, id: u32) {
    let dir = lab.data_dir(id);
    std::fs::remove_dir_all(&dir).expect("the node is stopped");
    std::fs::create_dir(&dir).expect("it is ours");
}

fn cluster_ids(lab: &Lab) -> BTreeSet<String> {
    let ids = lab.cluster.ids().into_iter();
    ids.map(|id| {
        until("a cluster id", || {
            lab.seen_by(id).cluster_id.filter(|id| !id.is_empty())
        })
    })
    .collect()
}

#[test]
fn blank_members_begin_one_cluster_once() {
    for plan in [Plan::three_data_nodes("t"), Plan::pair_with_witness("t")] {
        let (mut lab, _) = Lab::start(plan);
        let first = cluster_ids(&lab);
        assert_eq!(first.len(), 1, "one cluster: {first:?}");
        let load = lab.load(2, 1);
        load.more(50);
        for id in lab.cluster.ids() {
            lab.cluster.kill9(id).expect("it runs");
        }
        let ledger = load.stop();
        lab.cluster.start_all().expect("they start");
        let primary = lab.ready();
        assert_eq!(cluster_ids(&lab), first, "the same one after a restart");
        lab.has_all(primary, &ledger);
    }
}

#[test]
fn some_blank_members_alone_begin_nothing() {
    let mut lab = Lab::prepare(Plan::three_data_nodes("t"), |_, text| text);
    lab.cluster.start(1).expect("it starts");
    lab.cluster.start(2).expect("it starts");
    until("both answer", || {
        let seen = [1, 2].map(|id| lab.cluster.cluster_json(id).expect("a member"));
        seen.iter().all(Option::is_some).then_some(())
    });
    lab.nobody_reigns(&[1, 2], Duration::from_secs(1));
    assert_eq!(lab.seen_by(1).cluster_id, None);
    lab.cluster.start(3).expect("it starts");
    lab.ready();
    assert_eq!(cluster_ids(&lab).len(), 1);
}

/// A pair with a witness and much data, its standby wiped and started again.
fn wiped() -> (Lab, u32, u32, crate::common::Ledger) {
    let (mut lab, primary) = Lab::start(Plan::pair_with_witness("t"));
    let standby = 3 - primary;
    lab.write_past_sockets(primary);
    let load = lab.load(2, 1);
    load.more(100);
    assert!(lab.cluster.stop(standby, PATIENCE).expect("it runs"));
    wipe(&mut lab, standby);
    lab.until_seen(primary, "the fall-back", |seen| {
        seen.mode_state == "fallen back"
    });
    load.more(50);
    let ledger = load.stop();
    lab.cluster.start(standby).expect("it starts");
    (lab, primary, standby, ledger)
}

#[test]
fn a_wiped_data_node_learns_and_is_admitted_again() {
    let (mut lab, primary, standby, ledger) = wiped();
    let before = lab.seen_by(primary);
    let mut roles = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let own = lab.cluster.cluster_json(standby).expect("a member");
        if let Some(own) = own.as_ref().and_then(|seen| seen.member(standby)) {
            roles.insert(own.role.clone());
        }
        let seen = lab.seen_by(primary);
        let rule = seen.rule.clone().unwrap_or_default();
        if rule.members.contains(&standby) && seen.mode_state == "ok" {
            assert!(before.rule.is_some_and(|old| old.version < rule.version));
            break;
        }
        assert!(Instant::now() < deadline, "never admitted: {seen:#?}");
    }
    assert!(
        roles.contains("learner") || roles.contains("uninitialized"),
        "it was blank: {roles:?}"
    );
    lab.until_seen(standby, "being a replica", |seen| {
        seen.member(standby)
            .is_some_and(|own| own.role == "replica")
    });
    // Admitted, it counts in full: it may take over, and has everything.
    lab.cluster.kill9(primary).expect("it runs");
    assert_eq!(lab.primary_among(&[standby]), standby);
    lab.has_all(standby, &ledger);
}

#[test]
fn a_learner_is_never_elected() {
    let (mut lab, primary, standby, ledger) = wiped();
    // Caught in the middle of its copy; stopped, so that it stays a learner.
    let learns = |lab: &Lab| {
        let own = lab.cluster.cluster_json(standby).ok().flatten()?;
        let role = own.member(standby)?.role.clone();
        matches!(role.as_str(), "learner" | "uninitialized").then_some(())
    };
    until("a learner", || learns(&lab));
    lab.cluster.freeze(standby).expect("it runs");
    let rule = lab.seen_by(primary).rule.expect("there is a rule");
    assert_eq!(rule.members, [primary], "not admitted yet");
    lab.cluster.kill9(primary).expect("it runs");
    lab.cluster.thaw(standby).expect("it is frozen");
    lab.nobody_reigns(&[standby, 3], Duration::from_secs(2));
    lab.cluster.start(primary).expect("it starts");
    assert_eq!(lab.ready(), primary);
    lab.has_all(primary, &ledger);
    lab.until_seen(primary, "the learner's admission", |seen| {
        seen.mode_state == "ok" && seen.rule.as_ref().is_some_and(|rule| rule.copies == 2)
    });
}
