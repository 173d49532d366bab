//! One file each: what it holds, and what is wrong with it.
//!
//! An error is only what says nothing about the file: it went away, or may not be read.

use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::{Checked, What};
use crate::cli::text::count;
use crate::keyspace::EffectIter;
use crate::wal::{
    ChainPoint, ControlError, DiscardedError, DiscardedName, DiscardedReader, FileBytes, Kind,
    ReadOnlyDisk, SegmentReport, SnapshotError, SnapshotStore, StoredBlock, inspect,
    inspect_control, segment_first,
};

pub(super) fn length(path: &Path) -> u64 {
    let file = FileBytes::open(&ReadOnlyDisk, path);
    file.and_then(|file| file.len()).unwrap_or(0)
}

pub(super) fn control(path: &Path) -> std::io::Result<Checked> {
    let mut checked = Checked::new(path, What::Control, length(path));
    match inspect_control(&ReadOnlyDisk, path) {
        Ok(Some(generation)) => checked.holds = format!("generation {generation}"),
        Ok(None) if checked.bytes == 0 && !path.exists() => {
            checked.problem = Some("it is missing".to_owned());
        }
        Ok(None) => checked.problem = Some("it is not whole (checksum mismatch)".to_owned()),
        Err(ControlError::Io { source, .. } | ControlError::NoRoom { source, .. }) => {
            return Err(source);
        }
        Err(error @ ControlError::Version { .. }) => checked.problem = Some(error.to_string()),
    }
    Ok(checked)
}

pub(super) fn segment(
    path: &Path,
    follows: Option<ChainPoint>,
    sealed: bool,
    bar: &ProgressBar,
    passed: u64,
) -> std::io::Result<(Checked, ChainPoint)> {
    let mut checked = Checked::new(path, What::Segment, length(path));
    let mut before: Option<SegmentReport> = None;
    let (report, end, unclear) = loop {
        let (mut records, mut bytes, mut unclear) = (0_u64, 0_u64, None);
        let (report, end) = inspect(&ReadOnlyDisk, path, follows, sealed, &mut |record| {
            records += 1;
            bytes += record.payload.len() as u64;
            bar.set_position(passed + bytes);
            if record.kind == Kind::Effects && unclear.is_none() {
                let error = EffectIter::new(record.payload).find_map(Result::err);
                unclear =
                    error.map(|error| format!("LSN {} is not understood: {error}", record.lsn));
            }
        })?;
        checked.records = records;
        // What is written while it is read may look damaged once: its pages were read before they
        // were written, and those behind them after. It does not stay so.
        let damaged = report.problem.is_some() && !report.torn_tail;
        if sealed || !damaged || before.as_ref() == Some(&report) {
            break (report, end, unclear);
        }
        before = Some(report);
    };
    checked.range = report.range;
    checked.holds = report.range.map_or_else(
        || "no records".to_owned(),
        |(first, last)| format!("LSN {first} to {last}"),
    );
    checked.harmless = report.torn_tail && unclear.is_none();
    checked.problem = unclear.or(report.problem);
    let first = report.range.map(|(first, _)| first);
    if checked.problem.is_none() && first.is_some() && first != segment_first(path) {
        checked.problem = Some("its name states another first LSN".to_owned());
    }
    Ok((checked, end))
}

pub(super) fn snapshot(path: &Path, bar: &ProgressBar, passed: u64) -> std::io::Result<Checked> {
    let mut checked = Checked::new(path, What::Snapshot, length(path));
    match read_snapshot(path, &mut checked, bar, passed) {
        Ok(()) => {}
        Err(SnapshotError::Io { source, .. }) => return Err(source),
        Err(SnapshotError::Bad { what, .. } | SnapshotError::OtherVersion { what, .. }) => {
            checked.problem = Some(what);
        }
    }
    Ok(checked)
}

fn read_snapshot(
    path: &Path,
    checked: &mut Checked,
    bar: &ProgressBar,
    passed: u64,
) -> Result<(), SnapshotError> {
    let data_dir = path
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new(""));
    let store = SnapshotStore::beside(Arc::new(ReadOnlyDisk), data_dir);
    let mut reader = store.reader(path)?;
    let info = reader.info();
    checked.range = Some((info.begin.lsn, info.end));
    let keys = count(info.keys, "key");
    checked.holds = format!("LSN {} to {}, {keys}", info.begin.lsn, info.end);
    let bad = |what: String| SnapshotError::Bad {
        path: path.to_path_buf(),
        what,
    };
    let (mut block, mut room) = (StoredBlock::default(), Vec::new());
    while reader.next_block(&mut block)? {
        let mut effects = 0;
        for effect in EffectIter::new(block.unpack(&mut room).map_err(bad)?) {
            effect.map_err(|error| bad(format!("a block is not understood: {error}")))?;
            effects += 1;
        }
        if effects != block.keys() {
            let stated = block.keys();
            return Err(bad(format!(
                "a block holds {effects} keys, and states {stated}"
            )));
        }
        bar.set_position(passed + reader.bytes_read());
    }
    let named = format!("{:020}-{:020}.snap", info.begin.lsn.0, info.end.0);
    let name = path.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.ends_with(".snap") && name != named) {
        return Err(bad(format!("its content is that of {named}")));
    }
    Ok(())
}

pub(super) fn discarded(path: &Path, bar: &ProgressBar, passed: u64) -> std::io::Result<Checked> {
    let mut checked = Checked::new(path, What::Discarded, length(path));
    match read_discarded(path, &mut checked, bar, passed) {
        Err(DiscardedError::Io(error)) => return Err(error),
        Err(damage) => checked.problem = Some(damage.to_string()),
        Ok(problem) => checked.problem = problem,
    }
    checked.holds = checked.range.map_or_else(
        || "no records".to_owned(),
        |(first, last)| format!("LSN {first} to {last}"),
    );
    Ok(checked)
}

/// What is wrong with the content of records that are intact, if anything is.
fn read_discarded(
    path: &Path,
    checked: &mut Checked,
    bar: &ProgressBar,
    passed: u64,
) -> Result<Option<String>, DiscardedError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let file = FileBytes::open(&ReadOnlyDisk, path)?;
    let input = std::io::BufReader::with_capacity(1 << 18, file);
    let mut reader = DiscardedReader::new(input, name.and_then(DiscardedName::parse))?;
    let mut unclear = None;
    while let Some(record) = reader.next_record()? {
        checked.records += 1;
        let first = checked.range.map_or(record.lsn, |(first, _)| first);
        checked.range = Some((first, record.lsn));
        if record.kind == Kind::Effects && unclear.is_none() {
            let error = EffectIter::new(record.payload).find_map(Result::err);
            unclear = error.map(|error| format!("LSN {} is not understood: {error}", record.lsn));
        }
        bar.set_position(passed + reader.offset());
    }
    Ok(unclear)
}
