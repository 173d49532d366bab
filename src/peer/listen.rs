//! The listener for peers.
//!
//! Promise: it is never shared. R15 reads a refused connection as "that process is gone", which
//! holds only when no second process can answer, or take over, the same address: so
//! `SO_REUSEPORT` is never set, and an address in use is an error. Connections that have not
//! proved themselves are bounded in number; further ones wait in the system's backlog, where they
//! cost this process nothing. They are never refused: that would tell a prober that we are dead.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections the system keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// Pause after the system ran out of descriptors or memory: the connection stays in the backlog,
/// so `accept` would fail again at once, and nothing announces that some have become free.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);

/// Why the listener could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("the peer address {addr} does not resolve: {source}; give another --peer-addr")]
    Resolve {
        /// The address as configured.
        addr: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// Another process holds the address.
    #[error(
        "the peer address {addr} is in use: another process (perhaps another understudy) listens \
         there; stop it, or give another --peer-addr"
    )]
    InUse {
        /// The address as configured.
        addr: String,
    },
    /// Anything else.
    #[error("cannot listen for peers on {addr}: {source}; check --peer-addr")]
    Other {
        /// The address as configured.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Accepts connections of peers.
#[derive(Debug)]
pub struct PeerListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A place among the connections that have not proved themselves; drop it when the handshake is
/// over, whichever way it went.
#[derive(Debug)]
pub struct Unproven {
    _place: OwnedSemaphorePermit,
}

impl Unproven {
    /// A place that this permit stands for.
    pub fn new(place: OwnedSemaphorePermit) -> Unproven {
        Unproven { _place: place }
    }
}

/// Listens on `addr` (`HOST:PORT`, the first address of a name that can be bound), with at most
/// `max_unproven` connections in the handshake at once.
///
/// # Errors
/// See [`ListenError`]; each names the address and `--peer-addr`.
pub async fn listen(addr: &str, max_unproven: usize) -> Result<PeerListener, ListenError> {
    let resolved = lookup_host(addr)
        .await
        .map_err(|source| ListenError::Resolve {
            addr: addr.to_owned(),
            source,
        })?;
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in resolved {
        match bind(address) {
            Ok(listener) => {
                return Ok(PeerListener {
                    listener,
                    places: Arc::new(Semaphore::new(max_unproven.max(1))),
                });
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(ListenError::InUse {
                    addr: addr.to_owned(),
                });
            }
            Err(error) => failure = error,
        }
    }
    Err(ListenError::Other {
        addr: addr.to_owned(),
        source: failure,
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // SO_REUSEADDR only skips the wait for old connections (TIME_WAIT) after a restart; on Linux
    // it does not let two listeners share an address. SO_REUSEPORT would (R15): never set it.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl PeerListener {
    /// Where it listens, with the port the system chose if that was left to it.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, once there is a place for it. Safe to cancel.
    ///
    /// # Errors
    /// The listener itself is broken; what went wrong with one connection, or for lack of
    /// descriptors, is waited out.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Unproven)> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| io::Error::other("the peer listener is closed"))?;
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => return Ok((stream, from, Unproven::new(place))),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_exhaustion(&error) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// accept(2): errors of the connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::PermissionDenied
    )
}

fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
    ];
    error.kind() == ErrorKind::OutOfMemory
        || exhausted
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
