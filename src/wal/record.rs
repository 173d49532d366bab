//! One record: one atomic transaction in the log. The same bytes on the primary's disk, on the
//! wire and on the standby's disk, checked by the same CRC.
//!
//! The layout stands in `docs/formats.md`. The CRC covers everything but itself and is seeded with
//! the previous record's CRC, so that a record is only valid in its place: leftovers of a recycled
//! file never look valid, and equal chain values mean equal histories. (They only *check*: clients
//! can craft CRC collisions, so histories are matched by epoch and LSN, R4.)

use bytes::{Buf, BufMut};
use thiserror::Error;

use crate::units::{Epoch, Lsn, Millis};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 41;

/// Longest record. A transaction above it is refused before it is planned into one.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// What a record's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The first record of a reign; the payload names the fork point.
    EpochStart = 1,
    /// Effects on the keyspace.
    Effects = 2,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::EpochStart),
            2 => Some(Kind::Effects),
            _ => None,
        }
    }
}

/// A place between two records: what the next record must follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainPoint {
    /// The record before.
    pub lsn: Lsn,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its CRC.
    pub crc: u32,
    /// Its time.
    pub time: Millis,
    /// Bytes of records since the log's birth, up to here.
    pub offset: u64,
}

/// A checked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// Wall-clock, never below the record before.
    pub time: Millis,
    /// LSN synced at the primary when it was written (R31).
    pub synced: Lsn,
    /// What the payload is.
    pub kind: Kind,
    /// The payload.
    pub payload: &'a [u8],
    /// The chain behind this record.
    pub after: ChainPoint,
}

/// Why bytes are not the next record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("the record is cut short")]
    Short,
    /// A length that no record has; zero where nothing was ever written.
    #[error("{0} is no record length")]
    Length(u32),
    /// The checksum, seeded with the record before, does not fit.
    #[error("checksum mismatch")]
    Crc,
    /// A valid checksum over another number: never written by us.
    #[error("LSN {found} where {wanted} belongs")]
    Lsn {
        /// As stated.
        found: u64,
        /// As due.
        wanted: u64,
    },
    /// A kind this version does not know. Skipping it would lose a transaction.
    #[error("record kind {0} is unknown to this version")]
    Kind(u8),
    /// Epoch or time below the record before.
    #[error("epoch or time runs backwards")]
    Backwards,
}

/// A record's header as it stands in bytes that nobody has checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct UncheckedHeader {
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) lsn: u64,
    epoch: u64,
    time: u64,
    pub(super) synced: u64,
    kind: u8,
}

impl UncheckedHeader {
    pub(super) fn read(bytes: &[u8]) -> Option<UncheckedHeader> {
        let mut bytes = bytes.get(..HEADER_BYTES)?;
        Some(UncheckedHeader {
            len: bytes.get_u32_le(),
            crc: bytes.get_u32_le(),
            lsn: bytes.get_u64_le(),
            epoch: bytes.get_u64_le(),
            time: bytes.get_u64_le(),
            synced: bytes.get_u64_le(),
            kind: bytes.get_u8(),
        })
    }

    pub(super) fn len_is_possible(&self) -> bool {
        (HEADER_BYTES..=MAX_RECORD_BYTES).contains(&(self.len as usize))
    }
}

fn checksum(seed: u32, len: u32, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&len.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// What a record says besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The reign.
    pub epoch: Epoch,
    /// Wall-clock; raised to the record before's if it is below (R32).
    pub time: Millis,
    /// LSN synced here (R31).
    pub synced: Lsn,
    /// What the payload is.
    pub kind: Kind,
}

/// Appends the record that follows `chain`, its payload in `parts`; the chain behind it.
pub fn encode(out: &mut Vec<u8>, chain: ChainPoint, stamp: Stamp, parts: &[&[u8]]) -> ChainPoint {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let total = HEADER_BYTES + payload_bytes;
    assert!(
        total <= MAX_RECORD_BYTES,
        "a record of {total} bytes was not refused earlier"
    );
    let (len, lsn, time) = (total as u32, chain.lsn.next(), stamp.time.max(chain.time));
    let start = out.len();
    out.reserve(total);
    out.put_u32_le(len);
    out.put_u32_le(0);
    out.put_u64_le(lsn.0);
    out.put_u64_le(stamp.epoch.0);
    out.put_u64_le(time.0);
    out.put_u64_le(stamp.synced.0);
    out.put_u8(stamp.kind as u8);
    for part in parts {
        out.put_slice(part);
    }
    let crc = checksum(chain.crc, len, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    ChainPoint {
        lsn,
        epoch: stamp.epoch,
        crc,
        time,
        offset: chain.offset + total as u64,
    }
}

/// The record at the start of `bytes`, if it is the one that follows `chain`.
pub fn check(chain: ChainPoint, bytes: &[u8]) -> Result<RecordRef<'_>, RecordError> {
    let header = UncheckedHeader::read(bytes).ok_or(RecordError::Short)?;
    if !header.len_is_possible() {
        return Err(RecordError::Length(header.len));
    }
    let whole = bytes.get(..header.len as usize).ok_or(RecordError::Short)?;
    if checksum(chain.crc, header.len, &whole[8..]) != header.crc {
        return Err(RecordError::Crc);
    }
    let wanted = chain.lsn.next().0;
    if header.lsn != wanted {
        return Err(RecordError::Lsn {
            found: header.lsn,
            wanted,
        });
    }
    if header.epoch < chain.epoch.0 || header.time < chain.time.0 {
        return Err(RecordError::Backwards);
    }
    let kind = Kind::from_byte(header.kind).ok_or(RecordError::Kind(header.kind))?;
    Ok(as_record(&header, kind, whole, chain.offset))
}

fn as_record<'a>(
    header: &UncheckedHeader,
    kind: Kind,
    whole: &'a [u8],
    offset: u64,
) -> RecordRef<'a> {
    let (lsn, epoch, time) = (Lsn(header.lsn), Epoch(header.epoch), Millis(header.time));
    let offset = offset + u64::from(header.len);
    RecordRef {
        lsn,
        epoch,
        time,
        synced: Lsn(header.synced),
        kind,
        payload: &whole[HEADER_BYTES..],
        after: ChainPoint {
            lsn,
            epoch,
            crc: header.crc,
            time,
            offset,
        },
    }
}

/// Walks bytes that were checked before: whole records, one after the other.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = RecordRef<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = UncheckedHeader::read(rest)?;
        let whole = rest.get(..header.len as usize)?;
        let kind = Kind::from_byte(header.kind)?;
        rest = &rest[header.len as usize..];
        Some(as_record(&header, kind, whole, 0))
    })
}

/// The checksum that the record at the start of `bytes` should have behind `chain`, if its length is
/// right.
pub(super) fn checksum_at(chain: ChainPoint, bytes: &[u8]) -> Option<u32> {
    let header = UncheckedHeader::read(bytes).filter(UncheckedHeader::len_is_possible)?;
    let whole = bytes.get(..header.len as usize)?;
    Some(checksum(chain.crc, header.len, &whole[8..]))
}

/// Whether the record at the start of `bytes`, whatever its place, has the checksum that the CRC
/// `seed` before it asks for. Used to find intact records behind damage.
pub(super) fn fits_behind(seed: u32, bytes: &[u8]) -> Option<UncheckedHeader> {
    let header = UncheckedHeader::read(bytes)?;
    if !header.len_is_possible() {
        return None;
    }
    let whole = bytes.get(..header.len as usize)?;
    (checksum(seed, header.len, &whole[8..]) == header.crc).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: u64, time: u64) -> Stamp {
        Stamp {
            epoch: Epoch(epoch),
            time: Millis(time),
            synced: Lsn(0),
            kind: Kind::Effects,
        }
    }

    #[test]
    fn a_record_reads_back_only_in_its_place() {
        let start = ChainPoint::default();
        let mut bytes = Vec::new();
        let one = encode(&mut bytes, start, stamp(1, 5), &[b"first"]);
        let first_bytes = bytes.len();
        let two = encode(&mut bytes, one, stamp(1, 3), &[b"sec", b"ond"]);
        let read = check(start, &bytes).unwrap();
        assert_eq!(
            (read.lsn, read.payload, read.after),
            (Lsn(1), &b"first"[..], one)
        );
        let read = check(one, &bytes[first_bytes..]).unwrap();
        assert_eq!((read.payload, read.after), (&b"second"[..], two));
        assert_eq!(read.time, Millis(5), "time never runs backwards");
        assert_eq!(check(start, &bytes[first_bytes..]), Err(RecordError::Crc));
        assert_eq!(records(&bytes).count(), 2);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut bytes = Vec::new();
        let start = ChainPoint {
            crc: 99,
            ..ChainPoint::default()
        };
        encode(&mut bytes, start, stamp(2, 1), &[b"payload"]);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(start, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        let start = ChainPoint {
            crc: 7,
            lsn: Lsn(41),
            ..ChainPoint::default()
        };
        let stamp = Stamp {
            epoch: Epoch(3),
            time: Millis(1000),
            synced: Lsn(40),
            kind: Kind::Effects,
        };
        encode(&mut bytes, start, stamp, &[b"hi"]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let crc = &hex[8..16];
        let rest = "2a000000000000000300000000000000e8030000000000002800000000000000026869";
        assert_eq!(hex, format!("2b000000{crc}{rest}"));
        assert_eq!(crc, "c7f85209");
    }
}
