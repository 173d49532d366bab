//! Client sessions: what arrives on the client port, and how replies are held until what they show
//! is safe.
//!
//! Promises: a connection's replies come in the order of its commands. No reply, to a read or a
//! write, leaves before everything it depends on is released, under the reign that made it and
//! under a live lease (R17, R18, R32). What a client sends is bounded before it is kept.

pub(crate) mod acl;
mod door;
mod hold;
mod info;
mod probe;
mod pubsub;
mod sentinel;
mod session;
mod session_commands;
mod tls;
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

pub use acl::AclFileError;
pub use tls::TlsError;

use crate::node::{Node, NodeEvent, Settings, Stats};
use crate::wal::Disk;
pub(crate) use info::mode_state;
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
    /// Whom it has authenticated as.
    pub(crate) user: bytes::Bytes,
    /// Cancelled, its connection ends at once.
    pub(crate) ending: CancellationToken,
}

/// What the sessions of a node share.
#[derive(Debug)]
pub struct Server {
    pub(crate) node: Arc<Node>,
    pub(crate) pubsub: PubSub,
    pub(crate) acl: acl::Acl,
    /// TLS on the client port, once its files were read.
    tls: OnceLock<tls::TlsPort>,
    /// Where the probe of this node's own client port comes from.
    probing: Mutex<Option<SocketAddr>>,
    clients: Mutex<BTreeMap<u64, ClientInfo>>,
    next_id: AtomicU64,
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
            clients: Mutex::default(),
            next_id: AtomicU64::new(1),
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

    /// Has certificate and key read again now.
    pub fn reload_certificate(&self) {
        if let Some(port) = self.tls.get() {
            port.reload();
        }
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
            user: bytes::Bytes::from_static(b"default"),
            ending: self.node.stopping.child_token(),
        };
        self.lock().insert(id, info);
        Stats::add(&self.node.stats.connections, 1);
        id
    }

    /// What ends the connection of a client.
    fn ending_of(&self, id: u64) -> CancellationToken {
        let ending = self.lock().get(&id).map(|info| info.ending.clone());
        ending.unwrap_or_default()
    }

    /// Ends the connections of users that are gone; the one who removed them still gets its answer.
    fn disconnect_users(&self, users: &[bytes::Bytes], but: u64) {
        for info in self.lock().values() {
            if info.id != but && users.contains(&info.user) {
                info.ending.cancel();
            }
        }
    }

    fn leave(&self, id: u64) {
        self.lock().remove(&id);
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
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = server.node.stopping.cancelled() => return,
        };
        match taken {
            Ok((stream, from)) => {
                // A socket that is gone already tells its session.
                let _ = stream.set_nodelay(true);
                tokio::spawn(door::enter(Arc::clone(&server), stream, from));
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
    let access = acl::Access::new(&server.acl);
    attend_as(server, stream, from, access).await;
}

async fn attend_as<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    from: SocketAddr,
    access: acl::Access,
) {
    let id = server.enter(from);
    let full = server.clients() > server.node.settings.max_clients as usize;
    session::run(&server, id, stream, access, full).await;
    server.leave(id);
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
