//! Where the newest records of a reign lie in bytes and in time, so that "how far behind is LSN x"
//! costs no read of the log.
//!
//! Promise: never less than the truth. A run of records stands for all of them: what begins inside
//! one counts from the run's first record. Runs are single records while there is room, and are
//! merged in pairs when there is not, so that memory is bounded and the error stays below a
//! thousandth of the whole distance (and what the pair itself spans).
//!
//! It knows only what was appended since `restart`: of an older LSN it says nothing.

use std::collections::VecDeque;

use crate::replica::MaxLag;
use crate::units::{Lsn, Millis};
use crate::wal::ChainPoint;

/// Runs kept; merged down to half when exceeded. 24 bytes each.
const MAX_RUNS: usize = 4096;

/// Consecutive records, up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Lsn,
    /// Byte offset in front of `first`.
    offset: u64,
    /// The time of `first`.
    time: Millis,
}

/// What lies behind an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// Byte offset in front of it, or a little less.
    pub(super) offset: u64,
    /// The time of its first record, or of one a little earlier; `None`: there is none.
    pub(super) since: Option<Millis>,
}

/// The index of one reign.
#[derive(Debug)]
pub(super) struct LagIndex {
    runs: VecDeque<Run>,
    /// Behind the last record.
    end: ChainPoint,
    /// Records per run from here on.
    stride: u64,
}

impl LagIndex {
    /// Knows nothing up to `end`.
    pub(super) fn new(end: ChainPoint) -> LagIndex {
        LagIndex {
            runs: VecDeque::new(),
            end,
            stride: 1,
        }
    }

    /// Forgets everything: the next record follows `end`.
    pub(super) fn restart(&mut self, end: ChainPoint) {
        *self = LagIndex::new(end);
    }

    /// One record more, ending at `after`.
    pub(super) fn push(&mut self, after: ChainPoint) {
        let run = Run {
            first: after.lsn,
            offset: self.end.offset,
            time: after.time,
        };
        self.end = after;
        let fits = |last: &Run| run.first.0 < last.first.0 + self.stride;
        if self.runs.back().is_some_and(fits) {
            return;
        }
        self.runs.push_back(run);
        if self.runs.len() > MAX_RUNS {
            let mut place = 0;
            self.runs.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// What is up to `base` is not asked for again.
    pub(super) fn forget(&mut self, base: Lsn) {
        while self.runs.get(1).is_some_and(|run| run.first <= base) {
            self.runs.pop_front();
        }
        if self.runs.len() < MAX_RUNS / 8 {
            self.stride = 1;
        }
    }

    /// Where what follows `base` begins; `None` where that is not known any more.
    pub(super) fn behind(&self, base: Lsn) -> Option<Behind> {
        if base >= self.end.lsn {
            return Some(Behind {
                offset: self.end.offset,
                since: None,
            });
        }
        let place = self.runs.partition_point(|run| run.first <= base.next());
        let run = self.runs.get(place.checked_sub(1)?)?;
        Some(Behind {
            offset: run.offset,
            since: Some(run.time),
        })
    }

    /// Byte offset behind the record `lsn`, or a little more.
    pub(super) fn offset_upto(&self, lsn: Lsn) -> u64 {
        let place = self.runs.partition_point(|run| run.first <= lsn);
        self.runs
            .get(place)
            .map_or(self.end.offset, |run| run.offset)
    }

    /// The last record within `budget` counted from `base`; `base` itself where nothing is known.
    pub(super) fn reach(&self, base: Lsn, budget: MaxLag) -> Lsn {
        let Some(from) = self.behind(base) else {
            return base;
        };
        let Some(since) = from.since else {
            return self.end.lsn.max(base);
        };
        let (bytes, until) = match budget {
            MaxLag::Records(records) => return Lsn(base.0.saturating_add(records)),
            MaxLag::Bytes(bytes) => (Some(from.offset.saturating_add(bytes)), None),
            MaxLag::Ms(ms) => (None, Some(Millis(since.0.saturating_add(ms)))),
        };
        if bytes.is_none_or(|most| self.end.offset <= most)
            && until.is_none_or(|until| self.end.time <= until)
        {
            return self.end.lsn;
        }
        // The first record of a run that begins in time is in time itself, and all before it are;
        // in bytes it is those before it.
        let last = match (bytes, until) {
            (Some(most), _) => {
                let place = self.runs.partition_point(|run| run.offset <= most);
                place.checked_sub(1).map(|i| self.runs[i].first.previous())
            }
            (_, Some(until)) => {
                let place = self.runs.partition_point(|run| run.time <= until);
                place.checked_sub(1).map(|i| self.runs[i].first)
            }
            (None, None) => None,
        };
        last.unwrap_or(base).max(base)
    }

    /// Whether a record that ends at `offset` and bears `now` may follow, `budget` being counted
    /// from `base`.
    pub(super) fn admits(&self, base: Lsn, budget: MaxLag, offset: u64, now: Millis) -> bool {
        let Some(from) = self.behind(base) else {
            return false;
        };
        match (budget, from.since) {
            (MaxLag::Records(records), _) => {
                self.end.lsn.next().0 <= base.0.saturating_add(records)
            }
            (MaxLag::Bytes(bytes), _) => offset.saturating_sub(from.offset) <= bytes,
            // The first record behind the base opens the span.
            (MaxLag::Ms(_), None) => true,
            (MaxLag::Ms(ms), Some(since)) => now.0.saturating_sub(since.0) <= ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Epoch;

    fn point(lsn: u64, offset: u64, time: u64) -> ChainPoint {
        ChainPoint {
            lsn: Lsn(lsn),
            epoch: Epoch(1),
            crc: 0,
            time: Millis(time),
            offset,
        }
    }

    /// Behind LSN 10 at byte 1000: records of 100 bytes, one each 10 ms from 5000 on.
    fn index(records: u64) -> LagIndex {
        let mut index = LagIndex::new(point(10, 1000, 4000));
        for n in 0..records {
            index.push(point(11 + n, 1100 + n * 100, 5000 + n * 10));
        }
        index
    }

    #[test]
    fn what_lies_behind_an_lsn() {
        let index = index(5);
        let at = |base| index.behind(Lsn(base)).map(|b| (b.offset, b.since));
        let cases = [
            (9, None),
            (10, Some((1000, Some(Millis(5000))))),
            (11, Some((1100, Some(Millis(5010))))),
            (14, Some((1400, Some(Millis(5040))))),
            (15, Some((1500, None))),
            (16, Some((1500, None))),
        ];
        for (base, wanted) in cases {
            assert_eq!(at(base), wanted, "behind {base}");
        }
        for (lsn, wanted) in [(11, 1100), (14, 1400), (15, 1500), (99, 1500)] {
            assert_eq!(index.offset_upto(Lsn(lsn)), wanted, "up to {lsn}");
        }
    }

    #[test]
    fn reach_and_admission() {
        let index = index(5);
        // Budget, base; the last record within it; may one of 100 bytes at 5050 follow?
        let cases = [
            (MaxLag::Records(5), 10, 15, false),
            (MaxLag::Records(6), 10, 16, true),
            (MaxLag::Bytes(99), 10, 10, false),
            (MaxLag::Bytes(250), 10, 12, false),
            (MaxLag::Bytes(500), 10, 15, false),
            (MaxLag::Bytes(600), 10, 15, true),
            (MaxLag::Bytes(100), 15, 15, true),
            (MaxLag::Bytes(99), 15, 15, false),
            (MaxLag::Ms(0), 10, 11, false),
            (MaxLag::Ms(19), 10, 12, false),
            (MaxLag::Ms(25), 10, 13, false),
            (MaxLag::Ms(40), 10, 15, false),
            (MaxLag::Ms(50), 10, 15, true),
            (MaxLag::Ms(0), 15, 15, true),
            (MaxLag::Bytes(1 << 40), 9, 9, false),
            (MaxLag::Ms(1 << 40), 9, 9, false),
        ];
        for (budget, base, reach, admits) in cases {
            let base = Lsn(base);
            assert_eq!(
                index.reach(base, budget),
                Lsn(reach),
                "{budget} from {base}"
            );
            let admitted = index.admits(base, budget, 1600, Millis(5050));
            assert_eq!(admitted, admits, "{budget} from {base}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_answer_never_less_than_the_truth() {
        let records = 300_000;
        let mut index = index(records);
        assert!(index.runs.len() <= MAX_RUNS);
        let whole = records * 100;
        for base in (10..10 + records).step_by(997) {
            let behind = index.behind(Lsn(base)).expect("it is known");
            let exact = 1000 + (base - 10) * 100;
            assert!(behind.offset <= exact, "less than the truth at {base}");
            assert!(
                exact - behind.offset <= whole / 1000,
                "far from it at {base}"
            );
            let reach = index.reach(Lsn(base), MaxLag::Bytes(1_000_000)).0;
            assert!(reach >= base && reach <= base + 10_000, "{base}: {reach}");
            let reach = index.reach(Lsn(base), MaxLag::Ms(100_000)).0;
            assert!(reach >= base && reach <= base + 10_001, "{base}: {reach}");
        }
        index.forget(Lsn(10 + records - 3));
        assert!(index.runs.len() <= 2 && index.stride == 1);
        let behind = index.behind(Lsn(10 + records - 3));
        assert!(behind.is_some_and(|behind| behind.offset <= index.end.offset - 300));
        index.restart(point(3, 7, 0));
        assert_eq!(index.behind(Lsn(2)), None);
        assert_eq!(index.behind(Lsn(3)).map(|b| b.offset), Some(7));
    }
}
