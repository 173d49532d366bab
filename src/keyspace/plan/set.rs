//! Planning SET and its relatives, GETEX and GETDEL.

use bytes::Bytes;

use super::Planner;
use crate::command::{
    GetExCommand, GetExExpiry, SetCommand, SetCondition, SetExpiry, SetReply, invalid_expire_time,
};
use crate::keyspace::Effect;
use crate::keyspace::entry::Entry;
use crate::resp::Reply;
use crate::units::Millis;

impl Planner<'_> {
    pub(super) fn set(&mut self, set: &SetCommand) -> Reply {
        let at = match &set.expiry {
            SetExpiry::At(expiry) => match expiry.at(self.now) {
                Some(at) => Some(at),
                None => return invalid_expire_time(set.name),
            },
            SetExpiry::Clear | SetExpiry::Keep => None,
        };
        // A plain SET does not care what was there: the hot path looks nothing up.
        let blind = set.condition == SetCondition::Always
            && set.reply == SetReply::Ok
            && set.expiry != SetExpiry::Keep;
        let old = if blind { None } else { self.find(&set.key) };
        let stored = match &set.condition {
            SetCondition::Always => true,
            SetCondition::IfMissing => old.is_none(),
            SetCondition::IfExists => old.is_some(),
            SetCondition::IfEqual(wanted) => old.is_some_and(|old| old.value() == &wanted[..]),
        };
        if stored {
            let kept = old.and_then(Entry::expire_at);
            let expire_at = if set.expiry == SetExpiry::Keep {
                kept
            } else {
                at
            };
            self.put_until(&set.key, &set.value, expire_at);
        }
        match (set.reply, stored) {
            (SetReply::OldValue, _) => old.map_or(Reply::Null, |old| Reply::Bulk(old.shared(..))),
            (SetReply::Count, stored) => Reply::Integer(i64::from(stored)),
            (SetReply::Ok, true) => Reply::OK,
            (SetReply::Ok, false) => Reply::Null,
        }
    }

    /// As [`Planner::put`], but a key whose time has already passed is deleted at once: there is
    /// no use in logging a value nobody may see.
    fn put_until(&mut self, key: &[u8], value: &[u8], expire_at: Option<Millis>) {
        match expire_at {
            Some(at) if at < self.now => {
                self.effects.clear();
                self.effects.push(Effect::Del { key });
            }
            _ => self.put(key, value, expire_at),
        }
    }

    pub(super) fn get_ex(&mut self, get: &GetExCommand) -> Reply {
        let Some(entry) = self.find(&get.key) else {
            return Reply::Null;
        };
        let expire_at = match &get.expiry {
            GetExExpiry::Keep => return Reply::Bulk(entry.shared(..)),
            GetExExpiry::Clear => None,
            GetExExpiry::At(Err(error)) => return error.clone(),
            GetExExpiry::At(Ok(expiry)) => match expiry.at(self.now) {
                None => return invalid_expire_time("getex"),
                Some(at) if at <= self.now => {
                    self.effects.push(Effect::Del { key: &get.key });
                    return Reply::Bulk(entry.shared(..));
                }
                at => at,
            },
        };
        self.change_expiry(entry, expire_at);
        Reply::Bulk(entry.shared(..))
    }

    pub(super) fn get_del(&mut self, key: &Bytes) -> Reply {
        let Some(entry) = self.find(key) else {
            return Reply::Null;
        };
        self.effects.push(Effect::Del { key });
        Reply::Bulk(entry.shared(..))
    }

    pub(super) fn delete_if_equal(&mut self, key: &[u8], wanted: &[u8]) -> Reply {
        let equal = self.find(key).is_some_and(|entry| entry.value() == wanted);
        if equal {
            self.effects.push(Effect::Del { key });
        }
        Reply::Integer(i64::from(equal))
    }

    /// Every pair is set, its expiry removed. No key is looked at.
    pub(super) fn set_all(&mut self, pairs: &[(Bytes, Bytes)]) -> Reply {
        for (key, value) in pairs {
            self.effects.push(Effect::Set {
                key,
                value,
                expire_at: None,
            });
        }
        Reply::OK
    }

    pub(super) fn set_all_if_missing(&mut self, pairs: &[(Bytes, Bytes)]) -> Reply {
        if pairs.iter().any(|(key, _)| self.find(key).is_some()) {
            return Reply::Integer(0);
        }
        self.effects.clear();
        self.set_all(pairs);
        Reply::Integer(1)
    }
}
