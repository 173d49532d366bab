//! Two data nodes and a witness in sync mode: after the kill the winner serves reads; writes wait,
//! then fail clearly, and go on when the other node is back.

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, code, connect, until};

#[test]
fn the_winner_serves_reads_and_its_writes_wait_for_the_other_node() {
    let plan = Plan {
        mode: "sync".to_owned(),
        level: None,
        ..Plan::pair_with_witness("t")
    };
    let (mut lab, first) = Lab::start_with(plan, "write_timeout = \"1 s\"");
    let second = 3 - first;
    let load = lab.load(2, 1);
    load.more(200);
    let ledger = load.stop();
    // R17: the winner answers reads of what it knows to be released, and nothing later; killed under
    // load, the first may not have told of its last acknowledged writes.
    lab.caught_up(second, first);
    lab.cluster.kill9(first).expect("it runs");
    assert_eq!(lab.primary_among(&[second]), second);
    lab.has_all(second, &ledger);

    let mut client = lab.connect(second);
    let write = |client: &mut redis::Connection, value: &str| {
        let mut set = redis::cmd("SET");
        set.arg("waiting").arg(value).query::<String>(client)
    };
    let started = std::time::Instant::now();
    let error = write(&mut client, "alone").expect_err("one copy is not enough");
    assert_eq!(code(&error), "UNCONFIRMED", "{error}");
    assert!(
        error.to_string().contains("may still take effect"),
        "{error}"
    );
    let waited = started.elapsed();
    assert!(waited.as_millis() >= 900, "it waited only {waited:?}");
    // Reads of what is known to be safe go on, on any connection.
    lab.has_all(second, &ledger);
    // What was not confirmed is not shown, either.
    let mut reader = lab.connect(second);
    let seen = redis::cmd("GET")
        .arg("waiting")
        .query::<Option<String>>(&mut reader);
    assert!(seen.is_err(), "{seen:?}");

    lab.cluster.start(first).expect("it starts");
    assert_eq!(lab.ready(), second);
    until("a write with both nodes", || {
        let mut client = connect(lab.addr(second)).ok()?;
        write(&mut client, "both").ok()
    });
    let load = lab.load(2, 1);
    load.more(50);
    let more = load.stop();
    lab.has_all(second, &more);
    lab.caught_up(first, second);
    lab.has_all(first, &ledger);
    lab.has_all(first, &more);
}
