//! Which segments of the log may go, and what that means for each standby.
//!
//! Promise: a segment goes only when a durable snapshot replaces it (R30), and not while a standby
//! needs it whose share of the log is within the budget (`wal.standby_retain`). Beyond the budget a
//! standby is cut loose, which is told: it needs a full copy. So an absent standby never fills the
//! primary's disk.
//!
//! Deciding is pure: positions and sizes in, a plan out. The log is then cut by `snapshots`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::driver::Node;
use crate::replica::{Standing, View};
use crate::units::{Lsn, Micros, NodeId};
use crate::wal::ChainPoint;

/// Samples of the log's growth, and how far apart.
const SAMPLES: usize = 16;
const SAMPLE_EVERY: Micros = Micros::from_ms(1_000);
/// An older sample says nothing about the present rate while there is a newer one.
const SAMPLES_FOR: Micros = Micros::from_ms(30_000);

/// The log as it is.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// What each segment's first record follows, oldest first: LSN and byte offset.
    pub(super) segments: Vec<(Lsn, u64)>,
    /// Byte offset behind the last record.
    pub(super) end: u64,
}

impl Kept {
    pub(super) fn of(segments: &[ChainPoint], end: ChainPoint) -> Kept {
        Kept {
            segments: segments.iter().map(|at| (at.lsn, at.offset)).collect(),
            end: end.offset,
        }
    }

    /// The segment in which what follows `lsn` begins; `None`: it is not kept any more.
    fn holding(&self, lsn: Lsn) -> Option<(Lsn, u64)> {
        let place = self.segments.partition_point(|(before, _)| *before <= lsn);
        self.segments.get(place.checked_sub(1)?).copied()
    }

    /// The oldest segment from which on the log is within `bytes`; the newest one always.
    fn within(&self, bytes: u64) -> Option<(Lsn, u64)> {
        let fits = |(_, offset): &&(Lsn, u64)| self.end.saturating_sub(*offset) <= bytes;
        let oldest = self.segments.iter().find(fits);
        oldest.or(self.segments.last()).copied()
    }
}

/// What the log kept means for a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All it lacks is kept: so many bytes of log, whole segments.
    Kept {
        /// What is kept for it.
        bytes: u64,
    },
    /// What it lacks is kept no more: it needs a full copy.
    CutLoose,
    /// Not heard of in this reign; what the budget allows is kept for it.
    Unknown,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Segments that end here or before may go: where the oldest one begins that stays.
    pub(super) remove_before: Lsn,
    /// What that means for each standby.
    pub(super) fates: Vec<(NodeId, Fate)>,
}

/// Decides. `replaced`: up to where a durable snapshot replaces the log. `standbys`: the other data
/// nodes and the last record each is known to hold. `budget`: bytes of log kept for one of them.
pub(super) fn decide(
    kept: &Kept,
    replaced: Lsn,
    standbys: &[(NodeId, Option<Lsn>)],
    budget: u64,
) -> Plan {
    let needed = |position: &Option<Lsn>| match position {
        Some(lsn) => {
            let segment = kept.holding(*lsn)?;
            (kept.end.saturating_sub(segment.1) <= budget).then_some(segment)
        }
        None => kept.within(budget),
    };
    let floors = standbys.iter().filter_map(|(_, position)| needed(position));
    let floor = floors.map(|(before, _)| before).min();
    let upto = floor.map_or(replaced, |floor| floor.min(replaced));
    // Whole segments, never the last.
    let ends = kept.segments.iter().skip(1);
    let gone = ends.take_while(|(end, _)| *end <= upto).count();
    let oldest = kept.segments.get(gone).map_or(Lsn::ZERO, |at| at.0);
    let fate = |position: Option<Lsn>| match position {
        None => Fate::Unknown,
        Some(lsn) if lsn < oldest => Fate::CutLoose,
        Some(lsn) => Fate::Kept {
            bytes: kept
                .holding(lsn)
                .map_or(0, |(_, offset)| kept.end.saturating_sub(offset)),
        },
    };
    Plan {
        remove_before: oldest,
        fates: standbys.iter().map(|(id, at)| (*id, fate(*at))).collect(),
    }
}

/// How fast the log has grown of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<(Micros, u64)>,
}

impl Pace {
    /// The log ends at this byte offset now.
    pub(super) fn note(&mut self, now: Micros, offset: u64) {
        let newest = self.samples.back();
        if newest.is_some_and(|(at, _)| now.since(*at) < SAMPLE_EVERY) {
            return;
        }
        self.samples.push_back((now, offset));
        let old = |(at, _): &(Micros, u64)| now.since(*at) > SAMPLES_FOR;
        while self.samples.len() > SAMPLES
            || (self.samples.len() > 2 && self.samples.front().is_some_and(old))
        {
            self.samples.pop_front();
        }
    }

    /// Bytes per second up to now.
    pub(super) fn bytes_per_second(&self, now: Micros, offset: u64) -> u64 {
        let Some((at, then)) = self.samples.front() else {
            return 0;
        };
        let us = u128::from(now.since(*at).0.max(1));
        let grown = u128::from(offset.saturating_sub(*then));
        u64::try_from(grown * 1_000_000 / us).unwrap_or(u64::MAX)
    }
}

/// What a node remembers between two decisions.
#[derive(Debug, Default)]
pub(super) struct Retention {
    pub(super) pace: Pace,
    told: BTreeMap<NodeId, Fate>,
}

impl Retention {
    /// Says once when a standby is cut loose.
    fn tell(&mut self, fates: &[(NodeId, Fate)], budget: u64) {
        for (id, fate) in fates {
            let before = self.told.insert(*id, *fate);
            if *fate == Fate::CutLoose && before != Some(Fate::CutLoose) {
                tracing::warn!(
                    "node {id} needs a full copy: what it lacks is more than \
                     wal.standby_retain ({budget} bytes) and is kept no more"
                );
            }
        }
    }
}

/// A standby's share of the log, for those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose.
    pub id: NodeId,
    /// What is kept for it.
    pub fate: Fate,
    /// Bytes of log that are kept for a standby at most.
    pub budget: u64,
    /// How fast the log grows, bytes per second.
    pub bytes_per_second: u64,
    /// At that pace it is cut loose in so long, at the earliest; `None`: it follows closely, or
    /// nothing is written, or it is cut loose already.
    pub cut_loose_in: Option<Duration>,
}

/// When a standby for which `bytes` are kept will be cut loose, at the earliest. One that streams
/// within a tenth of the budget is not going to be.
fn forecast(bytes: u64, budget: u64, streams: bool, bytes_per_second: u64) -> Option<Duration> {
    if bytes_per_second == 0 || (streams && bytes <= budget / 10) {
        return None;
    }
    let left = u128::from(budget.saturating_sub(bytes));
    let ms = left * 1_000 / u128::from(bytes_per_second);
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
}

impl Node {
    /// Positions of the other data nodes; a primary's.
    fn standby_positions(&self) -> Vec<(NodeId, Option<Lsn>)> {
        if !self.gate_now().is_primary() {
            return Vec::new();
        }
        let heard = self.heard();
        let others = self.settings.other_data_nodes();
        let position = |id| self.desk.needed_by(id).or_else(|| heard.received(id));
        others.map(|id| (id, position(id))).collect()
    }

    /// The log is kept for a standby from behind this record on, as far as its budget goes.
    pub(super) fn kept_within_budget(&self) -> Lsn {
        let log = self.store.log();
        let kept = Kept::of(&log.segment_starts(), log.end());
        let oldest = kept.within(self.settings.standby_retain_bytes);
        oldest.map_or(log.oldest().lsn, |(lsn, _)| lsn)
    }

    fn retention_plan(&self, replaced: Lsn) -> Plan {
        let log = self.store.log();
        let kept = Kept::of(&log.segment_starts(), log.end());
        let budget = self.settings.standby_retain_bytes;
        decide(&kept, replaced, &self.standby_positions(), budget)
    }

    /// What may go of the log, given what a durable snapshot replaces; tells who is cut loose.
    pub(super) fn removable(&self, replaced: Lsn) -> Lsn {
        let plan = self.retention_plan(replaced);
        let budget = self.settings.standby_retain_bytes;
        self.retention().tell(&plan.fates, budget);
        plan.remove_before
    }

    /// Each standby's share of this primary's log; empty on any other node.
    pub fn shares(&self, view: &View) -> Vec<Share> {
        if view.standing != Standing::Primary {
            return Vec::new();
        }
        let budget = self.settings.standby_retain_bytes;
        let (now, end) = (self.host.boot_time(), self.store.log().end().offset);
        let bytes_per_second = self.retention().pace.bytes_per_second(now, end);
        // Nothing is removed here, so nothing that is kept now counts as gone.
        let fates = self.retention_plan(Lsn::ZERO).fates;
        let share = |(id, fate): (NodeId, Fate)| {
            let streams = view.standbys.iter().any(|standby| standby.id == id);
            let cut_loose_in = match fate {
                Fate::Kept { bytes } => forecast(bytes, budget, streams, bytes_per_second),
                Fate::CutLoose | Fate::Unknown => None,
            };
            Share {
                id,
                fate,
                budget,
                bytes_per_second,
                cut_loose_in,
            }
        };
        fates.into_iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four segments of 100 records of 10 bytes, and 50 records more.
    fn kept() -> Kept {
        Kept {
            segments: (0..5).map(|n| (Lsn(n * 100), n * 1000)).collect(),
            end: 4500,
        }
    }

    #[test]
    fn what_goes_and_who_is_cut_loose() {
        use Fate::{CutLoose, Unknown};
        let held = |bytes| Fate::Kept { bytes };
        // Replaced up to; where the standby is; the budget. What goes, and the standby's fate.
        let cases = [
            ("no snapshot: nothing", 0, Some(450), 9999, 0, held(500)),
            ("no snapshot, far behind", 0, Some(20), 100, 0, held(4500)),
            ("close", 300, Some(450), 9999, 300, held(500)),
            ("within the budget", 300, Some(150), 3500, 100, held(3500)),
            ("one byte beyond it", 300, Some(150), 3499, 300, CutLoose),
            (
                "beyond, yet in the log",
                300,
                Some(310),
                100,
                300,
                held(1500),
            ),
            (
                "at the edge of a segment",
                400,
                Some(200),
                2500,
                200,
                held(2500),
            ),
            ("one record before it", 400, Some(199), 2500, 400, CutLoose),
            ("at the end", 450, Some(450), 0, 400, held(500)),
            ("never heard, large budget", 400, None, 9999, 0, Unknown),
            ("never heard, some budget", 400, None, 2500, 200, Unknown),
            ("never heard, none", 400, None, 0, 400, Unknown),
            ("knows nothing", 300, Some(0), 4500, 0, held(4500)),
        ];
        for (name, replaced, position, budget, goes, fate) in cases {
            let standbys = [(NodeId(2), position.map(Lsn))];
            let plan = decide(&kept(), Lsn(replaced), &standbys, budget);
            assert_eq!(plan.remove_before, Lsn(goes), "{name}");
            assert_eq!(plan.fates, [(NodeId(2), fate)], "{name}");
        }
        let mut cut = kept();
        cut.segments.drain(..3);
        let standbys = [(NodeId(2), Some(Lsn(299))), (NodeId(3), Some(Lsn(300)))];
        let plan = decide(&cut, Lsn(400), &standbys, 9999);
        let fates = [(NodeId(2), CutLoose), (NodeId(3), held(1500))];
        assert_eq!(plan.fates, fates, "what is gone already");
        assert_eq!(plan.remove_before, Lsn(300), "for the one that is not");
        assert_eq!(decide(&kept(), Lsn(250), &[], 0).remove_before, Lsn(200));
    }

    #[test]
    fn the_forecast_goes_by_the_present_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.bytes_per_second(Micros(5), 5), 0, "nothing is known");
        for second in 0..100u64 {
            let now = Micros::from_ms(second * 1000);
            // Silent at first, then 3 MB/s.
            pace.note(now, second.saturating_sub(50) * 3_000_000);
            pace.note(now.plus(Micros(10)), u64::MAX);
        }
        assert!(pace.samples.len() <= SAMPLES);
        let (now, end) = (Micros::from_ms(99_000), 49 * 3_000_000);
        assert_eq!(pace.bytes_per_second(now, end), 3_000_000);
        let later = Micros::from_ms(99_000 + 3_600_000);
        assert!(pace.bytes_per_second(later, end) < 20_000, "silent since");

        let secs = |n| Some(Duration::from_secs(n));
        assert_eq!(forecast(400, 1000, false, 10), secs(60));
        assert_eq!(forecast(2000, 1000, false, 10), secs(0), "any moment");
        assert_eq!(forecast(100, 1000, true, 10), None, "it follows closely");
        assert_eq!(forecast(101, 1000, true, 29), secs(31), "it does not");
        assert_eq!(forecast(400, 1000, false, 0), None, "nothing is written");
    }
}
