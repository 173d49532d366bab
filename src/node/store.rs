//! Keyspace and log together: the place where a command becomes effects, a record and a reply that
//! waits for an LSN.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;

use super::evict::{Inherited, OUT_OF_MEMORY, Room};
use super::host::Host;
use super::lag_index::{Behind, LagIndex};
use super::memory_limits::MemoryLimits;
use super::notices::Notices;
use super::tunables::Tunable;
use crate::command::KeyCommand;
use crate::keyspace::{EffectError, EvictionPool, Keyspace, Notice, Plan, keys_in};
use crate::replica::{Lag, MaxLag};
use crate::resp::Reply;
use crate::units::{Epoch, Lsn, Millis};
use crate::wal::{
    AppendError, ChainPoint, DiskFull, HEADER_BYTES, Kind, Log, LogClosed, MAX_RECORD_BYTES,
};

/// The keyspace and who may change it.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) keyspace: Keyspace,
    /// The last record that is visible in the keyspace.
    pub(super) applied: ChainPoint,
    /// The keyspace is the log's up to `applied` only once that is this: what it was loaded from,
    /// or repaired with, holds effects of records up to here. [`NEVER`] while it is rebuilt.
    exact_from: Lsn,
    /// The reign under which writes are appended; `None` on a standby.
    pub(super) reign: Option<Epoch>,
    pub(super) paused: bool,
    /// The primary's digests behind records that are not applied yet, oldest first.
    expected: VecDeque<Expected>,
    /// How often everything was replaced: a walk must not go on over another history.
    pub(super) replaced: u64,
    pub(super) eviction_pool: EvictionPool,
    pub(super) inherited: Inherited,
}

impl Inner {
    /// A record has been applied: perhaps its digest was expected.
    fn compare_digests(&mut self) -> Option<Compared> {
        let lsn = self.applied.lsn;
        while let Some(expected) = self.expected.front().copied()
            && expected.lsn <= lsn
        {
            self.expected.pop_front();
            if self.is_behind(&expected) {
                return Some(self.compare(expected.digest));
            }
        }
        None
    }

    /// Whether what is applied ends with just that record. A deposed primary, or a standby that has
    /// not matched yet, may hold another of that number. (Seed 221 of the simulator's `lagging`: such
    /// a primary was taken for the sick one, and built all of its keyspace again for one key.)
    fn is_behind(&self, expected: &Expected) -> bool {
        let applied = (self.applied.lsn, self.applied.epoch);
        applied == (expected.lsn, expected.epoch) && self.is_exact()
    }

    fn compare(&self, theirs: u64) -> Compared {
        Compared {
            lsn: self.applied.lsn,
            keyspace: self.replaced,
            own: self.keyspace.digest(),
            theirs,
        }
    }

    /// See [`Store::is_exact`].
    pub(super) fn is_exact(&self) -> bool {
        self.applied.lsn >= self.exact_from
    }
}

/// The keyspace is not to be read, whatever is applied.
pub(super) const NEVER: Lsn = Lsn(u64::MAX);

/// A node's data.
pub struct Store {
    inner: RwLock<Inner>,
    log: Arc<Log>,
    pub(super) host: Arc<dyn Host>,
    applied_lsn: AtomicU64,
    exact_from_lsn: AtomicU64,
    /// Of the present reign. Locked inside `inner`, and by the driver, each for a moment.
    lag_index: Mutex<LagIndex>,
    random: AtomicU64,
    /// Of keys and values.
    pub memory: MemoryLimits,
    /// Sessions have appended records, which are still to be announced.
    pub(super) appended: Notify,
    /// Keyspace events that wait for their records' release.
    pub(super) notices: Notices,
}

/// A primary's digest behind a record, which LSN and epoch name: so may be compared whatever reign
/// it is said in, and whether the logs were matched or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Expected {
    pub(super) lsn: Lsn,
    /// The record's, not the reign's.
    pub(super) epoch: Epoch,
    pub(super) digest: u64,
}

/// Two digests behind the same record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) lsn: Lsn,
    /// Which keyspace it is: how often it was replaced.
    pub(super) keyspace: u64,
    pub(super) own: u64,
    pub(super) theirs: u64,
}

/// A primary's digests that wait for the applier, at most.
const MOST_EXPECTED: usize = 64;

/// A command carried out; its reply goes out when `wait` is shown.
#[derive(Debug)]
pub struct Executed {
    /// The answer.
    pub reply: Reply,
    /// What it depends on (R32).
    pub wait: Lsn,
    /// Whether it appended a record.
    pub wrote: bool,
}

/// Why a command was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// This node does not reign in that epoch any more.
    #[error("the reign is over")]
    NotPrimary,
    /// A switchover is under way.
    #[error("writes are paused")]
    Paused,
    /// `max_lag`: the standbys are too far behind.
    #[error("the standbys are too far behind")]
    Lagging,
    /// There is no room on the disk.
    #[error(transparent)]
    Full(#[from] DiskFull),
    /// The log takes nothing.
    #[error(transparent)]
    Closed(#[from] LogClosed),
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Refused {
        match error {
            AppendError::Closed(closed) => Refused::Closed(closed),
            AppendError::Full(full) => Refused::Full(full),
        }
    }
}

/// Records whose keys are fetched into the caches before the first of them is applied.
const PREFETCHED: usize = 64;

/// Commands on more than one key follow: their cache misses overlap.
pub(super) fn prefetch<'a>(inner: &Inner, commands: impl Iterator<Item = &'a KeyCommand> + Clone) {
    if commands.clone().flat_map(KeyCommand::keys).nth(1).is_some() {
        inner.keyspace.prefetch(commands.flat_map(KeyCommand::keys));
    }
}

/// Bytes of replies behind which a batch is left for another turn.
const BATCH_REPLY_BYTES: usize = 1 << 20;

/// Why a record of so many bytes will never be appended; for the client.
pub(super) fn never_fits(bytes: usize, limit: Option<Lag>) -> Option<String> {
    if bytes > MAX_RECORD_BYTES {
        let most = MAX_RECORD_BYTES >> 20;
        return Some(format!("ERR one command may write at most {most} MiB"));
    }
    match limit.map(|lag| lag.budget) {
        Some(MaxLag::Bytes(most)) if bytes as u64 > most => Some(format!(
            "ERR this command alone would write {bytes} bytes, and max_lag allows {most}"
        )),
        _ => None,
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("applied", &self.applied_lsn)
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn new(
        host: Arc<dyn Host>,
        log: Arc<Log>,
        keyspace: Keyspace,
        applied: ChainPoint,
        exact_from: Lsn,
        memory: MemoryLimits,
    ) -> Store {
        let random = AtomicU64::new(host.draw());
        Store {
            inner: RwLock::new(Inner {
                keyspace,
                applied,
                exact_from,
                reign: None,
                paused: false,
                expected: VecDeque::new(),
                replaced: 0,
                eviction_pool: EvictionPool::default(),
                inherited: Inherited::default(),
            }),
            log,
            memory,
            appended: Notify::new(),
            notices: Notices::new(),
            applied_lsn: AtomicU64::new(applied.lsn.0),
            exact_from_lsn: AtomicU64::new(exact_from.0),
            lag_index: Mutex::new(LagIndex::new(applied)),
            random,
            host,
        }
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The classes of keyspace events that are told.
    pub fn notify(&self) -> &Tunable {
        &self.notices.classes
    }

    /// The last record visible to readers.
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied_lsn.load(Ordering::Acquire))
    }

    /// Whether the keyspace is exactly what the records up to [`Store::applied`] made.
    pub fn is_exact(&self) -> bool {
        self.applied().0 >= self.exact_from_lsn.load(Ordering::Acquire)
    }

    /// The last record visible to readers, and the digest of the keyspace there; `None` while the
    /// keyspace is not exact (a fuzzy snapshot without its log, a repair).
    pub(super) fn digest(&self) -> Option<(ChainPoint, u64)> {
        let inner = self.read();
        let exact = inner.is_exact();
        exact.then(|| (inner.applied, inner.keyspace.digest()))
    }

    /// Byte offset of the last record visible to readers.
    pub fn applied_offset(&self) -> u64 {
        self.read().applied.offset
    }

    fn lag_index(&self) -> MutexGuard<'_, LagIndex> {
        self.lag_index.lock().expect("the index does not panic")
    }

    /// Where what follows `lsn` begins, in bytes and time, if this reign appended it.
    pub(super) fn behind(&self, lsn: Lsn) -> Option<Behind> {
        self.lag_index().behind(lsn)
    }

    /// Byte offset behind a record of this reign, or a little more.
    pub(super) fn offset_upto(&self, lsn: Lsn) -> u64 {
        self.lag_index().offset_upto(lsn)
    }

    /// The last record within the budget. What is up to its base is not asked for again.
    pub(super) fn lag_reach(&self, lag: &Lag) -> Lsn {
        let mut index = self.lag_index();
        index.forget(lag.base);
        index.reach(lag.base, lag.budget)
    }

    /// Bytes of records behind `lsn`, or a little more; `None` where the log no longer holds it.
    /// Reads the log only for what is older than this reign.
    pub fn bytes_behind(&self, lsn: Lsn) -> Option<u64> {
        let at = match self.behind(lsn) {
            Some(behind) => behind.offset,
            None => self.log.chain_at(lsn).ok()?.offset,
        };
        Some(self.log.end().offset.saturating_sub(at))
    }

    /// Milliseconds of writes behind `lsn`, by the records' times.
    pub fn ms_behind(&self, lsn: Lsn) -> Option<u64> {
        let end = self.log.end().time.0;
        let since = match self.behind(lsn) {
            Some(behind) => behind.since.map_or(end, |since| since.0),
            None => self.log.chain_at(lsn).ok()?.time.0,
        };
        Some(end.saturating_sub(since))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner
            .read()
            .expect("a thread panicked while it changed the keyspace")
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner
            .write()
            .expect("a thread panicked while it changed the keyspace")
    }

    /// Keys, keys with an expiry, bytes used.
    pub fn size(&self) -> (usize, usize, usize) {
        let inner = self.read();
        (
            inner.keyspace.len(),
            inner.keyspace.len_with_expiry(),
            inner.keyspace.used_bytes(),
        )
    }

    pub(super) fn random(&self) -> u64 {
        self.random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .rotate_left(17)
    }

    /// R32: never earlier than the newest record's time.
    pub(super) fn now(&self, inner: &Inner) -> Millis {
        self.host.wall().max(inner.applied.time)
    }

    /// A standby's read: an expired key is absent, and its deletion is the primary's to log.
    /// `None` while the keyspace is not exact, or less than `at_least` is applied; judged under its lock, for
    /// a repair may have begun since the caller looked at the gate.
    pub fn read_only(&self, command: &KeyCommand, touches: bool, at_least: Lsn) -> Option<Reply> {
        let inner = self.read();
        let now = self.host.wall();
        let plan = || {
            inner
                .keyspace
                .plan_for(command, now, self.random(), touches)
        };
        (inner.is_exact() && inner.applied.lsn >= at_least).then(|| plan().reply)
    }

    /// A primary's batch, in order, under one lock; stops at the first command that is refused, and where
    /// the replies get long: whoever asked for much is answered a part first.
    pub fn execute<'a>(
        &self,
        epoch: Epoch,
        released: Lsn,
        limit: Option<Lag>,
        touches: bool,
        commands: impl Iterator<Item = &'a KeyCommand> + Clone,
        done: &mut Vec<Executed>,
    ) -> Result<(), Refused> {
        let (start, mut bytes) = (done.len(), 0);
        if commands.clone().all(|command| !command.is_write()) {
            let inner = self.read();
            if inner.reign != Some(epoch) {
                return Err(Refused::NotPrimary);
            }
            let now = self.now(&inner);
            prefetch(&inner, commands.clone());
            let mut pure = true;
            for command in commands.clone() {
                let plan = inner
                    .keyspace
                    .plan_for(command, now, self.random(), touches);
                if !plan.effects.is_empty() {
                    pure = false;
                    break;
                }
                if self.notices.wanted().is_some() {
                    self.note_plan(&inner.keyspace, epoch, command, &plan, now);
                }
                bytes += plan.reply.bytes();
                done.push(Executed {
                    reply: plan.reply,
                    wait: plan.depends_on,
                    wrote: false,
                });
                if bytes > BATCH_REPLY_BYTES {
                    break;
                }
            }
            if pure {
                return Ok(());
            }
        }
        let skip = done.len() - start;
        let mut inner = self.write();
        if inner.reign != Some(epoch) {
            return Err(Refused::NotPrimary);
        }
        inner.keyspace.prune_released(released);
        prefetch(&inner, commands.clone().skip(skip));
        let now = self.now(&inner);
        self.track(&mut inner, now);
        let before = inner.applied.lsn;
        let mut result = Ok(());
        for command in commands.skip(skip) {
            match self.execute_one(&mut inner, epoch, limit, touches, command, now) {
                Ok(executed) => {
                    bytes += executed.reply.bytes();
                    done.push(executed);
                    if bytes > BATCH_REPLY_BYTES {
                        break;
                    }
                }
                Err(refused) => {
                    result = Err(refused);
                    break;
                }
            }
        }
        self.unlock(inner, before);
        result
    }

    /// Lets the keyspace go; what was appended since `before` is to be announced. The last record.
    pub(super) fn unlock(&self, mut inner: RwLockWriteGuard<'_, Inner>, before: Lsn) -> Lsn {
        let after = inner.applied.lsn;
        // What a FLUSHALL emptied is freed without the lock.
        let flushed = inner.keyspace.take_flushed();
        drop(inner);
        drop(flushed);
        if after > before {
            self.appended.notify_one();
        }
        after
    }

    pub(super) fn execute_one(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        limit: Option<Lag>,
        touches: bool,
        command: &KeyCommand,
        now: Millis,
    ) -> Result<Executed, Refused> {
        if let Some(refused) = self.lacks_room(inner, epoch, limit, command, now)? {
            return Ok(refused);
        }
        let plan = inner
            .keyspace
            .plan_for(command, now, self.random(), touches);
        let notices = self.notices_of(&inner.keyspace, command, &plan, now);
        self.record_plan(inner, epoch, limit, (plan, notices), now)
    }

    /// The refusal of a command that may grow, where there is no room in memory and none to be made.
    pub(super) fn lacks_room(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        limit: Option<Lag>,
        command: &KeyCommand,
        now: Millis,
    ) -> Result<Option<Executed>, Refused> {
        let full = self.memory.bytes() > 0
            && command.may_grow()
            && self.make_room(inner, epoch, limit, now)? == Room::None;
        Ok(full.then_some(Executed {
            reply: OUT_OF_MEMORY,
            wait: Lsn::ZERO,
            wrote: false,
        }))
    }

    /// Appends the record of what was planned, and carries it out.
    pub(super) fn record_plan(
        &self,
        inner: &mut Inner,
        epoch: Epoch,
        limit: Option<Lag>,
        (plan, notices): (Plan, Vec<Notice>),
        now: Millis,
    ) -> Result<Executed, Refused> {
        let Plan {
            effects,
            reply,
            depends_on,
        } = plan;
        if effects.is_empty() {
            self.add_notices(epoch, depends_on, notices);
            return Ok(Executed {
                reply,
                wait: depends_on,
                wrote: false,
            });
        }
        if inner.paused {
            return Err(Refused::Paused);
        }
        let payload = effects.encoded();
        let bytes = payload.len() + HEADER_BYTES;
        if let Some(text) = never_fits(bytes, limit) {
            let reply = Reply::Error(text.into());
            return Ok(Executed {
                reply,
                wait: depends_on,
                wrote: false,
            });
        }
        if !self.within(inner, limit, bytes, now) {
            return Err(Refused::Lagging);
        }
        let after = self
            .log
            .append_unannounced(epoch, now, Kind::Effects, payload)?;
        inner.keyspace.apply(&effects, after.lsn);
        self.appended(inner, after);
        self.add_notices(epoch, after.lsn, notices);
        Ok(Executed {
            reply,
            wait: after.lsn.max(depends_on),
            wrote: true,
        })
    }

    /// Hardly ever any.
    #[inline]
    fn add_notices(&self, epoch: Epoch, lsn: Lsn, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.notices.add(Some(epoch), lsn, notices);
        }
    }

    /// The keyspace events of a plan that is not applied yet.
    #[inline]
    pub(super) fn notices_of(
        &self,
        keyspace: &Keyspace,
        command: &KeyCommand,
        plan: &Plan,
        now: Millis,
    ) -> Vec<Notice> {
        match self.notices.wanted() {
            None => Vec::new(),
            Some(classes) => keyspace.notices(classes, command, &plan.effects, &plan.reply, now),
        }
    }

    /// The events of a command without effects.
    fn note_plan(
        &self,
        keyspace: &Keyspace,
        epoch: Epoch,
        command: &KeyCommand,
        plan: &Plan,
        now: Millis,
    ) {
        let notices = self.notices_of(keyspace, command, plan, now);
        self.notices.add(Some(epoch), plan.depends_on, notices);
    }

    /// Whether a record of so many bytes keeps to the RPO budget.
    pub(super) fn within(
        &self,
        inner: &Inner,
        limit: Option<Lag>,
        bytes: usize,
        now: Millis,
    ) -> bool {
        let Some(lag) = limit else { return true };
        let offset = inner.applied.offset + bytes as u64;
        match lag.budget {
            MaxLag::Records(records) => inner.applied.lsn.0 < lag.base.0.saturating_add(records),
            MaxLag::Bytes(_) | MaxLag::Ms(_) => {
                self.lag_index().admits(lag.base, lag.budget, offset, now)
            }
        }
    }

    pub(super) fn appended(&self, inner: &mut Inner, after: ChainPoint) {
        self.lag_index().push(after);
        self.advance(inner, after);
    }

    fn advance(&self, inner: &mut Inner, to: ChainPoint) {
        inner.applied = to;
        self.applied_lsn.store(to.lsn.0, Ordering::Release);
    }

    /// Deletes keys that have expired; a primary's background work. How many.
    pub fn expire(&self, epoch: Epoch, released: Lsn, limit: Option<Lag>) -> usize {
        let due =
            |inner: &Inner, now: Millis| inner.keyspace.next_expiry().is_some_and(|at| at <= now);
        {
            let inner = self.read();
            if inner.reign != Some(epoch) || !due(&inner, self.now(&inner)) {
                return 0;
            }
        }
        let mut inner = self.write();
        let now = self.now(&inner);
        if inner.reign != Some(epoch) || inner.paused {
            return 0;
        }
        inner.keyspace.prune_released(released);
        let effects = inner.keyspace.plan_expired(now, 500);
        let bytes = effects.encoded().len() + HEADER_BYTES;
        if effects.is_empty() || !self.within(&inner, limit, bytes, now) {
            return 0;
        }
        match self
            .log
            .append(epoch, now, Kind::Effects, effects.encoded())
        {
            Ok(after) => {
                if let Some(classes) = self.notices.wanted() {
                    let notices = inner.keyspace.notices_of_expired(classes, &effects);
                    self.notices.add(Some(epoch), after.lsn, notices);
                }
                inner.keyspace.apply(&effects, after.lsn);
                self.appended(&mut inner, after);
                effects.iter().count()
            }
            Err(_) => 0,
        }
    }

    /// Applies whole records that follow what is applied. Up to `released` they are known to be;
    /// replies wait for those behind it. The digests that were expected on the way, compared.
    pub(super) fn apply_records(
        &self,
        bytes: &[u8],
        released: Lsn,
    ) -> Result<Vec<Compared>, EffectError> {
        let mut compared = Vec::new();
        let mut inner = self.write();
        inner.keyspace.prune_released(released);
        self.track(&mut inner, self.host.wall());
        let mut ahead = crate::wal::records(bytes);
        for (count, record) in crate::wal::records(bytes).enumerate() {
            if count.is_multiple_of(PREFETCHED) {
                let payloads = ahead.by_ref().take(PREFETCHED).map(|record| record.payload);
                inner.keyspace.prefetch(payloads.flat_map(keys_in));
            }
            let wanted = inner.applied.lsn.next();
            assert_eq!(
                record.lsn, wanted,
                "records are applied in order, without holes"
            );
            if record.kind == Kind::Effects {
                if let Some(classes) = self.notices.wanted() {
                    let (payload, time) = (record.payload, record.after.time);
                    let notices = inner.keyspace.notices_of_record(classes, payload, time)?;
                    self.notices.add(None, record.lsn, notices);
                }
                inner.keyspace.apply_encoded(record.payload, record.lsn)?;
            }
            let offset = inner.applied.offset + (record.payload.len() + HEADER_BYTES) as u64;
            self.advance(
                &mut inner,
                ChainPoint {
                    offset,
                    ..record.after
                },
            );
            compared.extend(inner.compare_digests());
        }
        Ok(compared)
    }

    /// A reign is about to begin, up to here everything is applied first, and nothing is answered
    /// before. (Where each key of five million records was remembered until their release, the
    /// first write then waited a third of a second for all of them to be forgotten.)
    pub(super) fn hold_all(&self, lsn: Lsn) {
        self.write().keyspace.hold_all(lsn);
    }

    /// The primary's digest behind a record, to be compared when that has been applied. At once
    /// where it has been just now; where the keyspace is further on already it is too late.
    pub(super) fn expect_digest(&self, expected: Expected) -> Option<Compared> {
        let mut inner = self.write();
        if inner.is_behind(&expected) {
            return Some(inner.compare(expected.digest));
        }
        let Expected { lsn, epoch, .. } = expected;
        // What an earlier primary had there, and took with it, would stand in the way.
        let gone = |old: &mut Expected| old.lsn >= lsn && old.epoch < epoch;
        while inner.expected.pop_back_if(gone).is_some() {}
        let newest = inner.expected.back().map_or(Lsn::ZERO, |old| old.lsn);
        // Where there is no more room the new one is let go: a standby that lags for long would never
        // come to the oldest if that went.
        if lsn > inner.applied.lsn.max(newest) && inner.expected.len() < MOST_EXPECTED {
            inner.expected.push_back(expected);
        }
        None
    }

    /// Which keyspace this is: how often it was replaced.
    pub(super) fn keyspace_number(&self) -> u64 {
        self.read().replaced
    }

    /// For tests: what bad memory does to a value, and what a bug does.
    #[doc(hidden)]
    pub fn turn_bit_of(&self, key: &[u8]) -> bool {
        self.write().keyspace.turn_bit_of(key)
    }

    /// For tests: an effect that no record says.
    #[doc(hidden)]
    pub fn misapply(&self, effects: &[u8]) -> Result<(), EffectError> {
        self.repair(effects)
    }

    /// For tests: whether memory holds, everywhere, what effects made.
    #[doc(hidden)]
    pub fn is_sound(&self) -> bool {
        let inner = self.read();
        (0..Keyspace::SCRUB_PARTS).all(|part| inner.keyspace.is_sound(part))
    }

    /// For tests: which keyspace this is. Another when all was replaced; the same after a repair by
    /// key, which does not touch the rest.
    #[doc(hidden)]
    pub fn keyspace_seed(&self) -> u64 {
        self.read().keyspace.seed()
    }

    /// Begins a reign: from here on `execute` appends.
    pub(super) fn begin(&self, epoch: Epoch, fork: ChainPoint) -> Result<ChainPoint, AppendError> {
        let mut inner = self.write();
        assert_eq!(
            inner.applied.lsn, fork.lsn,
            "a reign begins with everything applied"
        );
        let mut payload = Vec::with_capacity(16);
        payload.extend_from_slice(&fork.lsn.0.to_le_bytes());
        payload.extend_from_slice(&fork.epoch.0.to_le_bytes());
        let now = self.now(&inner);
        let start = self.log.append(epoch, now, Kind::EpochStart, &payload)?;
        self.lag_index().restart(fork);
        self.appended(&mut inner, start);
        // What this keyspace holds is the history from here on.
        self.demand(&mut inner, start.lsn);
        inner.expected.clear();
        inner.reign = Some(epoch);
        inner.paused = false;
        inner.inherited = Inherited::default();
        self.track(&mut inner, now);
        Ok(start)
    }

    /// Nothing is appended any more, not even by a batch under way.
    pub(super) fn end_reign(&self) {
        let mut inner = self.write();
        inner.reign = None;
        inner.paused = false;
        self.lag_index().restart(inner.applied);
    }

    pub(super) fn pause(&self, paused: bool) {
        self.write().paused = paused;
    }

    /// Replaces everything by what a snapshot held, which is exact from `exact_from` on.
    pub(super) fn replace(&self, keyspace: Keyspace, applied: ChainPoint, exact_from: Lsn) {
        let mut inner = self.write();
        let old = std::mem::replace(&mut inner.keyspace, keyspace);
        inner.replaced += 1;
        inner.expected.clear();
        self.notices.rewind(applied.lsn);
        self.demand(&mut inner, exact_from);
        self.advance(&mut inner, applied);
        // Freeing what was there takes seconds; nobody shall wait for that.
        drop(inner);
        drop(old);
    }

    /// The records behind `fork` are taken back, and the keys they touched wait for their repair.
    pub(super) fn rewind(&self, fork: ChainPoint) {
        let mut inner = self.write();
        assert!(fork.lsn <= inner.applied.lsn, "a rewind goes back");
        inner.replaced += 1;
        inner.expected.clear();
        self.notices.rewind(fork.lsn);
        self.demand(&mut inner, NEVER);
        inner.keyspace.rewind(fork.lsn);
        self.advance(&mut inner, fork);
    }

    /// The keyspace is exact, or worth reading, only from `lsn` on.
    pub(super) fn set_exact_from(&self, lsn: Lsn) {
        self.demand(&mut self.write(), lsn);
    }

    /// As [`Store::set_exact_from`], unless more is demanded already.
    pub(super) fn raise_exact_from(&self, lsn: Lsn) {
        let mut inner = self.write();
        let lsn = inner.exact_from.max(lsn);
        self.demand(&mut inner, lsn);
    }

    fn demand(&self, inner: &mut Inner, exact_from: Lsn) {
        inner.exact_from = exact_from;
        self.exact_from_lsn.store(exact_from.0, Ordering::Release);
    }

    /// Sets keys to what they hold elsewhere (R28): repair values, as effects.
    pub(super) fn repair(&self, effects: &[u8]) -> Result<(), EffectError> {
        let mut inner = self.write();
        inner.keyspace.apply_encoded(effects, Lsn::ZERO)
    }

    /// What the first of these keys hold, as effects of about `max_bytes`: of how many keys, and
    /// the record behind which they were read (R28).
    pub(super) fn values_of(&self, keys: &[Bytes], max_bytes: usize) -> (Lsn, usize, Vec<u8>) {
        let inner = self.read();
        let mut effects = Vec::new();
        let mut told = 0;
        for key in keys {
            if told > 0 && effects.len() >= max_bytes {
                break;
            }
            inner.keyspace.restate(key, &mut effects);
            told += 1;
        }
        (inner.applied.lsn, told, effects)
    }
}
