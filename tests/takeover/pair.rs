//! Two data nodes without a witness, the second without a vote: the first goes on alone, the second
//! never takes over by itself; a person promotes.

use std::time::Duration;

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, text, understudy};

fn pair() -> Lab {
    let plan = Plan {
        witness: false,
        level: None,
        ..Plan::pair_with_witness("t")
    };
    let mut lab = Lab::prepare(plan, |_, text| {
        let changed = text.replace(
            "id = 2\nrole = \"data\"",
            "id = 2\nrole = \"data\"\nvote = false",
        );
        assert_ne!(changed, text);
        changed
    });
    lab.cluster.start_all().expect("they start");
    assert_eq!(lab.ready(), 1);
    lab
}

#[test]
fn a_pair_without_witness_takes_over_only_by_a_persons_order() {
    let mut lab = pair();
    let load = lab.load(2, 1);
    load.more(100);
    lab.cluster.kill9(2).expect("it runs");
    load.more(100);
    assert!(lab.says_primary(1), "the first goes on alone");
    lab.cluster.start(2).expect("it starts");
    assert_eq!(lab.ready(), 1);
    load.more(50);
    let ledger = load.stop();
    // While the second starts it says MASTERDOWN to whom it once sent on.
    let sent_on = ["READONLY", "MASTERDOWN", "io"];
    let mut codes = ledger.errors.keys();
    let other = codes.find(|code| !sent_on.contains(&code.as_str()));
    assert_eq!(other, None, "{:?}", ledger.errors);
    lab.caught_up(2, 1);

    lab.cluster.kill9(1).expect("it runs");
    let seen = lab.until_seen(2, "suspicion", |seen| {
        seen.primary.is_none() || !seen.notes.is_empty()
    });
    let notes = seen.notes.join(" ");
    assert!(notes.contains("no automatic takeover"), "{notes}");
    lab.nobody_reigns(&[2], Duration::from_millis(1500));
    let addr = lab.http_addr(2);
    let status = text(&understudy(&["status", "--addr", &addr]).stdout);
    assert!(status.contains("no automatic takeover"), "{status}");

    let without_force = understudy(&["promote", "--addr", &addr]);
    assert_eq!(without_force.status.code(), Some(1), "{without_force:?}");
    assert!(!lab.says_primary(2), "asking for the price changes nothing");
    let promoted = understudy(&["promote", "--addr", &addr, "--force", "--lost", "1"]);
    assert!(promoted.status.success(), "{promoted:?}");
    assert_eq!(lab.primary_among(&[2]), 2);
    lab.has_all(2, &ledger);
    let load = lab.load(1, 1);
    load.more(20);
    let more = load.stop();
    lab.has_all(2, &more);
    let report = lab.takeover(2, "the report", |t| t.kind == "forced");
    assert_eq!(report.new_primary, 2);
}

/// R22: what a person declared lost does not come back as if nothing had happened.
#[test]
fn a_node_declared_lost_does_not_reign_beside_the_promoted_one() {
    let mut lab = pair();
    let load = lab.load(1, 1);
    load.more(50);
    let ledger = load.stop();
    lab.caught_up(2, 1);
    lab.cluster.kill9(1).expect("it runs");
    let addr = lab.http_addr(2);
    let promoted = understudy(&["promote", "--addr", &addr, "--force", "--lost", "1"]);
    assert!(promoted.status.success(), "{promoted:?}");
    assert_eq!(lab.primary_among(&[2]), 2);
    lab.cluster.start(1).expect("it starts");
    lab.until_seen(1, "an answer", |_| true);
    lab.nobody_reigns(&[1], Duration::from_millis(1500));
    assert!(lab.says_primary(2));
    lab.has_all(2, &ledger);
}
