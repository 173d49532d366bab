//! `wal verify` finds damage in every kind of file that a node keeps, says what to do, changes
//! nothing, and takes nothing for damage that a running node is writing.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;
use understudy::cli::local_cluster::Plan;
use understudy::keyspace::{Effect, Effects};
use understudy::units::{Epoch, Lsn, Millis};
use understudy::wal::{ChainPoint, ControlFile, Kind, Log, LogConfig, RealDisk, SnapshotStore};

use common::{Lab, PATIENCE, text, understudy};

fn set(n: u64) -> Vec<u8> {
    let (key, value) = (format!("key:{n}"), format!("needle-{n:04}"));
    let mut effects = Effects::new();
    effects.push(Effect::Set {
        key: key.as_bytes(),
        value: value.as_bytes(),
        expire_at: None,
    });
    effects.encoded().to_vec()
}

/// A node's directory: 60 records in a few segments, a snapshot, control state, records 51 to 60
/// given up (and written again).
fn directory() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (disk, dir) = (Arc::new(RealDisk), folder.path());
    let (mut control, _) = ControlFile::load(disk.clone(), dir).expect("it is empty");
    control.store(b"{}").expect("it is written");
    let config = LogConfig {
        segment_bytes: 1500,
        ..LogConfig::default()
    };
    let nothing = Arc::new(|_: &understudy::wal::Progress| {});
    let opened = Log::open_stepped(
        disk.clone(),
        dir,
        config,
        7,
        ChainPoint::default(),
        nothing,
        Arc::new(|| Duration::ZERO),
    );
    let log = opened.expect("it is empty").log;
    let write = |from: u64, to: u64, epoch: u64| {
        for n in from..=to {
            log.append(Epoch(epoch), Millis(1000 + n), Kind::Effects, &set(n))
                .expect("it is open");
            while log.step().did_something() {}
        }
    };
    write(1, 60, 1);
    log.save_discarded(Lsn(50))
        .expect("it is saved")
        .expect("there is something");
    log.truncate_after(Lsn(50)).expect("it is taken back");
    write(51, 60, 2);
    log.close();
    let begin = log.chain_at(Lsn(40)).expect("it is kept");
    let store = SnapshotStore::open(disk, dir).expect("it is made");
    let mut writer = store.create(7, begin).expect("it is made");
    for n in 1..=40 {
        writer.block(&set(n), 1).expect("it is written");
    }
    writer.finish(Lsn(41)).expect("it is whole");
    std::fs::write(dir.join("snapshot").join("50.tmp"), b"unfinished").expect("it is ours");
    folder
}

fn verify(path: &Path, more: &[&str]) -> Output {
    let path = path.display().to_string();
    understudy(&[&["wal", "verify", &path][..], more].concat())
}

/// Every file below: its content and when it was changed.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("it is ours") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            all.extend(everything(&path));
        } else {
            let changed = path.metadata().and_then(|data| data.modified());
            let content = std::fs::read(&path).expect("it is readable");
            all.insert(path, (content, changed.expect("it has a time")));
        }
    }
    all
}

/// What is unfinished, and the next segment's spare room, hold nothing.
fn counts(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension != "tmp")
}

fn last_line(output: &Output) -> String {
    assert!(
        output.stderr.is_empty(),
        "no bar where there is no terminal: {output:?}"
    );
    let said = text(&output.stdout);
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn an_intact_directory_is_intact_and_stays_as_it_is() {
    let folder = directory();
    let dir = folder.path();
    let before = everything(dir);
    let output = verify(dir, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    let judged = before.keys().filter(|path| counts(path)).count();
    assert_eq!(said.lines().count(), judged + 1, "{said}");
    assert!(
        said.contains("control.a: control state, generation 1, "),
        "{said}"
    );
    assert!(
        said.contains(".snap: snapshot, LSN 40 to 41, 40 keys, "),
        "{said}"
    );
    assert!(
        said.contains("1-51-60.wal: discarded records, LSN 51 to 60, "),
        "{said}"
    );
    assert!(!said.contains("50.tmp"), "{said}");
    let last = last_line(&output);
    assert!(last.starts_with(&format!("{judged} files, ")), "{last}");
    assert!(
        last.ends_with(" s, 60 records in the log: nothing is damaged"),
        "{last}"
    );
    let json = verify(dir, &["--json"]);
    assert!(json.stderr.is_empty());
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON alone");
    assert_eq!(json["schema"], "understudy.wal.verify/1");
    assert_eq!(json["damaged_files"], 0);
    assert_eq!(json["records"], 60);
    assert_eq!(json["files"].as_array().map(Vec::len), Some(judged));
    assert_eq!(everything(dir), before, "nothing may be changed");
}

/// Turns a bit in each file in turn: in the header, in the middle, at the end of what is used.
#[test]
fn damage_in_any_file_is_found_and_advised_upon() {
    let folder = directory();
    let dir = folder.path();
    let files: Vec<PathBuf> = everything(dir)
        .into_keys()
        .filter(|path| counts(path))
        .collect();
    let mut segments = files
        .iter()
        .filter(|path| path.parent() == Some(&dir.join("wal")));
    let last = segments.next_back().expect("it has segments").clone();
    let mut seen = 0;
    for path in &files {
        let good = std::fs::read(path).expect("it is ours");
        let used = good
            .iter()
            .rposition(|byte| *byte != 0)
            .expect("it has content");
        let middle = good.windows(7).position(|window| window == b"needle-");
        for at in [0, 20, middle.unwrap_or(good.len() / 2), used] {
            // The very end of the log cannot be told from what a crash leaves.
            if *path == last && at == used {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(path, &bad).expect("it is ours");
            let before = everything(dir);
            let output = verify(dir, &[]);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{} at {at}: {output:?}",
                path.display()
            );
            let said = text(&output.stdout);
            let damaged: Vec<&str> = said
                .lines()
                .filter(|line| line.contains(": DAMAGED: "))
                .collect();
            assert_eq!(damaged.len(), 1, "{} at {at}: {said}", path.display());
            assert!(
                damaged[0].starts_with(&path.display().to_string()),
                "{said}"
            );
            let advice = match path
                .parent()
                .and_then(Path::file_name)
                .and_then(|n| n.to_str())
            {
                Some("wal") => "with other data nodes, just start the node, it mends its log",
                Some("snapshot") => "it takes the one before, or the log",
                Some("discarded") => "`understudy discarded show FILE`",
                _ => "the next start writes the other again",
            };
            let last = last_line(&output);
            assert!(last.contains(": 1 damaged file. What to do: "), "{last}");
            assert!(last.contains(advice), "{last}");
            // Alone, a segment may be the last one, and its end what a crash leaves.
            let torn = path.parent() == Some(&dir.join("wal")) && at == used;
            let code = verify(path, &[]).status.code();
            assert_eq!(code, Some(i32::from(!torn)), "{} alone", path.display());
            assert_eq!(everything(dir), before, "nothing may be changed");
            seen += 1;
        }
        std::fs::write(path, &good).expect("it is ours");
        assert_eq!(
            verify(path, &[]).status.code(),
            Some(0),
            "{} alone",
            path.display()
        );
    }
    assert!(seen >= 20, "{seen} cases");
}

#[test]
fn a_control_file_that_is_missing_is_found() {
    let folder = directory();
    std::fs::remove_file(folder.path().join("control.b")).expect("it is ours");
    let output = verify(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    let wanted = "control.b: control state, 0 bytes: DAMAGED: it is missing";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_segment_that_is_missing_is_found() {
    let folder = directory();
    let files = everything(folder.path());
    let wal = folder.path().join("wal");
    let segments: Vec<&PathBuf> = files.keys().filter(|path| path.starts_with(&wal)).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    let second = std::fs::read(segments[1]).expect("it is ours");
    std::fs::remove_file(segments[1]).expect("it is ours");
    let said = text(&verify(folder.path(), &[]).stdout);
    assert!(said.contains("a segment is missing"), "{said}");
    assert!(said.contains("1 damaged file"), "{said}");
    // The first may go: a snapshot stands for it. Without, it is missing.
    std::fs::write(segments[1], second).expect("it is ours");
    std::fs::remove_file(segments[0]).expect("it is ours");
    let output = verify(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::fs::remove_dir_all(folder.path().join("snapshot")).expect("it is ours");
    let output = verify(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    assert!(
        said.contains("are missing before it, and in no snapshot"),
        "{said}"
    );
}

#[test]
fn a_place_without_a_log_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = verify(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let wanted = format!(
        "error: {} holds no log: name a data directory or a file of one\n",
        folder.path().display()
    );
    assert_eq!(text(&output.stderr), wanted);
    let output = verify(Path::new("/no/such/place"), &[]);
    assert_eq!(output.status.code(), Some(1));
}

/// A node that writes, makes snapshots and removes segments meanwhile.
#[test]
fn a_running_node_is_never_taken_for_damaged() {
    let plan = Plan {
        more_toml: "[wal]\nsegment_size = \"256 KiB\"\nretain = \"1 MiB\"\n".to_owned(),
        data_nodes: 1,
        ..Plan::three_data_nodes("t")
    };
    let (mut lab, node) = Lab::start(plan);
    let dir = lab.data_dir(node);
    let load = lab.load(4, 16);
    let mut client = lab.connect(node);
    let value = vec![b'x'; 20_000];
    let mut outputs = Vec::new();
    let mut round = 0;
    let moved_on = |outputs: &[Output]| {
        let said = outputs.last().map(|output| text(&output.stdout));
        said.is_some_and(|said| {
            said.contains(": snapshot, ") && !said.contains("/00000000000000000001.wal")
        })
    };
    let began = std::time::Instant::now();
    while round < 20 || !moved_on(&outputs) {
        assert!(
            began.elapsed() < PATIENCE,
            "no snapshot let old segments go"
        );
        round += 1;
        let mut verify = Command::new(env!("CARGO_BIN_EXE_understudy"));
        verify.args(["wal", "verify"]).arg(&dir);
        verify.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut verify = verify.spawn().expect("the binary runs");
        for n in 0.. {
            let () = redis::cmd("SET")
                .arg(format!("large:{}", (round * 7 + n) % 50))
                .arg(&value)
                .query(&mut client)
                .expect("it takes writes");
            if verify.try_wait().expect("it is ours").is_some() {
                break;
            }
        }
        outputs.push(verify.wait_with_output().expect("it ends"));
    }
    for output in outputs {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    load.stop();
}
