//! Peer frames <-> bytes, connections between members, and the proof that a member is one.
//!
//! Promise: an unproven peer gets nothing but a [`Hello`] and a sentence, and can make this node
//! hold nothing beyond one small frame and one of a bounded number of places; a peer of another
//! cluster, version or identity is refused with a sentence that says what differs, on both sides;
//! hostile bytes never panic and never allocate more than the limit of their kind.
//!
//! Never here: what a message means (`replica`), when to dial, what to send (`node`), a disk.
//!
//! The way of the bytes: [`listen`] or [`dial`] makes a socket, [`accept`] or [`connect`] runs the
//! [`Handshake`] over it, and hands back a [`FramedReader`] and a [`FramedWriter`] that carry
//! [`control`] messages and [`StreamMessage`]s in [`Frame`]s.
//!
//! The proofs say who a peer is when the connection begins. They do not encrypt, and do not bind
//! what follows to the connection: against someone who can alter packets between the members, TLS
//! goes around all of this.

mod backoff;
mod connection;
pub mod control;
mod dial;
pub mod frame;
mod handshake;
mod hello;
mod listen;
mod network;
mod proof;
mod refusal;
pub mod stream;

pub use backoff::Backoff;
pub use connection::{FramedReader, FramedWriter, ReadError, WriteError};
pub use control::ControlError;
pub use dial::{DialError, dial, set_up_socket};
pub use frame::{Frame, FrameDecoder, FrameError, FrameKind};
pub use handshake::{
    Accepted, Admission, Connected, Handshake, HandshakeError, PeerInfo, Side, Step, accept,
    connect, probe,
};
pub use hello::{
    ConnectionKind, Hello, HelloError, Identity, MAGIC, MAX_CLUSTER_NAME_BYTES, NONCE_BYTES,
    VersionRange,
};
pub use listen::{ListenError, PeerListener, Unproven, listen};
pub use network::{Hears, Listener, Network, Pending, ReadHalf, Says, Socket, Tcp, WriteHalf};
pub use proof::{Secret, SecretError};
pub use refusal::Refusal;
pub use stream::{Ack, Follow, Matched, StreamError, StreamMessage};
