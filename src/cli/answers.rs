//! What a node answers over HTTP, as the commands read it.
//!
//! Every number a node may not know is an `Option`, and unknown keys are ignored, so that a newer
//! node can be asked by an older command. Shapes are those of `GET /cluster`, `GET /history`,
//! `GET /discarded`, `GET /promote-price` and the answers of the two `POST`s.

use serde::{Deserialize, Serialize};

/// `GET /cluster`: the cluster as the answering node knows it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Cluster {
    /// The cluster's name.
    pub scope: String,
    /// The cluster's random identity, in hexadecimal; empty before the first start.
    pub cluster_id: Option<String>,
    /// The node that answered.
    pub answered_by: Option<u32>,
    /// The newest epoch that node knows.
    pub epoch: u64,
    /// The primary, if one is known.
    pub primary: Option<u32>,
    /// `async`, `semi-sync` or `sync`.
    pub mode: String,
    /// `ok`, `fallen back` or `changing`.
    pub mode_state: String,
    /// The commit rule in force.
    pub rule: Option<Rule>,
    /// What would be lost if the primary died now; only a primary that others could follow says.
    pub lost_if_primary_died: Option<Exposure>,
    /// Longest time until a silent primary is suspected, milliseconds.
    pub worst_case_detection_ms: Option<u64>,
    /// How the answering node stands with its disk.
    pub disk: Option<DiskState>,
    /// Sentences for a person, such as why no automatic takeover is possible.
    pub notes: Vec<String>,
    /// All members.
    pub members: Vec<Member>,
}

impl Cluster {
    /// The member with this number.
    pub fn member(&self, id: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// How a node stands with the disk of its data directory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DiskState {
    /// It refused room for the log or for the reserve, and has granted none since.
    pub full: bool,
    /// For how long, milliseconds.
    pub full_for_ms: Option<u64>,
    /// Bytes free there.
    pub free_bytes: Option<u64>,
    /// The room kept back for control state is there.
    pub reserve: bool,
    /// Age of the log's write or sync in flight, milliseconds.
    pub stalled_ms: u64,
    /// That is more than `wal.stall`.
    pub stalls: bool,
}

/// Released records that not every possible successor is known to hold.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Exposure {
    /// How many.
    pub records: u64,
    /// Their bytes; `None` where not known.
    pub bytes: Option<u64>,
    /// Milliseconds since the first of them was written; `None` where not known.
    pub ms: Option<u64>,
}

/// Who must hold a record before it is released.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rule {
    /// Epoch of the rule.
    pub epoch: u64,
    /// Version inside its epoch.
    pub version: u64,
    /// The nodes that count.
    pub members: Vec<u32>,
    /// How many of them must hold a record.
    pub copies: u32,
    /// `received`, `synced` or `applied`.
    pub level: String,
    /// Writes stall when a standby lags more records than this.
    pub max_lag_records: Option<u64>,
    /// The same in bytes.
    pub max_lag_bytes: Option<u64>,
    /// The same in milliseconds of writes.
    pub max_lag_ms: Option<u64>,
}

/// One member of the cluster.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Member {
    /// The member's number.
    pub id: u32,
    /// `leader`, `replica`, `witness`, `learner` or `uninitialized`.
    pub role: String,
    /// `running`, `streaming`, `connecting`, `loading`, `unreachable` or `stopped`.
    pub state: String,
    /// `data` or `witness`.
    pub kind: String,
    /// Where clients reach it, `HOST:PORT`.
    pub client_addr: Option<String>,
    /// Where peers reach it, `HOST:PORT`.
    pub peer_addr: Option<String>,
    /// Where its HTTP is reached, `HOST:PORT`.
    pub http_addr: Option<String>,
    /// Newest epoch it is known to be in.
    pub epoch: Option<u64>,
    /// Whether it votes.
    pub vote: Option<bool>,
    /// Whether the commit rule counts it.
    pub in_rule: Option<bool>,
    /// Whether it would take over: it is not out of disk, loading or repairing. Of others only the
    /// primary knows.
    pub fit: Option<bool>,
    /// Last record in its log.
    pub appended_lsn: Option<u64>,
    /// Last record durable there.
    pub synced_lsn: Option<u64>,
    /// Last record it knows to be released.
    pub released_lsn: Option<u64>,
    /// Last record visible to its readers.
    pub applied_lsn: Option<u64>,
    /// Last record it acknowledged to the primary.
    pub acked_lsn: Option<u64>,
    /// The newest record behind which its keyspace was proven to be the primary's.
    pub proven_equal_lsn: Option<u64>,
    /// Bytes of log it lacks.
    pub lag: Option<u64>,
    /// Records it lacks.
    pub lag_records: Option<u64>,
    /// Milliseconds it is behind.
    pub lag_ms: Option<u64>,
    /// What the primary keeps of its log for this standby; only the primary says.
    pub log_kept: Option<LogKept>,
    /// What is left of the lease, milliseconds.
    pub lease_ms: Option<u64>,
    /// Whether the answering node has a connection to it.
    pub connected: Option<bool>,
}

/// A standby's share of its primary's log.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LogKept {
    /// `kept`, `full copy needed`, or `unknown` where it was not heard of in this reign.
    pub state: String,
    /// Bytes of log kept from what it lacks on, whole segments.
    pub bytes: Option<u64>,
    /// Bytes that are kept for it at most.
    pub budget_bytes: u64,
    /// How fast the log grows.
    pub append_bytes_per_second: u64,
    /// At that pace it is cut loose in so long, milliseconds; `None`: nothing points to it.
    pub cut_loose_in_ms: Option<u64>,
}

/// `GET /history`: past takeovers, newest last.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// The reports.
    pub takeovers: Vec<Takeover>,
}

/// The report of one takeover.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Takeover {
    /// The reign it began.
    pub epoch: u64,
    /// `failover`, `switchover`, `start`, `restart` or `forced`.
    pub kind: String,
    /// Who was primary before.
    pub old_primary: Option<u32>,
    /// Who won.
    pub new_primary: u32,
    /// Wall clock of the winner when it had won, milliseconds since 1970.
    pub at_ms: u64,
    /// `process gone`, `missed beats`, `abdication`, `operator` or `start`.
    pub detected_by: String,
    /// When each phase was reached.
    pub phases_us: Phases,
    /// Age of the last heartbeat when suspicion arose, microseconds.
    pub since_last_beat_us: Option<u64>,
    /// Where the new reign's log leaves the old one.
    pub fork: Option<Fork>,
    /// Why this node won.
    pub why_won: String,
    /// Why the others did not.
    pub others: Vec<Other>,
    /// What was lost.
    pub loss: Loss,
}

/// Microseconds from suspicion to each phase; `None` when it was not reached.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Phases {
    /// Suspicion itself: 0.
    pub suspected: Option<u64>,
    /// The votes that win were in.
    pub voted: Option<u64>,
    /// The winner acts as primary.
    pub promoted: Option<u64>,
    /// The first record of the reign was released.
    pub first_release: Option<u64>,
}

/// The last record two histories share.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Fork {
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub lsn: u64,
}

/// A member that did not win.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Other {
    /// The member.
    pub id: u32,
    /// Why it did not win.
    pub why_not: String,
}

/// What a takeover lost: a bound at once, the exact records when the old primary is back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Loss {
    /// Known at the takeover.
    pub bound: Bound,
    /// Known at the rejoin.
    pub exact: Option<Exact>,
}

/// The most that can have been lost. `None` means: not bounded in this unit.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Bound {
    /// Records.
    pub records: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
    /// Span of time in which acknowledged writes may be missing, milliseconds.
    pub span_ms: Option<u64>,
    /// Whether the commit rule proves the loss to be zero.
    pub exact_zero: bool,
}

/// What the old primary had behind the fork.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Exact {
    /// Records discarded.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them had been acknowledged to clients.
    pub acknowledged: Option<Acknowledged>,
    /// The node that discarded them.
    pub node: Option<u32>,
    /// Where they are kept, on that node.
    pub file: Option<String>,
}

/// How many discarded records clients had been told were safe (R33).
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledged {
    /// Exactly so many: the old primary stepped down alive.
    Exact(u64),
    /// At most so many: the old primary was killed.
    AtMost(u64),
}

/// `GET /discarded`: the files with what the asked node gave up on rejoining.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Discards {
    /// The node asked.
    pub node: u32,
    /// Its files, oldest first.
    pub files: Vec<DiscardedFile>,
}

/// One file with discarded records.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DiscardedFile {
    /// `<epoch>-<first>-<last>.wal`.
    pub name: String,
    /// Epoch of the last record.
    pub epoch: u64,
    /// First LSN.
    pub first_lsn: u64,
    /// Last LSN.
    pub last_lsn: u64,
    /// Records of clients.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Time of the first of these records, milliseconds since 1970; `None` where there is none.
    pub first_ms: Option<u64>,
    /// Time of the last.
    pub last_ms: Option<u64>,
    /// What is wrong with the file, if anything is.
    pub problem: Option<String>,
}

/// `GET /promote-price`: what a promotion of the asked node may cost.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Price {
    /// The node asked.
    pub node: u32,
    /// Whether a forced promotion would be carried out.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: String,
    /// What may be lost.
    pub bound: Bound,
}

/// Answer of `POST /switchover` and `POST /promote`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Changed {
    /// The primary now.
    pub primary: u32,
    /// Its epoch.
    pub epoch: u64,
    /// How long writes waited, milliseconds.
    pub pause_ms: Option<u64>,
}
