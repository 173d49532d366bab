//! What is measured: rows as a user chooses them, and the cases and runs that each consists of.

use clap::ValueEnum;
use serde::Serialize;

/// What can be chosen with `--rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Nothing else goes on
    Rest,
    /// A snapshot; Redis: BGSAVE, BGREWRITEAOF
    Snapshot,
    /// Segments, snapshots and memory are checked
    Scrub,
    /// The log goes on to its next segment
    Turnover,
    /// A standby that was away catches up; Redis: a replica resyncs
    CatchUp,
    /// The primary is killed
    Takeover,
    /// Time from a start to the first answer
    Restart,
    /// Time until a standby that was away, or has nothing, has everything
    CatchUpTime,
}

/// Whose latency a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// understudy sync, two data nodes and a witness
    Pair,
    /// understudy sync, three data nodes
    Three,
    /// redis-server and a replica, WAIT 1 behind each write
    Redis,
}

impl Who {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Pair => "understudy sync",
            Who::Three => "understudy sync, three data nodes",
            Who::Redis => "redis WAIT 1",
        }
    }
}

/// One latency measurement of each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// understudy
    Rest,
    /// understudy
    Snapshot,
    /// understudy
    Scrub,
    /// understudy
    Turnover,
    /// redis
    RedisRest,
    /// redis
    RedisSave,
    /// redis
    RedisRewrite,
    /// redis
    RedisResync,
    /// understudy, three data nodes
    ThreeRest,
    /// understudy, three data nodes
    CatchUp,
    /// understudy, three data nodes
    Takeover,
}

impl Case {
    /// All, in the order of a round: who is compared with whom comes close to it.
    pub const ALL: [Case; 11] = [
        Case::Rest,
        Case::Snapshot,
        Case::RedisRest,
        Case::RedisSave,
        Case::RedisRewrite,
        Case::Scrub,
        Case::Turnover,
        Case::CatchUp,
        Case::ThreeRest,
        Case::Takeover,
        Case::RedisResync,
    ];

    /// Who is measured.
    pub fn who(self) -> Who {
        match self {
            Case::Rest | Case::Snapshot | Case::Scrub | Case::Turnover => Who::Pair,
            Case::ThreeRest | Case::CatchUp | Case::Takeover => Who::Three,
            Case::RedisRest | Case::RedisSave | Case::RedisRewrite | Case::RedisResync => {
                Who::Redis
            }
        }
    }

    /// The row it belongs to.
    pub fn row(self) -> Row {
        match self {
            Case::Rest | Case::RedisRest | Case::ThreeRest => Row::Rest,
            Case::Snapshot | Case::RedisSave | Case::RedisRewrite => Row::Snapshot,
            Case::Scrub => Row::Scrub,
            Case::Turnover => Row::Turnover,
            Case::CatchUp | Case::RedisResync => Row::CatchUp,
            Case::Takeover => Row::Takeover,
        }
    }

    /// What goes on meanwhile.
    pub fn name(self) -> &'static str {
        match self.row() {
            Row::Rest => "at rest",
            _ => match self {
                Case::Snapshot => "during a snapshot",
                Case::RedisSave => "during BGSAVE",
                Case::RedisRewrite => "during BGREWRITEAOF",
                Case::Scrub => "during a scrub",
                Case::Turnover => "around a segment's turnover",
                Case::CatchUp => "during a standby's catch-up",
                Case::RedisResync => "during a second replica's full resync",
                _ => "during a takeover",
            },
        }
    }

    /// What is counted meanwhile; for tables.
    pub fn counted(self) -> Option<&'static str> {
        Some(match self {
            Case::Rest | Case::RedisRest | Case::ThreeRest => return None,
            Case::Snapshot => "snapshots under way on two nodes",
            Case::RedisSave => "BGSAVEs",
            Case::RedisRewrite => "BGREWRITEAOFs",
            Case::Scrub => "MB read back on two nodes",
            Case::Turnover => "turnovers on two nodes",
            Case::CatchUp => "records caught up with",
            Case::RedisResync => "keys resynced",
            Case::Takeover => "takeovers",
        })
    }

    /// Whether it is measured where these rows are wanted: a row needs its own rest to be held
    /// against.
    pub fn is_wanted(self, rows: &[Row]) -> bool {
        let chosen = |case: Case| rows.contains(&case.row());
        let mut own = Case::ALL
            .into_iter()
            .filter(|case| case.who() == self.who());
        chosen(self) || (self.row() == Row::Rest && own.any(chosen))
    }
}

/// One measurement of time of each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// understudy, alone, killed, its log replayed
    Restart,
    /// redis, alone, killed, its append-only file replayed
    RedisRestart,
    /// understudy, a standby without anything
    Blank,
    /// understudy, the same, nothing paced
    BlankUnpaced,
    /// understudy, a standby that was away
    Away,
    /// understudy, the same, nothing paced
    AwayUnpaced,
    /// redis, a replica without anything, by way of a file
    RedisDisk,
    /// redis, the same, over the socket
    RedisDiskless,
}

impl Run {
    /// All, in the order of a round.
    pub const ALL: [Run; 8] = [
        Run::Restart,
        Run::RedisRestart,
        Run::Away,
        Run::Blank,
        Run::AwayUnpaced,
        Run::BlankUnpaced,
        Run::RedisDisk,
        Run::RedisDiskless,
    ];

    /// Who does what, as it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Run::Restart => "understudy starts, log replayed",
            Run::RedisRestart => "redis starts, AOF replayed",
            Run::Blank => "understudy, blank standby, defaults",
            Run::BlankUnpaced => "understudy, blank standby, unpaced",
            Run::Away => "understudy, standby that was away, defaults",
            Run::AwayUnpaced => "understudy, standby that was away, unpaced",
            Run::RedisDisk => "redis, full resync, by way of a file",
            Run::RedisDiskless => "redis, full resync, diskless",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_brings_its_rest_along_and_no_others() {
        let wanted = |rows: &[Row]| -> Vec<Case> {
            let wanted = Case::ALL.into_iter().filter(|case| case.is_wanted(rows));
            wanted.collect()
        };
        assert_eq!(wanted(&[Row::Scrub]), [Case::Rest, Case::Scrub]);
        assert_eq!(
            wanted(&[Row::CatchUp]),
            [
                Case::RedisRest,
                Case::CatchUp,
                Case::ThreeRest,
                Case::RedisResync
            ]
        );
        assert_eq!(wanted(&[Row::Restart]), []);
        assert_eq!(wanted(Row::value_variants()), Case::ALL);
    }
}
