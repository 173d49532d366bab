//! Mending a log: records that this disk lost, put back where they stood.
//!
//! A record's bytes are the same on every node and so is its place, so what is missing between two
//! good records is exactly what any member with the same history holds there. What comes from it is
//! checked by the chain: it must follow the last good record, and what stands behind it here must
//! follow it in turn. A member with another history is found out by that, and nothing is changed.
//!
//! Nothing is written into a damaged file: the mended one is made beside it, synced and renamed.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk::{Disk, read_all, replace};
use super::record::{self, ChainPoint, RecordError};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use crate::units::{Epoch, Lsn};

/// Records that are missing from a log, all of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The segment's file; it may be missing, too.
    pub segment: PathBuf,
    /// What the segment's first record follows; `None` where nothing here says it.
    pub before: Option<ChainPoint>,
    /// The last good record before the hole; as `before` where the segment has none.
    pub after: Option<ChainPoint>,
    /// First LSN missing.
    pub first: Lsn,
    /// Last LSN that must be asked for; the hole may be shorter.
    pub last: Lsn,
    /// What the next segment follows, where there is one.
    pub upto: Option<ChainPoint>,
}

/// Why a log was not mended. It is as it was.
#[derive(Debug, Error)]
pub enum MendError {
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What came is not what follows.
    #[error("what came for LSN {lsn} does not follow: {why}")]
    DoesNotFollow {
        /// The first that does not.
        lsn: Lsn,
        /// Why.
        why: RecordError,
    },
    /// What came does not fit what stands behind the hole.
    #[error("what came for LSN {first} to {last} is of another history than what stands behind it")]
    OtherHistory {
        /// First record that came.
        first: Lsn,
        /// Last.
        last: Lsn,
    },
    /// R1: nothing of an epoch is stored that is not promised.
    #[error(
        "LSN {lsn} is of epoch {epoch} there, and this node has promised no more than {promised}"
    )]
    NotPromised {
        /// The record.
        lsn: Lsn,
        /// Its epoch.
        epoch: Epoch,
        /// What this node has promised.
        promised: Epoch,
    },
    /// Nothing came.
    #[error("nothing came for LSN {0}")]
    Nothing(Lsn),
}

/// Puts `records`, which follow `after`, into the hole. How many of them.
pub fn mend(
    disk: &dyn Disk,
    cluster: u128,
    promised: Epoch,
    hole: &Hole,
    after: ChainPoint,
    records: &[u8],
) -> Result<u64, MendError> {
    let path = &hole.segment;
    let at_path = |source| MendError::Io {
        path: path.clone(),
        source,
    };
    if hole.after.is_some_and(|known| known != after) {
        return Err(MendError::OtherHistory {
            first: hole.first,
            last: hole.last,
        });
    }
    let end = follow(promised, after, records)?;
    if end.lsn == after.lsn {
        return Err(MendError::Nothing(hole.first));
    }
    let old = match read_all(disk, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(at_path(error)),
    };
    // Where the segment's beginning is unknown here, the hole is at its beginning.
    let before = hole.before.unwrap_or(after);
    let header = SegmentHeader { cluster, before };
    let floor = header.floor_in(&old).filter(|floor| *floor > Lsn::ZERO);
    let at = SEGMENT_HEADER_BYTES + (after.offset - before.offset) as usize;
    let mut image = old.clone();
    image.resize(old.len().max(at + records.len()), 0);
    image[..SEGMENT_HEADER_BYTES].fill(0);
    let header_bytes = header.encode();
    image[..header_bytes.len()].copy_from_slice(&header_bytes);
    if let Some(floor) = floor {
        // What was synced before is synced when this file counts.
        let mark = header.encode_mark(floor);
        let mark_at = SEGMENT_HEADER_BYTES - mark.len();
        image[mark_at..SEGMENT_HEADER_BYTES].copy_from_slice(&mark);
    }
    image[at..at + records.len()].copy_from_slice(records);
    fits_behind(hole, end, &old, &image, at + records.len())?;
    replace(disk, path, &image).map_err(at_path)?;
    Ok(end.lsn.records_since(after.lsn))
}

/// The end of what came, each record checked.
fn follow(promised: Epoch, after: ChainPoint, records: &[u8]) -> Result<ChainPoint, MendError> {
    let (mut end, mut at) = (after, 0);
    while at < records.len() {
        let lsn = end.lsn.next();
        let found = record::check(end, &records[at..])
            .map_err(|why| MendError::DoesNotFollow { lsn, why })?;
        if found.epoch > promised {
            let epoch = found.epoch;
            return Err(MendError::NotPromised {
                lsn,
                epoch,
                promised,
            });
        }
        at += (found.after.offset - end.offset) as usize;
        end = found.after;
    }
    Ok(end)
}

/// Whether what stands behind the mended place still follows.
fn fits_behind(
    hole: &Hole,
    end: ChainPoint,
    old: &[u8],
    image: &[u8],
    at: usize,
) -> Result<(), MendError> {
    let other = MendError::OtherHistory {
        first: hole.first,
        last: end.lsn,
    };
    // The segment is sealed: where it ends is known.
    if let Some(upto) = hole.upto
        && (end.lsn > upto.lsn || end.lsn == upto.lsn && end != upto)
    {
        return Err(other);
    }
    // A record that stood here, intact but for what was before it, must not be cut away for
    // following no more. Its own header says what it followed.
    let next = record::UncheckedHeader::read(old.get(at..).unwrap_or(&[]));
    let stood = next.is_some_and(|header| header.lsn == end.lsn.next().0);
    let follows = record::check(end, image.get(at..).unwrap_or(&[])).is_ok();
    // One that is damaged itself is the next hole's.
    let intact = next.is_some_and(|header| {
        let behind = old.get(at + header.len as usize..);
        behind.is_some_and(|bytes| record::fits_behind(header.crc, bytes).is_some())
    });
    match stood && intact && !follows {
        true => Err(other),
        false => Ok(()),
    }
}

/// All records between two places are missing. A segment of its own for them is a log as good,
/// whatever stood there.
pub(super) fn missing_between(dir: &Path, after: ChainPoint, upto: ChainPoint) -> Box<Hole> {
    let first = after.lsn.next();
    Box::new(Hole {
        segment: segment_path(dir, first),
        before: Some(after),
        after: Some(after),
        first,
        last: upto.lsn,
        upto: Some(upto),
    })
}
