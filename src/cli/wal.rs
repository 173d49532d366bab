//! `understudy wal dump|verify`: looks into a log without opening it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;

use super::quoted::quote_start;
use crate::keyspace::{Effect, EffectIter};
use crate::wal::{Disk, Kind, RealDisk, RecordRef, inspect, segment_files};

/// Flags of `wal`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: WalCommand,
}

#[derive(Debug, Subcommand)]
enum WalCommand {
    /// Print the records of a data directory or a .wal file
    Dump {
        /// Data directory, wal directory or .wal file
        path: PathBuf,
        /// First LSN printed
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last LSN printed
        #[arg(long, default_value_t = u64::MAX)]
        to: u64,
        /// One JSON document per line
        #[arg(long)]
        json: bool,
    },
    /// Check every record of a data directory or a .wal file; exit status 1 on damage
    Verify {
        /// Data directory, wal directory or .wal file
        path: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Runs `wal`.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        WalCommand::Dump {
            path,
            from,
            to,
            json,
        } => dump(&path, from, to, json),
        WalCommand::Verify { path, json } => verify(&path, json),
    }
}

fn files(path: &std::path::Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = segment_files(&RealDisk, path).with_context(|| path.display().to_string())?;
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

fn dump(path: &std::path::Path, from: u64, to: u64, json: bool) -> anyhow::Result<ExitCode> {
    let reports = each(&RealDisk, &files(path)?, |record| {
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

/// An effect as text, what is long cut.
pub(super) fn say_effect(effect: &Effect<'_>) -> String {
    match *effect {
        Effect::Set {
            key,
            value,
            expire_at,
        } => {
            let expiry = expire_at.map_or_else(String::new, |at| format!(" expires at {at}"));
            format!("SET {} {}{expiry}", quote_start(key), quote_start(value))
        }
        Effect::Del { key } => format!("DEL {}", quote_start(key)),
        Effect::Expire {
            key,
            expire_at: Some(at),
        } => format!("EXPIRE {} at {at}", quote_start(key)),
        Effect::Expire {
            key,
            expire_at: None,
        } => format!("PERSIST {}", quote_start(key)),
        Effect::Flush => "FLUSH".to_owned(),
    }
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

fn verify(path: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut records = 0_u64;
    let reports = each(&RealDisk, &files(path)?, |_| records += 1)?;
    let damaged = reports
        .iter()
        .filter(|report| report.problem.is_some() && !report.torn_tail)
        .count();
    if json {
        let segments: Vec<_> = reports
            .iter()
            .map(|report| {
                json!({
                    "path": report.path.display().to_string(),
                    "first_lsn": report.range.map(|(first, _)| first.0),
                    "last_lsn": report.range.map(|(_, last)| last.0),
                    "bytes": report.bytes,
                    "problem": report.problem,
                    "torn_tail": report.torn_tail,
                })
            })
            .collect();
        let document = json!({
            "schema": "understudy.wal.verify/1",
            "records": records,
            "damaged_segments": damaged,
            "segments": segments,
        });
        anstream::println!("{document}");
    } else {
        for report in &reports {
            let range = report.range.map_or("no records".into(), |(first, last)| {
                format!("LSN {first} to {last}")
            });
            let state = report.problem.as_deref().unwrap_or("intact");
            anstream::println!(
                "{}: {range}, {} bytes: {state}",
                report.path.display(),
                report.bytes
            );
        }
        anstream::println!("{records} records, {damaged} damaged segments");
    }
    Ok(if damaged == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
