//! `/cluster` and `/history` as JSON: Patroni's keys, and ours.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Shared;
use crate::node::{Acknowledged, ExactLoss, Fate, MemberSettings, Node, Serves, Share, Takeover};
use crate::replica::{Cause, Kind, LossBound, MaxLag, Rule, Standing, View};
use crate::server::mode_state;
use crate::units::{Micros, NodeId};

pub(super) async fn cluster(State(server): State<Shared>) -> Json<Value> {
    let node = &server.node;
    let view = node.view();
    let settings = &node.settings;
    let shares = node.shares(&view);
    let members: Vec<Value> = settings
        .members
        .iter()
        .map(|member| {
            let mut said = describe(&server, &view, member);
            let share = shares.iter().find(|share| share.id == member.member.id);
            said["log_kept"] = share.map_or(Value::Null, log_kept);
            if member.member.id == node.id() {
                said["unfit"] = json!(unfit(node));
                said["scrub"] = scrub(node);
            }
            said
        })
        .collect();
    let rule = view.rule.as_ref().map(|recorded| {
        json!({
            "epoch": recorded.id.epoch.0,
            "version": recorded.id.version,
            "members": recorded.rule.members.iter().map(|id| id.0).collect::<Vec<_>>(),
            "copies": recorded.rule.copies,
            "level": recorded.rule.level.name(),
            "max_lag_records": lag_in(&recorded.rule, |lag| matches!(lag, MaxLag::Records(_))),
            "max_lag_bytes": lag_in(&recorded.rule, |lag| matches!(lag, MaxLag::Bytes(_))),
            "max_lag_ms": lag_in(&recorded.rule, |lag| matches!(lag, MaxLag::Ms(_))),
        })
    });
    let mut notes = settings.notes();
    notes.extend(
        node.scrub_state()
            .finding
            .map(|what| format!("Damage on node {}'s disk: {what}.", node.id())),
    );
    notes.extend(
        unfit(node)
            .iter()
            .map(|why| format!("Node {} does not stand in elections: {why}.", node.id())),
    );
    notes.extend(
        view.held_back
            .iter()
            .map(|why| format!("No takeover by this node: {why}.")),
    );
    let disk = node.disk_state();
    notes.extend(disk.full.clone());
    let worst = settings.interval * settings.threshold + settings.timeout;
    Json(json!({
        "schema": "understudy.cluster/1",
        "scope": settings.name,
        "cluster_id": view.cluster.map(|id| format!("{id:032x}")),
        "answered_by": node.id().0,
        "epoch": view.epoch.0,
        "primary": view.primary.map(|id| id.0),
        "primary_suspected": view.suspected,
        "mode": settings.mode.name(),
        "mode_state": mode_state(view.mode_state),
        "rule": rule,
        "lost_if_primary_died": node.exposure(&view).map(|lost| json!({
            "records": lost.records,
            "bytes": lost.bytes,
            "ms": lost.ms,
        })),
        "worst_case_detection_ms": worst.as_millis() as u64,
        "disk": {
            "full": disk.full.is_some(),
            "full_for_ms": disk.full.as_ref().map(|_| disk.full_for.as_millis() as u64),
            "free_bytes": disk.free_bytes,
            "reserve": disk.reserve,
            "stalled_ms": disk.stalled_for.as_millis() as u64,
            "stalls": disk.stalls,
        },
        "notes": notes,
        "members": members,
    }))
}

/// The rule's lag budget, where it is in this unit.
fn lag_in(rule: &Rule, unit: impl Fn(&MaxLag) -> bool) -> Option<u64> {
    rule.max_lag.filter(unit).map(|lag| match lag {
        MaxLag::Records(n) | MaxLag::Bytes(n) | MaxLag::Ms(n) => n,
    })
}

/// What is known here of one member: everything of oneself, a primary's cursors of its standbys.
struct Known {
    role: &'static str,
    state: &'static str,
    appended: Option<u64>,
    synced: Option<u64>,
    released: Option<u64>,
    applied: Option<u64>,
    acked: Option<u64>,
    connected: bool,
}

fn describe(server: &Shared, view: &View, member: &MemberSettings) -> Value {
    let node = &server.node;
    let id = member.member.id;
    let own = id == node.id();
    let known = if own {
        of_self(server, view)
    } else {
        of_other(server, view, member)
    };
    let (host, port) = member
        .client_addr
        .rsplit_once(':')
        .unwrap_or((&member.client_addr, "0"));
    let primary = node.gate_now().is_primary();
    let behind = |lsn: Option<u64>| {
        let end = view.log.appended.lsn.0;
        lsn.filter(|_| primary).map(|lsn| end.saturating_sub(lsn))
    };
    let lag_records = if own {
        Some(0).filter(|_| primary)
    } else {
        behind(known.acked)
    };
    let lag_bytes = match lag_records {
        Some(0) => Some(0),
        Some(_) => known
            .acked
            .and_then(|lsn| server.node.store.bytes_behind(crate::units::Lsn(lsn))),
        None => None,
    };
    let lag_ms = lag_records.and_then(|records| match records {
        0 => Some(0),
        _ => known
            .acked
            .and_then(|lsn| server.node.store.ms_behind(crate::units::Lsn(lsn))),
    });
    let lease = if own {
        Some(view.lease_until).filter(|_| primary)
    } else {
        view.leases
            .iter()
            .find(|(voter, _)| *voter == id)
            .map(|(_, until)| *until)
    };
    // Of others only a primary knows, by their answers to its heartbeats.
    let fit = match own {
        true => Some(node.unfit_reasons().is_empty()),
        false => Some(!view.unfit.contains(&id)).filter(|_| primary && known.connected),
    };
    let in_rule = view
        .rule
        .as_ref()
        .is_some_and(|recorded| recorded.rule.has_member(id));
    json!({
        "name": id.to_string(),
        "id": id.0,
        "role": known.role,
        "state": known.state,
        "kind": if member.member.kind == Kind::Data { "data" } else { "witness" },
        "host": host,
        "port": port.parse::<u16>().unwrap_or(0),
        "peer_addr": member.peer_addr,
        "client_addr": member.client_addr,
        "http_addr": member.http_addr,
        "api_url": member.http_addr.as_ref().map(|addr| format!("http://{addr}/")),
        "timeline": view.epoch.0,
        "epoch": view.epoch.0,
        "vote": member.member.vote,
        "in_rule": in_rule,
        "fit": fit,
        "appended_lsn": known.appended,
        "synced_lsn": known.synced,
        "released_lsn": known.released,
        "applied_lsn": known.applied,
        "acked_lsn": known.acked,
        "proven_equal_lsn": node.proven_equal(id).map(|lsn| lsn.0),
        "lag": lag_bytes,
        "lag_records": lag_records,
        "lag_ms": lag_ms,
        "lease_ms": lease.map(|until| remaining_ms(until, server.node.host.boot_time())),
        "connected": known.connected,
        "self": own,
    })
}

/// What a primary keeps of its log for a standby.
/// Why this node does not stand, whatever its log says.
fn unfit(node: &Node) -> Vec<String> {
    let reasons = node.unfit_reasons();
    reasons.iter().map(ToString::to_string).collect()
}

/// What the scrub has seen on this node.
fn scrub(node: &Node) -> Value {
    let state = node.scrub_state();
    let since = |at: Micros| node.host.boot_time().since(at).as_ms();
    json!({
        "passes": state.passes,
        "bytes_in_this_pass": state.bytes,
        "last_pass_ms_ago": state.last_pass.map(since),
        "finding": state.finding,
    })
}

fn log_kept(share: &Share) -> Value {
    let (state, bytes) = match share.fate {
        Fate::Kept { bytes } => ("kept", Some(bytes)),
        Fate::CutLoose => ("full copy needed", None),
        Fate::Unknown => ("unknown", None),
    };
    json!({
        "state": state,
        "bytes": bytes,
        "budget_bytes": share.budget,
        "append_bytes_per_second": share.bytes_per_second,
        "cut_loose_in_ms": share.cut_loose_in.map(|span| span.as_millis() as u64),
    })
}

fn remaining_ms(until: Micros, now: Micros) -> u64 {
    until.since(now).as_ms().min(86_400_000)
}

fn of_self(server: &Shared, view: &View) -> Known {
    let gate = server.node.gate_now();
    let (role, state) = match (view.standing, gate.serves) {
        (Standing::Primary, Serves::YoungPrimary) => ("leader", "loading"),
        (Standing::Primary, _) => ("leader", "running"),
        (Standing::Witness, _) => ("witness", "running"),
        (Standing::Blank, _) => ("uninitialized", "connecting"),
        (Standing::Learner, _) => ("learner", "streaming"),
        (_, Serves::Standby) if gate.following.is_some() => ("replica", "streaming"),
        (_, Serves::Standby) => ("replica", "connecting"),
        (_, _) => ("replica", "loading"),
    };
    Known {
        role,
        state,
        appended: Some(view.log.appended.lsn.0),
        synced: Some(view.log.synced.0),
        released: Some(view.released.0),
        applied: Some(server.node.store.applied().0),
        acked: Some(view.log.written.0),
        connected: true,
    }
}

fn of_other(server: &Shared, view: &View, member: &MemberSettings) -> Known {
    let id: NodeId = member.member.id;
    let cursor = view.standbys.iter().find(|standby| standby.id == id);
    let reigns = server.node.gate_now().is_primary();
    let witness = member.member.kind == Kind::Witness;
    let now = server.node.host.boot_time();
    let answers = view
        .leases
        .iter()
        .any(|(voter, until)| *voter == id && *until > now);
    let role = match (witness, cursor) {
        (true, _) => "witness",
        (false, _) if view.primary == Some(id) => "leader",
        (false, Some(cursor)) if !cursor.counted && member.member.vote => "learner",
        (false, _) => "replica",
    };
    let state = match (witness, cursor) {
        (true, _) if answers || !reigns => "running",
        (false, Some(_)) => "streaming",
        (false, None) if !reigns && view.primary == Some(id) && !view.suspected => "running",
        _ if reigns || view.primary == Some(id) => "unreachable",
        _ => "connecting",
    };
    Known {
        role,
        state,
        appended: cursor.map(|cursor| cursor.received.0),
        synced: cursor.map(|cursor| cursor.synced.0),
        released: None,
        applied: cursor.map(|cursor| cursor.applied.0),
        acked: cursor.map(|cursor| cursor.received.0),
        connected: cursor.is_some() || answers || (view.primary == Some(id) && !view.suspected),
    }
}

pub(super) async fn history(State(server): State<Shared>) -> Json<Value> {
    let takeovers: Vec<Value> = server.node.reports.all().iter().map(takeover).collect();
    Json(json!({ "schema": "understudy.history/1", "takeovers": takeovers }))
}

pub(super) fn bound(bound: &LossBound) -> Value {
    json!({
        "records": bound.records,
        "bytes": bound.bytes,
        "span_ms": bound.span_ms,
        "exact_zero": bound.exact_zero,
        "announced_missing": bound.announced_missing,
    })
}

fn exact(loss: &ExactLoss) -> Value {
    let acknowledged = match loss.acknowledged {
        Acknowledged::Exact(n) => json!({ "exact": n }),
        Acknowledged::AtMost(n) => json!({ "at_most": n }),
    };
    json!({
        "records": loss.records,
        "bytes": loss.bytes,
        "first_lsn": loss.first_lsn.0,
        "last_lsn": loss.last_lsn.0,
        "first_ms": loss.first_ms.0,
        "last_ms": loss.last_ms.0,
        "acknowledged": acknowledged,
        "node": loss.node.0,
        "file": loss.file,
    })
}

/// What the old primary said; or whoever had something to discard.
fn told(takeover: &Takeover) -> Option<&ExactLoss> {
    let old = takeover.report.old_primary;
    let from_old = takeover.exact.iter().find(|loss| Some(loss.node) == old);
    from_old.or_else(|| takeover.exact.iter().find(|loss| loss.records > 0))
}

fn takeover(takeover: &Takeover) -> Value {
    let report = &takeover.report;
    let (kind, detected_by) = match (report.cause, report.forced) {
        (_, true) => ("forced", "operator"),
        (Cause::Start, _) => ("start", "start"),
        (Cause::Restart, _) => ("restart", "start"),
        (Cause::ProcessGone, _) => ("failover", "process gone"),
        (Cause::MissedBeats, _) => ("failover", "missed beats"),
        (Cause::Abdication, _) => ("switchover", "abdication"),
        (Cause::Operator, _) => ("forced", "operator"),
    };
    let others: Vec<Value> = report
        .others
        .iter()
        .map(|(id, why)| json!({ "id": id.0, "why_not": why }))
        .collect();
    json!({
        "epoch": report.epoch.0,
        "kind": kind,
        "old_primary": report.old_primary.map(|id| id.0),
        "new_primary": report.new_primary.0,
        "at_ms": report.at.0,
        "detected_by": detected_by,
        "phases_us": {
            "suspected": 0,
            "voted": report.voted.0,
            "promoted": report.promoted.map(|span| span.0),
            "first_release": report.first_release.map(|span| span.0),
        },
        "since_last_beat_us": report.since_last_beat.map(|span| span.0),
        "fork": { "epoch": report.fork.epoch.0, "lsn": report.fork.lsn.0 },
        "why_won": report.why_won,
        "others": others,
        "loss": {
            "bound": bound(&report.bound),
            "exact": told(takeover).map(exact),
        },
    })
}
