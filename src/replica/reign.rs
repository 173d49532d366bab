//! What a primary does: heartbeats, the commit rule and its changes, release, handing over.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Kind, Level, Mode};
use super::guard::Guard;
use super::machine::{Ack, Machine, Now, Output, Role};
use super::message::{Beat, BeatAnswer, LogPos, Message};
use super::report::Report;
use super::rule::{RecordedRule, Rule, RuleId, Voter};
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// How long a switchover may pause writes before it is called off.
pub const HANDOVER_PATIENCE: Micros = Micros::from_ms(5_000);

/// A primary's cursors for one standby: `synced` and `applied` never pass `received`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cursor {
    pub(super) stream: u64,
    pub(super) incarnation: u64,
    pub(super) received: Lsn,
    pub(super) synced: Lsn,
    pub(super) applied: Lsn,
}

/// A rule on its way to being recorded by a majority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposal {
    pub(super) recorded: RecordedRule,
    /// Once sent it cannot be taken back: someone may have recorded it.
    pub(super) sent: bool,
    /// The own recording counts once this generation is durable.
    pub(super) own: u64,
    /// Those it admits have been told, once a majority of the old voters had recorded it (R25).
    pub(super) told_newcomers: bool,
    /// Who has recorded it, and under which incarnation.
    pub(super) recorded_by: BTreeMap<NodeId, u64>,
}

impl Proposal {
    /// Whether a majority of the voters of `rule`, each under its incarnation, has recorded it.
    fn recorded_by_majority_of(&self, rule: &Rule) -> bool {
        let recorded = rule
            .voters
            .iter()
            .filter(|voter| self.recorded_by.get(&voter.id) == Some(&voter.incarnation));
        recorded.count() >= rule.majority()
    }
}

/// The lease that a voter promised this reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promise {
    /// Whose word it is: a replaced disk does not know what its predecessor promised (R25).
    pub(super) incarnation: u64,
    /// When the newest heartbeat that it answers was sent.
    pub(super) sent_at: Micros,
}

/// A switchover under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handover {
    pub(super) to: NodeId,
    pub(super) until: Micros,
    pub(super) paused: bool,
}

/// The state of a reign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reign {
    pub(super) epoch: Epoch,
    pub(super) report: Report,
    /// Where EpochStart stands; `None` until it does.
    pub(super) start: Option<LogPos>,
    /// What was known to be released when the reign began.
    pub(super) known_released: Lsn,
    /// The rule that a majority has recorded in this epoch.
    pub(super) active: Option<RecordedRule>,
    /// The rule decided on next (R6); in a young reign the first.
    pub(super) proposal: Option<Proposal>,
    pub(super) version: u64,
    pub(super) standbys: BTreeMap<NodeId, Cursor>,
    /// With `max_lag`: incarnation of a standby whose stream broke, and what it had received.
    pub(super) parted: BTreeMap<NodeId, (u64, Lsn)>,
    /// `max_lag` in bytes or time: counted from the first, the budget ends behind the second.
    pub(super) lag_reach: (Lsn, Lsn),
    /// Standbys whose process was seen to be gone, and that have not come back.
    pub(super) dead: BTreeSet<NodeId>,
    /// What each voter promised.
    pub(super) leases: BTreeMap<NodeId, Promise>,
    /// Newest answer seen from each member (R16).
    pub(super) heard: BTreeMap<NodeId, u64>,
    /// Members that answer under an incarnation that is not admitted (R25).
    pub(super) strangers: BTreeMap<NodeId, u64>,
    /// Members that say they would not stand now.
    pub(super) unfit: BTreeSet<NodeId>,
    pub(super) seq: u64,
    pub(super) next_beat: Micros,
    /// Last record in the log at the last heartbeat: a standby that holds it has caught up.
    pub(super) appended_at_beat: Lsn,
    /// A record that waits for release, and since when (semi-sync).
    pub(super) waiting: Option<(Lsn, Micros)>,
    /// Whether it held leases from a majority when it was last looked after.
    pub(super) leased: bool,
    pub(super) handover: Option<Handover>,
}

impl Reign {
    pub(super) fn new(epoch: Epoch, first: Rule, report: Report, released: Lsn) -> Reign {
        let id = RuleId { epoch, version: 1 };
        let recorded = RecordedRule { id, rule: first };
        Reign {
            epoch,
            report,
            start: None,
            known_released: released,
            active: None,
            proposal: Some(Proposal {
                recorded,
                sent: false,
                own: u64::MAX,
                told_newcomers: false,
                recorded_by: BTreeMap::new(),
            }),
            version: 1,
            standbys: BTreeMap::new(),
            parted: BTreeMap::new(),
            lag_reach: (Lsn::ZERO, Lsn::ZERO),
            dead: BTreeSet::new(),
            leases: BTreeMap::new(),
            heard: BTreeMap::new(),
            strangers: BTreeMap::new(),
            unfit: BTreeSet::new(),
            seq: 0,
            next_beat: Micros::ZERO,
            appended_at_beat: Lsn::ZERO,
            waiting: None,
            leased: false,
            handover: None,
        }
    }

    /// The rule whose voters elect and promise leases now.
    pub(super) fn rule_in_force(&self) -> Option<&RecordedRule> {
        self.active
            .as_ref()
            .or(self.proposal.as_ref().map(|proposal| &proposal.recorded))
    }

    /// Whether a cursor's copies count under `rule` (R25).
    pub(super) fn counted(&self, rule: &Rule, id: NodeId) -> Option<&Cursor> {
        self.standbys
            .get(&id)
            .filter(|cursor| rule.counts(id, cursor.incarnation))
    }
}

impl Machine {
    pub(super) fn reign_deadline(&self, reign: &Reign) -> Micros {
        let mut deadline = reign.next_beat;
        // Once the fall-back is decided, or another proposal is out, time alone changes nothing: a
        // deadline left in the past would have the owner tick without end.
        let alone = |rule: &Rule| rule.is_alone(self.config.id);
        let open = reign
            .proposal
            .as_ref()
            .is_none_or(|proposal| !proposal.sent && !alone(&proposal.recorded.rule));
        if let Some((_, since)) = reign.waiting
            && open
            // Without leases there is no fall-back; the answer that renews them is an input.
            && reign.leased
            && self.may_fall_back(reign)
        {
            deadline = deadline.min(since.plus(self.config.semi_sync_timeout));
        }
        if let Some(handover) = &reign.handover {
            deadline = deadline.min(handover.until);
        }
        deadline
    }

    /// Until when this primary may act: it holds leases from a majority of the voters, its own
    /// promise included, each counted from when the heartbeat left, less the margin (R12), and each
    /// by the incarnation that the rule lists (R25): a voter admitted again on a new disk is free to
    /// vote, whatever its old disk had promised.
    pub(super) fn lease_until(&self, reign: &Reign) -> Micros {
        let Some(recorded) = reign.rule_in_force() else {
            return Micros::ZERO;
        };
        let rule = &recorded.rule;
        let own = usize::from(rule.counts(self.config.id, self.control.incarnation));
        let others = rule.majority().saturating_sub(own);
        if others == 0 {
            return Micros(u64::MAX);
        }
        let voters = rule
            .voters
            .iter()
            .filter(|voter| voter.id != self.config.id);
        let by_itself = |voter: &Voter, promise: &Promise| {
            promise.incarnation == voter.incarnation || !self.keeps(Guard::R25Lease)
        };
        let mut ends: Vec<Micros> = voters
            .filter_map(|voter| {
                let promise = reign.leases.get(&voter.id);
                promise.filter(|promise| by_itself(voter, promise))
            })
            .map(|promise| promise.sent_at.plus(self.own_lease()))
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(others - 1).copied().unwrap_or(Micros::ZERO)
    }

    fn own_lease(&self) -> Micros {
        if self.keeps(Guard::R12Margin) {
            self.config.lease_at_primary()
        } else {
            self.config.lease
        }
    }

    /// One pass over everything a primary may have to do. The reign is taken out of the role for
    /// the pass, so that its parts can be borrowed beside the machine's.
    pub(super) fn reign_progress(&mut self, now: Now) {
        if !matches!(self.role, Role::Primary(_)) {
            return;
        }
        let Role::Primary(mut reign) = std::mem::replace(&mut self.role, Role::Follower) else {
            return;
        };
        reign.leased = self.lease_until(&reign) > now.boot;
        self.send_first_proposal(&mut reign);
        self.count_recordings(&mut reign);
        self.decide_change(now, &mut reign);
        self.send_change(&mut reign);
        self.count_recordings(&mut reign);
        self.release(now, &mut reign);
        self.beat(now, &mut reign);
        self.role = Role::Primary(reign);
        self.hand_over(now);
    }

    /// R5. A rule of this node alone waits until the whole log is synced here (R7).
    fn send_first_proposal(&mut self, reign: &mut Reign) {
        if reign.active.is_some() {
            return;
        }
        let Some(proposal) = &mut reign.proposal else {
            return;
        };
        let alone = proposal.recorded.rule.is_alone(self.config.id);
        if proposal.sent
            || (alone && self.keeps(Guard::R7Synced) && self.log.synced < reign.report.fork.lsn)
        {
            return;
        }
        self.send_proposal(reign);
    }

    /// R6: a change goes out when every record up to EpochStart, and every record released,
    /// meets the new rule.
    fn send_change(&mut self, reign: &mut Reign) {
        let Some(start) = reign.start else { return };
        if reign.active.is_none() {
            return;
        }
        let Some(proposal) = &reign.proposal else {
            return;
        };
        let met = self.held(reign, &proposal.recorded.rule);
        let met = (met >= start.lsn && met >= self.released) || !self.keeps(Guard::R6Met);
        let met = met && self.within_lag(reign, &proposal.recorded.rule);
        if !proposal.sent && met {
            self.send_proposal(reign);
        }
    }

    fn send_proposal(&mut self, reign: &mut Reign) {
        let newcomers = self.newcomers(reign);
        let Some(proposal) = &mut reign.proposal else {
            return;
        };
        let recorded = proposal.recorded.clone();
        proposal.sent = true;
        self.change_control(|control| control.rule = Some(recorded.clone()));
        proposal.own = self.generation;
        let epoch = reign.epoch;
        for to in recorded.rule.voters.iter().map(|voter| voter.id) {
            if to == self.config.id || newcomers.contains(&to) {
                continue;
            }
            // The epoch is durable, and nobody else proposes in it: this need not wait for the
            // own recording.
            self.say_at_once(
                to,
                Message::Propose {
                    epoch,
                    rule: recorded.clone(),
                },
            );
        }
    }

    /// Voters that the outstanding proposal admits (R25): they are told only once a majority of
    /// the old voters has recorded it, and so every later election finds it. Their own recordings
    /// then count like any other's: two voters, one of them new, have no majority without it.
    fn newcomers(&self, reign: &Reign) -> BTreeSet<NodeId> {
        let (Some(active), Some(proposal)) = (&reign.active, &reign.proposal) else {
            return BTreeSet::new();
        };
        let joint = self.keeps(Guard::R25Majority) && self.keeps(Guard::R26);
        if proposal.recorded_by_majority_of(&active.rule) || !joint {
            return BTreeSet::new();
        }
        let old = &active.rule.voters;
        let new = proposal.recorded.rule.voters.iter();
        new.filter(|voter| !old.contains(voter))
            .map(|voter| voter.id)
            .collect()
    }

    fn count_recordings(&mut self, reign: &mut Reign) {
        let Some(proposal) = &mut reign.proposal else {
            return;
        };
        if !proposal.sent {
            return;
        }
        if self.persisted >= proposal.own {
            proposal
                .recorded_by
                .insert(self.config.id, self.control.incarnation);
        }
        if reign.active.is_none() && !self.keeps(Guard::R5Majority) {
            reign.active = Some(proposal.recorded.clone());
            return;
        }
        let by_old = reign
            .active
            .as_ref()
            .is_none_or(|active| proposal.recorded_by_majority_of(&active.rule))
            || !self.keeps(Guard::R26);
        if by_old && !std::mem::replace(&mut proposal.told_newcomers, true) {
            // They need not wait for the next heartbeat's answer: until they know that they
            // count, the loss of this primary would find one voter less.
            let old = reign
                .active
                .as_ref()
                .map(|active| active.rule.voters.as_slice());
            let known = |voter: &Voter| old.is_none_or(|old| old.contains(voter));
            let new = proposal
                .recorded
                .rule
                .voters
                .iter()
                .filter(|voter| !known(voter));
            for to in new.map(|voter| voter.id).collect::<Vec<_>>() {
                let rule = proposal.recorded.clone();
                self.say_at_once(
                    to,
                    Message::Propose {
                        epoch: reign.epoch,
                        rule,
                    },
                );
            }
        }
        if by_old && proposal.recorded_by_majority_of(&proposal.recorded.rule) {
            let rule = proposal.recorded.clone();
            reign.active = Some(rule.clone());
            reign.proposal = None;
            // Those who do not vote are told, too, and at once: a forced promotion may have nobody
            // else to ask.
            let votes = |id: &NodeId| rule.rule.voters.iter().any(|voter| voter.id == *id);
            let silent: Vec<NodeId> = self.config.others().filter(|id| !votes(id)).collect();
            for to in silent {
                let (epoch, rule) = (reign.epoch, rule.clone());
                self.say_at_once(to, Message::Propose { epoch, rule });
            }
        }
    }

    pub(super) fn on_recorded(
        &mut self,
        from: NodeId,
        incarnation: u64,
        epoch: Epoch,
        rule: RuleId,
    ) {
        if let Role::Primary(reign) = &mut self.role
            && reign.epoch == epoch
            && let Some(proposal) = &mut reign.proposal
            && proposal.recorded.id == rule
        {
            proposal.recorded_by.insert(from, incarnation);
        }
    }

    /// The last LSN that meets `rule`. The local copy counts once it is synced.
    fn held(&self, reign: &Reign, rule: &Rule) -> Lsn {
        rule.held_by_copies(|id| {
            if id == self.config.id {
                return self.log.synced;
            }
            match (reign.counted(rule, id), rule.level) {
                (None, _) => Lsn::ZERO,
                (Some(cursor), Level::Received) => cursor.received,
                (Some(cursor), Level::Applied) if !self.keeps(Guard::R9Release) => cursor.applied,
                (Some(cursor), Level::Synced | Level::Applied) => cursor.synced,
            }
        })
    }

    /// The last LSN that replies may show: at level applied, only what enough standbys' readers
    /// see (R9).
    pub(super) fn shown(&self, reign: &Reign) -> Lsn {
        let Some(active) = &reign.active else {
            return self.released;
        };
        if active.rule.level != Level::Applied || !self.keeps(Guard::R9Reply) {
            return self.released;
        }
        let applied = active.rule.held_by_copies(|id| {
            if id == self.config.id {
                return self.log.appended.lsn;
            }
            reign
                .counted(&active.rule, id)
                .map_or(Lsn::ZERO, |cursor| cursor.applied)
        });
        self.released.min(applied)
    }

    fn release(&mut self, now: Now, reign: &mut Reign) {
        let (Some(start), Some(active)) = (reign.start, &reign.active) else {
            return;
        };
        if self.lease_until(reign) <= now.boot && self.keeps(Guard::R18Lease) {
            return;
        }
        let mut lsn = self.held(reign, &active.rule);
        if let Some(proposal) = &reign.proposal {
            // R6: from the decision until a majority has recorded it, both.
            let new = self.held(reign, &proposal.recorded.rule);
            lsn = if !self.keeps(Guard::R6Old) {
                new
            } else if !self.keeps(Guard::R6New) {
                lsn
            } else {
                lsn.min(new)
            };
        }
        if let Some(limit) = self.append_limit(reign) {
            // Appending keeps to it already; but a standby's new stream, or a new voter, may set
            // back what is counted from.
            lsn = lsn.min(limit);
        }
        lsn = lsn.min(self.log.appended.lsn);
        // R8: records of earlier epochs count as released only once EpochStart is.
        let young = lsn < start.lsn && self.keeps(Guard::R8);
        if !young && lsn > self.released {
            self.released = lsn;
        }
        if reign.report.first_release.is_none() && self.released >= start.lsn {
            reign.report.first_release = Some(Machine::phase(&reign.report, now));
            self.outputs
                .push_back(Output::Report(Box::new(reign.report.clone())));
        }
        let waited = reign.waiting.is_some_and(|(lsn, _)| self.released >= lsn);
        if waited || reign.waiting.is_none() {
            let appended = self.log.appended.lsn;
            reign.waiting = (self.released < appended).then_some((appended, now.boot));
        }
    }

    /// Whether a standby holds, at the level that `rule` asks for, all there was a moment ago.
    fn caught_up(&self, reign: &Reign, rule: &Rule, id: NodeId) -> bool {
        if id == self.config.id {
            return true;
        }
        let Some(cursor) = reign.counted(rule, id) else {
            return false;
        };
        let held = if rule.level == Level::Received {
            cursor.received
        } else {
            cursor.synced
        };
        !reign.dead.contains(&id) && held >= self.released && held >= reign.appended_at_beat
    }

    fn may_fall_back(&self, reign: &Reign) -> bool {
        let alone = |active: &RecordedRule| active.rule.is_alone(self.config.id);
        self.config.mode == Mode::SemiSync && reign.active.as_ref().is_some_and(|a| !alone(a))
    }

    /// The rule that should be in force now.
    fn wanted_rule(&self, now: Now, reign: &Reign, active: &Rule) -> Rule {
        let voters = self.voters_with_admission(reign, active);
        let mut wanted = self.desired_rule(&voters, &active.lost);
        wanted.founding = active.founding && voters == active.voters;
        if self.config.mode == Mode::SemiSync {
            let alone = self.alone_rule(&wanted);
            let there = wanted
                .members
                .iter()
                .filter(|id| self.caught_up(reign, &wanted, **id))
                .count();
            let alive = wanted
                .members
                .iter()
                .filter(|id| !reign.dead.contains(id))
                .count();
            let timeout = self.config.semi_sync_timeout;
            let timed_out = reign
                .waiting
                .is_some_and(|(_, since)| now.boot.since(since) >= timeout);
            let copies = wanted.copies as usize;
            let full = !active.is_alone(self.config.id) || wanted.is_alone(self.config.id);
            let keep = if full {
                alive >= copies && !timed_out
            } else {
                there >= copies
            };
            if !keep {
                wanted = alone;
            }
        }
        wanted.max_lag = self.provable_lag(reign, active, &wanted);
        wanted
    }

    /// R25: at most one member more, or one under a new incarnation, once it holds everything
    /// released.
    fn voters_with_admission(&self, reign: &Reign, active: &Rule) -> Vec<Voter> {
        let mut voters = active.voters.clone();
        let seats = self
            .config
            .members
            .iter()
            .filter(|m| m.vote && m.id != self.config.id);
        for member in seats {
            let cursor = reign.standbys.get(&member.id);
            let incarnation = match member.kind {
                Kind::Witness => reign.strangers.get(&member.id).copied(),
                Kind::Data => cursor
                    .filter(|c| {
                        let whole = c.synced >= self.released && c.synced >= reign.appended_at_beat;
                        whole || !self.keeps(Guard::R25Whole)
                    })
                    .map(|cursor| cursor.incarnation),
            };
            let Some(incarnation) = incarnation else {
                continue;
            };
            let known = active.counts(member.id, incarnation);
            let lost = active.is_lost(member.id, incarnation) && self.keeps(Guard::R22Blank);
            if known || lost {
                continue;
            }
            voters.retain(|voter| voter.id != member.id);
            voters.push(Voter {
                id: member.id,
                incarnation,
                kind: member.kind,
            });
            voters.sort_unstable();
            break;
        }
        voters
    }

    /// R6: decides on the next rule. A decision that has not gone out may be dropped again.
    fn decide_change(&mut self, now: Now, reign: &mut Reign) {
        let Some(active) = &reign.active else { return };
        if reign
            .proposal
            .as_ref()
            .is_some_and(|proposal| proposal.sent && self.keeps(Guard::R5OneProposal))
            || reign.start.is_none()
        {
            return;
        }
        let wanted = self.wanted_rule(now, reign, &active.rule);
        if wanted == active.rule {
            reign.proposal = None;
            return;
        }
        // A primary that no majority answers would release nothing under the new rule. But voters
        // that still hear it would record that rule, and with it no standby can win: a primary that
        // had gone deaf kept everybody from taking over until somebody healed it.
        let falls_back = wanted.is_alone(self.config.id) && self.may_fall_back(reign);
        if falls_back && !reign.leased {
            return;
        }
        if reign
            .proposal
            .as_ref()
            .is_some_and(|proposal| proposal.recorded.rule == wanted)
        {
            return;
        }
        reign.version += 1;
        let id = RuleId {
            epoch: reign.epoch,
            version: reign.version,
        };
        reign.proposal = Some(Proposal {
            recorded: RecordedRule { id, rule: wanted },
            sent: false,
            own: u64::MAX,
            told_newcomers: false,
            recorded_by: BTreeMap::new(),
        });
    }

    fn beat(&mut self, now: Now, reign: &mut Reign) {
        if reign.next_beat > now.boot {
            return;
        }
        reign.next_beat = now.boot.plus(self.config.interval);
        reign.seq += 1;
        reign.appended_at_beat = self.log.appended.lsn;
        let open = reign.start.is_some_and(|start| self.released >= start.lsn);
        let serves = open && self.lease_until(reign) > now.boot;
        for to in self.config.others().collect::<Vec<_>>() {
            let beat = Beat {
                epoch: reign.epoch,
                seq: reign.seq,
                sent_at: now.boot,
                echo: reign.heard.get(&to).copied().unwrap_or(0),
                appended: self.log.appended.lsn,
                synced: self.log.synced,
                released: self.released,
                serves,
                wall: now.wall,
                lease: self.config.lease,
                process: self.config.process,
            };
            self.say_at_once(to, Message::Beat(beat));
        }
    }

    pub(super) fn on_beat_answer(
        &mut self,
        now: Now,
        from: NodeId,
        incarnation: u64,
        answer: BeatAnswer,
    ) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if answer.epoch != reign.epoch {
            return;
        }
        if answer.promised > reign.epoch {
            let why = format!("node {from} has promised epoch {}", answer.promised);
            self.adopt_epoch(now, answer.promised, &why);
            return;
        }
        let heard = reign.heard.entry(from).or_insert(0);
        *heard = (*heard).max(answer.seq);
        reign.dead.remove(&from);
        match answer.fit {
            true => reign.unfit.remove(&from),
            false => reign.unfit.insert(from),
        };
        // An answer is as durable as `Recorded`, which may be lost: the voter is not told again
        // what it knows, so without this the proposal would stay open for ever.
        if let Some(proposal) = &mut reign.proposal
            && answer.rule == Some(proposal.recorded.id)
        {
            proposal.recorded_by.insert(from, incarnation);
        }
        let Some(recorded) = reign.rule_in_force().cloned() else {
            return;
        };
        if recorded.rule.counts(from, incarnation) {
            reign.strangers.remove(&from);
            if answer.lease {
                let older = reign.leases.get(&from).copied();
                let older = older.filter(|promise| promise.incarnation == incarnation);
                let sent_at = older.map_or(answer.sent_at, |p| p.sent_at.max(answer.sent_at));
                let promise = Promise {
                    incarnation,
                    sent_at,
                };
                reign.leases.insert(from, promise);
            }
        } else {
            reign.strangers.insert(from, incarnation);
        }
        self.tell_rule_again(from, answer.rule);
    }

    /// A proposal may have been lost on the way, and a new voter has yet to hear the rule.
    fn tell_rule_again(&mut self, to: NodeId, known: Option<RuleId>) {
        let Role::Primary(reign) = &self.role else {
            return;
        };
        let outstanding = reign.proposal.as_ref().filter(|proposal| proposal.sent);
        let newest = match outstanding {
            Some(proposal) if !self.newcomers(reign).contains(&to) => Some(&proposal.recorded),
            _ => reign.active.as_ref(),
        };
        let Some(recorded) = newest.cloned() else {
            return;
        };
        let epoch = reign.epoch;
        // Those who do not vote are told, too: a forced promotion may have nobody else to ask.
        let is_active = reign
            .active
            .as_ref()
            .is_some_and(|active| active.id == recorded.id);
        let voter = recorded.rule.voters.iter().any(|voter| voter.id == to);
        if (voter || is_active) && known < Some(recorded.id) {
            self.say_at_once(
                to,
                Message::Propose {
                    epoch,
                    rule: recorded,
                },
            );
        }
    }

    pub(super) fn on_reign_begun(&mut self, now: Now, epoch: Epoch, start: LogPos) {
        if let Role::Primary(reign) = &mut self.role
            && reign.epoch == epoch
        {
            reign.start = Some(start);
            reign.report.promoted = Some(Machine::phase(&reign.report, now));
            self.outputs
                .push_back(Output::Report(Box::new(reign.report.clone())));
        }
    }

    pub(super) fn on_followed(&mut self, id: NodeId, incarnation: u64, epoch: Epoch, stream: u64) {
        let afresh = self.keeps(Guard::R4);
        if let Role::Primary(reign) = &mut self.role
            && reign.epoch == epoch
            // A standby that connected again may be heard before its first connection was served;
            // the late one then took the cursor, and took it along when it ended a moment later.
            && reign.standbys.get(&id).is_none_or(|cursor| cursor.stream <= stream)
        {
            let zero = Lsn::ZERO;
            let mut cursor = Cursor {
                stream,
                incarnation,
                received: zero,
                synced: zero,
                applied: zero,
            };
            // R4: what an earlier stream acknowledged may be gone, with its disk or its page cache.
            if let Some(old) = reign.standbys.get(&id).filter(|_| !afresh) {
                (cursor.received, cursor.synced) = (old.received, old.synced);
            }
            reign.standbys.insert(id, cursor);
            reign.parted.remove(&id);
            reign.dead.remove(&id);
        }
    }

    pub(super) fn on_ack(&mut self, id: NodeId, stream: u64, ack: Ack) {
        if let Role::Primary(reign) = &mut self.role
            && reign.epoch == ack.epoch
            && let Some(cursor) = reign.standbys.get_mut(&id)
            && cursor.stream == stream
        {
            cursor.received = cursor.received.max(ack.received);
            cursor.synced = cursor.synced.max(ack.synced);
            cursor.applied = cursor.applied.max(ack.applied);
        }
    }

    pub(super) fn on_stream_lost(&mut self, id: NodeId, stream: u64) {
        if !self.keeps(Guard::R4) {
            return;
        }
        let budgeted = self.config.max_lag.is_some();
        if let Role::Primary(reign) = &mut self.role
            && reign
                .standbys
                .get(&id)
                .is_some_and(|cursor| cursor.stream == stream)
            && let Some(cursor) = reign.standbys.remove(&id)
            && budgeted
        {
            reign
                .parted
                .insert(id, (cursor.incarnation, cursor.received));
        }
    }

    pub(super) fn note_dead_standby(&mut self, id: NodeId) {
        if let Role::Primary(reign) = &mut self.role {
            reign.dead.insert(id);
        }
    }

    pub(super) fn on_switchover(&mut self, now: Now, to: Option<NodeId>) {
        let refusal = match &self.role {
            Role::Primary(reign) => match self.successor(reign, to) {
                Ok(to) => {
                    let until = now.boot.plus(HANDOVER_PATIENCE);
                    let handover = Handover {
                        to,
                        until,
                        paused: false,
                    };
                    if let Role::Primary(reign) = &mut self.role {
                        reign.handover = Some(handover);
                    }
                    self.outputs.push_back(Output::PauseWrites);
                    return;
                }
                Err(why) => why,
            },
            _ => "this node is not the primary".to_string(),
        };
        self.outputs.push_back(Output::ResumeWrites(refusal));
    }

    /// The standby to hand over to: the one asked for, or the one that holds most.
    fn successor(&self, reign: &Reign, to: Option<NodeId>) -> Result<NodeId, String> {
        if reign.handover.is_some() {
            return Err("a switchover is under way already".into());
        }
        let Some(recorded) = &reign.active else {
            return Err("this reign has not begun to release writes yet; try again".into());
        };
        let able = |id: NodeId| self.could_succeed(reign, &recorded.rule, id);
        match to {
            Some(id) if id == self.config.id => Err(format!("node {id} is the primary already")),
            Some(id) if self.config.member(id).is_none() => {
                Err(format!("node {id} is not a member"))
            }
            Some(id) if reign.unfit.contains(&id) => Err(format!(
                "node {id} would not stand: it is out of disk, loading or repairing"
            )),
            Some(id) if able(id) => Ok(id),
            Some(id) => Err(format!(
                "node {id} cannot take over: it is not a connected, voting data node with priority \
                 above 0"
            )),
            None => self
                .best_successor(reign)
                .ok_or_else(|| "no standby that could take over is connected".to_string()),
        }
    }

    fn could_succeed(&self, reign: &Reign, rule: &Rule, id: NodeId) -> bool {
        let member = self.config.member(id);
        let stands = member.is_some_and(|m| m.kind == Kind::Data && m.vote && m.priority > 0);
        let fit = stands && !reign.unfit.contains(&id);
        fit && reign.counted(rule, id).is_some() && id != self.config.id
    }

    /// The connected standby that could take over and holds most.
    pub(super) fn best_successor(&self, reign: &Reign) -> Option<NodeId> {
        let rule = &reign.active.as_ref()?.rule;
        let able = reign.standbys.iter();
        let able = able.filter(|(id, _)| self.could_succeed(reign, rule, **id));
        let best = able.max_by_key(|(_, cursor)| cursor.received);
        best.map(|(id, _)| *id)
    }

    pub(super) fn on_writes_paused(&mut self) {
        if let Role::Primary(reign) = &mut self.role
            && let Some(handover) = &mut reign.handover
        {
            handover.paused = true;
        }
    }

    fn hand_over(&mut self, now: Now) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(handover) = reign.handover.clone() else {
            return;
        };
        let end = self.log.appended.lsn;
        let holds_all = reign
            .standbys
            .get(&handover.to)
            .is_some_and(|cursor| cursor.received >= end && cursor.synced >= end);
        let settled = reign.proposal.is_none() && self.released >= end;
        if handover.paused && settled && holds_all {
            let why = format!("handed over to node {}", handover.to);
            self.step_down(now, &why, Some(handover.to));
        } else if handover.until <= now.boot {
            reign.handover = None;
            let why = format!("node {} did not catch up within 5 s", handover.to);
            self.outputs.push_back(Output::ResumeWrites(why));
        }
    }

    /// R20: ends the reign for good and says so, which voids every lease at once.
    pub(super) fn step_down(&mut self, now: Now, why: &str, to: Option<NodeId>) {
        let Role::Primary(reign) = &self.role else {
            return;
        };
        let epoch = reign.epoch;
        // A handover happens only once everything is released and at the successor.
        let settled = to.map(|_| self.released);
        self.end_reign_settled(now, why, settled);
        for member in self.config.others().collect::<Vec<_>>() {
            self.say_at_once(member, Message::Abdicate { epoch, to });
        }
    }

    /// The reign is over, whatever the reason; nobody hears of it from here.
    pub(super) fn end_reign(&mut self, now: Now, why: &str) {
        self.end_reign_settled(now, why, None);
    }

    fn end_reign_settled(&mut self, now: Now, why: &str, settled: Option<Lsn>) {
        let Role::Primary(reign) = &self.role else {
            return;
        };
        let epoch = reign.epoch;
        self.role = Role::Follower;
        self.abdicated = self.abdicated.max(epoch);
        self.quiet_since = now.boot;
        self.next_try = now.boot;
        self.matched = None;
        self.outputs.push_back(Output::EndReign {
            settled,
            epoch,
            why: why.to_string(),
        });
    }
}
