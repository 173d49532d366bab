//! What would be lost if the primary died now, for good and at this moment: the live RPO.
//!
//! Promise: never less than the truth, and 0 only where it is proven. Counted are the records that
//! are released, so that clients may have been told of them or seen them, and that not every
//! possible successor is known to hold. Where the commit rule asks for another node's copy that is
//! 0 by the rule (R10). Where it asks for the primary alone (async; semi-sync fallen back) it is
//! what lies behind the last record that any majority without the primary holds, by what the
//! standbys acknowledged as received in this reign; a standby that is gone holds what it had.

use std::collections::BTreeMap;

use super::driver::Node;
use crate::replica::{Standing, View};
use crate::units::{Epoch, Lsn, NodeId};

/// How much would be lost. `None`: not known, as after a restart until a standby was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Records.
    pub records: u64,
    /// Bytes of records, headers included.
    pub bytes: Option<u64>,
    /// Milliseconds since the first of them was written.
    pub ms: Option<u64>,
}

/// What a reign has heard from its standbys, the ones gone since included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    epoch: Epoch,
    standbys: BTreeMap<NodeId, (Lsn, bool)>,
}

impl Heard {
    /// Takes note of what this primary knows now.
    pub(super) fn note(&mut self, view: &View) {
        if self.epoch != view.epoch {
            self.standbys.clear();
            self.epoch = view.epoch;
        }
        for standby in &view.standbys {
            // A stream that has just begun has not said anything.
            if standby.received > Lsn::ZERO {
                let known = (standby.received, standby.counted);
                self.standbys.insert(standby.id, known);
            }
        }
    }

    /// The last record that a standby is known to have received in this reign.
    pub(super) fn received(&self, id: NodeId) -> Option<Lsn> {
        self.standbys.get(&id).map(|(lsn, _)| *lsn)
    }

    /// The same where its copies count (R25).
    fn counted(&self, id: NodeId) -> Lsn {
        let known = self.standbys.get(&id).filter(|(_, counted)| *counted);
        known.map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    /// The last record that whoever comes after this primary holds; `None` where no other data
    /// node is listed.
    fn surely_held(&self, view: &View, own: NodeId, others: &[NodeId]) -> Option<Lsn> {
        let rule = &view.rule.as_ref()?.rule;
        if !rule.is_alone(own) {
            return Some(view.released);
        }
        let elected = rule.surely_held(own, |voter| self.counted(voter.id));
        // Nobody else can be elected: a person would promote the best of those that do not vote.
        let promoted = || others.iter().map(|id| self.received(*id)).max();
        elected.or_else(|| promoted().map(Option::unwrap_or_default))
    }
}

impl Node {
    /// What would be lost if this primary died now; `None` on any other node, and where there is
    /// no other data node that could come after it.
    pub fn exposure(&self, view: &View) -> Option<Exposure> {
        if view.standing != Standing::Primary {
            return None;
        }
        let others: Vec<NodeId> = self.settings.other_data_nodes().collect();
        let held = self.heard().surely_held(view, self.id(), &others)?;
        let records = view.released.records_since(held);
        if records == 0 {
            let none = Some(0);
            return Some(Exposure {
                records,
                bytes: none,
                ms: none,
            });
        }
        let now = self.host.now().wall;
        let behind = self.store.behind(held);
        let since = behind.and_then(|behind| behind.since);
        let upto = self.store.offset_upto(view.released);
        Some(Exposure {
            records,
            bytes: behind.map(|behind| upto.saturating_sub(behind.offset)),
            ms: since.map(|since| now.0.saturating_sub(since.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Kind, Level, RecordedRule, Rule, RuleId, StandbyView, Voter};

    fn rule(members: &[u32], voters: &[u32]) -> RecordedRule {
        let voter = |id: &u32| Voter {
            id: NodeId(*id),
            incarnation: 1,
            // The third only votes.
            kind: if *id == 3 { Kind::Witness } else { Kind::Data },
        };
        RecordedRule {
            id: RuleId {
                epoch: Epoch(4),
                version: 1,
            },
            rule: Rule {
                members: members.iter().map(|id| NodeId(*id)).collect(),
                copies: members.len() as u32,
                level: Level::Synced,
                max_lag: None,
                voters: voters.iter().map(voter).collect(),
                lost: Vec::new(),
                founding: true,
            },
        }
    }

    fn standby(received: u64) -> StandbyView {
        StandbyView {
            id: NodeId(2),
            received: Lsn(received),
            synced: Lsn::ZERO,
            applied: Lsn::ZERO,
            counted: true,
        }
    }

    fn view(epoch: u64, rule: RecordedRule, standbys: &[StandbyView]) -> View {
        View {
            epoch: Epoch(epoch),
            released: Lsn(100),
            rule: Some(rule),
            standbys: standbys.to_vec(),
            ..View::nothing()
        }
    }

    #[test]
    fn what_a_successor_surely_holds() {
        let alone = || rule(&[1], &[1, 2, 3]);
        let no_vote = || rule(&[1], &[1]);
        // What is heard one after the other; what is then known to be held.
        let cases = [
            (
                "by the rule",
                vec![view(4, rule(&[1, 2], &[1, 2, 3]), &[])],
                Some(100),
            ),
            ("nobody heard", vec![view(4, alone(), &[])], Some(0)),
            ("async", vec![view(4, alone(), &[standby(90)])], Some(90)),
            (
                "gone since",
                vec![view(4, alone(), &[standby(90)]), view(4, alone(), &[])],
                Some(90),
            ),
            (
                "back, silent yet",
                vec![
                    view(4, alone(), &[standby(90)]),
                    view(4, alone(), &[standby(0)]),
                ],
                Some(90),
            ),
            (
                "back with less",
                vec![
                    view(4, alone(), &[standby(90)]),
                    view(4, alone(), &[standby(40)]),
                ],
                Some(40),
            ),
            (
                "of the reign before",
                vec![view(3, alone(), &[standby(90)]), view(4, alone(), &[])],
                Some(0),
            ),
            (
                "without a vote",
                vec![view(4, no_vote(), &[standby(70)])],
                Some(70),
            ),
        ];
        for (name, views, wanted) in cases {
            let mut heard = Heard::default();
            views.iter().for_each(|view| heard.note(view));
            let now = views.last().expect("there is one");
            let held = heard.surely_held(now, NodeId(1), &[NodeId(2)]);
            assert_eq!(held, wanted.map(Lsn), "{name}");
        }
        let single = view(4, no_vote(), &[]);
        assert_eq!(Heard::default().surely_held(&single, NodeId(1), &[]), None);
    }
}
