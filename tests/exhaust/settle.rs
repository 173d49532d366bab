//! What is done at once after each step, so that fewer states differ: what can be said without any
//! node changing is said, what only makes a node able to do more is heard, and what can never
//! matter again is forgotten. `docs/model-exhaustive.md` argues each.

use understudy::replica::{Ack, Message, Mode, RuleId};
use understudy::units::{Epoch, Lsn, NodeId};

use super::message::{Body, Msg};
use super::node::{Past, Step, id, incarnation};
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
        self.forget_dead(store, bounds, &settled);
        self.forget_past(store)?;
        loop {
            let began = self.nodes.clone();
            self.settle(store, bounds, &settled)?;
            let now = Settled {
                nodes: self.nodes.clone(),
                net: self.net.clone(),
            };
            for number in &now.net {
                let to = store.message(*number).to;
                if !settled.is_settled(self, *number, to) {
                    self.say(store, bounds, to, Step::Hear(*number));
                }
            }
            for i in 0..self.nodes.len() {
                let reigns = store.outline(self.nodes[i]).reign.is_some();
                if reigns && !settled.node(self, i) {
                    self.say(store, bounds, i, Step::Beat);
                }
            }
            if self.net == now.net && self.nodes == began {
                break;
            }
            settled = now;
        }
        self.keep_messages(|world, number| {
            !world.is_answered(store, bounds, store.message(number))
        });
        self.forget_leaders(store, bounds)?;
        self.forget_content(store);
        Ok(())
    }

    /// Forgets what messages say that nobody heeds any more: how far is released, which only standbys
    /// heed, who have heard it, and only from a primary, since a later stream says it again; and
    /// which rule somebody has recorded, once it is told the newer one, unless that is outstanding.
    fn forget_content(&mut self, store: &mut Store) {
        for number in self.net.clone() {
            let msg = store.message(number);
            let heeded = match msg.message() {
                Some(Message::Beat(beat)) => {
                    let reigns = self.reigns(store, msg.from, beat.epoch);
                    beat.released == Lsn::ZERO || (msg.to < store.cluster.data && reigns)
                }
                Some(Message::BeatAnswer(answer)) => {
                    let reign = store.outline(self.nodes[msg.to]).reign.as_ref();
                    let outstanding = reign.and_then(|reign| reign.outstanding);
                    answer.rule.is_none() || answer.lease || outstanding == answer.rule
                }
                _ => true,
            };
            if !heeded {
                self.rewrite(store, number, Msg::without_content);
            }
        }
    }

    /// Nobody feeds a standby whose primary's reign is over. R11: once it has its vote, or the rule,
    /// of that reign, it needs not know whose it was. Judged before, since the oracles ask those who follow.
    fn forget_leaders(&mut self, store: &mut Store, bounds: &Bounds) -> Result<(), Violation> {
        if self.to_come(store, bounds).1 {
            return Ok(());
        }
        for i in 0..self.nodes.len() {
            let outline = store.outline(self.nodes[i]);
            let Some(epoch) = outline.leader else {
                continue;
            };
            let lives = (0..self.nodes.len()).any(|p| self.reigns(store, p, epoch));
            if outline.reign.is_none() && !lives {
                let step = if outline.voted {
                    Step::ForgetLeader
                } else {
                    Step::ForgetStream
                };
                self.check(store)?;
                self.one(store, i, step)?;
            }
        }
        Ok(())
    }

    /// Says what this step of node `i` says, if it changes nothing else.
    fn say(&mut self, store: &mut Store, bounds: &Bounds, i: usize, step: Step) {
        let effect = store.step(i, self.nodes[i], step);
        if effect.node != self.nodes[i] || effect.fault.is_some() {
            return;
        }
        for number in &effect.sends {
            let msg = store.message(*number);
            if !msg.is_reply_to_question() && !self.is_dead(store, bounds, msg) {
                self.put(*number);
            }
        }
    }

    /// One pass over all that is done at once. See `docs/model-exhaustive.md` for why nothing is lost
    /// by it.
    fn settle(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        settled: &Settled,
    ) -> Result<(), Violation> {
        let (rules, orders) = self.to_come(store, bounds);
        for i in 0..self.nodes.len() {
            if store.outline(self.nodes[i]).reign.is_some() {
                self.one(store, i, Step::Content { rules, orders })?;
            }
        }
        for number in self.net.clone() {
            self.learn_beat(store, bounds, number, settled)?;
        }
        self.count_promises(store, bounds, settled)?;
        self.hear_gains(store, bounds, settled)?;
        for i in 0..store.cluster.data {
            self.match_early(store, bounds, i)?;
        }
        self.end_vain_promises(store, bounds)
    }

    /// A promise under way to its primary counts.
    fn count_promises(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        settled: &Settled,
    ) -> Result<(), Violation> {
        for number in self.net.clone() {
            let msg = store.message(number);
            let (from, to) = (msg.from, msg.to);
            if settled.is_settled(self, number, to)
                || !msg.is_promise()
                || self.is_dead(store, bounds, msg)
            {
                continue;
            }
            let id = id(from);
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
        Ok(())
    }

    fn hear_gains(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        settled: &Settled,
    ) -> Result<(), Violation> {
        for number in self.net.clone() {
            let msg = store.message(number);
            let to = msg.to;
            if !settled.is_settled(self, number, to)
                && !self.is_dead(store, bounds, msg)
                && self.only_gains(store, bounds, msg)
            {
                self.one(store, to, Step::Hear(number))?;
            }
        }
        Ok(())
    }

    /// A promise that no primary counts on, nor can, is over.
    fn end_vain_promises(&mut self, store: &mut Store, bounds: &Bounds) -> Result<(), Violation> {
        for i in 0..self.nodes.len() {
            let id = id(i);
            let counted = |p: usize| {
                let reign = store.outline(self.nodes[p]).reign.as_ref();
                let credited = reign.is_some_and(|reign| reign.credits.contains(&id));
                let promised = |number: &u32| {
                    let msg = store.message(*number);
                    (msg.from, msg.to) == (i, p)
                        && msg.is_promise()
                        && !self.is_dead(store, bounds, msg)
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
        let sync = store.cluster.mode == Mode::Sync;
        let (rules, orders) = self.to_come(store, bounds);
        reign.is_some_and(|r| r.calm && (sync || !(rules || (r.alone && orders))))
    }

    /// What a heartbeat of the reign that this voter has promised itself to, and given its vote to or
    /// heard of before, tells it: how far is released, whom to follow, and that it is asked for a
    /// lease. All of that can end again at any moment.
    fn learn_beat(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        number: u32,
        settled: &Settled,
    ) -> Result<(), Violation> {
        let msg = store.message(number);
        let (from, to) = (msg.from, msg.to);
        let Some(Message::Beat(beat)) = msg.message() else {
            return Ok(());
        };
        let epoch = beat.epoch;
        let before = self.nodes[to];
        let outline = store.outline(before);
        let heard_of = outline.leader == Some(epoch)
            || (outline.leader.is_none() && outline.voted && outline.promised == epoch);
        let bound = outline.promise_live && outline.leader.is_some();
        let idle = outline.reign.is_none() && outline.standing.is_none() && !bound;
        let changed = !settled.node(self, from) || !settled.is_settled(self, number, to);
        if !heard_of || !idle || !changed || self.is_dead(store, bounds, msg) {
            return Ok(());
        }
        let heard = store.step(to, before, Step::Hear(number));
        let after = store.step(to, heard.node, Step::EndPromise);
        let ended = store.step(to, before, Step::EndPromise);
        let (was, is) = (store.node(ended.node), store.node(after.node));
        if was.pending != is.pending || !was.machine.same_but_for_beat(&is.machine) {
            return Ok(());
        }
        let reign = store.outline(self.nodes[from]).reign.as_ref();
        let id = id(to);
        if reign.is_some_and(|r| r.epoch == epoch && r.calm && !r.dead.contains(&id)) {
            return self.one(store, to, Step::Hear(number));
        }
        if store.outline(before).leader == Some(epoch) && after.node != before {
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
        let uncut = theirs.log.starts_with(&own.log);
        if own.stream == Some(epoch) || !uncut {
            return Ok(());
        }
        if !self.gains(store, bounds, p) {
            return self.match_again(store, bounds, i, p, epoch);
        }
        let number = incarnation(i, own.wipes);
        let reign = store.outline(self.nodes[p]).reign.as_ref();
        let own_cursor = |c: &&(NodeId, u64, Lsn)| c.0 == id(i);
        let cursor = reign.and_then(|reign| reign.cursors.iter().find(own_cursor));
        let less = |c: &(NodeId, u64, Lsn)| c.1 == number && c.2.0 as usize <= own.synced;
        if cursor.is_none_or(less) {
            self.ship(store, i, bounds.lazy_sync)?;
        }
        Ok(())
    }

    /// Where that leaves the primary as it was: it had heard all before.
    fn match_again(
        &mut self,
        store: &mut Store,
        bounds: &Bounds,
        i: usize,
        p: usize,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        let mut matched = self.clone();
        matched.ship(store, i, bounds.lazy_sync)?;
        let acks = matched.net.clone().into_iter().filter(|number| {
            let msg = store.message(*number);
            let ack = matches!(&msg.body, Body::Ack { ack, .. } if ack.epoch == epoch);
            ack && (msg.from, msg.to) == (i, p)
        });
        for ack in acks.collect::<Vec<_>>() {
            matched.one(store, p, Step::Hear(ack))?;
        }
        let (rules, orders) = self.to_come(store, bounds);
        matched.one(store, p, Step::Content { rules, orders })?;
        if matched.nodes[p] == self.nodes[p] {
            *self = matched;
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

    /// What replaced disks had recorded is asked for until it is in force in the newest reign: no
    /// other may release.
    fn forget_past(&mut self, store: &mut Store) -> Result<(), Violation> {
        let newest = self.ghost.newest();
        let reigns = newest.is_some_and(|epoch| {
            let mut nodes = 0..self.nodes.len();
            nodes.any(|p| self.reigns(store, p, epoch))
        });
        let current = |rule: &RuleId| reigns && Some(rule.epoch) == newest;
        self.ghost.ruled = self.ghost.ruled.filter(current);
        for i in 0..self.nodes.len() {
            let past = &store.node(self.nodes[i]).past;
            let asked = |past: &Past| {
                let open = Some(past.recorded) > self.ghost.ruled;
                open && reigns && Some(past.recorded.epoch) >= newest
            };
            if !past.is_empty() && !past.iter().any(asked) {
                self.one(store, i, Step::ForgetPast)?;
            }
        }
        Ok(())
    }

    /// Whether another rule may be wanted and sent, and another order given. In sync mode, only a
    /// replaced disk brings one.
    fn to_come(&self, store: &Store, bounds: &Bounds) -> (bool, bool) {
        let cause = store.cluster.mode == Mode::SemiSync || self.spent.wipes > 0;
        let rules = cause && self.spent.changes < bounds.changes;
        (rules, self.spent.orders < bounds.orders)
    }

    /// An answer to a primary that counts who gave it, or wants no other rule, once what it has to
    /// say to it is said. (One of a disk that is counted now and no more after two rules could
    /// have that disk admitted again.)
    fn is_answered(&self, store: &Store, bounds: &Bounds, msg: &Msg) -> bool {
        let reign = store.outline(self.nodes[msg.to]).reign.as_ref();
        let Some(Message::BeatAnswer(answer)) = msg.message() else {
            return false;
        };
        let proposed =
            reign.is_some_and(|r| r.outstanding.is_some() && r.outstanding == answer.rule);
        let rule = reign.and_then(|reign| reign.rule.as_ref());
        let counted = rule.is_some_and(|rule| rule.rule.counts(id(msg.from), msg.incarnation()));
        let rules = bounds.changes.saturating_sub(self.spent.changes);
        let needless = rules == 0 || (rules == 1 && counted);
        needless && !answer.lease && answer.promised <= answer.epoch && !proposed
    }

    fn forget_dead(&mut self, store: &Store, bounds: &Bounds, settled: &Settled) {
        self.keep_messages(|world, number| {
            let msg = store.message(number);
            let same = settled.node(world, msg.from) && settled.is_settled(world, number, msg.to);
            same || !world.is_dead(store, bounds, msg)
        });
    }

    fn keep_messages(&mut self, keep: impl Fn(&World, u32) -> bool) {
        let mut net = std::mem::take(&mut self.net);
        net.retain(|number| keep(self, *number));
        self.net = net;
    }

    /// Whether hearing this can never again change anything but what is as dead.
    fn is_dead(&self, store: &Store, bounds: &Bounds, msg: &Msg) -> bool {
        let (from, to) = (
            store.outline(self.nodes[msg.from]),
            store.outline(self.nodes[msg.to]),
        );
        let reign = to.reign.as_ref();
        let reigns = |epoch: Epoch| self.reigns(store, msg.to, epoch);
        let (rules, orders) = self.to_come(store, bounds);
        let Some(message) = msg.message() else {
            let wanted = |ack: &Ack| {
                let more = ack.synced > to.released || (rules && ack.synced == to.released);
                reigns(ack.epoch) && (more || orders || reign.is_some_and(|r| r.paused))
            };
            return !matches!(&msg.body, Body::Ack { ack, .. } if wanted(ack));
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
                let of_this_disk = *candidate == incarnation(msg.to, wipes);
                if !of_this_disk && store.cluster.counts_votes_by_disk() {
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
                    || (to.promised > beat.epoch && !self.reigns(store, msg.from, beat.epoch))
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
