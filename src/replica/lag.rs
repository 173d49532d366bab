//! `max_lag`, the RPO budget: how far an async primary's log may be ahead of what any successor is
//! sure to hold.
//!
//! Promise: a rule that names a budget is proposed only when everything released is within it, and
//! from then on nothing is appended or released beyond it. So a takeover that finds the rule may
//! take the budget for a bound on what it lacks, in the budget's own unit (R21).
//!
//! The machine sees LSNs only. A budget in bytes or time is measured by the owner of the records:
//! it keeps to [`Lag`] when it appends, and says by `Input::LagReach` which LSNs that comes to.
//! What it has not said is taken for beyond the budget. A budget in time speaks of when writes
//! were made (their records' times): a write made within it may be released later.

use super::config::{MaxLag, Mode};
use super::machine::{Machine, Role};
use super::reign::Reign;
use super::rule::{Rule, Voter};
use crate::units::{Lsn, NodeId};

/// The budget in force, for whoever appends: a record may be appended only while all records
/// behind `base`, it included, are within `budget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lag {
    /// What any successor is sure to hold.
    pub base: Lsn,
    /// The reign's own first record, which always fits; zero before it stands.
    pub start: Lsn,
    /// How far the log may reach beyond `base`.
    pub budget: MaxLag,
}

impl Rule {
    /// The last LSN that some voter of any majority without `primary` holds, `received` telling
    /// each data voter's; its log, or a newer one, wins. `None` where no other data node votes.
    pub fn surely_held(&self, primary: NodeId, received: impl Fn(&Voter) -> Lsn) -> Option<Lsn> {
        let data = self.other_data_voters(primary);
        let mut lsns: Vec<Lsn> = data.map(received).collect();
        if lsns.is_empty() {
            return None;
        }
        let all_data = lsns.len() + usize::from(self.is_data_voter(primary));
        let witnesses = self.voters.len() - all_data;
        // The smallest number of data nodes in such a majority; the winner is one of them.
        let electing = self
            .majority()
            .saturating_sub(witnesses)
            .clamp(1, lsns.len());
        let needed = lsns.len() - electing + 1;
        lsns.sort_unstable_by(|a, b| b.cmp(a));
        lsns.get(needed - 1).copied()
    }
}

impl Machine {
    /// What the operator wants.
    fn lag_wanted(&self) -> Option<MaxLag> {
        self.config
            .max_lag
            .filter(|_| self.config.mode == Mode::Async)
    }

    /// What a rule with these voters should name. Nothing where nobody else could be elected: a
    /// budget that nobody's copies are counted against would be a promise that nobody keeps.
    pub(super) fn lag_budget(&self, voters: &[Voter]) -> Option<MaxLag> {
        let own = self.config.id;
        let electable = |voter: &Voter| voter.id != own && voter.is_data();
        self.lag_wanted().filter(|_| voters.iter().any(electable))
    }

    /// What any majority of `rule` without this primary is sure to hold. A standby whose stream
    /// broke still holds what it had received: a host that rebooted, a log that was given up, a
    /// disk that was replaced say so themselves when they vote (R14, R25). A new stream begins with
    /// what the standby says then (R4).
    fn base(&self, reign: &Reign, rule: &Rule) -> Option<Lsn> {
        rule.surely_held(self.config.id, |voter| {
            let parted = reign.parted.get(&voter.id);
            let parted = parted.filter(|(incarnation, _)| *incarnation == voter.incarnation);
            let live = reign.counted(rule, voter.id).map(|cursor| cursor.received);
            live.or(parted.map(|(_, received)| *received))
                .unwrap_or(Lsn::ZERO)
        })
    }

    /// The budget to keep to now.
    pub(super) fn lag(&self, reign: &Reign) -> Option<Lag> {
        let rule = &reign.rule_in_force()?.rule;
        let start = reign.start.map_or(Lsn::ZERO, |start| start.lsn);
        let wanted = self.lag_budget(&rule.voters);
        if rule.max_lag.is_some() && rule.max_lag != wanted {
            // Another budget is still promised: nothing is appended until that is changed.
            let budget = MaxLag::Records(0);
            let base = Lsn::ZERO;
            return Some(Lag {
                base,
                start,
                budget,
            });
        }
        let budget = wanted?;
        let mut base = self.base(reign, rule)?;
        // R6: from the decision on, both rules.
        if let Some(proposal) = &reign.proposal
            && let Some(next) = self.base(reign, &proposal.recorded.rule)
        {
            base = base.min(next);
        }
        Some(Lag {
            base,
            start,
            budget,
        })
    }

    /// The last LSN within the budget counted from `base`.
    fn lag_limit(&self, reign: &Reign, base: Lsn, budget: MaxLag) -> Lsn {
        match budget {
            MaxLag::Records(records) => Lsn(base.0.saturating_add(records)),
            // More is known to be held than was counted from: what fitted then still does.
            MaxLag::Bytes(_) | MaxLag::Ms(_) if base >= reign.lag_reach.0 => {
                base.max(reign.lag_reach.1)
            }
            MaxLag::Bytes(_) | MaxLag::Ms(_) => base,
        }
    }

    /// The last LSN that may be appended or released, so that any majority that elects without
    /// this primary holds a log at most `max_lag` behind.
    pub(super) fn append_limit(&self, reign: &Reign) -> Option<Lsn> {
        let lag = self.lag(reign)?;
        let limit = self.lag_limit(reign, lag.base, lag.budget);
        Some(limit.max(lag.start))
    }

    /// The budget of the rule to decide on next: the one wanted, once it is kept already or is
    /// known to hold for everything released; none meanwhile.
    pub(super) fn provable_lag(
        &self,
        reign: &Reign,
        active: &Rule,
        wanted: &Rule,
    ) -> Option<MaxLag> {
        let budget = wanted.max_lag?;
        let kept = active.max_lag == Some(budget);
        (kept || self.released_within(reign, wanted, budget)).then_some(budget)
    }

    /// Whether `next` may be proposed: everything released is within the budget it names.
    pub(super) fn within_lag(&self, reign: &Reign, next: &Rule) -> bool {
        let (Some(budget), Some(active)) = (next.max_lag, &reign.active) else {
            return true;
        };
        let no_less = self.base(reign, next) >= self.base(reign, &active.rule);
        let kept = active.rule.max_lag == Some(budget) && no_less;
        kept || self.released_within(reign, next, budget)
    }

    /// Earlier reigns may have released all there was when this one began, whatever a restarted
    /// node knows of it.
    fn released_within(&self, reign: &Reign, rule: &Rule, budget: MaxLag) -> bool {
        let (Some(start), Some(base)) = (reign.start, self.base(reign, rule)) else {
            return false;
        };
        self.released.max(start.lsn) <= self.lag_limit(reign, base, budget)
    }

    pub(super) fn on_lag_reach(&mut self, base: Lsn, limit: Lsn) {
        if let Role::Primary(reign) = &mut self.role {
            reign.lag_reach = (base, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::config::{Kind, Level};

    fn rule(voters: &[(u32, Kind)]) -> Rule {
        let voter = |(id, kind): &(u32, Kind)| Voter {
            id: NodeId(*id),
            incarnation: 1,
            kind: *kind,
        };
        Rule {
            members: vec![NodeId(1)],
            copies: 1,
            level: Level::Synced,
            max_lag: None,
            voters: voters.iter().map(voter).collect(),
            lost: Vec::new(),
            founding: true,
        }
    }

    /// Every majority without the primary, by trying all: the least that its best log holds.
    fn by_trial(rule: &Rule, received: &[u64]) -> Option<Lsn> {
        let others: Vec<&Voter> = rule.voters.iter().filter(|v| v.id != NodeId(1)).collect();
        let held = |voter: &Voter| Lsn(received[voter.id.0 as usize]);
        (0..1u32 << others.len())
            .filter(|set| set.count_ones() as usize >= rule.majority())
            .filter_map(|set| {
                let chosen = others
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| set & (1 << i) != 0);
                let data = chosen.filter(|(_, voter)| voter.is_data());
                data.map(|(_, voter)| held(voter)).max()
            })
            .min()
    }

    #[test]
    fn what_is_surely_held_is_what_every_electing_majority_holds() {
        let (d, w) = (Kind::Data, Kind::Witness);
        let sets: [&[(u32, Kind)]; 5] = [
            &[(1, d), (2, d), (3, w)],
            &[(1, d), (2, d), (3, d)],
            &[(1, d), (2, d), (3, d), (4, w), (5, w)],
            &[(1, d), (2, d), (3, d), (4, d), (5, w)],
            &[(1, d), (2, d), (3, d), (4, d), (5, d)],
        ];
        for voters in sets {
            let rule = rule(voters);
            for seed in 0..256u64 {
                let received = [0, 0, seed & 3, seed >> 2 & 3, seed >> 4 & 3, seed >> 6];
                let held = rule.surely_held(NodeId(1), |v| Lsn(received[v.id.0 as usize]));
                assert_eq!(held, by_trial(&rule, &received), "{voters:?} {received:?}");
            }
        }
        let alone = rule(&[(1, d), (3, w)]);
        assert_eq!(alone.surely_held(NodeId(1), |_| Lsn(9)), None);
    }
}
