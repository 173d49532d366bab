//! Switchover under load: nothing lost, and no error but being sent on.

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, text, understudy};

fn switch_over_under_load(plan: Plan) {
    let (lab, first) = Lab::start(plan);
    let load = lab.load(4, 1);
    load.more(200);
    let target = 3 - first.min(2);
    let addr = lab.http_addr(*lab.others(&[first]).last().expect("there are others"));
    let mut current = first;
    for to in [target, first, target] {
        let done = understudy(&["switchover", "--addr", &addr, "--to", &to.to_string()]);
        assert!(done.status.success(), "{done:?}");
        let said = text(&done.stdout);
        assert!(
            said.contains(&format!("node {to} is primary now")),
            "{said}"
        );
        assert_eq!(lab.primary_among(&[to]), to);
        let report = lab.takeover(to, "a report", |t| t.kind == "switchover");
        assert_eq!(
            (report.old_primary, report.new_primary),
            (Some(current), to)
        );
        assert!(report.loss.bound.exact_zero, "{report:?}");
        current = to;
        load.more(200);
    }
    let ledger = load.stop();
    lab.has_all(current, &ledger);
    let redirects = ["READONLY", "MASTERDOWN", "io"];
    let other = ledger
        .errors
        .keys()
        .find(|code| !redirects.contains(&code.as_str()));
    assert_eq!(other, None, "{:?}", ledger.errors);
    assert!(
        ledger.unknown.is_empty(),
        "writes left open: {:?}; {:?}",
        ledger.unknown,
        ledger.errors
    );
}

#[test]
fn a_switchover_of_three_data_nodes_in_sync_mode_costs_nothing() {
    switch_over_under_load(Plan::three_data_nodes("t"));
}

#[test]
fn a_switchover_of_a_pair_with_a_witness_costs_nothing() {
    switch_over_under_load(Plan::pair_with_witness("t"));
}
