//! The ghost: it knows what no node does, and looks at the world after every step.
//!
//! What it holds: every record ever released, every vote and rule ever made durable, every copy
//! ever synced, every digest ever shown. What it demands stands at each check, with the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use understudy::node::{Gate, Node, Seen, Serves};
use understudy::replica::{
    Control, Envelope, Level, LossBound, MaxLoss, Message, Output, Report, Rule, RuleId,
};
use understudy::units::{Epoch, Lsn, NodeId};
use understudy::wal::Log;

use super::faults::Fault;
use super::illness::{End, Ends, Ill, quarantines};
use super::process::{Fate, Process};

/// A node's number.
type Place = u32;

/// What is watched of one node.
struct Watched {
    process: Weak<Process>,
    gate: Option<Gate>,
    /// How far its log was known to be synced.
    synced: Lsn,
    applied: Lsn,
    quarantines: u64,
}

/// Within this a primary's judgement of what differed has come, or its standby waits no more.
const JUDGED_WITHIN_MS: u64 = 3000;

/// A record that was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Released {
    epoch: Epoch,
    /// The first record of a reign: nobody was told of it.
    start: bool,
    at_ms: u64,
    /// Bytes of log.
    bytes: u64,
}

/// Bytes of log that a record takes; nothing where it cannot be read any more.
fn bytes_of(log: &Log, lsn: Lsn) -> u64 {
    let offset = |lsn: Lsn| log.chain_at(lsn).map(|at| at.offset);
    match (offset(lsn), offset(lsn.previous())) {
        (Ok(after), Ok(before)) => after - before,
        _ => 0,
    }
}

#[derive(Default)]
struct Inner {
    watched: BTreeMap<Place, Watched>,
    released: Vec<Released>,
    /// What a takeover with loss gave up; another with the longer log may bring it back.
    given_up: BTreeMap<(u64, Epoch), Released>,
    winners: BTreeMap<Epoch, Place>,
    votes: BTreeMap<(Epoch, Place, u64), NodeId>,
    recorded: BTreeMap<(Place, u64), RuleId>,
    promised: BTreeMap<(Place, u64), Epoch>,
    /// Per node: the newest promise that is durable, of a member of a cluster.
    promised_as_member: BTreeMap<Place, Epoch>,
    /// Which records each node has held at some time: handed to its system, and synced.
    handed: BTreeMap<Place, BTreeSet<(Lsn, Epoch)>>,
    held: BTreeMap<Place, BTreeSet<(Lsn, Epoch)>>,
    digests: BTreeMap<(Lsn, Epoch), (u64, Place)>,
    /// Whose memory is wrong.
    ill: BTreeMap<Place, Ill>,
    /// How far the log of a node went whose keyspace was built again.
    rebuilt_at: BTreeMap<Place, Lsn>,
    /// Whose wrong keys were overwritten, and when.
    mended_at_ms: BTreeMap<Place, u64>,
    ends: Ends,
    /// Primaries that were ill: what they answered is not judged.
    sick_reigns: u64,
    /// Looks at how old a standby says to be.
    fresh: u64,
    upto: BTreeMap<Epoch, Lsn>,
    judged: BTreeSet<Epoch>,
    steps: u64,
    takeovers: u64,
    lossy: u64,
    repairs: u64,
    violation: Option<String>,
    trace: String,
    keeps_trace: bool,
    digest_of_trace: u64,
}

/// The ghost.
pub struct Ghost {
    inner: Mutex<Inner>,
    budget: MaxLoss,
    began: Instant,
    /// Told of a violation, or of a disk that lost its power.
    pub alarm: Notify,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub steps: u64,
    pub takeovers: u64,
    pub released: u64,
    pub lossy: u64,
    pub repairs: u64,
    pub sick_reigns: u64,
    pub fresh: u64,
    pub ends: Ends,
}

impl Ghost {
    pub fn new(budget: MaxLoss, keeps_trace: bool) -> Arc<Ghost> {
        Arc::new(Ghost {
            inner: Mutex::new(Inner {
                keeps_trace,
                ..Inner::default()
            }),
            budget,
            began: Instant::now(),
            alarm: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("one thread, and no panic under it")
    }

    pub fn now_ms(&self) -> u64 {
        Instant::now().duration_since(self.began).as_millis() as u64
    }

    /// A line of the trace.
    pub fn note(&self, line: &str) {
        let now = self.now_ms();
        self.inner().note(now, line);
    }

    pub fn trace(&self) -> String {
        self.inner().trace.clone()
    }

    pub fn digest_of_trace(&self) -> u64 {
        self.inner().digest_of_trace
    }

    pub fn violated(&self, what: String) {
        let now = self.now_ms();
        let mut inner = self.inner();
        inner.note(now, &format!("VIOLATION {what}"));
        let step = inner.steps;
        inner
            .violation
            .get_or_insert_with(|| format!("step {step}, {now} ms: {what}"));
        self.alarm.notify_one();
    }

    pub fn violation(&self) -> Option<String> {
        self.inner().violation.clone()
    }

    pub fn sums(&self) -> Sums {
        let inner = self.inner();
        Sums {
            steps: inner.steps,
            takeovers: inner.takeovers,
            released: inner.released.len() as u64,
            lossy: inner.lossy,
            repairs: inner.repairs,
            sick_reigns: inner.sick_reigns,
            fresh: inner.fresh,
            ends: inner.ends.clone(),
        }
    }

    /// From here on a node's memory is wrong, perhaps a primary's.
    pub fn sickens(&self, place: Place, ill: Ill, reigns: bool) {
        let mut inner = self.inner();
        inner.sick_reigns += u64::from(reigns);
        inner.ill.insert(place, ill);
    }

    pub fn ill(&self, place: Place) -> Option<Ill> {
        self.inner().ill.get(&place).cloned()
    }

    /// From which record on it shows that what this node built again is right.
    pub fn rebuilt_at(&self, place: Place) -> Lsn {
        self.inner()
            .rebuilt_at
            .get(&place)
            .copied()
            .unwrap_or_default()
    }

    pub fn who_is_ill(&self) -> Option<Place> {
        self.inner().ill.keys().next().copied()
    }

    /// A process begins; what its predecessor's log held may have been cut since.
    pub fn begins(&self, process: &Arc<Process>) {
        let now = self.now_ms();
        let mut inner = self.inner();
        inner.cured(now, process.place, End::Restarted);
        inner.watched.insert(
            process.place,
            Watched {
                process: Arc::downgrade(process),
                gate: None,
                synced: Lsn::ZERO,
                applied: Lsn::ZERO,
                quarantines: 0,
            },
        );
    }

    /// After each poll of a node's task.
    pub fn step(&self, process: &Arc<Process>) {
        self.inner().steps += 1;
        if process.disk.is_off() {
            // The power went in the middle of this step.
            process.kill();
            self.alarm.notify_one();
            return;
        }
        let Some(node) = process.node.get().and_then(Weak::upgrade) else {
            return;
        };
        let gate = node.gate_now();
        if let Err(what) = self.look(process, &node, gate) {
            self.violated(what);
        }
    }

    fn look(&self, process: &Process, node: &Node, gate: Gate) -> Result<(), String> {
        let now = self.now_ms();
        let place = process.place;
        let mut inner = self.inner();
        inner.note_held(place, node);
        let Some(watched) = inner.watched.get_mut(&place) else {
            return Ok(());
        };
        if watched.process.as_ptr() != std::ptr::from_ref(process) {
            return Ok(());
        }
        let taken_out = quarantines(node);
        let was_out = std::mem::replace(&mut watched.quarantines, taken_out);
        let applied = node.store.applied();
        let moved = std::mem::replace(&mut watched.applied, applied) != applied;
        let old = watched.gate.replace(gate);
        let reads = gate.serves == Serves::Standby;
        let age = node.staleness().filter(|_| reads).map(|(age, _)| age);
        inner.check_health(now, process, node, taken_out > was_out)?;
        inner.check_freshness(now, place, applied, age)?;
        if moved {
            inner.check_digest(now, place, node)?;
        }
        if old == Some(gate) && !moved {
            return Ok(());
        }
        let before = old.map(|old| (old.epoch, old.serves));
        if before != Some((gate.epoch, gate.serves)) {
            let line = format!(
                "node {place}: epoch {} {:?} released {} applied {applied}",
                gate.epoch, gate.serves, gate.released
            );
            inner.note(now, &line);
        }
        inner.check_leases()?;
        if gate.is_primary() {
            inner.check_release(now, process, node, &gate)
        } else {
            inner.check_standby(place, node, &gate)
        }
    }

    /// From inside the driver: nothing here may ask the machine.
    pub fn observe(&self, process: &Arc<Process>, seen: Seen<'_>) {
        let place = process.place;
        let now = self.now_ms();
        let result = match seen {
            Seen::Durable(control) => self.inner().note_durable(place, control),
            Seen::Said(Output::Send { to, envelope }) => {
                self.inner().note_said(place, *to, envelope)
            }
            Seen::Said(Output::BeginReign { epoch }) => {
                self.inner()
                    .note(now, &format!("node {place} won epoch {epoch}"));
                let mut inner = self.inner();
                inner.sick_reigns += u64::from(inner.ill.contains_key(&place));
                inner.note_winner(place, *epoch)
            }
            Seen::Said(Output::EndReign {
                epoch,
                why,
                settled,
            }) => {
                let line = format!("node {place} ends epoch {epoch}: {why}");
                self.inner().note(now, &line);
                let node = process.node.get().and_then(Weak::upgrade);
                if let (Some(node), Some(settled)) = (node, settled) {
                    self.inner().note_last(now, *epoch, &node, *settled);
                }
                Ok(())
            }
            Seen::Said(Output::Report(report)) => {
                match process.node.get().and_then(Weak::upgrade) {
                    Some(node) => self.inner().note_report(report, &node, self.budget),
                    None => Ok(()),
                }
            }
            Seen::Said(_) => Ok(()),
            Seen::Repaired(keys) => {
                let mut inner = self.inner();
                inner.repairs += 1;
                inner.note(now, &format!("node {place} repaired {keys} keys"));
                Ok(())
            }
        };
        if let Err(what) = result {
            self.violated(what);
        }
    }
}

/// The epoch of each record of a log, by its history.
fn epoch_at(history: &[(Epoch, Lsn)], lsn: Lsn) -> Epoch {
    history
        .iter()
        .rev()
        .find(|(_, first)| *first <= lsn)
        .map_or(Epoch::ZERO, |(epoch, _)| *epoch)
}

impl Inner {
    fn note(&mut self, now_ms: u64, line: &str) {
        let step = self.steps;
        let line = format!("{step:>8} {now_ms:>6} ms  {line}\n");
        for byte in line.bytes() {
            // FNV-1a (Fowler, Noll, Vo): enough to compare two traces.
            self.digest_of_trace = (self.digest_of_trace ^ u64::from(byte))
                .wrapping_mul(0x0100_0000_01b3)
                .wrapping_add(1);
        }
        tracing::info!("{}", line.trim_end());
        if self.keeps_trace {
            let _ = self.trace.write_str(&line);
        }
    }

    fn note_held(&mut self, place: Place, node: &Node) {
        let log = node.store.log();
        let (_, written, synced) = log.cursors();
        let Some(watched) = self.watched.get_mut(&place) else {
            return;
        };
        let old = watched.synced;
        watched.synced = synced;
        if old == synced && written.lsn <= synced {
            return;
        }
        let history = log.history();
        let oldest = log.oldest().lsn;
        // A log that was cut holds other records at the same places.
        let from = old.min(synced).max(oldest).0.saturating_sub(8);
        let from = if old > synced {
            oldest.0
        } else {
            from.max(oldest.0)
        };
        let handed = self.handed.entry(place).or_default();
        for lsn in from + 1..=written.lsn.0 {
            handed.insert((Lsn(lsn), epoch_at(&history, Lsn(lsn))));
        }
        let held = self.held.entry(place).or_default();
        for lsn in from + 1..=synced.0 {
            held.insert((Lsn(lsn), epoch_at(&history, Lsn(lsn))));
        }
    }

    /// An illness is over.
    fn cured(&mut self, now: u64, place: Place, end: End) {
        if let Some(ill) = self.ill.remove(&place) {
            let fault = ill.fault;
            if end == End::Overwritten {
                self.mended_at_ms.insert(place, now);
            }
            *self.ends.entry((fault, end)).or_default() += 1;
            self.note(now, &format!("node {place}: {fault:?} is over: {end:?}"));
        }
    }

    /// Nobody is taken out of service but who is ill, or contradicts a primary that was.
    fn check_health(
        &mut self,
        now: u64,
        process: &Process,
        node: &Node,
        taken_out: bool,
    ) -> Result<(), String> {
        let place = process.place;
        let ill = self.ill.get(&place);
        let (is_ill, end) = (ill.is_some(), ill.and_then(|ill| ill.end(process, node)));
        if let Some(end) = end {
            self.rebuilt_at.insert(place, node.store.log().end().lsn);
            self.cured(now, place, end);
        }
        // What differed a moment ago may still be judged.
        let mended_ms = self.mended_at_ms.get(&place).map(|at| now - at);
        let was_ill = is_ill || mended_ms.is_some_and(|ago| ago < JUDGED_WITHIN_MS);
        if taken_out && !was_ill && self.sick_reigns == 0 {
            return Err(format!(
                "node {place} was taken out of service, and nothing was wrong with it"
            ));
        }
        Ok(())
    }

    /// Equal keyspaces after equal records, on whatever node, unless its memory is wrong.
    fn check_digest(&mut self, now: u64, place: Place, node: &Node) -> Result<(), String> {
        let Some((applied, digest)) = node.digest() else {
            return Ok(());
        };
        let key = (applied.lsn, applied.epoch);
        if let Some(ill) = self.ill.get_mut(&place) {
            ill.digests.insert(key, digest);
            // A digest does not notice a turned bit before its key is written, and always then.
            let right = self
                .digests
                .get(&key)
                .is_some_and(|(known, _)| *known == digest);
            if right && ill.fault == Fault::WrongEffect {
                self.cured(now, place, End::Overwritten);
            }
            return Ok(());
        }
        let right = |ill: &Ill| ill.digests.get(&key) == Some(&digest);
        let overwritten = |(_, ill): &(&Place, &Ill)| ill.fault == Fault::WrongEffect && right(ill);
        if let Some((sick, _)) = self.ill.iter().find(overwritten) {
            self.cured(now, *sick, End::Overwritten);
        }
        let (known, by) = *self.digests.entry(key).or_insert((digest, place));
        if known == digest {
            return Ok(());
        }
        Err(format!(
            "node {place} and node {by} hold different keys after LSN {} of epoch {}",
            applied.lsn, applied.epoch
        ))
    }

    /// R12, R18: never two that may answer.
    fn check_leases(&self) -> Result<(), String> {
        let mut live = Vec::new();
        for (place, watched) in &self.watched {
            let Some(process) = watched.process.upgrade() else {
                continue;
            };
            if process.fate() == Fate::Dead {
                continue;
            }
            let node = process.node.get().and_then(Weak::upgrade);
            let (Some(gate), Some(node)) = (watched.gate, node) else {
                continue;
            };
            if gate.is_primary() && gate.lease_until > node.host.boot_time() {
                live.push((*place, gate.epoch));
            }
        }
        if live.len() < 2 {
            return Ok(());
        }
        Err(format!("two live leases (node, epoch): {live:?}"))
    }

    fn check_release(
        &mut self,
        now: u64,
        process: &Process,
        node: &Node,
        gate: &Gate,
    ) -> Result<(), String> {
        let (place, epoch, upto) = (process.place, gate.epoch, gate.released);
        let before = self.upto.get(&epoch).copied().unwrap_or(Lsn::ZERO);
        let serving = !matches!(gate.serves, Serves::YoungPrimary);
        if upto <= before || !serving {
            return Ok(());
        }
        let view = node.view();
        if !view.serving {
            return Ok(());
        }
        if gate.lease_until <= node.host.boot_time() {
            return Err(format!("node {place} released LSN {upto} without a lease"));
        }
        if self.winners.keys().next_back() > Some(&epoch) {
            return Err(format!(
                "node {place} released LSN {upto} after its epoch {epoch}"
            ));
        }
        let log = node.store.log();
        if upto > log.end().lsn {
            return Err(format!("node {place} released LSN {upto} beyond its log"));
        }
        let history = log.history();
        let rule = view.rule.ok_or("released without a rule")?;
        self.check_rule(
            place,
            epoch,
            rule.id,
            &rule.rule,
            upto,
            epoch_at(&history, upto),
        )?;
        self.upto.insert(epoch, upto);
        let oldest = log.oldest().lsn;
        for lsn in self.released.len() as u64 + 1..=oldest.0.min(upto.0) {
            // Older than the log: what was given up once is there again, in a snapshot.
            let mut known = self
                .given_up
                .range((lsn, Epoch::ZERO)..(lsn + 1, Epoch::ZERO));
            let Some((_, record)) = known.next_back() else {
                return Err(format!("node {place} reigns with an unknown LSN {lsn}"));
            };
            self.released.push(*record);
        }
        for lsn in oldest.0 + 1..=upto.0 {
            let found = epoch_at(&history, Lsn(lsn));
            match self.released.get(lsn as usize - 1) {
                Some(old) if old.epoch != found => {
                    return Err(format!(
                        "LSN {lsn} was released in epoch {}, and again in epoch {found}",
                        old.epoch
                    ));
                }
                Some(_) => {}
                None => self.released.push(Released {
                    epoch: found,
                    start: history.contains(&(found, Lsn(lsn))),
                    at_ms: now,
                    bytes: bytes_of(log, Lsn(lsn)),
                }),
            }
        }
        Ok(())
    }

    /// A reign may release its last records and hand over in one step.
    fn note_last(&mut self, now: u64, epoch: Epoch, node: &Node, upto: Lsn) {
        let newest = self.winners.keys().next_back() == Some(&epoch);
        if !newest || !self.upto.contains_key(&epoch) {
            return;
        }
        let history = node.store.log().history();
        for lsn in self.released.len() as u64 + 1..=upto.0 {
            let found = epoch_at(&history, Lsn(lsn));
            self.released.push(Released {
                epoch: found,
                start: history.contains(&(found, Lsn(lsn))),
                at_ms: now,
                bytes: bytes_of(node.store.log(), Lsn(lsn)),
            });
        }
    }

    /// R5 and the commit rule: a majority has recorded a rule of this epoch durably, and `copies`
    /// of its members have held the newest record.
    fn check_rule(
        &self,
        place: Place,
        epoch: Epoch,
        id: RuleId,
        rule: &Rule,
        upto: Lsn,
        of: Epoch,
    ) -> Result<(), String> {
        let recorded = rule
            .voters
            .iter()
            .filter(|voter| self.recorded.get(&(voter.id.0, voter.incarnation)) >= Some(&id));
        if id.epoch != epoch || recorded.count() < rule.majority() {
            return Err(format!(
                "node {place} released LSN {upto} under {id:?}, which no majority has recorded"
            ));
        }
        let copies = rule.members.iter().filter(|member| {
            let by = if rule.level == Level::Received && member.0 != place {
                &self.handed
            } else {
                &self.held
            };
            by.get(&member.0)
                .is_some_and(|records| records.contains(&(upto, of)))
        });
        let copies = copies.count();
        if copies < rule.copies as usize {
            return Err(format!(
                "node {place} released LSN {upto} with {copies} copies, {} are due",
                rule.copies
            ));
        }
        Ok(())
    }

    /// R19, R23: what a standby shows was released, if perhaps given up since by a takeover that was
    /// allowed to.
    fn check_standby(&self, place: Place, node: &Node, gate: &Gate) -> Result<(), String> {
        if gate.serves != Serves::Standby {
            return Ok(());
        }
        let applied = node.store.applied();
        let log = node.store.log();
        let (history, oldest) = (log.history(), log.oldest().lsn);
        for lsn in oldest.0 + 1..=applied.0 {
            let epoch = epoch_at(&history, Lsn(lsn));
            let now = self.released.get(lsn as usize - 1);
            let once = self.given_up.contains_key(&(lsn, epoch));
            if now.is_none_or(|record| record.epoch != epoch) && !once {
                return Err(format!(
                    "standby {place} shows LSN {lsn} of epoch {epoch}, which was never released"
                ));
            }
        }
        Ok(())
    }

    /// A standby that says how old what it shows may be has all that was released before that.
    fn check_freshness(
        &mut self,
        now: u64,
        place: Place,
        applied: Lsn,
        age: Option<Duration>,
    ) -> Result<(), String> {
        let Some(age) = age else { return Ok(()) };
        // Its clock may be slow by R12's margin, and this one counts whole milliseconds.
        let age = age.as_millis() as u64 * 20 / 19 + 2;
        self.fresh += 1;
        match self.released.get(applied.0 as usize) {
            Some(missing) if missing.at_ms + age < now => Err(format!(
                "standby {place} lacks LSN {}, released {} ms ago, and says to be at most {age} ms old",
                applied.next(),
                now - missing.at_ms
            )),
            _ => Ok(()),
        }
    }

    /// R1, R11: promises only rise, and a vote once durable is the only one of its epoch.
    fn note_durable(&mut self, place: Place, control: &Control) -> Result<(), String> {
        let who = (place, control.incarnation);
        let promised = self.promised.entry(who).or_default();
        if control.promised < *promised {
            return Err(format!("node {place} took a promise back"));
        }
        *promised = control.promised;
        if control.cluster.is_some() {
            self.promised_as_member.insert(place, control.promised);
        }
        if let Some(recorded) = &control.rule {
            self.recorded.insert(who, recorded.id);
        }
        let Some(vote) = control.vote else {
            return Ok(());
        };
        let key = (control.promised, place, control.incarnation);
        if *self.votes.entry(key).or_insert(vote) == vote {
            return Ok(());
        }
        Err(format!(
            "node {place} voted twice in epoch {}",
            control.promised
        ))
    }

    /// R1: what is said is durable. (A higher promise, or a newer rule, keeps an older one's.)
    fn note_said(&self, place: Place, to: NodeId, envelope: &Envelope) -> Result<(), String> {
        let who = (place, envelope.incarnation);
        let promised = self.promised.get(&who).copied().unwrap_or_default();
        let voted = |epoch: Epoch, whom: NodeId| {
            let vote = self.votes.get(&(epoch, place, envelope.incarnation));
            promised > epoch || vote == Some(&whom)
        };
        let durable = match &envelope.message {
            Message::VoteAnswer { epoch, refused, .. } => refused.is_some() || voted(*epoch, to),
            Message::Vote { epoch, .. } => voted(*epoch, envelope.from),
            Message::Recorded { rule, .. } => self.recorded.get(&who) >= Some(rule),
            Message::BeatAnswer(answer) => !answer.lease || promised >= answer.epoch,
            _ => true,
        };
        if durable {
            return Ok(());
        }
        Err(format!(
            "node {place} said before it was durable: {:?}",
            envelope.message
        ))
    }

    fn note_winner(&mut self, place: Place, epoch: Epoch) -> Result<(), String> {
        self.takeovers += 1;
        if self.promised_as_member.get(&place) < Some(&epoch) {
            return Err(format!(
                "node {place} begins epoch {epoch} before it is durable"
            ));
        }
        match self.winners.insert(epoch, place) {
            Some(other) => Err(format!(
                "epoch {epoch} was won by nodes {other} and {place}"
            )),
            None => Ok(()),
        }
    }

    /// The winner's log against everything ever released: nothing is missing, or somebody allowed
    /// that much and the report states at least as much.
    fn note_report(&mut self, report: &Report, node: &Node, budget: MaxLoss) -> Result<(), String> {
        if !self.judged.insert(report.epoch) {
            return Ok(());
        }
        // A winner whose votes came late, when a higher epoch had begun: it can release nothing.
        if self.winners.keys().next_back() > Some(&report.epoch) {
            return Ok(());
        }
        let log = node.store.log();
        let (history, oldest, end) = (log.history(), log.oldest().lsn, log.end().lsn);
        let same = |lsn: u64| {
            lsn <= oldest.0
                || (lsn <= end.0
                    && self.released[lsn as usize - 1].epoch == epoch_at(&history, Lsn(lsn)))
        };
        let known = self.released.len() as u64;
        let kept = (1..=known).take_while(|lsn| same(*lsn)).count();
        let lost = self.released.split_off(kept);
        let places = kept as u64 + 1..;
        let lost_at = places
            .zip(&lost)
            .map(|(lsn, record)| ((lsn, record.epoch), *record));
        self.given_up.extend(lost_at);
        if lost.is_empty() {
            return Ok(());
        }
        self.lossy += 1;
        // What nobody was told of is no loss.
        let writes = || lost.iter().filter(|record| !record.start);
        let exact = Exact {
            records: writes().count() as u64,
            bytes: writes().map(|record| record.bytes).sum(),
        };
        let times = || lost.iter().map(|record| record.at_ms);
        let span = times().max().unwrap_or(0) - times().min().unwrap_or(0);
        if (report.forced || allows(budget, exact, span)) && states(&report.bound, exact) {
            return Ok(());
        }
        Err(format!(
            "node {} reigns in epoch {} without {exact:?} released from LSN {} on \
             ({span} ms); forced: {}, budget {budget:?}, stated {:?}",
            report.new_primary,
            report.epoch,
            kept + 1,
            report.forced,
            report.bound
        ))
    }
}

/// What clients lost.
#[derive(Clone, Copy, Debug)]
struct Exact {
    records: u64,
    bytes: u64,
}

fn allows(budget: MaxLoss, lost: Exact, span_ms: u64) -> bool {
    match budget {
        MaxLoss::Nothing => false,
        MaxLoss::Records(most) => lost.records <= most,
        MaxLoss::Bytes(most) => lost.bytes <= most,
        MaxLoss::SpanMs(most) => span_ms <= most,
    }
}

fn states(bound: &LossBound, lost: Exact) -> bool {
    !bound.exact_zero
        && bound.records.is_none_or(|most| lost.records <= most)
        && bound.bytes.is_none_or(|most| lost.bytes <= most)
}
