//! Reaching a peer: names resolved anew each time, and failures told apart.
//!
//! R15 hangs on one of them: [`DialError::Refused`] says that the peer's *host* answered and has
//! no listener there. A primary holds that listener all its life and never shares it, so a refusal
//! means that its process is gone. Everything else (silence, no route, a name that does not
//! resolve) says nothing about the process and is never reported as a refusal.
//!
//! A name with several addresses is refused only when *every* address refused: the peer may be
//! listening on the one that did not answer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

/// Idle time before the first keepalive, and time between two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Keepalives without an answer before the connection counts as dead.
const KEEPALIVE_RETRIES: u32 = 3;

/// Why a peer could not be reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// The name has no address now.
    #[error("the peer address {addr} does not resolve: {source}")]
    Resolve {
        /// The address as configured.
        addr: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The host answered: nobody listens there (R15).
    #[error("{addr} refused the connection: no process listens there")]
    Refused {
        /// The address as configured.
        addr: String,
    },
    /// Nothing came back in time.
    #[error("{addr} did not answer within {limit:?}")]
    TimedOut {
        /// The address as configured.
        addr: String,
        /// The time given.
        limit: Duration,
    },
    /// There is no way to the host.
    #[error("there is no route to {addr}: {source}")]
    Unreachable {
        /// The address as configured.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("connecting to {addr} failed: {source}")]
    Other {
        /// The address as configured.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Connects to `addr` (`HOST:PORT`) within `limit` in all, resolving the name anew. The socket is as
/// the system makes it: [`set_up_socket`] prepares it.
///
/// # Errors
/// See [`DialError`]; only [`DialError::Refused`] is evidence about the peer's process.
pub async fn dial(addr: &str, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let timed_out = || DialError::TimedOut {
        addr: addr.to_owned(),
        limit,
    };
    let resolved = match timeout_at(deadline, lookup_host(addr)).await {
        Err(_) => return Err(timed_out()),
        Ok(Err(source)) => {
            return Err(DialError::Resolve {
                addr: addr.to_owned(),
                source,
            });
        }
        Ok(Ok(resolved)) => resolved,
    };
    match timeout_at(deadline, connect_to_any(resolved)).await {
        Err(_) => Err(timed_out()),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(classify(addr.to_owned(), source, limit)),
    }
}

/// The first of the addresses that answers. The error is a refusal only when all have refused.
async fn connect_to_any(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = None;
    for address in addresses {
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            // A refusal never hides what another address said.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && failure.is_some() => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::from(ErrorKind::AddrNotAvailable)))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // On one's own host a connect to a free port can meet itself (TCP simultaneous open, when the
    // system happens to pick that very port as the source). It proves that nobody listens there.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::from(ErrorKind::ConnectionRefused));
    }
    Ok(stream)
}

fn classify(addr: String, source: io::Error, limit: Duration) -> DialError {
    match source.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused { addr },
        ErrorKind::TimedOut => DialError::TimedOut { addr, limit },
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            DialError::Unreachable { addr, source }
        }
        _ => DialError::Other { addr, source },
    }
}

/// Prepares a connection between members, dialed or accepted: no waiting for more bytes
/// (`TCP_NODELAY`), keepalive, and `user_timeout` as the longest time that sent bytes may stay
/// unacknowledged before the system gives the connection up (`TCP_USER_TIMEOUT`); without it a
/// peer that vanished is noticed after a quarter of an hour.
///
/// # Errors
/// The system refused an option.
pub fn set_up_socket(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_INTERVAL)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R15: one address that refuses proves nothing while another only kept silent or had no
    /// route; the peer may be listening there.
    #[tokio::test]
    async fn a_name_is_refused_only_when_all_its_addresses_refuse() {
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback binds");
            listener
                .local_addr()
                .expect("a bound listener has an address")
        };
        // TCP to a multicast address has no route on any host.
        let no_route: SocketAddr = "224.0.0.1:7380".parse().expect("an address");
        for (addresses, refused) in [
            (vec![closed], true),
            (vec![closed, closed], true),
            (vec![no_route], false),
            (vec![closed, no_route], false),
            (vec![no_route, closed], false),
            (vec![closed, no_route, closed], false),
            (vec![], false),
        ] {
            let error = connect_to_any(addresses.clone().into_iter())
                .await
                .expect_err("nobody listens on any of them");
            let is_refusal = error.kind() == ErrorKind::ConnectionRefused;
            assert_eq!(is_refusal, refused, "{addresses:?}: {error}");
        }
    }
}
