//! Reading back what was written, and asking a thawed node for what it must no longer say.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::load::connection::{Connection, reply_bytes};
use crate::cli::load::follow::{Clock, FollowSpec};
use crate::resp::{Reply, encode_request};

/// Reads per batch.
const BATCH: usize = 256;
/// Longest wait for one batch of reads.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a node is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Connections held open to a node that is going to be frozen.
const PROBES: usize = 4;

/// One write to look for: client and sequence.
pub(super) type WriteId = (usize, usize);

/// What a node holds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The value written.
    Present,
    /// Nothing.
    Absent,
    /// Another value.
    Wrong,
}

/// Reads all `wanted` at `address`, in order. An error reply (a node that may not answer yet) is
/// tried again until `patience` ends.
pub(super) async fn read_back(
    address: SocketAddr,
    spec: &FollowSpec,
    wanted: &[WriteId],
    patience: Duration,
) -> anyhow::Result<Vec<Found>> {
    let deadline = Instant::now() + patience;
    let mut found = Vec::with_capacity(wanted.len());
    let mut connection = None;
    while found.len() < wanted.len() {
        let end = wanted.len().min(found.len() + BATCH);
        let batch = &wanted[found.len()..end];
        let read = tokio::time::timeout(
            READ_TIMEOUT,
            read_batch(&mut connection, address, spec, batch),
        );
        match read
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(values) => found.extend(values),
            Err(error) if Instant::now() >= deadline => {
                anyhow::bail!("cannot read back the writes at {address}: {error}")
            }
            Err(_) => {
                connection = None;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
    Ok(found)
}

async fn read_batch(
    kept: &mut Option<Connection>,
    address: SocketAddr,
    spec: &FollowSpec,
    batch: &[WriteId],
) -> io::Result<Vec<Found>> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(address).await?),
    };
    let keys: Vec<String> = batch
        .iter()
        .map(|(client, sequence)| spec.key(*client, *sequence))
        .collect();
    let mut requests = BytesMut::new();
    for key in &keys {
        encode_request(&[b"GET", key.as_bytes()], &mut requests);
    }
    connection.send(&requests).await?;
    let mut found = Vec::with_capacity(batch.len());
    for key in &keys {
        found.push(match connection.receive().await? {
            Reply::Error(text) => return Err(io::Error::other(text.into_owned())),
            Reply::Null => Found::Absent,
            reply if reply_bytes(&reply) == Some(spec.value(key).as_bytes()) => Found::Present,
            _ => Found::Wrong,
        });
    }
    Ok(found)
}

/// Reads `wanted` at `address` again and again until all are there or `patience` ends. Returns
/// those that never came.
pub(super) async fn await_arrival(
    address: SocketAddr,
    spec: &FollowSpec,
    wanted: &[WriteId],
    patience: Duration,
) -> anyhow::Result<Vec<WriteId>> {
    let deadline = Instant::now() + patience;
    let mut missing = wanted.to_vec();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let found = read_back(address, spec, &missing, left).await?;
        let states: HashMap<WriteId, Found> = missing.iter().copied().zip(found).collect();
        missing.retain(|id| states.get(id) != Some(&Found::Present));
        if missing.is_empty() || Instant::now() >= deadline {
            return Ok(missing);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A read answered with something that a newer write had already replaced.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StaleRead {
    /// When, counted from the thaw, microseconds.
    pub(super) after_thaw_us: u64,
    /// The answer.
    pub(super) answer: String,
}

/// What the probes of a thawed node were told.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ProbeOutcome {
    /// Reads asked on connections opened before the freeze.
    pub(super) asked: u64,
    /// Answered with an error.
    pub(super) errors: u64,
    /// Answered with the new value.
    pub(super) current: u64,
    /// Connections closed by the node.
    pub(super) closed: u64,
    /// Answered with anything else: a broken promise.
    pub(super) stale: Vec<StaleRead>,
}

/// Connections opened to the primary before it is frozen. While it is frozen the new primary
/// overwrites their key; after the thaw they must never be told the old value.
pub(super) struct StaleProbe {
    key: String,
    connections: Vec<Connection>,
}

impl StaleProbe {
    /// Writes the old value at the primary and opens the connections.
    pub(super) async fn open(primary: SocketAddr, prefix: &str) -> anyhow::Result<StaleProbe> {
        let key = format!("{prefix}:overwritten");
        let mut connections = Vec::new();
        for _ in 0..PROBES {
            connections.push(Connection::open(primary).await?);
        }
        let probe = StaleProbe { key, connections };
        probe.write(primary, b"old").await?;
        Ok(probe)
    }

    /// Writes the new value at the new primary.
    pub(super) async fn overwrite(&self, primary: SocketAddr) -> anyhow::Result<()> {
        self.write(primary, b"new").await
    }

    async fn write(&self, primary: SocketAddr, value: &[u8]) -> anyhow::Result<()> {
        let mut connection = Connection::open(primary).await?;
        let words: [&[u8]; 3] = [b"SET", self.key.as_bytes(), value];
        let reply = tokio::time::timeout(READ_TIMEOUT, connection.ask(&words)).await??;
        anyhow::ensure!(
            reply == Reply::OK,
            "the key for the stale-read check could not be written at {primary}: {reply:?}"
        );
        Ok(())
    }

    /// Sends one read on each connection, still unanswered by the frozen node.
    pub(super) async fn ask(&mut self) {
        let request = read_request(&self.key);
        for connection in &mut self.connections {
            // A node that closed the connection has answered nothing stale; `watch` sees the end.
            let _ = connection.send(&request).await;
        }
    }

    /// Collects the answers from the thaw on, asking again after each, until told to stop.
    pub(super) fn watch(
        self,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<ProbeOutcome> {
        let thaw_us = clock.now_us();
        tokio::spawn(async move {
            let mut readers = JoinSet::new();
            for connection in self.connections {
                let request = read_request(&self.key);
                readers.spawn(watch_one(connection, request, clock, thaw_us, stop.clone()));
            }
            let mut sum = ProbeOutcome::default();
            while let Some(Ok(one)) = readers.join_next().await {
                sum.asked += one.asked;
                sum.errors += one.errors;
                sum.current += one.current;
                sum.closed += one.closed;
                sum.stale.extend(one.stale);
            }
            sum
        })
    }
}

fn read_request(key: &str) -> BytesMut {
    let mut request = BytesMut::new();
    encode_request(&[b"GET", key.as_bytes()], &mut request);
    request
}

async fn watch_one(
    mut connection: Connection,
    request: BytesMut,
    clock: Clock,
    thaw_us: u64,
    mut stop: watch::Receiver<bool>,
) -> ProbeOutcome {
    let mut outcome = ProbeOutcome {
        asked: 1,
        ..ProbeOutcome::default()
    };
    loop {
        let reply = tokio::select! {
            biased;
            reply = connection.receive() => reply,
            _ = stop.wait_for(|stop| *stop) => return outcome,
        };
        match reply {
            Err(_) => {
                outcome.closed += 1;
                return outcome;
            }
            Ok(Reply::Error(_)) => outcome.errors += 1,
            Ok(reply) if reply_bytes(&reply) == Some(b"new") => outcome.current += 1,
            Ok(reply) => outcome.stale.push(StaleRead {
                after_thaw_us: clock.now_us() - thaw_us,
                answer: format!("{reply:?}"),
            }),
        }
        tokio::time::sleep(RETRY_PAUSE / 10).await;
        if connection.send(&request).await.is_err() {
            outcome.closed += 1;
            return outcome;
        }
        outcome.asked += 1;
    }
}
