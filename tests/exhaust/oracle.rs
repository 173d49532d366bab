//! What must hold after every step, and the little that has to be remembered to tell.

use understudy::replica::{Level, RecordedRule, RuleId};
use understudy::units::{Epoch, Lsn, NodeId};

use super::message::Body;
use super::node::{Node, id, incarnation, stream};
use super::store::Store;
use super::world::{Bounds, World};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// What happened so far, as no node can know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The epoch of every record ever released, LSN 1 first.
    pub released: Vec<Epoch>,
    /// Who won each epoch, ascending.
    pub winners: Vec<(Epoch, usize)>,
    /// Once a disk was replaced: the newest rule that came into force in the newest reign, a majority
    /// having recorded it, whatever has become of their disks since.
    pub ruled: Option<RuleId>,
}

impl Ghost {
    /// The newest epoch won.
    pub fn newest(&self) -> Option<Epoch> {
        self.winners.last().map(|(epoch, _)| *epoch)
    }
}

/// What has been used up of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub faults: u8,
    pub wipes: u8,
    pub changes: u8,
    pub orders: u8,
}

impl Spent {
    /// Whether nothing was used up more than in `other`: whatever may happen there may happen here.
    /// (A standby may be taken for gone, `Step::Gone`, only where a process has died.)
    pub fn at_most(&self, other: &Spent, bounds: &Bounds) -> bool {
        let gone = (self.faults == 0) == (other.faults == 0) || other.changes >= bounds.changes;
        gone && self.faults <= other.faults
            && self.wipes <= other.wipes
            && (self.crashes() <= other.crashes() || bounds.crashes >= bounds.faults)
            && self.changes <= other.changes
            && self.orders <= other.orders
    }

    /// Faults that left the disk alone.
    pub fn crashes(&self) -> u8 {
        self.faults - self.wipes
    }

    /// How much in all.
    pub fn sum(&self) -> usize {
        usize::from(self.faults) + usize::from(self.changes) + usize::from(self.orders)
    }
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}

impl World {
    /// Judges what node `i` did in one step, `before` being its state until then.
    pub(super) fn judge(
        &mut self,
        store: &Store,
        i: usize,
        before: u32,
        won: Option<Epoch>,
    ) -> Result<(), Violation> {
        let node = i + 1;
        if let Some(epoch) = won {
            if self.ghost.winners.iter().any(|(old, _)| *old == epoch) {
                return broken(format!("epoch {epoch} was won twice, now by node {node}"));
            }
            self.ghost.winners.push((epoch, i));
            self.ghost.winners.sort_unstable();
            let log = &store.node(self.nodes[i]).log;
            // A candidate may hear its last vote when a later epoch reigns already. It lacks what
            // that one released, and never gets a lease to release anything itself.
            let newest = self.ghost.newest();
            if newest == Some(epoch) && !log.starts_with(&self.ghost.released) {
                let released = &self.ghost.released;
                return broken(format!(
                    "node {node} wins epoch {epoch} with {log:?}; released were {released:?}"
                ));
            }
        }
        let (old, new) = (store.outline(before), store.outline(self.nodes[i]));
        let Some(reign) = &new.reign else {
            // A switchover may release its last records in the step that ends the reign.
            let handed_over = old.reign.is_some() && new.released > old.released;
            if handed_over {
                return self.note_released(store, i, new.released.0 as usize);
            }
            return Ok(());
        };
        let same = old.reign.as_ref().filter(|old| old.epoch == reign.epoch);
        let version = same.map_or(1, |old| old.version.max(1));
        let changes = reign.version.saturating_sub(version) as u8;
        // It wraps: without R5OneProposal a primary sends hundreds of versions in one step, and such
        // runs are to go on. With the rule a step sends one.
        self.spent.changes = self.spent.changes.wrapping_add(changes);
        if self.spent.wipes > 0 {
            self.note_rule(store, i)?;
        }
        let upto = new.released.0 as usize;
        let serves =
            |released: usize, start: Option<u64>| start.is_some_and(|s| released as u64 >= s);
        let already = same
            .filter(|was| serves(old.released.0 as usize, was.start.map(|s| s.0)))
            .map_or(0, |_| old.released.0 as usize);
        if !serves(upto, reign.start.map(|s| s.0)) || upto <= already {
            return Ok(());
        }
        if !reign.lease_live {
            return broken(format!("node {node} released LSN {upto} without a lease"));
        }
        let Some(rule) = &reign.rule else {
            return broken(format!("node {node} released LSN {upto} without a rule"));
        };
        self.check_rule(store, i, upto, reign.epoch, rule)?;
        self.note_released(store, i, upto)
    }

    fn note_released(&mut self, store: &Store, i: usize, upto: usize) -> Result<(), Violation> {
        let (node, log) = (i + 1, &store.node(self.nodes[i]).log);
        let newest = self.ghost.newest();
        let own = self.ghost.winners.iter().rev().find(|(_, who)| *who == i);
        if upto > log.len() {
            return broken(format!("node {node} released LSN {upto} beyond its log"));
        }
        if own.map(|(epoch, _)| *epoch) != newest {
            return broken(format!("node {node} released LSN {upto} after its epoch"));
        }
        let known = self.ghost.released.len().min(upto);
        if log[..known] != self.ghost.released[..known] {
            let released = &self.ghost.released;
            return broken(format!(
                "node {node} released {log:?} up to LSN {upto}; before it {released:?} were"
            ));
        }
        let news = &log[known..upto];
        if self.ghost.released.len() < upto {
            self.ghost.released.extend_from_slice(news);
        }
        Ok(())
    }

    /// R5: the rule in force in the newest reign, if it is node `i`'s: a majority has recorded it.
    fn note_rule(&mut self, store: &Store, i: usize) -> Result<(), Violation> {
        let newest = self.ghost.newest();
        let reign = store.outline(self.nodes[i]).reign.as_ref();
        let reign = reign.filter(|reign| reign.recorded && Some(reign.epoch) == newest);
        let Some(recorded) = reign.and_then(|reign| reign.rule.as_ref()) else {
            return Ok(());
        };
        if self.ghost.ruled < Some(recorded.id) {
            self.check_recorded(store, i, recorded)?;
            self.ghost.ruled = Some(recorded.id);
        }
        Ok(())
    }

    fn check_recorded(
        &self,
        store: &Store,
        i: usize,
        recorded: &RecordedRule,
    ) -> Result<(), Violation> {
        let has_recorded = |node: &Node, v: usize, number: u64| {
            let own = incarnation(v, node.wipes) == number;
            let disk = node.disk.as_ref().filter(|_| own).and_then(|d| d.rule_id());
            let past = node.past.iter().filter(|past| past.incarnation == number);
            let past = past.map(|past| past.recorded).max();
            disk.max(past) >= Some(recorded.id)
        };
        let rule = &recorded.rule;
        let voters = rule.voters.iter().filter(|voter| {
            let v = voter.id.0 as usize - 1;
            has_recorded(store.node(self.nodes[v]), v, voter.incarnation)
        });
        if voters.count() >= rule.majority() {
            return Ok(());
        }
        broken(format!(
            "node {} goes by {:?}, which no majority has recorded",
            i + 1,
            recorded.id
        ))
    }

    /// R5 and the commit rule: a majority has recorded a rule of this epoch, and `copies` of its
    /// members have held the newest record, synced.
    fn check_rule(
        &self,
        store: &Store,
        i: usize,
        upto: usize,
        epoch: Epoch,
        recorded: &RecordedRule,
    ) -> Result<(), Violation> {
        let (node, rule) = (i + 1, &recorded.rule);
        if recorded.id.epoch != epoch {
            return broken(format!(
                "node {node} released LSN {upto} under {:?}, of another epoch",
                recorded.id
            ));
        }
        if self.ghost.ruled < Some(recorded.id) {
            self.check_recorded(store, i, recorded)?;
        }
        assert_eq!(rule.level, Level::Synced, "every set-up asks for it");
        let Some(last) = store.node(self.nodes[i]).log.get(upto - 1) else {
            return broken(format!("node {node} released LSN {upto} beyond its log"));
        };
        let reign = store.outline(self.nodes[i]).reign.as_ref();
        let copies = rule.members.iter().filter(|member| {
            let m = member.0 as usize - 1;
            let holder = store.node(self.nodes[m]);
            let now = holder.synced >= upto && holder.log[upto - 1] == *last;
            // What a replaced disk had said was true (`check_claims`).
            let replaced = |c: &(NodeId, u64, Lsn)| {
                c.0 == **member && c.1 != incarnation(m, holder.wipes) && c.2.0 as usize >= upto
            };
            now || reign.is_some_and(|reign| reign.cursors.iter().any(replaced))
        });
        if copies.count() < rule.copies as usize {
            return broken(format!(
                "node {node} released LSN {upto} with too few copies"
            ));
        }
        Ok(())
    }

    /// Before the disk of node `i` is replaced: whatever the newest reign believes of it, or may hear
    /// from it yet, is true. And the rule in force by now is recorded.
    pub(super) fn check_claims(&mut self, store: &Store, i: usize) -> Result<(), Violation> {
        let newest = self.ghost.newest();
        let own = store.node(self.nodes[i]);
        let disk = incarnation(i, own.wipes);
        let mut said = Vec::new();
        for number in &self.net {
            let msg = store.message(*number);
            if let Body::Ack { stream: own, ack } = &msg.body
                && msg.from == i
                && *own == stream(disk)
                && Some(ack.epoch) == newest
            {
                said.push((msg.to, ack.synced));
            }
        }
        for p in 0..self.nodes.len() {
            let reign = store.outline(self.nodes[p]).reign.as_ref();
            let Some(reign) = reign.filter(|reign| Some(reign.epoch) == newest) else {
                continue;
            };
            self.note_rule(store, p)?;
            let of_it = |c: &&(NodeId, u64, Lsn)| c.0 == id(i) && c.1 == disk;
            said.extend(reign.cursors.iter().filter(of_it).map(|c| (p, c.2)));
        }
        let wrong = said.into_iter().find(|(p, synced)| {
            let (upto, theirs) = (synced.0 as usize, &store.node(self.nodes[*p]).log);
            own.synced < upto || theirs.len() < upto || own.log[..upto] != theirs[..upto]
        });
        match wrong {
            Some((p, synced)) => broken(format!(
                "node {} counts on LSN {synced:?} of node {}, which it does not hold",
                p + 1,
                i + 1
            )),
            None => Ok(()),
        }
    }

    /// What must hold between nodes.
    pub(super) fn check(&self, store: &Store) -> Result<(), Violation> {
        let live = |i: &usize| {
            let reign = &store.outline(self.nodes[*i]).reign;
            reign.as_ref().is_some_and(|reign| reign.lease_live)
        };
        let live: Vec<_> = (0..self.nodes.len()).filter(live).map(id).collect();
        if live.len() > 1 {
            return broken(format!("live leases of two primaries: nodes {live:?}"));
        }
        let newest = self.ghost.newest();
        for (i, number) in self.nodes.iter().enumerate() {
            let (node, outline) = (store.node(*number), store.outline(*number));
            let upto = outline.released.0 as usize;
            let follows = outline.reign.is_none() && node.stream.is_some();
            if !follows || node.stream != newest {
                continue;
            }
            // R23, R29.
            let right = upto <= node.log.len()
                && upto <= self.ghost.released.len()
                && node.log[..upto] == self.ghost.released[..upto];
            if !right {
                let (log, released) = (&node.log, &self.ghost.released);
                return broken(format!(
                    "standby {} takes LSN {upto} of {log:?} for released; {released:?} were",
                    i + 1
                ));
            }
        }
        Ok(())
    }
}
