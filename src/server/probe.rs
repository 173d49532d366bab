//! A primary's probe of its own command path: a command through its own client port each second.
//! A primary that beats but does not serve would keep everyone else from serving; it steps down.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Server;
use crate::replica::Input;
use crate::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

const EVERY: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub async fn probe(server: Arc<Server>) {
    let node = &server.node;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = node.stopping.cancelled() => return,
        }
        if !node.gate_now().is_primary() {
            continue;
        }
        let stall = node.settings.stall;
        match tokio::time::timeout(stall, ping(&node.settings.client_addr)).await {
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

async fn ping(addr: &str) -> std::io::Result<()> {
    let (host, port) = super::sentinel::host_port(addr);
    let host = match host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_string(),
        "::" => "::1".to_string(),
        _ => host,
    };
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect((host.as_str(), port)).await?;
    let mut request = BytesMut::new();
    encode_request(&[b"PING"], &mut request);
    stream.write_all(&request).await?;
    let mut buffer = BytesMut::new();
    let mut parser = ReplyParser::new(ReplyLimits::default());
    loop {
        match parser.parse(&mut buffer) {
            Ok(Some(Reply::Simple(text))) if text == "PONG" => return Ok(()),
            Ok(Some(other)) => return Err(std::io::Error::other(format!("{other:?}"))),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error.to_string())),
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
