//! Commands are carried out, in order, as this node may: a primary's, a standby's, or not at all.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    After, Cannot, DEPOSED, MAX_HELD_BYTES, MOST_BATCH, Mistake, READONLY, REPAIRED, Session,
    TURN_BYTES, Way, Weight,
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
                && let Some(until) = self.is_paused(front)
            {
                self.paused_until = Some(until);
                return;
            }
            let done = match front {
                _ if self.queues(front) => {
                    self.queue_front();
                    Ok(())
                }
                Ok(Command::Keys(_)) if self.only_subscriptions() => {
                    self.todo.pop_front();
                    self.answer(&Reply::error(
                        "ERR Can't execute this command: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / \
                         PING / QUIT / RESET are allowed in this context",
                    ));
                    Ok(())
                }
                Ok(Command::Keys(_)) => self.execute_keys(),
                Ok(Command::Session(SessionCommand::Transaction(_))) => self.transact(),
                Ok(Command::Session(SessionCommand::Wait(_))) => self.wait_for_copies(),
                Ok(Command::Session(SessionCommand::Sentinel(SentinelCommand::Failover {
                    master,
                }))) => {
                    let ordered = sentinel::order(self.server, master);
                    self.todo.pop_front();
                    self.asks_a_sentinel();
                    match ordered {
                        Ordered::Now(reply) => self.answer(&reply),
                        Ordered::Later(answer) => self.awaited = Some(answer),
                    }
                    Ok(())
                }
                Ok(Command::Session(SessionCommand::Sleep { span })) => {
                    let span = *span;
                    if !self.has_slept(span) {
                        return;
                    }
                    Ok(())
                }
                Ok(Command::Session(_)) => {
                    let Some(Ok(Command::Session(command))) = self.todo.pop_front() else {
                        return;
                    };
                    if session_commands::answer(self, command) == After::Close {
                        self.todo.clear();
                        self.closing = true;
                    }
                    Ok(())
                }
                Err(_) => {
                    let Some(Err(mistake)) = self.todo.pop_front() else {
                        return;
                    };
                    if mistake.weight == Weight::Ends {
                        self.forget_transaction();
                    }
                    self.answer(&mistake.reply);
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

    /// DEBUG SLEEP at the front: whether it is over, and answered. Replies before it go out meanwhile.
    fn has_slept(&mut self, span: Duration) -> bool {
        let now = Instant::now();
        let until = *self.asleep_until.get_or_insert(now + span);
        if now < until {
            return false;
        }
        self.asleep_until = None;
        self.todo.pop_front();
        self.answer(&Reply::OK);
        true
    }

    /// Answers the command at the front, which is EXEC's transaction if it is that.
    fn refuse_front(&mut self, why: &'static str) {
        if let Some(Ok(Command::Session(_))) = self.todo.pop_front() {
            self.forget_transaction();
        }
        self.answer(&Reply::error(why));
    }

    /// Refuses what a client asks of a node that is not the primary, and does not serve reads either.
    fn refuse_batch(&mut self, reads: &Reply) {
        let writes: Vec<bool> = self.batch().map(KeyCommand::is_write).collect();
        for write in writes {
            self.todo.pop_front();
            let reply = if write { &READONLY } else { reads };
            self.answer(reply);
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
        let keys = |todo: &'_ Result<Command, Mistake>| matches!(todo, Ok(Command::Keys(_)));
        // The first is looked at before it gets here.
        let most = if self.server.pause.is_on() {
            1
        } else {
            self.batch
        };
        self.todo
            .iter()
            .take_while(move |todo| keys(todo))
            .take(most)
            .filter_map(|todo| match todo {
                Ok(Command::Keys(command)) => Some(command),
                _ => None,
            })
    }

    /// The write at the front, which has an id. A read takes the id with it.
    fn execute_once(&mut self, gate: &Gate, request: &RequestId) -> Result<(), Cannot> {
        let Some(Ok(Command::Keys(command))) = self.todo.front() else {
            return Ok(());
        };
        let store = &self.server.node.store;
        let once = (request, self.memory());
        let done = store.execute_once(gate.epoch, gate.released, gate.lag, once, command)?;
        Stats::add(&self.server.node.stats.commands, 1);
        self.reign = Some(gate.epoch);
        self.todo.pop_front();
        self.request = None;
        let Once {
            executed,
            written_by,
        } = done;
        let Executed { reply, wait, wrote } = executed;
        self.hold_reply(&reply, gate.epoch, wait, wrote, Instant::now());
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
        self.note_batch(now.duration_since(began), done.len());
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
        if carried_out == self.batch || matches!(self.todo.front(), Some(Ok(Command::Keys(_)))) {
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
        self.note_batch(began.elapsed(), answers.len());
        Stats::add(&self.server.node.stats.commands, answers.len() as u64);
        for answer in answers {
            self.todo.pop_front();
            self.answer(&answer);
        }
    }

    /// The first `count` commands of the batch took this long together.
    fn note_batch(&self, took: Duration, count: usize) {
        let words = match self.server.is_slow(took) {
            true => slowlog::words(self.batch().take(count)),
            false => Vec::new(),
        };
        let batch = slowlog::Executed::Batch(&words, count);
        self.server.note_execution(self.client.id, took, batch);
    }
}
