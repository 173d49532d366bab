//! Patroni's health checks, so that existing load-balancer set-ups work.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use crate::node::{Gate, Serves, parse_bytes};

type Health = (StatusCode, Json<Value>);

fn is_leader(server: &Shared, gate: &Gate) -> bool {
    let reigns = matches!(gate.serves, Serves::Primary | Serves::PausedPrimary);
    reigns && gate.lease_until > server.node.host.boot_time()
}

fn answer(server: &Shared, ok: bool) -> Health {
    let gate = server.node.gate_now();
    let role = match gate.serves {
        _ if gate.is_primary() => "primary",
        Serves::Witness => "witness",
        _ => "replica",
    };
    let state = match gate.serves {
        Serves::Primary | Serves::PausedPrimary | Serves::Witness => "running",
        Serves::Standby => "streaming",
        Serves::YoungPrimary | Serves::Unsure => "starting",
    };
    let body = json!({
        "state": state,
        "role": role,
        "timeline": gate.epoch.0,
        "epoch": gate.epoch.0,
        "id": server.node.id().0,
        "understudy": { "version": env!("CARGO_PKG_VERSION"), "scope": server.node.settings.name },
    });
    (
        if ok {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        Json(body),
    )
}

pub(super) async fn primary(State(server): State<Shared>) -> Health {
    let ok = is_leader(&server, &server.node.gate_now());
    answer(&server, ok)
}

/// `?lag=`: at most so many bytes behind, as far as this standby knows.
#[derive(Deserialize)]
pub(super) struct Lag {
    lag: Option<String>,
}

pub(super) async fn replica(State(server): State<Shared>, Query(query): Query<Lag>) -> Health {
    let gate = server.node.gate_now();
    let ok = gate.serves == Serves::Standby && within(&server, &query);
    answer(&server, ok)
}

pub(super) async fn read_only(State(server): State<Shared>, Query(query): Query<Lag>) -> Health {
    let gate = server.node.gate_now();
    let standby = gate.serves == Serves::Standby && within(&server, &query);
    answer(&server, standby || is_leader(&server, &gate))
}

/// Bytes in the log that readers here do not see yet; a standby cut off from its primary does not
/// know how far behind it is, and so is behind any bound.
fn within(server: &Shared, query: &Lag) -> bool {
    let Some(text) = &query.lag else { return true };
    let Ok(most) = parse_bytes(&crate::node::Text::String(text.clone())) else {
        return false;
    };
    let node = &server.node;
    let behind = node
        .store
        .log()
        .end()
        .offset
        .saturating_sub(node.store.applied_offset());
    !node.gate_now().suspected && node.gate_now().following.is_some() && behind <= most
}

pub(super) async fn health(State(server): State<Shared>) -> Health {
    let gate = server.node.gate_now();
    let ok = is_leader(&server, &gate) || matches!(gate.serves, Serves::Standby | Serves::Witness);
    answer(&server, ok)
}

pub(super) async fn readiness(State(server): State<Shared>) -> Health {
    let gate = server.node.gate_now();
    answer(
        &server,
        is_leader(&server, &gate) || gate.serves == Serves::Standby,
    )
}

pub(super) async fn liveness(State(server): State<Shared>) -> Health {
    let ok = server.node.store.log().failure().is_none();
    answer(&server, ok)
}
