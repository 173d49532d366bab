//! A node alone: what it acknowledged is there after any kill; what it must refuse, it refuses.
//!
//! `UNDERSTUDY_LONG=1` kills it 50 times instead of 5.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, Ledger, PATIENCE, alone, long, text, understudy, until};
use understudy::cli::answers::Cluster;
use understudy::cli::local_cluster::ports::Reservation;
use understudy::cli::local_cluster::{LocalError, Plan};

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

/// Runs `serve` with these flags on free ports; it must end by itself, with status 1 and one line
/// on standard error that says why.
fn refusal(flags: &[&str]) -> String {
    let ports: Vec<Reservation> = (0..3)
        .map(|_| Reservation::take().expect("ports are free"))
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_understudy"));
    command.arg("serve");
    for (flag, port) in ["--client-addr", "--peer-addr", "--http-addr"]
        .iter()
        .zip(&ports)
    {
        // A flag given twice is an error, so those of the test go first.
        if !flags.contains(flag) {
            command.arg(flag).arg(port.address().to_string());
        }
    }
    let mut child = command
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill().expect("it is our child");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let output = child.wait_with_output().expect("its output is ours");
    let said = text(&output.stderr);
    let status = status.unwrap_or_else(|| panic!("{flags:?} was not refused: {said}"));
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {said}");
    said
}

#[test]
fn a_directory_in_use_and_one_of_another_node_are_refused() {
    let (mut lab, node) = Lab::start(alone());
    let dir = lab.data_dir(node).to_string_lossy().into_owned();
    let said = refusal(&["--data-dir", &dir]);
    assert!(said.contains("is in use by another"), "{said}");
    assert!(said.contains(&dir), "{said}");
    let answer: String = redis::cmd("PING")
        .query(&mut lab.connect(node))
        .expect("the node in place is unharmed");
    assert_eq!(answer, "PONG");
    lab.cluster.kill9(node).expect("it runs");
    let said = refusal(&["--data-dir", &dir, "--id", "7"]);
    assert!(said.contains("belongs to node alone 1"), "{said}");
    lab.cluster.start(node).expect("it starts");
    assert_eq!(lab.ready(), node, "being refused changed nothing");
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_string_lossy().into_owned();
    for flag in ["--client-addr", "--peer-addr", "--http-addr"] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = taken.local_addr().expect("it is bound").to_string();
        let said = refusal(&["--data-dir", &dir, flag, &addr]);
        assert!(said.contains(&addr) && said.contains(flag), "{said}");
        assert!(said.contains("in use"), "{said}");
    }
}

#[test]
fn an_unknown_flag_key_or_member_is_named() {
    let said = refusal(&["--data-dri", "x"]);
    assert!(
        said.contains("--data-dri") && said.contains("--data-dir"),
        "{said}"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("node.toml");
    let path = file.to_string_lossy().into_owned();
    let refused = |toml: &str| {
        std::fs::write(&file, toml).expect("it is ours");
        refusal(&["--config", &path])
    };
    let said = refused("[cluster]\nmod = \"sync\"\n");
    assert!(said.contains("unknown key `mod`"), "{said}");
    assert!(said.contains("`mode`") && said.contains("line 2"), "{said}");
    let member = "[[cluster.member]]\nid = 1\npeer_addr = \"127.0.0.1:1\"\n\
                  client_addr = \"127.0.0.1:2\"\n";
    let said = refused(&format!("id = 4\n{member}"));
    assert!(said.contains("node 4 is not a member"), "{said}");
    let bad = member.replace("127.0.0.1:1", "nowhere");
    let said = refused(&format!("id = 1\n{bad}"));
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused_with_file_and_offset() {
    // A small segment: intact records are looked for byte by byte behind the damage.
    let (mut lab, node) = Lab::start(Plan {
        more_toml: "[wal]\nsegment_size = \"256 KiB\"\n".to_owned(),
        ..alone()
    });
    let mut client = lab.connect(node);
    for n in 0..40 {
        let () = redis::cmd("SET")
            .arg(n)
            .arg(format!("needle-{n:03}"))
            .query(&mut client)
            .expect("a write");
    }
    drop(client);
    lab.cluster.kill9(node).expect("it runs");
    let dir = lab.data_dir(node).to_string_lossy().into_owned();
    let verify = |code| {
        let output = understudy(&["wal", "verify", &dir]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        text(&output.stdout)
    };
    verify(0);
    let wal = lab.data_dir(node).join("wal");
    let mut segments: Vec<_> = std::fs::read_dir(wal)
        .expect("it has a log")
        .map(|entry| entry.expect("it is readable").path())
        .collect();
    segments.sort();
    let segment = segments.first().expect("it has a segment");
    let mut bytes = std::fs::read(segment).expect("it is readable");
    let place = bytes
        .windows(10)
        .position(|window| window == b"needle-020")
        .expect("the value is in the log");
    bytes[place + 9] ^= 1;
    std::fs::write(segment, &bytes).expect("it is writable");

    let said = verify(1);
    assert!(said.contains("1 damaged"), "{said}");
    lab.cluster.start(node).expect("it is started");
    let last_words = until("the refusal", || match lab.cluster.notice_deaths() {
        Err(LocalError::Died { last_words, .. }) => Some(last_words),
        _ => None,
    });
    let name = segment.file_name().expect("a file").to_string_lossy();
    assert!(last_words.contains(&*name), "{last_words}");
    let offset = last_words
        .split("damaged at offset ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok())
        .unwrap_or_else(|| panic!("no offset: {last_words}"));
    assert!(
        (place - 100..place).contains(&offset),
        "the record around {place} is meant: {last_words}"
    );
    let after = std::fs::read(segment).expect("it is readable");
    assert!(after == bytes, "what is damaged is left as it was");
}

/// Snapshots of a node, oldest first.
fn snapshots(lab: &mut Lab, node: u32, suffix: &str) -> Vec<PathBuf> {
    let dir = lab.data_dir(node).join("snapshot");
    let files = std::fs::read_dir(dir).expect("it is there").map(|file| {
        let file = file.expect("it is readable");
        file.path()
    });
    let mut found: Vec<PathBuf> = files
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    found
}

fn flip_a_bit_in_the_middle(path: &Path) {
    let mut bytes = std::fs::read(path).expect("it is readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, &bytes).expect("it is writable");
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_one_before_it_and_never_silently() {
    let (mut lab, node) = Lab::start(Plan {
        more_toml: "[wal]\nsegment_size = \"64 KiB\"\nretain = \"128 KiB\"\n".to_owned(),
        ..alone()
    });
    let mut client = lab.connect(node);
    let mut written = 0;
    let mut write = |client: &mut redis::Connection, count: usize| {
        for n in written..written + count {
            let () = redis::cmd("SET")
                .arg(n)
                .arg(format!("{n} ").repeat(200))
                .query(client)
                .expect("a write");
        }
        written += count;
        written
    };
    let made = |lab: &Lab| lab.metric(node, "understudy_snapshots_total");
    for count in 1..=3 {
        write(&mut client, 300);
        until("a snapshot", || {
            made(&lab).filter(|made| *made >= f64::from(count))
        });
    }
    let all = write(&mut client, 10);
    drop(client);
    lab.cluster.kill9(node).expect("it runs");
    let two = snapshots(&mut lab, node, ".snap");
    assert_eq!(two.len(), 2, "the last two are kept");
    flip_a_bit_in_the_middle(&two[1]);
    lab.cluster.start(node).expect("it starts");
    assert_eq!(lab.ready(), node);
    let has_all = |lab: &Lab| {
        let mut client = lab.connect(node);
        for n in 0..all {
            let mut get = redis::cmd("GET");
            let value: Option<String> = get.arg(n).query(&mut client).expect("it answers");
            assert_eq!(value, Some(format!("{n} ").repeat(200)));
        }
    };
    has_all(&lab);
    let aside = snapshots(&mut lab, node, ".bad");
    assert_eq!(aside.len(), 1);
    let said = std::fs::read_to_string(lab.log_file(node)).expect("it has a log");
    assert!(
        said.contains("without the damaged snapshot, which is kept as"),
        "{said}"
    );

    // Without the one before it, too, the beginning of the log is missing.
    lab.cluster.kill9(node).expect("it runs");
    for snapshot in snapshots(&mut lab, node, ".snap") {
        flip_a_bit_in_the_middle(&snapshot);
    }
    let before = snapshots(&mut lab, node, ".snap");
    lab.cluster.start(node).expect("it is started");
    let last_words = until("the refusal", || match lab.cluster.notice_deaths() {
        Err(LocalError::Died { last_words, .. }) => Some(last_words),
        _ => None,
    });
    assert!(
        last_words.contains("damaged (checksum mismatch)"),
        "{last_words}"
    );
    assert!(last_words.contains("LSN 1 to "), "{last_words}");
    let after = snapshots(&mut lab, node, ".snap");
    assert_eq!(after, before, "what is damaged is left as it was");
}

#[test]
fn malformed_requests_close_their_connection_and_no_other() {
    let (lab, node) = Lab::start(alone());
    let mut bystander = lab.connect(node);
    let cases: [(&[u8], &str); 6] = [
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (
            b"*2000000000\r\n",
            "-ERR Protocol error: invalid multibulk length",
        ),
        (
            b"*1\r\n:4\r\n",
            "-ERR Protocol error: expected '$', got ':'",
        ),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (
            b"*1\r\n$99999999999\r\n",
            "-ERR Protocol error: invalid bulk length",
        ),
        (
            b"SET \"a\r\n",
            "-ERR Protocol error: unbalanced quotes in request",
        ),
    ];
    for (bytes, expected) in cases {
        let mut stream = TcpStream::connect(lab.addr(node)).expect("it listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a span above zero");
        // What came before the bad bytes is answered.
        stream.write_all(b"PING\r\n").expect("it reads");
        stream.write_all(bytes).expect("it reads");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .expect("the server closes the connection");
        assert_eq!(text(&answer), format!("+PONG\r\n{expected}\r\n"));
        let () = redis::cmd("SET")
            .arg("k")
            .arg(expected)
            .query(&mut bystander)
            .expect("others go on");
    }
}

/// One was killed forty milliseconds after its first start: it belonged to a cluster that had no rule yet, and
/// never served again.
#[test]
fn who_is_killed_in_its_first_moments_serves_when_it_is_started_again() {
    let of_three = |mode: &str| Plan {
        mode: mode.to_owned(),
        ..Plan::three_data_nodes("first")
    };
    let pair = Plan::pair_with_witness("first");
    for plan in [alone(), alone(), of_three("async"), of_three("sync"), pair] {
        let mut lab = Lab::prepare(plan, |_, text| text);
        lab.cluster.start_all().expect("they start");
        let logs: Vec<_> = lab
            .cluster
            .ids()
            .iter()
            .map(|id| (*id, lab.log_file(*id)))
            .collect();
        let winner = until("a first victory", || {
            let mut won = logs.iter().filter(|(_, log)| {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                text.contains("promoting")
            });
            won.next().map(|(id, _)| *id)
        });
        lab.cluster.kill9(winner).expect("it runs");
        lab.cluster.start(winner).expect("it starts");
        let node = lab.ready();
        let set: String = redis::cmd("SET")
            .arg(&["k", "v"])
            .query(&mut lab.connect(node))
            .expect("a write");
        assert_eq!(set, "OK");
    }
}

fn counts_three(seen: &Cluster) -> bool {
    let rule = seen.rule.as_ref();
    rule.is_some_and(|rule| rule.members.len() == 3)
}

/// The advice was there, and following it ended in another error.
#[test]
fn a_log_without_control_state_is_begun_again_when_a_person_says_so() {
    let (mut lab, first) = Lab::start(Plan::three_data_nodes("orphan"));
    let load = lab.load(2, 10);
    load.more(200);
    let kept = load.stop();
    let cluster = lab.seen_by(first).cluster_id;
    for id in lab.cluster.ids() {
        lab.cluster.kill9(id).expect("it runs");
    }
    let data_dir = lab.data_dir(first);
    for name in ["control.a", "control.b"] {
        std::fs::remove_file(data_dir.join(name)).expect("both copies are written");
    }
    lab.cluster.start(first).expect("it starts");
    let log = lab.log_file(first);
    until("advice", || {
        let text = std::fs::read_to_string(&log).expect("it is ours");
        text.contains("start it with --bootstrap").then_some(())
    });
    lab.cluster.kill9(first).expect("it ended");
    lab.cluster
        .start_with(first, &["--bootstrap"])
        .expect("it starts");
    let report = lab.takeover(first, "its report", |report| report.kind == "forced");
    assert!(!report.loss.bound.exact_zero, "nobody can know");
    lab.has_all(first, &kept);
    // Who kept what the lost control state had promised follows, and counts again.
    lab.cluster.start_all().expect("they start");
    assert_eq!(lab.ready(), first);
    let seen = lab.until_seen(first, "three members", counts_three);
    assert_eq!(seen.cluster_id, cluster);
    lab.cluster.kill9(first).expect("it runs");
    let next = lab.primary_among(&lab.others(&[first]));
    lab.has_all(next, &kept);
}

/// It would have begun in an epoch beyond theirs, and taken back what it had missed.
#[test]
fn a_log_whose_cluster_lives_joins_it_again_whatever_a_person_says() {
    let (mut lab, _) = Lab::start(Plan::three_data_nodes("alive"));
    // Where nothing speaks against it, it begins at once.
    let hasty = 1;
    lab.cluster.kill9(hasty).expect("it runs");
    let primary = lab.primary_among(&lab.others(&[hasty]));
    let load = lab.load(2, 10);
    load.more(200);
    let kept = load.stop();
    let epoch = lab.seen_by(primary).epoch;
    let data_dir = lab.data_dir(hasty);
    for name in ["control.a", "control.b"] {
        std::fs::remove_file(data_dir.join(name)).expect("both copies are written");
    }
    lab.cluster
        .start_with(hasty, &["--bootstrap"])
        .expect("it starts");
    assert_eq!(lab.ready(), primary);
    let seen = lab.until_seen(primary, "three members", counts_three);
    assert_eq!(seen.epoch, epoch, "nobody was deposed");
    lab.has_all(primary, &kept);
}

#[test]
fn a_terminal_that_is_closed_ends_no_node() {
    let (mut lab, node) = Lab::start(alone());
    let process = lab.cluster.process_id(node).expect("it runs");
    let process = rustix::process::Pid::from_raw(process as i32).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("it is ours");
    let log = lab.log_file(node);
    until("a line about it", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("nothing to read again").then_some(())
    });
    let pong: String = redis::cmd("PING")
        .query(&mut lab.connect(node))
        .expect("it answers");
    assert_eq!(pong, "PONG");
}
