//! `max_lag`: a write that would exceed it waits for the standby, in order, and then fails; and the
//! gauge of what would be lost says so meanwhile.

use std::time::{Duration, Instant};

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, code, until};

fn async_pair(keys: &str) -> (Lab, u32) {
    let plan = Plan {
        mode: "async".to_owned(),
        level: None,
        ..Plan::pair_with_witness("t")
    };
    let (lab, primary) = Lab::start_with(plan, keys);
    // The standby is heard: a budget counts from what it holds.
    until("the standby to be heard", || {
        let lost = lab.seen_by(primary).lost_if_primary_died?;
        (lost.records == 0).then_some(())
    });
    (lab, primary)
}

fn set(client: &mut redis::Connection, key: &str, bytes: usize) -> redis::RedisResult<()> {
    redis::cmd("SET")
        .arg(key)
        .arg(vec![b'x'; bytes])
        .query(client)
}

/// Writes until one is refused for the budget; how many were taken, and when the last was.
fn fill(client: &mut redis::Connection, bytes: usize) -> (u64, Instant) {
    let (mut taken, mut last) = (0, Instant::now());
    loop {
        match set(client, &format!("k{taken}"), bytes) {
            Ok(()) => (taken, last) = (taken + 1, Instant::now()),
            Err(error) => {
                assert_eq!(code(&error), "NOREPLICAS", "{error}");
                return (taken, last);
            }
        }
    }
}

#[test]
fn beyond_a_budget_of_bytes_a_write_waits_for_the_standby() {
    let (mut lab, primary) = async_pair("max_lag = \"1 MiB\"\nwrite_timeout = \"20 s\"");
    let standby = 3 - primary;
    lab.cluster.freeze(standby).expect("it runs");
    let mut client = lab.connect(primary);
    let writer = std::thread::spawn(move || {
        (0..30).try_for_each(|n| set(&mut client, &format!("k{n}"), 100_000))
    });
    // Ten fit, and the gauge says what they are.
    let lost = until("the budget to be used up", || {
        let lost = lab.seen_by(primary).lost_if_primary_died?;
        (lost.records == 10).then_some(lost)
    });
    let bytes = lost.bytes.expect("this reign wrote them");
    assert!((1_000_000..=1 << 20).contains(&bytes), "{lost:?}");
    let at = Instant::now();
    while at.elapsed() < Duration::from_millis(300) {
        let lost = lab.seen_by(primary).lost_if_primary_died;
        assert_eq!(lost.map(|lost| lost.records), Some(10), "none beyond it");
    }
    lab.cluster.thaw(standby).expect("it is frozen");
    let written = writer.join().expect("it does not panic");
    written.expect("what waited was written, and what came behind it");
    until("nothing to lose", || {
        let lost = lab.seen_by(primary).lost_if_primary_died?;
        (lost.records == 0 && lost.bytes == Some(0) && lost.ms == Some(0)).then_some(())
    });
}

#[test]
fn beyond_a_budget_of_time_a_write_fails_when_the_standby_stays_away() {
    let (mut lab, primary) = async_pair("max_lag = \"600 ms\"\nwrite_timeout = \"400 ms\"");
    let standby = 3 - primary;
    let mut client = lab.connect(primary);
    set(&mut client, "first", 10).expect("a write");
    until("nothing to lose", || {
        let lost = lab.seen_by(primary).lost_if_primary_died?;
        (lost.records == 0).then_some(())
    });
    // Gone altogether, and not only silent: what it had received still counts.
    lab.cluster.kill9(standby).expect("it runs");
    let began = Instant::now();
    let (taken, last) = fill(&mut client, 10);
    let span = last.duration_since(began);
    assert!(taken > 0, "the budget was not used");
    assert!(span < Duration::from_millis(900), "written for {span:?}");
    let lost = lab.seen_by(primary).lost_if_primary_died;
    assert_eq!(lost.map(|lost| lost.records), Some(taken));
    let metric = lab.metric(primary, "understudy_lost_if_died_records");
    assert_eq!(metric, Some(taken as f64));
    let info = lab.info(primary, "lost_if_died_records");
    assert_eq!(info, Some(taken.to_string()));
    // Reads go on, and whole pipelines fail as fast as one write: this one takes several reads and turns.
    let first: String = redis::cmd("GET")
        .arg("k0")
        .query(&mut client)
        .expect("a read");
    assert_eq!(first, "xxxxxxxxxx");
    let began = Instant::now();
    let mut pipe = redis::pipe();
    for _ in 0..5000 {
        pipe.cmd("SET").arg("p").arg("x").ignore();
    }
    let error = pipe.query::<()>(&mut client).expect_err("nothing fits");
    let refused = error.to_string().matches("NOREPLICAS").count();
    assert_eq!(refused, 5000, "{error}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "ten times 400 ms: {took:?}");
    lab.cluster.start(standby).expect("it starts");
    until("writes to go on", || set(&mut client, "again", 10).ok());
    assert!(lab.seen_by(standby).lost_if_primary_died.is_none());
    assert_eq!(lab.metric(standby, "understudy_lost_if_died_records"), None);
}
