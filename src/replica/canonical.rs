//! A machine without its clock: the form in which the exhaustive search (`tests/exhaust.rs`) holds
//! it. Nothing in production calls this.
//!
//! The search keeps every clock still at one reading and lets each timer end whenever it likes. A
//! machine compares a stored instant only with the present, never with another, so all that an
//! instant can tell is whether it has passed: one bit. [`Machine::canonical`] reduces every instant
//! to that bit, drops what only a person reads (reports, reasons, statistics) and gives counters
//! that are only compared for order their smallest values. What is merged, and why nothing that
//! could happen is lost:
//!
//! - *Suspicion, the next try, a round of pre-votes*: they only say when this node next asks
//!   around, and [`Machine::make_impatient`] may come at any time.
//! - *Pre-votes put off while a lease was live*: the same question heard again after the lease gives
//!   the same answer, and the search lets every message be heard again.
//! - *Heartbeat numbers and echoes*: a voter that R16 keeps from renewing its promise does what one
//!   does that the heartbeat did not reach, and the search lets any heartbeat be lost.
//! - *How old what is read on a standby can be*: only readers ask.
//! - *What a leader's last heartbeat told to be released*: the same heartbeat may be heard again.
//! - *Leaders, streams, abdications and ended promises of epochs below the promise*: every message
//!   of those epochs is answered by the promise alone.
//! - *The log's end at the last heartbeat*: a primary that counts a standby as caught up once it holds
//!   what is released can do whatever one can that also asks for what was appended a moment ago. That
//!   is more than a machine does, so a fault found by it may be none; none was. (One was, before a vote
//!   named the disk that asked for it: R11.)
//! - *Since which record a primary waits*, and *whose process it saw gone*: both may come at any time
//!   again. Only while a decision that they brought has not gone out do they still count.
//! - *Data nodes among the strangers*: they are admitted by their streams.
//! - *The newest heartbeat seen*: it bounds a loss (R21) and clears a reboot (R14). The search allows
//!   no loss and compares no boot ids.
//! - *Versions of rules not yet sent*: nobody else knows them.
//!
//! It holds for `max_loss` of nothing, no forced promotion, and logs whose applied LSN is zero.

use super::config::{Kind, Mode};
use super::election::Answer;
use super::freshness::Freshness;
use super::machine::{Ack, Machine, Role};
use super::message::LogPos;
use super::reign::{Cursor, Proposal, Reign};
use super::report::{Cause, LossBound, Report};
use super::rule::{RecordedRule, Rule, RuleId, Voter};
use super::vote::Lease;
use crate::units::{Epoch, Lsn, Micros, Millis, NodeId};

/// How far away every timer that still runs is.
const FAR: Micros = Micros(1 << 40);

/// What the search asks a machine after each step.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The highest epoch promised.
    pub promised: Epoch,
    /// A vote was given in it.
    pub voted: bool,
    /// The newest reign that it knows to have abdicated.
    pub abdicated: Epoch,
    /// The newest rule recorded.
    pub recorded: Option<RuleId>,
    /// It promised a lease that has not ended.
    pub promise_live: bool,
    /// The reign of the primary that it believes in.
    pub leader: Option<Epoch>,
    /// It asks around.
    pub asking: bool,
    /// The epoch it stands in.
    pub standing: Option<Epoch>,
    /// Safe to apply; on a primary, released.
    pub released: Lsn,
    /// Of a primary.
    pub reign: Option<ReignOutline>,
}

/// What the search asks a primary.
#[derive(Clone, Debug)]
pub struct ReignOutline {
    /// Its reign.
    pub epoch: Epoch,
    /// Where EpochStart stands.
    pub start: Option<Lsn>,
    /// Voters whose lease it counts on.
    pub credits: Vec<NodeId>,
    /// Standbys whose stream it feeds or fed, the incarnation of each, and what it has synced.
    pub cursors: Vec<(NodeId, u64, Lsn)>,
    /// Members whose process it saw gone.
    pub dead: Vec<NodeId>,
    /// It may release and answer.
    pub lease_live: bool,
    /// A write waits, and has not waited long enough for the fall-back.
    pub waits: bool,
    /// Nothing but a fall-back could make it want another rule: every member is counted.
    pub calm: bool,
    /// The rule in force asks for this node alone.
    pub alone: bool,
    /// The rule sent and not yet recorded by a majority.
    pub outstanding: Option<RuleId>,
    /// The newest version that others may know.
    pub version: u64,
    /// The rule in force.
    pub rule: Option<RecordedRule>,
    /// A majority has recorded it.
    pub recorded: bool,
    /// Writes are paused for a switchover.
    pub paused: bool,
}

impl Machine {
    /// Reduces this machine to what its future can depend on, with every clock standing at `now`.
    pub fn canonical(&mut self, now: Micros) {
        self.renumber_generations();
        self.lease.until = bit(self.lease.until, now);
        self.unseen_answer = None;
        self.freshness = Freshness::default();
        self.forget_past_epochs();
        if let Some(leader) = &mut self.leader {
            leader.last_beat = Micros::ZERO;
            leader.released = Lsn::ZERO;
        }
        self.quiet_since = now;
        self.seen = None;
        self.suspicion = None;
        self.next_try = Micros::ZERO;
        self.round = 0;
        self.refusals.clear();
        self.held_back = None;
        self.deferred.clear();
        self.blank_seen.clear();
        self.next_blank = now.plus(FAR);
        let span = self.config.lease_at_primary();
        let (mode, appended) = (self.config.mode, self.log.appended.lsn);
        match &mut self.role {
            Role::Follower => {}
            Role::Asking(round) => {
                round.number = 1;
                round.until = now.plus(FAR);
                round.answers.values_mut().for_each(plain_answer);
            }
            Role::Standing(candidacy) => {
                candidacy.until = now.plus(FAR);
                candidacy.answers.values_mut().for_each(|answer| {
                    plain_answer(answer);
                    answer.ballot.promised = Epoch::ZERO;
                });
            }
            Role::Primary(reign) => {
                plain_reign(reign, span, now);
                let alone = reign.active.as_ref();
                let alone = alone.is_some_and(|active| active.rule.is_alone(self.config.id));
                let undecided = reign.proposal.as_ref().is_some_and(|p| !p.sent);
                if mode != Mode::SemiSync || !undecided {
                    reign.dead.clear();
                }
                reign.appended_at_beat = Lsn::ZERO;
                reign.waiting = match reign.waiting {
                    // Nobody asks how long.
                    _ if mode != Mode::SemiSync || alone => None,
                    Some((_, since)) if since == now || !undecided => Some((appended, now)),
                    elapsed => elapsed,
                };
                let config = &self.config;
                let witness =
                    |id: &NodeId| config.member(*id).is_some_and(|m| m.kind == Kind::Witness);
                reign.strangers.retain(|id, _| witness(id));
            }
        }
    }

    fn forget_past_epochs(&mut self) {
        let promised = self.control.promised;
        self.leader = self.leader.filter(|leader| leader.epoch >= promised);
        self.matched = self.matched.filter(|epoch| *epoch >= promised);
        if self.matched.is_none() {
            self.last_ack = Ack::default();
        }
        if self.abdicated < promised {
            self.abdicated = Epoch::ZERO;
        }
        if self.lease.until == Micros::ZERO && self.lease.epoch < promised {
            self.lease = Lease::to_someone(Micros::ZERO);
        }
    }

    fn renumber_generations(&mut self) {
        let durable = self.persisted;
        let less = |generation: &mut u64| {
            if *generation != u64::MAX {
                *generation = generation.saturating_sub(durable);
            }
        };
        less(&mut self.generation);
        less(&mut self.binding);
        self.unsaid.iter_mut().for_each(|(g, _, _)| less(g));
        match &mut self.role {
            Role::Standing(candidacy) => less(&mut candidacy.own_vote),
            Role::Primary(reign) => {
                if let Some(proposal) = &mut reign.proposal {
                    less(&mut proposal.own);
                }
            }
            _ => {}
        }
        self.persisted = 0;
    }

    /// Everything but a promised lease that makes this node wait is over: with two ticks, a node
    /// that may stand asks around.
    pub fn make_impatient(&mut self) {
        self.quiet_since = Micros::ZERO;
        self.next_try = Micros::ZERO;
        match &mut self.role {
            Role::Asking(round) => round.until = Micros::ZERO,
            Role::Standing(candidacy) => candidacy.until = Micros::ZERO,
            _ => {}
        }
    }

    /// The round of pre-votes is over without a majority.
    pub fn stop_asking(&mut self) {
        if matches!(self.role, Role::Asking(_)) {
            self.role = Role::Follower;
        }
    }

    /// The lease that this node promised has ended.
    pub fn end_promise(&mut self) {
        self.lease.until = Micros::ZERO;
    }

    /// The credit for the lease that `voter` promised has ended.
    pub fn end_credit(&mut self, voter: NodeId) {
        if let Role::Primary(reign) = &mut self.role {
            reign.leases.remove(&voter);
        }
    }

    /// The next heartbeat is due.
    pub fn make_beat_due(&mut self) {
        if let Role::Primary(reign) = &mut self.role {
            reign.next_beat = Micros::ZERO;
        }
    }

    /// What waits for release has waited for the whole of `semi_sync_timeout`.
    pub fn end_patience(&mut self) {
        if let Role::Primary(reign) = &mut self.role
            && let Some((_, since)) = &mut reign.waiting
        {
            *since = Micros::ZERO;
        }
    }

    /// Forgets what this primary has no more use for, given what may still be asked of it: with no
    /// more `rules`, whatever could only make it want another one; with no more `orders` to hand
    /// over, acknowledgements that release nothing and with which nobody has caught up.
    ///
    /// Returns the standbys that count and were never heard: one that has followed and said nothing
    /// new yet comes to the same.
    pub fn make_content(&mut self, rules: bool, orders: bool) -> Vec<Voter> {
        let (id, released) = (self.config.id, self.released);
        let falls_back = rules && self.config.mode == Mode::SemiSync;
        let Role::Primary(reign) = &mut self.role else {
            return Vec::new();
        };
        if !rules {
            reign.make_content(id);
        }
        if orders || reign.handover.is_some() {
            return Vec::new();
        }
        let known = reign.rules_known();
        let counted = |id: &NodeId, cursor: &Cursor| {
            let counts = |rule: &Rule| rule.counts(*id, cursor.incarnation);
            known.first().is_some_and(counts)
        };
        for (id, cursor) in &mut reign.standbys {
            let wanted = falls_back || (rules && !counted(id, cursor));
            if cursor.synced < released || (cursor.synced == released && !wanted) {
                (cursor.received, cursor.synced) = (Lsn::ZERO, Lsn::ZERO);
            }
        }
        if (falls_back && released == Lsn::ZERO) || (!rules && all_alone(&known, id)) {
            return Vec::new();
        }
        let unheard = |voter: &&Voter| {
            let data = voter.kind == Kind::Data && voter.id != id;
            data && !reign.standbys.contains_key(&voter.id) && !reign.dead.contains(&voter.id)
        };
        let voters = known.iter().flat_map(|rule| &rule.voters);
        voters.filter(unheard).cloned().collect()
    }

    /// The reign that it believes in is over, and it has its vote of that epoch or the rule: what
    /// is left to it is its promise.
    pub fn forget_leader(&mut self) {
        self.leader = None;
        self.forget_stream();
    }

    /// The reign whose stream fed it is over.
    pub fn forget_stream(&mut self) {
        (self.matched, self.last_ack) = (None, Ack::default());
    }

    /// Whether the two differ at most in what a heartbeat of a reign known by its epoch tells: whom
    /// to follow, and what is released.
    pub fn same_but_for_beat(&self, other: &Machine) -> bool {
        let mut same = other.clone();
        same.released = self.released;
        if self.leader.is_none() && self.lease.until == Micros::ZERO {
            (same.leader, same.lease) = (None, self.lease);
        }
        same == *self
    }

    /// Number of the newest control state asked to be made durable.
    pub fn newest_generation(&self) -> u64 {
        self.generation
    }

    /// What the search wants to know.
    pub fn outline(&self, now: Micros) -> Outline {
        Outline {
            promised: self.control.promised,
            voted: self.control.vote.is_some(),
            abdicated: self.abdicated,
            recorded: self.control.rule_id(),
            promise_live: self.lease.until > now,
            leader: self.leader.map(|leader| leader.epoch),
            asking: matches!(self.role, Role::Asking(_)),
            standing: match &self.role {
                Role::Standing(candidacy) => Some(candidacy.epoch),
                _ => None,
            },
            released: self.released,
            reign: match &self.role {
                Role::Primary(reign) => Some(self.reign_outline(reign, now)),
                _ => None,
            },
        }
    }

    fn reign_outline(&self, reign: &Reign, now: Micros) -> ReignOutline {
        let sent = reign.proposal.as_ref().filter(|proposal| proposal.sent);
        let known = sent.map(|proposal| &proposal.recorded);
        let newest = known.or(reign.active.as_ref());
        let alone = |rule: &RecordedRule| rule.rule.is_alone(self.config.id);
        ReignOutline {
            epoch: reign.epoch,
            start: reign.start.map(|start| start.lsn),
            credits: reign.leases.keys().copied().collect(),
            cursors: reign
                .standbys
                .iter()
                .map(|(id, c)| (*id, c.incarnation, c.synced))
                .collect(),
            dead: reign.dead.iter().copied().collect(),
            lease_live: self.lease_until(reign) > now,
            waits: reign.waiting.is_some_and(|(_, since)| since == now)
                && !reign.active.as_ref().is_some_and(alone),
            calm: reign.is_calm(),
            alone: reign.rule_in_force().is_some_and(alone),
            outstanding: known.map(|recorded| recorded.id),
            version: newest.map_or(0, |recorded| recorded.id.version),
            rule: reign.rule_in_force().cloned(),
            recorded: reign.active.is_some(),
            paused: reign.handover.is_some(),
        }
    }
}

impl Reign {
    fn make_content(&mut self, id: NodeId) {
        self.strangers.clear();
        self.dead.clear();
        self.waiting = None;
        let own = |active: &RecordedRule| active.id.epoch == self.epoch;
        let unsent = |proposal: &Proposal| !proposal.sent;
        if self.active.as_ref().is_some_and(own) && self.proposal.as_ref().is_some_and(unsent) {
            self.proposal = None;
        }
        let known = self.rules_known();
        let alone = all_alone(&known, id);
        let counted = |id: &NodeId, cursor: &mut Cursor| {
            known
                .iter()
                .any(|rule| rule.counts(*id, cursor.incarnation))
        };
        self.standbys
            .retain(|id, cursor| !alone && counted(id, cursor));
    }

    /// The rule in force, and the one outstanding.
    fn rules_known(&self) -> Vec<Rule> {
        let proposal = self.proposal.as_ref().map(|proposal| &proposal.recorded);
        let known = self.active.iter().chain(proposal);
        known.map(|recorded| recorded.rule.clone()).collect()
    }

    fn is_calm(&self) -> bool {
        let counts = |id: &NodeId, incarnation: u64| {
            self.rule_in_force()
                .is_some_and(|recorded| recorded.rule.counts(*id, incarnation))
        };
        let known = |(id, cursor): (&NodeId, &Cursor)| counts(id, cursor.incarnation);
        self.strangers.is_empty() && self.standbys.iter().all(known)
    }
}

fn all_alone(rules: &[Rule], id: NodeId) -> bool {
    rules.iter().all(|rule| rule.is_alone(id))
}

fn bit(until: Micros, now: Micros) -> Micros {
    if until > now {
        now.plus(FAR)
    } else {
        Micros::ZERO
    }
}

/// Of a ballot, a tally reads the rule, the incarnation and the promise.
fn plain_answer(answer: &mut Answer) {
    answer.ballot.log = LogPos::default();
    answer.ballot.seen = None;
}

fn plain_reign(reign: &mut Reign, span: Micros, now: Micros) {
    reign
        .leases
        .retain(|_, promise| promise.sent_at.plus(span) > now);
    reign
        .leases
        .values_mut()
        .for_each(|promise| promise.sent_at = now);
    reign.heard.clear();
    reign.seq = 0;
    reign.next_beat = now.plus(FAR);
    reign.known_released = Lsn::ZERO;
    if let Some(handover) = &mut reign.handover {
        handover.until = now.plus(FAR);
    }
    let own = |id: &RuleId| id.epoch == reign.epoch;
    let active = reign.active.as_ref().map(|active| active.id).filter(own);
    reign.version = active.map_or(1, |id| id.version);
    if let Some(proposal) = &mut reign.proposal {
        if !proposal.sent && active.is_some() {
            proposal.recorded.id.version = reign.version + 1;
        }
        reign.version = proposal.recorded.id.version;
    }
    plain_report(&mut reign.report);
}

/// Of its report, a reign reads only the fork.
fn plain_report(report: &mut Report) {
    *report = Report {
        epoch: report.epoch,
        cause: Cause::Restart,
        forced: false,
        old_primary: None,
        new_primary: report.new_primary,
        at: Millis(0),
        suspected_at: Micros::ZERO,
        since_last_beat: None,
        voted: Micros::ZERO,
        promoted: None,
        first_release: Some(Micros::ZERO),
        fork: report.fork,
        why_won: String::new(),
        others: Vec::new(),
        bound: LossBound::ZERO,
    };
}
