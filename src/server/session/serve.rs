//! The turns of one connection: read, carry out, answer; and what it waits for between them.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{MAX_HELD, MAX_HELD_BYTES, MOST_REQUEST_BYTES, Session};
use crate::node::{Copies, Gate, Node, Stats};
use crate::resp::{Limits, Reply, RequestParser};
use crate::server::Server;
use crate::server::client_memory::FREE_BYTES;
use crate::server::clients::Client;
use crate::server::mailbox::Mailbox;
use crate::server::pubsub::Message;
use crate::server::receipt::{Blocked, Need};
use crate::units::{Epoch, Lsn};

/// A read buffer that grew beyond this is given back once it is empty.
const LARGE_BUFFER: usize = 1 << 20;

/// How long it is kept open after that for the client to read the answers.
const GRACE: Duration = Duration::from_secs(1);

/// Writes all of it; each part that the client takes shows that it is there.
async fn send<S>(stream: &mut S, client: &Client, mut out: &[u8]) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    while !out.is_empty() {
        let written = stream.write(out).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        client.activity.moves(written);
        out = out.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// What a session waits for besides its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Record(Epoch, Lsn),
    Copies(Epoch, Lsn, Copies),
    Gate,
}

async fn passed(node: &Node, gate: &mut watch::Receiver<Gate>, waits: Waits) {
    match waits {
        Waits::Nothing => std::future::pending().await,
        Waits::Record(epoch, lsn) => node.until_shown(epoch, lsn).await,
        Waits::Copies(epoch, lsn, copies) => node.until_copied(epoch, lsn, copies).await,
        // The gate lives as long as the node.
        Waits::Gate => drop(gate.changed().await),
    }
}

/// What the command at the front waits for, or somebody ended that.
async fn unblocked(server: &Server, client: &Client, blocked: Option<Blocked>, paused: bool) {
    let node = &server.node;
    let mut unpaused = std::pin::pin!(server.pause.ended.notified());
    if paused {
        // It may have ended since it was looked at.
        unpaused.as_mut().enable();
        if !server.pause.is_on() {
            return;
        }
    }
    let need = async {
        match blocked.map(|blocked| blocked.need) {
            Some(Need::Copies(epoch, lsn, copies)) => node.until_copied(epoch, lsn, copies).await,
            Some(Need::Applied(lsn)) => node.until_applied(lsn).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = need => {}
        () = client.unblock.told.notified() => {}
        () = unpaused, if paused => {}
    }
}

/// The next for who listens.
async fn next<T>(mailbox: Option<&Mailbox<T>>) -> T {
    match mailbox {
        Some(mailbox) => mailbox.next().await,
        None => std::future::pending().await,
    }
}

/// The answer that is awaited.
async fn answered(awaited: &mut Option<oneshot::Receiver<Reply>>) -> Reply {
    let lost = Reply::error("ERR the order was lost; ask again");
    match awaited {
        Some(answer) => answer.await.unwrap_or(lost),
        None => std::future::pending().await,
    }
}

/// The receiver again once a reign has begun or ended; `None` when there is no more to come.
async fn moved<T>(mut watched: watch::Receiver<T>) -> Option<watch::Receiver<T>> {
    watched.changed().await.ok()?;
    Some(watched)
}

impl Session<'_> {
    pub(super) async fn serve<S>(&mut self, stream: &mut S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut parser = RequestParser::new(Limits::default());
        let mut buffer = BytesMut::with_capacity(16 << 10);
        let mut out = BytesMut::with_capacity(16 << 10);
        let node = &self.server.node;
        let mut gate = node.gate();
        // What rarely happens is waited for once, not anew for each command.
        let mut reign_moves = std::pin::pin!(moved(node.reign()));
        let mut timer = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        // The read buffer has grown.
        let mut large = false;
        loop {
            gate.mark_unchanged();
            self.paused_until = None;
            large |= buffer.len() > LARGE_BUFFER;
            self.parse(&mut parser, &mut buffer);
            self.end_with_reign();
            self.server.clients.let_leave(self.asked_bytes).await;
            self.execute();
            if self.todo.is_empty() && self.transaction.is_none() {
                self.asked_bytes = 0;
            }
            if self.drowned || self.asked_bytes + parser.kept_bytes() > MOST_REQUEST_BYTES {
                let from = self.client.from;
                tracing::warn!("the client {from} asked for more than a connection may hold");
                return Err(std::io::Error::other("it asks for too much"));
            }
            if large && buffer.is_empty() {
                // It would keep what the largest request took.
                buffer = BytesMut::with_capacity(16 << 10);
                large = false;
            }
            self.let_go(&mut out);
            if !out.is_empty() {
                Stats::add(&node.stats.net_out, out.len() as u64);
                self.client.activity.waits(false);
                self.weigh(buffer.capacity() + parser.kept_bytes() + out.len());
                send(stream, &self.client, &out).await?;
                // TLS may keep the end of it back; a socket has nothing to flush.
                stream.flush().await?;
                out.clear();
                if out.capacity() > 1 << 20 {
                    out = BytesMut::with_capacity(16 << 10);
                }
            }
            let idle = self.todo.is_empty();
            self.client.measure(buffer.len(), self.hold.bytes());
            self.weigh(buffer.capacity() + parser.kept_bytes());
            self.client.activity.waits(!idle || !self.hold.is_empty());
            if self.closing && idle && self.hold.is_empty() && self.awaited.is_none() {
                return self.take_leave(stream).await;
            }
            let room = self.has_room();
            if (idle && self.unparsed) || (std::mem::take(&mut self.stuffed) && room) {
                tokio::task::yield_now().await;
                continue;
            }
            if idle && self.blocked_since.is_some() && !self.closing {
                // Of what waited too long. What is there by now came meanwhile.
                let read = tokio::select! {
                    biased;
                    read = stream.read_buf(&mut buffer) => Some(read?),
                    () = std::future::ready(()) => None,
                };
                match read {
                    Some(0) => return Ok(()),
                    Some(read) => {
                        self.has_read(read);
                        continue;
                    }
                    None => self.blocked_since = None,
                }
            }
            let waits = self.waits();
            // A client that waits for others may go meanwhile.
            let listens = idle || (self.blocked.is_some() && !self.unparsed);
            let paused = self.paused_until.is_some();
            let held_back = self.blocked.is_some() || paused;
            // Armed for a deadline that has passed it fires early, and is armed again.
            let deadline = self.deadline();
            if let Some(deadline) = deadline
                && armed.is_none_or(|armed| deadline < armed)
            {
                timer.as_mut().reset(deadline);
                armed = Some(deadline);
            }
            let messages = self.subscriptions.mailbox();
            tokio::select! {
                () = passed(node, &mut gate, waits), if waits != Waits::Nothing => {}
                () = unblocked(self.server, &self.client, self.blocked, paused), if held_back => {}
                read = stream.read_buf(&mut buffer), if listens && room && !self.closing => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    self.has_read(read);
                }
                reign = &mut reign_moves => match reign {
                    Some(reign) => reign_moves.set(moved(reign)),
                    None => return Ok(()),
                },
                reply = answered(&mut self.awaited), if self.awaited.is_some() => {
                    self.awaited = None;
                    self.answer(&reply);
                }
                () = &mut timer, if armed.is_some() => armed = None,
                message = next(messages.as_deref()), if messages.is_some() => {
                    self.on_message(message)?;
                }
                line = next(self.lines.as_deref()), if self.lines.is_some() => {
                    self.push(&Reply::Simple(line.to_string().into()));
                }
            }
        }
    }

    fn has_read(&self, bytes: usize) {
        Stats::add(&self.server.node.stats.net_in, bytes as u64);
        self.client.activity.moves(bytes);
    }

    /// Whether more answers may wait.
    pub(super) fn has_room(&self) -> bool {
        self.hold.len() < MAX_HELD && self.hold.bytes() < MAX_HELD_BYTES
    }

    /// It takes so many bytes of buffers now, besides what is known here.
    fn weigh(&self, buffers: usize) {
        let told = self.subscriptions.mailbox();
        let told = told.map_or(0, |mailbox| mailbox.bytes());
        let lines = self.lines.as_ref().map_or(0, |lines| lines.bytes());
        let own = buffers + self.asked_bytes + self.hold.bytes() + told + lines;
        let all = self.client.takes(own.saturating_sub(FREE_BYTES));
        let most = self.most_memory();
        if all > most {
            self.server.clients.make_room(most);
        }
    }

    /// What all clients' buffers may take.
    pub(super) fn most_memory(&self) -> usize {
        match self.server.node.tunables.client_memory.get() {
            0 => usize::MAX,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        }
    }

    /// Ends the connection. Were it closed on requests that were not read yet, the answers still on
    /// their way would be lost with it: a client that is let go, and not by its own wish, is told the
    /// end, and what it sends meanwhile is read and forgotten. (None of it is carried out.)
    async fn take_leave<S>(&mut self, stream: &mut S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.shutdown().await?;
        let Some(since) = self.lame_until else {
            return Ok(());
        };
        let forget = async {
            let mut forgotten = [0; 4096];
            while stream.read(&mut forgotten).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            gone = forget => gone,
            () = tokio::time::sleep_until(since + GRACE) => Ok(()),
        }
    }

    /// What lets this session go on that no client says.
    fn waits(&self) -> Waits {
        if self.blocked_since.is_some() {
            return Waits::Gate;
        }
        let gate = self.server.node.gate_now();
        match self.hold.front() {
            Some((epoch, lsn)) if gate.epoch == epoch && gate.shown < lsn => {
                Waits::Record(epoch, lsn)
            }
            Some((epoch, lsn)) if gate.epoch == epoch && gate.is_primary() => {
                match self.hold.front_copies() {
                    Some(copies) => Waits::Copies(epoch, lsn, copies),
                    // It is shown, but no lease is live.
                    None => Waits::Gate,
                }
            }
            Some(_) => Waits::Gate,
            None if self.hold.is_empty() => Waits::Nothing,
            None => Waits::Gate,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let patience = self.server.node.tunables.write_timeout();
        let held = self.hold.deadline(patience);
        let blocked = self.blocked_since.map(|since| since + patience);
        let own = self.blocked.and_then(|blocked| blocked.until);
        held.into_iter()
            .chain(blocked)
            .chain(own)
            .chain(self.paused_until)
            .chain(self.asleep_until)
            .chain(self.lame_until)
            .min()
    }

    fn on_message(&mut self, message: Message) -> std::io::Result<()> {
        match message {
            Message::Recheck if self.overhears() => Err(std::io::Error::other(
                "the subscriber's permission was taken away",
            )),
            message => {
                if let Some(reply) = self.subscriptions.deliver(message) {
                    self.push(&reply);
                }
                Ok(())
            }
        }
    }
}
