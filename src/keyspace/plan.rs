//! What a command would do: its effects, its answer, and what the answer depends on. Pure.

use std::collections::HashSet;

use bytes::Bytes;

use super::effect::{Effect, Effects};
use super::glob;
use super::number;
use super::table::{Entry, Keyspace};
use crate::command::{
    ExpireCondition, KeyCommand, SetCondition, SetExpiry, SetOptions, SetReply, TypeFilter, When,
};
use crate::resp::Reply;
use crate::units::{Lsn, Millis};

/// Longest string value, as Redis's `proto-max-bulk-len`.
const MAX_STRING_BYTES: usize = 512 << 20;

/// A planned command.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is to be logged and applied; empty for a read.
    pub effects: Effects,
    /// The answer.
    pub reply: Reply,
    /// The newest effect, possibly not released yet, that the answer depends on; the command's own
    /// effects come on top (R32).
    pub depends_on: Lsn,
}

/// A plan in the making.
struct Planner<'a> {
    keyspace: &'a Keyspace,
    now_ms: u64,
    effects: Vec<Effect>,
    depends_on: Lsn,
}

type Answer = Result<Reply, Reply>;

fn too_long() -> Reply {
    Reply::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
}

fn invalid_expire(command: &str) -> Reply {
    Reply::error(format!("ERR invalid expire time in '{command}' command"))
}

impl Keyspace {
    /// Plans a command as of `now`. `random` is used by RANDOMKEY alone.
    ///
    /// A key that has expired by `now` is planned as absent, and its deletion is among the effects:
    /// seeing an expiry logs it (R32). A reader without the right to log drops the effects.
    pub fn plan(&self, command: &KeyCommand, now: Millis, random: u64) -> Plan {
        let mut planner = Planner {
            keyspace: self,
            now_ms: now.0,
            effects: Vec::new(),
            depends_on: Lsn::ZERO,
        };
        let reply = planner.answer(command, random).unwrap_or_else(|error| {
            // A refused command changes nothing; what it saw to refuse it still counts.
            planner
                .effects
                .retain(|effect| matches!(effect, Effect::Del(_)));
            error
        });
        Plan {
            effects: Effects(planner.effects),
            reply,
            depends_on: planner.depends_on,
        }
    }
}

impl<'a> Planner<'a> {
    fn answer(&mut self, command: &KeyCommand, random: u64) -> Answer {
        match command {
            KeyCommand::Get(key) => Ok(self.get(key)),
            KeyCommand::MGet(keys) => Ok(Reply::Array(keys.iter().map(|k| self.get(k)).collect())),
            KeyCommand::Set {
                key,
                value,
                options,
            } => self.set(key, value, options),
            KeyCommand::GetDel(key) => {
                let old = self.get(key);
                if old != Reply::Null {
                    self.del(key);
                }
                Ok(old)
            }
            KeyCommand::GetEx { key, expiry } => self.getex(key, *expiry),
            KeyCommand::MSet {
                pairs,
                only_if_none,
            } => self.mset(pairs, *only_if_none),
            KeyCommand::Append { key, value } => self.append(key, value),
            KeyCommand::StrLen(key) => {
                Ok(integer(self.look(key).map_or(0, |entry| entry.value.len())))
            }
            KeyCommand::GetRange { key, start, end } => Ok(self.getrange(key, *start, *end)),
            KeyCommand::SetRange { key, offset, value } => self.setrange(key, *offset, value),
            KeyCommand::IncrBy { key, by } => self.incr(key, *by),
            KeyCommand::IncrByFloat { key, by } => self.incr_float(key, by),
            KeyCommand::Del(keys) => Ok(self.del_all(keys)),
            KeyCommand::Exists(keys) => Ok(integer(
                keys.iter().filter(|key| self.look(key).is_some()).count(),
            )),
            KeyCommand::Expire { key, at, condition } => self.expire(key, *at, *condition),
            KeyCommand::Ttl {
                key,
                seconds,
                absolute,
            } => Ok(self.ttl(key, *seconds, *absolute)),
            KeyCommand::Persist(key) => Ok(self.persist(key)),
            KeyCommand::Type(key) => {
                let kind = if self.look(key).is_some() {
                    "string"
                } else {
                    "none"
                };
                Ok(Reply::Simple(kind.into()))
            }
            KeyCommand::Keys(_)
            | KeyCommand::Scan { .. }
            | KeyCommand::RandomKey
            | KeyCommand::DbSize
            | KeyCommand::Flush => Ok(self.whole(command, random)),
        }
    }

    /// Commands over the whole keyspace wait for the last effect of all (R32).
    fn whole(&mut self, command: &KeyCommand, random: u64) -> Reply {
        let now_ms = self.now_ms;
        self.depends_on = self.keyspace.pending.last();
        let bulks = |keys: Vec<Bytes>| Reply::Array(keys.into_iter().map(Reply::Bulk).collect());
        match command {
            KeyCommand::Keys(pattern) => bulks(self.keyspace.all_matching(pattern, now_ms)),
            KeyCommand::Scan {
                cursor,
                pattern,
                count,
                filter,
            } => {
                let (next, keys) = self.keyspace.scan_from(*cursor, *count, |entry| {
                    *filter == TypeFilter::Any
                        && entry.is_live(now_ms)
                        && pattern
                            .as_ref()
                            .is_none_or(|p| glob::matches(p, &entry.key))
                });
                Reply::Array(vec![Reply::bulk(next.to_string()), bulks(keys)])
            }
            KeyCommand::RandomKey => self
                .keyspace
                .random_key(random, now_ms)
                .map_or(Reply::Null, Reply::Bulk),
            KeyCommand::Flush => {
                self.effects.push(Effect::Flush);
                Reply::OK
            }
            _ => integer(self.keyspace.len()),
        }
    }

    /// The live entry of a key. An expired one is planned away.
    fn look(&mut self, key: &Bytes) -> Option<&'a Entry> {
        let hash = self.keyspace.hash(key);
        self.depends_on = self.depends_on.max(self.keyspace.pending.of(hash));
        let entry = self.keyspace.find(hash, key)?;
        if entry.is_live(self.now_ms) {
            return Some(entry);
        }
        self.effects.push(Effect::Del(key.clone()));
        None
    }

    fn get(&mut self, key: &Bytes) -> Reply {
        self.look(key)
            .map_or(Reply::Null, |entry| Reply::bulk(&entry.value))
    }

    fn put(&mut self, key: &Bytes, value: Bytes, expire_at: u64) {
        self.effects.push(Effect::Set {
            key: key.clone(),
            value,
            expire_at,
        });
    }

    fn del(&mut self, key: &Bytes) {
        self.effects.push(Effect::Del(key.clone()));
    }

    /// An expiry for `command`; in the past it is taken, and the key is gone at once.
    fn absolute(&self, at: When, command: &str) -> Result<i64, Reply> {
        at.absolute(self.now_ms)
            .ok_or_else(|| invalid_expire(command))
    }

    fn set(&mut self, key: &Bytes, value: &Bytes, options: &SetOptions) -> Answer {
        let at = match options.expiry {
            SetExpiry::At(at) => Some(self.absolute(at, "set")?),
            _ => None,
        };
        let old = self.look(key);
        let holds = match &options.condition {
            SetCondition::Always => true,
            SetCondition::IfMissing => old.is_none(),
            SetCondition::IfThere => old.is_some(),
            SetCondition::IfEqual(wanted) => old.is_some_and(|entry| *entry.value == **wanted),
        };
        if holds {
            match (at, options.expiry) {
                (Some(at), _) if at <= self.now_ms as i64 => self.del(key),
                (Some(at), _) => self.put(key, value.clone(), at as u64),
                (None, SetExpiry::Keep) => {
                    self.put(key, value.clone(), old.map_or(0, |entry| entry.expire_at));
                }
                (None, _) => self.put(key, value.clone(), 0),
            }
        }
        Ok(match options.reply {
            SetReply::OldValue => old.map_or(Reply::Null, |entry| Reply::bulk(&entry.value)),
            SetReply::Integer => Reply::Integer(i64::from(holds)),
            SetReply::Status if holds => Reply::OK,
            SetReply::Status => Reply::Null,
        })
    }

    fn getex(&mut self, key: &Bytes, expiry: SetExpiry) -> Answer {
        let at = match expiry {
            SetExpiry::At(at) => Some(self.absolute(at, "getex")?),
            _ => None,
        };
        let Some(entry) = self.look(key) else {
            return Ok(Reply::Null);
        };
        match at {
            Some(at) if at <= self.now_ms as i64 => self.del(key),
            Some(at) => self.effects.push(Effect::Expire(key.clone(), at as u64)),
            None if expiry == SetExpiry::Keep && entry.expire_at != 0 => {
                self.effects.push(Effect::Expire(key.clone(), 0));
            }
            None => {}
        }
        Ok(Reply::bulk(&entry.value))
    }

    fn mset(&mut self, pairs: &[(Bytes, Bytes)], only_if_none: bool) -> Answer {
        if only_if_none
            && pairs
                .iter()
                .filter(|(key, _)| self.look(key).is_some())
                .count()
                > 0
        {
            return Ok(Reply::Integer(0));
        }
        for (key, value) in pairs {
            self.put(key, value.clone(), 0);
        }
        Ok(if only_if_none {
            Reply::Integer(1)
        } else {
            Reply::OK
        })
    }

    fn append(&mut self, key: &Bytes, tail: &Bytes) -> Answer {
        let old = self.look(key);
        let len = old.map_or(0, |entry| entry.value.len()) + tail.len();
        if len > MAX_STRING_BYTES {
            return Err(too_long());
        }
        if !tail.is_empty() || old.is_none() {
            let mut value = Vec::with_capacity(len);
            value.extend_from_slice(old.map_or(&[], |entry| &entry.value));
            value.extend_from_slice(tail);
            self.put(key, value.into(), old.map_or(0, |entry| entry.expire_at));
        }
        Ok(integer(len))
    }

    fn getrange(&mut self, key: &Bytes, start: i64, end: i64) -> Reply {
        let value: &[u8] = self.look(key).map_or(&[], |entry| &entry.value);
        let len = value.len() as i64;
        if start < 0 && end < 0 && start > end {
            return Reply::bulk("");
        }
        let place = |at: i64| {
            if at < 0 {
                at.saturating_add(len).max(0)
            } else {
                at
            }
        };
        let (start, end) = (place(start), place(end).min(len - 1));
        if start > end || len == 0 {
            return Reply::bulk("");
        }
        Reply::bulk(&value[start as usize..=end as usize])
    }

    fn setrange(&mut self, key: &Bytes, offset: i64, part: &Bytes) -> Answer {
        let old = self.look(key);
        let old_value: &[u8] = old.map_or(&[], |entry| &entry.value);
        if part.is_empty() {
            return Ok(integer(old_value.len()));
        }
        let end = usize::try_from(offset)
            .ok()
            .and_then(|at| at.checked_add(part.len()));
        let end = end
            .filter(|end| *end <= MAX_STRING_BYTES)
            .ok_or_else(too_long)?;
        let mut value = old_value.to_vec();
        value.resize(value.len().max(end), 0);
        value[end - part.len()..end].copy_from_slice(part);
        let len = value.len();
        self.put(key, value.into(), old.map_or(0, |entry| entry.expire_at));
        Ok(integer(len))
    }

    fn incr(&mut self, key: &Bytes, by: i64) -> Answer {
        let old = self.look(key);
        let value = match old {
            None => 0,
            Some(entry) => crate::command::parse_int(&entry.value)
                .ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))?,
        };
        let overflow = || Reply::error("ERR increment or decrement would overflow");
        let sum = value.checked_add(by).ok_or_else(overflow)?;
        self.put(
            key,
            sum.to_string().into(),
            old.map_or(0, |entry| entry.expire_at),
        );
        Ok(Reply::Integer(sum))
    }

    fn incr_float(&mut self, key: &Bytes, by: &Bytes) -> Answer {
        let old = self.look(key);
        let value: &[u8] = old.map_or(b"0", |entry| &entry.value);
        let sum = number::add(value, by)
            .ok_or_else(|| Reply::error("ERR value is not a valid float"))?
            .ok_or_else(|| Reply::error("ERR increment would produce NaN or Infinity"))?;
        self.put(
            key,
            sum.clone().into(),
            old.map_or(0, |entry| entry.expire_at),
        );
        Ok(Reply::bulk(sum))
    }

    fn del_all(&mut self, keys: &[Bytes]) -> Reply {
        let mut gone: HashSet<&Bytes> = HashSet::new();
        for key in keys {
            if self.look(key).is_some() {
                gone.insert(key);
            }
        }
        for key in &gone {
            self.del(key);
        }
        integer(gone.len())
    }

    fn expire(&mut self, key: &Bytes, at: When, condition: ExpireCondition) -> Answer {
        let at = self.absolute(at, "expire")?;
        let Some(entry) = self.look(key) else {
            return Ok(Reply::Integer(0));
        };
        let old = entry.expire_at;
        let refused = (condition.nx && old != 0)
            || (condition.xx && old == 0)
            || (condition.gt && (old == 0 || at <= old as i64))
            || (condition.lt && old != 0 && at >= old as i64);
        if refused {
            return Ok(Reply::Integer(0));
        }
        if at <= self.now_ms as i64 {
            self.del(key);
        } else {
            self.effects.push(Effect::Expire(key.clone(), at as u64));
        }
        Ok(Reply::Integer(1))
    }

    fn ttl(&mut self, key: &Bytes, seconds: bool, absolute: bool) -> Reply {
        let Some(entry) = self.look(key) else {
            return Reply::Integer(-2);
        };
        if entry.expire_at == 0 {
            return Reply::Integer(-1);
        }
        let (at, now_ms) = (entry.expire_at as i64, self.now_ms as i64);
        let ms = if absolute { at } else { (at - now_ms).max(0) };
        Reply::Integer(match (seconds, absolute) {
            (true, true) => ms / 1000,
            (true, false) => (ms + 500) / 1000,
            (false, _) => ms,
        })
    }

    fn persist(&mut self, key: &Bytes) -> Reply {
        let has = self.look(key).is_some_and(|entry| entry.expire_at != 0);
        if has {
            self.effects.push(Effect::Expire(key.clone(), 0));
        }
        Reply::Integer(i64::from(has))
    }
}

fn integer(n: usize) -> Reply {
    Reply::Integer(n as i64)
}
