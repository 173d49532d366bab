//! Examining sealed segments of a running log, against what the log knows of them: rot is found before
//! the records are needed.

use std::io;
use std::path::PathBuf;

use super::disk::Disk;
use super::log::Log;
use super::mend::Hole;
use super::record::ChainPoint;
use super::scan::scan_marked;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::units::Lsn;

/// A segment that is not written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The file.
    pub path: PathBuf,
    /// What its first record follows.
    pub before: ChainPoint,
    /// Its last record.
    pub end: ChainPoint,
}

/// What is wrong with a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In a sentence.
    pub what: String,
    /// The records that are missing.
    pub hole: Hole,
}

impl Log {
    /// The segments that are not written any more, oldest first.
    pub fn sealed(&self) -> Vec<Sealed> {
        let state = self.shared.lock();
        let pairs = state.segments.windows(2);
        pairs
            .map(|pair| Sealed {
                path: pair[0].path.clone(),
                before: pair[0].before,
                end: pair[1].before,
            })
            .collect()
    }

    /// Whether that is a segment of this log still, and not written.
    pub fn is_sealed(&self, sealed: &Sealed) -> bool {
        self.sealed().contains(sealed)
    }
}

/// Reads a sealed segment from the disk, not from what memory holds of it, and checks every record.
/// Its bytes, and what is wrong, if anything is.
///
/// # Errors
/// The disk refused: a bad sector is one, too.
pub fn examine(disk: &dyn Disk, sealed: &Sealed) -> io::Result<(u64, Option<Finding>)> {
    let Sealed { path, before, end } = sealed;
    let (before, end) = (*before, *end);
    let hole = |after: ChainPoint, last: Lsn| Hole {
        segment: path.clone(),
        before: Some(before),
        after: Some(after),
        first: after.lsn.next(),
        last,
        upto: Some(end),
    };
    let bytes = match read_from_disk(disk, sealed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "the file is missing".to_owned();
            let hole = hole(before, end.lsn);
            return Ok((0, Some(Finding { what, hole })));
        }
        bytes => bytes?,
    };
    let size = bytes.len() as u64;
    let header = SegmentHeader::decode(&bytes);
    let wrong_header = match &header {
        Ok(header) if header.before == before => None,
        Ok(_) => Some("its header is another segment's".to_owned()),
        Err(why) => Some(why.to_string()),
    };
    if let Some(what) = wrong_header {
        let hole = hole(before, before.lsn.next());
        return Ok((size, Some(Finding { what, hole })));
    }
    let records = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or(&[]);
    let found = scan_marked(before, records, true, None, |_| {});
    if found.end == end {
        return Ok((size, None));
    }
    let offset = SEGMENT_HEADER_BYTES + found.good_bytes;
    let what = format!("LSN {} is damaged at offset {offset}", found.end.lsn.next());
    let hole = hole(found.end, end.lsn);
    Ok((size, Some(Finding { what, hole })))
}

fn read_from_disk(disk: &dyn Disk, sealed: &Sealed) -> io::Result<Vec<u8>> {
    let file = disk.open(&sealed.path, false)?;
    file.forget_cached();
    // Behind the last record there is nothing but reserved room.
    let used = SEGMENT_HEADER_BYTES as u64 + (sealed.end.offset - sealed.before.offset);
    let mut bytes = vec![0; usize::try_from(used).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
