//! Looking at a log without opening it: for `understudy wal verify` and `wal dump`.

use std::path::{Path, PathBuf};

use super::disk::{Disk, read_all};
use super::record::{ChainPoint, RecordRef};
use super::scan::{Verdict, scan_marked, used};
use super::segment::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader, first_lsn_of};
use crate::units::Lsn;

/// What one segment file is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// First and last good record, if there is one.
    pub range: Option<(Lsn, Lsn)>,
    /// Bytes of good records.
    pub bytes: u64,
    /// What is wrong, in a sentence naming the offset; `None` if nothing.
    pub problem: Option<String>,
    /// The problem is only what a crash leaves, or a running node is writing: a torn tail, which
    /// recovery cuts, or a last segment that holds nothing yet, which it removes.
    pub torn_tail: bool,
}

/// The segment files to look at: `path` itself, or those of a data directory, in order.
pub fn segment_files(disk: &dyn Disk, path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if path.extension().is_some_and(|extension| extension == "wal") {
        return Ok(vec![path.to_path_buf()]);
    }
    let dir = if disk.list(&path.join("wal"))?.is_empty() {
        path.into()
    } else {
        path.join("wal")
    };
    let mut files: Vec<(Lsn, PathBuf)> = disk
        .list(&dir)?
        .iter()
        .filter_map(|name| Some((first_lsn_of(name)?, dir.join(name))))
        .collect();
    files.sort_unstable();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The first record of a segment, by its file's name; `None` where it is no segment's.
pub fn segment_first(path: &Path) -> Option<Lsn> {
    first_lsn_of(path.file_name()?.to_str()?)
}

/// A segment's header, if it is good.
pub fn segment_header(disk: &dyn Disk, path: &Path) -> Option<SegmentHeader> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = disk.open(path, false).ok()?.read_at(&mut header, 0).ok()?;
    SegmentHeader::decode(&header[..read]).ok()
}

/// Checks one segment file, giving each good record to `visit`. `follows`: what the segment before
/// ended with; `sealed`: another one follows.
pub fn inspect(
    disk: &dyn Disk,
    path: &Path,
    follows: Option<ChainPoint>,
    sealed: bool,
    visit: &mut dyn FnMut(RecordRef<'_>),
) -> std::io::Result<(SegmentReport, ChainPoint)> {
    let bytes = read_all(disk, path)?;
    let mut report = SegmentReport {
        path: path.to_path_buf(),
        range: None,
        bytes: 0,
        problem: None,
        torn_tail: false,
    };
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(why) => {
            let records = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or(&[]);
            let unborn = !sealed && !matches!(why, HeaderError::Version(_)) && used(records) == 0;
            report.torn_tail = unborn;
            report.problem = Some(if unborn {
                "it was never finished, and holds no record".to_owned()
            } else {
                format!("at offset 0: {why}")
            });
            return Ok((report, follows.unwrap_or_default()));
        }
    };
    if follows.is_some_and(|follows| follows != header.before) {
        report.problem = Some(format!(
            "begins behind LSN {}, but the segment before ends elsewhere: a segment is missing",
            header.before.lsn
        ));
    }
    let (floor, records) = (header.floor_in(&bytes), &bytes[SEGMENT_HEADER_BYTES..]);
    let found = scan_marked(header.before, records, sealed, floor, visit);
    report.bytes = found.good_bytes as u64;
    if found.end.lsn > header.before.lsn {
        report.range = Some((header.before.lsn.next(), found.end.lsn));
    }
    let offset = SEGMENT_HEADER_BYTES + found.good_bytes;
    match found.verdict {
        Verdict::Clean => {}
        Verdict::TornTail { why } => {
            report.torn_tail = true;
            report.problem = Some(format!("at offset {offset}: torn tail ({why})"));
        }
        Verdict::Damage { why, lsn, .. } => {
            report.problem = Some(format!("at offset {offset}: LSN {lsn} is damaged ({why})"));
        }
    }
    Ok((report, found.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::ReadOnlyDisk;

    #[test]
    fn a_last_segment_that_holds_nothing_yet_is_no_damage() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("00000000000000000001.wal");
        let look = |bytes: &[u8], sealed| {
            std::fs::write(&path, bytes).expect("it is ours");
            let (report, _) =
                inspect(&ReadOnlyDisk, &path, None, sealed, &mut |_| {}).expect("it is there");
            (report.problem.is_some(), report.torn_tail)
        };
        let header = SegmentHeader {
            cluster: 1,
            before: ChainPoint::default(),
        };
        assert_eq!(look(&header.encode(), false), (false, false));
        let mut torn = header.encode().to_vec();
        torn[20] ^= 1;
        torn.extend([0; 500]);
        for unborn in [&[][..], &[0; 600], &torn] {
            assert_eq!(look(unborn, false), (true, true));
            assert_eq!(look(unborn, true), (true, false));
        }
        torn[300] = 1;
        assert_eq!(look(&torn, false), (true, false));
    }
}
