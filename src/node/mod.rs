//! The driver: real files, sockets, clocks and threads around the takeover machine.
//!
//! | thread or task | what it does |
//! | --- | --- |
//! | wal-writer | writes and syncs the log, enters the machine after each |
//! | control-writer | makes control state durable |
//! | control (a runtime of its own) | heartbeats, votes, timers, own health |
//! | steward | begins and ends reigns, follows a primary |
//! | gatherer | announces what sessions append, once a turn brings no more |
//! | applier | makes released records visible on a standby |
//! | one task per stream | ships records, takes acknowledgements |
//! | historian | writes reports |
//! | scrub | reads segments and snapshots back, has damage mended |
//! | digests, memory scrub | compare keyspaces, add up what memory holds |
//!
//! Sessions (`server`) go by the published [`Gate`]: they never ask the machine.

mod amounts;
mod auth;
mod clock;
mod config;
mod copies;
mod copy;
mod copy_pace;
mod digests;
mod driver;
mod evict;
mod fitness;
mod exposure;
mod follow;
mod gate;
mod gather;
mod guard;
mod host;
mod lag_index;
mod latency;
mod lead;
mod links;
mod memory_limits;
mod mend;
mod notices;
mod once;
mod outlook;
mod repair;
mod reports;
mod retention;
mod rewriting;
mod room;
mod scrub;
mod snapshots;
mod start;
mod stats;
mod steward;
mod store;
mod stream;
mod tls;
mod transact;
mod tunables;
mod usage;
mod waiters;

pub use auth::{Auth, PasswordDigest};
pub use config::{
    AuthFile, ClusterFile, ConfigError, File, HeartbeatFile, LimitsFile, MemberFile,
    MemberSettings, ServerFile, Settings, Span, Text, TlsFile, WalFile, parse, parse_bytes,
    parse_member, read,
};
pub use copies::{Copied, Copies};
pub use copy_pace::CopyRate;
pub use driver::{Node, NodeEvent};
pub(crate) use evict::OUT_OF_MEMORY;
pub use exposure::Exposure;
pub use fitness::Unfit;
pub use gate::{Gate, Serves};
pub use guard::Guard;
pub use host::{Apart, Host, RealHost, Seen, Task};
pub use latency::{Latency, LatencyEvent, LatencySample, LatencySeries};
pub use memory_limits::{MOST_SAMPLES, MemoryLimits};
pub use once::{Memory, Once, RequestId};
pub use outlook::{Outlook, Presence, down_after};
pub use reports::{Acknowledged, ExactLoss, Reports, Takeover};
pub use retention::{Fate, Share};
pub use room::DiskState;
pub use scrub::ScrubState;
pub use snapshots::{CannotLoad, NoSnapshot};
pub use start::{Running, StartError, start};
pub use stats::Stats;
pub use store::{Executed, Refused, Store};
pub use tls::{ClientAuth, Tls};
pub use transact::{Outcome, Transacted, Watched};
pub use tunables::{Tunable, Tunables};
pub use usage::{Usage, process_usage};
