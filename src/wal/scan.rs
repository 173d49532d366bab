//! Recovery's judgement: a pure function from a segment's bytes to what they are worth.
//!
//! | what stands where the next record belongs | the mark, or what later bytes say | verdict |
//! | --- | --- | --- |
//! | the next record | | it is taken |
//! | anything else, zeroes included | the mark's floor reaches it | damage: nothing is cut, nothing served |
//! | zeroes, or the end of the file | nothing | the clean end |
//! | anything else | nothing intact | a torn tail: cut |
//! | anything else | a mark whose floor does not reach it | a torn tail: unsynced pages reach the disk in any order |
//! | anything else | no mark; intact records, none stating it as synced (R31) | a torn tail |
//! | anything else | no mark; an intact record stating that it was synced | damage |
//! | anything else, in a segment that has a successor | | damage: a segment is sealed synced |
//!
//! In a segment with a mark the records' statements, which are their primary's, count for nothing.

use super::record::{self, ChainPoint, HEADER_BYTES, RecordError, RecordRef, UncheckedHeader};
use crate::units::Lsn;

/// What follows the last good record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was ever written there.
    Clean,
    /// What a crash left of unsynced writes; to be cut.
    TornTail {
        /// Why the bytes are no record.
        why: RecordError,
    },
    /// Bytes that had been synced are bad.
    Damage {
        /// Why the bytes are no record.
        why: RecordError,
        /// Number of the first bad record.
        lsn: Lsn,
        /// An intact record behind it, if one was found.
        intact_behind: Option<Lsn>,
    },
}

/// The result of scanning one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Behind the last good record.
    pub end: ChainPoint,
    /// Bytes of good records.
    pub good_bytes: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// Scans the records in `bytes` (a segment without its header) that follow `start`, giving each to
/// `visit`. `sealed`: a successor exists.
pub fn scan<'a>(
    start: ChainPoint,
    bytes: &'a [u8],
    sealed: bool,
    visit: impl FnMut(RecordRef<'a>),
) -> Scan {
    scan_marked(start, bytes, sealed, None, visit)
}

/// As [`scan`], for a segment whose mark states this `floor`.
pub(super) fn scan_marked<'a>(
    start: ChainPoint,
    bytes: &'a [u8],
    sealed: bool,
    floor: Option<Lsn>,
    mut visit: impl FnMut(RecordRef<'a>),
) -> Scan {
    let mut end = start;
    let mut at = 0;
    let why = loop {
        match record::check(end, &bytes[at..]) {
            Ok(found) => {
                at += (found.after.offset - end.offset) as usize;
                end = found.after;
                visit(found);
            }
            Err(why) => break why,
        }
    };
    let verdict = judge(end, &bytes[at..], why, sealed, floor);
    Scan {
        end,
        good_bytes: at,
        verdict,
    }
}

fn judge(
    end: ChainPoint,
    rest: &[u8],
    why: RecordError,
    sealed: bool,
    floor: Option<Lsn>,
) -> Verdict {
    let lsn = end.lsn.next();
    let written = used(rest);
    if sealed {
        // The successor's header says whether this is where the segment was closed.
        return if written > 0 {
            Verdict::Damage {
                why,
                lsn,
                intact_behind: None,
            }
        } else {
            Verdict::Clean
        };
    }
    // A kind or an order that no version of this program wrote under a valid checksum is never
    // cut away: it may be a later version's record.
    let foreign = matches!(
        why,
        RecordError::Kind(_) | RecordError::Lsn { .. } | RecordError::Backwards
    );
    if foreign || floor.is_some_and(|floor| floor >= lsn) {
        return Verdict::Damage {
            why,
            lsn,
            intact_behind: None,
        };
    }
    if written == 0 {
        return Verdict::Clean;
    }
    let behind = intact_behind(rest, written, lsn);
    match behind.or_else(|| follower_of_the_bad(end, rest, written, lsn)) {
        _ if floor.is_some() => Verdict::TornTail { why },
        Some((behind, stated)) if stated >= lsn.0 => Verdict::Damage {
            why,
            lsn,
            intact_behind: Some(Lsn(behind)),
        },
        _ => Verdict::TornTail { why },
    }
}

/// How many bytes there are up to the last that is not zero. A segment is mostly reserved room:
/// this is compared by pages, not looked at byte by byte.
pub(super) fn used(bytes: &[u8]) -> usize {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for page in bytes.rchunks(ZEROES.len()) {
        if page != &ZEROES[..page.len()] {
            break;
        }
        end -= page.len();
    }
    let last = bytes[..end].iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// Looks for an intact record behind the bad one, wherever it may begin in what is `written`; its LSN and the greatest
/// synced LSN that such records state. A record is known by the checksum seeded with the CRC that
/// the header before it states.
fn intact_behind(rest: &[u8], written: usize, bad: Lsn) -> Option<(u64, u64)> {
    let mut best: Option<(u64, u64)> = None;
    let mut at = 0;
    while at < written && at + HEADER_BYTES <= rest.len() {
        let Some(header) = UncheckedHeader::read(&rest[at..]) else {
            break;
        };
        let plausible = header.len_is_possible()
            && header.lsn >= bad.0
            && header.lsn <= bad.0.saturating_add(rest.len() as u64);
        let next = at + header.len as usize;
        let follower = if plausible {
            rest.get(next..)
                .and_then(|bytes| record::fits_behind(header.crc, bytes))
        } else {
            None
        };
        match follower {
            Some(follower) => {
                let stated = best.map_or(0, |(_, stated)| stated).max(follower.synced);
                best = Some((best.map_or(follower.lsn, |(lsn, _)| lsn), stated));
                at = next;
            }
            None => at += 1,
        }
    }
    best
}

/// The one record behind the bad one, where the bad one's header is bad: then its length, or what its
/// follower is seeded with, is not what it says. One turned bit leaves enough: the length where the
/// checksum is wrong, and the checksum where the length is.
fn follower_of_the_bad(
    before: ChainPoint,
    rest: &[u8],
    written: usize,
    bad: Lsn,
) -> Option<(u64, u64)> {
    let header = UncheckedHeader::read(rest)?;
    let next = bad.next().0;
    let found = |seed: u32, at: usize| {
        let bytes = rest.get(at..)?;
        let plausible = UncheckedHeader::read(bytes)?.lsn == next;
        plausible.then(|| record::fits_behind(seed, bytes))?
    };
    let anywhere = (HEADER_BYTES..written).find_map(|at| found(header.crc, at));
    let recomputed = || {
        let seed = record::checksum_at(before, rest)?;
        found(seed, header.len as usize)
    };
    let follower = anywhere.or_else(recomputed)?;
    Some((follower.lsn, follower.synced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Epoch, Millis};
    use crate::wal::record::{Kind, Stamp, encode};

    /// Records 1..=n, the i-th stating `synced(i)`; the bytes and where each begins.
    fn log(n: u64, synced: impl Fn(u64) -> u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts, mut chain) = (Vec::new(), Vec::new(), ChainPoint::default());
        for i in 1..=n {
            starts.push(bytes.len());
            let stamp = Stamp {
                epoch: Epoch(1),
                time: Millis(i),
                synced: Lsn(synced(i)),
                kind: Kind::Effects,
            };
            chain = encode(&mut bytes, chain, stamp, &[format!("value {i}").as_bytes()]);
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    fn verdict(bytes: &[u8], sealed: bool) -> (u64, Verdict) {
        let found = scan(ChainPoint::default(), bytes, sealed, |_| {});
        (found.end.lsn.0, found.verdict)
    }

    #[test]
    fn the_table_cell_by_cell() {
        let never = |_: u64| 0_u64;
        let all_before = |i: u64| i - 1;
        for bad in 1..=5_u64 {
            for (name, synced) in [
                ("nothing synced", &never as &dyn Fn(u64) -> u64),
                ("all synced", &all_before),
            ] {
                let (bytes, starts) = log(5, synced);
                let place = starts[bad as usize - 1];
                let zeroed = {
                    let mut b = bytes.clone();
                    b[place..starts[bad as usize]].fill(0);
                    b
                };
                let flipped = {
                    let mut b = bytes.clone();
                    b[place + HEADER_BYTES] ^= 1;
                    b
                };
                let cut = bytes[..place + 10].to_vec();
                let stated = name == "all synced" && bad < 5;
                for (what, image) in [("zeroed", &zeroed), ("flipped", &flipped)] {
                    let (end, verdict) = verdict(image, false);
                    assert_eq!(end, bad - 1, "{what} {bad} {name}");
                    // A record whose successor alone is intact cannot be told from noise when its
                    // own header is gone altogether; the last two stay a torn tail when zeroed.
                    let findable = what == "flipped" || bad < 4;
                    let damage = matches!(verdict, Verdict::Damage { .. });
                    assert_eq!(
                        damage,
                        stated && findable,
                        "{what} {bad} {name}: {verdict:?}"
                    );
                }
                let (end, verdict) = verdict(&cut, false);
                assert_eq!(end, bad - 1);
                assert!(matches!(verdict, Verdict::TornTail { .. }), "{verdict:?}");
            }
        }
    }

    #[test]
    fn any_bit_of_any_but_the_last_record_is_found_out() {
        let (bytes, starts) = log(5, |i| i - 1);
        for bit in 0..starts[4] * 8 {
            let mut image = bytes.clone();
            image[bit / 8] ^= 1 << (bit % 8);
            let (_, verdict) = verdict(&image, false);
            assert!(
                matches!(verdict, Verdict::Damage { .. }),
                "bit {bit}: {verdict:?}"
            );
        }
        for bit in starts[4] * 8..bytes.len() * 8 {
            let mut image = bytes.clone();
            image[bit / 8] ^= 1 << (bit % 8);
            let (end, verdict) = verdict(&image, false);
            assert_eq!(end, 4);
            assert!(
                matches!(verdict, Verdict::TornTail { .. }),
                "bit {bit}: {verdict:?}"
            );
        }
    }

    #[test]
    fn what_is_used_ends_with_the_last_byte_that_is_not_zero() {
        for len in [0, 1, 4095, 4096, 4097, 9000] {
            let mut bytes = vec![0; len];
            assert_eq!(used(&bytes), 0, "{len} zeroes");
            for at in [0, 1, 4095, 4096, len.saturating_sub(1)] {
                if at < len {
                    bytes.fill(0);
                    bytes[at] = 1;
                    assert_eq!(used(&bytes), at + 1, "{len} bytes");
                }
            }
        }
    }

    #[test]
    fn a_clean_end_is_zeroes_or_nothing() {
        let (mut bytes, _) = log(3, |_| 0);
        assert_eq!(verdict(&bytes, false), (3, Verdict::Clean));
        bytes.extend([0; 500]);
        assert_eq!(verdict(&bytes, false), (3, Verdict::Clean));
        assert_eq!(verdict(&bytes, true), (3, Verdict::Clean));
        bytes.push(1);
        assert!(matches!(verdict(&bytes, true).1, Verdict::Damage { .. }));
        assert!(matches!(verdict(&bytes, false).1, Verdict::TornTail { .. }));
    }

    #[test]
    fn a_mark_counts_and_the_records_statements_do_not() {
        let (bytes, starts) = log(5, |i| i - 1);
        for floor in 0..=5_u64 {
            for bad in 1..=5_u64 {
                let place = starts[bad as usize - 1];
                let mut flipped = bytes.clone();
                flipped[place + HEADER_BYTES] ^= 1;
                let mut lost = bytes.clone();
                lost[place..].fill(0);
                for (image, otherwise) in [(flipped, "torn"), (lost, "clean")] {
                    let floor = Some(Lsn(floor));
                    let found = scan_marked(ChainPoint::default(), &image, false, floor, |_| {});
                    let what = match found.verdict {
                        Verdict::Clean => "clean",
                        Verdict::TornTail { .. } => "torn",
                        Verdict::Damage { .. } => "damage",
                    };
                    let damage = Some(Lsn(bad)) <= floor;
                    let due = if damage { "damage" } else { otherwise };
                    assert_eq!(what, due, "bad {bad}, floor {floor:?}");
                }
            }
        }
    }

    #[test]
    fn leftovers_of_a_recycled_file_are_no_records() {
        let (old, _) = log(5, |_| 0);
        let mut bytes = Vec::new();
        let stamp = Stamp {
            epoch: Epoch(2),
            time: Millis(9),
            synced: Lsn(0),
            kind: Kind::Effects,
        };
        encode(&mut bytes, ChainPoint::default(), stamp, &[b"value 1"]);
        let same_length = bytes.len();
        bytes.extend(&old[same_length..]);
        assert_eq!(verdict(&bytes, false).0, 1);
    }
}
