//! What the operator says: TOML keys, defaults, checks. Turned into plain settings, and from
//! those into the takeover machine's configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::amounts;
use super::auth::Auth;
use super::copy_pace::CopyRate;
use super::memory_limits::MOST_SAMPLES;
use super::tls::{ClientAuth, Tls};
use crate::keyspace::{EventClasses, EvictionPolicy};
use crate::peer::{Identity, Secret, VersionRange};
use crate::replica::{Kind, Level, MaxLag, MaxLoss, Member, Mode};
use crate::units::{Micros, NodeId};
use crate::wal::Fsync;

/// What is wrong with a configuration; one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

pub(super) fn wrong<T>(what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(what.into()))
}

/// The file as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// This node's number.
    pub id: Option<u32>,
    /// Where it keeps its data.
    pub data_dir: Option<PathBuf>,
    /// Where clients connect.
    pub client_addr: Option<String>,
    /// Where members connect.
    pub peer_addr: Option<String>,
    /// Where health, metrics and commands are.
    pub http_addr: Option<String>,
    /// `[cluster]`.
    pub cluster: ClusterFile,
    /// `[heartbeat]`.
    pub heartbeat: HeartbeatFile,
    /// `[wal]`.
    pub wal: WalFile,
    /// `[limits]`.
    pub limits: LimitsFile,
    /// `[auth]`.
    pub auth: AuthFile,
    /// `[tls]`.
    pub tls: TlsFile,
    /// `[server]`.
    pub server: ServerFile,
}

/// `[cluster]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ClusterFile {
    pub name: Option<String>,
    pub mode: Option<Mode>,
    pub level: Option<Level>,
    pub copies: Option<u32>,
    pub acks: Option<u32>,
    pub semi_sync_timeout: Option<Span>,
    pub max_loss: Option<Text>,
    pub max_lag: Option<Text>,
    pub secret_file: Option<PathBuf>,
    pub write_timeout: Option<Span>,
    pub member: Vec<MemberFile>,
}

/// `[[cluster.member]]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct MemberFile {
    pub id: u32,
    pub peer_addr: String,
    pub client_addr: String,
    pub http_addr: Option<String>,
    pub role: Option<String>,
    pub vote: Option<bool>,
    pub priority: Option<u32>,
    pub tags: Vec<String>,
}

/// `[heartbeat]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct HeartbeatFile {
    pub interval: Option<Span>,
    pub timeout: Option<Span>,
    pub threshold: Option<u32>,
    pub lease: Option<Span>,
    pub refused_is_dead: Option<bool>,
}

/// `[wal]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct WalFile {
    pub fsync: Option<String>,
    pub segment_size: Option<Text>,
    pub retain: Option<Text>,
    pub standby_retain: Option<Text>,
    pub stall: Option<Span>,
}

/// `[limits]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LimitsFile {
    pub max_clients: Option<u32>,
    pub remember_requests: Option<Span>,
    pub max_remembered_requests: Option<u64>,
    pub snapshot_rate: Option<Text>,
    pub copy_rate: Option<Text>,
    pub memory_scrub: Option<Span>,
    pub scrub_rate: Option<Text>,
    pub scrub_rest: Option<Span>,
    pub maxmemory: Option<Text>,
    pub maxmemory_policy: Option<String>,
    pub maxmemory_samples: Option<u32>,
}

/// `[auth]` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct AuthFile {
    pub requirepass_file: Option<PathBuf>,
    pub acl_file: Option<PathBuf>,
    pub protected_mode: Option<bool>,
}

/// `[tls]` as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct TlsFile {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub client_auth: Option<ClientAuth>,
    pub plaintext: Option<bool>,
}

/// `[server]` as it is written: Redis's parameters of these names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct ServerFile {
    pub slowlog_log_slower_than: Option<i64>,
    pub slowlog_max_len: Option<u32>,
    pub latency_monitor_threshold: Option<u32>,
    pub notify_keyspace_events: Option<String>,
    pub timeout: Option<u32>,
}

/// A span of time: `"100 ms"`, `"1s"`, or a number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Text")]
pub struct Span(pub Duration);

/// A TOML string or number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// A number.
    Number(u64),
    /// A string.
    String(String),
}

impl TryFrom<Text> for Span {
    type Error = String;

    fn try_from(text: Text) -> Result<Span, String> {
        match text {
            Text::Number(ms) => Ok(Span(Duration::from_millis(ms))),
            Text::String(text) => match humantime::parse_duration(&text) {
                Ok(span) => Ok(Span(span)),
                Err(error) => Err(format!(
                    "\"{text}\" is no span of time ({error}); say \"100 ms\""
                )),
            },
        }
    }
}

/// A size in bytes: `"64 MiB"`, or a number.
pub fn parse_bytes(text: &Text) -> Result<u64, ConfigError> {
    let text = match text {
        Text::Number(bytes) => return Ok(*bytes),
        Text::String(text) => text.trim(),
    };
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kib" | "k" | "kb" => Some(1 << 10),
        "mib" | "m" | "mb" => Some(1 << 20),
        "gib" | "g" | "gb" => Some(1 << 30),
        _ => None,
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(n, f)| n.checked_mul(f));
    bytes.ok_or_else(|| ConfigError(format!("\"{text}\" is no size; say \"64 MiB\"")))
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
    /// Seconds that a client may ask nothing; 0: without end.
    pub client_timeout: u32,
    pub bootstrap: bool,
    /// Who may do what on the client port.
    pub auth: Auth,
    /// TLS on the client port.
    pub tls: Option<Tls>,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
    parse(&text).map_err(|ConfigError(what)| ConfigError(format!("{}: {what}", path.display())))
}

/// Reads a file's text. An unknown key is an error that names the nearest valid one.
pub fn parse(text: &str) -> Result<File, ConfigError> {
    toml::from_str::<File>(text).map_err(|error| {
        let message = error.message();
        let place = error.span().map_or(String::new(), |span| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: ")
        });
        ConfigError(format!(
            "{place}{}",
            suggest(message).unwrap_or_else(|| message.to_string())
        ))
    })
}

/// "unknown field `x`, expected one of `a`, `b`" with the nearest first.
fn suggest(message: &str) -> Option<String> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let found = quoted.next()?;
    let nearest = quoted.min_by_key(|valid| distance(found, valid))?;
    Some(format!("unknown key `{found}`; did you mean `{nearest}`?"))
}

/// Edit distance (Wagner and Fischer, 1974).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn fsync(text: Option<&str>) -> Result<Fsync, ConfigError> {
    match text {
        None | Some("always") => Ok(Fsync::Always),
        Some("interval") => Ok(Fsync::Interval(Duration::from_secs(1))),
        Some("os") => Ok(Fsync::Os),
        Some(other) => wrong(format!(
            "wal.fsync = \"{other}\": say always, interval or os"
        )),
    }
}

fn member(file: &MemberFile) -> Result<MemberSettings, ConfigError> {
    let kind = match file.role.as_deref() {
        None | Some("data") => Kind::Data,
        Some("witness") => Kind::Witness,
        Some(other) => {
            return wrong(format!(
                "member {}: role = \"{other}\": say data or witness",
                file.id
            ));
        }
    };
    if file.id == 0 || file.peer_addr.is_empty() || file.client_addr.is_empty() {
        return wrong(format!(
            "member {}: id (from 1), peer_addr and client_addr are needed",
            file.id
        ));
    }
    let member = Member {
        id: NodeId(file.id),
        kind,
        vote: file.vote.unwrap_or(true),
        priority: file.priority.unwrap_or(1),
    };
    Ok(MemberSettings {
        member,
        peer_addr: file.peer_addr.clone(),
        client_addr: file.client_addr.clone(),
        http_addr: file.http_addr.clone(),
    })
}

/// A member as `--member ID=PEER_ADDR/CLIENT_ADDR[/witness]`.
pub fn parse_member(text: &str) -> Result<MemberFile, ConfigError> {
    let usage = || {
        ConfigError(format!(
            "--member {text}: say ID=PEER_ADDR/CLIENT_ADDR[/witness]"
        ))
    };
    let (id, rest) = text.split_once('=').ok_or_else(usage)?;
    let mut parts = rest.split('/');
    let (peer, client) = parts.next().zip(parts.next()).ok_or_else(usage)?;
    let role = parts.next();
    if parts.next().is_some() || role.is_some_and(|role| role != "witness") {
        return Err(usage());
    }
    Ok(MemberFile {
        id: id.parse().map_err(|_| usage())?,
        peer_addr: peer.to_string(),
        client_addr: client.to_string(),
        role: role.map(str::to_string),
        ..MemberFile::default()
    })
}

impl Settings {
    /// Settles a file: defaults filled in, contradictions refused.
    pub fn settle(file: File) -> Result<Settings, ConfigError> {
        let cluster = &file.cluster;
        let client_addr = file.client_addr.unwrap_or_else(|| "127.0.0.1:7379".into());
        let peer_addr = file.peer_addr.unwrap_or_else(|| "127.0.0.1:7380".into());
        let http_addr = file.http_addr.unwrap_or_else(|| "127.0.0.1:7381".into());
        let mut members: Vec<MemberSettings> = cluster
            .member
            .iter()
            .map(member)
            .collect::<Result<_, _>>()?;
        let id = NodeId(match file.id {
            Some(id) => id,
            None if members.is_empty() => 1,
            None => return wrong("which member is this node? Say --id N (id in the file)"),
        });
        if members.is_empty() {
            members.push(MemberSettings {
                member: Member {
                    id,
                    kind: Kind::Data,
                    vote: true,
                    priority: 1,
                },
                peer_addr: peer_addr.clone(),
                client_addr: client_addr.clone(),
                http_addr: Some(http_addr.clone()),
            });
        }
        let (secret, secret_text) = read_secret(cluster.secret_file.as_deref())?;
        let auth = Auth::settle(&file.auth)?;
        let tls = Tls::settle(&file.tls)?;
        let ms = |span: Option<Span>, default: u64| {
            span.map_or(Duration::from_millis(default), |span| span.0)
        };
        let data_nodes = members
            .iter()
            .filter(|m| m.member.kind == Kind::Data)
            .count();
        let single = data_nodes == 1;
        let (retain_bytes, retain_for) = amounts::retain(file.wal.retain.as_ref())?;
        let settings = Settings {
            id,
            data_dir: file
                .data_dir
                .unwrap_or_else(|| PathBuf::from(format!("understudy-{id}"))),
            client_addr,
            peer_addr,
            http_addr,
            name: cluster.name.clone().unwrap_or_else(|| "understudy".into()),
            mode: cluster.mode.unwrap_or(Mode::SemiSync),
            level: cluster.level,
            copies: cluster.copies,
            acks: cluster.acks.unwrap_or(u32::from(!single)),
            semi_sync_timeout: ms(cluster.semi_sync_timeout, 1000),
            max_loss: amounts::loss(cluster.max_loss.as_ref())?,
            max_lag: amounts::lag(cluster.max_lag.as_ref())?,
            secret,
            #[cfg(feature = "mutants")]
            without: None,
            secret_text,
            write_timeout: ms(cluster.write_timeout, 5000),
            members,
            interval: ms(file.heartbeat.interval, 100),
            timeout: ms(file.heartbeat.timeout, 100),
            threshold: file.heartbeat.threshold.unwrap_or(3),
            lease: ms(file.heartbeat.lease, 600),
            refused_is_dead: file.heartbeat.refused_is_dead.unwrap_or(true),
            fsync: fsync(file.wal.fsync.as_deref())?,
            segment_bytes: size(file.wal.segment_size.as_ref(), 64 << 20)?,
            retain_bytes: retain_bytes.unwrap_or(256 << 20),
            retain_for,
            // What a standby misses while its host reboots at 10 MB/s, and little beside any data
            // that is worth a standby.
            standby_retain_bytes: size(file.wal.standby_retain.as_ref(), 1 << 30)?,
            stall: ms(file.wal.stall, 2000),
            max_clients: file.limits.max_clients.unwrap_or(10_000),
            // Longer than any takeover that nobody has to help with, and than a client's patience.
            remember_requests: ms(file.limits.remember_requests, 300_000),
            // About 150 MB.
            max_remembered_requests: file.limits.max_remembered_requests.unwrap_or(1_000_000),
            // About a third of what one core walks, packs and writes (300 MB/s measured): so much a
            // snapshot takes of the machine while it serves, whatever its size. 60 GB take ten
            // minutes, and as many again to be read back.
            snapshot_rate: size(file.limits.snapshot_rate.as_ref(), 100 << 20)?,
            // Half of a gigabit link: the other half is the records' that come meanwhile.
            copy_rate: match &file.limits.copy_rate {
                None => CopyRate::WhileServing(60 << 20),
                rate => CopyRate::Always(size(rate.as_ref(), 0)?),
            },
            // A hundred gigabytes in three hours, beside a disk's load.
            scrub_rate: size(file.limits.scrub_rate.as_ref(), 10 << 20)?,
            scrub_rest: ms(file.limits.scrub_rest, 600_000),
            // Five million keys are added up in a second or two of one core.
            memory_scrub: ms(file.limits.memory_scrub, 600_000),
            maxmemory: size(file.limits.maxmemory.as_ref(), 0)?,
            maxmemory_policy: policy(file.limits.maxmemory_policy.as_deref())?,
            maxmemory_samples: file.limits.maxmemory_samples.unwrap_or(5),
            slowlog_log_slower_than: file.server.slowlog_log_slower_than.unwrap_or(10_000),
            slowlog_max_len: file.server.slowlog_max_len.unwrap_or(128),
            latency_monitor_threshold: file.server.latency_monitor_threshold.unwrap_or(0),
            notify_keyspace_events: event_classes(&file.server)?,
            client_timeout: file.server.timeout.unwrap_or(0),
            bootstrap: false,
            auth,
            tls,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for member in &self.members {
            if !seen.insert(member.member.id) {
                return wrong(format!("member {} is listed twice", member.member.id));
            }
        }
        let known: Vec<String> = self
            .members
            .iter()
            .map(|m| m.member.id.to_string())
            .collect();
        if !self.members.iter().any(|m| m.member.id == self.id) {
            return wrong(format!(
                "node {} is not a member; members: {}",
                self.id,
                known.join(", ")
            ));
        }
        let data = self
            .members
            .iter()
            .filter(|m| m.member.kind == Kind::Data && m.member.vote);
        let data = data.count() as u32;
        if data == 0 {
            return wrong("no voting data node is listed: nobody could ever be primary");
        }
        if self.mode == Mode::Sync {
            if self.fsync != Fsync::Always {
                return wrong("mode = \"sync\" needs wal.fsync = \"always\"");
            }
            if self.level == Some(Level::Received) {
                return wrong("mode = \"sync\" needs level = \"synced\" or \"applied\"");
            }
        }
        if self.level.is_some_and(|level| level >= Level::Synced) && self.fsync != Fsync::Always {
            return wrong("level = \"synced\" needs wal.fsync = \"always\"");
        }
        if self
            .copies
            .is_some_and(|copies| copies == 0 || copies > data)
        {
            return wrong(format!(
                "copies must be from 1 to {data}, the number of data nodes"
            ));
        }
        if self.threshold == 0 || self.interval.is_zero() {
            return wrong("heartbeat.threshold and heartbeat.interval must be above 0");
        }
        if self.lease < self.interval * 2 {
            return wrong("heartbeat.lease must be at least two heartbeat intervals");
        }
        // A pass over little takes no time, and the next would follow on its heels.
        if self.scrub_rest < Duration::from_secs(1) {
            return wrong(
                "limits.scrub_rest must be at least 1 s; limits.scrub_rate = 0 turns the scrub off",
            );
        }
        if self.remember_requests.is_zero() {
            return wrong("limits.remember_requests must be above 0");
        }
        if !(1..=MOST_SAMPLES).contains(&self.maxmemory_samples) {
            return wrong(format!(
                "limits.maxmemory_samples must be from 1 to {MOST_SAMPLES}; 5 is usual"
            ));
        }
        self.check_server()?;
        self.check_addresses()
    }

    fn check_server(&self) -> Result<(), ConfigError> {
        if self.slowlog_log_slower_than < -1 {
            return wrong("server.slowlog_log_slower_than: say microseconds, or -1 for none");
        }
        if self.slowlog_max_len > 100_000 {
            return wrong("server.slowlog_max_len must be at most 100000");
        }
        if self.client_timeout > i32::MAX.unsigned_abs() {
            return wrong("server.timeout must be at most 2147483647 seconds, or 0 for none");
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        if self.segment_bytes < 1 << 16 {
            return wrong("wal.segment_size must be at least 64 KiB");
        }
        // Before anything is concluded from an address: what is none was once called "beyond
        // loopback".
        let port = |addr: &str| {
            addr.rsplit_once(':')
                .is_some_and(|(host, p)| !host.is_empty() && p.parse::<u16>().is_ok())
        };
        let own_addresses = [&self.client_addr, &self.peer_addr, &self.http_addr];
        let members = self.members.iter();
        let told = members.flat_map(|m| {
            [&m.peer_addr, &m.client_addr]
                .into_iter()
                .chain(&m.http_addr)
        });
        for addr in own_addresses.into_iter().chain(told) {
            if !port(addr) {
                return wrong(format!("\"{addr}\" is no address; say HOST:PORT"));
            }
        }
        let open = |addr: &str| !is_loopback(addr);
        let members_open = self.members.iter().any(|m| open(&m.peer_addr));
        if self.secret.is_none() && (members_open || open(&self.peer_addr)) {
            return wrong(
                "members beyond loopback need a secret: put one into a file and say \
                 cluster.secret_file",
            );
        }
        if self.secret.is_none() && open(&self.http_addr) {
            return wrong("http_addr beyond loopback needs cluster.secret_file");
        }
        Ok(())
    }

    /// Sentences for `config check` and `status`: what this set-up can and cannot do.
    pub fn notes(&self) -> Vec<String> {
        let voters: Vec<&Member> = self
            .members
            .iter()
            .map(|m| &m.member)
            .filter(|m| m.vote)
            .collect();
        let data = voters.iter().filter(|m| m.kind == Kind::Data).count();
        let all_data = self
            .members
            .iter()
            .filter(|m| m.member.kind == Kind::Data)
            .count();
        let mut notes = Vec::new();
        if self.auth.shuts_out_others() && !is_loopback(&self.client_addr) {
            notes.push(
                "Protected mode: clients from other hosts are refused, since no password is set. \
                 Say auth.requirepass_file or auth.acl_file, or auth.protected_mode = false."
                    .to_string(),
            );
        }
        if voters.len() == 1 && all_data > 1 {
            notes.push(
                "One voter: there is no automatic takeover. The first node goes on alone when \
                 others are gone; a person promotes another with `promote --force --lost ID`."
                    .to_string(),
            );
        }
        if voters.len() == 2 {
            notes.push(
                "Two voters: the loss of either stops both. Add a witness, or set vote = false on \
                 one."
                    .to_string(),
            );
        }
        if self.mode == Mode::Sync && data == 2 {
            notes.push(
                "Sync on two data nodes never writes alone: when one is gone the other serves \
                 reads, and writes wait for it."
                    .to_string(),
            );
        }
        if self.mode == Mode::Async && self.max_loss == MaxLoss::Nothing && voters.len() > 1 {
            notes.push(
                "Async with max_loss = 0 never takes over by itself: no standby can know that it \
                 has everything."
                    .to_string(),
            );
        }
        let unit = match (self.max_loss, self.max_lag) {
            (MaxLoss::Records(_), Some(MaxLag::Records(_)))
            | (MaxLoss::Bytes(_), Some(MaxLag::Bytes(_)))
            | (MaxLoss::Nothing | MaxLoss::SpanMs(_), _) => None,
            (MaxLoss::Records(_), _) => Some("records"),
            (MaxLoss::Bytes(_), _) => Some("bytes"),
        };
        if let Some(unit) = unit {
            notes.push(format!(
                "max_loss in {unit} without max_lag in {unit} always refuses: the loss is not \
                 bounded in {unit}."
            ));
        }
        if self.max_lag.is_some() && self.mode != Mode::Async {
            notes.push(format!(
                "max_lag has no effect in {} mode: it is the budget of async mode.",
                self.mode.name()
            ));
        }
        notes
    }

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
    pub(super) fn replies_wait_for(&self) -> Option<Level> {
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
    pub(super) fn identity(&self, cluster_id: u128, incarnation: u64, process: u64) -> Identity {
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

fn event_classes(file: &ServerFile) -> Result<EventClasses, ConfigError> {
    let letters = file.notify_keyspace_events.as_deref().unwrap_or_default();
    EventClasses::parse(letters).ok_or_else(|| {
        ConfigError(format!(
            "server.notify_keyspace_events = \"{letters}\": say letters out of Ag$lshzxeKEtmdn"
        ))
    })
}

fn size(text: Option<&Text>, default: u64) -> Result<u64, ConfigError> {
    text.map_or(Ok(default), parse_bytes)
}

fn policy(name: Option<&str>) -> Result<EvictionPolicy, ConfigError> {
    let parse = |name: &str| name.parse().map_err(ConfigError);
    let policy = name.map_or(Ok(EvictionPolicy::default()), parse);
    policy.map_err(|ConfigError(what)| ConfigError(format!("limits.maxmemory_policy: {what}")))
}

fn read_secret(path: Option<&Path>) -> Result<(Option<Secret>, Option<String>), ConfigError> {
    let Some(path) = path else {
        return Ok((None, None));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("secret_file {}: {error}", path.display())))?;
    let text = text.trim().to_string();
    let secret = Secret::new(text.as_bytes())
        .map_err(|error| ConfigError(format!("secret_file {}: {error}", path.display())))?;
    Ok((Some(secret), Some(text)))
}

fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
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
