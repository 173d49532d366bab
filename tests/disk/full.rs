//! tmpfs full under load: clear errors, reads served, everything goes on when there is room, nothing
//! acknowledged is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, Ledger, code, text, understudy, until};

/// Set in the run inside a mount namespace.
const INSIDE: &str = "UNDERSTUDY_TEST_OWN_MOUNTS";

/// Runs this test once more where it may mount; whether this is that run.
fn may_mount(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]);
        command
    };
    let tried = unshare()
        .args(["sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"])
        .stdin(Stdio::null())
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: no tmpfs can be mounted here (root and unshare are needed): {test}");
        return false;
    }
    let this = std::env::current_exe().expect("this test's binary");
    let status = unshare()
        .arg(this)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("unshare runs").success(), "{test} failed");
    false
}

fn mount(dir: &Path, options: &str) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(dir)
        .output()
        .expect("mount runs");
    assert!(mounted.status.success(), "{}", text(&mounted.stderr));
}

/// The file system under this directory gets another size, in KiB.
fn resize(dir: &Path, kib: u64) {
    mount(dir, &format!("remount,size={kib}k"));
}

/// KiB that the file system under this directory has taken.
fn used_kib(dir: &Path) -> u64 {
    let found = Command::new("df")
        .args(["--output=used", "-k"])
        .arg(dir)
        .output()
        .expect("df runs");
    let said = text(&found.stdout);
    let number = said
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok());
    number.unwrap_or_else(|| panic!("df said {said}"))
}

const SEGMENTS: &str = "[wal]\nsegment_size = \"1 MiB\"\n";

/// File systems of the nodes; unmounted before the folder they lie in is removed.
struct Mounts(Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for dir in &self.0 {
            // At once, although a process may still use it.
            let _ = Command::new("umount").arg("-l").arg(dir).output();
        }
    }
}

fn lab_on_tmpfs(plan: Plan, mib: u64) -> (Lab, u32, Mounts) {
    let plan = Plan {
        more_toml: SEGMENTS.to_owned(),
        ..plan
    };
    let mut lab = Lab::prepare(plan, |_, text| text);
    let mut mounts = Mounts(Vec::new());
    for id in lab.cluster.ids() {
        let dir = lab.data_dir(id);
        mount(&dir, &format!("size={mib}m"));
        mounts.0.push(dir);
    }
    lab.cluster.start_all().expect("they start");
    let primary = lab.ready();
    (lab, primary, mounts)
}

fn set(client: &mut redis::Connection, key: &str) -> redis::RedisResult<()> {
    let mut set = redis::cmd("SET");
    set.arg(key).arg(vec![b'x'; 20_000]).query(client)
}

/// Writes at this node until it refuses; what was acknowledged, and the refusal.
fn fill(lab: &Lab, node: u32, prefix: &str) -> (Vec<String>, redis::RedisError) {
    let mut client = lab.connect(node);
    let mut acked = Vec::new();
    for n in 0..10_000 {
        let key = format!("{prefix}:{n}");
        match set(&mut client, &key) {
            Ok(()) => acked.push(key),
            Err(error) => return (acked, error),
        }
    }
    panic!("200 MB had room");
}

fn holds_all(lab: &Lab, node: u32, keys: &[String]) {
    let mut client = lab.connect(node);
    for key in keys {
        let there: bool = redis::cmd("EXISTS")
            .arg(key)
            .query(&mut client)
            .expect("reads are served");
        assert!(there, "node {node} lacks {key}, which it acknowledged");
    }
}

fn only_these(ledger: &Ledger, codes: &[&str]) {
    let mut found = ledger.errors.keys();
    let other = found.find(|code| !codes.contains(&code.as_str()));
    assert_eq!(other, None, "{:?}", ledger.errors);
}

/// What a full primary that nobody can follow says, at once, and what it serves.
fn says_full(lab: &Lab, node: u32, acked: &[String]) {
    let mut client = lab.connect(node);
    let began = Instant::now();
    let refused = set(&mut client, "late").expect_err("there is no room");
    assert!(began.elapsed() < Duration::from_secs(1), "not at once");
    assert_eq!(code(&refused), "MISCONF", "{refused}");
    let said = refused.to_string();
    for word in ["full", "nothing was written", "data_dir"] {
        assert!(said.contains(word), "{said}");
    }
    // A pipeline: reads behind a refused write are answered.
    let answers = redis::pipe()
        .cmd("EXISTS")
        .arg(&acked[0])
        .cmd("EXISTS")
        .arg("late")
        .query::<(bool, bool)>(&mut client);
    assert_eq!(
        answers.expect("reads"),
        (true, false),
        "nothing was written"
    );
    lab.until_seen(node, "a full disk", |seen| {
        let full = seen.disk.as_ref().is_some_and(|disk| disk.full);
        full && seen.notes.iter().any(|note| note.contains("is full"))
    });
    assert_eq!(lab.metric(node, "understudy_disk_full"), Some(1.0));
    let said = understudy(&["status", "--addr", &lab.http_addr(node)]);
    assert!(text(&said.stdout).contains("DISK FULL"), "{said:?}");
}

#[test]
fn a_single_node_serves_reads_while_it_is_full_and_goes_on_by_itself() {
    if !may_mount("full::a_single_node_serves_reads_while_it_is_full_and_goes_on_by_itself") {
        return;
    }
    let plan = Plan {
        data_nodes: 1,
        ..Plan::three_data_nodes("alone")
    };
    let (mut lab, node, _mounts) = lab_on_tmpfs(plan, 16);
    let dir = lab.data_dir(node);
    let mut acked = Vec::new();
    let mut room = 16 << 10;
    for round in 0..3 {
        let load = lab.load(3, 1);
        load.more(50);
        let (taken, refused) = fill(&lab, node, &format!("r{round}"));
        assert_eq!(code(&refused), "MISCONF", "{refused}");
        assert!(!taken.is_empty());
        acked.extend(taken);
        says_full(&lab, node, &acked);
        holds_all(&lab, node, &acked);
        if round == 1 {
            // A start on a full disk serves what is there.
            lab.cluster.kill9(node).expect("it runs");
            lab.cluster.start(node).expect("it starts");
            assert_eq!(lab.ready(), node);
            says_full(&lab, node, &acked);
            holds_all(&lab, node, &acked);
        }
        let ledger = {
            room += 8 << 10;
            resize(&dir, room);
            load.more(50);
            load.stop()
        };
        // The start in between: nobody is primary for a moment.
        only_these(&ledger, &["MISCONF", "MASTERDOWN", "CLUSTERDOWN", "io"]);
        lab.has_all(node, &ledger);
        lab.until_seen(node, "room", |seen| {
            seen.disk
                .as_ref()
                .is_some_and(|disk| !disk.full && disk.reserve)
        });
        assert_eq!(lab.metric(node, "understudy_disk_full"), Some(0.0));
    }
    lab.cluster.kill9(node).expect("it runs");
    lab.cluster.start(node).expect("it starts");
    assert_eq!(lab.ready(), node);
    holds_all(&lab, node, &acked);
    println!("{} large writes acknowledged, none lost", acked.len());
}

/// The primary's disk fills first: it hands over, and is a standby that waits. Then the other one's,
/// too: it stays, for there is nobody to hand over to.
#[test]
fn a_full_primary_hands_over_and_a_full_standby_waits() {
    if !may_mount("full::a_full_primary_hands_over_and_a_full_standby_waits") {
        return;
    }
    let (mut lab, first, _mounts) = lab_on_tmpfs(Plan::pair_with_witness("t"), 40);
    let second = 3 - first;
    let (first_dir, second_dir) = (lab.data_dir(first), lab.data_dir(second));
    let load = lab.load(3, 1);
    load.more(50);
    // Less than half a segment: the next one finds no room.
    resize(&first_dir, used_kib(&first_dir) + 400);
    let mut acked = Vec::new();
    for n in 0.. {
        let mut client = lab.connect(first);
        let key = format!("first:{n}");
        if set(&mut client, &key).is_err() {
            break;
        }
        acked.push(key);
        assert!(n < 500, "a full primary never handed over");
    }
    let reigns = |lab: &Lab| lab.primary_among(&[second]);
    assert_eq!(reigns(&lab), second);
    holds_all(&lab, second, &acked);
    load.more(200);
    // Its standby has no room: it says so, and does not stand.
    let (taken, refused) = fill(&lab, second, "second");
    assert_eq!(code(&refused), "MISCONF", "{refused}");
    assert!(taken.len() > 100, "{} went in", taken.len());
    acked.extend(taken);
    lab.until_seen(first, "a full standby", |seen| {
        seen.disk.as_ref().is_some_and(|disk| disk.full)
    });
    lab.until_seen(second, "an unfit standby", |seen| {
        seen.member(first)
            .is_some_and(|there| there.fit == Some(false))
    });
    assert_eq!(reigns(&lab), second, "there is nobody to hand over to");
    says_full(&lab, second, &acked);
    holds_all(&lab, second, &acked);
    resize(&second_dir, 80 << 10);
    load.more(200);
    assert_eq!(reigns(&lab), second);
    resize(&first_dir, 80 << 10);
    lab.until_seen(second, "a standby that has room", |seen| {
        let there = seen.member(first);
        there.is_some_and(|there| there.fit == Some(true) && there.state == "streaming")
    });
    load.more(50);
    let ledger = load.stop();
    only_these(
        &ledger,
        &["MISCONF", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "io"],
    );
    lab.caught_up(first, second);
    for node in [first, second] {
        lab.has_all(node, &ledger);
        holds_all(&lab, node, &acked);
    }
    lab.cluster.kill9(second).expect("it runs");
    assert_eq!(lab.primary_among(&[first]), first, "it takes over again");
    until("a write to the first", || {
        set(&mut lab.connect(first), "again").ok()
    });
    lab.has_all(first, &ledger);
    holds_all(&lab, first, &acked);
    println!(
        "{} large and {} small writes, none lost",
        acked.len(),
        ledger.acked.len()
    );
}
