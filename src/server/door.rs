//! The client port's door: who may come in at all.
//!
//! Promise: while the default user needs no password and protected mode is on, only clients of this
//! machine's loopback are served; the others are told what to do. The probe of this node's own port
//! always comes in, and may do nothing but PING.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::acl::Access;
use super::tls::Incoming;
use super::{Server, attend, attend_as};

/// For a refusal to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// As Redis says it, with this program's ways out.
const DENIED: &[u8] = b"-DENIED understudy is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted from \
the loopback interface. If you want to connect from external computers you may adopt one of the \
following solutions: 1) Set up a password for the default user: put it into a file and say \
requirepass_file in the section [auth] of the configuration file, then restart the node. 2) Set up \
users in an ACL file and say acl_file in the section [auth]. 3) Just disable protected mode by saying \
protected_mode = false in the section [auth], and then restarting the node, however MAKE SURE that it \
is not publicly accessible from internet if you do so. NOTE: You only need to do one of the above \
things, on each node, in order for it to start accepting connections from the outside.\r\n";

/// Serves who may come in.
pub(super) async fn enter(server: Arc<Server>, stream: TcpStream, from: SocketAddr) {
    let to = stream.local_addr().ok();
    if server.is_probe(from) {
        let access = Access::of_probe(&server.acl);
        return attend_as(server, stream, from, to, access).await;
    }
    let Some(port) = server.tls.get() else {
        return come_in(server, stream, (from, to)).await;
    };
    let greeted = tokio::select! {
        greeted = port.greet(stream) => greeted,
        () = server.node.stopping.cancelled() => return,
    };
    match greeted {
        Ok(Some(Incoming::Secret(stream))) => come_in(server, *stream, (from, to)).await,
        Ok(Some(Incoming::Plain(stream))) => come_in(server, stream, (from, to)).await,
        Ok(None) => {}
        Err(error) => tracing::debug!("no TLS with {from}: {error}"),
    }
}

/// Through TLS or without.
async fn come_in<S>(
    server: Arc<Server>,
    mut stream: S,
    (from, to): (SocketAddr, Option<SocketAddr>),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if server.acl.refuses_strangers() && !is_local(from) {
        let refusal = async {
            stream.write_all(DENIED).await?;
            stream.shutdown().await
        };
        // Whoever does not read it has been told.
        let _ = tokio::time::timeout(PATIENCE, refusal).await;
        return;
    }
    attend(server, stream, from, to).await;
}

fn is_local(from: SocketAddr) -> bool {
    from.ip().to_canonical().is_loopback()
}

impl Server {
    /// Whether a connection is the probe's: its address was announced before it connected, and nobody
    /// else can have it, since it is one of this machine's own and bound.
    pub(super) fn is_probe(&self, from: SocketAddr) -> bool {
        *self.probing_lock() == Some(from)
    }

    /// Announces where the probe comes from.
    pub(super) fn expect_probe(&self, from: Option<SocketAddr>) {
        *self.probing_lock() = from;
    }

    fn probing_lock(&self) -> std::sync::MutexGuard<'_, Option<SocketAddr>> {
        self.probing
            .lock()
            .expect("nothing panics while it holds the probe's address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_all_of_it_and_nothing_else() {
        for (address, local) in [
            ("127.0.0.1:1", true),
            ("127.9.8.7:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fd00::2]:1", false),
        ] {
            let from: SocketAddr = address.parse().expect("an address");
            assert_eq!(is_local(from), local, "{address}");
        }
    }
}
