//! Commands are carried out, in order, as this node may: a primary's, a standby's, or not at all.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    After, Asked, Cannot, DEPOSED, MAX_HELD_BYTES, MOST_BATCH, Mistake, READONLY, REPAIRED,
    Session, TURN_BYTES, Way, Weight,
};
use crate::command::{
    ClientCommand, Command, KeyCommand, SentinelCommand, SessionCommand, TransactionCommand,
};
use crate::node::{Executed, Gate, Once, RequestId, Serves, Stats};
use crate::resp::Reply;
use crate::server::counts;
use crate::server::sentinel::{self, Ordered};
use crate::server::session_commands;
use crate::server::slowlog;
use crate::server::tally::End;

impl Session<'_> {
    /// Executes what can be executed now, in order.
    pub(super) fn execute(&mut self) {
        let (before, mut outwaited) = (self.hold.bytes(), false);
        while self.awaited.is_none()
            && !self.drowned
            && let Some(front) = self.todo.front()
        {
            if !self.has_room() || self.hold.bytes() > before + TURN_BYTES {
                self.stuffed = true;
                return;
            }
            if self.server.pause.is_on()
                && let Some(until) = self.is_paused(&front.what)
            {
                self.paused_until = Some(until);
                return;
            }
            let done = match &front.what {
                what if self.queues(what) => {
                    self.queue_front();
                    Ok(())
                }
                Ok(Command::Keys(_)) if self.only_subscriptions() => {
                    self.reject_front(&Reply::error(
                        "ERR Can't execute this command: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / \
                         PING / QUIT / RESET are allowed in this context",
                    ));
                    Ok(())
                }
                Ok(Command::Keys(_)) => self.execute_keys(),
                Ok(Command::Session(_)) => self.execute_session(),
                Err(_) => {
                    self.answer_mistake();
                    Ok(())
                }
            };
            match done {
                Ok(()) => self.blocked_since = None,
                Err(Cannot::Blocked) => {
                    self.blocked_since = None;
                    return;
                }
                Err(Cannot::Wait(why)) => {
                    let since = *self.blocked_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < self.server.node.tunables.write_timeout() {
                        return;
                    }
                    // Those behind it have waited as long: nothing is read while a command
                    // waits. (A pipeline of a thousand once took as many timeouts to fail.)
                    self.refuse_front(why);
                    outwaited = true;
                }
                Err(Cannot::Refuse(why)) => {
                    self.blocked_since = None;
                    self.refuse_front(why);
                }
                Err(Cannot::RefuseAll(why)) => {
                    self.blocked_since = None;
                    // EXEC and WATCH are no part of a batch.
                    for _ in 0..self.batch().count().max(1) {
                        self.refuse_front(why);
                    }
                }
            }
        }
        // What was sent together with what waited too long has waited as long, too ([`Session::serve`]).
        if !(outwaited && self.todo.is_empty()) {
            self.blocked_since = None;
        }
    }

    /// The command at the front, which is not about keys.
    fn execute_session(&mut self) -> Result<(), Cannot> {
        let (spec, before) = (self.todo.front().and_then(|asked| asked.spec), self.errors);
        let waiting = self.todo.len();
        let began = Instant::now();
        let done = match self.front() {
            Some(Ok(Command::Session(SessionCommand::Transaction(_)))) => self.transact(),
            Some(Ok(Command::Session(SessionCommand::Wait(_)))) => self.wait_for_copies(),
            Some(Ok(Command::Session(SessionCommand::Sentinel(SentinelCommand::Failover {
                master,
            })))) => {
                let ordered = sentinel::order(self.server, master);
                self.todo.pop_front();
                self.asks_a_sentinel();
                match ordered {
                    Ordered::Now(reply) => self.answer(&reply),
                    Ordered::Later(answer) => self.awaited = Some(answer),
                }
                Ok(())
            }
            Some(Ok(Command::Session(SessionCommand::Sleep { span }))) => {
                let span = *span;
                self.sleep(span)
            }
            _ => {
                if let Some(Ok(Command::Session(command))) = self.take_front()
                    && session_commands::answer(self, command) == After::Close
                {
                    self.todo.clear();
                    self.closing = true;
                }
                Ok(())
            }
        };
        if self.todo.len() < waiting {
            let end = match self.errors > before {
                true => End::Failed,
                false => End::Done,
            };
            self.server.tally.one(spec, end, began.elapsed());
        }
        done
    }

    /// What at the front is no command.
    fn answer_mistake(&mut self) {
        let Some(Asked {
            spec,
            what: Err(mistake),
        }) = self.todo.pop_front()
        else {
            return;
        };
        let end = match mistake.weight {
            Weight::Queued => End::Failed,
            Weight::Aborts | Weight::Ends => End::Rejected,
        };
        self.server.tally.one(spec, end, Duration::ZERO);
        if mistake.weight == Weight::Ends {
            self.forget_transaction();
        }
        self.answer(&mistake.reply);
    }

    /// DEBUG SLEEP at the front. Replies before it go out meanwhile.
    fn sleep(&mut self, span: Duration) -> Result<(), Cannot> {
        let now = Instant::now();
        let until = *self.asleep_until.get_or_insert(now + span);
        if now < until {
            return Err(Cannot::Blocked);
        }
        self.asleep_until = None;
        self.todo.pop_front();
        self.answer(&Reply::OK);
        Ok(())
    }

    /// Answers the command at the front, which is EXEC's transaction if it is that.
    fn refuse_front(&mut self, why: &'static str) {
        if let Some(Ok(Command::Session(_))) = self.front() {
            self.forget_transaction();
        }
        self.reject_front(&Reply::error(why));
    }

    /// The command at the front is not carried out.
    fn reject_front(&mut self, why: &Reply) {
        if let Some(asked) = self.todo.pop_front() {
            let tally = &self.server.tally;
            tally.one(asked.spec, End::Rejected, Duration::ZERO);
        }
        self.answer(why);
    }

    /// Refuses what a client asks of a node that is not the primary, and does not serve reads either.
    fn refuse_batch(&mut self, reads: &Reply) {
        let writes: Vec<bool> = self.batch().map(KeyCommand::is_write).collect();
        for write in writes {
            match write {
                true => self.reject_front(&READONLY),
                false => self.reject_front(reads),
            }
        }
    }

    /// Executes the key commands at the front.
    fn execute_keys(&mut self) -> Result<(), Cannot> {
        if self.lame_until.is_some() {
            self.refuse_batch(&DEPOSED);
            return Ok(());
        }
        let gate = self.server.node.gate_now();
        let way = self.way(&gate);
        if way.is_ok() && self.read_after.is_some() {
            self.reads_after()?;
        }
        match way {
            Ok(Way::Primary) => self.execute_as_primary(&gate),
            Ok(Way::Standby) => {
                self.execute_as_standby();
                Ok(())
            }
            // As Redis has it: that it takes no writes comes first, and clients know what to do then.
            Err(Cannot::RefuseAll(why)) if gate.serves == Serves::Unsure => {
                self.refuse_batch(&Reply::error(why));
                Ok(())
            }
            Err(cannot) => Err(cannot),
        }
    }

    /// Until when the command at the front waits, because clients are paused. PING does not: a node that
    /// does not answer it is taken for dead.
    fn is_paused(&self, front: &Result<Command, Mistake>) -> Option<Instant> {
        use SessionCommand as S;
        if self.lame_until.is_some() {
            return None;
        }
        let writes = match front {
            Ok(Command::Session(
                S::Ping { .. }
                | S::Client(ClientCommand::Unpause | ClientCommand::Pause { .. })
                | S::Quit,
            )) => return None,
            Ok(Command::Session(S::Transaction(TransactionCommand::Execute))) => self
                .transaction
                .as_ref()
                .is_some_and(|transaction| transaction.writes()),
            Ok(Command::Session(S::Publish { .. })) => true,
            // Between MULTI and EXEC, too, as in Redis.
            Ok(Command::Keys(command)) => command.is_write(),
            _ => false,
        };
        self.server.pause.holds(writes)
    }

    fn batch(&self) -> impl Iterator<Item = &KeyCommand> + Clone {
        // The first is looked at before it gets here.
        let most = if self.server.pause.is_on() {
            1
        } else {
            self.batch
        };
        self.todo.iter().map_while(Asked::keys).take(most)
    }

    /// The write at the front, which has an id. A read takes the id with it.
    fn execute_once(&mut self, gate: &Gate, request: &RequestId) -> Result<(), Cannot> {
        let Some(Ok(Command::Keys(command))) = self.front() else {
            return Ok(());
        };
        let began = Instant::now();
        let store = &self.server.node.store;
        let once = (request, self.memory());
        let done = store.execute_once(gate.epoch, gate.released, gate.lag, once, command)?;
        Stats::add(&self.server.node.stats.commands, 1);
        self.reign = Some(gate.epoch);
        let spec = self.todo.pop_front().and_then(|asked| asked.spec);
        self.request = None;
        let Once {
            executed,
            written_by,
        } = done;
        let Executed { reply, wait, wrote } = executed;
        let now = Instant::now();
        let tally = &self.server.tally;
        tally.one(spec, End::of(&reply), now.duration_since(began));
        self.hold_reply(&reply, gate.epoch, wait, wrote, now);
        // Wherever it was written: not behind that.
        self.last_write = written_by;
        Ok(())
    }

    fn execute_as_primary(&mut self, gate: &Gate) -> Result<(), Cannot> {
        if let Some(request) = self.request.clone() {
            return self.execute_once(gate, &request);
        }
        let mut done = std::mem::take(&mut self.done);
        let store = &self.server.node.store;
        let began = Instant::now();
        let (released, lag, touches) = (gate.released, gate.lag, !self.no_touch);
        let result = store.execute(gate.epoch, released, lag, touches, self.batch(), &mut done);
        let now = Instant::now();
        let replies = done.iter().map(|executed| &executed.reply);
        self.note_batch(now.duration_since(began), replies);
        counts::batch(&self.server.node.stats, self.batch(), &done);
        Stats::add(&self.server.node.stats.commands, done.len() as u64);
        self.reign = Some(gate.epoch);
        let carried_out = done.len();
        for executed in done.drain(..) {
            self.todo.pop_front();
            let Executed { reply, wait, wrote } = executed;
            self.hold_reply(&reply, gate.epoch, wait, wrote, now);
        }
        self.done = done;
        if carried_out == self.batch || matches!(self.front(), Some(Ok(Command::Keys(_)))) {
            self.batch = (2 * carried_out).clamp(1, MOST_BATCH);
        }
        result.map_err(Cannot::from)
    }

    fn execute_as_standby(&mut self) {
        let began = Instant::now();
        let (mut answers, mut bytes) = (Vec::new(), 0);
        let fresh = self.fresh_enough();
        for command in self.batch() {
            let store = &self.server.node.store;
            let answer = match (command.is_write(), &fresh) {
                (true, _) => READONLY,
                (false, Err(stale)) => stale.clone(),
                (false, Ok(at_least)) => store
                    .read_only(command, !self.no_touch, *at_least)
                    .unwrap_or(REPAIRED),
            };
            bytes += answer.bytes();
            answers.push(answer);
            // The others come when these have gone out.
            if bytes > MAX_HELD_BYTES {
                break;
            }
        }
        self.note_batch(began.elapsed(), answers.iter());
        Stats::add(&self.server.node.stats.commands, answers.len() as u64);
        for answer in answers {
            self.todo.pop_front();
            self.answer(&answer);
        }
    }

    /// The first commands of the batch were answered so, and took this long together.
    fn note_batch<'a>(&self, took: Duration, replies: impl ExactSizeIterator<Item = &'a Reply>) {
        let count = replies.len();
        let words = match self.server.is_slow(took) {
            true => slowlog::words(self.batch().take(count)),
            false => Vec::new(),
        };
        let batch = slowlog::Executed::Batch(&words, count);
        self.server.note_execution(self.client.id, took, batch);
        let specs = self.todo.iter().map(|asked| asked.spec);
        let ends = specs.zip(replies.map(End::of));
        self.server.tally.batch(ends, count, took);
    }
}
