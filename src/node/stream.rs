//! A stream between two data nodes, whichever of them opened it: how one begins, what comes next on
//! it, and why it ended.

use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::config::Settings;
use super::host::Host;
use crate::peer::{
    ConnectionKind, FramedReader, FramedWriter, Identity, ReadError, ReadHalf, StreamError,
    StreamMessage, WriteError, WriteHalf, connect,
};
use crate::units::{Epoch, NodeId};
use crate::wal::{EditError, NoReader};

/// For a connection, and for the handshake on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest time that a stream's bytes may stay unacknowledged.
const STREAM_PATIENCE: Duration = Duration::from_secs(5);

/// How long a word waits for which no reply waits: the next one takes it along. (Three
/// acknowledgements to a record, and a frame for each release, were half of all system calls.)
const LAZILY: Duration = Duration::from_millis(2);

/// A word that nobody waits for, until another takes it along or its time has come.
#[derive(Debug, Default)]
pub(super) struct PutOff(Option<Instant>);

impl PutOff {
    /// There is such a word, from now on if there was none. Whether its time has come.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        *self.0.get_or_insert(now + LAZILY) <= now
    }

    /// It was said.
    pub(super) fn said(&mut self) {
        self.0 = None;
    }

    /// Until its time has come; for ever where there is none.
    pub(super) async fn due(&self) {
        match self.0 {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Why a stream ended.
#[derive(Debug, Error)]
pub(super) enum StreamEnd {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Message(#[from] StreamError),
    #[error("reading the log failed: {0}")]
    Log(#[from] std::io::Error),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    NoReader(#[from] NoReader),
    #[error("{0}")]
    Other(String),
}

pub(super) type StreamReader = FramedReader<ReadHalf>;
pub(super) type StreamWriter = FramedWriter<WriteHalf>;

/// The next message; an orderly end is an end, too.
pub(super) async fn next(reader: &mut StreamReader) -> Result<(Epoch, StreamMessage), StreamEnd> {
    match reader.next().await? {
        Some(frame) => {
            let epoch = frame.epoch;
            Ok((epoch, StreamMessage::decode(frame)?))
        }
        None => Err(StreamEnd::Other("the other side closed the stream".into())),
    }
}

/// As [`next`], for at most so long.
pub(super) async fn next_within(
    patience: Duration,
    reader: &mut StreamReader,
) -> Result<(Epoch, StreamMessage), StreamEnd> {
    let heard = tokio::time::timeout(patience, next(reader)).await;
    let silent = || format!("nothing came for {} s", patience.as_secs());
    heard.unwrap_or_else(|_| Err(StreamEnd::Other(silent())))
}

/// Says no, and why.
pub(super) async fn refuse(
    writer: &mut StreamWriter,
    epoch: Epoch,
    reason: String,
) -> Result<(), StreamEnd> {
    writer.push(epoch, &StreamMessage::Refused { reason })?;
    Ok(writer.flush().await?)
}

/// Opens a stream to another data node.
pub(super) async fn open(
    host: &dyn Host,
    settings: &Settings,
    identity: &Identity,
    to: NodeId,
) -> Result<(StreamReader, StreamWriter), StreamEnd> {
    let other = |error: &dyn std::fmt::Display| StreamEnd::Other(error.to_string());
    let Some(member) = settings.member(to) else {
        return Err(StreamEnd::Other(format!(
            "node {to} is not in this node's configuration"
        )));
    };
    let socket = host
        .network()
        .dial(&member.peer_addr, PATIENCE, STREAM_PATIENCE)
        .await
        .map_err(|error| other(&error))?;
    let (_, reader, writer) = connect(
        socket.reader,
        socket.writer,
        identity,
        ConnectionKind::Stream,
        to,
        PATIENCE,
    )
    .await
    .map_err(|error| other(&error))?;
    Ok((reader, writer))
}
