//! What a voter promises: leases and votes.

use super::config::Kind;
use super::guard::Guard;
use super::machine::{Leader, Machine, Now, Role};
use super::message::{Beat, BeatAnswer, LogPos, Message, Refusal, SeenBeat};
use super::rule::RecordedRule;
use crate::units::{Epoch, Lsn, Micros, NodeId};

/// A promise to elect nobody but `holder` until `until`, on this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    /// `None`: promised before a restart, to a node no longer remembered.
    pub(super) holder: Option<NodeId>,
    pub(super) epoch: Epoch,
    /// The holder's process: when it is gone, the promise is void (R15).
    pub(super) process: u64,
    pub(super) until: Micros,
}

impl Lease {
    pub(super) fn to_someone(until: Micros) -> Lease {
        Lease {
            holder: None,
            epoch: Epoch::ZERO,
            process: 0,
            until,
        }
    }

    /// R12: whether it forbids a vote for `candidate`.
    pub(super) fn forbids(&self, candidate: NodeId, now: Now) -> bool {
        self.until > now.boot && self.holder != Some(candidate)
    }

    pub(super) fn void(&mut self) {
        self.until = Micros::ZERO;
    }

    /// What a mutant forgets of it.
    #[cfg(feature = "mutants")]
    pub(super) fn shorten(&mut self, until: Micros) {
        self.until = self.until.min(until);
    }
}

/// A pre-vote's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) round: u64,
    pub(super) log: LogPos,
}

impl Machine {
    pub(super) fn on_beat(&mut self, now: Now, from: NodeId, cluster: Option<u128>, beat: Beat) {
        if beat.epoch <= self.abdicated && self.keeps(Guard::R20Over) {
            return;
        }
        if beat.epoch < self.control.promised {
            self.answer_beat(from, &beat, false);
            return;
        }
        self.adopt_epoch(now, beat.epoch, "another primary reigns in a higher epoch");
        if self.control.cluster.is_none() {
            // A blank node joins as a learner: known to the cluster, counted nowhere (R24).
            self.change_control(|control| control.cluster = cluster);
        }
        // R16: a primary that hears no answer has no lease here, and must not keep this node from
        // an election either: its beats are no reason to believe in it.
        let known = self.leader.is_some_and(|leader| leader.epoch == beat.epoch);
        let echoed = match self.unseen_answer {
            Some((seq, since)) if known && beat.echo >= seq => Some(since),
            _ => None,
        };
        let seen = self.answers_are_seen(now, known, &beat);
        if seen {
            self.believe_in(now, from, &beat);
        }
        if let Some(since) = echoed
            && beat.serves
        {
            self.is_told_after(since, beat.epoch, beat.released);
        }
        let lease = self.counts() && seen;
        if lease {
            if beat.lease > self.control.longest_lease {
                self.change_control(|control| control.longest_lease = beat.lease);
            }
            // R12: a shorter lease setting does not shorten what was promised before.
            let until = now.boot.plus(beat.lease).max(match self.lease.holder {
                Some(holder) if holder != from => Micros::ZERO,
                _ => self.lease.until,
            });
            self.lease = Lease {
                holder: Some(from),
                epoch: beat.epoch,
                process: beat.process,
                until,
            };
        }
        self.answer_beat(from, &beat, lease);
        self.on_released_told(beat.epoch, beat.released);
    }

    /// Takes the sender for the primary of its epoch: a candidacy or suspicion is over.
    fn believe_in(&mut self, now: Now, from: NodeId, beat: &Beat) {
        assert!(
            !matches!(self.role, Role::Primary(_)),
            "two primaries in epoch {}: {} and {from}",
            beat.epoch,
            self.config.id
        );
        self.role = Role::Follower;
        self.suspicion = None;
        self.held_back = None;
        self.deferred.clear();
        self.refusals.clear();
        let released = match self.leader {
            Some(leader) if leader.epoch == beat.epoch => leader.released,
            _ => Lsn::ZERO,
        };
        self.leader = Some(Leader {
            id: from,
            epoch: beat.epoch,
            process: beat.process,
            last_beat: now.boot,
            released,
        });
        self.quiet_since = now.boot;
        let seen = SeenBeat {
            epoch: beat.epoch,
            seq: beat.seq,
            appended: beat.appended,
            wall: beat.wall,
            lease: beat.lease,
        };
        if self
            .seen
            .is_none_or(|old| (old.epoch, old.seq) < (seen.epoch, seen.seq))
        {
            self.seen = Some(seen);
        }
    }

    /// R16: a voter whose answers go unseen for one lease stops renewing, or one-way loss would
    /// leave a primary without a lease that nobody may replace.
    fn answers_are_seen(&mut self, now: Now, known: bool, beat: &Beat) -> bool {
        if !known {
            self.unseen_answer = None;
        }
        match self.unseen_answer {
            _ if !self.keeps(Guard::R16) => true,
            Some((seq, _)) if beat.echo >= seq => {
                self.unseen_answer = Some((beat.seq, now.boot));
                true
            }
            Some((_, since)) => now.boot.since(since) < beat.lease,
            None => {
                self.unseen_answer = Some((beat.seq, now.boot));
                true
            }
        }
    }

    fn answer_beat(&mut self, to: NodeId, beat: &Beat, lease: bool) {
        let answer = BeatAnswer {
            epoch: beat.epoch,
            seq: beat.seq,
            sent_at: beat.sent_at,
            lease,
            promised: self.control.promised,
            log: if self.is_data() {
                self.log.appended
            } else {
                LogPos::default()
            },
            synced: self.log.synced,
            applied: self.log.applied,
            rule: self.control.rule_id(),
            fit: self.fit,
        };
        self.say(to, Message::BeatAnswer(answer));
    }

    /// Why this node would not vote for `candidate`; `None` if it would.
    fn objection(&self, now: Now, candidate: NodeId, log: &LogPos) -> Option<Refusal> {
        if let Role::Primary(reign) = &self.role
            && self.lease_until(reign) > now.boot
        {
            return Some(Refusal::Reigning);
        }
        let known_data = self
            .config
            .member(candidate)
            .is_some_and(|m| m.kind == Kind::Data);
        if !known_data || (!self.counts() && self.keeps(Guard::R24Vote)) {
            return Some(Refusal::NotCounted);
        }
        if self.lease.forbids(candidate, now) && self.keeps(Guard::R12Lease) {
            return Some(Refusal::LeaseLive);
        }
        let older = !log.at_least(&self.log.appended) && self.keeps(Guard::R10Log);
        if self.is_data() && older {
            return Some(Refusal::NewerLog);
        }
        None
    }

    pub(super) fn on_pre_vote(&mut self, now: Now, from: NodeId, asked: Asked) {
        if !self.keeps(Guard::R15Hearsay) {
            self.lease.void();
        }
        let refused = self.objection(now, from, &asked.log);
        match refused {
            Some(Refusal::LeaseLive) => {
                self.deferred.insert(from, asked);
            }
            Some(Refusal::NewerLog) if self.suspicion.is_some() => {
                // The better log stands first: no reason to wait longer. By rank all the same: two
                // better logs that were asked in one moment stood in one moment, split the votes,
                // and were asked again (seed 63 of three data nodes at level received).
                let gone = self.suspicion.and_then(|suspicion| suspicion.gone);
                let wait = self.config.interval.0 / 8 * self.config.rank(gone);
                self.next_try = self.next_try.min(now.boot.plus(Micros(wait)));
            }
            _ => {}
        }
        let answer = Message::PreVoteAnswer {
            round: asked.round,
            refused,
            ballot: self.ballot(),
        };
        self.say(from, answer);
    }

    /// Answers again the pre-votes that only a live lease refused, now that it is over.
    pub(super) fn answer_deferred(&mut self, now: Now) {
        if self.deferred.is_empty() || self.lease.until > now.boot {
            return;
        }
        for (from, asked) in std::mem::take(&mut self.deferred) {
            self.on_pre_vote(now, from, asked);
        }
    }

    pub(super) fn on_vote(
        &mut self,
        now: Now,
        (from, candidate): (NodeId, u64),
        epoch: Epoch,
        log: LogPos,
        begin: bool,
    ) {
        let refused = if begin {
            self.objection_to_begin()
        } else {
            self.objection(now, from, &log)
        };
        // R11: one vote per epoch, and none below the promise.
        let promised = self.control.promised;
        let taken = self.control.vote.is_some_and(|vote| vote != from)
            || self
                .leader
                .is_some_and(|leader| leader.epoch == epoch && leader.id != from);
        let refused = refused.or_else(|| {
            let taken = taken && self.keeps(Guard::R11Vote);
            let too_late = epoch < promised || (epoch == promised && taken);
            too_late.then_some(Refusal::HigherEpoch)
        });
        if refused.is_none() {
            self.adopt_epoch(now, epoch, "this node voted for another primary");
            self.change_control(|control| control.vote = Some(from));
            // Give the winner time to be heard before standing oneself.
            self.quiet_since = now.boot;
            self.role = Role::Follower;
            let patience = self.config.interval;
            self.next_try = self.next_try.max(now.boot.plus(patience));
        }
        self.say(
            from,
            Message::VoteAnswer {
                epoch,
                candidate,
                refused,
                ballot: self.ballot(),
            },
        );
    }

    /// R24: only a blank node helps to begin a cluster.
    fn objection_to_begin(&self) -> Option<Refusal> {
        let blank = self.control.cluster.is_none() || !self.keeps(Guard::R24Begin);
        (!blank).then_some(Refusal::NotBlank)
    }

    pub(super) fn on_propose(
        &mut self,
        now: Now,
        from: NodeId,
        cluster: Option<u128>,
        epoch: Epoch,
        recorded: RecordedRule,
    ) {
        if epoch < self.control.promised || epoch <= self.abdicated || cluster.is_none() {
            return;
        }
        if let Role::Primary(reign) = &self.role
            && reign.epoch == epoch
        {
            return;
        }
        self.adopt_epoch(now, epoch, "another primary reigns in a higher epoch");
        let id = recorded.id;
        if self.control.rule_id() < Some(id) {
            // R11, R25: who reigns in this epoch is decided. The rule may have just made this node
            // a voter; were it to forget the winner with its process, it would have a vote in an
            // epoch that has been won without it, and two winners would share the epoch.
            let knows_winner = self.keeps(Guard::R11Known);
            self.change_control(|control| {
                control.cluster = cluster;
                control.rule = Some(recorded);
                if knows_winner {
                    control.vote.get_or_insert(from);
                }
            });
        }
        self.say(from, Message::Recorded { epoch, rule: id });
    }

    /// R20: names epoch and sender; later beats of that epoch are ignored.
    pub(super) fn on_abdicate(&mut self, now: Now, from: NodeId, epoch: Epoch, to: Option<NodeId>) {
        let over = epoch < self.control.promised || epoch <= self.abdicated;
        if over && self.keeps(Guard::R20Named) {
            return;
        }
        let known = self
            .leader
            .is_some_and(|leader| leader.id == from && leader.epoch == epoch)
            || (self.lease.holder == Some(from) && self.lease.epoch == epoch);
        let known = known || !self.keeps(Guard::R20Named);
        if !known {
            return;
        }
        self.abdicated = epoch.max(self.abdicated);
        let named = self.lease.epoch == epoch || !self.keeps(Guard::R20Named);
        if self.lease.holder == Some(from) && named {
            self.lease.void();
        }
        self.on_abdication_heard(now, from, to);
    }
}
