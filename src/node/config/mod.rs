//! What the operator says: TOML keys (`file`), defaults (`settle`), contradictions (`check`). Turned into
//! plain settings, and from those into the takeover machine's configuration.

mod check;
mod file;
mod settle;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::auth::Auth;
use super::copy_pace::CopyRate;
use super::tls::Tls;
use crate::keyspace::{EventClasses, EvictionPolicy};
use crate::peer::{Identity, Secret, VersionRange};
use crate::replica::{Kind, Level, MaxLag, MaxLoss, Member, Mode};
use crate::units::{Micros, NodeId};
use crate::wal::Fsync;

pub use file::{
    AuthFile, ClusterFile, File, HeartbeatFile, LimitsFile, MemberFile, ServerFile, Span, Text,
    TlsFile, WalFile, parse, parse_bytes, read,
};
pub use settle::parse_member;

/// What is wrong with a configuration; one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

pub(in crate::node) fn wrong<T>(what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(what.into()))
}

/// One member, settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// For the machine.
    pub member: Member,
    /// Where others reach it.
    pub peer_addr: String,
    /// Where clients are sent.
    pub client_addr: String,
    /// Where its HTTP is, if told.
    pub http_addr: Option<String>,
}

/// Everything a node is told, settled.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // Each is the TOML key of the same name; units are in the type.
pub struct Settings {
    pub id: NodeId,
    pub data_dir: PathBuf,
    pub client_addr: String,
    pub peer_addr: String,
    pub http_addr: String,
    pub name: String,
    pub mode: Mode,
    pub level: Option<Level>,
    pub copies: Option<u32>,
    pub acks: u32,
    pub semi_sync_timeout: Duration,
    pub max_loss: MaxLoss,
    pub max_lag: Option<MaxLag>,
    pub secret: Option<Secret>,
    /// The rule that a mutant leaves out.
    #[cfg(feature = "mutants")]
    pub without: Option<super::Guard>,
    pub secret_text: Option<String>,
    pub write_timeout: Duration,
    pub members: Vec<MemberSettings>,
    pub interval: Duration,
    pub timeout: Duration,
    pub threshold: u32,
    pub lease: Duration,
    pub refused_is_dead: bool,
    pub fsync: Fsync,
    pub segment_bytes: u64,
    pub retain_bytes: u64,
    pub retain_for: Option<Duration>,
    pub standby_retain_bytes: u64,
    pub stall: Duration,
    pub max_clients: u32,
    /// Bytes that all clients' buffers may take together; 0: no limit.
    pub maxmemory_clients: u64,
    /// A client that says and reads nothing for so long is let go; zero: never.
    pub client_timeout: Duration,
    /// Silence on a client's connection after which the system asks whether it is still there; zero: never.
    pub tcp_keepalive: Duration,
    /// How long a request with an id is remembered with its reply.
    pub remember_requests: Duration,
    /// How many at once.
    pub max_remembered_requests: u64,
    /// Bytes of keys and values that a snapshot takes, and reads back, per second; 0: no limit.
    pub snapshot_rate: u64,
    /// Of a copy for a standby, each.
    pub copy_rate: CopyRate,
    /// Bytes per second that the scrub reads back of segments and snapshots; 0: it reads nothing.
    pub scrub_rate: u64,
    /// From the end of the scrub's pass to the beginning of the next.
    pub scrub_rest: Duration,
    /// Time in which all that memory holds is added up once; zero: never.
    pub memory_scrub: Duration,
    /// Bytes that keys and values may take in memory; 0: no limit.
    pub maxmemory: u64,
    pub maxmemory_policy: EvictionPolicy,
    pub maxmemory_samples: u32,
    /// Microseconds; -1: no execution is logged.
    pub slowlog_log_slower_than: i64,
    /// Entries.
    pub slowlog_max_len: u32,
    /// Milliseconds; 0: nothing is remembered.
    pub latency_monitor_threshold: u32,
    pub notify_keyspace_events: EventClasses,
    pub bootstrap: bool,
    /// Who may do what on the client port.
    pub auth: Auth,
    /// TLS on the client port.
    pub tls: Option<Tls>,
}

impl Settings {
    /// The machine's configuration; the numbers drawn at start are the caller's.
    pub fn machine(&self, process: u64, host: &dyn super::Host) -> crate::replica::Config {
        let micros = |span: Duration| Micros(span.as_micros() as u64);
        let drawn = || u128::from(host.draw());
        crate::replica::Config {
            id: self.id,
            members: self.members.iter().map(|m| m.member).collect(),
            mode: self.mode,
            level: self.level,
            copies: self.copies,
            acks: self.acks,
            semi_sync_timeout: micros(self.semi_sync_timeout),
            max_lag: self.max_lag,
            max_loss: self.max_loss,
            interval: micros(self.interval),
            timeout: micros(self.timeout),
            threshold: self.threshold,
            lease: micros(self.lease),
            refused_is_dead: self.refused_is_dead,
            bootstrap: self.bootstrap,
            new_cluster_id: (drawn() << 64 | drawn()).max(1),
            new_incarnation: host.draw(),
            process,
            boot: host.boot_id(),
        }
    }

    /// What a standby must have done with a record before a reply goes, or a write fits the RPO
    /// budget, in the mode configured; `None`: nobody waits for standbys.
    pub(in crate::node) fn replies_wait_for(&self) -> Option<Level> {
        match self.mode {
            Mode::Async => self.max_lag.map(|_| Level::Received),
            Mode::SemiSync | Mode::Sync => Some(self.level.unwrap_or(self.mode.level())),
        }
    }

    /// A member's settings.
    pub fn member(&self, id: NodeId) -> Option<&MemberSettings> {
        self.members.iter().find(|member| member.member.id == id)
    }

    /// The other members with a log.
    pub fn other_data_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let members = self.members.iter().map(|member| &member.member);
        let others = members.filter(|member| member.kind == Kind::Data && member.id != self.id);
        others.map(|member| member.id)
    }

    /// Who this node is, for a handshake.
    pub(in crate::node) fn identity(
        &self,
        cluster_id: u128,
        incarnation: u64,
        process: u64,
    ) -> Identity {
        Identity {
            cluster_id,
            cluster_name: self.name.clone(),
            node: self.id,
            process_incarnation: process,
            membership_incarnation: incarnation,
            membership_version: 0,
            features: 0,
            versions: VersionRange::THIS_BUILD,
            secret: self.secret.clone(),
        }
    }

    /// What this node stores.
    pub fn kind(&self) -> Kind {
        self.member(self.id)
            .map_or(Kind::Data, |member| member.member.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sizes_per_second() {
        let settle = |text: &str| Settings::settle(parse(text).unwrap());
        let rates = |text: &str| {
            let settings = settle(text).unwrap();
            (settings.snapshot_rate, settings.copy_rate)
        };
        assert_eq!(rates(""), (100 << 20, CopyRate::WhileServing(60 << 20)));
        let said = "[limits]\nsnapshot_rate = \"5 MB\"\ncopy_rate = 0\n";
        assert_eq!(rates(said), (5 << 20, CopyRate::Always(0)));
        let error = parse("[limits]\nsnapshot_rat = 5\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean `snapshot_rate`?"), "{error}");
        let error = settle("[limits]\ncopy_rate = \"fast\"\n").unwrap_err();
        assert!(error.to_string().contains("is no size"), "{error}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = parse("[cluster]\nmax_los = 0\n").unwrap_err().0;
        assert!(
            error.contains("unknown key `max_los`; did you mean `max_loss`?"),
            "{error}"
        );
        assert!(error.starts_with("line 2"), "{error}");
    }

    #[test]
    fn defaults_are_a_single_primary() {
        let settings = Settings::settle(File::default()).unwrap();
        assert_eq!(settings.client_addr, "127.0.0.1:7379");
        assert_eq!((settings.members.len(), settings.id), (1, NodeId(1)));
        assert_eq!(settings.lease, Duration::from_millis(600));
    }

    #[test]
    fn contradictions_are_refused_with_a_sentence() {
        let member = "[[cluster.member]]\nid = 1\npeer_addr = '127.0.0.1:1'\n\
                      client_addr = '127.0.0.1:2'\n";
        let cases = [
            (
                "[wal]\nfsync = 'os'\n[cluster]\nmode = 'sync'\n",
                "needs wal.fsync",
            ),
            (
                "[cluster]\nmode = 'sync'\nlevel = 'received'\n",
                "needs level",
            ),
            ("id = 2\n", "is not a member"),
            ("id = 1\npeer_addr = '0.0.0.0:1'\n", "need a secret"),
            ("[heartbeat]\nlease = '100 ms'\n", "at least two"),
            ("[heartbeat]\nlease = '100 parsecs'\n", "is no span of time"),
            ("[limits]\nscrub_rest = 0\n", "at least 1 s"),
            ("[limits]\nmaxmemory = 'much'\n", "is no size"),
            (
                "[limits]\nmaxmemory_policy = 'lru'\n",
                "say one of noeviction, allkeys-lru",
            ),
            ("[limits]\nmaxmemory_samples = 0\n", "from 1 to 64"),
            ("[cluster]\nmax_loss = 'some'\n", "say 0"),
            ("[cluster]\nmax_lag = 'a bit'\n", "\"1 MiB\" or \"500 ms\""),
            ("[cluster]\nmax_lag = 0\n", "above 0"),
        ];
        for (text, wanted) in cases {
            let text = if text.starts_with("id") {
                format!("{text}{member}")
            } else {
                text.to_string()
            };
            let error = parse(&text).and_then(Settings::settle).unwrap_err().0;
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
