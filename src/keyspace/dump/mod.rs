//! DUMP's payload: a string as Redis writes it into its snapshots, with a version and a checksum.
//!
//! ```text
//! 0, the string, version (2 bytes), CRC-64 of all before it (8 bytes), little-endian
//! ```
//!
//! Promise: [`dump`] gives the bytes of Redis 7.0, and [`restore`] takes what Redis takes, of any
//! version up to that one. Nothing is reserved for what a payload only claims to hold.

mod lzf;

use std::borrow::Cow;

use crc::{CRC_64_REDIS, Crc, Table};
use thiserror::Error;

use crate::command::{MAX_STRING_BYTES, parse_integer};

/// Of the format: that of Redis 7.0.
const VERSION: u16 = 10;
/// Version and checksum.
const FOOTER_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 8;
const CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

const TYPE_STRING: u8 = 0;

/// What the two highest bits of a length say.
const SIX_BITS: u8 = 0;
const FOURTEEN_BITS: u8 = 1;
const ENCODED: u8 = 3;
/// A first byte: four, or eight, bytes of length follow.
const FOUR_BYTES: u8 = 0x80;
const EIGHT_BYTES: u8 = 0x81;

/// How a string that is not kept as it is, is.
const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// Numbers of more digits are not looked for; shorter strings are not compressed.
const MOST_INTEGER_BYTES: usize = 11;
const MOST_PLAIN_BYTES: usize = 20;

/// Why a payload gives no string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DumpError {
    /// It was not written by a known version, or changed since.
    #[error("ERR DUMP payload version or checksum are wrong")]
    Footer,
    /// It does not say what it should.
    #[error("ERR Bad data format")]
    Format,
    /// A list, a hash or the like.
    #[error(
        "ERR the payload holds a value of another type (number {0} of Redis); this server holds strings only"
    )]
    Type(u8),
    /// More than 512 MiB.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
}

/// The payload of `value`.
pub(super) fn dump(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + FOOTER_BYTES + 10);
    out.push(TYPE_STRING);
    push_string(value, &mut out);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = CHECKSUM.checksum(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn push_string(value: &[u8], out: &mut Vec<u8>) {
    if value.len() <= MOST_INTEGER_BYTES
        && let Some(number) = parse_integer(value).and_then(|number| i32::try_from(number).ok())
    {
        push_integer(number, out);
        return;
    }
    if value.len() > MOST_PLAIN_BYTES
        && let Some(packed) = lzf::compress(value, value.len() - 4)
    {
        out.push(ENCODED << 6 | LZF);
        push_length(packed.len(), out);
        push_length(value.len(), out);
        out.extend_from_slice(&packed);
        return;
    }
    push_length(value.len(), out);
    out.extend_from_slice(value);
}

fn push_integer(number: i32, out: &mut Vec<u8>) {
    if let Ok(number) = i8::try_from(number) {
        out.push(ENCODED << 6 | INT8);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(ENCODED << 6 | INT16);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        out.push(ENCODED << 6 | INT32);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    if length < 1 << 6 {
        out.push(SIX_BITS << 6 | length as u8);
    } else if length < 1 << 14 {
        out.extend([FOURTEEN_BITS << 6 | (length >> 8) as u8, length as u8]);
    } else if let Ok(length) = u32::try_from(length) {
        out.push(FOUR_BYTES);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(EIGHT_BYTES);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// The string that `payload` holds.
pub(super) fn restore(payload: &[u8]) -> Result<Cow<'_, [u8]>, DumpError> {
    check_footer(payload)?;
    // Redis, too, reads on into the footer, and does not mind what stands between string and footer.
    let (kind, string) = payload.split_first().ok_or(DumpError::Format)?;
    match kind {
        &TYPE_STRING => Reader(string).string(),
        1..=7 | 9..=19 => Err(DumpError::Type(*kind)),
        _ => Err(DumpError::Format),
    }
}

fn check_footer(payload: &[u8]) -> Result<(), DumpError> {
    let checked = payload.len().checked_sub(CHECKSUM_BYTES);
    let (checked, checksum) = payload.split_at(checked.ok_or(DumpError::Footer)?);
    let [.., low, high] = checked else {
        return Err(DumpError::Footer);
    };
    let known = u16::from_le_bytes([*low, *high]) <= VERSION;
    let whole = CHECKSUM.checksum(checked).to_le_bytes() == *checksum;
    if known && whole {
        Ok(())
    } else {
        Err(DumpError::Footer)
    }
}

/// What a length stands for.
enum Length {
    Bytes(u64),
    Encoded(u8),
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: u64) -> Result<&'a [u8], DumpError> {
        let bytes = usize::try_from(bytes).map_err(|_| DumpError::Format)?;
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(DumpError::Format)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DumpError::Format)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn length(&mut self) -> Result<Length, DumpError> {
        let [first] = self.array()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (SIX_BITS, _) => Length::Bytes(u64::from(low)),
            (FOURTEEN_BITS, _) => {
                let [second] = self.array()?;
                Length::Bytes(u64::from(low) << 8 | u64::from(second))
            }
            (ENCODED, _) => Length::Encoded(low),
            (_, FOUR_BYTES) => Length::Bytes(u64::from(u32::from_be_bytes(self.array()?))),
            (_, EIGHT_BYTES) => Length::Bytes(u64::from_be_bytes(self.array()?)),
            _ => return Err(DumpError::Format),
        })
    }

    fn bytes(&mut self) -> Result<u64, DumpError> {
        match self.length()? {
            Length::Bytes(bytes) => Ok(bytes),
            // As Redis, which looks at the number alone.
            Length::Encoded(encoding) => Ok(u64::from(encoding)),
        }
    }

    fn string(mut self) -> Result<Cow<'a, [u8]>, DumpError> {
        let integer = |number: i32| Ok(Cow::Owned(number.to_string().into_bytes()));
        match self.length()? {
            Length::Bytes(bytes) => self.take(bytes).map(Cow::Borrowed),
            Length::Encoded(INT8) => integer(i8::from_le_bytes(self.array()?).into()),
            Length::Encoded(INT16) => integer(i16::from_le_bytes(self.array()?).into()),
            Length::Encoded(INT32) => integer(i32::from_le_bytes(self.array()?)),
            Length::Encoded(LZF) => {
                let (packed, length) = (self.bytes()?, self.bytes()?);
                let packed = self.take(packed)?;
                let length = usize::try_from(length).map_err(|_| DumpError::Format)?;
                if length > MAX_STRING_BYTES {
                    let possible = packed.len().saturating_mul(lzf::MOST_GROWTH) >= length;
                    return Err(if possible {
                        DumpError::TooLong
                    } else {
                        DumpError::Format
                    });
                }
                if length == 0 {
                    // Whatever is packed: Redis cannot tell an empty string from a failure.
                    return Ok(Cow::Borrowed(b""));
                }
                let value = lzf::decompress(packed, length).ok_or(DumpError::Format)?;
                Ok(Cow::Owned(value))
            }
            Length::Encoded(_) => Err(DumpError::Format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the checksum that it should have.
    fn sealed(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
        payload.extend_from_slice(&version.to_le_bytes());
        let checksum = CHECKSUM.checksum(&payload);
        payload.extend_from_slice(&checksum.to_le_bytes());
        payload
    }

    #[test]
    fn payloads_are_those_of_redis() {
        // Of DUMP, redis-server 7.0.15.
        let known: [(&[u8], &[u8]); 6] = [
            (b"10", b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb"),
            (b"hello", b"\x00\x05hello\n\x00cr\xdfve4 \n"),
            (b"1000", b"\x00\xc1\xe8\x03\n\x00\x89\xd1G\x8e\xba\xc4\xb7d"),
            (
                b"-70000",
                b"\x00\xc2\x90\xee\xfe\xff\n\x00(u\xde{\x13\xeb(\x00",
            ),
            (
                b"hello world hello world hello world ",
                b"\x00\xc3\x14$\x0chello world h\xe0\x0c\x0b\x01d \n\x00B\r*\xf7\xcd\x02\xc7\xfd",
            ),
            (
                &[b'a'; 300],
                b"\x00\xc3\x0cA,\x01aa\xe0\xff\x00\xe0\x17\x00\x01aa\n\x00K\x1b\xc2bRF\xe7\x13",
            ),
        ];
        for (value, payload) in known {
            assert_eq!(dump(value), payload);
        }
    }

    #[test]
    fn every_string_comes_back() {
        let mut values: Vec<Vec<u8>> = [
            "",
            "0",
            "-1",
            "127",
            "128",
            "-128",
            "-129",
            "32767",
            "32768",
            "-32768",
            "-32769",
            "2147483647",
            "2147483648",
            "-2147483648",
            "-2147483649",
            "007",
            "+1",
            "-0",
            " 1",
        ]
        .map(Vec::from)
        .to_vec();
        for length in [11, 12, 20, 21, 63, 64, 16_383, 16_384, 70_000] {
            values.push(vec![b'x'; length]);
            values.push((0..length).map(|n| (n * n / 7) as u8).collect());
        }
        for value in values {
            assert_eq!(restore(&dump(&value)).as_deref(), Ok(&value[..]));
        }
    }

    #[test]
    fn versions_up_to_ours_are_taken() {
        for version in [0, 1, 9, VERSION] {
            let payload = sealed(b"\x00\x03abc".to_vec(), version);
            assert_eq!(restore(&payload).as_deref(), Ok(&b"abc"[..]));
        }
        let payload = sealed(b"\x00\x03abc".to_vec(), VERSION + 1);
        assert_eq!(restore(&payload), Err(DumpError::Footer));
    }

    #[test]
    fn what_is_wrong_is_refused_and_nothing_is_reserved_for_claims() {
        let refused = |body: &[u8]| restore(&sealed(body.to_vec(), VERSION)).err();
        // Four gigabytes, and as much as can be said, of which nothing is there.
        assert_eq!(
            refused(b"\x00\x80\xff\xff\xff\xff"),
            Some(DumpError::Format)
        );
        assert_eq!(
            refused(b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
            Some(DumpError::Format)
        );
        assert_eq!(
            refused(b"\x00\xc3\x02\x81\x00\x00\x00\x10\x00\x00\x00\x00\x00a"),
            Some(DumpError::Format)
        );
        assert_eq!(
            refused(b"\x00\xc3\x02\x80\x10\x00\x00\x00\x00a"),
            Some(DumpError::Format)
        );
        assert_eq!(refused(b"\x00\xc3\x02\x00\x20\x20"), None);
        assert_eq!(refused(b"\x00\xc4"), Some(DumpError::Format));
        assert_eq!(refused(b"\x00\x82"), Some(DumpError::Format));
        assert_eq!(refused(b"\x08"), Some(DumpError::Format));
        assert_eq!(refused(b"\x04"), Some(DumpError::Type(4)));
        for short in [&b""[..], b"\x00", b"123456789"] {
            assert_eq!(restore(short), Err(DumpError::Footer));
        }
        let whole = dump(b"a value");
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(restore(&other), Err(DumpError::Footer), "byte {at}");
        }
    }
}
