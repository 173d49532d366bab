//! A node alone: what it acknowledged is there after any kill; what it must refuse, it refuses.
//!
//! `UNDERSTUDY_LONG=1` kills it 50 times instead of 5.

mod common;

use common::{Lab, Ledger, long};
use understudy::cli::local_cluster::Plan;

fn alone() -> Plan {
    Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    }
}

#[test]
fn every_acknowledged_write_is_there_after_kill_9_under_load() {
    let (mut lab, node) = Lab::start(alone());
    let rounds = if long() { 50 } else { 5 };
    let mut all = Ledger::default();
    for round in 0..rounds {
        let (plain, pipelined) = (lab.load(3, 1), lab.load(1, 50));
        plain.more(30);
        pipelined.more(500);
        lab.cluster.kill9(node).expect("it runs");
        let ledgers = [plain.stop(), pipelined.stop()];
        lab.cluster.start(node).expect("it starts");
        assert_eq!(lab.ready(), node);
        for ledger in ledgers {
            lab.has_all(node, &ledger);
            assert!(
                ledger.errors.keys().all(|code| code == "io"),
                "round {round}: a kill shows as a lost connection only: {:?}",
                ledger.errors
            );
            all.acked.extend(ledger.acked);
        }
    }
    lab.has_all(node, &all);
}
