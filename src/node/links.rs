//! The control plane: one connection to each member for what this node has to say, one from each
//! for what it hears. On a runtime of its own, on a thread that client load cannot starve.
//!
//! R15: this node believes that a peer's process is dead when its own connection to it closed
//! *and* a fresh connect is refused, or answered by another process.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::digests::{self, Held};
use super::driver::Node;
use super::guard::Guard;
use super::lead;
use super::reports::ExactLoss;
use super::store::Expected;
use crate::peer::{
    Accepted, Backoff, Connected, ConnectionKind, DialError, FrameKind, FramedReader, FramedWriter,
    Listener, PeerInfo, ReadHalf, Socket, WriteHalf, accept, connect, control,
};
use crate::replica::{Envelope, Input, Message};
use crate::units::{Epoch, NodeId};

/// Longest time for a connect and for a handshake.
const PATIENCE: Duration = Duration::from_millis(500);

/// Everything that goes over a control connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Between the machines.
    Machine(Envelope),
    /// What a rejoining node gave up, for the history.
    Discarded(Epoch, ExactLoss),
    /// The digest of this primary's keyspace behind a record.
    Digest(Epoch, Expected),
    /// The same of this standby's, in answer.
    DigestHere(Epoch, Held),
    /// This primary takes that keyspace of the standby's for the one that is wrong.
    Differs(Epoch, Held),
}

/// Keeps a connection to one member and says what is to be said.
pub(super) async fn speak(node: Arc<Node>, peer: NodeId, mut words: mpsc::Receiver<Word>) {
    let Some(member) = node.settings.member(peer).cloned() else {
        return;
    };
    let mut backoff = Backoff::new(
        Duration::from_millis(5),
        Duration::from_millis(500),
        node.host.draw(),
    );
    let mut known: Option<u64> = None;
    let mut complained = false;
    loop {
        match open(&node, &member.peer_addr, peer).await {
            Ok((info, reader, writer)) => {
                if known.is_some_and(|process| process != info.process_incarnation) {
                    gone(&node, peer, &mut known);
                }
                known = Some(info.process_incarnation);
                backoff.reset();
                complained = false;
                node.linked(peer, true);
                say_all(&mut words, reader, writer).await;
                node.linked(peer, false);
                // Whether the process lives is asked at once: a fresh connect tells.
                continue;
            }
            Err(Failure::Refused) => {
                if node.settings.refused_is_dead {
                    node.refused_by(peer);
                    gone(&node, peer, &mut known);
                }
            }
            Err(Failure::Other(why)) => {
                if !complained {
                    tracing::info!("node {peer} at {}: {why}", member.peer_addr);
                    complained = true;
                }
            }
        }
        // What could not be said is stale by the time it could.
        while words.try_recv().is_ok() {}
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn gone(node: &Node, peer: NodeId, known: &mut Option<u64>) {
    if let Some(process) = known.take() {
        tracing::info!("node {peer}: its process is gone");
        node.enter([Input::ProcessGone { peer, process }]);
    }
}

enum Failure {
    Refused,
    Other(String),
}

type Link = Connected<ReadHalf, WriteHalf>;

async fn open(node: &Node, addr: &str, peer: NodeId) -> Result<Link, Failure> {
    let network = node.host.network();
    let socket = match network.dial(addr, PATIENCE, node.settings.lease).await {
        Ok(socket) => socket,
        Err(DialError::Refused { .. }) => return Err(Failure::Refused),
        Err(error) => return Err(Failure::Other(error.to_string())),
    };
    let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    let identity = node.identity();
    connect(
        socket.reader,
        socket.writer,
        &identity,
        ConnectionKind::Heartbeat,
        peer,
        PATIENCE,
    )
    .await
    .map_err(|error| other(&error))
}

/// Says words until the connection breaks; the other side never speaks on it.
async fn say_all(
    words: &mut mpsc::Receiver<Word>,
    mut reader: FramedReader<ReadHalf>,
    mut writer: FramedWriter<WriteHalf>,
) {
    loop {
        tokio::select! {
            word = words.recv() => {
                let Some(word) = word else { return };
                let mut next = Some(word);
                while let Some(word) = next {
                    if writer.push_control(Epoch::ZERO, &word).is_err() {
                        return;
                    }
                    next = words.try_recv().ok();
                }
                match tokio::time::timeout(PATIENCE, writer.flush()).await {
                    Ok(Ok(())) => {}
                    _ => return,
                }
            }
            _ = reader.next() => return,
        }
    }
}

/// Takes connections from members, for as long as the node lives.
pub(super) async fn listen(node: Arc<Node>, listener: Box<dyn Listener>) {
    loop {
        match listener.accept().await {
            Ok((socket, unproven)) => {
                // Numbered here, in the order of their coming, and not where they are served.
                let arrival = node.host.boot_time().0;
                let host = Arc::clone(&node.host);
                let node = Arc::clone(&node);
                host.spawn_here(Box::pin(async move {
                    let from = socket.peer;
                    let result = welcome(&node, socket).await;
                    drop(unproven);
                    match result {
                        Ok(Some(link)) => attend(node, link, arrival).await,
                        Ok(None) => {}
                        Err(why) => tracing::debug!("{from}: {why}"),
                    }
                }));
            }
            Err(error) => {
                tracing::warn!("taking a member's connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn welcome(node: &Node, socket: Socket) -> Result<Option<Link>, String> {
    let identity = node.identity();
    let settings = &node.settings;
    let admission = |info: &PeerInfo| {
        if settings.member(info.node).is_some() {
            Ok(())
        } else {
            let known: Vec<String> = settings
                .members
                .iter()
                .map(|m| m.member.id.to_string())
                .collect();
            Err(format!(
                "node {} is not a member here; members: {}",
                info.node,
                known.join(", ")
            ))
        }
    };
    match accept(
        socket.reader,
        socket.writer,
        &identity,
        &admission,
        PATIENCE,
    )
    .await
    {
        Ok(Accepted::Connection(link)) => Ok(Some(link)),
        Ok(Accepted::Probe(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn attend(node: Arc<Node>, link: Link, arrival: u64) {
    let (info, mut reader, mut writer) = link;
    match info.kind {
        ConnectionKind::Heartbeat => hear_all(&node, &info, reader, writer).await,
        ConnectionKind::Stream => {
            let host = Arc::clone(&node.host);
            host.spawn(Box::pin(async move {
                let network = node.host.network();
                match network.move_here(reader.inner(), writer.inner()) {
                    Ok(()) => lead::serve(node, info, arrival, reader, writer).await,
                    Err(error) => tracing::warn!("node {}: its stream broke: {error}", info.node),
                }
            }));
        }
        ConnectionKind::Probe => {}
    }
}

async fn hear_all(
    node: &Arc<Node>,
    info: &PeerInfo,
    mut reader: FramedReader<ReadHalf>,
    _writer: FramedWriter<WriteHalf>,
) {
    while let Ok(Some(frame)) = reader.next().await {
        if frame.kind != FrameKind::Control {
            tracing::warn!(
                "node {} sent {:?} on a control connection",
                info.node,
                frame.kind
            );
            return;
        }
        node.heard_from(info.node);
        match control::decode::<Word>(&frame.body) {
            Ok(Word::Machine(mut envelope)) if envelope.from == info.node => {
                if let Message::Beat(beat) = &mut envelope.message {
                    beat.serves |= !node.settings.keeps(Guard::R34);
                }
                node.enter([Input::Message(Box::new(envelope))]);
            }
            Ok(Word::Machine(envelope)) => {
                tracing::warn!("node {} spoke as node {}", info.node, envelope.from);
                return;
            }
            Ok(Word::Discarded(epoch, loss)) => node.reports_of_others(epoch, loss),
            Ok(Word::Digest(epoch, expected)) => digests::heard(node, info.node, epoch, expected),
            Ok(Word::DigestHere(epoch, held)) => digests::answered(node, info.node, epoch, held),
            Ok(Word::Differs(epoch, held)) => digests::judged(node, info.node, epoch, held),
            Err(error) => {
                tracing::warn!("node {}: {error}", info.node);
                return;
            }
        }
    }
}
