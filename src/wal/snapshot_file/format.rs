//! The bytes of a snapshot file, version 2: header, blocks, footer (`docs/formats.md`).
//!
//! Every byte is covered by a checksum, and the checksums are chained: the header's seeds that of
//! the first block, each block's that of the next, and the footer states the last. So a block that
//! is missing, doubled, out of place or another snapshot's is found out like one that is damaged,
//! and the footer stands for the whole content.
//!
//! Nothing here allocates by a length that was not checked: a block's head is held against the
//! bytes that are there, and a block is unpacked only once its checksum is right.

use bytes::{Buf, BufMut};

use super::SnapshotInfo;
use crate::units::{Epoch, Lsn, Millis};
use crate::wal::record::ChainPoint;

const MAGIC: &[u8; 8] = b"USTYSNP\0";
const VERSION: u32 = 2;

pub(super) const HEADER_BYTES: usize = 68;
pub(super) const HEAD_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 48;
/// Stands where a block would state its length.
const FOOTER_MARK: u32 = u32::MAX;

/// Most bytes of a block before it is packed: an effect with the largest value, and a key.
pub const MAX_BLOCK_BYTES: usize = (512 + 64) << 20;

/// LZ4 says at most this many bytes with one.
const MOST_PER_BYTE: u64 = 255;

/// Why a header is none that this program reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderProblem {
    Damaged(&'static str),
    Version(u32),
}

/// What a header says, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster: u128,
    pub(super) begin: ChainPoint,
    pub(super) crc: u32,
}

impl Header {
    pub(super) fn encode(cluster: u128, begin: ChainPoint) -> (Vec<u8>, u32) {
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32_le(VERSION);
        bytes.put_u32_le(begin.crc);
        bytes.put_u128_le(cluster);
        bytes.put_u64_le(begin.lsn.0);
        bytes.put_u64_le(begin.epoch.0);
        bytes.put_u64_le(begin.time.0);
        bytes.put_u64_le(begin.offset);
        let crc = crc32fast::hash(&bytes);
        bytes.put_u32_le(crc);
        (bytes, crc)
    }

    /// The checksum comes before the version: in every version it stands at the same place, so
    /// that a flipped bit of the version is damage, and another version is told by its name.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderProblem> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(HeaderProblem::Damaged("the header is cut short"));
        };
        if &bytes[..8] != MAGIC {
            return Err(HeaderProblem::Damaged("this is no understudy snapshot"));
        }
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        let mut fields = &bytes[8..];
        let version = fields.get_u32_le();
        let chain_crc = fields.get_u32_le();
        let cluster = fields.get_u128_le();
        let begin = ChainPoint {
            lsn: Lsn(fields.get_u64_le()),
            epoch: Epoch(fields.get_u64_le()),
            crc: chain_crc,
            time: Millis(fields.get_u64_le()),
            offset: fields.get_u64_le(),
        };
        if fields.get_u32_le() != crc {
            return Err(HeaderProblem::Damaged(
                "the header is damaged (checksum mismatch)",
            ));
        }
        if version != VERSION {
            return Err(HeaderProblem::Version(version));
        }
        Ok(Header {
            cluster,
            begin,
            crc,
        })
    }
}

pub(super) fn version_problem(version: u32) -> String {
    if version < VERSION {
        format!(
            "format version {version} is from before the first release and no longer read. Delete \
             the file only where an older snapshot, or the log from LSN 1 on, is still there; \
             otherwise move the data directory away and let the node take a copy from its primary"
        )
    } else {
        format!(
            "format version {version} is newer than this program's {VERSION}; start the version \
             that wrote it, or one after it"
        )
    }
}

/// What stands before a block's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes once unpacked.
    pub(super) raw: u32,
    /// Bytes that follow; as many as `raw` where packing would not make them fewer.
    pub(super) stored: u32,
    /// Effects in it.
    pub(super) keys: u32,
    /// Of the other fields and the body, seeded with the one before.
    pub(super) crc: u32,
}

impl Head {
    pub(super) fn new(seed: u32, raw: u32, keys: u32, body: &[u8]) -> Head {
        let mut head = Head {
            raw,
            stored: body.len() as u32,
            keys,
            crc: 0,
        };
        head.crc = head.checksum(seed, body);
        head
    }

    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut room = &mut bytes[..];
        for field in [self.raw, self.stored, self.keys, self.crc] {
            room.put_u32_le(field);
        }
        bytes
    }

    /// Reads a head with `left` bytes behind it that may be its block's.
    pub(super) fn decode(bytes: [u8; HEAD_BYTES], left: u64) -> Result<Head, &'static str> {
        let mut fields = &bytes[..];
        let head = Head {
            raw: fields.get_u32_le(),
            stored: fields.get_u32_le(),
            keys: fields.get_u32_le(),
            crc: fields.get_u32_le(),
        };
        let (raw, stored) = (u64::from(head.raw), u64::from(head.stored));
        if raw == 0 || raw > MAX_BLOCK_BYTES as u64 {
            return Err("states an impossible length");
        }
        if stored == 0 || stored > raw || raw > stored * MOST_PER_BYTE {
            return Err("states lengths that cannot both be true");
        }
        if stored > left {
            return Err("is cut short");
        }
        Ok(head)
    }

    pub(super) fn checksum(&self, seed: u32, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(&self.encode()[..HEAD_BYTES - 4]);
        hasher.update(body);
        hasher.finalize()
    }
}

/// What a snapshot says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) blocks: u32,
    pub(super) end: Lsn,
    /// Its own place.
    pub(super) at: u64,
    pub(super) keys: u64,
    pub(super) raw_bytes: u64,
    /// The last block's checksum; the header's where there is no block.
    pub(super) chain: u32,
    /// Of the other fields, seeded with the header's.
    pub(super) crc: u32,
}

impl Footer {
    /// The footer's bytes; `crc` is worked out.
    pub(super) fn encode(&self, header_crc: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.put_u32_le(FOOTER_MARK);
        bytes.put_u32_le(self.blocks);
        bytes.put_u64_le(self.end.0);
        bytes.put_u64_le(self.at);
        bytes.put_u64_le(self.keys);
        bytes.put_u64_le(self.raw_bytes);
        bytes.put_u32_le(self.chain);
        bytes.put_u32_le(seeded(header_crc, &bytes));
        bytes
    }

    pub(super) fn decode(bytes: &[u8], at: u64, header_crc: u32) -> Result<Footer, &'static str> {
        const BAD: &str = "the footer is missing or damaged; the snapshot is not complete";
        if bytes.len() != FOOTER_BYTES {
            return Err(BAD);
        }
        let mut fields = bytes;
        let mark = fields.get_u32_le();
        let footer = Footer {
            blocks: fields.get_u32_le(),
            end: Lsn(fields.get_u64_le()),
            at: fields.get_u64_le(),
            keys: fields.get_u64_le(),
            raw_bytes: fields.get_u64_le(),
            chain: fields.get_u32_le(),
            crc: fields.get_u32_le(),
        };
        let crc = seeded(header_crc, &bytes[..FOOTER_BYTES - 4]);
        if mark != FOOTER_MARK || footer.at != at || footer.crc != crc {
            return Err(BAD);
        }
        Ok(footer)
    }

    pub(super) fn info(&self, header: &Header) -> SnapshotInfo {
        SnapshotInfo {
            cluster: header.cluster,
            begin: header.begin,
            end: self.end,
            blocks: self.blocks,
            keys: self.keys,
            raw_bytes: self.raw_bytes,
            bytes: self.at + FOOTER_BYTES as u64,
            id: u64::from(self.chain) << 32 | u64::from(self.crc),
        }
    }
}

fn seeded(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_from_damage() {
        let (good, _) = Header::encode(7, ChainPoint::default());
        let version = |version: u32| {
            let mut bytes = good.clone();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
            bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
            Header::decode(&bytes).err()
        };
        assert_eq!(version(2), None);
        assert_eq!(version(1), Some(HeaderProblem::Version(1)));
        assert_eq!(version(9), Some(HeaderProblem::Version(9)));
        let mut flipped = good.clone();
        flipped[8] ^= 1;
        assert!(matches!(
            Header::decode(&flipped),
            Err(HeaderProblem::Damaged(_))
        ));
        assert!(version_problem(1).contains("Delete the file only where"));
        assert!(version_problem(9).contains("newer"));
    }

    #[test]
    fn lengths_are_refused_before_anything_is_allocated() {
        let head = |raw, stored, left| {
            let head = Head {
                raw,
                stored,
                keys: 1,
                crc: 0,
            };
            Head::decode(head.encode(), left).err()
        };
        let most = MAX_BLOCK_BYTES as u32;
        assert_eq!(head(10, 10, 10), None);
        assert_eq!(head(most, most, 1 << 40), None);
        for (raw, stored, left) in [
            (0, 0, 10),
            (10, 0, 10),
            (10, 11, 100),
            (10, 10, 9),
            (most + 1, most, 1 << 40),
            (u32::MAX, u32::MAX, u64::MAX),
            // One byte cannot stand for half a gigabyte.
            (most, 1, 1 << 40),
            (256, 1, 10),
        ] {
            assert!(head(raw, stored, left).is_some(), "{raw} {stored} {left}");
        }
    }
}
