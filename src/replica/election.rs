//! How a standby comes to reign: suspicion, asking around, standing, winning.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Kind, Level, MaxLoss, Mode};
use super::guard::Guard;
use super::machine::{Machine, Now, Output, Role};
use super::message::{Ballot, Message, Refusal};
use super::reign::Reign;
use super::report::{Cause, LossBound};
use super::rule::{RecordedRule, Rule, RuleId, Voter};
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// Epochs skipped by a promotion that declares members lost: more than they can have used unseen.
const FORCED_LEAP: u64 = 1 << 32;

/// How often the time for a candidacy doubles at most: to 1.6 s at the default interval.
const MOST_LATE: u32 = 3;

/// Why, and since when, a standby believes that there is no primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Suspicion {
    pub(super) at: Micros,
    pub(super) cause: Cause,
    /// The primary that is suspected.
    pub(super) gone: Option<NodeId>,
    pub(super) since_last_beat: Option<Micros>,
    /// Candidacies that ended for want of votes in time, as far as they count.
    pub(super) late: u32,
}

/// One round of pre-votes (R13).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) until: Micros,
    pub(super) answers: BTreeMap<NodeId, Answer>,
}

/// What one voter answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) refused: Option<Refusal>,
    pub(super) ballot: Ballot,
}

/// Standing for election in `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidacy {
    pub(super) epoch: Epoch,
    /// The own vote counts once this generation of the control state is durable.
    pub(super) own_vote: u64,
    pub(super) until: Micros,
    /// To begin a cluster (R24).
    pub(super) begin: bool,
    pub(super) answers: BTreeMap<NodeId, Answer>,
}

/// A person's order to promote (R21, R22).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Force {
    pub(super) lost: Vec<NodeId>,
    pub(super) until: Micros,
}

/// What a set of answers amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    /// Enough; with the newest rule they carried and the loss that the takeover may mean.
    Wins {
        newest: RecordedRule,
        bound: LossBound,
    },
    /// Not enough, and why.
    Short(String),
}

impl Machine {
    pub(super) fn election_deadline(&self) -> Micros {
        let mut deadline = self.quiet_since.plus(self.config.worst_case_detection());
        if self.control.cluster.is_none() {
            // A blank node suspects nobody: were its silence a deadline, it would lie in the past
            // for ever, and the owner would tick without end.
            deadline = self.next_blank;
        }
        if self.suspicion.is_some() {
            deadline = self.next_try.max(self.own_lease_end());
        }
        match &self.role {
            Role::Asking(round) => deadline = round.until,
            Role::Standing(candidacy) => deadline = candidacy.until,
            _ => {}
        }
        if !self.deferred.is_empty() {
            deadline = deadline.min(self.lease.until);
        }
        if let Some(force) = &self.force {
            deadline = deadline.min(force.until);
        }
        if self.control.cluster.is_none() {
            deadline = deadline.min(self.next_blank);
        }
        deadline
    }

    /// R12: a node keeps its own promise, too, when it would stand itself.
    fn own_lease_end(&self) -> Micros {
        if self.lease.holder == Some(self.config.id) || !self.keeps(Guard::R12Own) {
            Micros::ZERO
        } else {
            self.lease.until
        }
    }

    /// Time between two attempts; later for a lower rank, so that candidates rarely collide. The
    /// rank among all: whom a node takes for gone is its own belief, and two that ranked alike by
    /// their beliefs stood in one moment, again and again (seed 4416 of three data nodes: one had
    /// been the other's primary, and was back).
    fn patience(&self) -> Micros {
        let step = self.config.interval.0 / 8;
        Micros(step * 2 + step * self.config.rank(None))
    }

    /// How long a candidate waits for votes: twice as long after each time too few came at all. A
    /// vote is sent when it is durable; where that took longer than a candidate waited, every vote
    /// came too late, and there was no primary for as long as the disks were slow (20 s were seen).
    fn candidacy(&self) -> Micros {
        let late = self.suspicion.map_or(0, |suspicion| suspicion.late);
        Micros(((self.config.interval.0 * 2) << late) + self.patience().0)
    }

    pub(super) fn election_progress(&mut self, now: Now) {
        if matches!(self.role, Role::Primary(_)) {
            return;
        }
        self.answer_deferred(now);
        self.begin_progress(now);
        self.raise_suspicion(now);
        if self
            .force
            .as_ref()
            .is_some_and(|force| force.until <= now.boot)
        {
            self.force = None;
            let why = self
                .held_back
                .clone()
                .unwrap_or_else(|| "no majority answered".into());
            self.outputs.push_back(Output::PromoteFailed(why));
        }
        match &self.role {
            Role::Asking(round) if round.until <= now.boot => {
                if round.answers.len() == 1 {
                    self.held_back = Some("the other voters do not answer".into());
                }
                self.role = Role::Follower;
                self.next_try = now.boot;
            }
            Role::Standing(candidacy) if candidacy.until <= now.boot => {
                // Where a majority answered and it was not enough, more time is no help.
                let late = candidacy.answers.len() <= self.other_voters().len().div_ceil(2);
                self.role = Role::Follower;
                if let Some(suspicion) = &mut self.suspicion {
                    suspicion.late = (suspicion.late + u32::from(late)).min(MOST_LATE);
                }
                self.next_try = now.boot.plus(self.patience());
            }
            _ => {}
        }
        self.count_own_vote(now);
        let forced = self.force.is_some() && !self.keeps(Guard::R22Wait);
        let due = self.next_try <= now.boot && (forced || self.own_lease_end() <= now.boot);
        if matches!(self.role, Role::Follower) && self.suspicion.is_some() && due {
            self.ask_around(now);
        }
    }

    fn raise_suspicion(&mut self, now: Now) {
        let silence = now.boot.since(self.quiet_since);
        let member = self.control.cluster.is_some();
        if self.suspicion.is_none() && member && silence >= self.config.worst_case_detection() {
            let cause = match (self.leader, self.seen) {
                (None, None) => Cause::Restart,
                _ => Cause::MissedBeats,
            };
            self.suspect(now, cause);
        }
    }

    pub(super) fn suspect(&mut self, now: Now, cause: Cause) {
        let gone = self.leader.map(|leader| leader.id);
        let since_last_beat = self.leader.map(|leader| now.boot.since(leader.last_beat));
        self.suspicion = Some(Suspicion {
            at: now.boot,
            cause,
            gone,
            since_last_beat,
            late: 0,
        });
        let step = Micros(self.config.interval.0 / 8);
        self.next_try = now.boot.plus(Micros(step.0 * self.config.rank(gone)));
    }

    pub(super) fn on_process_gone(&mut self, now: Now, peer: NodeId, process: u64) {
        self.note_dead_standby(peer);
        // R15: each voter voids only its own lease, on its own observation, and only the lease of
        // the process that it saw gone.
        let same_process = self.lease.process == process || !self.keeps(Guard::R15Process);
        if self.lease.holder == Some(peer) && same_process {
            self.lease.void();
        }
        let led = self
            .leader
            .is_some_and(|l| l.id == peer && l.process == process);
        if led && !matches!(self.role, Role::Primary(_)) && self.suspicion.is_none() {
            self.suspect(now, Cause::ProcessGone);
        }
    }

    pub(super) fn on_abdication_heard(&mut self, now: Now, from: NodeId, to: Option<NodeId>) {
        if matches!(self.role, Role::Primary(_)) {
            return;
        }
        if self.suspicion.is_none() {
            self.suspect(now, Cause::Abdication);
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.gone = Some(from);
        }
        match to {
            Some(to) if to == self.config.id => self.next_try = now.boot,
            // The chosen one goes first.
            Some(_) => self.next_try = now.boot.plus(self.config.interval),
            None => {}
        }
    }

    pub(super) fn on_promote(&mut self, now: Now, lost: Vec<NodeId>) {
        if matches!(self.role, Role::Primary(_)) {
            self.outputs.push_back(Output::PromoteFailed(
                "this node is the primary already".into(),
            ));
            return;
        }
        let patience = self.config.lease.0.max(self.control.longest_lease.0) + 2_000_000;
        self.force = Some(Force {
            lost,
            until: now.boot.plus(Micros(patience)),
        });
        if self.suspicion.is_none() {
            self.suspect(now, Cause::Operator);
        }
        self.next_try = now.boot;
    }

    /// Whether this node may stand at all; if not, a sentence for `status`.
    pub fn obstacle(&self) -> Option<&'static str> {
        let own = self.config.own();
        if own.kind == Kind::Witness {
            return Some("a witness never stands");
        }
        if !own.vote && self.force.is_none() {
            return Some("this node has vote = false; only `promote --force` makes it primary");
        }
        if own.priority == 0 && self.force.is_none() {
            return Some("this node has priority = 0");
        }
        if !self.counts() && self.force.is_none() {
            return Some("this node is blank and not yet admitted by a primary");
        }
        if self.control.incomplete && self.force.is_none() && self.keeps(Guard::R14GaveUp) {
            return Some("this node takes a full copy and has not caught up yet");
        }
        if !self.fit {
            return Some("this node is loading, repairing or out of disk");
        }
        None
    }

    fn ask_around(&mut self, now: Now) {
        if let Some(obstacle) = self.obstacle() {
            self.held_back = Some(obstacle.into());
            self.next_try = now.boot.plus(self.config.interval);
            return;
        }
        if self.round == 0 && !self.keeps(Guard::R11Restart) {
            self.round += 1;
            if self.control.vote == Some(self.config.id) {
                return self.stand_in(now, self.control.promised, false);
            }
        }
        self.round += 1;
        let round = self.round;
        let mut answers = BTreeMap::new();
        answers.insert(
            self.config.id,
            Answer {
                refused: None,
                ballot: self.ballot(),
            },
        );
        self.role = Role::Asking(Round {
            number: round,
            until: now.boot.plus(self.patience()),
            answers,
        });
        let epoch = self.control.promised.next();
        let (log, founding) = (self.log.appended, self.founding_rule());
        for to in self.other_voters() {
            let founding = founding.clone();
            self.say(
                to,
                Message::PreVote {
                    epoch,
                    log,
                    founding,
                    round,
                },
            );
        }
        // Before anyone has answered there is nothing to count, but where nobody has to answer.
        if self.force.is_some() || self.other_voters().is_empty() {
            self.count_round(now);
        }
    }

    pub(super) fn on_pre_vote_answer(
        &mut self,
        now: Now,
        from: NodeId,
        number: u64,
        refused: Option<Refusal>,
        ballot: Ballot,
    ) {
        if let Role::Asking(round) = &mut self.role
            && round.number == number
        {
            round.answers.insert(from, Answer { refused, ballot });
            self.count_round(now);
        }
    }

    fn count_round(&mut self, now: Now) {
        let Role::Asking(round) = &self.role else {
            return;
        };
        let answers = round.answers.clone();
        self.remember_refusals(&answers);
        match self.tally(&answers) {
            Tally::Short(why) if self.keeps(Guard::R13) => self.held_back = Some(why),
            _ => self.stand(now, &answers),
        }
    }

    fn remember_refusals(&mut self, answers: &BTreeMap<NodeId, Answer>) {
        for (id, answer) in answers {
            match answer.refused {
                Some(refusal) => self.refusals.insert(*id, refusal),
                None => self.refusals.remove(id),
            };
        }
    }

    /// R13: only a candidate that could win raises the epoch.
    fn stand(&mut self, now: Now, answers: &BTreeMap<NodeId, Answer>) {
        let promised = answers.values().map(|answer| answer.ballot.promised).max();
        let highest = promised.unwrap_or_default().max(self.control.promised);
        let mut epoch = highest.next();
        if self
            .force
            .as_ref()
            .is_some_and(|force| !force.lost.is_empty())
        {
            // R22: the newest epoch may have been known only to members that are declared gone,
            // and no epoch may be won twice.
            epoch = self.leap(epoch);
        }
        self.stand_in(now, epoch, false);
    }

    fn leap(&self, epoch: Epoch) -> Epoch {
        let leap = if self.keeps(Guard::R22Leap) {
            FORCED_LEAP
        } else {
            0
        };
        Epoch(epoch.0 + leap)
    }

    fn stand_in(&mut self, now: Now, epoch: Epoch, begin: bool) {
        let id = self.config.id;
        self.change_control(|control| {
            control.promised = epoch;
            control.vote = Some(id);
        });
        let span = self.candidacy();
        self.role = Role::Standing(Candidacy {
            epoch,
            own_vote: self.generation,
            until: now.boot.plus(span),
            begin,
            answers: BTreeMap::new(),
        });
        let (log, founding) = (self.log.appended, self.founding_rule());
        let to: Vec<NodeId> = if begin {
            self.beginners().collect()
        } else {
            self.other_voters()
        };
        for to in to {
            let founding = founding.clone();
            self.say(
                to,
                Message::Vote {
                    epoch,
                    log,
                    founding,
                    begin,
                },
            );
        }
    }

    fn count_own_vote(&mut self, now: Now) {
        let (ballot, id) = (self.ballot(), self.config.id);
        let persisted = self.persisted;
        if let Role::Standing(candidacy) = &mut self.role
            && candidacy.own_vote <= persisted
            && !candidacy.answers.contains_key(&id)
        {
            candidacy.answers.insert(
                id,
                Answer {
                    refused: None,
                    ballot,
                },
            );
            self.count_votes(now);
        }
    }

    pub(super) fn on_vote_answer(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        refused: Option<Refusal>,
        ballot: Ballot,
    ) {
        if let Role::Standing(candidacy) = &mut self.role
            && candidacy.epoch == epoch
        {
            candidacy.answers.insert(from, Answer { refused, ballot });
            self.count_votes(now);
        }
    }

    fn count_votes(&mut self, now: Now) {
        let Role::Standing(candidacy) = &self.role else {
            return;
        };
        let (answers, epoch, begin) = (candidacy.answers.clone(), candidacy.epoch, candidacy.begin);
        self.remember_refusals(&answers);
        if !answers.contains_key(&self.config.id) {
            return;
        }
        if begin {
            self.count_beginners(now, epoch, &answers);
            return;
        }
        match self.tally(&answers) {
            Tally::Wins { newest, bound } => self.win(now, epoch, &newest.rule, bound, &answers),
            Tally::Short(why) => self.held_back = Some(why),
        }
    }

    /// R10: whether these answers win, under the newest rule that any of them carried.
    pub(super) fn tally(&self, answers: &BTreeMap<NodeId, Answer>) -> Tally {
        let carried = answers
            .values()
            .filter_map(|answer| answer.ballot.rule.as_ref());
        let Some(newest) = self.newest_rule(carried) else {
            return Tally::Short("no member knows a commit rule yet".into());
        };
        let lost: &[NodeId] = self
            .force
            .as_ref()
            .map(|force| force.lost.as_slice())
            .unwrap_or(&[]);
        let mut voters: Vec<Voter> = newest
            .rule
            .voters
            .iter()
            .filter(|v| !lost.contains(&v.id))
            .copied()
            .collect();
        if voters.is_empty() {
            // R22: a person declared every voter gone; this node goes on as the only one.
            voters.push(self.as_voter());
        }
        let any_disk = !self.keeps(Guard::R24Vote);
        // R25: the vote of a member under another incarnation does not count.
        let granted: BTreeMap<NodeId, &Ballot> = answers
            .iter()
            .filter(|(_, answer)| answer.refused.is_none())
            .map(|(id, answer)| (*id, &answer.ballot))
            .filter(|(id, ballot)| {
                voters
                    .iter()
                    .any(|v| v.id == *id && (v.incarnation == ballot.incarnation || any_disk))
            })
            .collect();
        let majority = voters.len() / 2 + 1;
        let waived = self.force.is_some() && !self.keeps(Guard::R21Majority);
        if granted.len() < majority && !waived {
            return Tally::Short(self.too_few(granted.len(), majority, voters.len(), answers));
        }
        // A majority of all its voters, the lost included, would know of a newer rule.
        let all = newest.rule.voters.iter();
        let there = all.filter(|voter| granted.contains_key(&voter.id)).count();
        let knows_newest =
            there >= newest.rule.majority() || lost.is_empty() || !self.keeps(Guard::R22Unheard);
        let member_votes = granted.iter().filter(|(id, ballot)| {
            // R14: what a rebooted host held only in its page cache is gone.
            // A rule of one node alone is always kept on its disk: the local copy counts only when
            // synced. (A single node at level received would never start again otherwise.)
            let alone = newest.rule.is_alone(**id);
            let forgot = ballot.rebooted && newest.rule.level == Level::Received && !alone;
            let forgot = forgot && self.keeps(Guard::R14Forgot);
            let gave_up = ballot.incomplete && self.keeps(Guard::R14GaveUp);
            newest.rule.has_member(**id) && !forgot && !gave_up
        });
        let enough = member_votes.count() >= newest.rule.member_votes_needed();
        let bound = if !knows_newest {
            // R22: those declared lost may have recorded a newer rule, and released under it what
            // nobody here has heard of: nothing bounds that.
            LossBound {
                records: None,
                bytes: None,
                span_ms: None,
                ..self.loss_bound(&newest, granted.values().copied())
            }
        } else if enough || !self.keeps(Guard::R10Members) {
            LossBound::ZERO
        } else {
            self.loss_bound(&newest, granted.values().copied())
        };
        if let Some(why) = self.refused_by_budget(&bound) {
            return Tally::Short(why);
        }
        Tally::Wins {
            newest: newest.clone(),
            bound,
        }
    }

    fn as_voter(&self) -> Voter {
        let (id, incarnation) = (self.config.id, self.control.incarnation);
        Voter {
            id,
            incarnation,
            kind: self.config.own().kind,
        }
    }

    fn newest_rule<'a>(
        &self,
        carried: impl Iterator<Item = &'a RecordedRule>,
    ) -> Option<RecordedRule> {
        if !self.keeps(Guard::R10NewestRule) {
            return self.control.rule.clone();
        }
        carried.max_by_key(|recorded| recorded.id).cloned()
    }

    fn too_few(
        &self,
        granted: usize,
        majority: usize,
        voters: usize,
        answers: &BTreeMap<NodeId, Answer>,
    ) -> String {
        let reasons: Vec<String> = answers
            .iter()
            .filter_map(|(id, answer)| {
                answer
                    .refused
                    .map(|refusal| format!("node {id} {}", refusal.reason()))
            })
            .collect();
        let tail = if reasons.is_empty() {
            String::from("the others do not answer")
        } else {
            reasons.join("; ")
        };
        format!("{granted} of {voters} votes, {majority} needed: {tail}")
    }

    /// R21: the budget, or a person's force, waives the member votes and nothing else.
    fn refused_by_budget(&self, bound: &LossBound) -> Option<String> {
        if bound.exact_zero || self.force.is_some() || !self.keeps(Guard::R21Budget) {
            return None;
        }
        let strict = self.keeps(Guard::R21Unknown);
        let (budget, bounded) = match self.config.max_loss {
            MaxLoss::Nothing => ("max_loss is 0".to_string(), false),
            MaxLoss::Records(n) => (
                format!("max_loss is {n} records"),
                bound.records.map_or(!strict, |r| r <= n),
            ),
            MaxLoss::Bytes(n) => (
                format!("max_loss is {n} bytes"),
                bound.bytes.map_or(!strict, |b| b <= n),
            ),
            MaxLoss::SpanMs(ms) => (
                format!("max_loss is {ms} ms"),
                bound.span_ms.map_or(!strict, |s| s <= ms),
            ),
        };
        if bounded {
            return None;
        }
        let records = bound
            .records
            .map_or("no bound in records".into(), |r| format!("{r} records"));
        let bytes = bound
            .bytes
            .map_or(String::new(), |bytes| format!("{bytes} bytes, "));
        let span = bound
            .span_ms
            .map_or("no bound in time".into(), |s| format!("{s} ms of writes"));
        Some(format!(
            "not every acknowledged write is known to be here (up to {records}, {bytes}{span}) and {budget}; \
             `understudy promote --force` overrides this"
        ))
    }

    fn win(
        &mut self,
        now: Now,
        epoch: Epoch,
        newest: &Rule,
        bound: LossBound,
        answers: &BTreeMap<NodeId, Answer>,
    ) {
        let lost = self
            .force
            .as_ref()
            .map(|force| force.lost.clone())
            .unwrap_or_default();
        let (gone, mut voters): (Vec<Voter>, Vec<Voter>) = newest
            .voters
            .iter()
            .copied()
            .partition(|voter| lost.contains(&voter.id) && self.keeps(Guard::R22Leave));
        let own = self.as_voter();
        if voters.is_empty() || (self.config.own().vote && !voters.contains(&own)) {
            // R22, R25: who is promoted by force although its disk is new, or was declared lost
            // before, votes from now on: nobody else could admit it. (Seed 6492 of two and a
            // witness: a primary that reigned for good under a rule that counted its old disk.) Any
            // majority of these voters shares one with any majority of those that elected it.
            voters.retain(|voter| voter.id != own.id);
            voters.push(own);
            voters.sort_unstable();
        }
        let present: BTreeSet<NodeId> = answers
            .iter()
            .filter(|(_, answer)| answer.refused.is_none())
            .map(|(id, _)| *id)
            .collect();
        let base = Rule {
            founding: newest.founding && lost.is_empty(),
            members: newest
                .members
                .iter()
                .filter(|id| !lost.contains(id))
                .copied()
                .collect(),
            voters,
            lost: {
                let others = newest.lost.iter().copied().filter(|voter| *voter != own);
                others.chain(gone).collect()
            },
            ..newest.clone()
        };
        let mut first = self.first_rule(&base, newest, &bound, &present);
        // R21: the budget was kept against what others than the primary before held. For others
        // than this one it is promised once it is known to hold.
        first.max_lag = None;
        let report = self.open_report(now, epoch, bound, answers);
        let reign = Reign::new(epoch, first, report, self.released);
        self.take_the_throne(now, reign);
    }

    /// R5: the newest rule the votes carried. R7: or this node alone, where that rule's partner
    /// is missing, or is a primary alone; R10 held and so everything released is here, and
    /// `reign` waits until it is synced here. R21: or what the mode asks for, after a takeover
    /// past the loss budget.
    fn first_rule(
        &self,
        base: &Rule,
        newest: &Rule,
        bound: &LossBound,
        present: &BTreeSet<NodeId>,
    ) -> Rule {
        let here = base
            .members
            .iter()
            .filter(|id| present.contains(id))
            .count();
        let short = here < base.copies as usize || base.members.len() < newest.members.len();
        let other_alone = base.members.len() == 1 && !base.is_alone(self.config.id);
        match self.config.mode {
            Mode::Sync if bound.exact_zero && base.members == newest.members => base.clone(),
            Mode::Sync => self.desired_rule(&base.voters, &base.lost),
            Mode::Async => self.alone_rule(base),
            Mode::SemiSync if !self.keeps(Guard::R7AtOnce) && bound.exact_zero => base.clone(),
            Mode::SemiSync if !bound.exact_zero || short || other_alone => self.alone_rule(base),
            Mode::SemiSync => base.clone(),
        }
    }

    fn take_the_throne(&mut self, now: Now, mut reign: Reign) {
        if !self.keeps(Guard::R5Majority) {
            reign.active = reign.proposal.take().map(|proposal| proposal.recorded);
        }
        let epoch = reign.epoch;
        // Before anything of this reign can reach another node: should it end before it has begun,
        // the next winner may prove that it lost nothing under this reign's rule, and only this
        // report tells what this reign's own election cost.
        let report = Box::new(reign.report.clone());
        self.outputs.push_back(Output::Report(report));
        self.role = Role::Primary(Box::new(reign));
        self.leader = None;
        self.matched = None;
        self.suspicion = None;
        self.force = None;
        self.held_back = None;
        self.deferred.clear();
        self.quiet_since = now.boot;
        self.outputs.push_back(Output::BeginReign { epoch });
    }

    /// The members asked to begin a cluster: every other voter.
    fn beginners(&self) -> impl Iterator<Item = NodeId> + '_ {
        let voters = self.config.members.iter().filter(|member| member.vote);
        let alone = self.config.bootstrap;
        voters
            .map(|member| member.id)
            .filter(move |id| *id != self.config.id && !alone)
    }

    /// R24: a cluster begins once, when all voters say that they are blank, or a person says so.
    fn begin_progress(&mut self, now: Now) {
        if self.control.cluster.is_some() {
            return;
        }
        if self.next_blank <= now.boot {
            self.next_blank = now.boot.plus(self.config.interval);
            for to in self.config.others().collect::<Vec<_>>() {
                self.say_at_once(to, Message::Blank);
            }
        }
        let own = *self.config.own();
        let may_stand = own.kind == Kind::Data && own.vote && own.priority > 0 && self.fit;
        // A log without control state is not blank in the sense of a beginning: the data behind
        // it may be all there is (R24). A person decides, with --bootstrap.
        let empty = self.log.appended.lsn == Lsn::ZERO;
        let recent = self.config.worst_case_detection();
        let all_blank = !self.keeps(Guard::R24Begin)
            || self.beginners().all(|id| {
                self.blank_seen
                    .get(&id)
                    .is_some_and(|at| now.boot.since(*at) < recent)
            });
        let idle = matches!(self.role, Role::Follower) && self.next_try <= now.boot;
        let may_begin = empty || (self.config.bootstrap && self.is_left_alone(now));
        if may_stand && may_begin && all_blank && idle {
            let wait = Micros(self.config.interval.0 * self.config.rank(None));
            if self.suspicion.is_none() && wait > Micros::ZERO {
                self.suspect(now, Cause::Start);
                self.next_try = now.boot.plus(wait);
                return;
            }
            self.suspect(now, Cause::Start);
            let mut epoch = self.control.promised.next();
            if !empty {
                // R22: the log goes on, and who wrote it may have reigned in epochs that it lacks.
                epoch = self.leap(epoch.max(self.log.appended.epoch));
            }
            self.stand_in(now, epoch, true);
        }
    }

    /// Whether no primary has been heard for longer than any that lives is silent. A log whose cluster
    /// goes on joins it again: begun in a higher epoch, it would take back what it lacks.
    fn is_left_alone(&self, now: Now) -> bool {
        let nobody = self.config.others().next().is_none();
        let silence = now.boot.since(self.quiet_since);
        nobody || silence > self.config.worst_case_detection().plus(self.config.lease)
    }

    fn count_beginners(&mut self, now: Now, epoch: Epoch, answers: &BTreeMap<NodeId, Answer>) {
        if self.control.cluster.is_none() {
            self.found(epoch, answers);
            // R1: who reigned before that was durable, and was killed, had a log of a cluster that it
            // did not belong to, and never started again.
            if self.keeps(Guard::R1Begin) {
                return;
            }
        }
        let own = self.control.cluster == Some(self.config.new_cluster_id);
        if let Some(founding) = self.control.rule.clone().filter(|_| own) {
            let empty = self.log.appended.lsn == Lsn::ZERO;
            let bound = if empty {
                LossBound::ZERO
            } else {
                LossBound::UNKNOWN
            };
            let mut report = self.open_report(now, epoch, bound, answers);
            report.forced = !empty;
            let reign = Reign::new(epoch, founding.rule, report, self.released);
            self.take_the_throne(now, reign);
        }
    }

    /// Where all others agreed: this node becomes a member of a cluster of its own, and its vote
    /// counts again once that is durable.
    fn found(&mut self, epoch: Epoch, answers: &BTreeMap<NodeId, Answer>) {
        let all = self
            .beginners()
            .all(|id| answers.get(&id).is_some_and(|a| a.refused.is_none()));
        if !all {
            return;
        }
        let mut voters: Vec<Voter> = answers
            .iter()
            .filter_map(|(id, answer)| {
                let kind = self.config.member(*id)?.kind;
                Some(Voter {
                    id: *id,
                    incarnation: answer.ballot.incarnation,
                    kind,
                })
            })
            .collect();
        voters.sort_unstable();
        let mut first = self.desired_rule(&voters, &[]);
        first.founding = true;
        let id = RuleId { epoch, version: 1 };
        // Together: a node killed between the two belonged to a cluster that has no rule. It was not
        // blank any more, so nothing could begin, and nobody could win: it never served.
        let cluster = self.config.new_cluster_id;
        self.change_control(|control| {
            control.cluster = Some(cluster);
            control.rule = Some(RecordedRule { id, rule: first });
        });
        if let Role::Standing(candidacy) = &mut self.role {
            candidacy.own_vote = self.generation;
            candidacy.answers.remove(&self.config.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Input, Now, Output};
    use crate::units::Millis;

    /// Found by a test of CONFIG whose node was killed forty milliseconds after its first start.
    #[test]
    fn whoever_begins_a_cluster_has_its_rule_whenever_it_dies() {
        let mut machine = Machine::alone();
        let now = |ms| Now {
            boot: Micros::from_ms(ms),
            wall: Millis(ms),
        };
        let mut begun = false;
        for ms in 0..5000 {
            machine.handle(now(ms), Input::Tick);
            while let Some(output) = machine.poll_output() {
                match output {
                    Output::Persist {
                        generation,
                        control,
                    } => {
                        assert_eq!(control.cluster.is_some(), control.rule.is_some());
                        machine.handle(now(ms), Input::Persisted(generation));
                    }
                    Output::BeginReign { .. } => begun = true,
                    _ => {}
                }
            }
            if begun {
                return;
            }
        }
        panic!("it never began");
    }

    /// Seed 4416 of the model's "three in sync": node 1 had been the primary, was back and took
    /// nobody for gone; node 2 took node 1 for gone. Both ranked first and split the votes for ever.
    #[test]
    fn whatever_nodes_believe_their_next_attempts_are_not_equally_far_away() {
        let patience = |id: u32, gone: Option<u32>| {
            let mut machine = Machine::of_three(id);
            machine.suspect(
                Now {
                    boot: Micros(0),
                    wall: Millis(0),
                },
                Cause::Restart,
            );
            if let Some(suspicion) = &mut machine.suspicion {
                suspicion.gone = gone.map(NodeId);
            }
            machine.patience()
        };
        let beliefs = [None, Some(1), Some(2), Some(3)];
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            for (of_a, of_b) in beliefs
                .iter()
                .flat_map(|x| beliefs.iter().map(move |y| (*x, *y)))
            {
                assert_ne!(
                    patience(a, of_a),
                    patience(b, of_b),
                    "{a} {of_a:?}, {b} {of_b:?}"
                );
            }
        }
    }
}
