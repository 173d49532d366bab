//! What is measured: who (a line), under which pressure, doing what.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

/// A server set-up that is started once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemKind {
    /// understudy, async, two data nodes and a witness
    OursAsync,
    /// understudy, semi-sync, two data nodes and a witness
    OursSemiSync,
    /// understudy, sync, two data nodes and a witness
    OursSync,
    /// understudy, one node
    OursAlone,
    /// redis-server with a replica
    RedisPair,
    /// redis-server alone
    RedisAlone,
    /// Three etcd members
    Etcd,
    /// PostgreSQL with a synchronous standby
    Postgres,
}

impl SystemKind {
    /// As a person reads it.
    pub fn name(self) -> &'static str {
        match self {
            SystemKind::OursAsync => "understudy async",
            SystemKind::OursSemiSync => "understudy semi-sync",
            SystemKind::OursSync => "understudy sync",
            SystemKind::OursAlone => "understudy alone",
            SystemKind::RedisPair => "redis with replica",
            SystemKind::RedisAlone => "redis alone",
            SystemKind::Etcd => "etcd",
            SystemKind::Postgres => "postgres",
        }
    }
}

/// A system with one of its settings: one row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// understudy async, its standby running
    OursAsync,
    /// understudy semi-sync
    OursSemiSync,
    /// understudy sync
    OursSync,
    /// understudy without a standby
    OursAlone,
    /// Redis, AOF always, WAIT 1 after each batch
    RedisWait,
    /// Redis, AOF always, its replica running
    RedisReplica,
    /// Redis, AOF always, without a replica
    RedisAlone,
    /// etcd, put to the leader
    Etcd,
    /// PostgreSQL, synchronous_commit = remote_write
    PostgresRemoteWrite,
    /// PostgreSQL, synchronous_commit = on
    PostgresOn,
    /// PostgreSQL, synchronous_commit = remote_apply
    PostgresRemoteApply,
}

impl Line {
    /// As it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Line::OursAsync => "understudy async",
            Line::OursSemiSync => "understudy semi-sync",
            Line::OursSync => "understudy sync",
            Line::OursAlone => "understudy alone",
            Line::RedisWait => "redis WAIT 1",
            Line::RedisReplica => "redis + replica",
            Line::RedisAlone => "redis alone",
            Line::Etcd => "etcd",
            Line::PostgresRemoteWrite => "postgres remote_write",
            Line::PostgresOn => "postgres on",
            Line::PostgresRemoteApply => "postgres remote_apply",
        }
    }

    /// The servers behind it.
    pub fn system(self) -> SystemKind {
        match self {
            Line::OursAsync => SystemKind::OursAsync,
            Line::OursSemiSync => SystemKind::OursSemiSync,
            Line::OursSync => SystemKind::OursSync,
            Line::OursAlone => SystemKind::OursAlone,
            Line::RedisWait | Line::RedisReplica => SystemKind::RedisPair,
            Line::RedisAlone => SystemKind::RedisAlone,
            Line::Etcd => SystemKind::Etcd,
            Line::PostgresRemoteWrite | Line::PostgresOn | Line::PostgresRemoteApply => {
                SystemKind::Postgres
            }
        }
    }

    /// Whether the line has a GET row. A read asks one server and waits for no standby, so the
    /// settings that differ only in how a write waits have one row together.
    pub fn reads(self) -> bool {
        matches!(
            self,
            Line::OursAsync | Line::OursSync | Line::RedisReplica | Line::Etcd | Line::PostgresOn
        )
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Write one value: SET, Put, an upsert
    Set,
    /// Read one value: GET, a linearizable Range, a SELECT by primary key
    Get,
}

impl Operation {
    /// `SET` or `GET`, whatever the system calls it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Set => "SET",
            Operation::Get => "GET",
        }
    }
}

/// How many clients press, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// Connections.
    pub clients: usize,
    /// Requests outstanding on each.
    pub pipeline: usize,
}

impl FromStr for Pressure {
    type Err = String;

    fn from_str(text: &str) -> Result<Pressure, String> {
        let wrong = || format!("{text:?} is not CLIENTSxPIPELINE, such as 50x16");
        let (clients, pipeline) = text.split_once('x').ok_or_else(wrong)?;
        let number = |part: &str| part.parse().ok().filter(|n| (1..=1000).contains(n));
        Ok(Pressure {
            clients: number(clients).ok_or_else(wrong)?,
            pipeline: number(pipeline).ok_or_else(wrong)?,
        })
    }
}

/// One group of the tables: an operation under a pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// What is done.
    pub operation: Operation,
    /// By how many.
    #[serde(flatten)]
    pub pressure: Pressure,
}

impl Shape {
    /// A shape from plain numbers.
    pub fn new(operation: Operation, clients: usize, pipeline: usize) -> Shape {
        let pressure = Pressure { clients, pipeline };
        Shape {
            operation,
            pressure,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pressure { clients, pipeline } = self.pressure;
        let plural = if clients == 1 { "" } else { "s" };
        write!(f, "{} {clients} client{plural}, ", self.operation.name())?;
        match pipeline {
            1 => write!(f, "no pipeline"),
            depth => write!(f, "pipeline {depth}"),
        }
    }
}

/// All shapes, writes first.
pub fn shapes(pressures: &[Pressure]) -> Vec<Shape> {
    let with = |operation| {
        pressures.iter().map(move |pressure| Shape {
            operation,
            pressure: *pressure,
        })
    };
    with(Operation::Set).chain(with(Operation::Get)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_is_two_numbers() {
        let expected = Pressure {
            clients: 50,
            pipeline: 16,
        };
        assert_eq!("50x16".parse(), Ok(expected));
        for wrong in ["", "50", "x", "0x1", "1x0", "50x16x2", "1000000x1"] {
            assert!(wrong.parse::<Pressure>().is_err(), "{wrong}");
        }
    }
}
