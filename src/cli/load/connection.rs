//! One connection of the load client: requests out in one write, replies as they come.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::resp::{Reply, ReplyParser};

/// A connection to a node's client port.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    parser: ReplyParser,
    received: BytesMut,
}

impl Connection {
    /// Connects, with Nagle's delay off: it would measure the delay, not the node.
    pub async fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let received = BytesMut::with_capacity(16 * 1024);
        Ok(Connection {
            socket,
            parser: ReplyParser::default(),
            received,
        })
    }

    /// Sends whole requests.
    pub async fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        self.socket.write_all(requests).await
    }

    /// The next reply, at once if it has arrived already. A closed connection is an error. Safe to
    /// cancel: no received byte is lost.
    pub async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.received_already()? {
                return Ok(reply);
            }
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next reply if it has arrived already; never waits.
    pub fn received_already(&mut self) -> io::Result<Option<Reply>> {
        self.parser
            .parse(&mut self.received)
            .map_err(io::Error::other)
    }

    /// Sends one request and waits for its reply. Nothing else may be outstanding.
    pub async fn ask(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        let mut request = BytesMut::new();
        crate::resp::encode_request(words, &mut request);
        self.send(&request).await?;
        self.receive().await
    }
}

/// The bytes of a status or a string.
pub fn reply_bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Simple(text) => Some(text.as_bytes()),
        Reply::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}
