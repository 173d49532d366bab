//! EIO on the n-th fdatasync of a live primary: nothing is acknowledged after it, a standby takes
//! over, nothing acknowledged is lost.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, until};

/// `strace`, as long as it lives. It ends with its tracee, too.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        // Killed, it leaves its tracee running.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// From now on the `nth` fdatasync of each thread of this process fails, once.
fn fail_sync(process: u32, nth: u32) -> Option<Tracer> {
    let mut child = Command::new("strace")
        .args(["-f", "-e", "trace=fdatasync", "-e"])
        .arg(format!("inject=fdatasync:error=EIO:when={nth}"))
        .args(["-p", &process.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut said = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).ok()?;
    let tracer = Tracer(child);
    if !line.contains("attached") {
        eprintln!("strace said: {line}");
        return None;
    }
    // Read to its end, so that it never waits for a reader.
    std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
    Some(tracer)
}

fn eio_on_the_nth_sync(plan: Plan, nth: u32) {
    let (mut lab, first) = Lab::start(plan);
    let load = lab.load(4, 1);
    load.more(100);
    let process = lab.cluster.process_id(first).expect("it runs");
    let Some(tracer) = fail_sync(process, nth) else {
        eprintln!("SKIPPED: strace is not installed or may not trace: no failing sync was tested");
        return;
    };
    let others = lab.others(&[first]);
    let second = lab.primary_among(&others);
    // It says why, and nothing moves there any more: one sync that fails is the last.
    let log = lab.log_file(first);
    until("the failure in its log", || {
        let said = std::fs::read_to_string(&log).ok()?;
        let mut lines = said.lines();
        let failed = "nothing is acknowledged any more";
        lines
            .any(|line| line.contains("stepping down") && line.contains(failed))
            .then_some(())
    });
    let synced = |lab: &Lab| {
        let seen = lab.seen_by(first);
        let own = seen.member(first).expect("it is a member");
        assert_eq!(own.fit, Some(false), "it does not stand");
        own.synced_lsn
    };
    let before = synced(&lab);
    load.more(200);
    assert_eq!(synced(&lab), before, "a later sync counted");
    assert!(!lab.says_primary(first));
    drop(tracer);
    lab.cluster.kill9(first).expect("it runs");
    lab.cluster.start(first).expect("it starts");
    assert_eq!(lab.ready(), second);
    load.more(50);
    let ledger = load.stop();
    lab.has_all(second, &ledger);
    lab.caught_up(first, second);
    lab.has_all(first, &ledger);
    println!("sync {nth}: {} acknowledged, none lost", ledger.acked.len());
}

#[test]
fn eio_on_a_sync_of_a_live_primary_three_data_nodes() {
    for nth in [1, 7] {
        eio_on_the_nth_sync(Plan::three_data_nodes("t"), nth);
    }
}

#[test]
fn eio_on_a_sync_of_a_live_primary_pair_with_witness() {
    for nth in [2, 40] {
        eio_on_the_nth_sync(Plan::pair_with_witness("t"), nth);
    }
}
