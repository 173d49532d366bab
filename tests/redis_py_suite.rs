//! redis-py's own tests, unmodified, against a node that runs, over RESP2 and RESP3. What is not to pass
//! stands in `tests/stock_clients/redis_py_excluded.txt`, each line with its reason, and has to fail
//! (`UNDERSTUDY_LONG=1`; without it, it is left out).
//! `tests/stock_clients/install.sh` installs them; where they are not there they are skipped, said loudly.

mod common;

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::Lab;
use rustix::process::{Pid, Signal, kill_process_group};
use understudy::cli::local_cluster::Plan;

/// For all tests together, on a machine that does much else. Each has 30 seconds.
const LONGEST: Duration = Duration::from_secs(540);

/// A process and all that it starts; killed where it outlives its test.
struct Suite(Child);

impl Drop for Suite {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait()
            && let Some(group) = Pid::from_raw(self.0.id() as i32)
        {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.0.wait().ok();
    }
}

/// The number before this word in pytest's last line, such as `3 failed, 680 passed in 61.20s`.
fn count(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().filter(|before| *before != line);
    let number = before.and_then(|before| before.split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// `half` is the script's word for it; fewer than `fewest` would mean that most were not found.
fn passes(protocol: &str, half: &str, fewest: u32) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join("target/stock_clients/installed").exists() {
        eprintln!("SKIPPED: tests/stock_clients/install.sh has not run; redis-py's tests did not");
        return;
    }
    let alone = Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("suite")
    };
    let (lab, node) = Lab::start(alone);
    let child = Command::new(root.join("tests/stock_clients/redis_py_suite.sh"))
        .args([&lab.addr(node).to_string(), protocol, half])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut suite = Suite(child.expect("it runs"));
    let mut output = suite.0.stdout.take().expect("it is piped");
    let (ended, end) = mpsc::channel();
    // Ends with the processes.
    std::thread::spawn(move || {
        let mut said = Vec::new();
        output.read_to_end(&mut said).ok();
        ended.send(common::text(&said)).ok();
    });
    let said = end.recv_timeout(LONGEST);
    let said = said.unwrap_or_else(|_| panic!("redis-py's tests took longer than {LONGEST:?}"));
    let status = suite.0.wait().expect("it is ours");
    assert!(status.success(), "RESP{protocol}, {half}:\n{said}");
    let reasons = said.lines().filter(|line| line.starts_with("excluded "));
    for reason in reasons {
        println!("RESP{protocol}, {half}: {reason}");
    }
    let last = said.lines().rfind(|line| line.contains(" passed"));
    let last = last.expect("pytest says how many passed");
    println!("RESP{protocol}, {half}: {last}");
    assert!(count(last, " passed") >= fewest, "{last}");
}

#[test]
fn redis_py_passes_its_tests_of_commands_over_resp2() {
    passes("2", "commands", 200);
}

#[test]
fn redis_py_passes_its_tests_of_commands_over_resp3() {
    passes("3", "commands", 200);
}

#[test]
fn redis_py_passes_its_other_tests_over_resp2() {
    passes("2", "others", 350);
}

#[test]
fn redis_py_passes_its_other_tests_over_resp3() {
    passes("3", "others", 350);
}
