//! Segment files: a header, then records. `wal/<first lsn, 20 digits>.wal`.
//!
//! The last 16 bytes of the header's room hold the *mark*, or zeroes. Records state what their
//! primary had synced (R31), which on a standby that catches up is more than itself has. Once a
//! segment has a mark, only the mark says what was synced here: never more than is true, and at
//! most one group less.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::record::ChainPoint;
use crate::units::{Epoch, Lsn, Millis};

/// Bytes before the first record.
pub const SEGMENT_HEADER_BYTES: usize = 96;
/// Where the header's checksum stands.
const CRC_AT: usize = 68;
/// Where the mark stands.
pub(super) const MARK_AT: usize = 80;
const MARK_BYTES: usize = SEGMENT_HEADER_BYTES - MARK_AT;
const MAGIC: &[u8; 8] = b"USTYWAL\0";
const VERSION: u32 = 1;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster whose history this is.
    pub cluster: u128,
    /// What its first record follows (R31).
    pub before: ChainPoint,
}

/// Why a file is not a segment of this log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Too short, or not ours.
    #[error("this is no understudy WAL segment, or its beginning is damaged")]
    Magic,
    /// Written by a later version.
    #[error("format version {0} is newer than this program's {VERSION}; use a newer understudy")]
    Version(u32),
    /// The header is damaged.
    #[error("the segment header is damaged (checksum mismatch)")]
    Crc,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u128_le(self.cluster);
        out.put_u64_le(self.before.lsn.next().0);
        out.put_u64_le(self.before.epoch.0);
        out.put_u64_le(self.before.time.0);
        out.put_u64_le(self.before.offset);
        out.put_u32_le(self.before.crc);
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..out.len()].copy_from_slice(&out);
        bytes
    }

    /// The mark that says: everything up to `floor` is synced here.
    pub(super) fn encode_mark(&self, floor: Lsn) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        mark[..8].copy_from_slice(&floor.0.to_le_bytes());
        // Bound to its header, so that no other segment's mark is believed. Without the header's
        // own CRC: a CRC over data and their CRC is the same for all data.
        let covered = [&self.encode()[..CRC_AT], &mark[..12]].concat();
        mark[12..].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
        mark
    }

    /// The floor that a segment's mark states. `None` if it has no mark; a damaged one promises
    /// nothing.
    pub(super) fn floor_in(&self, segment: &[u8]) -> Option<Lsn> {
        let mark = segment.get(MARK_AT..SEGMENT_HEADER_BYTES)?;
        if mark.iter().all(|byte| *byte == 0) {
            return None;
        }
        let floor = Lsn((&mark[..8]).get_u64_le());
        let intact = mark == self.encode_mark(floor);
        Some(if intact { floor } else { Lsn::ZERO })
    }

    /// Checks and reads a header.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let whole = bytes
            .get(..SEGMENT_HEADER_BYTES)
            .ok_or(HeaderError::Magic)?;
        let (mut fields, mut tail) = whole.split_at(CRC_AT);
        if &fields[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let crc = crc32fast::hash(fields);
        fields.advance(8);
        let version = fields.get_u32_le();
        if tail.get_u32_le() != crc {
            return Err(HeaderError::Crc);
        }
        // Only now: a turned bit must not look like a later version.
        if version > VERSION {
            return Err(HeaderError::Version(version));
        }
        fields.advance(4);
        let cluster = fields.get_u128_le();
        let lsn = Lsn(fields.get_u64_le()).previous();
        let (epoch, time) = (Epoch(fields.get_u64_le()), Millis(fields.get_u64_le()));
        let (offset, crc) = (fields.get_u64_le(), fields.get_u32_le());
        Ok(SegmentHeader {
            cluster,
            before: ChainPoint {
                lsn,
                epoch,
                crc,
                time,
                offset,
            },
        })
    }
}

/// The path of the segment whose first record has this number.
pub fn segment_path(dir: &Path, first: Lsn) -> PathBuf {
    dir.join("wal").join(format!("{:020}.wal", first.0))
}

/// The first LSN a segment's name states; `None` for any other name.
pub fn first_lsn_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok().map(Lsn))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_and_no_flipped_bit_passes() {
        let before = ChainPoint {
            lsn: Lsn(9),
            epoch: Epoch(2),
            crc: 0xdead_beef,
            time: Millis(77),
            offset: 1234,
        };
        let header = SegmentHeader { cluster: 5, before };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..72 * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn golden_bytes() {
        let before = ChainPoint {
            lsn: Lsn(41),
            epoch: Epoch(3),
            crc: 0x0a0b_0c0d,
            time: Millis(1000),
            offset: 4321,
        };
        let header = SegmentHeader { cluster: 5, before };
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(
            hex(&header.encode()),
            "55535459 57414c00 01000000 00000000 05000000 00000000 00000000 00000000 \
             2a000000 00000000 03000000 00000000 e8030000 00000000 e1100000 00000000 \
             0d0c0b0a 2278f249 00000000 00000000 00000000 00000000 00000000 00000000"
                .replace(' ', "")
        );
        let mark = hex(&header.encode_mark(Lsn(40)));
        assert_eq!(mark, "28000000000000000000000040748bb3");
    }

    #[test]
    fn a_mark_is_there_or_not_and_promises_nothing_when_it_is_damaged() {
        let header = SegmentHeader {
            cluster: 5,
            before: ChainPoint::default(),
        };
        let mut bytes = header.encode();
        assert_eq!(header.floor_in(&bytes), None);
        bytes[MARK_AT..].copy_from_slice(&header.encode_mark(Lsn(40)));
        assert_eq!(header.floor_in(&bytes), Some(Lsn(40)));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in MARK_AT * 8..SEGMENT_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header.floor_in(&bad), Some(Lsn::ZERO), "bit {bit}");
        }
        let other = SegmentHeader {
            cluster: 6,
            ..header
        };
        assert_eq!(other.floor_in(&bytes), Some(Lsn::ZERO));
    }

    #[test]
    fn names() {
        let path = segment_path(Path::new("/d"), Lsn(42));
        assert_eq!(path, Path::new("/d/wal/00000000000000000042.wal"));
        assert_eq!(first_lsn_of("00000000000000000042.wal"), Some(Lsn(42)));
        assert_eq!(first_lsn_of("42.wal"), None);
    }
}
