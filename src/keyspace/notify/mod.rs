//! Keyspace events: what Redis calls the changes that a command makes.
//!
//! Promise: pure; from a command, what it answered and its effects, before these are applied. The events,
//! and their order, are those of Redis 7.0.15 (`tests/notifications.rs` compares). Only called where
//! somebody wants to be told.

mod classes;
mod commands;

use std::collections::HashMap;

use bytes::Bytes;

pub use classes::{EventClass, EventClasses};

use super::{Effect, EffectError, EffectIter, Effects, Keyspace, is_reserved};
use crate::command::KeyCommand;
use crate::resp::Reply;
use crate::units::Millis;

/// One event of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub class: EventClass,
    /// Its name.
    pub event: &'static str,
    /// The key.
    pub key: Bytes,
}

/// A command whose events are told.
pub(super) struct Teller<'a> {
    keyspace: &'a Keyspace,
    classes: EventClasses,
    now: Millis,
    /// Keys that this command has changed so far, and whether they are there now.
    changed: HashMap<Bytes, bool>,
    notices: Vec<Notice>,
}

impl Keyspace {
    /// The events of `command`, which was planned as of `now` and is not applied yet.
    pub fn notices(
        &self,
        classes: EventClasses,
        command: &KeyCommand,
        effects: &Effects,
        reply: &Reply,
        now: Millis,
    ) -> Vec<Notice> {
        let mut teller = self.teller(classes, now);
        if !reply.is_error() {
            teller.command(command, effects, reply);
        }
        // Whatever else was found expired on the way, as by KEYS.
        for effect in effects.iter() {
            if let Effect::Del { key } = effect {
                teller.is_there(key);
            }
        }
        teller.notices
    }

    /// The events of keys that expired, whose deletion these effects are.
    pub fn notices_of_expired(&self, classes: EventClasses, effects: &Effects) -> Vec<Notice> {
        let mut teller = self.teller(classes, Millis(u64::MAX));
        for key in effects.iter().filter_map(|effect| effect.key()) {
            teller.is_there(key);
        }
        teller.notices
    }

    /// The events of keys that memory had no room for, whose deletion these effects are.
    pub fn notices_of_evicted(&self, classes: EventClasses, effects: &Effects) -> Vec<Notice> {
        let mut teller = self.teller(classes, Millis(0));
        for key in effects.iter().filter_map(|effect| effect.key()) {
            teller.say(EventClass::Evicted, "evicted", key);
        }
        teller.notices
    }

    /// The events of a record that a standby is about to apply: the command is not known there, only
    /// what came of it.
    pub fn notices_of_record(
        &self,
        classes: EventClasses,
        payload: &[u8],
        time: Millis,
    ) -> Result<Vec<Notice>, EffectError> {
        let mut teller = self.teller(classes, time);
        for effect in EffectIter::new(payload) {
            match effect? {
                Effect::Set { key, .. } => {
                    teller.makes(key);
                    teller.say(EventClass::Strings, "set", key);
                }
                Effect::Del { key } => teller.deletes(key, "del"),
                Effect::Expire { key, expire_at } if teller.is_there(key) => {
                    let event = if expire_at.is_some() {
                        "expire"
                    } else {
                        "persist"
                    };
                    teller.say(EventClass::Generic, event, key);
                }
                Effect::Expire { .. } | Effect::Flush => {}
            }
        }
        Ok(teller.notices)
    }

    fn teller(&self, classes: EventClasses, now: Millis) -> Teller<'_> {
        Teller {
            keyspace: self,
            classes,
            now,
            changed: HashMap::new(),
            notices: Vec::new(),
        }
    }
}

impl Teller<'_> {
    fn say(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        // What the node keeps for itself is no client's business.
        if self.classes.has(class) && !is_reserved(key) {
            let key = Bytes::copy_from_slice(key);
            self.notices.push(Notice { class, event, key });
        }
    }

    fn becomes(&mut self, key: &[u8], there: bool) {
        match self.changed.get_mut(key) {
            Some(known) => *known = there,
            None => {
                self.changed.insert(Bytes::copy_from_slice(key), there);
            }
        }
    }

    /// Looks a key up. One that has expired is deleted by that, which is told.
    fn is_there(&mut self, key: &[u8]) -> bool {
        if let Some(there) = self.changed.get(key) {
            return *there;
        }
        if self.keyspace.is_expired(key, self.now) {
            self.becomes(key, false);
            self.say(EventClass::Expired, "expired", key);
            return false;
        }
        self.keyspace.holds(key)
    }

    /// Looks a key up to read it.
    fn reads(&mut self, key: &[u8]) -> bool {
        let there = self.is_there(key);
        if !there {
            self.say(EventClass::KeyMiss, "keymiss", key);
        }
        there
    }

    /// A key gets a value.
    fn makes(&mut self, key: &[u8]) {
        if !self.is_there(key) {
            self.makes_anew(key);
        }
    }

    /// The same of a key of which nothing stays.
    fn makes_anew(&mut self, key: &[u8]) {
        self.say(EventClass::New, "new", key);
        self.becomes(key, true);
    }

    fn deletes(&mut self, key: &[u8], event: &'static str) {
        if self.is_there(key) {
            self.becomes(key, false);
            self.say(EventClass::Generic, event, key);
        }
    }
}
