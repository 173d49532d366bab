//! SENTINEL FAILOVER: a switchover to the best standby, as HTTP and the command line order it.
//!
//! As with Sentinel, `OK` says that it has begun; `+switch-master` says that it is done. Whoever may
//! write here may order it: it costs clients less than a FLUSHALL. A node that is not the primary passes the
//! order on over HTTP, with the cluster secret; where it does not know the primary's HTTP address, over
//! the client port, which works while that asks for neither password nor TLS.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::super::ask::ask;
use super::super::{Server, order};
use super::{NO_IDEA, UNKNOWN, host_port, is_name};
use crate::node::{Node, NodeEvent};
use crate::replica::Input;
use crate::resp::Reply;

const IN_PROGRESS: Reply = Reply::error("INPROG Failover already in progress");
const NO_REPLICA: Reply = Reply::error("NOGOODSLAVE No suitable replica to promote");

/// How long the primary has for its answer to an order that was passed on.
const PATIENCE: Duration = Duration::from_secs(3);

/// What comes of an order.
pub(in crate::server) enum Ordered {
    /// This.
    Now(Reply),
    /// The primary's answer.
    Later(oneshot::Receiver<Reply>),
}

/// Orders it here, or passes the order on to the primary.
pub(in crate::server) fn order(server: &Server, master: &Bytes) -> Ordered {
    let node = &server.node;
    if !is_name(node, master) {
        return Ordered::Now(UNKNOWN);
    }
    let gate = node.gate_now();
    if gate.is_primary() {
        return Ordered::Now(begin_failover(node));
    }
    let Some(primary) = node.outlook().primary else {
        return Ordered::Now(NO_IDEA);
    };
    let believed = gate.primary == Some(primary) && !gate.suspected;
    let Some(member) = node.settings.member(primary).filter(|_| believed) else {
        return Ordered::Now(IN_PROGRESS);
    };
    let (addr, name) = (member.client_addr.clone(), master.clone());
    let http = member.http_addr.clone();
    let secret = node.settings.secret_text.clone();
    let (answer, answered) = oneshot::channel();
    node.host.spawn(Box::pin(async move {
        let passed = tokio::time::timeout(PATIENCE, async {
            match http {
                Some(http) => pass_on_over_http(http, secret).await,
                None => pass_on(&addr, &name).await,
            }
        })
        .await;
        let why = match passed {
            Ok(Ok(reply)) => {
                // A client that went away meanwhile wants no answer.
                let _ = answer.send(reply);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        let text =
            format!("ERR the primary at {addr} did not take the order: {why}; say it to that node");
        let _ = answer.send(Reply::Error(text.into()));
    }));
    Ordered::Later(answered)
}

/// On the primary: begins it, or says why not.
pub(crate) fn begin_failover(node: &Node) -> Reply {
    if !node.gate_now().is_primary() {
        return IN_PROGRESS;
    }
    let view = node.view();
    if view.paused || !view.serving {
        return IN_PROGRESS;
    }
    if view.successor.is_none() {
        return NO_REPLICA;
    }
    let mut events = node.events();
    node.enter([Input::Switchover(None)]);
    while let Ok(event) = events.try_recv() {
        if let NodeEvent::SwitchoverFailed(why) = event {
            tracing::warn!("SENTINEL FAILOVER: {why}");
            return NO_REPLICA;
        }
    }
    Reply::OK
}

async fn pass_on_over_http(addr: String, secret: Option<String>) -> std::io::Result<Reply> {
    let asked = tokio::task::spawn_blocking(move || {
        let body = serde_json::json!({ "begin": true });
        order::pass_on(&addr, "switchover", secret.as_deref(), &body, PATIENCE)
    });
    let (status, body) = asked.await?.map_err(std::io::Error::other)?;
    let why = body.get("error").and_then(|why| why.as_str());
    match (status, why) {
        (200, _) => Ok(Reply::OK),
        (409, Some(why)) => Ok(Reply::Error(why.to_owned().into())),
        (_, why) => Err(std::io::Error::other(format!(
            "HTTP {status}, {}",
            why.unwrap_or("no reason given")
        ))),
    }
}

/// Asks who it is first: two nodes that each take the other for the primary would pass one order
/// between them for ever.
async fn pass_on(addr: &str, name: &Bytes) -> std::io::Result<Reply> {
    let (host, port) = host_port(addr);
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    let mut buffer = BytesMut::new();
    let role = ask(&mut stream, &mut buffer, &[b"ROLE"]).await?;
    if let Reply::Error(why) = role {
        // A password is asked for, or TLS.
        let why = format!(
            "{why} (the order is passed on over HTTP where [[cluster.member]] names the primary's http_addr)"
        );
        return Err(std::io::Error::other(why));
    }
    let is_primary = matches!(&role, Reply::Array(fields)
        if matches!(fields.first(), Some(Reply::Bulk(role)) if role == "master"));
    if !is_primary {
        return Ok(IN_PROGRESS);
    }
    ask(&mut stream, &mut buffer, &[b"SENTINEL", b"FAILOVER", name]).await
}
