//! LZF, the compression inside of DUMP's payloads: byte for byte what Redis makes of the same value.
//!
//! Method and format are those of Marc Lehmann's LibLZF 3.6 as Redis sets it up. A payload is a
//! sequence of
//!
//! ```text
//! 000LLLLL                      L + 1 bytes as they are follow
//! LLLooooo oooooooo             L + 2 bytes that stood o + 1 bytes before
//! 111ooooo LLLLLLLL oooooooo    L + 9 bytes that stood o + 1 bytes before
//! ```
//!
//! Which repetitions are found is decided by a table of places, one per hash of three bytes, that each
//! later place overwrites. Redis does not clear that table between two values: in rare cases it finds
//! a repetition by what an earlier value left there, and its payload is another one of the same value.

/// Places of three bytes, by their hash, to a power of two.
const TABLE_BITS: u32 = 16;
/// The longest run of bytes that are kept as they are.
const MOST_LITERALS: usize = 32;
/// How far back a repetition may be.
const MOST_DISTANCE: usize = 1 << 13;
/// The most bytes of one repetition.
const MOST_REPEATED: usize = (1 << 8) + (1 << 3);
/// Three bytes become at most 264.
pub(super) const MOST_GROWTH: usize = 88;
/// Repetitions with more room than this are looked through without minding their end at first.
const SURELY_COMPARED: usize = 16;

/// The hash of three bytes, the first of them highest; what is above them does not count.
fn slot(bytes: u32) -> usize {
    let mixed = (bytes >> (24 - TABLE_BITS)).wrapping_sub(bytes.wrapping_mul(5));
    (mixed & ((1 << TABLE_BITS) - 1)) as usize
}

fn three(input: &[u8], at: usize) -> u32 {
    let bytes = input.get(at..at + 3).unwrap_or_default();
    bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u32::from(*byte))
}

/// What is written, and where in it the present run of literals has its length.
struct Output {
    bytes: Vec<u8>,
    run: usize,
    most: usize,
}

impl Output {
    fn literals(&self) -> usize {
        self.bytes.len() - self.run - 1
    }

    fn begin_run(&mut self) {
        self.run = self.bytes.len();
        self.bytes.push(0);
    }

    fn end_run(&mut self) {
        match self.literals() {
            0 => drop(self.bytes.pop()),
            count => self.bytes[self.run] = (count - 1) as u8,
        }
    }

    fn literal(&mut self, byte: u8) {
        self.bytes.push(byte);
        if self.literals() == MOST_LITERALS {
            self.end_run();
            self.begin_run();
        }
    }

    fn repeat(&mut self, distance: usize, length: usize) {
        self.end_run();
        let (high, length) = ((distance >> 8) as u8, length - 2);
        if length < 7 {
            self.bytes.push(high + ((length as u8) << 5));
        } else {
            self.bytes.extend([high + (7 << 5), (length - 7) as u8]);
        }
        self.bytes.push(distance as u8);
        self.begin_run();
    }

    /// Whether another repetition has room.
    fn takes_repetition(&self) -> bool {
        let unused = usize::from(self.literals() == 0);
        self.bytes.len() - unused + 4 < self.most
    }
}

/// How many bytes at `at` are those at `before`, three of them known to be. As Redis counts them:
/// near the end of the input it stops up to two bytes early.
fn repeated(input: &[u8], before: usize, at: usize) -> usize {
    let same = |length: usize| input.get(before + length) == input.get(at + length);
    let most = (input.len() - at - 2).min(MOST_REPEATED);
    let mut length = 2;
    if most > SURELY_COMPARED {
        for _ in 0..SURELY_COMPARED {
            length += 1;
            if !same(length) {
                return length;
            }
        }
    }
    loop {
        length += 1;
        if length >= most || !same(length) {
            return length;
        }
    }
}

/// `input` in at most `most` bytes; none where it does not fit, or is too short to try.
pub(super) fn compress(input: &[u8], most: usize) -> Option<Vec<u8>> {
    let end = input.len().checked_sub(2).filter(|end| *end > 0)?;
    // Place 0 stands for none: Redis refers to no repetition of the very first bytes either.
    let mut places = vec![0_u32; 1 << TABLE_BITS];
    let mut out = Output {
        bytes: Vec::with_capacity(most.min(input.len()) + 2),
        run: 0,
        most,
    };
    out.begin_run();
    let mut at = 0;
    while at < end {
        let place = &mut places[slot(three(input, at))];
        let before = std::mem::replace(place, u32::try_from(at).ok()?) as usize;
        let near = before > 0 && at - before - 1 < MOST_DISTANCE;
        if near && three(input, before) == three(input, at) {
            if !out.takes_repetition() {
                return None;
            }
            let length = repeated(input, before, at);
            out.repeat(at - before - 1, length);
            at += length;
            if at >= end {
                break;
            }
            for skipped in [at - 2, at - 1] {
                places[slot(three(input, skipped))] = u32::try_from(skipped).ok()?;
            }
        } else {
            if out.bytes.len() >= most {
                return None;
            }
            out.literal(input[at]);
            at += 1;
        }
    }
    if out.bytes.len() + 3 > most {
        return None;
    }
    input[at..].iter().for_each(|byte| out.literal(*byte));
    out.end_run();
    Some(out.bytes)
}

/// The `length` bytes that `packed` stands for; none where it does not.
pub(super) fn decompress(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    // No more is reserved than can come of what is there.
    let most = packed.len().saturating_mul(MOST_GROWTH);
    let mut out = Vec::with_capacity(length.min(most));
    let mut rest = packed;
    loop {
        let (control, behind) = rest.split_first()?;
        rest = behind;
        let control = usize::from(*control);
        if control < MOST_LITERALS {
            let (literals, behind) = rest.split_at_checked(control + 1)?;
            if out.len() + literals.len() > length {
                return None;
            }
            out.extend_from_slice(literals);
            rest = behind;
        } else {
            let mut count = control >> 5;
            if count == 7 {
                let (more, behind) = rest.split_first()?;
                count += usize::from(*more);
                rest = behind;
            }
            let (low, behind) = rest.split_first()?;
            rest = behind;
            let distance = ((control & 0x1f) << 8) + usize::from(*low) + 1;
            let start = out.len().checked_sub(distance)?;
            if out.len() + count + 2 > length {
                return None;
            }
            // It may repeat what it is just writing.
            for at in start..start + count + 2 {
                let byte = *out.get(at)?;
                out.push(byte);
            }
        }
        if rest.is_empty() {
            return (out.len() == length).then_some(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(input: &[u8]) -> Option<Vec<u8>> {
        compress(input, input.len().saturating_sub(4))
    }

    #[test]
    fn known_values_are_packed_as_redis_packs_them() {
        assert_eq!(packed(&[b'a'; 21]), Some(b"\x01aa\xe0\n\x00".to_vec()));
        assert_eq!(
            packed(&b"hello world ".repeat(3)),
            Some(b"\x0chello world h\xe0\x0c\x0b\x01d ".to_vec())
        );
        assert_eq!(packed(b"abcdefghijklmnopqrstuvwxyz"), None);
        for short in [&b""[..], b"a", b"aa", b"aaa"] {
            assert_eq!(packed(short), None);
        }
    }

    #[test]
    fn what_does_not_stand_for_so_many_bytes_is_refused() {
        let good = packed(&[b'a'; 300]).expect("it is shorter");
        assert_eq!(decompress(&good, 300), Some(vec![b'a'; 300]));
        for length in [0, 299, 301, usize::MAX] {
            assert_eq!(decompress(&good, length), None);
        }
        for cut in 0..good.len() {
            assert_eq!(decompress(&good[..cut], 300), None);
        }
        // A repetition of what was before the first byte.
        assert_eq!(decompress(b"\x00a\x20\x01", 4), None);
        assert_eq!(decompress(b"\x00a\x20\x00", 4), Some(b"aaaa".to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            pieces in prop::collection::vec(("[a-c]{0,9}", 0usize..400), 0..40),
        ) {
            let input: Vec<u8> = pieces
                .iter()
                .flat_map(|(piece, times)| piece.repeat(times / 9).into_bytes())
                .collect();
            if let Some(packed) = packed(&input) {
                prop_assert!(packed.len() <= input.len() - 4);
                prop_assert_eq!(decompress(&packed, input.len()), Some(input));
            }
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            length in 0usize..2000,
        ) {
            if let Some(value) = decompress(&bytes, length) {
                prop_assert_eq!(value.len(), length);
            }
        }
    }
}
