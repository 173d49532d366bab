//! The parameters of CONFIG: one table with the name of each, what it is now and, where it can change
//! while the node runs, how.
//!
//! Names are Redis's where one corresponds, and `section.key` of the configuration file. What has no
//! change needs a restart.

use super::Server;
use super::sentinel::host_port;
use crate::keyspace::{EventClasses, EvictionPolicy};
use crate::node::MOST_SAMPLES;
use crate::replica::{Kind, MaxLoss};
use crate::wal::Fsync;

/// What a parameter becomes, read and checked.
pub(super) type Number = i64;

/// One parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) get: fn(&Server) -> String,
    pub(super) change: Option<&'static Change>,
}

/// How a parameter is changed while the node runs.
pub(super) struct Change {
    /// Reads and checks a value, or says what is wrong in the words of Redis.
    pub(super) read: fn(&str) -> Result<Number, String>,
    pub(super) set: fn(&Server, Number),
    /// Where it stands in the configuration file.
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// What CONFIG REWRITE writes there.
    pub(super) written: fn(Number) -> Written,
}

/// A value of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

fn within(text: &str, least: i64, most: i64) -> Result<Number, String> {
    let number = crate::command::parse_integer(text.as_bytes());
    let number = number.ok_or("argument couldn't be parsed into an integer")?;
    if number < least || number > most {
        return Err(format!(
            "argument must be between {least} and {most} inclusive"
        ));
    }
    Ok(number)
}

static MAX_CLIENTS: Change = Change {
    read: |text| within(text, 1, u32::MAX.into()),
    set: |server, to| server.node.tunables.max_clients.set(to),
    section: "limits",
    key: "max_clients",
    written: Written::Number,
};

static WRITE_TIMEOUT: Change = Change {
    read: |text| within(text, 1, u32::MAX.into()),
    set: |server, to| server.node.tunables.write_timeout_ms.set(to),
    section: "cluster",
    key: "write_timeout",
    written: Written::Number,
};

static SLOWER_THAN: Change = Change {
    read: |text| within(text, -1, i64::MAX),
    set: |server, to| server.node.tunables.slowlog_slower_than_us.set(to),
    section: "server",
    key: "slowlog_log_slower_than",
    written: Written::Number,
};

/// More would not be bounded memory: an entry takes 8 KiB at most.
const MOST_SLOW_ENTRIES: i64 = 100_000;

static SLOW_ENTRIES: Change = Change {
    read: |text| within(text, 0, MOST_SLOW_ENTRIES),
    set: |server, to| server.node.tunables.slowlog_entries.set(to),
    section: "server",
    key: "slowlog_max_len",
    written: Written::Number,
};

static LATENCY_THRESHOLD: Change = Change {
    read: |text| within(text, 0, u32::MAX.into()),
    set: |server, to| server.node.tunables.latency_threshold_ms.set(to),
    section: "server",
    key: "latency_monitor_threshold",
    written: Written::Number,
};

static TIMEOUT: Change = Change {
    read: |text| within(text, 0, i32::MAX.into()),
    set: |server, to| server.node.tunables.client_timeout_seconds.set(to),
    section: "server",
    key: "timeout",
    written: Written::Number,
};

static NOTIFY: Change = Change {
    read: |text| {
        let classes = EventClasses::parse(text);
        let wrong = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
        classes.map(EventClasses::bits).ok_or(wrong.to_string())
    },
    set: |server, to| server.node.store.notify().set(to),
    section: "server",
    key: "notify_keyspace_events",
    written: |bits| Written::Text(EventClasses::of_bits(bits).to_string()),
};

static MAX_MEMORY: Change = Change {
    read: memory,
    set: |server, to| server.node.store.memory.set_bytes(to.unsigned_abs()),
    section: "limits",
    key: "maxmemory",
    written: Written::Number,
};

static MEMORY_POLICY: Change = Change {
    read: |text| {
        let known = EvictionPolicy::ALL.iter();
        let place = text
            .parse()
            .ok()
            .and_then(|policy: EvictionPolicy| known.clone().position(|it| *it == policy));
        let names: Vec<&str> = known.map(|policy| policy.name()).collect();
        let wrong = || {
            format!(
                "argument(s) must be one of the following: {}",
                names.join(", ")
            )
        };
        place.map(|place| place as Number).ok_or_else(wrong)
    },
    set: |server, to| server.node.store.set_eviction_policy(policy(to)),
    section: "limits",
    key: "maxmemory_policy",
    written: |to| Written::Text(policy(to).name().to_owned()),
};

static MEMORY_SAMPLES: Change = Change {
    read: |text| within(text, 1, MOST_SAMPLES.into()),
    set: |server, to| {
        server
            .node
            .store
            .memory
            .set_samples(to.unsigned_abs() as u32)
    },
    section: "limits",
    key: "maxmemory_samples",
    written: Written::Number,
};

/// The policy at a place among all.
fn policy(place: Number) -> EvictionPolicy {
    let place = usize::try_from(place).unwrap_or(0);
    EvictionPolicy::ALL.get(place).copied().unwrap_or_default()
}

/// A size as Redis reads it: `1k` is 1000, `1kb` is 1024.
fn memory(text: &str) -> Result<Number, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: Option<Number> = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => Some(1),
        "k" => Some(1000),
        "kb" => Some(1 << 10),
        "m" => Some(1_000_000),
        "mb" => Some(1 << 20),
        "g" => Some(1_000_000_000),
        "gb" => Some(1 << 30),
        _ => None,
    };
    let number: Option<Number> = digits.parse().ok();
    let bytes = number
        .zip(factor)
        .and_then(|(n, factor)| n.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes >= 0)
        .ok_or_else(|| "argument must be a memory value".to_owned())
}

fn max_memory(server: &Server) -> String {
    server.node.store.memory.bytes().to_string()
}

fn memory_policy(server: &Server) -> String {
    server.node.store.memory.policy().name().into()
}

fn memory_samples(server: &Server) -> String {
    server.node.store.memory.samples().to_string()
}

const fn fixed(name: &'static str, get: fn(&Server) -> String) -> Parameter {
    Parameter {
        name,
        get,
        change: None,
    }
}

const fn tunable(
    name: &'static str,
    change: &'static Change,
    get: fn(&Server) -> String,
) -> Parameter {
    Parameter {
        name,
        get,
        change: Some(change),
    }
}

fn notify(server: &Server) -> String {
    EventClasses::of_bits(server.node.store.notify().get()).to_string()
}

fn max_clients(server: &Server) -> String {
    server.node.tunables.max_clients.get().to_string()
}

fn slower_than(server: &Server) -> String {
    server
        .node
        .tunables
        .slowlog_slower_than_us
        .get()
        .to_string()
}

fn slow_entries(server: &Server) -> String {
    server.node.tunables.slowlog_entries.get().to_string()
}

fn latency_threshold(server: &Server) -> String {
    server.node.tunables.latency_threshold_ms.get().to_string()
}

fn timeout(server: &Server) -> String {
    server
        .node
        .tunables
        .client_timeout_seconds
        .get()
        .to_string()
}

fn data_dir(server: &Server) -> String {
    server.node.settings.data_dir.display().to_string()
}

fn acl_file(server: &Server) -> String {
    let file = server.node.settings.auth.acl_file.as_ref();
    file.map(|path| path.display().to_string())
        .unwrap_or_default()
}

fn max_loss(server: &Server) -> String {
    match server.node.settings.max_loss {
        MaxLoss::Nothing => "0".into(),
        MaxLoss::Records(records) => format!("{records} records"),
        MaxLoss::Bytes(bytes) => format!("{bytes} B"),
        MaxLoss::SpanMs(ms) => format!("{ms} ms"),
    }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// All of them, in alphabetical order.
#[rustfmt::skip]
pub(super) static PARAMETERS: &[Parameter] = &[
    fixed("aclfile", acl_file),
    fixed("appendfsync", |server| match server.node.settings.fsync {
        Fsync::Always => "always".into(),
        Fsync::Interval(_) => "everysec".into(),
        Fsync::Os => "no".into(),
    }),
    fixed("appendonly", |server| match server.node.settings.kind() {
        Kind::Witness => "no".into(),
        Kind::Data => "yes".into(),
    }),
    fixed("auth.acl_file", acl_file),
    fixed("auth.protected_mode", |server| server.node.settings.auth.protected_mode.to_string()),
    fixed("bind", |server| host_port(&server.node.settings.client_addr).0),
    fixed("client_addr", |server| server.node.settings.client_addr.clone()),
    fixed("cluster.acks", |server| server.node.settings.acks.to_string()),
    fixed("cluster.copies", |server| optional(server.node.settings.copies)),
    fixed("cluster.level", |server| optional(server.node.settings.level.map(|level| level.name()))),
    fixed("cluster.max_lag", |server| optional(server.node.settings.max_lag)),
    fixed("cluster.max_loss", max_loss),
    fixed("cluster.mode", |server| server.node.settings.mode.name().into()),
    fixed("cluster.name", |server| server.node.settings.name.clone()),
    fixed("cluster.semi_sync_timeout", |server| server.node.settings.semi_sync_timeout.as_millis().to_string()),
    tunable("cluster.write_timeout", &WRITE_TIMEOUT, |server| server.node.tunables.write_timeout_ms.get().to_string()),
    fixed("cluster-enabled", |_| "no".into()),
    fixed("data_dir", data_dir),
    fixed("databases", |_| "1".into()),
    fixed("dir", data_dir),
    fixed("heartbeat.interval", |server| server.node.settings.interval.as_millis().to_string()),
    fixed("heartbeat.lease", |server| server.node.settings.lease.as_millis().to_string()),
    fixed("heartbeat.refused_is_dead", |server| server.node.settings.refused_is_dead.to_string()),
    fixed("heartbeat.threshold", |server| server.node.settings.threshold.to_string()),
    fixed("heartbeat.timeout", |server| server.node.settings.timeout.as_millis().to_string()),
    fixed("http_addr", |server| server.node.settings.http_addr.clone()),
    fixed("id", |server| server.node.id().to_string()),
    tunable("latency-monitor-threshold", &LATENCY_THRESHOLD, latency_threshold),
    fixed("limits.copy_rate", |server| server.node.settings.copy_rate.most().to_string()),
    tunable("limits.max_clients", &MAX_CLIENTS, max_clients),
    fixed("limits.max_remembered_requests", |server| server.node.settings.max_remembered_requests.to_string()),
    tunable("limits.maxmemory", &MAX_MEMORY, max_memory),
    tunable("limits.maxmemory_policy", &MEMORY_POLICY, memory_policy),
    tunable("limits.maxmemory_samples", &MEMORY_SAMPLES, memory_samples),
    fixed("limits.memory_scrub", |server| server.node.settings.memory_scrub.as_millis().to_string()),
    fixed("limits.remember_requests", |server| server.node.settings.remember_requests.as_millis().to_string()),
    fixed("limits.scrub_rate", |server| server.node.settings.scrub_rate.to_string()),
    fixed("limits.scrub_rest", |server| server.node.settings.scrub_rest.as_millis().to_string()),
    fixed("limits.snapshot_rate", |server| server.node.settings.snapshot_rate.to_string()),
    tunable("maxclients", &MAX_CLIENTS, max_clients),
    tunable("maxmemory", &MAX_MEMORY, max_memory),
    tunable("maxmemory-policy", &MEMORY_POLICY, memory_policy),
    tunable("maxmemory-samples", &MEMORY_SAMPLES, memory_samples),
    tunable("notify-keyspace-events", &NOTIFY, notify),
    fixed("peer_addr", |server| server.node.settings.peer_addr.clone()),
    fixed("port", |server| host_port(&server.node.settings.client_addr).1),
    fixed("protected-mode", |server| match server.node.settings.auth.protected_mode {
        true => "yes".into(),
        false => "no".into(),
    }),
    fixed("proto-max-bulk-len", |_| (512_u64 << 20).to_string()),
    fixed("save", |_| String::new()),
    tunable("server.latency_monitor_threshold", &LATENCY_THRESHOLD, latency_threshold),
    tunable("server.notify_keyspace_events", &NOTIFY, notify),
    tunable("server.slowlog_log_slower_than", &SLOWER_THAN, slower_than),
    tunable("server.slowlog_max_len", &SLOW_ENTRIES, slow_entries),
    tunable("server.timeout", &TIMEOUT, timeout),
    tunable("slowlog-log-slower-than", &SLOWER_THAN, slower_than),
    tunable("slowlog-max-len", &SLOW_ENTRIES, slow_entries),
    tunable("timeout", &TIMEOUT, timeout),
    fixed("wal.fsync", |server| match server.node.settings.fsync {
        Fsync::Always => "always".into(),
        Fsync::Interval(_) => "interval".into(),
        Fsync::Os => "os".into(),
    }),
    fixed("wal.retain", |server| server.node.settings.retain_bytes.to_string()),
    fixed("wal.segment_size", |server| server.node.settings.segment_bytes.to_string()),
    fixed("wal.stall", |server| server.node.settings.stall.as_millis().to_string()),
    fixed("wal.standby_retain", |server| server.node.settings.standby_retain_bytes.to_string()),
];

/// The parameter of that name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Parameter> {
    PARAMETERS
        .iter()
        .find(|known| known.name.as_bytes().eq_ignore_ascii_case(name))
}
