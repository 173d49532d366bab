//! `wal verify`: every file that a node keeps, and what it is worth.
//!
//! A running node goes on writing meanwhile. What it is writing is not taken for damage: the last
//! segment is read again before it is called damaged, and a file that the node removed is left out.

mod check;
mod files;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::check::{control, discarded, length, segment, snapshot};
use self::files::{Files, snapshots_of};
use crate::cli::text::{count, size, thousands};
use crate::units::Lsn;
use crate::wal::{ChainPoint, segment_first};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Control,
    Segment,
    Snapshot,
    Discarded,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Control => "control state",
            What::Segment => "log",
            What::Snapshot => "snapshot",
            What::Discarded => "discarded records",
        }
    }

    /// What to do where one of these is damaged.
    fn advice(self) -> &'static str {
        match self {
            What::Control => {
                "control state: one good copy does, the next start writes the other again; without \
                 any, move the directory away and let the node take a copy from its primary (if it \
                 is the only copy: serve --bootstrap)"
            }
            What::Segment => {
                "log: with other data nodes, just start the node, it mends its log from them; \
                 alone, the records exist nowhere else: put the file back from a backup, or move \
                 the directory away and begin anew from what backup there is"
            }
            What::Snapshot => {
                "snapshot: just start the node, it takes the one before, or the log, where these \
                 reach; where it says that they do not, move the directory away and let it take a \
                 copy from its primary, or put the file back from a backup"
            }
            What::Discarded => {
                "discarded records: no node needs them to run; `understudy discarded show FILE` \
                 prints those before the damage"
            }
        }
    }
}

/// What a file is worth.
#[derive(Debug)]
struct Checked {
    path: PathBuf,
    what: What,
    /// What it holds, as far as it is good.
    holds: String,
    /// First and last LSN.
    range: Option<(Lsn, Lsn)>,
    records: u64,
    /// Length of the file.
    bytes: u64,
    problem: Option<String>,
    /// The problem is none for the node: what a crash leaves, or is being written.
    harmless: bool,
}

impl Checked {
    fn new(path: &Path, what: What, bytes: u64) -> Checked {
        Checked {
            path: path.to_path_buf(),
            what,
            holds: String::new(),
            range: None,
            records: 0,
            bytes,
            problem: None,
            harmless: false,
        }
    }

    fn damaged(&self) -> bool {
        self.problem.is_some() && !self.harmless
    }

    fn document(&self) -> Value {
        json!({
            "path": self.path.display().to_string(),
            "kind": self.what.name(),
            "holds": self.holds,
            "first_lsn": self.range.map(|(first, _)| first.0),
            "last_lsn": self.range.map(|(_, last)| last.0),
            "records": self.records,
            "bytes": self.bytes,
            "problem": self.problem,
            "damaged": self.damaged(),
        })
    }

    fn line(&self) -> String {
        let worth = match &self.problem {
            None => "intact".to_owned(),
            Some(problem) if self.harmless => format!("intact; {problem}"),
            Some(problem) => format!("DAMAGED: {problem}"),
        };
        let holds = if self.holds.is_empty() {
            String::new()
        } else {
            format!("{}, ", self.holds)
        };
        let (path, what) = (self.path.display(), self.what.name());
        format!(
            "{path}: {what}, {holds}{} bytes: {worth}",
            thousands(self.bytes)
        )
    }
}

/// A bar on a terminal, nothing elsewhere.
fn bar(bytes: u64, as_json: bool) -> anyhow::Result<ProgressBar> {
    if as_json {
        return Ok(ProgressBar::hidden());
    }
    let bar = ProgressBar::new(bytes);
    let shows = "{bar:32} {percent:>3} %  {binary_bytes_per_sec}  {eta} left  {wide_msg}";
    bar.set_style(ProgressStyle::with_template(shows)?);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

pub(in crate::cli) fn run(path: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let files = Files::at(path)?;
    let bar = bar(files.all().map(|path| length(path)).sum(), as_json)?;
    let mut checks = Checks {
        bar,
        passed: 0,
        done: Vec::new(),
    };
    checks.all(&files)?;
    checks.bar.finish_and_clear();
    let summary = Summary::of(&checks.done, began.elapsed());
    if as_json {
        let files: Vec<Value> = checks.done.iter().map(Checked::document).collect();
        let mut document = summary.document();
        document["files"] = files.into();
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        for checked in &checks.done {
            anstream::println!("{}", checked.line());
        }
        anstream::println!("{}", summary.line());
    }
    Ok(if summary.damaged == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was checked so far.
struct Checks {
    bar: ProgressBar,
    /// Bytes of the files that are done.
    passed: u64,
    done: Vec<Checked>,
}

impl Checks {
    fn all(&mut self, files: &Files) -> anyhow::Result<()> {
        for path in &files.control {
            self.one(path, What::Control, |_, _| control(path))?;
        }
        let mut before: Option<(&Path, ChainPoint)> = None;
        for (place, path) in files.segments.iter().enumerate() {
            let sealed = place + 1 < files.segments.len();
            // A running node removes the oldest first: where the one before is gone by now, those
            // between may be, too.
            let still = before.filter(|(path, _)| path.exists());
            let follows = still.map(|(_, end)| end);
            self.one(path, What::Segment, |bar, passed| {
                let (checked, end) = segment(path, follows, sealed, bar, passed)?;
                // Behind damage nothing says where the next one should begin.
                before = (!checked.damaged()).then_some((path, end));
                Ok(checked)
            })?;
        }
        self.snapshots(files)?;
        for path in &files.discarded {
            self.one(path, What::Discarded, |bar, passed| {
                discarded(path, bar, passed)
            })?;
        }
        if files.whole.is_some() {
            self.reaches_back();
        }
        Ok(())
    }

    /// Listed behind the log, and until none went away meanwhile: a running node makes a snapshot, and
    /// then removes what it makes needless, segments and older ones. (It was once listed before the log:
    /// the first snapshot came in between, and segments that it had let go were called missing.)
    fn snapshots(&mut self, files: &Files) -> anyhow::Result<()> {
        let mut due = files.snapshots.clone();
        let mut all_there = false;
        loop {
            if let Some(dir) = files.whole.as_ref().filter(|_| !all_there) {
                due = snapshots_of(dir).with_context(|| dir.display().to_string())?;
                due.retain(|path| self.done.iter().all(|checked| checked.path != *path));
            }
            if due.is_empty() {
                return Ok(());
            }
            all_there = true;
            for path in std::mem::take(&mut due) {
                all_there &= self.one(&path, What::Snapshot, |bar, passed| {
                    snapshot(&path, bar, passed)
                })?;
            }
        }
    }

    /// The log must begin where a snapshot ends its part, or at LSN 1.
    fn reaches_back(&mut self) {
        let good = self.done.iter().filter(|checked| checked.problem.is_none());
        let snapshots = good.filter(|checked| checked.what == What::Snapshot);
        let begins = snapshots.filter_map(|checked| Some(checked.range?.0)).max();
        let due = begins.unwrap_or(Lsn::ZERO).next();
        let mut log = self.done.iter_mut();
        let Some(oldest) = log.find(|checked| checked.what == What::Segment) else {
            return;
        };
        let first = segment_first(&oldest.path).filter(|first| *first > due);
        if let Some(first) = first.filter(|_| !oldest.damaged()) {
            let upto = first.previous();
            let missing = format!("LSN {due} to {upto} are missing before it, and in no snapshot");
            (oldest.problem, oldest.harmless) = (Some(missing), false);
        }
    }

    /// Checks one file; whether it was there.
    fn one(
        &mut self,
        path: &Path,
        what: What,
        check: impl FnOnce(&ProgressBar, u64) -> std::io::Result<Checked>,
    ) -> anyhow::Result<bool> {
        self.bar.set_message(path.display().to_string());
        match check(&self.bar, self.passed) {
            Ok(checked) => {
                self.passed += checked.bytes;
                self.done.push(checked);
            }
            // A running node removed it: what replaces it is checked instead.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(error).with_context(|| path.display().to_string());
            }
            // A bad sector: the rest can still be looked at.
            Err(error) => {
                let mut checked = Checked::new(path, what, length(path));
                checked.problem = Some(format!("it cannot be read: {error}"));
                self.passed += checked.bytes;
                self.done.push(checked);
            }
        }
        self.bar.set_position(self.passed);
        Ok(true)
    }
}

/// All files together.
struct Summary {
    files: u64,
    bytes: u64,
    records: u64,
    damaged: u64,
    took: Duration,
    advice: Vec<&'static str>,
}

impl Summary {
    fn of(checked: &[Checked], took: Duration) -> Summary {
        let damaged = || checked.iter().filter(|checked| checked.damaged());
        let mut kinds: Vec<What> = damaged().map(|checked| checked.what).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let log = checked
            .iter()
            .filter(|checked| checked.what == What::Segment);
        Summary {
            files: checked.len() as u64,
            bytes: checked.iter().map(|checked| checked.bytes).sum(),
            records: log.map(|checked| checked.records).sum(),
            damaged: damaged().count() as u64,
            took,
            advice: kinds.into_iter().map(What::advice).collect(),
        }
    }

    fn line(&self) -> String {
        let (files, records) = (count(self.files, "file"), count(self.records, "record"));
        let took = self.took.as_secs_f64();
        let sum = format!(
            "{files}, {} in {took:.1} s, {records} in the log",
            size(self.bytes)
        );
        if self.damaged == 0 {
            return format!("{sum}: nothing is damaged");
        }
        let damaged = count(self.damaged, "damaged file");
        format!("{sum}: {damaged}. What to do: {}", self.advice.join(". "))
    }

    fn document(&self) -> Value {
        json!({
            "schema": "understudy.wal.verify/1",
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "damaged_files": self.damaged,
            "advice": self.advice,
        })
    }
}
