//! All nodes, what is under way between them, and what may happen next.
//!
//! The network never forgets: whatever was said may be heard at any later time, any number of
//! times, or never, by the process it was said to. That is loss, delay, duplication and reordering
//! without a limit on messages in flight, and so includes every limit.

use understudy::replica::Mode;
use understudy::units::Epoch;

use super::message::{Body, Msg};
use super::node::Step;
use super::oracle::{Ghost, Spent, Violation};
use super::store::Store;

/// How much may happen in all.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// No promise beyond this epoch.
    pub epochs: u64,
    /// Records in a log, each reign's EpochStart included.
    pub records: usize,
    /// Crashes and wiped disks together.
    pub faults: u8,
    /// Wiped disks among them.
    pub wipes: u8,
    /// Crashes among them.
    pub crashes: u8,
    /// Rules sent after a reign's first.
    pub changes: u8,
    /// Step-downs and switchovers.
    pub orders: u8,
    /// A standby's log is synced some time after a record arrived, not at once.
    pub lazy_sync: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Numbers of node states.
    pub nodes: Vec<u32>,
    /// Numbers of messages, ascending.
    pub net: Vec<u32>,
    pub ghost: Ghost,
    pub spent: Spent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// One node takes one step.
    One(usize, Step),
    /// A standby's stream brings it the next thing.
    Ship(usize),
    /// Time passes until the lease promised by this node has ended.
    EndPromise(usize),
    /// Primary `.0`, its lease over, hears the candidate's request `.1`.
    Lapsed(usize, u32),
    /// Voter `.0`, its promise over, hears the candidate's request `.1`.
    Freed(usize, u32),
    /// Node `.0` asks around; these answer, in this order.
    Ask(Asked, [Option<Asked>; 2]),
}

/// Who is asked before an election, and whether its lease or its promise is over by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    node: usize,
    freed: bool,
}

impl World {
    /// Everything that may happen next.
    pub fn events(&self, store: &mut Store, bounds: &Bounds, out: &mut Vec<Event>) {
        for message in &self.net {
            let msg = store.message(*message);
            out.push(Event::One(msg.to, Step::Hear(*message)));
            if msg.is_vote() && store.outline(self.nodes[msg.to]).reign.is_some() {
                out.push(Event::Lapsed(msg.to, *message));
            } else if msg.is_vote() && store.outline(self.nodes[msg.to]).promise_live {
                out.push(Event::Freed(msg.to, *message));
            }
        }
        for i in 0..self.nodes.len() {
            self.disk_events(store, bounds, i, out);
            if store.outline(self.nodes[i]).reign.is_some() {
                self.reign_events(store, bounds, i, out);
            } else {
                self.voter_events(store, bounds, i, out);
            }
        }
    }

    fn disk_events(&self, store: &Store, bounds: &Bounds, i: usize, out: &mut Vec<Event>) {
        let node = store.node(self.nodes[i]);
        if node.pending {
            out.push(Event::One(i, Step::Persist));
        }
        if node.synced < node.log.len() {
            out.push(Event::One(i, Step::Sync));
        }
        if node.begin.is_some() && node.log.len() < bounds.records {
            out.push(Event::One(i, Step::Begin));
        }
        if self.spent.faults < bounds.faults {
            if self.spent.crashes() < bounds.crashes {
                out.push(Event::One(i, Step::Crash));
            }
            if self.spent.wipes < bounds.wipes {
                out.push(Event::One(i, Step::Wipe));
            }
        }
    }

    fn reign_events(&self, store: &Store, bounds: &Bounds, i: usize, out: &mut Vec<Event>) {
        let number = self.nodes[i];
        let Some(reign) = &store.outline(number).reign else {
            return;
        };
        out.push(Event::One(i, Step::Beat));
        let node = store.node(number);
        if reign.start.is_some() && !reign.paused && node.log.len() < bounds.records {
            out.push(Event::One(i, Step::Write));
        }
        if self.spent.changes < bounds.changes && store.cluster.mode == Mode::SemiSync {
            if reign.waits {
                out.push(Event::One(i, Step::FallBack));
            }
            let others = (0..store.cluster.data).filter(|j| *j != i && self.spent.faults > 0);
            let alive = others.filter(|j| !reign.dead.contains(&super::node::id(*j)));
            out.extend(alive.map(|j| Event::One(i, Step::Gone(j))));
        }
        if self.spent.orders < bounds.orders {
            out.push(Event::One(i, Step::Abdicate));
            if !reign.paused {
                out.push(Event::One(i, Step::Switchover));
            }
        }
    }

    fn voter_events(&self, store: &mut Store, bounds: &Bounds, i: usize, out: &mut Vec<Event>) {
        let outline = store.outline(self.nodes[i]);
        if outline.promise_live {
            out.push(Event::EndPromise(i));
        }
        if i < store.cluster.data && outline.promised.0 < bounds.epochs {
            self.candidacies(store, bounds, i, out);
        }
        if self.shippable(store, i).is_some() {
            out.push(Event::Ship(i));
        }
    }

    /// The ways to ask around that make node `i` stand: one for each epoch that it may stand in,
    /// with as few leases over as can be. Those others that are over by then may end later.
    fn candidacies(&self, store: &mut Store, bounds: &Bounds, i: usize, out: &mut Vec<Event>) {
        let others = (0..self.nodes.len()).filter(|j| *j != i);
        let asked: Vec<Asked> = others.flat_map(|j| self.asked(store, j)).collect();
        let mut ways = Vec::new();
        for own in self.asked(store, i) {
            for a in &asked {
                ways.push((own, [Some(*a), None]));
                let rest = asked.iter().filter(|b| b.node != a.node);
                ways.extend(rest.map(|b| (own, [Some(*a), Some(*b)])));
            }
        }
        let freed = |(own, others): &(Asked, [Option<Asked>; 2])| {
            let others = others.iter().flatten();
            others.chain([own]).filter(|asked| asked.freed).count()
        };
        ways.sort_by_key(freed);
        let mut epochs = Vec::new();
        for (own, others) in ways {
            let mut next = self.clone();
            let fault = next.ask(store, own, others).is_err();
            let stands = store.outline(next.nodes[i]).standing;
            let within = stands.is_some_and(|epoch| epoch.0 <= bounds.epochs);
            let news = within && !epochs.contains(&stands);
            if fault || (news && next.nodes[i] != self.nodes[i]) {
                epochs.push(stands);
                out.push(Event::Ask(own, others));
            }
        }
    }

    fn asked(&self, store: &Store, node: usize) -> impl Iterator<Item = Asked> + use<> {
        let outline = store.outline(self.nodes[node]);
        let reign = outline.reign.as_ref();
        let bound = outline.promise_live || reign.is_some_and(|reign| reign.lease_live);
        let ways = if bound { &[false, true][..] } else { &[false] };
        ways.iter().map(move |freed| Asked {
            node,
            freed: *freed,
        })
    }

    /// The primary whose stream would change something at node `i`.
    pub(super) fn shippable(&self, store: &Store, i: usize) -> Option<(usize, Epoch)> {
        let (p, epoch) = store.known[self.nodes[i] as usize].following?;
        let reign = store.outline(self.nodes[p]).reign.as_ref()?;
        let (theirs, own) = (store.node(self.nodes[p]), store.node(self.nodes[i]));
        let news = own.stream != Some(epoch) || own.log.len() < theirs.log.len();
        (reign.epoch == epoch && reign.start.is_some() && news).then_some((p, epoch))
    }

    /// The state after `event`, judged.
    pub fn after(
        &self,
        store: &mut Store,
        bounds: &Bounds,
        event: Event,
    ) -> Result<World, Violation> {
        let mut next = self.clone();
        match event {
            Event::One(i, step) => {
                match step {
                    Step::Crash | Step::Wipe => {
                        if step == Step::Wipe {
                            next.check_claims(store, i)?;
                        }
                        next.spent.faults += 1;
                        next.spent.wipes += u8::from(step == Step::Wipe);
                        next.net.retain(|msg| store.message(*msg).to != i);
                    }
                    Step::Abdicate | Step::Switchover => next.spent.orders += 1,
                    _ => {}
                }
                next.one(store, i, step)?;
            }
            Event::Ship(i) => next.ship(store, i, bounds.lazy_sync)?,
            Event::EndPromise(i) => next.end_promise(store, i)?,
            Event::Lapsed(p, vote) => {
                next.lapse(store, p)?;
                next.one(store, p, Step::Hear(vote))?;
                if store.outline(next.nodes[p]).reign.is_some() {
                    return Ok(self.clone());
                }
            }
            Event::Freed(i, vote) => {
                next.end_promise(store, i)?;
                next.one(store, i, Step::Hear(vote))?;
            }
            Event::Ask(own, others) => next.ask(store, own, others)?,
        }
        // A process that has come back may hear everybody again.
        let crashed = matches!(event, Event::One(_, Step::Crash | Step::Wipe));
        next.close(store, bounds, Some(self).filter(|_| !crashed))?;
        next.check(store)?;
        Ok(next)
    }

    /// R12: what a primary counts on ends before the promise does.
    fn end_promise(&mut self, store: &mut Store, i: usize) -> Result<(), Violation> {
        for p in (0..self.nodes.len()).filter(|p| *p != i) {
            if store.outline(self.nodes[p]).reign.is_some() {
                self.end_credit(store, p, i)?;
            }
        }
        self.one(store, i, Step::EndPromise)
    }

    /// The lease of primary `p` ends.
    fn lapse(&mut self, store: &mut Store, p: usize) -> Result<(), Violation> {
        for voter in (0..self.nodes.len()).filter(|voter| *voter != p) {
            self.end_credit(store, p, voter)?;
        }
        Ok(())
    }

    fn end_credit(&mut self, store: &mut Store, p: usize, voter: usize) -> Result<(), Violation> {
        let answers: Vec<u32> = self.net.clone();
        for number in answers {
            let msg = store.message(number);
            if (msg.from, msg.to) == (voter, p) && msg.is_promise() {
                self.rewrite(store, number, Msg::without_lease);
            }
        }
        self.one(store, p, Step::EndCredit(voter))
    }

    fn ask(
        &mut self,
        store: &mut Store,
        own: Asked,
        others: [Option<Asked>; 2],
    ) -> Result<(), Violation> {
        let i = own.node;
        let asked = others.into_iter().flatten();
        for freed in asked.clone().chain([own]).filter(|asked| asked.freed) {
            if store.outline(self.nodes[freed.node]).reign.is_some() {
                self.lapse(store, freed.node)?;
            } else {
                self.end_promise(store, freed.node)?;
            }
        }
        let questions = self.questions(store, i, Step::Ask)?;
        for other in asked.map(|asked| asked.node) {
            let to = |q: &&u32| store.message(**q).to == other;
            let Some(question) = questions.iter().find(to).copied() else {
                continue;
            };
            for answer in self.questions(store, other, Step::Hear(question))? {
                if store.outline(self.nodes[i]).asking {
                    self.one(store, i, Step::Hear(answer))?;
                }
            }
        }
        self.one(store, i, Step::StopAsking)
    }

    /// A step whose pre-votes, or answers to them, are wanted.
    fn questions(
        &mut self,
        store: &mut Store,
        i: usize,
        step: Step,
    ) -> Result<Vec<u32>, Violation> {
        let effect = store.step(i, self.nodes[i], step);
        self.one(store, i, step)?;
        let wanted = |number: &u32| {
            let msg = store.message(*number);
            msg.is_question() || msg.is_reply_to_question()
        };
        Ok(effect.sends.iter().copied().filter(wanted).collect())
    }

    pub(super) fn ship(
        &mut self,
        store: &mut Store,
        i: usize,
        lazy: bool,
    ) -> Result<(), Violation> {
        let Some((p, epoch)) = self.shippable(store, i) else {
            return Ok(());
        };
        let (theirs, own) = (store.node(self.nodes[p]), store.node(self.nodes[i]));
        if own.stream == Some(epoch) {
            let record = theirs.log[own.log.len()];
            return self.one(store, i, Step::Append(record, !lazy));
        }
        let pairs = own.log.iter().zip(&theirs.log);
        let keep = pairs.take_while(|(a, b)| a == b).count();
        let wipes = own.wipes;
        // Acknowledgements of an earlier stream count for nothing.
        self.net.retain(|number| {
            let msg = store.message(*number);
            (msg.from, msg.to) != (i, p) || !matches!(msg.body, Body::Ack { .. })
        });
        self.one(store, p, Step::Followed(i, wipes, epoch))?;
        self.one(store, i, Step::Match(epoch, keep))
    }

    pub(super) fn put(&mut self, message: u32) {
        if let Err(place) = self.net.binary_search(&message) {
            self.net.insert(place, message);
        }
    }

    /// A message under way takes another form.
    pub(super) fn rewrite(&mut self, store: &mut Store, message: u32, form: fn(&Msg) -> Msg) {
        self.net.retain(|other| *other != message);
        let form = store.rewrite(message, form);
        self.put(form);
    }

    /// Whether node `p` reigns in `epoch`.
    pub(super) fn reigns(&self, store: &Store, p: usize, epoch: Epoch) -> bool {
        let reign = store.outline(self.nodes[p]).reign.as_ref();
        reign.is_some_and(|reign| reign.epoch == epoch)
    }

    pub(super) fn one(&mut self, store: &mut Store, i: usize, step: Step) -> Result<(), Violation> {
        let before = self.nodes[i];
        let effect = store.step(i, before, step);
        if let Some(fault) = &effect.fault {
            return Err(Violation(fault.clone()));
        }
        for number in &effect.sends {
            let msg = store.message(*number);
            if !msg.is_question() && !msg.is_reply_to_question() {
                self.put(*number);
            }
        }
        self.nodes[i] = effect.node;
        if before != effect.node || effect.won.is_some() {
            self.judge(store, i, before, effect.won)?;
        }
        Ok(())
    }

    /// Whether this event changes nothing: all that one can hear without changing is heard already.
    pub fn is_idle(&self, store: &mut Store, event: Event) -> bool {
        let Event::One(i, step @ (Step::Hear(_) | Step::Beat)) = event else {
            return false;
        };
        let effect = store.step(i, self.nodes[i], step);
        effect.node == self.nodes[i] && effect.won.is_none() && effect.fault.is_none()
    }

    /// Beyond the bounds nothing is explored.
    pub fn out_of_bounds(&self, store: &Store, bounds: &Bounds) -> bool {
        let beyond = |number: &u32| store.outline(*number).promised.0 > bounds.epochs;
        self.nodes.iter().any(beyond) || self.spent.changes > bounds.changes
    }
}
