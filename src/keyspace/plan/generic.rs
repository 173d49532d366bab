//! Planning what treats keys as such: deletion, expiry, the keyspace as a whole.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Planner, count};
use crate::command::{
    CopyCommand, ExpireCommand, RenameCommand, TtlForm, glob_matches, invalid_expire_time,
};
use crate::keyspace::entry::Entry;
use crate::keyspace::{Effect, is_reserved};
use crate::resp::Reply;
use crate::units::Millis;

impl Planner<'_> {
    pub(super) fn delete(&mut self, keys: &[Bytes]) -> Reply {
        // A key named twice is deleted, and counted, once.
        let mut seen = HashSet::new();
        let mut deleted = 0;
        for key in keys {
            if (keys.len() == 1 || seen.insert(key)) && self.find(key).is_some() {
                self.effects.push(Effect::Del { key });
                deleted += 1;
            }
        }
        count(deleted)
    }

    /// The value is logged under its new name: effects are absolute.
    pub(super) fn rename(&mut self, rename: &RenameCommand) -> Reply {
        let RenameCommand { from, to, only_new } = rename;
        let Some(entry) = self.find(from) else {
            return Reply::error("ERR no such key");
        };
        if from == to || (*only_new && self.find(to).is_some()) {
            return if *only_new { count(0) } else { Reply::OK };
        }
        self.put_as(to, entry);
        self.effects.push(Effect::Del { key: entry.key() });
        if *only_new { count(1) } else { Reply::OK }
    }

    pub(super) fn copy(&mut self, copy: &CopyCommand) -> Reply {
        let Some(entry) = self.find(&copy.from) else {
            return count(0);
        };
        if !copy.replace && self.find(&copy.to).is_some() {
            return count(0);
        }
        self.put_as(&copy.to, entry);
        count(1)
    }

    /// The effect of giving another key what this one has.
    fn put_as(&mut self, key: &[u8], entry: &Entry) {
        self.effects.push(Effect::Set {
            key,
            value: entry.value(),
            expire_at: entry.expire_at(),
        });
    }

    pub(super) fn expire(&mut self, expire: &ExpireCommand) -> Reply {
        let Some(at) = expire.at(self.now) else {
            return invalid_expire_time(expire.name);
        };
        let Some(entry) = self.find(&expire.key) else {
            return Reply::Integer(0);
        };
        let old = entry
            .expire_at()
            .map(|old| i64::try_from(old.0).unwrap_or(i64::MAX));
        let condition = expire.condition;
        let refused = condition.if_none && old.is_some()
            || condition.if_some && old.is_none()
            || condition.if_later && old.is_none_or(|old| at <= old)
            || condition.if_earlier && old.is_some_and(|old| at >= old);
        if refused {
            return Reply::Integer(0);
        }
        match u64::try_from(at) {
            Ok(at) if at > self.now.0 => self.change_expiry(entry, Some(Millis(at))),
            _ => self.effects.push(Effect::Del { key: entry.key() }),
        }
        Reply::Integer(1)
    }

    /// The effect of an expiry, or of none any more. One that stays the same counts as a change, too:
    /// who watches the key hears of it, as in Redis.
    pub(super) fn change_expiry(&mut self, entry: &Entry, expire_at: Option<Millis>) {
        if expire_at.is_some() || entry.expire_at().is_some() {
            self.touch(entry, expire_at);
        }
    }

    /// The effect of giving a key this expiry, which may be what it has.
    pub(super) fn touch(&mut self, entry: &Entry, expire_at: Option<Millis>) {
        self.effects.push(Effect::Expire {
            key: entry.key(),
            expire_at,
        });
    }

    pub(super) fn persist(&mut self, key: &[u8]) -> Reply {
        let Some(entry) = self.find(key) else {
            return Reply::Integer(0);
        };
        let had_expiry = entry.expire_at().is_some();
        self.change_expiry(entry, None);
        Reply::Integer(i64::from(had_expiry))
    }

    /// -2: no such key; -1: no expiry. Seconds are rounded, as in Redis.
    pub(super) fn ttl(&mut self, key: &[u8], form: TtlForm) -> Reply {
        let Some(entry) = self.look(key) else {
            return Reply::Integer(-2);
        };
        let Some(at) = entry.expire_at() else {
            return Reply::Integer(-1);
        };
        let ms = if form.absolute {
            at.0
        } else {
            at.0.saturating_sub(self.now.0)
        };
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        Reply::Integer(if form.in_millis {
            ms
        } else {
            ms / 1000 + i64::from(ms % 1000 >= 500)
        })
    }

    pub(super) fn db_size(&mut self) -> Reply {
        self.sees_all();
        count(self.keyspace.len())
    }

    pub(super) fn flush(&mut self) -> Reply {
        self.sees_all();
        if !self.keyspace.is_empty() {
            self.effects.push(Effect::Flush);
        }
        Reply::OK
    }

    pub(super) fn keys(&mut self, pattern: &[u8]) -> Reply {
        self.sees_all();
        let keyspace = self.keyspace;
        let matching = keyspace.tables.iter().filter(|entry| {
            !is_reserved(entry.key())
                && (pattern == b"*" || glob_matches(pattern, entry.key(), false))
                && !self.sees_expired(entry)
        });
        Reply::Array(matching.map(|entry| Reply::bulk(entry.key())).collect())
    }

    /// Each key is as likely as any other. An expired one is passed over for the next.
    pub(super) fn random_key(&mut self, random: u64) -> Reply {
        self.sees_all();
        let keyspace = self.keyspace;
        let Some(start) = random.checked_rem(keyspace.tables.len() as u64) else {
            return Reply::Null;
        };
        let start = start as usize;
        if let Some(entry) = keyspace.tables.nth(start)
            && !is_reserved(entry.key())
            && !self.sees_expired(entry)
        {
            return Reply::bulk(entry.key());
        }
        let tables = &keyspace.tables;
        let others = tables
            .iter()
            .skip(start + 1)
            .chain(tables.iter().take(start));
        for entry in others {
            if !is_reserved(entry.key()) && !self.sees_expired(entry) {
                return Reply::bulk(entry.key());
            }
        }
        Reply::Null
    }
}
