//! From MULTI to EXEC, and WATCH, of one connection.
//!
//! What comes behind MULTI is queued, and answered so; EXEC has the commands on keys carried out as one
//! record (`node/transact.rs`), and then answers the others in their places, as Redis does.

use std::time::Duration;

use tokio::time::Instant;

use super::session::{Asked, Cannot, DEPOSED, Mistake, READONLY, REPAIRED, Session, Way, Weight};
use super::session_commands;
use super::slowlog;
use super::tally::End;
use crate::command::{
    ClientCommand, Command, KeyCommand, SentinelCommand, SessionCommand, TransactionCommand,
};
use crate::node::{OUT_OF_MEMORY, Outcome, Serves, Stats, Transacted};
use crate::resp::Reply;

/// Commands that one transaction may have.
const MOST: usize = 1 << 20;

const QUEUED: Reply = Reply::Simple(std::borrow::Cow::Borrowed("QUEUED"));
const ABORTED: Reply = Reply::error("EXECABORT Transaction discarded because of previous errors.");
pub(super) const NOT_HERE: Reply = Reply::error("ERR Command not allowed inside a transaction");
const TOO_MANY: Reply = Reply::error("ERR a transaction may have at most 1048576 commands");

/// What was queued since MULTI.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    queue: Vec<Asked>,
    /// One could not be: EXEC does nothing.
    refused: bool,
}

impl Transaction {
    /// Whether EXEC may change keys.
    pub(super) fn writes(&self) -> bool {
        self.queue.iter().any(Asked::is_write)
    }
}

impl Session<'_> {
    /// Whether the command at the front joins a transaction.
    pub(super) fn queues(&self, front: &Result<Command, Mistake>) -> bool {
        use SessionCommand as S;
        use TransactionCommand as T;
        if self.transaction.is_none() {
            return false;
        }
        match front {
            Ok(Command::Session(S::Transaction(command))) => *command == T::Unwatch,
            Ok(Command::Session(S::Quit | S::Reset | S::CrossProtocol)) => false,
            Err(mistake) => mistake.weight != Weight::Ends,
            _ => true,
        }
    }

    /// Queues the command at the front.
    pub(super) fn queue_front(&mut self) {
        use SessionCommand as S;
        let Some(next) = self.todo.pop_front() else {
            return;
        };
        let standby = self.server.node.gate_now().serves == Serves::Standby;
        // As in Redis, whatever is queued: a queue takes memory, too.
        let full = !standby && self.server.node.store.is_out_of_memory();
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let refusal = match &next.what {
            Err(mistake) if mistake.weight == Weight::Aborts => Some(mistake.reply.clone()),
            Ok(Command::Keys(command)) if standby && command.is_write() => Some(READONLY),
            // They are answered more than once, and would tear EXEC's answer.
            Ok(Command::Session(
                S::Subscribe { .. }
                | S::PSubscribe { .. }
                | S::Unsubscribe { .. }
                | S::PUnsubscribe { .. }
                | S::SSubscribe { .. }
                | S::SUnsubscribe { .. }
                // It is EXEC that has one, and it comes before MULTI.
                | S::Client(ClientCommand::RequestId { .. })
                // It may have to wait for another node.
                | S::Sentinel(SentinelCommand::Failover { .. }),
            )) => Some(NOT_HERE),
            // They would end or stop what is to be answered.
            Ok(Command::Session(S::Shutdown | S::Sleep { .. })) => Some(NOT_HERE),
            _ if full => Some(OUT_OF_MEMORY),
            _ if transaction.queue.len() >= MOST => Some(TOO_MANY),
            _ => None,
        };
        match refusal {
            Some(reply) => {
                transaction.refused = true;
                transaction.queue = Vec::new();
                let tally = &self.server.tally;
                tally.one(next.spec, End::Rejected, Duration::ZERO);
                self.answer(&reply);
            }
            None => {
                if !transaction.refused {
                    transaction.queue.push(next);
                    self.client.queues(Some(transaction.queue.len()));
                }
                self.answer(&QUEUED);
            }
        }
    }

    /// Carries out what begins, ends or guards a transaction.
    pub(super) fn transact(&mut self) -> Result<(), Cannot> {
        let Some(Ok(Command::Session(SessionCommand::Transaction(command)))) = self.front() else {
            return Ok(());
        };
        let began = self.transaction.is_some();
        let reply = match command {
            TransactionCommand::Begin if began => Reply::error("ERR MULTI calls can not be nested"),
            TransactionCommand::Begin => {
                self.transaction = Some(Transaction::default());
                self.client.queues(Some(0));
                Reply::OK
            }
            TransactionCommand::Discard if began => {
                self.forget_transaction();
                self.request = None;
                Reply::OK
            }
            TransactionCommand::Discard => Reply::error("ERR DISCARD without MULTI"),
            TransactionCommand::Unwatch => {
                self.watched = None;
                Reply::OK
            }
            TransactionCommand::Watch { .. } if began => {
                Reply::error("ERR WATCH inside MULTI is not allowed")
            }
            TransactionCommand::Watch { keys } => {
                let keys = keys.clone();
                self.watch(&keys)?
            }
            TransactionCommand::Execute if began => return self.execute_transaction(),
            TransactionCommand::Execute => Reply::error("ERR EXEC without MULTI"),
        };
        self.todo.pop_front();
        self.answer(&reply);
        Ok(())
    }

    fn watch(&mut self, keys: &[bytes::Bytes]) -> Result<Reply, Cannot> {
        if self.lame_until.is_some() {
            return Ok(DEPOSED);
        }
        let gate = self.server.node.gate_now();
        let way = self.way(&gate)?;
        let store = &self.server.node.store;
        let watched = self.watched.get_or_insert_default();
        match way {
            Way::Primary => store.watch(gate.epoch, gate.released, gate.lag, keys, watched)?,
            Way::Standby => store.watch_here(keys, watched),
        }
        Ok(Reply::OK)
    }

    /// EXEC. The transaction stays where it cannot be carried out yet.
    fn execute_transaction(&mut self) -> Result<(), Cannot> {
        if self.transaction.as_ref().is_some_and(|found| found.refused) {
            self.todo.pop_front();
            self.forget_transaction();
            self.answer(&ABORTED);
            return Ok(());
        }
        if let Some(taken) = self.permission_was_taken() {
            self.todo.pop_front();
            self.forget_transaction();
            self.answer(&taken);
            return Ok(());
        }
        self.execute_queue()
    }

    /// MULTI and WATCH never were; what was queued.
    pub(super) fn forget_transaction(&mut self) -> Vec<Asked> {
        self.watched = None;
        self.client.queues(None);
        let ended = self.transaction.take();
        ended.map(|ended| ended.queue).unwrap_or_default()
    }

    fn execute_queue(&mut self) -> Result<(), Cannot> {
        let Some(transaction) = &self.transaction else {
            return Ok(());
        };
        let node = &self.server.node;
        let queue = transaction.queue.iter();
        let commands: Vec<&KeyCommand> = queue.filter_map(Asked::keys).collect();
        if commands.is_empty() && self.watched.is_none() {
            // What is asked of no keys is answered by anybody.
            let reply = self.reply_to_all(Outcome::Done(Vec::new()), Duration::ZERO);
            self.answer(&reply);
            return Ok(());
        }
        if self.lame_until.is_some() {
            let reply = self.reply_to_all(Outcome::Refused(DEPOSED), Duration::ZERO);
            self.answer(&reply);
            return Ok(());
        }
        let gate = node.gate_now();
        let memory = self.memory();
        let way = self.way(&gate)?;
        let began = Instant::now();
        let done = |commands: &[&KeyCommand]| {
            let took = began.elapsed();
            let words = match self.server.is_slow(took) {
                true => slowlog::words(commands.iter().copied()),
                false => Vec::new(),
            };
            let executed = slowlog::Executed::Transaction(&words, commands.len());
            self.server.note_execution(self.client.id, took, executed);
            took
        };
        match way {
            Way::Standby => {
                let watched = self.watched.as_ref();
                let read = match self.fresh_enough() {
                    Err(stale) => Some(Outcome::Refused(stale)),
                    Ok(at_least) => node.store.read_together(watched, &commands, at_least),
                };
                let took = done(&commands);
                let reply = self.reply_to_all(read.unwrap_or(Outcome::Refused(REPAIRED)), took);
                self.answer(&reply);
            }
            Way::Primary => {
                let Transacted {
                    outcome,
                    wait,
                    wrote,
                } = node.store.transact(
                    gate.epoch,
                    gate.released,
                    gate.lag,
                    self.watched.as_mut(),
                    self.request.as_ref().map(|request| (request, memory)),
                    &commands,
                )?;
                let took = done(&commands);
                self.reign = Some(gate.epoch);
                if self.request.take().is_some() {
                    self.last_write = node.store.applied();
                }
                if wrote {
                    // A WAIT among the commands counts its copies.
                    self.last_write = wait;
                }
                let reply = self.reply_to_all(outcome, took);
                self.hold_reply(&reply, gate.epoch, wait, wrote, Instant::now());
            }
        }
        Ok(())
    }

    /// EXEC's answer: what the keys' commands said, which took so long together, in their places among the
    /// others.
    fn reply_to_all(&mut self, outcome: Outcome, took: Duration) -> Reply {
        self.todo.pop_front();
        let queue = self.forget_transaction();
        let replies = match outcome {
            Outcome::Done(replies) => replies,
            Outcome::Broken => return Reply::NullArray,
            Outcome::Refused(reply) => return reply,
        };
        Stats::add(&self.server.node.stats.commands, replies.len() as u64);
        let share = took / u32::try_from(replies.len()).unwrap_or(u32::MAX).max(1);
        let mut replies = replies.into_iter();
        let all = queue.into_iter().map(|Asked { spec, what }| {
            let (reply, took) = match what {
                Ok(Command::Keys(_)) => (replies.next().unwrap_or(Reply::Null), share),
                Ok(Command::Session(command)) => {
                    (session_commands::reply_to(self, command), Duration::ZERO)
                }
                Err(mistake) => (mistake.reply, Duration::ZERO),
            };
            self.server.tally.one(spec, End::of(&reply), took);
            // EXEC itself has not failed.
            if let Reply::Error(text) = &reply {
                self.server.note_error(text);
            }
            reply
        });
        Reply::Array(all.collect())
    }
}
