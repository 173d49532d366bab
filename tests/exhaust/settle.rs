//! What is done at once after each step, so that fewer states differ: what can be said without any
//! node changing is said, what only makes a node able to do more is heard, and what can never
//! matter again is forgotten. `docs/model-exhaustive.md` argues each.

use understudy::replica::{Message, Mode, RuleId};
use understudy::units::{Epoch, Lsn, NodeId};

use super::message::{Body, Msg};
use super::node::Step;
use super::oracle::Violation;
use super::store::Store;
use super::world::{Bounds, World};

/// What was settled before: messages known then, to nodes that have not changed since, have
/// nothing new to bring.
struct Settled {
    nodes: Vec<u32>,
    net: Vec<u32>,
}

impl Settled {
    fn node(&self, world: &World, i: usize) -> bool {
        self.nodes[i] == world.nodes[i]
    }

    fn message(&self, number: u32) -> bool {
        self.net.binary_search(&number).is_ok()
    }

    fn is_settled(&self, world: &World, number: u32, to: usize) -> bool {
        self.node(world, to) && self.message(number)
    }
}

impl World {
    /// Whatever can be said without any node changing is said: heartbeats, answers given twice. And
    /// what can never again matter is forgotten. `before` is the state a step ago, which was closed.
    pub(super) fn close(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        before: Option<&World>,
    ) -> Result<(), Violation> {
        if self.out_of_bounds(store, bounds) {
            return Ok(());
        }
        let mut settled = match before {
            Some(before) => Settled {
                nodes: before.nodes.clone(),
                net: before.net.clone(),
            },
            None => Settled {
                nodes: vec![u32::MAX; self.nodes.len()],
                net: Vec::new(),
            },
        };
        self.forget_dead(store, &settled);
        self.forget_past(store)?;
        loop {
            self.settle_leases(store, bounds, &settled)?;
            let now = Settled {
                nodes: self.nodes.clone(),
                net: self.net.clone(),
            };
            for number in &now.net {
                let to = store.message(*number).to;
                if !settled.is_settled(self, *number, to) {
                    self.say(store, to, Step::Hear(*number));
                }
            }
            for i in 0..self.nodes.len() {
                let reigns = store.outline(self.nodes[i]).reign.is_some();
                if reigns && !settled.node(self, i) {
                    self.say(store, i, Step::Beat);
                }
            }
            if self.net == now.net {
                return Ok(());
            }
            settled = now;
        }
    }

    /// Says what this step of node `i` says, if it changes nothing else.
    fn say(&mut self, store: &mut Store, i: usize, step: Step) {
        let effect = store.step(i, self.nodes[i], step);
        if effect.node != self.nodes[i] || effect.fault.is_some() {
            return;
        }
        for number in &effect.sends {
            let msg = store.message(*number);
            if !msg.is_reply_to_question() && !self.is_dead(store, msg) {
                self.put(*number);
            }
        }
    }

    /// A promise under way to its primary counts at once, and one that no primary counts on, nor
    /// can, is over. See `docs/model-exhaustive.md` for why nothing is lost by it.
    fn settle_leases(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        settled: &Settled,
    ) -> Result<(), Violation> {
        if self.spent.changes >= bounds.changes {
            for i in 0..self.nodes.len() {
                if store.outline(self.nodes[i]).reign.is_some() {
                    self.one(store, i, Step::Content)?;
                }
            }
        }
        let net = self.net.clone();
        for number in &net {
            let number = *number;
            let msg = store.message(number);
            let (from, to) = (msg.from, msg.to);
            if settled.is_settled(self, number, to) || !msg.is_promise() || self.is_dead(store, msg)
            {
                continue;
            }
            let id = super::node::id(from);
            let reign = store.outline(self.nodes[to]).reign.as_ref();
            let news = reign.is_some_and(|r| !r.credits.contains(&id) && !r.dead.contains(&id));
            if !news {
                continue;
            }
            let heard = store.step(to, self.nodes[to], Step::Hear(number)).node;
            let reign = store.outline(heard).reign.as_ref();
            if reign.is_some_and(|reign| reign.credits.contains(&id)) {
                self.one(store, to, Step::Hear(number))?;
            }
        }
        for number in self.net.clone() {
            let msg = store.message(number);
            let to = msg.to;
            if !settled.is_settled(self, number, to)
                && !self.is_dead(store, msg)
                && self.only_gains(store, bounds, msg)
            {
                self.one(store, to, Step::Hear(number))?;
            }
        }
        for number in self.net.clone() {
            self.learn_late(store, number, settled)?;
        }
        for i in 0..store.cluster.data {
            self.match_early(store, bounds, i)?;
        }
        for i in 0..self.nodes.len() {
            let id = super::node::id(i);
            let counted = |p: usize| {
                let reign = store.outline(self.nodes[p]).reign.as_ref();
                let credited = reign.is_some_and(|reign| reign.credits.contains(&id));
                let promised = |number: &u32| {
                    let msg = store.message(*number);
                    (msg.from, msg.to) == (i, p) && msg.is_promise() && !self.is_dead(store, msg)
                };
                credited || self.net.iter().any(promised)
            };
            let live = store.outline(self.nodes[i]).promise_live;
            if live && !(0..self.nodes.len()).any(counted) {
                self.one(store, i, Step::EndPromise)?;
            }
        }
        Ok(())
    }

    /// Whether hearing more makes this primary able to do more, and keeps it from nothing: it could
    /// not want another rule.
    fn gains(&self, store: &Store, bounds: &Bounds, p: usize) -> bool {
        let reign = store.outline(self.nodes[p]).reign.as_ref();
        let spent = self.spent.changes >= bounds.changes;
        let mode = store.cluster.mode;
        reign.is_some_and(|r| r.calm && (mode == Mode::Sync || (spent && !r.alone)))
    }

    /// A heartbeat whose answer comes too late to be a credit tells a voter whose promise is over
    /// what is released, and nothing else.
    fn learn_late(
        &mut self,
        store: &mut Store,
        number: u32,
        settled: &Settled,
    ) -> Result<(), Violation> {
        let msg = store.message(number);
        let to = msg.to;
        let Some(Message::Beat(beat)) = msg.message() else {
            return Ok(());
        };
        let before = self.nodes[to];
        let outline = store.outline(before);
        let knows = outline.leader == Some(beat.epoch) && !outline.promise_live;
        if !knows || settled.is_settled(self, number, to) || self.is_dead(store, msg) {
            return Ok(());
        }
        let heard = store.step(to, before, Step::Hear(number));
        let after = store.step(to, heard.node, Step::EndPromise);
        let same = store
            .node(before)
            .machine
            .same_but_for_released(&store.node(after.node).machine);
        if same && after.node != before {
            self.nodes[to] = after.node;
            self.judge(store, to, before, None)?;
        }
        Ok(())
    }

    /// A standby whose log needs no cut is matched at once: it keeps all it can do, and its primary
    /// hears again at least what it had heard.
    fn match_early(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        i: usize,
    ) -> Result<(), Violation> {
        let Some((p, epoch)) = self.shippable(store, i) else {
            return Ok(());
        };
        let (theirs, own) = (store.node(self.nodes[p]), store.node(self.nodes[i]));
        let uncut = theirs.log.starts_with(&own.log) && own.synced == own.log.len();
        if own.stream == Some(epoch) || !uncut || !self.gains(store, bounds, p) {
            return Ok(());
        }
        let number = super::node::incarnation(i, own.wipes);
        let reign = store.outline(self.nodes[p]).reign.as_ref();
        let own_cursor = |c: &&(NodeId, u64, Lsn)| c.0 == super::node::id(i);
        let cursor = reign.and_then(|reign| reign.cursors.iter().find(own_cursor));
        let less = |c: &(NodeId, u64, Lsn)| c.1 == number && c.2.0 as usize <= own.synced;
        if cursor.is_none_or(less) {
            self.ship(store, i, bounds.lazy_sync)?;
        }
        Ok(())
    }

    /// Whether a node that hears this can do all that it could do without.
    fn only_gains(&self, store: &Store, bounds: &Bounds, msg: &Msg) -> bool {
        let to = store.outline(self.nodes[msg.to]);
        match msg.message() {
            Some(Message::Beat(beat)) => to.promise_live && to.leader == Some(beat.epoch),
            Some(Message::BeatAnswer(answer)) => {
                !answer.lease
                    && answer.promised <= answer.epoch
                    && self.gains(store, bounds, msg.to)
            }
            Some(Message::Recorded { .. }) | None => self.gains(store, bounds, msg.to),
            _ => false,
        }
    }

    /// What replaced disks held is asked for until it is released, and what they had recorded until
    /// something is released under it, by the newest reign: no other may release.
    fn forget_past(&mut self, store: &mut Store) -> Result<(), Violation> {
        let newest = self.ghost.winners.last().map(|(epoch, _)| *epoch);
        for i in 0..self.nodes.len() {
            let past = &store.node(self.nodes[i]).past;
            if past.is_empty() {
                continue;
            }
            let held = past.iter().any(|past| !past.held.is_empty());
            let released = &self.ghost.released;
            let held = held && past.iter().all(|past| released.starts_with(&past.held));
            let ruled = |rule: RuleId| Some(rule) <= self.ghost.ruled || Some(rule.epoch) < newest;
            let recorded = past.iter().any(|past| past.recorded.is_some());
            let recorded = recorded && past.iter().all(|past| past.recorded.is_none_or(ruled));
            if held {
                self.one(store, i, Step::ForgetHeld)?;
            }
            if recorded {
                self.one(store, i, Step::ForgetRecorded)?;
            }
        }
        Ok(())
    }

    fn forget_dead(&mut self, store: &Store, settled: &Settled) {
        let mut net = std::mem::take(&mut self.net);
        net.retain(|number| {
            let msg = store.message(*number);
            let same = settled.node(self, msg.from) && settled.is_settled(self, *number, msg.to);
            same || !self.is_dead(store, msg)
        });
        self.net = net;
    }

    /// Whether hearing this can never again change anything but what is as dead.
    fn is_dead(&self, store: &Store, msg: &Msg) -> bool {
        let (from, to) = (
            store.outline(self.nodes[msg.from]),
            store.outline(self.nodes[msg.to]),
        );
        let reign = to.reign.as_ref();
        let reigns = |epoch: Epoch| reign.is_some_and(|reign| reign.epoch == epoch);
        let sender_reigns = |epoch: Epoch| from.reign.as_ref().is_some_and(|r| r.epoch == epoch);
        let Some(message) = msg.message() else {
            return !matches!(&msg.body, Body::Ack(ack) if reigns(ack.epoch));
        };
        match message {
            Message::BeatAnswer(answer) => !reigns(answer.epoch),
            Message::Recorded { epoch, rule } => {
                !reigns(*epoch) || reign.is_none_or(|r| r.outstanding != Some(*rule))
            }
            Message::VoteAnswer {
                epoch,
                candidate,
                refused,
                ballot,
            } => {
                let wipes = store.node(self.nodes[msg.to]).wipes;
                if *candidate != super::node::incarnation(msg.to, wipes) {
                    return true;
                }
                // A refusal tells a candidate nothing but a newer rule.
                let newer = ballot.rule.as_ref().map(|rule| rule.id) > to.recorded;
                to.standing != Some(*epoch) || (refused.is_some() && !newer)
            }
            Message::Vote { epoch, .. } => {
                let past = to.promised > *epoch || (to.promised == *epoch && to.voted);
                past && from.standing != Some(*epoch)
            }
            Message::Beat(beat) => {
                to.abdicated >= beat.epoch
                    || (to.promised > beat.epoch && !sender_reigns(beat.epoch))
            }
            Message::Propose { epoch, rule } => {
                let known = to.recorded >= Some(rule.id);
                let outstanding = from.reign.as_ref().and_then(|reign| reign.outstanding);
                to.promised > *epoch
                    || to.abdicated >= *epoch
                    || (known && outstanding != Some(rule.id))
            }
            Message::Abdicate { epoch, .. } => to.promised > *epoch || to.abdicated >= *epoch,
            _ => true,
        }
    }
}
