//! A primary's probe of its own command path: a command through its own client port each second.
//! A primary that beats but does not serve would keep everyone else from serving; it steps down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::Server;
use super::ask::ask;
use crate::replica::Input;
use crate::resp::Reply;

const EVERY: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub async fn probe(server: Arc<Server>) {
    let node = &server.node;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = node.stopping.cancelled() => return,
        }
        server.expect_probe(None);
        if !node.gate_now().is_primary() {
            continue;
        }
        let stall = node.settings.stall;
        match tokio::time::timeout(stall, ping(&server)).await {
            Ok(Ok(())) => {}
            // Refused or full is an answer; only silence is a hang.
            Ok(Err(error)) => tracing::warn!("the probe of this node's client port: {error}"),
            Err(_) if node.gate_now().is_primary() => {
                let why = format!(
                    "its own client port did not answer for {} ms",
                    stall.as_millis()
                );
                node.enter([Input::StepDown(why)]);
            }
            Err(_) => {}
        }
    }
}

async fn ping(server: &Server) -> std::io::Result<()> {
    let mut stream = connect(server).await?;
    match ask(&mut stream, &mut BytesMut::new(), &[b"PING"]).await? {
        Reply::Simple(text) if text == "PONG" => Ok(()),
        other => Err(std::io::Error::other(format!("{other:?}"))),
    }
}

/// From an address that is announced first, so that the door knows who comes: no password is asked of
/// the probe, and it may come in where clients must prove themselves.
async fn connect(server: &Server) -> std::io::Result<TcpStream> {
    let (host, port) = super::sentinel::host_port(&server.node.settings.client_addr);
    let host = match host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_string(),
        "::" => "::1".to_string(),
        _ => host,
    };
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for to in lookup_host((host.as_str(), port)).await? {
        match connect_from_here(server, to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_from_here(server: &Server, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The port's own address is one of this machine's.
    socket.bind(SocketAddr::new(to.ip(), 0))?;
    server.expect_probe(Some(socket.local_addr()?));
    socket.connect(to).await
}
