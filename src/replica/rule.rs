//! The commit rule: who must hold a record before it is safe to acknowledge.
//!
//! A rule is plain data. It also lists the voters with their incarnations of membership (R25),
//! since who may elect must change by the same joint, recorded steps as who must hold (R26).

use serde::{Deserialize, Deserializer, Serialize};

use super::config::{Kind, Level, MaxLag};
use crate::units::{Epoch, Lsn, NodeId};

/// Order of rules: by epoch, then by version within that epoch (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId {
    /// The reign that proposed it.
    pub epoch: Epoch,
    /// 1, 2, 3 … within the reign.
    pub version: u64,
}

/// A member that votes, under the incarnation in which it was admitted (R25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// Its number.
    pub id: NodeId,
    /// Drawn when its disk was blank; a replaced disk draws another.
    pub incarnation: u64,
    /// What it stores.
    pub kind: Kind,
}

impl Voter {
    /// Whether it has a log, and so could be elected.
    pub fn is_data(&self) -> bool {
        self.kind == Kind::Data
    }
}

/// `copies` of `members` must hold a record at `level` before it is released.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Data nodes whose copies count, ascending.
    pub members: Vec<NodeId>,
    /// How many of them.
    pub copies: u32,
    /// How firmly.
    pub level: Level,
    /// Async: the primary releases nothing further ahead of its standbys than this. (Once a number
    /// of records and nothing else: control files of that time still load.)
    #[serde(
        default,
        alias = "max_lag_records",
        deserialize_with = "lag_of_any_age"
    )]
    pub max_lag: Option<MaxLag>,
    /// Who votes, ascending by number.
    pub voters: Vec<Voter>,
    /// Voters that a person declared gone for good (R22): they come back only as blank nodes.
    pub lost: Vec<Voter>,
    /// The voters are still those of the cluster's beginning: a blank voter listed here has
    /// forgotten nothing since.
    pub founding: bool,
}

impl Rule {
    /// Voters that make a majority.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Votes of `members` that prove that no released record is missing from all of them (R10).
    pub fn member_votes_needed(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.copies as usize)
    }

    /// Whether this node, in this incarnation, votes.
    pub fn counts(&self, id: NodeId, incarnation: u64) -> bool {
        self.voters
            .iter()
            .any(|voter| voter.id == id && voter.incarnation == incarnation)
    }

    /// Whether `id` votes and has a log.
    pub(super) fn is_data_voter(&self, id: NodeId) -> bool {
        self.voters
            .iter()
            .any(|voter| voter.id == id && voter.is_data())
    }

    /// The voters with a log besides `id`.
    pub(super) fn other_data_voters(&self, id: NodeId) -> impl Iterator<Item = &Voter> {
        self.voters
            .iter()
            .filter(move |voter| voter.id != id && voter.is_data())
    }

    /// Whether the copies of `id` count.
    pub fn has_member(&self, id: NodeId) -> bool {
        self.members.contains(&id)
    }

    /// Whether this rule asks for nobody but `id`.
    pub fn is_alone(&self, id: NodeId) -> bool {
        self.members == [id]
    }

    /// Whether a person declared this incarnation gone for good (R22).
    pub fn is_lost(&self, id: NodeId, incarnation: u64) -> bool {
        self.lost
            .iter()
            .any(|voter| voter.id == id && voter.incarnation == incarnation)
    }

    /// The last LSN that `copies` members hold, `held` telling each member's.
    pub(super) fn held_by_copies(&self, held: impl Fn(NodeId) -> Lsn) -> Lsn {
        let mut lsns: Vec<Lsn> = self.members.iter().map(|id| held(*id)).collect();
        lsns.sort_unstable_by(|a, b| b.cmp(a));
        let place = (self.copies as usize).max(1) - 1;
        lsns.get(place).copied().unwrap_or(Lsn::ZERO)
    }
}

/// A rule with its place in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordedRule {
    /// Its place.
    pub id: RuleId,
    /// What it asks.
    pub rule: Rule,
}

/// `null`, a number of records as older control files have it, or a budget with its unit. On the
/// wire (bincode) there is only the last.
fn lag_of_any_age<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MaxLag>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Records(u64),
        Named(MaxLag),
    }
    if !from.is_human_readable() {
        return Option::deserialize(from);
    }
    let written = Option::<Written>::deserialize(from)?;
    Ok(written.map(|written| match written {
        Written::Records(records) => MaxLag::Records(records),
        Written::Named(budget) => budget,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(max_lag: &str) -> Result<Rule, serde_json::Error> {
        serde_json::from_str(&format!(
            r#"{{"members":[1],"copies":1,"level":"synced",{max_lag}"voters":[],"lost":[],"founding":true}}"#
        ))
    }

    #[test]
    fn control_files_of_before_still_load() {
        let cases = [
            ("", None),
            (r#""max_lag_records":null,"#, None),
            (r#""max_lag_records":20,"#, Some(MaxLag::Records(20))),
            (r#""max_lag":{"bytes":9},"#, Some(MaxLag::Bytes(9))),
        ];
        for (text, wanted) in cases {
            assert_eq!(rule(text).expect(text).max_lag, wanted, "{text}");
        }
        assert!(rule(r#""max_lag":"much","#).is_err());
    }

    #[test]
    fn a_rule_reads_back_as_it_was_written() {
        for budget in [MaxLag::Records(3), MaxLag::Bytes(4), MaxLag::Ms(5)] {
            let mut written = rule("").expect("it is one");
            written.max_lag = Some(budget);
            let json = serde_json::to_string(&written).expect("plain data");
            assert_eq!(
                serde_json::from_str::<Rule>(&json).expect("its own"),
                written
            );
        }
    }
}
