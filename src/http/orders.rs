//! What an operator may order: switchover and promotion.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::sync::broadcast;

use super::{Shared, cluster};
use crate::node::NodeEvent;
use crate::replica::Input;
use crate::resp::Reply;
use crate::server::begin_failover;
use crate::server::order::{self, GUARD, HOPS};
use crate::units::NodeId;

/// It was passed on by a node that took this one for the primary.
const NEITHER: &str = "the order was passed on to this node, which is not the primary (any more): a \
    takeover is under way. Ask again in a moment";

pub(super) type Answer = (StatusCode, Json<Value>);

pub(super) fn refuse(status: StatusCode, why: impl Into<String>) -> Answer {
    (status, Json(json!({ "error": why.into() })))
}

/// Whether a request may do what needs the secret; the refusal, if not.
pub(super) fn allowed(server: &Shared, headers: &HeaderMap) -> Result<(), Answer> {
    if !headers.contains_key(GUARD) {
        let why = format!("the header {GUARD}: 1 is missing");
        return Err(refuse(StatusCode::FORBIDDEN, why));
    }
    let Some(secret) = &server.node.settings.secret_text else {
        return Ok(());
    };
    let given = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or("");
    if bool::from(given.trim().as_bytes().ct_eq(secret.as_bytes())) {
        Ok(())
    } else {
        let why = "the cluster secret is needed: --secret-file FILE";
        Err(refuse(StatusCode::UNAUTHORIZED, why))
    }
}

#[derive(Deserialize)]
pub(super) struct SwitchoverOrder {
    to: Option<u32>,
    /// Answered once it has begun, in the words of SENTINEL FAILOVER.
    #[serde(default)]
    begin: bool,
}

pub(super) async fn switchover(
    State(server): State<Shared>,
    headers: HeaderMap,
    Json(order): Json<SwitchoverOrder>,
) -> Answer {
    if let Err(refusal) = allowed(&server, &headers) {
        return refusal;
    }
    let node = &server.node;
    if order.begin {
        return begin(&server);
    }
    if !node.gate_now().is_primary() {
        if headers.contains_key(HOPS) {
            return refuse(StatusCode::CONFLICT, NEITHER);
        }
        return forward(&server, "switchover", json!({ "to": order.to })).await;
    }
    let began = Instant::now();
    let epoch = node.gate_now().epoch;
    let mut events = node.events();
    node.enter([Input::Switchover(order.to.map(NodeId))]);
    let outcome = tokio::time::timeout(Duration::from_secs(15), async {
        loop {
            match events.recv().await {
                Ok(NodeEvent::SwitchoverFailed(why)) => return Err(why),
                Ok(NodeEvent::PrimaryChanged { new, .. }) if new != node.id() => return Ok(new),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err("the node stops".into()),
            }
        }
    })
    .await;
    match outcome {
        Ok(Ok(new)) => {
            let body = json!({
                "schema": "understudy.switchover/1",
                "primary": new.0,
                "epoch": node.gate_now().epoch.0.max(epoch.0 + 1),
                "pause_ms": began.elapsed().as_millis() as u64,
            });
            (StatusCode::OK, Json(body))
        }
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, why),
        Err(_) => refuse(
            StatusCode::GATEWAY_TIMEOUT,
            "no new primary was seen within 15 s",
        ),
    }
}

/// For another node, whose client asked for it.
fn begin(server: &Shared) -> Answer {
    match begin_failover(&server.node) {
        Reply::Error(why) => refuse(StatusCode::CONFLICT, why),
        _ => (StatusCode::OK, Json(json!({ "begun": true }))),
    }
}

/// Passes an order on to the primary.
async fn forward(server: &Shared, path: &'static str, body: Value) -> Answer {
    let node = &server.node;
    let primary = node
        .gate_now()
        .primary
        .and_then(|id| node.settings.member(id));
    let Some(addr) = primary.and_then(|member| member.http_addr.clone()) else {
        let why = match primary {
            None => "this node knows of no primary".to_string(),
            Some(member) => format!(
                "the primary is node {}; ask it (its http_addr is not in this configuration)",
                member.member.id
            ),
        };
        return refuse(StatusCode::CONFLICT, why);
    };
    let secret = node.settings.secret_text.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let patience = Duration::from_secs(20);
        order::pass_on(&addr, path, secret.as_deref(), &body, patience)
    })
    .await;
    match asked {
        Ok(Ok((status, body))) => (
            StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            Json(body),
        ),
        Ok(Err(why)) => refuse(StatusCode::BAD_GATEWAY, why),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

pub(super) async fn price(State(server): State<Shared>) -> Json<Value> {
    let (bound, obstacle) = server.node.price();
    let reigns = server.node.gate_now().is_primary();
    let reason = match (reigns, obstacle) {
        (true, _) => "this node is the primary".to_string(),
        (false, Some(obstacle)) => obstacle.to_string(),
        (false, None) if bound.exact_zero => "nothing acknowledged would be lost".to_string(),
        (false, None) => "acknowledged writes may be lost".to_string(),
    };
    Json(json!({
        "schema": "understudy.price/1",
        "node": server.node.id().0,
        "allowed": !reigns,
        "reason": reason,
        "bound": cluster::bound(&bound),
    }))
}

#[derive(Deserialize)]
pub(super) struct PromoteOrder {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    lost: Vec<u32>,
}

pub(super) async fn promote(
    State(server): State<Shared>,
    headers: HeaderMap,
    Json(order): Json<PromoteOrder>,
) -> Answer {
    if let Err(refusal) = allowed(&server, &headers) {
        return refusal;
    }
    if !order.force {
        return refuse(
            StatusCode::BAD_REQUEST,
            "say force: true; GET /promote-price tells the price",
        );
    }
    let node = &server.node;
    if let Some(id) = order
        .lost
        .iter()
        .find(|id| node.settings.member(NodeId(**id)).is_none())
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("node {id} is not a member"),
        );
    }
    if order.lost.contains(&node.id().0) {
        return refuse(StatusCode::BAD_REQUEST, "a node cannot declare itself lost");
    }
    let mut events = node.events();
    let mut gate = node.gate();
    node.enter([Input::Promote(
        order.lost.iter().copied().map(NodeId).collect(),
    )]);
    let outcome = tokio::time::timeout(Duration::from_secs(15), async {
        loop {
            tokio::select! {
                changed = gate.wait_for(|gate| gate.is_primary()) => {
                    return changed.map(|gate| gate.epoch).map_err(|_| "the node stops".to_string());
                }
                event = events.recv() => match event {
                    Ok(NodeEvent::PromoteFailed(why)) => return Err(why),
                    Err(broadcast::error::RecvError::Closed) => return Err("the node stops".into()),
                    _ => {}
                }
            }
        }
    })
    .await;
    match outcome {
        Ok(Ok(epoch)) => {
            let body = json!({
                "schema": "understudy.promote/1",
                "primary": node.id().0,
                "epoch": epoch.0,
            });
            (StatusCode::OK, Json(body))
        }
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, why),
        Err(_) => refuse(
            StatusCode::GATEWAY_TIMEOUT,
            "the promotion did not end within 15 s",
        ),
    }
}
