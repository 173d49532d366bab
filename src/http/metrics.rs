//! Prometheus metrics, prefix `understudy_`. One registry per scrape, over the node's own numbers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use crate::node::{DiskState, Exposure, Fate, Share, Stats};
use crate::replica::ModeState;

pub(super) async fn metrics(State(server): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &registry(&server)) {
        Ok(()) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

fn registry(server: &Shared) -> Registry {
    let mut registry = Registry::with_prefix("understudy");
    gauges(server, &mut registry);
    counters(server, &mut registry);
    let stats = &server.node.stats;
    registry.register_with_unit(
        "wal_sync",
        "Time of one fdatasync of the log",
        Unit::Seconds,
        stats.sync_seconds.clone(),
    );
    registry.register_with_unit(
        "snapshot_hold",
        "Time for which a snapshot's walk held the keyspace's lock, each time",
        Unit::Seconds,
        stats.walk_seconds.clone(),
    );
    registry.register_with_unit(
        "commit",
        "Time from a write's execution to the release of its reply",
        Unit::Seconds,
        stats.commit_seconds.clone(),
    );
    registry
}

fn gauges(server: &Shared, registry: &mut Registry) {
    let node = &server.node;
    let view = node.view();
    let gate = node.gate_now();
    let lag = view
        .standbys
        .iter()
        .map(|standby| view.log.appended.lsn.records_since(standby.received))
        .max()
        .unwrap_or(0);
    let lease_ms = if gate.is_primary() {
        gate.lease_until
            .since(node.host.boot_time())
            .as_ms()
            .min(86_400_000)
    } else {
        0
    };
    let (keys, expiring, bytes) = node.store.size();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let values: [(&str, &str, i64); 16] = [
        ("epoch", "Highest epoch promised", number(view.epoch.0)),
        (
            "primary",
            "1 where this node reigns",
            i64::from(gate.is_primary()),
        ),
        (
            "primary_suspected",
            "1 where no live primary is known",
            i64::from(view.suspected),
        ),
        (
            "fallen_back",
            "1 where semi-sync goes on with the primary alone",
            i64::from(view.mode_state == ModeState::FallenBack),
        ),
        (
            "appended_lsn",
            "Last record in the log",
            number(view.log.appended.lsn.0),
        ),
        (
            "synced_lsn",
            "Last durable record",
            number(view.log.synced.0),
        ),
        (
            "released_lsn",
            "Last record safe to acknowledge",
            number(view.released.0),
        ),
        (
            "applied_lsn",
            "Last record visible to readers",
            number(node.store.applied().0),
        ),
        (
            "standbys",
            "Standbys that stream",
            number(view.standbys.len() as u64),
        ),
        (
            "lag_records",
            "Records the slowest streaming standby lacks",
            number(lag),
        ),
        (
            "lease_milliseconds",
            "What is left of the primary's lease",
            number(lease_ms),
        ),
        (
            "clients",
            "Connected clients",
            number(server.clients() as u64),
        ),
        ("keys", "Keys", number(keys as u64)),
        (
            "keys_expiring",
            "Keys with an expiry",
            number(expiring as u64),
        ),
        (
            "memory_bytes",
            "Bytes of keys and values",
            number(bytes as u64),
        ),
        (
            "snapshot_hold_longest_microseconds",
            "Longest time that a snapshot's walk held the keyspace's lock",
            number(Stats::get(&node.stats.longest_walk_us)),
        ),
    ];
    for (name, help, value) in values {
        registry.register(name, help, ConstGauge::new(value));
    }
    disk(&node.disk_state(), registry);
    shares(&node.shares(&view), registry);
    if let Some(lost) = node.exposure(&view) {
        exposure(&lost, registry);
    }
}

fn disk(disk: &DiskState, registry: &mut Registry) {
    let number = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
    let full_for = disk.full.as_ref().map(|_| disk.full_for);
    let values = [
        (
            "disk_full",
            "1 where the disk refused room for the log or for the reserve",
            Some(i64::from(full_for.is_some())),
        ),
        (
            "disk_full_milliseconds",
            "For how long that has been so; 0 where it is not",
            Some(number(full_for.map_or(0, |span| span.as_millis()))),
        ),
        (
            "disk_free_bytes",
            "Bytes free on the disk of the data directory",
            disk.free_bytes.map(|bytes| number(bytes.into())),
        ),
        (
            "disk_reserve",
            "1 where the room kept back for control state is there",
            Some(i64::from(disk.reserve)),
        ),
        (
            "wal_in_flight_milliseconds",
            "Age of the log's write or sync in flight; 0 where there is none",
            Some(number(disk.stalled_for.as_millis())),
        ),
        (
            "wal_stalls",
            "1 where that is more than wal.stall",
            Some(i64::from(disk.stalls)),
        ),
    ];
    for (name, help, value) in values {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
}

/// What a primary keeps of its log for each standby, and what it does not.
fn shares(shares: &[Share], registry: &mut Registry) {
    let bytes = Family::<Standby, Gauge>::default();
    let needed = Family::<Standby, Gauge>::default();
    for share in shares {
        let node = Standby { node: share.id.0 };
        let cut = share.fate == Fate::CutLoose;
        needed.get_or_create(&node).set(i64::from(cut));
        if let Fate::Kept { bytes: kept } = share.fate {
            let kept = i64::try_from(kept).unwrap_or(i64::MAX);
            bytes.get_or_create(&node).set(kept);
        }
    }
    registry.register(
        "standby_log_kept_bytes",
        "Bytes of log kept for a standby, whole segments",
        bytes,
    );
    registry.register(
        "standby_needs_full_copy",
        "1 where the log that a standby lacks is kept no more",
        needed,
    );
}

/// Which standby a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standby {
    node: u32,
}

/// A primary's; absent elsewhere, and each where it is not known, so that no alert takes "unknown"
/// for "nothing".
fn exposure(lost: &Exposure, registry: &mut Registry) {
    let values = [
        (
            "lost_if_died_records",
            "Released records that not every possible successor is known to hold",
            Some(lost.records),
        ),
        (
            "lost_if_died_bytes",
            "Bytes of the records that would be lost if this primary died now",
            lost.bytes,
        ),
        (
            "lost_if_died_milliseconds",
            "Age of the oldest record that would be lost if this primary died now",
            lost.ms,
        ),
    ];
    for (name, help, value) in values {
        if let Some(value) = value {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            registry.register(name, help, ConstGauge::new(value));
        }
    }
}

fn counters(server: &Shared, registry: &mut Registry) {
    let stats = &server.node.stats;
    let values = [
        (
            "takeovers",
            "Reigns this node won since it started",
            Stats::get(&stats.takeovers),
        ),
        (
            "discarded_records",
            "Records given up on rejoining since this node started",
            Stats::get(&stats.discarded),
        ),
        (
            "quarantines",
            "Times that this node's keyspace was found wrong since it started",
            Stats::get(&stats.quarantines),
        ),
        (
            "memory_errors",
            "Times that memory did not hold what was written to it",
            Stats::get(&stats.memory_errors),
        ),
        (
            "scrubbed_bytes",
            "Bytes of segments and snapshots that the scrub has read back",
            Stats::get(&stats.scrubbed_bytes),
        ),
        (
            "scrub_findings",
            "Damage that the scrub has found",
            Stats::get(&stats.scrub_findings),
        ),
        (
            "scrub_mended",
            "Damaged files that were mended or replaced",
            Stats::get(&stats.scrub_mended),
        ),
        (
            "repaired_keys",
            "Keys set to the primary's values on rejoining since this node started",
            Stats::get(&stats.repaired_keys),
        ),
        (
            "repaired_bytes",
            "Bytes of those keys and values",
            Stats::get(&stats.repaired_bytes),
        ),
        (
            "stream_received_bytes",
            "Bytes of records, repairs and copies that came from a primary",
            Stats::get(&stats.stream_received),
        ),
        (
            "unconfirmed_writes",
            "Writes answered -UNCONFIRMED",
            Stats::get(&stats.unconfirmed),
        ),
        (
            "snapshots",
            "Snapshots made and read back since this node started",
            Stats::get(&stats.snapshots),
        ),
        (
            "copies_sent",
            "Snapshots sent, whole, to a standby whose log could not be matched",
            Stats::get(&stats.copies_sent),
        ),
        (
            "snapshots_unreadable",
            "Snapshots that could not be read back after they were written",
            Stats::get(&stats.snapshots_unreadable),
        ),
        ("commands", "Commands answered", Stats::get(&stats.commands)),
        (
            "connections",
            "Client connections taken",
            Stats::get(&stats.connections),
        ),
        (
            "expired_keys",
            "Keys deleted on expiry",
            Stats::get(&stats.expired),
        ),
        (
            "evicted_keys",
            "Keys deleted because memory was full",
            server.node.store.memory.evicted(),
        ),
    ];
    for (name, help, value) in values {
        registry.register(name, help, ConstCounter::new(value));
    }
}
