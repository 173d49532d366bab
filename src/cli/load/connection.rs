//! One connection of the load client: requests out in one write, replies as they come.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::login::{Login, Stream};
use crate::resp::{Reply, ReplyParser};

/// A connection to a node's client port.
pub struct Connection {
    stream: Box<dyn Stream>,
    parser: ReplyParser,
    received: BytesMut,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, with Nagle's delay off: it would measure the delay, not the node.
    pub async fn open(address: SocketAddr) -> io::Result<Connection> {
        Connection::over(address, &Login::default()).await
    }

    async fn over(address: SocketAddr, login: &Login) -> io::Result<Connection> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let stream = login.wrap(socket).await?;
        let received = BytesMut::with_capacity(16 * 1024);
        Ok(Connection {
            stream,
            parser: ReplyParser::default(),
            received,
        })
    }

    /// Connects, and says who we are.
    pub async fn open_as(address: SocketAddr, login: &Login) -> io::Result<Connection> {
        let mut connection = Connection::over(address, login).await?;
        login.introduce(&mut connection).await?;
        Ok(connection)
    }

    /// Sends whole requests.
    pub async fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        self.stream.write_all(requests).await?;
        self.stream.flush().await
    }

    /// The next reply, at once if it has arrived already. A closed connection is an error. Safe to
    /// cancel: no received byte is lost.
    pub async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.received_already()? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
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
