//! The handshake: who are you, and do you know the secret?
//!
//! ```text
//! initiator: Hello            ->
//!                             <-  responder: Hello    (or Refused)
//! initiator: Proof            ->                      (or Refused)
//!                             <-  responder: Proof    (or Refused)
//! ```
//!
//! Promise: nobody is believed before its proof has been checked, in either direction, and until
//! then nothing is said but `Hello`, `Proof` and `Refused`. Bytes that are not this protocol are
//! answered with silence. A refusal names what differs, in words that fit both sides' logs.
//!
//! What a refusal tells a stranger: only what a `Hello` says anyway (version range, cluster name
//! and id, node id, whether there is a secret) and what the stranger claimed itself. Whether a node
//! is a member is decided behind the proof, so nobody can ask for the membership from outside.
//!
//! R15: only a [`PeerInfo`], which comes out of a checked proof, is an observation. A refusal, a
//! time-out, a closed connection say nothing about which process answers.

use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{FramedReader, FramedWriter, ReadError, WriteError};
use super::frame::{Frame, FrameError, FrameKind};
use super::hello::{ConnectionKind, Hello, HelloError, Identity, NONCE_BYTES};
use super::proof::{self, Transcript};
use super::refusal::{Refusal, check_hello, shared_version, small_frame};
use super::stream::sentence;
use crate::units::NodeId;

/// Which side of a connection a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It dialed.
    Initiator,
    /// It was dialed.
    Responder,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Initiator => Side::Responder,
            Side::Responder => Side::Initiator,
        }
    }
}

/// A peer whose proof has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer.
    pub node: NodeId,
    /// Drawn when its process started: another value is another process (R15).
    pub process_incarnation: u64,
    /// The incarnation of its membership (R25).
    pub membership_incarnation: u64,
    /// Version of the membership it has recorded (R26).
    pub membership_version: u64,
    /// Its cluster's id; zero when it is in none yet.
    pub cluster_id: u128,
    /// What the connection is for.
    pub kind: ConnectionKind,
    /// The newest protocol version both sides speak.
    pub version: u16,
    /// The abilities both sides have.
    pub features: u64,
}

/// Decides, behind the proof, whether a peer may come in; the error is the sentence it is refused
/// with, which only a peer that knows the secret gets to read.
pub type Admission<'a> = &'a (dyn Fn(&PeerInfo) -> Result<(), String> + Send + Sync);

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// This node refuses the peer, and has told it so.
    #[error("refused: {0}")]
    Refusing(#[from] Refusal),
    /// The peer refuses this node. Nothing proves who wrote the sentence.
    #[error("refused by the other side: {0}")]
    RefusedByPeer(String),
    /// The bytes are not a frame that belongs here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A `Hello` that is none.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A frame of the handshake at the wrong moment, or a `Hello` for another kind of connection.
    #[error("a {0:?} frame out of turn in the handshake")]
    OutOfTurn(FrameKind),
    /// The peer closed the connection.
    #[error("the other side closed the connection during the handshake")]
    Closed,
    /// The time for the whole handshake is up.
    #[error("the handshake was not over within {0:?}")]
    TimedOut(Duration),
    /// The system could not give random bytes for the nonce.
    #[error("the system has no random bytes: {0}")]
    Random(getrandom::Error),
    /// The connection failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] std::io::Error),
}

/// What to do after a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whole frames to send; empty when there is nothing to say.
    pub send: BytesMut,
    /// The peer, once both proofs are through: send what there is to send, and the handshake is
    /// over.
    pub done: Option<PeerInfo>,
}

/// One side of one handshake, without I/O: frames in, frames out.
pub struct Handshake<'a> {
    side: Side,
    identity: &'a Identity,
    /// Whom an initiator has dialed.
    expected: Option<NodeId>,
    admission: Option<Admission<'a>>,
    nonce: [u8; NONCE_BYTES],
    /// Our `Hello`, once said.
    ours: Option<(Hello, Vec<u8>)>,
    /// Theirs, once heard.
    theirs: Option<(Hello, Vec<u8>)>,
}

impl<'a> Handshake<'a> {
    /// The dialing side, and its `Hello` frame to send. `nonce` is random, and new for each
    /// connection.
    pub fn initiator(
        identity: &'a Identity,
        kind: ConnectionKind,
        expected: NodeId,
        nonce: [u8; NONCE_BYTES],
    ) -> (Handshake<'a>, BytesMut) {
        let mut handshake = Handshake {
            side: Side::Initiator,
            identity,
            expected: Some(expected),
            admission: None,
            nonce,
            ours: None,
            theirs: None,
        };
        let send = handshake.say_hello(kind);
        (handshake, send)
    }

    /// The dialed side; it speaks second. `nonce` is random, and new for each connection.
    pub fn responder(
        identity: &'a Identity,
        admission: Admission<'a>,
        nonce: [u8; NONCE_BYTES],
    ) -> Handshake<'a> {
        Handshake {
            side: Side::Responder,
            identity,
            expected: None,
            admission: Some(admission),
            nonce,
            ours: None,
            theirs: None,
        }
    }

    /// Takes the peer's next frame.
    ///
    /// # Errors
    /// After any error the handshake is over and the connection must be closed; a
    /// [`HandshakeError::Refusing`] is said first, by [`Refusal::frame`].
    pub fn on_frame(&mut self, frame: &Frame) -> Result<Step, HandshakeError> {
        match frame.kind {
            FrameKind::Refused => Err(HandshakeError::RefusedByPeer(sentence(&frame.body))),
            FrameKind::Hello if self.theirs.is_none() => self.on_hello(&frame.body),
            FrameKind::Proof => self.on_proof(&frame.body),
            other => Err(HandshakeError::OutOfTurn(other)),
        }
    }

    fn on_hello(&mut self, body: &[u8]) -> Result<Step, HandshakeError> {
        let hello = Hello::decode(body)?;
        check_hello(self.identity, &hello)?;
        if let Some(expected) = self.expected.filter(|expected| *expected != hello.node) {
            return Err(Refusal::WrongNode {
                expected,
                found: hello.node,
            }
            .into());
        }
        let kind = hello.kind;
        self.theirs = Some((hello, body.to_vec()));
        let send = match &self.ours {
            // The responder repeats the kind it was asked for.
            Some((ours, _)) if ours.kind != kind => {
                return Err(HandshakeError::OutOfTurn(FrameKind::Hello));
            }
            Some(_) => self.say_proof()?,
            None => self.say_hello(kind),
        };
        Ok(Step { send, done: None })
    }

    fn on_proof(&mut self, proof: &[u8]) -> Result<Step, HandshakeError> {
        let (transcript, theirs) = self.transcript()?;
        let secret = self.identity.secret.as_ref();
        if !proof::verify(secret, self.side.other(), &transcript, proof) {
            return Err(Refusal::Proof(theirs.node).into());
        }
        let info = self.peer_info(theirs)?;
        if let Some(admission) = self.admission {
            admission(&info).map_err(Refusal::NotAdmitted)?;
        }
        let send = match self.side {
            Side::Responder => self.say_proof()?,
            Side::Initiator => BytesMut::new(),
        };
        Ok(Step {
            send,
            done: Some(info),
        })
    }

    fn peer_info(&self, theirs: &Hello) -> Result<PeerInfo, Refusal> {
        Ok(PeerInfo {
            node: theirs.node,
            process_incarnation: theirs.process_incarnation,
            membership_incarnation: theirs.membership_incarnation,
            membership_version: theirs.membership_version,
            cluster_id: theirs.cluster_id,
            kind: theirs.kind,
            version: shared_version(self.identity, theirs)?,
            features: theirs.features & self.identity.features,
        })
    }

    fn say_hello(&mut self, kind: ConnectionKind) -> BytesMut {
        let hello = Hello::new(self.identity, kind, self.nonce);
        let body = hello.encode();
        let send = small_frame(FrameKind::Hello, &body);
        self.ours = Some((hello, body));
        send
    }

    fn say_proof(&self) -> Result<BytesMut, HandshakeError> {
        let (transcript, _) = self.transcript()?;
        let proof = proof::prove(self.identity.secret.as_ref(), self.side, &transcript);
        Ok(small_frame(FrameKind::Proof, &proof))
    }

    /// Both `Hello`s by role, and theirs decoded; a proof before them is out of turn.
    fn transcript(&self) -> Result<(Transcript<'_>, &Hello), HandshakeError> {
        let (Some((_, ours)), Some((hello, theirs))) = (&self.ours, &self.theirs) else {
            return Err(HandshakeError::OutOfTurn(FrameKind::Proof));
        };
        let transcript = match self.side {
            Side::Initiator => Transcript {
                initiator: ours,
                responder: theirs,
            },
            Side::Responder => Transcript {
                initiator: theirs,
                responder: ours,
            },
        };
        Ok((transcript, hello))
    }
}

/// A proven peer, and the two halves of its connection.
pub type Connected<R, W> = (PeerInfo, FramedReader<R>, FramedWriter<W>);

/// What came in.
pub enum Accepted<R, W> {
    /// A member that wants to talk.
    Connection(Connected<R, W>),
    /// A member that wanted to know which process answers; it has been told, and the connection is
    /// closed.
    Probe(PeerInfo),
}

/// Runs the dialing side over a new connection, within `limit` in all.
///
/// # Errors
/// See [`HandshakeError`]; the connection is closed by dropping it.
pub async fn connect<R, W>(
    reader: R,
    writer: W,
    identity: &Identity,
    kind: ConnectionKind,
    expected: NodeId,
    limit: Duration,
) -> Result<Connected<R, W>, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (handshake, hello) = Handshake::initiator(identity, kind, expected, nonce()?);
    within(limit, drive(handshake, hello, reader, writer)).await
}

/// Asks which process answers for `expected` at the other end, within `limit` in all (R15).
///
/// # Errors
/// See [`HandshakeError`]. No error is an observation about the process.
pub async fn probe<R, W>(
    reader: R,
    writer: W,
    identity: &Identity,
    expected: NodeId,
    limit: Duration,
) -> Result<PeerInfo, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let kind = ConnectionKind::Probe;
    let (info, _, _) = connect(reader, writer, identity, kind, expected, limit).await?;
    Ok(info)
}

/// Runs the dialed side over a new connection, within `limit` in all.
///
/// # Errors
/// See [`HandshakeError`]; the connection is closed by dropping it.
pub async fn accept<R, W>(
    reader: R,
    writer: W,
    identity: &Identity,
    admission: Admission<'_>,
    limit: Duration,
) -> Result<Accepted<R, W>, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let handshake = Handshake::responder(identity, admission, nonce()?);
    within(limit, async {
        let (info, reader, mut writer) = drive(handshake, BytesMut::new(), reader, writer).await?;
        if info.kind != ConnectionKind::Probe {
            return Ok(Accepted::Connection((info, reader, writer)));
        }
        writer.shutdown().await?;
        Ok(Accepted::Probe(info))
    })
    .await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut(limit)))
}

async fn drive<R, W>(
    mut handshake: Handshake<'_>,
    opening: BytesMut,
    reader: R,
    writer: W,
) -> Result<Connected<R, W>, HandshakeError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reader = FramedReader::unproven(reader);
    let mut writer = FramedWriter::new(writer);
    writer.push_raw(&opening);
    loop {
        writer.flush().await?;
        let frame = reader.next().await?.ok_or(HandshakeError::Closed)?;
        let step = match handshake.on_frame(&frame) {
            Ok(step) => step,
            Err(HandshakeError::Refusing(refusal)) => {
                writer.push_raw(&refusal.frame());
                // The refusal is what the caller must hear, whether or not the peer still listens.
                let _ = writer.shutdown().await;
                return Err(refusal.into());
            }
            Err(error) => return Err(error),
        };
        writer.push_raw(&step.send);
        if let Some(info) = step.done {
            writer.flush().await?;
            reader.set_proven();
            return Ok((info, reader, writer));
        }
    }
}

fn nonce() -> Result<[u8; NONCE_BYTES], HandshakeError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(HandshakeError::Random)?;
    Ok(nonce)
}

impl From<ReadError> for HandshakeError {
    fn from(error: ReadError) -> HandshakeError {
        match error {
            ReadError::Frame(error) => HandshakeError::Frame(error),
            ReadError::Cut => HandshakeError::Closed,
            ReadError::Io(error) => HandshakeError::Io(error),
        }
    }
}

impl From<WriteError> for HandshakeError {
    fn from(error: WriteError) -> HandshakeError {
        match error {
            WriteError::Frame(error) => HandshakeError::Frame(error),
            WriteError::Control(error) => HandshakeError::Io(std::io::Error::other(error)),
            WriteError::Io(error) => HandshakeError::Io(error),
        }
    }
}
