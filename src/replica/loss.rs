//! What a takeover may have cost: the bound stated at once (R21), and the report it goes into.

use std::collections::BTreeMap;

use super::config::MaxLag;
use super::election::Answer;
use super::guard::Guard;
use super::machine::{Machine, Now};
use super::message::{Ballot, SeenBeat};
use super::report::{Cause, LossBound, Report};
use super::rule::RecordedRule;
use crate::units::{Epoch, Micros, NodeId};

impl Machine {
    /// The bound when the votes do not satisfy the newest rule.
    ///
    /// In time: a primary acknowledges only under leases from a majority, each counted from a
    /// heartbeat that the voter saw. Any majority of votes shares a voter with that majority, so
    /// nothing was acknowledged later than the newest heartbeat seen by any voter, plus the lease.
    /// A voter that restarted has forgotten what it saw; so those that have seen this reign must be
    /// enough to share one with any majority. (Seed 3738 of "async, 2 records": 800 ms stated and
    /// 821 lost, since the one voter that had heard more was new.)
    ///
    /// By `max_lag`, in its unit: only where the rule kept the primary within it. What any majority
    /// may lack was appended within that many records, bytes or milliseconds of the first record it
    /// lacks.
    pub(super) fn loss_bound<'a>(
        &self,
        newest: &RecordedRule,
        granted: impl Iterator<Item = &'a Ballot> + Clone,
    ) -> LossBound {
        let mut bound = LossBound::UNKNOWN;
        // `max_lag` is kept against what standbys have received, whatever the level: a host that
        // rebooted since, or gave up its log, may hold less than it said (R14).
        let forgot = granted
            .clone()
            .any(|ballot| ballot.rebooted || (ballot.incomplete && self.keeps(Guard::R14GaveUp)));
        if !forgot {
            match newest.rule.max_lag {
                Some(MaxLag::Records(records)) => bound.records = Some(records),
                Some(MaxLag::Bytes(bytes)) => bound.bytes = Some(bytes),
                Some(MaxLag::Ms(ms)) => bound.span_ms = Some(ms),
                None => {}
            }
        }
        let of_newest = |seen: &SeenBeat| seen.epoch >= newest.id.epoch;
        let seen = granted.filter_map(|ballot| ballot.seen).filter(of_newest);
        let meets_any_majority = newest.rule.voters.len() + 1 - newest.rule.majority();
        if seen.clone().count() >= meets_any_majority
            && let Some(seen) = seen.max_by_key(|seen| (seen.epoch, seen.seq))
        {
            bound.announced_missing = seen.appended.records_since(self.log.appended.lsn);
            // Both hold, so the shorter does.
            let span_ms = self.span_ms(&seen);
            bound.span_ms = Some(bound.span_ms.map_or(span_ms, |ms| ms.min(span_ms)));
        }
        bound
    }

    /// From the newest record held here to the end of the newest lease, on the old primary's
    /// wall-clock, which stamped both. (A wall-clock set back meanwhile is outside the bound.)
    fn span_ms(&self, seen: &SeenBeat) -> u64 {
        let log = &self.log.appended;
        let end = seen.wall.0 + seen.lease.as_ms();
        let held_all = seen.epoch == log.epoch && seen.appended <= log.lsn;
        let from = if held_all {
            log.time.0.max(seen.wall.0)
        } else {
            log.time.0
        };
        end.saturating_sub(from)
    }

    pub(super) fn open_report(
        &self,
        now: Now,
        epoch: Epoch,
        bound: LossBound,
        answers: &BTreeMap<NodeId, Answer>,
    ) -> Report {
        let suspicion = self.suspicion;
        let suspected_at = suspicion.map_or(now.boot, |suspicion| suspicion.at);
        let old_primary = suspicion
            .and_then(|s| s.gone)
            .or(self.leader.map(|leader| leader.id));
        let votes = answers
            .values()
            .filter(|answer| answer.refused.is_none())
            .count();
        let why_won = format!(
            "{votes} votes; its log ends at LSN {} of epoch {}, and no voter's is newer",
            self.log.appended.lsn, self.log.appended.epoch
        );
        Report {
            epoch,
            cause: suspicion.map_or(Cause::Restart, |suspicion| suspicion.cause),
            forced: self.force.is_some(),
            old_primary,
            new_primary: self.config.id,
            at: now.wall,
            suspected_at,
            since_last_beat: suspicion.and_then(|suspicion| suspicion.since_last_beat),
            voted: now.boot.since(suspected_at),
            promoted: None,
            first_release: None,
            fork: self.log.appended,
            why_won,
            others: self.why_not(old_primary, answers),
            bound,
        }
    }

    fn why_not(
        &self,
        old_primary: Option<NodeId>,
        answers: &BTreeMap<NodeId, Answer>,
    ) -> Vec<(NodeId, String)> {
        let reason = |id: NodeId| {
            let member = self.config.member(id);
            let answer = answers.get(&id);
            if Some(id) == old_primary {
                "was the primary and is gone".into()
            } else if member.is_some_and(|m| m.kind == super::config::Kind::Witness) {
                "a witness never stands".into()
            } else if let Some(answer) = answer {
                match answer.refused {
                    Some(refusal) => refusal.reason().to_string(),
                    None => format!("voted; its log ends at LSN {}", answer.ballot.log.lsn),
                }
            } else {
                "did not answer before the vote was decided".into()
            }
        };
        self.config.others().map(|id| (id, reason(id))).collect()
    }

    /// What a promotion of this node would cost, as far as it knows by itself; for `promote`
    /// without `--force`.
    pub fn price(&self) -> LossBound {
        match &self.control.rule {
            None => LossBound {
                exact_zero: false,
                records: None,
                bytes: None,
                span_ms: None,
                announced_missing: 0,
            },
            Some(newest) => {
                let own = self.ballot();
                let needed = newest.rule.member_votes_needed();
                if newest.rule.has_member(self.config.id) && needed <= 1 {
                    return LossBound::ZERO;
                }
                self.loss_bound(newest, std::iter::once(&own))
            }
        }
    }

    /// The clock reading as a phase of a report: since suspicion.
    pub(super) fn phase(report: &Report, now: Now) -> Micros {
        now.boot.since(report.suspected_at)
    }
}
