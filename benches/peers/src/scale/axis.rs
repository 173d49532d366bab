//! Along what the work grows, who is measured there, and what is shown of it.

use clap::ValueEnum;
use serde::Serialize;

use crate::cells::Line;

/// One sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Number of keys, all present
    Keys,
    /// Bytes of each value
    Values,
    /// Connections
    Clients,
    /// Requests outstanding on each connection
    Pipeline,
    /// Standbys, Redis's replicas
    Standbys,
    /// Records of log replayed at a start, without a snapshot
    Replay,
    /// Records that a standby lacks when it comes back
    CatchUp,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// understudy, sync.
    Sync,
    /// understudy, async.
    Async,
    /// understudy, one node.
    Alone,
    /// understudy, `copy_rate = 0`.
    Unpaced,
    /// understudy, `copy_rate` as it is unless configured.
    Paced,
    /// Redis, `WAIT 1` after each batch.
    RedisWaitOne,
    /// Redis, `WAIT` for as many replicas as understudy in sync mode waits for.
    RedisWaitMajority,
    /// Redis, no `WAIT`.
    Redis,
}

/// What is told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// SETs answered per second.
    SetPerSecond,
    /// Bytes of their values per second, in units of 10^6.
    SetMegabytesPerSecond,
    /// 99 of 100 SETs took at most this, microseconds.
    SetP99Us,
    /// CPU time of all servers of the system per SET, microseconds.
    SetCpuUs,
    /// GETs answered per second.
    GetPerSecond,
    /// 99 of 100 GETs took at most this, microseconds.
    GetP99Us,
    /// CPU time of all servers of the system per GET, microseconds.
    GetCpuUs,
    /// Growth of the primary's resident memory by each key.
    BytesPerKey,
    /// From the start of all data nodes, which were killed, to the first answer.
    RestartSeconds,
    /// From the start of one process to its first answer, or to being level with the primary.
    Seconds,
    /// Records over those seconds.
    RecordsPerSecond,
}

impl Axis {
    /// What its numbers count.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Keys => "keys",
            Axis::Values => "bytes of a value",
            Axis::Clients => "clients",
            Axis::Pipeline => "pipeline",
            Axis::Standbys => "standbys",
            Axis::Replay => "records to replay at a start",
            Axis::CatchUp => "records to catch up with",
        }
    }

    /// Where it is measured; `most_keys` and `most_records` cut the long ones short.
    pub fn points(self, most_keys: u64, most_records: u64) -> Vec<u64> {
        match self {
            Axis::Keys => up_to(most_keys, &[10_000, 100_000, 1_000_000, 10_000_000]),
            Axis::Values => vec![10, 100, 1_000, 10_000, 100_000, 1_000_000],
            Axis::Clients => vec![1, 10, 50, 200, 1_000, 5_000],
            Axis::Pipeline => vec![1, 4, 16, 64, 100],
            Axis::Standbys => vec![0, 1, 2, 3, 4],
            Axis::Replay | Axis::CatchUp => up_to(most_records, &[1_000_000, 10_000_000]),
        }
    }

    /// Whether its points grow by factors; standbys begin at none.
    pub fn is_logarithmic(self) -> bool {
        self != Axis::Standbys
    }

    /// What the table and the picture show; the file has everything.
    pub fn figures(self) -> &'static [Figure] {
        use Figure::{
            BytesPerKey, GetPerSecond, RecordsPerSecond, RestartSeconds, Seconds, SetCpuUs,
            SetMegabytesPerSecond, SetP99Us, SetPerSecond,
        };
        match self {
            Axis::Keys => &[SetPerSecond, GetPerSecond, BytesPerKey, RestartSeconds],
            Axis::Values => &[SetPerSecond, SetMegabytesPerSecond, SetCpuUs],
            Axis::Clients => &[SetPerSecond, SetP99Us, SetCpuUs],
            Axis::Pipeline => &[SetPerSecond, SetP99Us, SetCpuUs],
            Axis::Standbys => &[SetPerSecond, SetCpuUs],
            Axis::Replay | Axis::CatchUp => &[RecordsPerSecond, Seconds],
        }
    }

    /// Whom the table and the picture show, in order.
    pub fn who(self) -> &'static [Who] {
        use Who::{Alone, Async, Paced, Redis, RedisWaitMajority, RedisWaitOne, Sync, Unpaced};
        match self {
            Axis::Standbys => &[Sync, RedisWaitMajority, Async, Redis],
            Axis::Replay => &[Alone, Redis],
            Axis::CatchUp => &[Unpaced, Paced, Redis],
            _ => &[Sync, RedisWaitOne],
        }
    }
}

/// The points that are not beyond `most`; that one itself where all are.
fn up_to(most: u64, points: &[u64]) -> Vec<u64> {
    let within = points.iter().copied().filter(|point| *point <= most);
    let within: Vec<u64> = within.collect();
    if within.is_empty() {
        vec![most]
    } else {
        within
    }
}

impl Who {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Sync => "understudy sync",
            Who::Async => "understudy async",
            Who::Alone => "understudy",
            Who::Unpaced => "understudy, unpaced",
            Who::Paced => "understudy, default",
            Who::RedisWaitOne => "redis WAIT 1",
            Who::RedisWaitMajority => "redis WAIT majority",
            Who::Redis => "redis",
        }
    }

    /// Whom of Redis it is held against; none of Redis itself.
    pub fn rival(self) -> Option<&'static [Who]> {
        match self {
            Who::Sync => Some(&[Who::RedisWaitOne, Who::RedisWaitMajority]),
            Who::Async | Who::Alone | Who::Unpaced | Who::Paced => Some(&[Who::Redis]),
            Who::RedisWaitOne | Who::RedisWaitMajority | Who::Redis => None,
        }
    }

    /// The ring's line that is pressed in the same way.
    pub fn line(self) -> Line {
        match self {
            Who::Sync => Line::OursSync,
            Who::Async => Line::OursAsync,
            Who::Unpaced | Who::Paced => Line::OursSemiSync,
            Who::Alone => Line::OursAlone,
            Who::RedisWaitOne | Who::RedisWaitMajority => Line::RedisWait,
            Who::Redis => Line::RedisReplica,
        }
    }
}

impl Figure {
    /// As it stands above a column.
    pub fn name(self) -> &'static str {
        match self {
            Figure::SetPerSecond => "SET/s",
            Figure::SetMegabytesPerSecond => "MB/s",
            Figure::SetP99Us => "p99 of a SET",
            Figure::SetCpuUs => "CPU per SET",
            Figure::GetPerSecond => "GET/s",
            Figure::GetP99Us => "p99 of a GET",
            Figure::GetCpuUs => "CPU per GET",
            Figure::BytesPerKey => "memory per key",
            Figure::RestartSeconds => "restart",
            Figure::Seconds => "time",
            Figure::RecordsPerSecond => "records/s",
        }
    }

    /// The unit that its bare numbers have, where the name does not say it.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::SetP99Us | Figure::SetCpuUs | Figure::GetP99Us | Figure::GetCpuUs => "µs",
            Figure::BytesPerKey => "bytes",
            Figure::RestartSeconds | Figure::Seconds => "s",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_look_still_measures_something() {
        assert_eq!(Axis::Keys.points(100_000, 0), [10_000, 100_000]);
        assert_eq!(Axis::Keys.points(500, 0), [500]);
        assert_eq!(Axis::CatchUp.points(0, 2_000_000), [1_000_000]);
    }

    #[test]
    fn everybody_of_ours_has_one_rival_on_each_axis() {
        for axis in Axis::value_variants() {
            for who in axis.who().iter().filter_map(|who| who.rival()) {
                let there = who.iter().filter(|rival| axis.who().contains(rival));
                assert_eq!(there.count(), 1, "{axis:?}");
            }
        }
    }
}
