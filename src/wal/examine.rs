//! Examining sealed segments of a running log, against what the log knows of them: rot is found before
//! the records are needed.

use std::io;
use std::path::PathBuf;

use super::disk::{Disk, DiskFile};
use super::log::Log;
use super::mend::Hole;
use super::record::{self, ChainPoint, RecordError};
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

/// Bytes read at once: what others do on the disk waits for no more.
const PIECE: u64 = 256 << 10;

/// A sealed segment on its way from the disk, not from what memory holds of it, through every check.
pub struct Examination<'a> {
    sealed: &'a Sealed,
    file: Option<Box<dyn DiskFile>>,
    /// Bytes of the file that were read.
    at: u64,
    /// What follows the last good record, as far as it was read.
    rest: Vec<u8>,
    good: ChainPoint,
}

/// How far an examination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// So many bytes more were read.
    Some(u64),
    /// All of it, and what is wrong, if anything is.
    All(Option<Finding>),
}

impl<'a> Examination<'a> {
    /// Before the first byte.
    pub fn new(sealed: &'a Sealed) -> Examination<'a> {
        Examination {
            sealed,
            file: None,
            at: 0,
            rest: Vec::new(),
            good: sealed.before,
        }
    }

    /// Reads and checks the next piece.
    ///
    /// # Errors
    /// The disk refused: a bad sector is one, too.
    pub fn step(&mut self, disk: &dyn Disk) -> io::Result<Examined> {
        let Some(file) = &self.file else {
            return self.begin(disk);
        };
        let piece = PIECE.min(self.used_bytes().saturating_sub(self.at));
        let read = read_behind(file.as_ref(), &mut self.rest, self.at, piece)?;
        self.at += read;
        let why = self.check();
        if read > 0 && why == RecordError::Short {
            return Ok(Examined::Some(read));
        }
        if self.good == self.sealed.end {
            return Ok(Examined::All(None));
        }
        let offset = SEGMENT_HEADER_BYTES as u64 + self.good.offset - self.sealed.before.offset;
        let lsn = self.good.lsn.next();
        let what = format!("LSN {lsn} is damaged at offset {offset}");
        Ok(self.damaged(what, self.good, self.sealed.end.lsn))
    }

    fn begin(&mut self, disk: &dyn Disk) -> io::Result<Examined> {
        let before = self.sealed.before;
        let file = match disk.open(&self.sealed.path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = "the file is missing".to_owned();
                return Ok(self.damaged(what, before, self.sealed.end.lsn));
            }
            file => file?,
        };
        file.forget_cached();
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        self.at = read_behind(file.as_ref(), &mut self.rest, 0, header_bytes)?;
        let what = match SegmentHeader::decode(&self.rest) {
            Ok(header) if header.before == before => {
                self.rest.clear();
                self.file = Some(file);
                return Ok(Examined::Some(self.at));
            }
            Ok(_) => "its header is another segment's".to_owned(),
            Err(why) => why.to_string(),
        };
        Ok(self.damaged(what, before, before.lsn.next()))
    }

    /// Takes the records that are whole; why the next is none.
    fn check(&mut self) -> RecordError {
        let mut at = 0;
        let why = loop {
            match record::check(self.good, &self.rest[at..]) {
                Ok(found) => {
                    at += (found.after.offset - self.good.offset) as usize;
                    self.good = found.after;
                }
                Err(why) => break why,
            }
        };
        self.rest.drain(..at);
        why
    }

    /// Behind the last record there is nothing but reserved room.
    fn used_bytes(&self) -> u64 {
        SEGMENT_HEADER_BYTES as u64 + (self.sealed.end.offset - self.sealed.before.offset)
    }

    fn damaged(&self, what: String, after: ChainPoint, last: Lsn) -> Examined {
        let hole = Hole {
            segment: self.sealed.path.clone(),
            before: Some(self.sealed.before),
            after: Some(after),
            first: after.lsn.next(),
            last,
            upto: Some(self.sealed.end),
        };
        Examined::All(Some(Finding { what, hole }))
    }
}

/// Adds up to `bytes` of what the file has at `at`; how many there were.
fn read_behind(file: &dyn DiskFile, to: &mut Vec<u8>, at: u64, bytes: u64) -> io::Result<u64> {
    let before = to.len();
    to.resize(before + bytes as usize, 0);
    let read = file.read_at(&mut to[before..], at)?;
    to.truncate(before + read);
    Ok(read as u64)
}
