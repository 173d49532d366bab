//! The file as it is written: TOML keys, spans of time, sizes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::node::tls::ClientAuth;
use crate::replica::{Level, Mode};

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
    pub client_timeout: Option<Span>,
    pub tcp_keepalive: Option<Span>,
    pub maxmemory_clients: Option<Text>,
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
