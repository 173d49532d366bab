//! Asking the primary as any client does: over the Redis protocol, at the address that `/cluster`
//! names.

use std::future::Future;
use std::io;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::runtime::Runtime;

use super::given_up::Held;
use crate::cli::answers::Cluster;
use crate::cli::http_client::{HttpClient, HttpError};
use crate::cli::load::connection::{Connection, reply_bytes};
use crate::cli::load::login::Login;
use crate::resp::{Reply, encode_request};
use crate::units::Millis;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for one reply: a write may wait for its copies (`write_timeout`) before it fails.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nobody was asked.
#[derive(Debug, Error)]
pub(super) enum NoPrimary {
    /// No node to ask who it is.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node asked knows of none.
    #[error("there is no primary: node {0} knows of none")]
    Unknown(u32),
    /// The node that should be it.
    #[error("the primary, node {id}, does not answer at {addr}: {cause}")]
    Silent {
        /// The node.
        id: u32,
        /// Its client address.
        addr: String,
        /// What went wrong.
        cause: String,
    },
    /// The machine.
    #[error("no runtime: {0}")]
    Runtime(io::Error),
}

/// A connection to the primary.
pub(super) struct Primary {
    /// The node.
    pub(super) id: u32,
    /// Its client address.
    pub(super) addr: String,
    /// The cluster's identity, in hexadecimal, as the node that was asked knows it.
    pub(super) cluster: Option<String>,
    connection: Connection,
    runtime: Runtime,
}

impl Primary {
    /// Finds the primary by the node at `client`'s address, and connects to it.
    pub(super) fn find(client: &HttpClient, login: &Login) -> Result<Primary, NoPrimary> {
        let cluster: Cluster = client.get("/cluster")?;
        let asked = cluster.answered_by.unwrap_or_default();
        let id = cluster.primary.ok_or(NoPrimary::Unknown(asked))?;
        let addr = cluster
            .member(id)
            .and_then(|member| member.client_addr.clone());
        let addr = addr.ok_or(NoPrimary::Unknown(asked))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NoPrimary::Runtime)?;
        let connection = runtime.block_on(connect(&addr, login));
        connection
            .map(|connection| Primary {
                id,
                addr: addr.clone(),
                cluster: cluster.cluster_id,
                connection,
                runtime,
            })
            .map_err(|error| NoPrimary::Silent {
                id,
                addr,
                cause: error.to_string(),
            })
    }

    /// Sends whole requests; the replies are taken one by one.
    pub(super) fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        let sent = self.connection.send(requests);
        self.runtime.block_on(within(REPLY_TIMEOUT, sent))
    }

    /// The next reply.
    pub(super) fn receive(&mut self) -> io::Result<Reply> {
        let reply = self.connection.receive();
        self.runtime.block_on(within(REPLY_TIMEOUT, reply))
    }

    /// What these keys hold, in order. An error reply is an error: a primary that may not answer
    /// now.
    pub(super) fn today(&mut self, keys: &[&[u8]]) -> io::Result<Vec<Option<Held>>> {
        let mut requests = BytesMut::new();
        for key in keys {
            encode_request(&[b"GET", key], &mut requests);
            encode_request(&[b"PEXPIRETIME", key], &mut requests);
        }
        self.send(&requests)?;
        let mut held = Vec::with_capacity(keys.len());
        for _ in keys {
            let (value, expiry) = (self.receive()?, self.receive()?);
            held.push(held_by(&value, &expiry)?);
        }
        Ok(held)
    }
}

async fn within<T>(span: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(span, what).await.map_err(late)?
}

async fn connect(addr: &str, login: &Login) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for resolved in addr.to_socket_addrs()? {
        match within(CONNECT_TIMEOUT, Connection::open_as(resolved, login)).await {
            Ok(mut connection) => {
                // A standby would answer reads, too, perhaps with what is old.
                let role = within(REPLY_TIMEOUT, connection.ask(&[b"ROLE"])).await?;
                return if is_primary(&role) {
                    Ok(connection)
                } else {
                    Err(io::Error::other("it is not primary now"))
                };
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn is_primary(role: &Reply) -> bool {
    match role {
        Reply::Array(parts) => parts.first().and_then(reply_bytes) == Some(b"master"),
        _ => false,
    }
}

/// A key by the replies to GET and PEXPIRETIME. The two are asked one after the other: a key that
/// goes between them is gone.
fn held_by(value: &Reply, expiry: &Reply) -> io::Result<Option<Held>> {
    let value = match value {
        Reply::Bulk(value) => value.clone(),
        Reply::Null => return Ok(None),
        other => return Err(unexpected(other)),
    };
    let expire_at = match expiry {
        Reply::Integer(-2) => return Ok(None),
        Reply::Integer(at) => u64::try_from(*at).ok().map(Millis),
        other => return Err(unexpected(other)),
    };
    Ok(Some(Held {
        value: Bytes::clone(&value),
        expire_at,
    }))
}

/// A reply that is no answer, as an error.
pub(super) fn unexpected(reply: &Reply) -> io::Error {
    match reply {
        Reply::Error(text) => io::Error::other(text.clone().into_owned()),
        other => io::Error::other(format!("an answer that makes no sense: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_value_and_its_expiry() {
        let value = Reply::bulk(b"v");
        let held = |expire_at| Held {
            value: Bytes::from_static(b"v"),
            expire_at,
        };
        let by = |value: &Reply, expiry: i64| held_by(value, &Reply::Integer(expiry)).ok();
        assert_eq!(by(&value, -1), Some(Some(held(None))));
        assert_eq!(by(&value, 77), Some(Some(held(Some(Millis(77))))));
        assert_eq!(by(&value, -2), Some(None));
        assert_eq!(by(&Reply::Null, -2), Some(None));
        let error = held_by(&Reply::error("CLUSTERDOWN no lease"), &Reply::Integer(-2));
        assert_eq!(
            error.expect_err("an error").to_string(),
            "CLUSTERDOWN no lease"
        );
    }

    #[test]
    fn only_a_master_is_a_primary() {
        let role = |word| Reply::Array(vec![Reply::bulk(word), Reply::Integer(0)]);
        assert!(is_primary(&role(b"master")));
        assert!(!is_primary(&role(b"slave")));
        assert!(!is_primary(&Reply::error("ERR no")));
    }
}
