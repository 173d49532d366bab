//! The way to the other members: dialing and listening as one thing that a simulator can replace.
//!
//! Promise of every implementation: bytes of one connection arrive in order or the connection
//! ends; [`DialError::Refused`] is said only when the peer's host answered and nobody listens
//! there (R15); a listener's address is its own alone for as long as it lives.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, empty, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::dial::{DialError, dial, set_up_socket};
use super::listen::{ListenError, PeerListener, Unproven, listen};

/// Half of a connection, of a kind that its network knows.
pub trait Hears: AsyncRead + Send + Unpin + Any {}
impl<T: AsyncRead + Send + Unpin + Any> Hears for T {}

/// The other half.
pub trait Says: AsyncWrite + Send + Unpin + Any {}
impl<T: AsyncWrite + Send + Unpin + Any> Says for T {}

/// What is heard.
pub type ReadHalf = Box<dyn Hears>;
/// What is said.
pub type WriteHalf = Box<dyn Says>;

/// An answer that is under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection.
pub struct Socket {
    /// From the other side.
    pub reader: ReadHalf,
    /// To the other side.
    pub writer: WriteHalf,
    /// The other side's address.
    pub peer: SocketAddr,
}

/// Takes connections.
pub trait Listener: Send + Sync {
    /// The next connection, once there is a place for it. Safe to cancel.
    fn accept(&self) -> Pending<'_, io::Result<(Socket, Unproven)>>;
}

/// A network.
pub trait Network: Send + Sync {
    /// Connects within `limit`; sent bytes may stay unacknowledged for `patience` at most.
    fn dial<'a>(
        &'a self,
        addr: &'a str,
        limit: Duration,
        patience: Duration,
    ) -> Pending<'a, Result<Socket, DialError>>;

    /// Listens, with at most `max_unproven` connections in the handshake at once; `patience` as
    /// above for each.
    fn listen<'a>(
        &'a self,
        addr: &'a str,
        max_unproven: usize,
        patience: Duration,
    ) -> Pending<'a, Result<Box<dyn Listener>, ListenError>>;

    /// From now on whoever runs the caller hears of news on this connection first hand. (Each
    /// acknowledgement once woke the thread that had taken the connection, which woke the reader's:
    /// a sixth of a primary's CPU time with one client.)
    fn move_here(&self, _reader: &mut ReadHalf, _writer: &mut WriteHalf) -> io::Result<()> {
        Ok(())
    }
}

/// The operating system's TCP.
#[derive(Debug, Default)]
pub struct Tcp;

struct TcpTaker {
    listener: PeerListener,
    patience: Duration,
}

fn socket(stream: TcpStream, peer: SocketAddr) -> Socket {
    let (reader, writer) = stream.into_split();
    Socket {
        reader: Box::new(reader),
        writer: Box::new(writer),
        peer,
    }
}

impl Network for Tcp {
    fn dial<'a>(
        &'a self,
        addr: &'a str,
        limit: Duration,
        patience: Duration,
    ) -> Pending<'a, Result<Socket, DialError>> {
        Box::pin(async move {
            let stream = dial(addr, limit).await?;
            let failed = |source| DialError::Other {
                addr: addr.to_owned(),
                source,
            };
            set_up_socket(&stream, patience).map_err(failed)?;
            let peer = stream.peer_addr().map_err(failed)?;
            Ok(socket(stream, peer))
        })
    }

    fn listen<'a>(
        &'a self,
        addr: &'a str,
        max_unproven: usize,
        patience: Duration,
    ) -> Pending<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let listener = listen(addr, max_unproven).await?;
            Ok(Box::new(TcpTaker { listener, patience }) as Box<dyn Listener>)
        })
    }

    fn move_here(&self, reader: &mut ReadHalf, writer: &mut WriteHalf) -> io::Result<()> {
        let foreign = || io::Error::other("this is no connection of this network");
        let heard = std::mem::replace(reader, Box::new(empty())) as Box<dyn Any>;
        let said = std::mem::replace(writer, Box::new(sink())) as Box<dyn Any>;
        let heard: Box<OwnedReadHalf> = heard.downcast().map_err(|_| foreign())?;
        let said: Box<OwnedWriteHalf> = said.downcast().map_err(|_| foreign())?;
        let whole = heard.reunite(*said).map_err(io::Error::other)?;
        let here = TcpStream::from_std(whole.into_std()?)?;
        let (heard, said) = here.into_split();
        *reader = Box::new(heard);
        *writer = Box::new(said);
        Ok(())
    }
}

impl Listener for TcpTaker {
    fn accept(&self) -> Pending<'_, io::Result<(Socket, Unproven)>> {
        Box::pin(async move {
            let (stream, from, place) = self.listener.accept().await?;
            // A connection that is already gone cannot be set up; its handshake will tell.
            let _ = set_up_socket(&stream, self.patience);
            Ok((socket(stream, from), place))
        })
    }
}
