//! Client sessions: what arrives on the client port, and how replies are held until what they show
//! is safe.
//!
//! Promises: a connection's replies come in the order of its commands. No reply, to a read or a
//! write, leaves before everything it depends on is released, under the reign that made it and
//! under a live lease (R17, R18, R32). What a client sends is bounded before it is kept.

mod config_commands;
mod counts;
mod failover;
mod hold;
mod info;
mod latency;
mod memory;
mod notify;
mod parameters;
mod probe;
mod pubsub;
mod sentinel;
mod session;
mod session_commands;
mod slowlog;
mod sparkline;
mod transaction;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, NodeEvent, Stats};
use config_commands::Changed;
pub use config_commands::Rewrite;
pub(crate) use info::mode_state;
pub use parameters::Written;
pub use probe::probe;
use pubsub::PubSub;
use slowlog::SlowLog;

/// Why the client port is not served.
#[derive(Debug, Error)]
#[error("cannot listen for clients on {addr}: {source}; give another --client-addr")]
pub struct ServeError {
    /// As configured.
    pub addr: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// One connected client, for CLIENT LIST.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    pub(crate) id: u64,
    pub(crate) from: SocketAddr,
    pub(crate) name: String,
    pub(crate) library: (String, String),
    pub(crate) since: Instant,
    pub(crate) last: Instant,
    pub(crate) last_command: &'static str,
    pub(crate) resp: u8,
    pub(crate) subscriptions: (usize, usize),
    pub(crate) shard_subscriptions: usize,
}

/// What the sessions of a node share.
pub struct Server {
    pub(crate) node: Arc<Node>,
    pub(crate) pubsub: PubSub,
    /// A client said SHUTDOWN.
    end: CancellationToken,
    pub(crate) slowlog: SlowLog,
    counters: counts::Counters,
    changed: Mutex<Changed>,
    rewrite: OnceLock<Rewrite>,
    clients: Mutex<BTreeMap<u64, ClientInfo>>,
    next_id: AtomicU64,
}

impl Server {
    /// A server for this node's clients.
    pub fn new(node: Arc<Node>) -> Arc<Server> {
        Arc::new(Server {
            node,
            pubsub: PubSub::new(),
            end: CancellationToken::new(),
            slowlog: SlowLog::default(),
            counters: counts::Counters::default(),
            changed: Mutex::default(),
            rewrite: OnceLock::new(),
            clients: Mutex::default(),
            next_id: AtomicU64::new(1),
        })
    }

    /// How CONFIG REWRITE writes the configuration file, where there is one. Said once.
    pub fn rewrite_with(&self, rewrite: Rewrite) {
        // Another one later is a mistake of the caller that harms nobody.
        let _ = self.rewrite.set(rewrite);
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, Changed> {
        self.changed
            .lock()
            .expect("nothing panics with what was changed")
    }

    fn reset_stats(&self) {
        self.counters.reset(&self.node.stats);
    }

    /// Until a client says SHUTDOWN. Whoever runs the node ends it then, as on SIGTERM.
    pub async fn until_shutdown(&self) {
        self.end.cancelled().await;
    }

    /// Connected clients.
    pub fn clients(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn client_list(&self) -> Vec<ClientInfo> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, ClientInfo>> {
        self.clients
            .lock()
            .expect("nothing panics while it holds the list of clients")
    }

    pub(crate) fn update_client(&self, id: u64, change: impl FnOnce(&mut ClientInfo)) {
        if let Some(info) = self.lock().get_mut(&id) {
            change(info);
        }
    }

    fn enter(&self, from: SocketAddr) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let info = ClientInfo {
            id,
            from,
            name: String::new(),
            library: (String::new(), String::new()),
            since: now,
            last: now,
            last_command: "NULL",
            resp: 2,
            subscriptions: (0, 0),
            shard_subscriptions: 0,
        };
        self.lock().insert(id, info);
        Stats::add(&self.node.stats.connections, 1);
        id
    }

    fn leave(&self, id: u64) {
        self.lock().remove(&id);
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
    host.spawn(Box::pin(notify::publish(Arc::clone(&server))));
    host.spawn(Box::pin(counts::watch(Arc::clone(&server))));
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = server.node.stopping.cancelled() => return,
        };
        match taken {
            Ok((stream, from)) => {
                // A socket that is gone already tells its session.
                let _ = stream.set_nodelay(true);
                tokio::spawn(attend(Arc::clone(&server), stream, from));
            }
            Err(error) => {
                // Out of file descriptors, most likely: those who are in finish first.
                tracing::warn!("taking a client's connection failed: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one client until it goes, its reign ends or the node stops.
pub async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    from: SocketAddr,
) {
    let id = server.enter(from);
    let most = server.node.tunables.max_clients.get();
    let full = server.clients() > usize::try_from(most).unwrap_or(usize::MAX);
    if full {
        Stats::add(&server.node.stats.turned_away, 1);
    }
    session::run(&server, id, stream, full).await;
    server.leave(id);
}

/// Tells subscribers what Sentinel would tell them.
async fn announce(server: Arc<Server>) {
    let mut events = server.node.events();
    loop {
        match events.recv().await {
            Ok(NodeEvent::PrimaryChanged { old, new }) => {
                let (channel, message) = sentinel::switch_message(&server.node, old, new);
                server
                    .pubsub
                    .publish(channel.as_bytes(), message.as_bytes());
            }
            Ok(_) => {}
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
