//! EXEC: several commands as one record, all of them or none, on every node.
//!
//! Each command is carried out before the next is planned, which may look at what came of it; the
//! record is appended behind the last. Where it cannot be, the keys are made again what they were. Nobody
//! saw anything meanwhile: the lock is held from the first command to the record.

use std::collections::HashSet;

use bytes::Bytes;

use super::evict::{Room, TRANSACTION_OUT_OF_MEMORY};
use super::once::{Known, Memory, RequestId};
use super::store::{Inner, Refused, Store, never_fits, prefetch};
use crate::command::KeyCommand;
use crate::keyspace::{Changed, Effects, HashSeed, Keyspace};
use crate::replica::Lag;
use crate::resp::{MOST_REPLY_BYTES, Reply};
use crate::units::{Epoch, Lsn, Millis};
use crate::wal::{HEADER_BYTES, Kind};

const TOO_LONG: Reply = Reply::error(
    "ERR the replies of this transaction would have more than 1 GiB; nothing was done, ask for less",
);

/// The keys that a connection watches.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    keys: Vec<Bytes>,
    changed: Changed,
}

impl Watched {
    /// Whether one of them is not what it was.
    fn is_broken(&self, keyspace: &Keyspace, now: Millis) -> bool {
        self.changed.is_set() || self.keys.iter().any(|key| keyspace.is_expired(key, now))
    }

    /// The record that whoever is told of them depends on (R32).
    fn depends_on(&self, keyspace: &Keyspace, now: Millis) -> Lsn {
        let keys = self.keys.clone();
        keyspace
            .plan(&KeyCommand::Exists { keys }, now, 0)
            .depends_on
    }

    /// Hears nothing of what was done and undone just now, under one lock. (Other connections that
    /// watch those keys do: their transactions fail for nothing, and are tried again.)
    fn forget_draft(&mut self, keyspace: &mut Keyspace) {
        self.changed = Changed::default();
        for key in &self.keys {
            keyspace.watch(key, &self.changed);
        }
    }

    fn add(&mut self, keyspace: &mut Keyspace, keys: &[Bytes]) {
        for key in keys {
            keyspace.watch(key, &self.changed);
            if !self.keys.contains(key) {
                // It is kept for longer than the request it is a part of.
                self.keys.push(Bytes::copy_from_slice(key));
            }
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was carried out: a reply to each command.
    Done(Vec<Reply>),
    /// A watched key was changed; nothing was done.
    Broken,
    /// This answers all of it; nothing was done.
    Refused(Reply),
}

/// A transaction, judged; it is answered when `wait` is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Transacted {
    /// What became of it.
    pub outcome: Outcome,
    /// What the answer depends on (R32).
    pub wait: Lsn,
    /// Whether a record was appended.
    pub wrote: bool,
}

impl Transacted {
    fn without_record(outcome: Outcome, wait: Lsn) -> Transacted {
        Transacted {
            outcome,
            wait,
            wrote: false,
        }
    }
}

/// Commands carried out whose record is still to come.
struct Draft {
    effects: Effects,
    /// What makes the keys touched so far what they were.
    undo: Vec<u8>,
    touched: HashSet<Vec<u8>>,
    /// Since a FLUSHALL: what is there from then on does not depend on the keyspace, which is left
    /// as it was until the record is appended.
    emptied: Option<Keyspace>,
    /// The last record, and the number of the one to come.
    before: Lsn,
    next: Lsn,
}

impl Draft {
    fn behind(lsn: Lsn) -> Draft {
        Draft {
            effects: Effects::new(),
            undo: Vec::new(),
            touched: HashSet::new(),
            emptied: None,
            before: lsn,
            next: lsn.next(),
        }
    }

    fn carry_out(
        &mut self,
        keyspace: &mut Keyspace,
        effects: &Effects,
        seed: impl FnOnce() -> HashSeed,
    ) {
        let empties = effects.iter().any(|effect| effect.key().is_none());
        if empties && self.emptied.is_none() {
            self.undo(keyspace);
            self.emptied = Some(Keyspace::new(seed()));
        }
        if let Some(emptied) = &mut self.emptied {
            emptied.apply(effects, self.next);
        } else {
            for key in effects.iter().filter_map(|effect| effect.key()) {
                if self.touched.insert(key.to_vec()) {
                    keyspace.restate(key, &mut self.undo);
                }
            }
            keyspace.apply(effects, self.next);
        }
        self.effects.extend(effects);
    }

    fn undo(&mut self, keyspace: &mut Keyspace) {
        keyspace
            .apply_encoded(&self.undo, self.next)
            .expect("effects that were just encoded");
        keyspace.rewind(self.before);
        self.undo.clear();
        self.touched.clear();
    }
}

impl Store {
    /// WATCH at a primary. What has expired is deleted first: that is no change to come.
    pub fn watch(
        &self,
        epoch: Epoch,
        released: Lsn,
        limit: Option<Lag>,
        keys: &[Bytes],
        watched: &mut Watched,
    ) -> Result<(), Refused> {
        let mut inner = self.write();
        if inner.reign != Some(epoch) {
            return Err(Refused::NotPrimary);
        }
        inner.keyspace.prune_released(released);
        let (now, before) = (self.now(&inner), inner.applied.lsn);
        let keys_there = KeyCommand::Exists {
            keys: keys.to_vec(),
        };
        self.execute_one(&mut inner, epoch, limit, true, &keys_there, now)?;
        watched.add(&mut inner.keyspace, keys);
        self.unlock(inner, before);
        Ok(())
    }

    /// WATCH at a standby.
    pub fn watch_here(&self, keys: &[Bytes], watched: &mut Watched) {
        watched.add(&mut self.write().keyspace, keys);
    }

    /// EXEC at a standby, of commands that only read. `None` as for [`Store::read_only`].
    pub fn read_together(
        &self,
        watched: Option<&Watched>,
        commands: &[&KeyCommand],
        at_least: Lsn,
    ) -> Option<Outcome> {
        let inner = self.read();
        if !inner.is_exact() || inner.applied.lsn < at_least {
            return None;
        }
        let now = self.host.wall();
        if watched.is_some_and(|watched| watched.is_broken(&inner.keyspace, now)) {
            return Some(Outcome::Broken);
        }
        let plan = |command: &&KeyCommand| inner.keyspace.plan(command, now, self.random());
        let replies = commands.iter().map(|command| plan(command).reply);
        Some(Outcome::Done(replies.collect()))
    }

    /// EXEC at a primary.
    pub fn transact(
        &self,
        epoch: Epoch,
        released: Lsn,
        limit: Option<Lag>,
        watched: Option<&mut Watched>,
        once: Option<(&RequestId, Memory)>,
        commands: &[&KeyCommand],
    ) -> Result<Transacted, Refused> {
        if once.is_none()
            && commands.iter().all(|command| !command.is_write())
            && let Some(read) = self.read_at_once(epoch, watched.as_deref(), commands)?
        {
            return Ok(read);
        }
        let mut inner = self.write();
        if inner.reign != Some(epoch) {
            return Err(Refused::NotPrimary);
        }
        inner.keyspace.prune_released(released);
        prefetch(&inner, commands.iter().copied());
        let now = self.now(&inner);
        self.track(&mut inner, now);
        let mut wait = Lsn::ZERO;
        if let Some((request, _)) = once {
            match request.known(&inner.keyspace, now) {
                // What it watched was as it should be then.
                Known::Answered(replies, wait) => {
                    let outcome = replies.map_or_else(Outcome::Refused, Outcome::Done);
                    return Ok(Transacted::without_record(outcome, wait));
                }
                Known::New(depends_on) => wait = depends_on,
            }
        }
        if commands.iter().any(|command| command.may_grow())
            && self.make_room(&mut inner, epoch, limit, now)? == Room::None
        {
            let outcome = Outcome::Refused(TRANSACTION_OUT_OF_MEMORY);
            return Ok(Transacted::without_record(outcome, Lsn::ZERO));
        }
        if let Some(watched) = &watched {
            let depends_on = watched.depends_on(&inner.keyspace, now);
            wait = wait.max(depends_on);
            if watched.is_broken(&inner.keyspace, now) {
                return Ok(Transacted::without_record(Outcome::Broken, wait));
            }
        }
        let mut draft = Draft::behind(inner.applied.lsn);
        let mut replies = Vec::with_capacity(commands.len());
        let mut notices = Vec::new();
        let (mut bytes, mut refusal) = (0, None);
        for command in commands {
            let keyspace = draft.emptied.as_ref().unwrap_or(&inner.keyspace);
            let plan = keyspace.plan(command, now, self.random());
            notices.extend(self.notices_of(keyspace, command, &plan, now));
            if !plan.effects.is_empty() {
                let seed = || self.host.hash_seed();
                draft.carry_out(&mut inner.keyspace, &plan.effects, seed);
            }
            wait = wait.max(plan.depends_on);
            bytes += plan.reply.bytes();
            replies.push(plan.reply);
            if bytes > MOST_REPLY_BYTES {
                // Each may be a state of a large value that nothing else keeps any more.
                refusal = Some(TOO_LONG);
                break;
            }
        }
        if draft.effects.is_empty() {
            self.notices.add(Some(epoch), wait, notices);
            let outcome = refusal.map_or(Outcome::Done(replies), Outcome::Refused);
            return Ok(Transacted::without_record(outcome, wait));
        }
        let remembered = match (refusal, once) {
            (Some(refusal), _) => Err(refusal),
            (None, None) => Ok(()),
            (None, Some((request, memory))) => {
                let keyspace = draft.emptied.as_ref().unwrap_or(&inner.keyspace);
                let effects = request.remember(keyspace, memory, &replies, now);
                let seed = || self.host.hash_seed();
                effects.map(|effects| draft.carry_out(&mut inner.keyspace, &effects, seed))
            }
        };
        let recorded = match remembered {
            Ok(()) => self.record(&mut inner, epoch, limit, &draft, now),
            Err(refusal) => Ok(Some(refusal)),
        };
        match recorded {
            Ok(None) => self.notices.add(Some(epoch), draft.next, notices),
            Ok(Some(reply)) => {
                draft.undo(&mut inner.keyspace);
                let outcome = Outcome::Refused(reply);
                return Ok(Transacted::without_record(outcome, Lsn::ZERO));
            }
            Err(refused) => {
                draft.undo(&mut inner.keyspace);
                if let Some(watched) = watched {
                    watched.forget_draft(&mut inner.keyspace);
                }
                return Err(refused);
            }
        }
        self.unlock(inner, draft.before);
        Ok(Transacted {
            outcome: Outcome::Done(replies),
            wait: wait.max(draft.next),
            wrote: true,
        })
    }

    /// Commands that only read share the lock. `None` where one finds an expired key, which has to be
    /// deleted.
    fn read_at_once(
        &self,
        epoch: Epoch,
        watched: Option<&Watched>,
        commands: &[&KeyCommand],
    ) -> Result<Option<Transacted>, Refused> {
        let inner = self.read();
        if inner.reign != Some(epoch) {
            return Err(Refused::NotPrimary);
        }
        prefetch(&inner, commands.iter().copied());
        let now = self.now(&inner);
        let mut wait = Lsn::ZERO;
        if let Some(watched) = watched {
            wait = watched.depends_on(&inner.keyspace, now);
            if watched.is_broken(&inner.keyspace, now) {
                return Ok(Some(Transacted::without_record(Outcome::Broken, wait)));
            }
        }
        let mut replies = Vec::with_capacity(commands.len());
        let mut notices = Vec::new();
        for command in commands {
            let plan = inner.keyspace.plan(command, now, self.random());
            if !plan.effects.is_empty() {
                return Ok(None);
            }
            notices.extend(self.notices_of(&inner.keyspace, command, &plan, now));
            wait = wait.max(plan.depends_on);
            replies.push(plan.reply);
        }
        self.notices.add(Some(epoch), wait, notices);
        let done = Transacted::without_record(Outcome::Done(replies), wait);
        Ok(Some(done))
    }

    /// Appends the draft's record; or what to answer where it will never be.
    fn record(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        limit: Option<Lag>,
        draft: &Draft,
        now: Millis,
    ) -> Result<Option<Reply>, Refused> {
        if inner.paused {
            return Err(Refused::Paused);
        }
        let payload = draft.effects.encoded();
        let bytes = payload.len() + HEADER_BYTES;
        if let Some(text) = never_fits(bytes, limit) {
            return Ok(Some(Reply::Error(text.into())));
        }
        if !self.within(inner, limit, bytes, now) {
            return Err(Refused::Lagging);
        }
        let after = self
            .log()
            .append_unannounced(epoch, now, Kind::Effects, payload)?;
        assert_eq!(after.lsn, draft.next, "a reign's records follow each other");
        if draft.emptied.is_some() {
            inner.keyspace.apply(&draft.effects, after.lsn);
        }
        self.appended(inner, after);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Effect;

    fn effects(list: &[Effect<'_>]) -> Effects {
        list.iter().copied().collect()
    }

    fn set<'a>(key: &'a [u8], value: &'a [u8], expire_at: Option<Millis>) -> Effect<'a> {
        Effect::Set {
            key,
            value,
            expire_at,
        }
    }

    #[test]
    fn what_is_not_recorded_never_was() {
        let seed = || HashSeed::new([1, 2]);
        let mut keyspace = Keyspace::new(seed());
        let there = [
            set(b"a", b"1", None),
            set(b"b", b"2", Some(Millis(500))),
            set(b"c", b"3", None),
        ];
        keyspace.apply(&effects(&there), Lsn(7));
        let state = |keyspace: &Keyspace| {
            let keys = || {
                [&b"a"[..], b"b", b"c", b"d"]
                    .map(Bytes::from_static)
                    .to_vec()
            };
            let waits = keyspace.plan(&KeyCommand::Exists { keys: keys() }, Millis(1), 0);
            (
                keyspace.digest(),
                keyspace.len(),
                keyspace.used_bytes(),
                keyspace.next_expiry(),
                waits.depends_on,
                keys()
                    .iter()
                    .map(|key| keyspace.stored(key))
                    .collect::<Vec<_>>(),
            )
        };
        let before = state(&keyspace);
        let steps = [
            effects(&[set(b"a", b"changed", Some(Millis(900)))]),
            effects(&[Effect::Del { key: b"b" }, set(b"d", b"new", None)]),
            effects(&[Effect::Expire {
                key: b"c",
                expire_at: Some(Millis(700)),
            }]),
            effects(&[set(b"a", b"again", None)]),
        ];
        let mut draft = Draft::behind(Lsn(7));
        for step in &steps {
            draft.carry_out(&mut keyspace, step, seed);
        }
        assert_ne!(state(&keyspace), before);
        draft.undo(&mut keyspace);
        assert_eq!(state(&keyspace), before);
        // From a FLUSHALL on nothing is touched.
        for step in [&steps[0], &effects(&[Effect::Flush]), &steps[1]] {
            draft.carry_out(&mut keyspace, step, seed);
        }
        assert_eq!(state(&keyspace), before);
        let emptied = draft.emptied.as_ref().expect("a keyspace of its own");
        assert_eq!(emptied.len(), 1);
        draft.undo(&mut keyspace);
        assert_eq!(state(&keyspace), before);
    }
}
