//! INFO and ROLE: Redis's sections and fields that clients and exporters read, plus ours.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::Server;
use super::sentinel::{host_port, run_id};
use super::session_commands::bulk;
use crate::node::{Serves, Stats, process_usage};
use crate::replica::{Kind, ModeState, View};
use crate::resp::Reply;

/// The Redis version that clients are told.
pub(super) const REDIS_VERSION: &str = "7.2.4";

type Section = fn(&Server, &View, &mut String);

/// Name, title, what it says, and whether it is told who asks for none.
const SECTIONS: [(&str, &str, Section, bool); 12] = [
    ("server", "Server", server_section, true),
    ("clients", "Clients", clients, true),
    ("memory", "Memory", memory, true),
    ("persistence", "Persistence", persistence, true),
    ("stats", "Stats", stats, true),
    ("replication", "Replication", replication, true),
    ("cpu", "CPU", cpu, true),
    ("commandstats", "Commandstats", command_stats, false),
    ("errorstats", "Errorstats", error_stats, true),
    ("cluster", "Cluster", cluster, true),
    ("understudy", "Understudy", own, true),
    ("keyspace", "Keyspace", keyspace, true),
];

/// The sections asked for; none: the default ones.
pub(super) fn text(server: &Server, sections: &[String]) -> String {
    let asked = |names: &[&str]| {
        sections
            .iter()
            .any(|section| names.contains(&section.as_str()))
    };
    let all = asked(&["all", "everything"]);
    let default = sections.is_empty() || asked(&["default"]);
    let view = server.node.view();
    let mut out = String::new();
    for (name, title, section, is_default) in SECTIONS {
        let wanted = all || (default && is_default) || asked(&[name]);
        if !wanted {
            continue;
        }
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        let _ = write!(out, "# {title}\r\n");
        section(server, &view, &mut out);
    }
    out
}

fn put(out: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{key}:{value}\r\n");
}

fn server_section(server: &Server, _: &View, out: &mut String) {
    let node = &server.node;
    let witness = node.settings.kind() == Kind::Witness;
    put(out, "redis_version", REDIS_VERSION);
    let mode = if witness { "sentinel" } else { "standalone" };
    put(out, "redis_mode", mode);
    put(out, "understudy_version", env!("CARGO_PKG_VERSION"));
    put(out, "os", std::env::consts::OS);
    put(out, "arch_bits", usize::BITS);
    put(out, "multiplexing_api", "epoll");
    put(out, "process_id", std::process::id());
    put(out, "run_id", run_id(node, node.id()));
    put(out, "tcp_port", host_port(&node.settings.client_addr).1);
    put(out, "server_time_usec", node.host.wall().0 * 1000);
    let uptime = node.started.elapsed().as_secs();
    put(out, "uptime_in_seconds", uptime);
    put(out, "uptime_in_days", uptime / 86_400);
}

fn clients(server: &Server, _: &View, out: &mut String) {
    let list = server.clients.all();
    let subscribed = list.iter().filter(|client| client.is_subscribed()).count();
    put(out, "connected_clients", list.len());
    put(out, "maxclients", server.node.tunables.max_clients.get());
    put(out, "blocked_clients", server.clients.blocked());
    put(out, "tracking_clients", 0);
    put(out, "pubsub_clients", subscribed);
}

fn memory(server: &Server, _: &View, out: &mut String) {
    let (_, _, bytes) = server.node.store.size();
    put(out, "used_memory", bytes);
    put(out, "used_memory_human", human(bytes));
    let peak = server.counters.peak(bytes);
    put(out, "used_memory_peak", peak);
    put(out, "used_memory_peak_human", human(peak));
    put(out, "used_memory_dataset", bytes);
    let resident = process_usage().resident;
    put(out, "used_memory_rss", resident);
    put(out, "used_memory_rss_human", human(resident as usize));
    let ratio = resident as f64 / (bytes as f64).max(1.0);
    put(out, "mem_fragmentation_ratio", format!("{ratio:.2}"));
    let memory = &server.node.store.memory;
    put(out, "maxmemory", memory.bytes());
    put(out, "maxmemory_human", human(memory.bytes() as usize));
    put(out, "maxmemory_policy", memory.policy().name());
}

/// As Redis abbreviates bytes.
fn human(bytes: usize) -> String {
    let bytes = bytes as f64;
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units
        .into_iter()
        .find(|(bits, _)| bytes >= f64::from(1_u32 << bits));
    match unit {
        Some((bits, name)) => format!("{:.2}{name}", bytes / f64::from(1_u32 << bits)),
        None => format!("{bytes}B"),
    }
}

fn persistence(server: &Server, view: &View, out: &mut String) {
    let log = server.node.store.log();
    let unsure = matches!(server.node.gate_now().serves, Serves::Unsure);
    put(out, "loading", u8::from(unsure));
    put(out, "async_loading", 0);
    // A snapshot is what an RDB file is to Redis, and the log its AOF.
    let stats = &server.node.stats;
    let saved = Stats::get(&stats.last_snapshot_lsn);
    let since = server.node.store.applied().0.saturating_sub(saved);
    put(out, "rdb_changes_since_last_save", since);
    let making = server.node.makes_snapshot();
    put(out, "rdb_bgsave_in_progress", u8::from(making));
    put(
        out,
        "rdb_last_save_time",
        Stats::get(&stats.last_snapshot_at),
    );
    let failed = stats.snapshot_failed.load(Ordering::Relaxed);
    let ended = if failed { "err" } else { "ok" };
    put(out, "rdb_last_bgsave_status", ended);
    put(out, "rdb_saves", Stats::get(&stats.snapshots));
    put(out, "aof_enabled", 1);
    put(out, "aof_rewrite_in_progress", 0);
    put(out, "aof_last_bgrewrite_status", "ok");
    let written = if log.failure().is_some() { "err" } else { "ok" };
    put(out, "aof_last_write_status", written);
    put(out, "aof_current_size", log.kept_bytes());
    put(out, "wal_appended_lsn", view.log.appended.lsn);
    put(out, "wal_synced_lsn", view.log.synced);
}

fn stats(server: &Server, _: &View, out: &mut String) {
    let stats = &server.node.stats;
    let counts = server.counters.now(stats);
    let (commands, bytes_in, bytes_out) = server.counters.last_second();
    let (channels, patterns, shard) = server.pubsub.sizes();
    put(out, "total_connections_received", counts.connections);
    put(out, "total_commands_processed", counts.commands);
    put(out, "instantaneous_ops_per_sec", commands);
    put(out, "total_net_input_bytes", counts.net_in);
    put(out, "total_net_output_bytes", counts.net_out);
    put(out, "instantaneous_input_kbps", kib(bytes_in));
    put(out, "instantaneous_output_kbps", kib(bytes_out));
    put(out, "rejected_connections", counts.turned_away);
    put(out, "expired_keys", counts.expired);
    put(out, "evicted_keys", server.node.store.memory.evicted());
    put(out, "keyspace_hits", counts.hits);
    put(out, "keyspace_misses", counts.misses);
    put(out, "pubsub_channels", channels);
    put(out, "pubsub_patterns", patterns);
    put(out, "pubsubshard_channels", shard);
    put(out, "total_error_replies", counts.errors);
    put(out, "unconfirmed_writes", Stats::get(&stats.unconfirmed));
    put(out, "slowlog_entries", server.slowlog.len());
}

fn kib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// Of the process, as the system counts it.
fn cpu(_: &Server, _: &View, out: &mut String) {
    let usage = process_usage();
    for (name, used) in [("sys", usage.system), ("user", usage.user)] {
        let seconds = used.as_secs_f64();
        put(out, &format!("used_cpu_{name}"), format!("{seconds:.6}"));
    }
}

fn command_stats(server: &Server, _: &View, out: &mut String) {
    server.tally.tell_commands(out);
}

fn error_stats(server: &Server, _: &View, out: &mut String) {
    server.tally.tell_errors(out);
}

fn cluster(_: &Server, _: &View, out: &mut String) {
    put(out, "cluster_enabled", 0);
}

fn replication(server: &Server, view: &View, out: &mut String) {
    let node = &server.node;
    let gate = node.gate_now();
    let end = node.store.log().end();
    if gate.is_primary() {
        put(out, "role", "master");
        put(out, "connected_slaves", view.standbys.len());
        for (place, standby) in view.standbys.iter().enumerate() {
            let member = node.settings.member(standby.id);
            let (host, port) = host_port(member.map_or("?:0", |member| &member.client_addr));
            let lag = view.log.appended.lsn.records_since(standby.received);
            let line = format!(
                "ip={host},port={port},state=online,offset={},lag={},lag_records={lag}",
                standby.received,
                u8::from(lag > 0)
            );
            put(out, &format!("slave{place}"), line);
        }
    } else {
        put(
            out,
            "role",
            if gate.serves == Serves::Witness {
                "sentinel"
            } else {
                "slave"
            },
        );
        let primary = gate.primary.and_then(|id| node.settings.member(id));
        if let Some(primary) = primary {
            let (host, port) = host_port(&primary.client_addr);
            put(out, "master_host", host);
            put(out, "master_port", port);
        }
        if let Some((age, _)) = node.staleness() {
            put(out, "staleness_ms", age.as_millis());
        }
        put(
            out,
            "master_link_status",
            if gate.suspected { "down" } else { "up" },
        );
        put(out, "master_sync_in_progress", 0);
        put(out, "slave_repl_offset", end.lsn);
        put(out, "slave_read_only", 1);
    }
    put(
        out,
        "master_replid",
        format!("{:032x}00000000", gate.cluster),
    );
    // In LSNs, as the standbys' offsets are.
    put(out, "master_repl_offset", end.lsn);
    put(out, "repl_backlog_active", 1);
    let failover = if view.paused {
        "waiting-for-sync"
    } else {
        "no-failover"
    };
    put(out, "master_failover_state", failover);
}

/// The state of the mode, in a word.
pub(crate) fn mode_state(state: ModeState) -> &'static str {
    match state {
        ModeState::Ok => "ok",
        ModeState::FallenBack => "fallen back",
        ModeState::Changing => "changing",
    }
}

fn own(server: &Server, view: &View, out: &mut String) {
    let node = &server.node;
    let gate = node.gate_now();
    put(out, "node_id", node.id());
    put(out, "cluster_name", &node.settings.name);
    put(out, "cluster_id", format!("{:032x}", gate.cluster));
    put(out, "epoch", view.epoch);
    put(out, "primary_id", view.primary.map_or(0, |id| id.0));
    put(out, "mode", node.settings.mode.name());
    put(out, "mode_state", mode_state(view.mode_state));
    if let Some(rule) = &view.rule {
        let members: Vec<String> = rule.rule.members.iter().map(|id| id.to_string()).collect();
        put(out, "rule_members", members.join("+"));
        put(out, "rule_copies", rule.rule.copies);
        put(out, "rule_level", rule.rule.level.name());
    }
    put(out, "appended_lsn", view.log.appended.lsn);
    put(out, "synced_lsn", view.log.synced);
    put(out, "released_lsn", view.released);
    put(out, "applied_lsn", node.store.applied());
    if gate.is_primary() {
        put(
            out,
            "lease_ms",
            gate.lease_until
                .since(node.host.boot_time())
                .as_ms()
                .min(1 << 40),
        );
    }
    if let Some(lost) = node.exposure(view) {
        put(out, "lost_if_died_records", lost.records);
        if let Some(bytes) = lost.bytes {
            put(out, "lost_if_died_bytes", bytes);
        }
        if let Some(ms) = lost.ms {
            put(out, "lost_if_died_ms", ms);
        }
    }
    if let Some(why) = &view.held_back {
        put(out, "held_back", why);
    }
}

fn keyspace(server: &Server, _: &View, out: &mut String) {
    let (keys, expires, _) = server.node.store.size();
    if keys > 0 {
        put(
            out,
            "db0",
            format!("keys={keys},expires={expires},avg_ttl=0"),
        );
    }
}

/// ROLE, as Redis answers it.
pub(super) fn role(server: &Server) -> Reply {
    let node = &server.node;
    let gate = node.gate_now();
    let offset = Reply::Integer(node.store.log().end().lsn.0 as i64);
    if gate.serves == Serves::Witness {
        let names = Reply::Array(vec![bulk(&node.settings.name)]);
        return Reply::Array(vec![Reply::text("sentinel"), names]);
    }
    if gate.is_primary() {
        let view = node.view();
        let standbys = view.standbys.iter().filter_map(|standby| {
            let (host, port) = host_port(&node.settings.member(standby.id)?.client_addr);
            Some(Reply::Array(vec![
                bulk(host),
                bulk(port),
                bulk(standby.received),
            ]))
        });
        return Reply::Array(vec![
            Reply::text("master"),
            offset,
            Reply::Array(standbys.collect()),
        ]);
    }
    let primary = gate.primary.and_then(|id| node.settings.member(id));
    let (host, port) = host_port(primary.map_or("?:0", |member| &member.client_addr));
    let link = match (gate.following, gate.suspected) {
        (Some(_), false) => "connected",
        (None, false) => "connecting",
        (_, true) => "connect",
    };
    Reply::Array(vec![
        Reply::text("slave"),
        bulk(host),
        Reply::Integer(port.parse().unwrap_or(0)),
        Reply::text(link),
        offset,
    ])
}
