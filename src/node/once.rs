//! Writes that happen once, however often they are sent: a request with an id is remembered, with its
//! replies, in the very record of its effects. So whoever has the effects, on whichever node and after
//! whatever takeover, has the answer, too.
//!
//! What had no effect is not remembered: to carry it out again is to carry it out for the first time.

use std::time::Duration;

use bytes::Bytes;

use super::store::{Executed, Inner, Refused, Store};
use crate::command::KeyCommand;
use crate::keyspace::{
    Effect, Effects, Keyspace, Plan, Remembered, decode_replies, encode_replies, request_key,
};
use crate::replica::Lag;
use crate::resp::Reply;
use crate::units::{Epoch, Lsn, Millis};

const TOO_LONG: Reply =
    Reply::error("REPEATED this request was carried out; its reply was too long to be remembered");
const TOO_MANY: Reply = Reply::error(
    "BUSY as many request ids are remembered as limits.max_remembered_requests allows; nothing was \
     written. Say which are done (CLIENT REQUESTID new DONE old), or try again later",
);
const NOT_UNDERSTOOD: Reply = Reply::error(
    "REPEATED this request was carried out; its reply was remembered by a newer version",
);

/// A request's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Of this request.
    pub token: Bytes,
    /// Those whose answers were heard: they need not be remembered any more.
    pub done: Vec<Bytes>,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// For how long.
    pub span: Duration,
    /// How many requests at once.
    pub most: u64,
}

/// What is known of a request.
pub(super) enum Known {
    /// It was carried out and answered so. The record that this depends on (R32).
    Answered(Result<Vec<Reply>, Reply>, Lsn),
    /// Nothing; and whoever says so depends on that record.
    New(Lsn),
}

impl RequestId {
    pub(super) fn known(&self, keyspace: &Keyspace, now: Millis) -> Known {
        let key = request_key(&self.token);
        let plan = keyspace.plan(&KeyCommand::Get { key }, now, 0);
        match plan.reply {
            Reply::Bulk(value) => Known::Answered(
                match decode_replies(&value) {
                    Some(Remembered::Replies(replies)) => Ok(replies),
                    Some(Remembered::TooLong) => Err(TOO_LONG),
                    None => Err(NOT_UNDERSTOOD),
                },
                plan.depends_on,
            ),
            _ => Known::New(plan.depends_on),
        }
    }

    /// What keeps the replies. The error: there are too many.
    pub(super) fn remember(
        &self,
        keyspace: &Keyspace,
        memory: Memory,
        replies: &[Reply],
        now: Millis,
    ) -> Result<Effects, Reply> {
        let mut effects = Effects::new();
        for done in &self.done {
            let key = request_key(done);
            if keyspace.stored(&key).is_some() {
                effects.push(Effect::Del { key: &key });
            }
        }
        if effects.is_empty() && keyspace.remembered() as u64 >= memory.most {
            return Err(TOO_MANY);
        }
        let span_ms = u64::try_from(memory.span.as_millis()).unwrap_or(u64::MAX);
        effects.push(Effect::Set {
            key: &request_key(&self.token),
            value: &encode_replies(replies),
            expire_at: Some(Millis(now.0.saturating_add(span_ms))),
        });
        Ok(effects)
    }
}

/// A command with an id, judged.
#[derive(Debug)]
pub struct Once {
    /// As any other's.
    pub executed: Executed,
    /// The last record that it may have been in.
    pub written_by: Lsn,
}

impl Store {
    /// A primary's command with an id.
    pub fn execute_once(
        &self,
        epoch: Epoch,
        released: Lsn,
        limit: Option<Lag>,
        (request, memory): (&RequestId, Memory),
        command: &KeyCommand,
    ) -> Result<Once, Refused> {
        let mut inner = self.write();
        if inner.reign != Some(epoch) {
            return Err(Refused::NotPrimary);
        }
        inner.keyspace.prune_released(released);
        let now = self.now(&inner);
        self.track(&mut inner, now);
        let before = inner.applied.lsn;
        let result = self.once(&mut inner, epoch, limit, (request, memory), command, now);
        let after = self.unlock(inner, before);
        Ok(Once {
            executed: result?,
            written_by: after,
        })
    }

    fn once(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        limit: Option<Lag>,
        (request, memory): (&RequestId, Memory),
        command: &KeyCommand,
        now: Millis,
    ) -> Result<Executed, Refused> {
        let answered = |reply, wait| Executed {
            reply,
            wait,
            wrote: false,
        };
        let depends_on = match request.known(&inner.keyspace, now) {
            Known::Answered(replies, wait) => {
                let reply = replies.map(|mut replies| replies.pop().unwrap_or(Reply::Null));
                return Ok(answered(reply.unwrap_or_else(|error| error), wait));
            }
            Known::New(depends_on) => depends_on,
        };
        if let Some(refused) = self.lacks_room(inner, epoch, limit, command, now)? {
            return Ok(refused);
        }
        let mut plan = inner.keyspace.plan(command, now, self.random());
        plan.depends_on = plan.depends_on.max(depends_on);
        if !plan.effects.is_empty() {
            let replies = std::slice::from_ref(&plan.reply);
            match request.remember(&inner.keyspace, memory, replies, now) {
                Ok(effects) => plan.effects.extend(&effects),
                Err(refusal) => {
                    plan = Plan {
                        effects: Effects::new(),
                        reply: refusal,
                        depends_on,
                    };
                }
            }
        }
        let notices = self.notices_of(&inner.keyspace, command, &plan, now);
        self.record_plan(inner, epoch, limit, (plan, notices), now)
    }
}
