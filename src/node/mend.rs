//! Mending a damaged log with the help of the other data nodes.
//!
//! A node that finds synced records damaged at its start neither serves nor votes: what it
//! acknowledged is not whole. It asks the other data nodes, one after the other, for just the records
//! that are missing, until its log is whole, and only then begins. Without others to ask it does not
//! start, and says what is missing. A running node does the same with sealed segments (`scrub`).
//!
//! What comes is checked by the chain (`wal::mend`); a member with another history cannot do harm.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::config::Settings;
use super::driver::Node;
use super::host::Host;
use super::stream::{StreamEnd, StreamWriter, next, open, refuse};
use crate::peer::{Backoff, StreamMessage};
use crate::units::{Epoch, Lsn, Micros, NodeId};
use crate::wal::{ChainPoint, Hole, mend};

/// Bytes of records per frame, and per answer: a hole that is longer is asked for again.
const BATCH_BYTES: usize = 1 << 20;
const ANSWER_BYTES: usize = 64 << 20;

/// Time between two lines that say what is still missing.
const SAY_EVERY: Micros = Micros(10_000_000);

/// Answers a member that lost records; it checks them itself.
pub(super) async fn answer(
    node: &Arc<Node>,
    epoch: Epoch,
    after: Lsn,
    last: Lsn,
    writer: &mut StreamWriter,
) -> Result<(), StreamEnd> {
    let log = node.store.log();
    let end = log.end().lsn;
    let mut reader = match log.reader(after) {
        Ok(reader) if after < end && reader.position().lsn == after => reader,
        _ => {
            let oldest = log.oldest().lsn.next();
            let reason = format!("it holds LSN {oldest} to {end}");
            return refuse(writer, epoch, reason).await;
        }
    };
    writer.push(epoch, &StreamMessage::Chain(reader.position()))?;
    let mut sent = 0;
    while sent < ANSWER_BYTES
        && let Some(chunk) = reader.next_chunk(last, BATCH_BYTES)?
    {
        sent += chunk.bytes.len();
        let message = StreamMessage::Wal {
            released: Lsn::ZERO,
            records: chunk.bytes,
        };
        writer.push(epoch, &message)?;
        writer.flush().await?;
    }
    writer.push(epoch, &StreamMessage::Chain(reader.position()))?;
    writer.flush().await?;
    Ok(())
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) host: &'a Arc<dyn Host>,
    pub(super) settings: &'a Settings,
    pub(super) cluster: u128,
    /// Of this node's membership.
    pub(super) incarnation: u64,
    /// R1: nothing of a later epoch is stored.
    pub(super) promised: Epoch,
    /// This process.
    pub(super) process: u64,
}

/// Puts what came, behind this point, where it belongs; how many records.
pub(super) type Put<'a> = dyn Fn(ChainPoint, &[u8]) -> Result<u64, String> + Sync + 'a;

impl Asker<'_> {
    /// Asks until somebody fills the hole, or some of it; before the log is open.
    pub(super) async fn fill(&self, hole: &Hole) {
        let put = |after: ChainPoint, records: &[u8]| {
            let disk = self.host.disk();
            mend(
                disk.as_ref(),
                self.cluster,
                self.promised,
                hole,
                after,
                records,
            )
            .map_err(|error| error.to_string())
        };
        let mut backoff = Backoff::new(
            Duration::from_millis(50),
            Duration::from_secs(2),
            self.host.draw(),
        );
        let Hole { first, last, .. } = hole;
        tracing::error!(
            "LSN {first} to {last} are missing from {}. This node neither serves nor votes until it has \
             them from another member",
            hole.segment.display()
        );
        let mut said = self.host.boot_time();
        loop {
            match self.fill_once(hole, &put).await {
                Ok(()) => return,
                Err(why) => {
                    let now = self.host.boot_time();
                    if now.since(said) >= SAY_EVERY {
                        said = now;
                        tracing::error!(
                            "LSN {first} to {last} are still missing: {why}. If no member keeps them any \
                             more, move this node's data directory away and let it take a copy"
                        );
                    }
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Asks each other data node once. What each of them said, if none could help.
    pub(super) async fn fill_once(&self, hole: &Hole, put: &Put<'_>) -> Result<(), String> {
        let mut said = Vec::new();
        for member in self.settings.other_data_nodes() {
            match self.fill_from(member, hole, put).await {
                Ok(records) => {
                    tracing::warn!(
                        "mended {}: {records} records from LSN {} on came from node {member}",
                        hole.segment.display(),
                        hole.first
                    );
                    return Ok(());
                }
                Err(why) => said.push(format!("node {member}: {why}")),
            }
        }
        Err(said.join("; "))
    }

    async fn fill_from(&self, member: NodeId, hole: &Hole, put: &Put<'_>) -> Result<u64, String> {
        let (after, records) = self
            .fetch(member, hole.first.previous(), hole.last)
            .await
            .map_err(|end| end.to_string())?;
        self.host.blocking(|| put(after, &records))
    }

    async fn fetch(
        &self,
        member: NodeId,
        after: Lsn,
        last: Lsn,
    ) -> Result<(ChainPoint, Bytes), StreamEnd> {
        let identity = self
            .settings
            .identity(self.cluster, self.incarnation, self.process);
        let (mut reader, mut writer) =
            open(self.host.as_ref(), self.settings, &identity, member).await?;
        let epoch = self.promised;
        writer.push(epoch, &StreamMessage::Fetch { after, last })?;
        writer.flush().await?;
        let begin = match next(&mut reader).await? {
            (_, StreamMessage::Chain(begin)) if begin.lsn == after => begin,
            (_, StreamMessage::Refused { reason }) => return Err(StreamEnd::Other(reason)),
            (_, other) => {
                return Err(StreamEnd::Other(format!(
                    "{:?} is no answer to Fetch",
                    other.kind()
                )));
            }
        };
        let mut records = BytesMut::new();
        loop {
            match next(&mut reader).await? {
                (_, StreamMessage::Wal { records: some, .. }) => {
                    records.extend_from_slice(&some);
                    if records.len() > 2 * ANSWER_BYTES {
                        return Err(StreamEnd::Other("the answer is too long".into()));
                    }
                }
                (_, StreamMessage::Chain(_)) => return Ok((begin, records.freeze())),
                (_, other) => {
                    return Err(StreamEnd::Other(format!(
                        "{:?} in an answer to Fetch",
                        other.kind()
                    )));
                }
            }
        }
    }
}
