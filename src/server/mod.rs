//! Client sessions: what arrives on the client port, and how replies are held until what they show
//! is safe.
//!
//! Promises: a connection's replies come in the order of its commands. No reply, to a read or a
//! write, leaves before everything it depends on is released, under the reign that made it and
//! under a live lease (R17, R18, R32). What a client sends is bounded before it is kept.

pub(crate) mod acl;
mod ask;
mod client_commands;
mod client_memory;
mod clients;
mod config_commands;
mod counts;
mod descriptors;
mod door;
mod failover;
mod hold;
mod idle;
mod info;
mod latency;
mod mailbox;
mod memory;
mod monitor;
mod notify;
pub(crate) mod order;
mod parameters;
mod pause;
mod probe;
mod pubsub;
mod receipt;
mod sentinel;
mod session;
mod session_commands;
mod slowlog;
mod sparkline;
mod tally;
mod tls;
mod transaction;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

pub use acl::AclFileError;
pub use tls::TlsError;

use crate::node::{Node, NodeEvent, Settings, Stats};
use crate::wal::Disk;
use clients::Clients;
use config_commands::Changed;
pub use config_commands::Rewrite;
pub use descriptors::allow_clients;
pub(crate) use info::mode_state;
use monitor::Monitors;
pub use parameters::Written;
use pause::Pause;
pub use probe::probe;
use pubsub::PubSub;
pub(crate) use sentinel::begin_failover;
use slowlog::SlowLog;

/// Between two warnings that connections cannot be taken.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

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
pub struct Server {
    pub(crate) node: Arc<Node>,
    pub(crate) pubsub: PubSub,
    pub(crate) acl: acl::Acl,
    /// TLS on the client port, once its files were read.
    tls: OnceLock<tls::TlsPort>,
    /// Where the probe of this node's own client port comes from.
    probing: Mutex<Option<SocketAddr>>,
    clients: Clients,
    pause: Pause,
    monitors: Monitors,
    /// A client said SHUTDOWN.
    end: CancellationToken,
    pub(crate) slowlog: SlowLog,
    counters: counts::Counters,
    tally: tally::Tally,
    changed: Mutex<Changed>,
    rewrite: OnceLock<Rewrite>,
}

impl Server {
    /// A server for this node's clients.
    pub fn new(node: Arc<Node>) -> Arc<Server> {
        Arc::new(Server {
            acl: acl::Acl::new(&node.settings.auth),
            node,
            pubsub: PubSub::new(),
            tls: OnceLock::new(),
            probing: Mutex::default(),
            clients: Clients::default(),
            pause: Pause::default(),
            monitors: Monitors::default(),
            end: CancellationToken::new(),
            slowlog: SlowLog::default(),
            counters: counts::Counters::default(),
            tally: tally::Tally::default(),
            changed: Mutex::default(),
            rewrite: OnceLock::new(),
        })
    }

    /// Takes the users of the ACL file, and certificate and key, as far as they are configured.
    pub fn read_files(&self) -> Result<(), FileError> {
        self.acl.read_file(&*self.node.host.disk())?;
        if let Some(settings) = &self.node.settings.tls {
            let port =
                tls::TlsPort::open(settings, self.node.settings.max_clients, &*self.node.host)?;
            // There is one already only where this is called twice.
            let _ = self.tls.set(port);
        }
        Ok(())
    }

    /// Has certificate and key read again now; whether there are any.
    pub fn reload_certificate(&self) -> bool {
        let port = self.tls.get();
        port.inspect(|port| port.reload()).is_some()
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

    fn note_error(&self, text: &str) {
        Stats::add(&self.node.stats.errors, 1);
        self.tally.error(text);
    }

    fn reset_stats(&self) {
        self.counters.reset(&self.node.stats);
        self.tally.reset();
    }

    /// Until a client says SHUTDOWN. Whoever runs the node ends it then, as on SIGTERM.
    pub async fn until_shutdown(&self) {
        self.end.cancelled().await;
    }

    fn most_clients(&self) -> usize {
        let most = self.node.tunables.max_clients.get();
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Says that there is no room, if that can be said at once, and closes. (Who wants TLS could not read
    /// it, and is told nothing, as in Redis.)
    fn turn_away(&self, stream: &TcpStream) {
        Stats::add(&self.node.stats.connections, 1);
        Stats::add(&self.node.stats.turned_away, 1);
        if self.tls.get().is_none() {
            // Nothing was sent yet, so that there is room; who is gone already misses nothing.
            let _ = stream.try_write(session::FULL);
        }
    }

    /// Connected clients.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
}

/// Whether the files of `[auth]` and `[tls]` can be taken: asked before a node promises anything.
pub fn check_files(settings: &Settings, disk: &dyn Disk) -> Result<(), FileError> {
    acl::Acl::new(&settings.auth).read_file(disk)?;
    if let Some(tls) = &settings.tls {
        tls::check(tls, disk)?;
    }
    Ok(())
}

/// What is wrong with the files of `[auth]` and `[tls]`.
#[derive(Debug, Error)]
pub enum FileError {
    /// The users.
    #[error(transparent)]
    Users(#[from] AclFileError),
    /// Certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    host.spawn(Box::pin(watch_certificate(Arc::clone(&server))));
    host.spawn(Box::pin(notify::publish(Arc::clone(&server))));
    host.spawn(Box::pin(counts::watch(Arc::clone(&server))));
    host.spawn(Box::pin(idle::watch(Arc::clone(&server))));
    // Also those who are not clients yet: each takes a file descriptor.
    let inside = Arc::new(());
    let mut told: Option<Instant> = None;
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = server.node.stopping.cancelled() => return,
        };
        match taken {
            Ok((stream, from)) => {
                let open = Arc::strong_count(&inside) - 1;
                if open >= server.most_clients() && !server.is_probe(from) {
                    server.turn_away(&stream);
                    continue;
                }
                // A socket that is gone already tells its session.
                let _ = stream.set_nodelay(true);
                idle::keep_alive(&stream, server.node.settings.tcp_keepalive);
                let (server, place) = (Arc::clone(&server), Arc::clone(&inside));
                tokio::spawn(async move {
                    door::enter(server, stream, from).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: those who are in finish first.
                if told.is_none_or(|told| told.elapsed() > BETWEEN_WARNINGS) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        "taking a client's connection failed: {error}; it is tried again, and those who \
                         are in are served"
                    );
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
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
    let access = acl::Access::new(&server.acl);
    attend_as(server, stream, from, to, access).await;
}

async fn attend_as<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    from: SocketAddr,
    to: Option<SocketAddr>,
    access: acl::Access,
) {
    let end = server.node.stopping.child_token();
    let client = server.clients.enter(from, to, end);
    Stats::add(&server.node.stats.connections, 1);
    let full = server.clients() > server.most_clients();
    if full {
        Stats::add(&server.node.stats.turned_away, 1);
    }
    let id = client.id;
    session::run(&server, client, stream, access, full).await;
    server.clients.leave(id);
}

/// Until the node stops.
async fn watch_certificate(server: Arc<Server>) {
    if let Some(port) = server.tls.get() {
        tokio::select! {
            () = port.watch_files(&*server.node.host) => {}
            () = server.node.stopping.cancelled() => {}
        }
    }
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

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
