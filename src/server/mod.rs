//! Client sessions: what arrives on the client port, and how replies are held until what they show
//! is safe.
//!
//! Promises: a connection's replies come in the order of its commands. No reply, to a read or a
//! write, leaves before everything it depends on is released, under the reign that made it and
//! under a live lease (R17, R18, R32). What a client sends is bounded before it is kept.

mod client_commands;
mod clients;
mod hold;
mod info;
mod monitor;
mod pause;
mod probe;
mod pubsub;
mod receipt;
mod sentinel;
mod session;
mod session_commands;
mod transaction;

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

use crate::node::{Node, NodeEvent, Stats};
use clients::Clients;
pub(crate) use info::mode_state;
use monitor::Monitors;
use pause::Pause;
pub use probe::probe;
use pubsub::PubSub;

/// Why the client port is not served.
#[derive(Debug, Error)]
#[error("cannot listen for clients on {addr}: {source}; give another --client-addr")]
pub struct ServeError {
    /// As configured.
    pub addr: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// What the sessions of a node share.
#[derive(Debug)]
pub struct Server {
    pub(crate) node: Arc<Node>,
    pub(crate) pubsub: PubSub,
    clients: Clients,
    pause: Pause,
    monitors: Monitors,
}

impl Server {
    /// A server for this node's clients.
    pub fn new(node: Arc<Node>) -> Arc<Server> {
        Arc::new(Server {
            node,
            pubsub: PubSub::new(),
            clients: Clients::default(),
            pause: Pause::default(),
            monitors: Monitors::new(),
        })
    }

    /// Connected clients.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
}

/// Binds the client port.
pub async fn bind(addr: &str) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError {
        addr: addr.to_string(),
        source,
    };
    TcpListener::bind(addr).await.map_err(failed)
}

/// Serves clients until the node stops.
pub async fn serve(server: Arc<Server>, listener: TcpListener) {
    let host = Arc::clone(&server.node.host);
    host.spawn(Box::pin(announce(Arc::clone(&server))));
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = server.node.stopping.cancelled() => return,
        };
        match taken {
            Ok((stream, from)) => {
                // A socket that is gone already tells its session.
                let _ = stream.set_nodelay(true);
                let to = stream.local_addr().ok();
                tokio::spawn(attend(Arc::clone(&server), stream, from, to));
            }
            Err(error) => {
                // Out of file descriptors, most likely: those who are in finish first.
                tracing::warn!("taking a client's connection failed: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one client until it goes, its reign ends, somebody ends it or the node stops. `to` is our end
/// of the connection.
pub async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    from: SocketAddr,
    to: Option<SocketAddr>,
) {
    let end = server.node.stopping.child_token();
    let client = server.clients.enter(from, to, end);
    Stats::add(&server.node.stats.connections, 1);
    let full = server.clients() > server.node.settings.max_clients as usize;
    let id = client.id;
    session::run(&server, client, stream, full).await;
    server.clients.leave(id);
}

/// Tells subscribers what Sentinel would tell them.
async fn announce(server: Arc<Server>) {
    let node = &server.node;
    let mut events = node.events();
    // The primary of the last news, and the one before.
    let (mut primary, mut old) = (node.outlook().primary, None);
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            // More came than are kept: what counts is who is primary now.
            Err(RecvError::Lagged(_)) => {
                match node.outlook().primary.filter(|id| Some(*id) != primary) {
                    Some(new) => NodeEvent::PrimaryChanged { old: primary, new },
                    None => continue,
                }
            }
            Err(RecvError::Closed) => return,
        };
        for (channel, message) in sentinel::published(node, &event, primary, old) {
            let (channel, message) = (channel.as_bytes(), message.as_bytes());
            server.pubsub.publish(channel, message);
        }
        if let NodeEvent::PrimaryChanged { new, .. } = event {
            (old, primary) = (primary, Some(new));
        }
    }
}
