//! The process side of a local cluster, with a stand-in binary that only lives and dies: what a
//! node does is tested elsewhere.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use understudy::cli::local_cluster::{Folder, LocalCluster, LocalError, Plan};

/// A shell script in place of the binary. It runs until its standard input ends, as a node does.
fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("node.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it is writable");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn cluster(parent: &Path, script: &str) -> LocalCluster {
    let folder = Folder::create(Some(parent), "test").expect("a folder");
    let binary = stand_in(parent, script);
    LocalCluster::prepare(&binary, Plan::pair_with_witness("t"), folder).expect("free ports")
}

/// `State:` of a process, such as `T` for a stopped one; `None` when it is gone.
fn state_of(pid: &str) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))?;
    line.trim().chars().next()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process number that the stand-in wrote into its log as its first word.
fn pid_of(cluster: &mut LocalCluster, id: u32) -> String {
    let log = cluster.folder().path().join(format!("node-{id}.log"));
    let mut pid = String::new();
    wait_until("the node's first line", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().next_back().filter(|_| text.ends_with('\n'));
        pid = last
            .and_then(|line| line.split(' ').next())
            .unwrap_or_default()
            .to_owned();
        !pid.is_empty()
    });
    pid
}

const LIVE: &str = "echo $$ \"$@\"\nread line";

#[test]
fn nodes_are_started_frozen_thawed_killed_and_restarted_on_the_same_ports() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = cluster(parent.path(), LIVE);
    assert_eq!(cluster.ids(), [1, 2, 3]);
    cluster.start_all().expect("they start");
    let ports = cluster.addresses(2).expect("there is a node 2");
    let pid = pid_of(&mut cluster, 2);
    let log = std::fs::read_to_string(cluster.folder().path().join("node-2.log"));
    let line = log.expect("it was read above");
    assert!(
        line.contains("serve --config") && line.contains("node-2.toml"),
        "{line}"
    );

    cluster.freeze(2).expect("it runs");
    wait_until("the freeze", || state_of(&pid) == Some('T'));
    assert!(
        cluster.is_running(2).expect("it is known"),
        "a frozen node is there"
    );
    cluster.thaw(2).expect("it runs");
    wait_until("the thaw", || state_of(&pid) != Some('T'));

    cluster.kill9(2).expect("it runs");
    assert_eq!(state_of(&pid), None, "killed and waited for");
    assert!(!cluster.is_running(2).expect("it is known"));
    assert!(matches!(
        cluster.freeze(2),
        Err(LocalError::WrongState(2, _))
    ));
    assert!(
        cluster.notice_deaths().is_ok(),
        "a death that was ordered is no news"
    );
    cluster.start(2).expect("it starts again");
    assert_eq!(cluster.addresses(2).expect("known").client, ports.client);
    assert!(matches!(
        cluster.start(2),
        Err(LocalError::WrongState(2, _))
    ));
    assert!(
        cluster.stop(2, Duration::from_secs(5)).expect("it runs"),
        "SIGTERM ends a shell"
    );
}

#[test]
fn dropping_the_cluster_kills_its_processes_frozen_ones_too() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = cluster(parent.path(), LIVE);
    cluster.start_all().expect("they start");
    let pids: Vec<String> = (1..=3).map(|id| pid_of(&mut cluster, id)).collect();
    cluster.freeze(1).expect("it runs");
    let folder = cluster.folder().path().to_owned();
    drop(cluster);
    assert!(pids.iter().all(|pid| state_of(pid).is_none()), "{pids:?}");
    assert!(!folder.exists());
}

#[test]
fn a_node_that_ends_by_itself_is_reported_with_its_last_words() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = cluster(
        parent.path(),
        "echo 'error: port 7379 is taken' >&2\nexit 3",
    );
    cluster.start_all().expect("they start");
    let ready = cluster.wait_ready::<LocalError>(Duration::from_secs(10), || Ok(()));
    let error = ready.expect_err("no node lives");
    assert!(matches!(error, LocalError::Died { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("port 7379 is taken") && text.contains("exit status: 3"),
        "{text}"
    );
}

#[test]
fn waiting_says_what_is_missing_and_can_be_interrupted() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = cluster(parent.path(), LIVE);
    cluster.start_all().expect("they start");
    let ready = cluster.wait_ready::<LocalError>(Duration::from_millis(50), || Ok(()));
    assert!(
        ready
            .expect_err("nobody serves")
            .to_string()
            .contains("no node is primary")
    );
    let stopped = cluster
        .wait_ready(Duration::from_secs(10), || Err(LocalError::NoSuchNode(9)))
        .expect_err("interrupted");
    assert!(matches!(stopped, LocalError::NoSuchNode(9)));
}
