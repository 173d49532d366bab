//! Answers wait until what they depend on is shown, and then go out.

use bytes::BytesMut;
use tokio::time::Instant;

use super::{MAX_HELD_BYTES, Session, TURN_BYTES};
use crate::command::ReplyMode;
use crate::node::{Guard, LatencyEvent, Stats};
use crate::resp::{MOST_REPLY_BYTES, Reply};
use crate::units::{Epoch, Lsn, Micros};

impl Session<'_> {
    /// Queues a primary's reply, until what it depends on is shown.
    pub(in crate::server) fn hold_reply(
        &mut self,
        reply: &Reply,
        epoch: Epoch,
        wait: Lsn,
        wrote: bool,
        now: Instant,
    ) {
        self.note_error(reply);
        let node = &self.server.node;
        let mut durability = None;
        if wrote {
            self.last_write = wait;
            durability = self.durability;
            if let Some(asked) = durability {
                node.await_copies(wait, asked.copies.level);
            }
        }
        if self.is_muted() {
            return;
        }
        if self.drowns(reply) {
            return;
        }
        let shown = match wrote || node.settings.keeps(Guard::R32) {
            true => wait,
            false => Lsn::ZERO,
        };
        let wait = Some((epoch, shown));
        self.hold
            .push(reply, self.version, wait, wrote, durability, now);
    }

    /// Whether this reply is more than may wait. The connection ends then, as Redis ends one that is behind
    /// its hard limit: an answer that were left out would shift all behind it.
    fn drowns(&mut self, reply: &Reply) -> bool {
        let bytes = reply.bytes();
        self.drowned |= self.hold.bytes() + bytes > MOST_REPLY_BYTES;
        if bytes > TURN_BYTES && !self.drowned {
            // It counts before it is there. A very long one is not given at the others' cost.
            let most = self.most_memory();
            let all = self
                .client
                .takes(self.hold.bytes() + self.asked_bytes + bytes);
            if all > most {
                self.drowned = bytes > MAX_HELD_BYTES;
                self.server.clients.make_room(most);
            }
            self.drowned |= self.client.end.is_cancelled();
        }
        self.drowned
    }

    /// Whether CLIENT REPLY keeps the answer to this command back.
    fn is_muted(&mut self) -> bool {
        match self.replies {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::Skip => {
                self.replies = ReplyMode::On;
                true
            }
        }
    }

    /// Queues a reply that depends on nothing.
    pub(in crate::server) fn answer(&mut self, reply: &Reply) {
        self.note_error(reply);
        if !self.is_muted() {
            self.push(reply);
        }
    }

    #[inline]
    fn note_error(&mut self, reply: &Reply) {
        if let Reply::Error(text) = reply {
            self.errors += 1;
            self.server.note_error(text);
        }
    }

    /// Queues what is told whether replies are on or not.
    pub(in crate::server) fn push(&mut self, reply: &Reply) {
        if self.drowns(reply) {
            return;
        }
        self.hold
            .push(reply, self.version, None, false, None, Instant::now());
    }

    pub(super) fn let_go(&mut self, out: &mut BytesMut) {
        if self.hold.is_empty() {
            return;
        }
        let node = &self.server.node;
        let gate = node.gate_now();
        let clock = match node.settings.keeps(Guard::R18) {
            true => node.host.boot_time(),
            false => Micros::ZERO,
        };
        let copied = |lsn, copies| node.is_copied(lsn, copies);
        let done = self
            .hold
            .let_go(&gate, clock, node.tunables.write_timeout(), copied, out);
        if let Some(longest) = done.longest {
            node.stats.commit_seconds.observe(longest.as_secs_f64());
            node.note_latency(LatencyEvent::Commit, longest);
        }
        Stats::add(&node.stats.unconfirmed, done.unconfirmed);
        for text in done.errors {
            self.server.note_error(text);
        }
    }
}
