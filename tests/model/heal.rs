//! Runs without faults: how a cluster begins, and what it must come to once all faults are over.

use std::sync::Arc;

use understudy::replica::Standing;

use super::event::Event;
use super::oracle::Violation;
use super::world::{Bounds, Hold, World};

/// Steps of time within which a healed cluster serves and agrees: several elections' worth.
const PATIENCE: u32 = 400;

impl World {
    /// Lets everything happen in a benign order until a primary serves and nothing is under way.
    pub fn settle(&mut self) -> Result<(), Violation> {
        let done = |world: &World| {
            let serves = (0..world.nodes.len()).any(|i| world.serves(i));
            serves && world.net.is_empty() && world.nodes.iter().all(|n| n.pending.is_none())
        };
        let patience = self.time_steps + PATIENCE;
        self.run_until(done, patience)
    }

    pub fn serves(&self, i: usize) -> bool {
        self.view(i).is_some_and(|view| {
            view.standing == Standing::Primary
                && view.serving
                && view.lease_until > self.clock(i).boot
        })
    }

    fn run_until(&mut self, done: impl Fn(&World) -> bool, time: u32) -> Result<(), Violation> {
        while !done(self) {
            if self.time_steps >= time {
                let views: Vec<_> = (0..self.nodes.len()).map(|i| self.view(i)).collect();
                return Err(Violation(format!("no progress without faults: {views:?}")));
            }
            let next = self.benign();
            self.apply(&next)?;
        }
        Ok(())
    }

    /// Lets everything benign happen until so many steps of time have passed.
    pub fn rest(&mut self, steps: u32) {
        let until = self.time_steps + steps;
        while self.time_steps < until {
            let next = self.benign();
            self.apply(&next)
                .unwrap_or_else(|violation| panic!("{next:?}: {}", violation.0));
        }
    }

    /// The next benign event but time, these dead nodes staying dead and what is cut staying cut.
    pub fn local_step(&self, dead: &[usize]) -> Option<Event> {
        let next = self.benign_but(dead, false);
        (next != Event::Time).then_some(next)
    }

    /// The next event of a run without faults.
    pub fn benign(&self) -> Event {
        self.benign_but(&[], true)
    }

    fn benign_but(&self, dead: &[usize], mends: bool) -> Event {
        let order = |event: &Event| match event {
            Event::Restart(i) if dead.contains(i) => None,
            Event::Restart(_) | Event::Resume(_) => Some(0),
            Event::Mend if mends => Some(0),
            Event::Persist(_) => Some(1),
            Event::Sync(_) => Some(2),
            Event::Begin(_) => Some(3),
            Event::Deliver(_) | Event::Apply(_) => Some(4),
            Event::Ship(_) => Some(5),
            _ => None,
        };
        let events = self.events().into_iter();
        let events = events.filter_map(|event| Some((order(&event)?, event)));
        events
            .min_by_key(|(order, _)| *order)
            .map_or(Event::Time, |(_, event)| event)
    }

    /// Whether the disks that are left could elect someone under the newest rule, all nodes being
    /// up (R10, R14, R24): if not, refusing is right.
    fn could_elect(&self) -> bool {
        let mut disks = self.nodes.iter().map(|node| node.control.as_ref());
        if disks.all(|control| control.is_none_or(|control| control.cluster.is_none())) {
            // Blank ones begin, but only once: here nobody says to be blank after that.
            return self.ghost.winners.is_empty();
        }
        let counted = |i: usize| {
            let control = self.nodes[i].control.as_ref();
            control.filter(|_| !self.nodes[i].condemned)
        };
        let all = || (0..self.nodes.len()).filter_map(counted);
        let Some(newest) = all()
            .filter_map(|c| c.rule.as_ref())
            .max_by_key(|rule| rule.id)
        else {
            return false;
        };
        let rule = &newest.rule;
        let votes = |i: &usize| {
            let id = super::world::id(*i);
            counted(*i).is_some_and(|control| {
                // A voter that the newest rule admits, and that has not heard so, cannot know.
                let knows = control.rule.as_ref().map(|own| &own.rule);
                let knows = knows.is_some_and(|own| own.counts(id, control.incarnation));
                knows && rule.counts(id, control.incarnation)
            })
        };
        let alone = rule.members.len() == 1;
        let remembers = |i: &usize| {
            let same_boot = counted(*i).is_some_and(|c| c.boot == self.nodes[*i].boot);
            rule.level != understudy::replica::Level::Received || same_boot || alone
        };
        let voters: Vec<usize> = (0..self.nodes.len()).filter(votes).collect();
        let members = voters
            .iter()
            .filter(|i| rule.has_member(super::world::id(**i)));
        let members = members.filter(|i| remembers(i)).count();
        voters.len() >= rule.majority() && members >= rule.member_votes_needed()
    }

    /// Ends all faults and demands that someone serves, that every node follows, that a new write
    /// is released and that all logs agree. `false`: refusing is right here.
    pub fn heal(mut self) -> Result<bool, Violation> {
        for node in &mut self.nodes {
            (node.buried, node.hold) = (false, Hold::default());
        }
        self.bounds = Arc::new(Bounds {
            calm: false,
            ..Bounds::clone(&self.bounds)
        });
        let serving = (0..self.nodes.len()).any(|i| self.serves(i));
        if !serving && !self.could_elect() {
            return Ok(false);
        }
        let patience = self.time_steps + PATIENCE;
        self.run_until(|world| world.agrees(0), patience)?;
        let primary = (0..self.nodes.len()).find(|i| self.serves(*i));
        let before = self.ghost.released.len();
        if let Some(primary) = primary {
            self.apply(&Event::Write(primary))?;
        }
        let patience = self.time_steps + PATIENCE;
        self.run_until(|world| world.agrees(before + 1), patience)?;
        Ok(true)
    }

    /// One primary serves, at least `released` records are released, every voter counts, and every
    /// data node holds what the primary holds and knows it to be released.
    fn agrees(&self, released: usize) -> bool {
        let Some(primary) = (0..self.nodes.len()).find(|i| self.serves(*i)) else {
            return false;
        };
        let Some(view) = self.view(primary) else {
            return false;
        };
        let Some(rule) = &view.rule else { return false };
        let data = self.bounds.data as usize;
        let same = |i: usize| {
            let Some(own) = self.view(i) else {
                return false;
            };
            let silent = (data - self.bounds.silent as usize..data).contains(&i);
            // R22: a disk that a person declared lost comes back only blank; not counting it is
            // right. (Seed 35 of the witness: ordered before, carried out after it was replaced.)
            let lost = rule.rule.is_lost(super::world::id(i), own.incarnation);
            let counts = silent || lost || rule.rule.counts(super::world::id(i), own.incarnation);
            let follows = i == primary || own.primary == Some(super::world::id(primary));
            let holds = i >= data || self.nodes[i].log == self.nodes[primary].log;
            let knows = i >= data || own.released == view.released;
            counts && follows && holds && knows
        };
        let all = view.released == view.log.appended.lsn && view.released.0 as usize >= released;
        all && (0..self.nodes.len()).all(same)
    }
}
