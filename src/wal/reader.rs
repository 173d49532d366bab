//! Reading the log back: the live tail from memory, older records from the files, sealed segments
//! through a map. What comes from a file is checked again; corrupt bytes are never shipped.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::disk::Map;
use super::log::Log;
use super::record::{self, ChainPoint};
use super::segment::SEGMENT_HEADER_BYTES;
use super::state::{Segment, Shared, State};
use crate::units::Lsn;

/// Why records cannot be read.
#[derive(Debug, Error)]
pub enum NoReader {
    /// They are no longer kept.
    #[error("the log begins behind LSN {oldest}")]
    TooOld {
        /// What the oldest record kept follows.
        oldest: Lsn,
    },
    /// The file; damage is [`io::ErrorKind::InvalidData`].
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whole records, one after the other.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// First record.
    pub first: Lsn,
    /// Last record.
    pub last: Lsn,
    /// The records, as they stand in the file and go over the wire.
    pub bytes: Bytes,
}

/// A place in the log that moves forward.
pub struct Reader {
    shared: Arc<Shared>,
    at: ChainPoint,
    map: Option<(Segment, Map)>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Where the next records are.
enum Source {
    Memory(Bytes),
    File {
        segment: Segment,
        sealed: bool,
        end: ChainPoint,
    },
}

impl Log {
    /// A reader whose first record is the one behind `after`.
    pub fn reader(&self, after: Lsn) -> Result<Reader, NoReader> {
        let oldest = self.oldest();
        let too_old = NoReader::TooOld { oldest: oldest.lsn };
        if after < oldest.lsn {
            return Err(too_old);
        }
        let end = self.end();
        let mut reader = Reader {
            shared: Arc::clone(&self.shared),
            at: oldest,
            map: None,
        };
        if after >= end.lsn {
            reader.at = end;
            return Ok(reader);
        }
        reader.at = reader.nearest(after);
        while reader.at.lsn < after {
            if reader.next_chunk(after, 1 << 20)?.is_none() {
                return Err(too_old);
            }
        }
        Ok(reader)
    }
}

impl Reader {
    /// Behind the last record read.
    pub fn position(&self) -> ChainPoint {
        self.at
    }

    /// The latest known chain point at or before `lsn`.
    fn nearest(&self, lsn: Lsn) -> ChainPoint {
        let state = self.shared.lock();
        let in_tail = state
            .tail
            .iter()
            .rev()
            .map(|group| group.before)
            .find(|b| b.lsn <= lsn);
        let in_files = state
            .segments
            .iter()
            .rev()
            .map(|s| s.before)
            .find(|b| b.lsn <= lsn);
        in_tail
            .into_iter()
            .chain(in_files)
            .max_by_key(|point| point.lsn)
            .unwrap_or(self.at)
    }

    /// The next whole records up to `up_to`, at most about `max_bytes` (at least one record);
    /// `None` when there is none yet.
    pub fn next_chunk(&mut self, up_to: Lsn, max_bytes: usize) -> io::Result<Option<Chunk>> {
        let first = self.at.lsn.next();
        let Some(source) = self.source()? else {
            return Ok(None);
        };
        if first > up_to {
            return Ok(None);
        }
        let bytes = match source {
            Source::Memory(bytes) => self.take_checked(&bytes, up_to, max_bytes),
            Source::File {
                segment,
                sealed: true,
                ..
            } => {
                let map = self.mapped(&segment)?;
                let from = self.file_offset(&segment);
                self.take_and_check(map.get(from..).unwrap_or(&[]), up_to, max_bytes, &segment)?
            }
            Source::File {
                segment,
                sealed: false,
                end,
            } => {
                let bytes = self.read_live(&segment, end, max_bytes)?;
                self.take_and_check(&bytes, up_to, max_bytes, &segment)?
            }
        };
        Ok(Some(Chunk {
            first,
            last: self.at.lsn,
            bytes,
        }))
    }

    fn source(&self) -> io::Result<Option<Source>> {
        let mut state = self.shared.lock();
        if self.at.lsn >= state.end.lsn {
            return Ok(None);
        }
        let next = self.at.lsn.next();
        if state.tail.back().is_none_or(|group| group.after.lsn < next) && state.has_unwritten() {
            state.seal();
        }
        if let Some(bytes) = Self::from_tail(&state, self.at) {
            return Ok(Some(Source::Memory(bytes)));
        }
        let place = state
            .segments
            .iter()
            .rposition(|s| s.before.lsn <= self.at.lsn);
        let Some(place) = place else {
            // Not "nothing yet": a standby whose segments a snapshot had made superfluous once
            // waited for the next record of them for ever.
            let what = format!(
                "the records behind LSN {} are not kept any more",
                self.at.lsn
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        };
        let segment = state.segments[place].clone();
        let sealed = place + 1 < state.segments.len();
        Ok(Some(Source::File {
            segment,
            sealed,
            end: state.written,
        }))
    }

    /// The rest of the group in memory that holds the record behind `at`.
    fn from_tail(state: &State, at: ChainPoint) -> Option<Bytes> {
        let place = state
            .tail
            .partition_point(|group| group.after.lsn <= at.lsn);
        let group = state.tail.get(place)?;
        if group.before.lsn > at.lsn {
            return None;
        }
        Some(
            group
                .bytes
                .slice((at.offset - group.before.offset) as usize..),
        )
    }

    fn file_offset(&self, segment: &Segment) -> usize {
        SEGMENT_HEADER_BYTES + (self.at.offset - segment.before.offset) as usize
    }

    fn mapped(&mut self, segment: &Segment) -> io::Result<Map> {
        if let Some((held, map)) = &self.map
            && held.path == segment.path
        {
            return Ok(Arc::clone(map));
        }
        let map = self.shared.disk.map(&segment.path)?;
        self.map = Some((segment.clone(), Arc::clone(&map)));
        Ok(map)
    }

    fn read_live(
        &self,
        segment: &Segment,
        end: ChainPoint,
        max_bytes: usize,
    ) -> io::Result<Vec<u8>> {
        let file = self.shared.disk.open(&segment.path, false)?;
        let left = (end.offset - self.at.offset) as usize;
        let mut bytes = vec![0; left.min(max_bytes.max(64 << 10))];
        let offset = self.file_offset(segment) as u64;
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        let first = record::UncheckedHeader::read(&bytes).map_or(0, |h| h.len as usize);
        if first > bytes.len() && first <= left {
            bytes = vec![0; first];
            file.read_at(&mut bytes, offset)?;
        }
        Ok(bytes)
    }

    /// From memory: the bytes were checked when they came in.
    fn take_checked(&mut self, bytes: &Bytes, up_to: Lsn, max_bytes: usize) -> Bytes {
        let mut taken = 0;
        let start = self.at.offset;
        for record in record::records(bytes) {
            if record.lsn > up_to || taken > 0 && taken >= max_bytes {
                break;
            }
            taken += record.after.offset as usize;
            self.at = ChainPoint {
                offset: start + taken as u64,
                ..record.after
            };
        }
        bytes.slice(..taken)
    }

    fn take_and_check(
        &mut self,
        bytes: &[u8],
        up_to: Lsn,
        max_bytes: usize,
        segment: &Segment,
    ) -> io::Result<Bytes> {
        let mut taken = 0;
        while self.at.lsn < up_to && (taken == 0 || taken < max_bytes) {
            match record::check(self.at, &bytes[taken..]) {
                Ok(found) => {
                    taken += (found.after.offset - self.at.offset) as usize;
                    self.at = found.after;
                }
                Err(record::RecordError::Short | record::RecordError::Length(0)) if taken > 0 => {
                    break;
                }
                Err(why) => {
                    let what = format!(
                        "{} is damaged at offset {}: {why}",
                        segment.path.display(),
                        self.file_offset(segment)
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
        Ok(Bytes::copy_from_slice(&bytes[..taken]))
    }
}
