//! What the file says becomes settings: defaults are filled in, names understood.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{MemberFile, ServerFile, Span, Text, parse_bytes};
use super::{ConfigError, File, MemberSettings, Settings, wrong};
use crate::keyspace::{EventClasses, EvictionPolicy};
use crate::node::amounts;
use crate::node::auth::Auth;
use crate::node::copy_pace::CopyRate;
use crate::node::tls::Tls;
use crate::peer::Secret;
use crate::replica::{Kind, Member, Mode};
use crate::units::NodeId;
use crate::wal::Fsync;

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
            // What one client may make the server hold at most, at the least.
            maxmemory_clients: size(file.limits.maxmemory_clients.as_ref(), 1 << 30)?,
            client_timeout: ms(file.limits.client_timeout, 0),
            tcp_keepalive: ms(file.limits.tcp_keepalive, 300_000),
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
            bootstrap: false,
            auth,
            tls,
        };
        settings.check()?;
        Ok(settings)
    }
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
