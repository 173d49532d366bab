//! `wal dump`: the records of a log, in order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::say_effect;
use crate::keyspace::EffectIter;
use crate::wal::{Disk, Kind, ReadOnlyDisk, RecordRef, inspect, segment_files};

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = segment_files(&ReadOnlyDisk, path).with_context(|| path.display().to_string())?;
    if files.is_empty() {
        bail!(
            "{} holds no log: name a data directory or a .wal file",
            path.display()
        );
    }
    Ok(files)
}

fn each(
    disk: &dyn Disk,
    files: &[PathBuf],
    mut visit: impl FnMut(RecordRef<'_>),
) -> anyhow::Result<Vec<crate::wal::SegmentReport>> {
    let (mut reports, mut follows) = (Vec::new(), None);
    for (place, path) in files.iter().enumerate() {
        let sealed = place + 1 < files.len();
        let (report, end) = inspect(disk, path, follows, sealed, &mut |record| visit(record))
            .with_context(|| path.display().to_string())?;
        follows = Some(end);
        reports.push(report);
    }
    Ok(reports)
}

pub(super) fn run(path: &Path, from: u64, to: u64, json: bool) -> anyhow::Result<ExitCode> {
    let reports = each(&ReadOnlyDisk, &files(path)?, |record| {
        if (from..=to).contains(&record.lsn.0) {
            print_record(&record, json);
        }
    })?;
    for report in reports.iter().filter(|report| report.problem.is_some()) {
        let problem = report.problem.as_deref().unwrap_or_default();
        anstream::eprintln!("{}: {problem}", report.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn print_record(record: &RecordRef<'_>, json: bool) {
    let mut effects = Vec::new();
    if record.kind == Kind::Effects {
        for effect in EffectIter::new(record.payload) {
            effects.push(match effect {
                Ok(effect) => say_effect(&effect),
                Err(error) => format!("not understood: {error}"),
            });
        }
    } else {
        let word = |at: usize| {
            let bytes = record
                .payload
                .get(at..at + 8)
                .and_then(|b| b.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        effects.push(format!(
            "EPOCH START, fork at LSN {} of epoch {}",
            word(0),
            word(8)
        ));
    }
    if json {
        let line = json!({
            "schema": "understudy.wal.record/1",
            "lsn": record.lsn.0,
            "epoch": record.epoch.0,
            "time_ms": record.time.0,
            "synced_lsn": record.synced.0,
            "effects": effects,
        });
        anstream::println!("{line}");
    } else {
        anstream::println!(
            "{:>10}  epoch {}  {}  {}",
            record.lsn.0,
            record.epoch,
            record.time,
            effects.join("; ")
        );
    }
}
