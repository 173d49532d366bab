//! What a command answers and which effects it has, without carrying them out.
//!
//! `plan` is a function of the keyspace, the command, the time and a random number, and of nothing
//! else: the simulation repeats it. What the reply shows is in `depends_on` (R32): the newest
//! record not yet released among the keys it looked at, keys it did not find included.

mod bitmap;
mod counters;
mod dump;
mod generic;
mod lcs;
mod object;
mod set;
mod strings;

use bytes::Bytes;

use super::access::{Dice, Tracking};
use super::entry::Entry;
use super::{Effect, Effects, Keyspace};
use crate::command::KeyCommand;
use crate::resp::Reply;
use crate::units::{Lsn, Millis};

/// A command, thought through.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to log and apply; empty for a read, and for a write without effect.
    pub effects: Effects,
    /// What to answer, once the effects and everything the answer shows are released.
    pub reply: Reply,
    /// The newest unreleased record that the answer shows; zero for none. Where there are effects,
    /// their own record comes after it.
    pub depends_on: Lsn,
}

/// One command being planned.
pub(super) struct Planner<'a> {
    pub(super) keyspace: &'a Keyspace,
    touches: bool,
    now: Millis,
    random: u64,
    effects: Effects,
    depends_on: Lsn,
}

impl Keyspace {
    /// Plans `command` as of `now`, which must not be earlier than the newest record's time (R32);
    /// `random` decides RANDOMKEY, and which uses are counted. Nothing is changed but how keys are used.
    pub fn plan(&self, command: &KeyCommand, now: Millis, random: u64) -> Plan {
        self.plan_for(command, now, random, true)
    }

    /// The same; keys that are read count as used only if `touches` (CLIENT NO-TOUCH), or by TOUCH.
    pub fn plan_for(&self, command: &KeyCommand, now: Millis, random: u64, touches: bool) -> Plan {
        let mut planner = Planner {
            keyspace: self,
            touches: touches || matches!(command, KeyCommand::Touch { .. }),
            now,
            random,
            effects: Effects::new(),
            depends_on: Lsn::ZERO,
        };
        let reply = planner.command(command, random);
        Plan {
            effects: planner.effects,
            reply,
            depends_on: planner.depends_on,
        }
    }
}

impl<'a> Planner<'a> {
    fn command(&mut self, command: &KeyCommand, random: u64) -> Reply {
        match command {
            KeyCommand::Get { key } => self.get(key),
            KeyCommand::Set(set) => self.set(set),
            KeyCommand::GetDel { key } => self.get_del(key),
            KeyCommand::GetEx(get) => self.get_ex(get),
            KeyCommand::MGet { keys } => {
                Reply::Array(keys.iter().map(|key| self.get(key)).collect())
            }
            KeyCommand::MSet { pairs } => self.set_all(pairs),
            KeyCommand::MSetNx { pairs } => self.set_all_if_missing(pairs),
            KeyCommand::Append { key, value } => self.append(key, value),
            KeyCommand::StrLen { key } => count(self.find(key).map_or(0, |e| e.value().len())),
            KeyCommand::GetRange { key, start, end } => self.get_range(key, *start, *end),
            KeyCommand::SetRange { key, offset, value } => self.set_range(key, *offset, value),
            KeyCommand::Lcs(lcs) => self.lcs(lcs),
            KeyCommand::GetBit { key, offset } => self.get_bit(key, *offset),
            KeyCommand::SetBit { key, offset, on } => self.set_bit(key, *offset, *on),
            KeyCommand::BitCount(search) => self.bit_count(search),
            KeyCommand::BitPos(search) => self.bit_pos(search),
            KeyCommand::BitOp { op, keys } => self.bit_op(*op, keys),
            KeyCommand::BitField { key, ops, .. } => self.bit_field(key, ops),
            KeyCommand::IncrBy { key, by } => self.increment(key, *by),
            KeyCommand::IncrByFloat { key, by } => self.increment_float(key, *by),
            KeyCommand::Del { keys } => self.delete(keys),
            KeyCommand::DelIfEqual { key, value } => self.delete_if_equal(key, value),
            KeyCommand::Exists { keys } => {
                count(keys.iter().filter(|key| self.look(key).is_some()).count())
            }
            KeyCommand::Touch { keys } => {
                count(keys.iter().filter(|key| self.find(key).is_some()).count())
            }
            KeyCommand::Rename(rename) => self.rename(rename),
            KeyCommand::Copy(copy) => self.copy(copy),
            KeyCommand::Object { key, question } => self.object(key, *question),
            KeyCommand::MemoryUsage { key } => self.memory_usage(key),
            KeyCommand::Dump { key } => self.dump(key),
            KeyCommand::Restore(restore) => self.restore(restore),
            KeyCommand::Expire(expire) => self.expire(expire),
            KeyCommand::Ttl { key, form } => self.ttl(key, *form),
            KeyCommand::Persist { key } => self.persist(key),
            KeyCommand::Type { key } => {
                let kind = if self.look(key).is_some() {
                    "string"
                } else {
                    "none"
                };
                Reply::Simple(kind.into())
            }
            KeyCommand::DbSize => self.db_size(),
            KeyCommand::Flush => self.flush(),
            KeyCommand::Keys { pattern } => self.keys(pattern),
            KeyCommand::Scan(scan) => {
                self.sees_all();
                self.scan(scan)
            }
            KeyCommand::RandomKey => self.random_key(random),
        }
    }

    /// Looks at `key` as [`Planner::look`] does, and uses it.
    fn find(&mut self, key: &[u8]) -> Option<&'a Entry> {
        let entry = self.look(key)?;
        let tracking = self.keyspace.access.tracking;
        if tracking != Tracking::Nothing && self.touches {
            self.random = Dice(self.random).roll();
            entry.set_clock(|clock| tracking.used(clock, self.now, self.random));
        }
        Some(entry)
    }

    /// Looks at `key`, which from here on the answer shows. An expired key is absent, and the
    /// effects say so (R32): else the answer could be taken back by a node with a slower clock.
    fn look(&mut self, key: &[u8]) -> Option<&'a Entry> {
        let keyspace = self.keyspace;
        let hash = keyspace.tables.hash(key);
        self.depends_on = self.depends_on.max(keyspace.pending.newest_of(hash));
        let entry = keyspace.tables.find(hash, key)?;
        if self.sees_expired(entry) {
            None
        } else {
            Some(entry)
        }
    }

    /// Whether `entry` has expired; if so, its DEL joins the effects.
    pub(super) fn sees_expired(&mut self, entry: &Entry) -> bool {
        let expired = entry.is_expired(self.now);
        if expired {
            self.effects.push(Effect::Del { key: entry.key() });
        }
        expired
    }

    /// The answer shows the whole keyspace.
    fn sees_all(&mut self) {
        self.depends_on = self.keyspace.pending.newest_of_all();
    }

    /// The effect of a command on one key that gives it a value. What was planned for that key
    /// before (the DEL of its expired value) is overtaken.
    fn put(&mut self, key: &[u8], value: &[u8], expire_at: Option<Millis>) {
        self.effects.clear();
        self.effects.push(Effect::Set {
            key,
            value,
            expire_at,
        });
    }

    fn get(&mut self, key: &Bytes) -> Reply {
        self.find(key)
            .map_or(Reply::Null, |entry| Reply::Bulk(entry.shared(..)))
    }
}

/// A number of keys or bytes as a reply.
fn count(number: usize) -> Reply {
    Reply::Integer(number as i64)
}

/// A position that counts from the end where it is negative.
fn from_start(at: i64, length: i64) -> i64 {
    if at < 0 { (length + at).max(0) } else { at }
}

/// With zeroes behind it up to that length.
fn grown(value: &[u8], bytes: usize) -> Vec<u8> {
    let mut grown = Vec::with_capacity(value.len().max(bytes));
    grown.extend_from_slice(value);
    if grown.len() < bytes {
        grown.resize(bytes, 0);
    }
    grown
}
