//! Everything that may happen next.

use std::collections::HashSet;

use understudy::replica::Standing;
use understudy::units::Micros;

use super::world::{World, id};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Deliver the packet at this place.
    Deliver(usize),
    /// Deliver it and leave it under way.
    Double(usize),
    Lose(usize),
    /// The pending control state becomes durable.
    Persist(usize),
    /// The log's tail is handed to the operating system.
    Hand(usize),
    /// The log's tail becomes durable.
    Sync(usize),
    /// What is known to be released becomes visible to readers.
    Apply(usize),
    /// A client writes at this primary.
    Write(usize),
    /// `BeginReign` is carried out.
    Begin(usize),
    /// The standby's stream brings its log up to its primary's.
    Ship(usize),
    /// The standby's stream brings one record.
    ShipOne(usize),
    BreakStream(usize),
    /// The process dies.
    Crash(usize),
    /// The host dies: what was not synced is gone.
    CrashHost(usize),
    /// The disk of a dead node is replaced.
    Wipe(usize),
    Restart(usize),
    /// The process is frozen.
    Pause(usize),
    Resume(usize),
    /// Node `.0` sees that the last dead process of `.1` is gone.
    SeeGone(usize, usize),
    /// The primary hands over.
    Switchover(usize),
    /// The primary must not go on.
    StepDown(usize),
    /// A person promotes node `.0` by force, declaring these gone.
    Promote(usize, Vec<usize>),
    /// Nothing goes from `.0` to `.1` any more.
    Cut(usize, usize),
    Mend,
    /// The clocks move on to the next deadline.
    Time,
    /// The same, but not beyond this moment of true time. Only stages choose it.
    TimeUpTo(Micros),
    /// The clocks move half-way to the next deadline.
    SomeTime,
}

impl Event {
    /// How often a random walk picks it, against the others that may happen.
    pub fn weight(&self) -> u64 {
        match self {
            Event::Deliver(_) => 60,
            Event::Persist(_) | Event::Sync(_) | Event::Begin(_) => 50,
            Event::Ship(_) | Event::ShipOne(_) | Event::Hand(_) | Event::Apply(_) => 40,
            Event::Time | Event::TimeUpTo(_) => 24,
            Event::SeeGone(..) | Event::Resume(_) | Event::Mend => 16,
            Event::Write(_) => 14,
            Event::SomeTime | Event::Restart(_) => 10,
            Event::Lose(_) | Event::Double(_) => 3,
            Event::Crash(_) | Event::CrashHost(_) | Event::Switchover(_) => 2,
            Event::Wipe(_) | Event::BreakStream(_) | Event::Pause(_) => 1,
            Event::Cut(..) | Event::StepDown(_) | Event::Promote(..) => 1,
        }
    }
}

impl World {
    /// Everything that may happen next.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.network_events(&mut events);
        for i in 0..self.nodes.len() {
            self.node_events(i, &mut events);
        }
        if self.time_steps < self.bounds.time_steps {
            events.push(Event::Time);
            if self.bounds.rich {
                events.push(Event::SomeTime);
            }
        }
        events
    }

    fn network_events(&self, events: &mut Vec<Event>) {
        let rich = self.bounds.rich;
        let mut seen = HashSet::new();
        for (place, packet) in self.net.iter().enumerate() {
            // Equal packets are one choice.
            if self.nodes[packet.to()].paused || !seen.insert(packet) {
                continue;
            }
            events.push(Event::Deliver(place));
            if self.losses < self.bounds.losses && !self.bounds.calm {
                events.push(Event::Lose(place));
                if rich {
                    events.push(Event::Double(place));
                }
            }
        }
        if !self.cut.is_empty() && !self.bounds.calm {
            events.push(Event::Mend);
        } else if rich && !self.bounds.calm && self.losses < self.bounds.losses {
            let all = 0..self.nodes.len();
            let pairs = all.clone().flat_map(|i| all.clone().map(move |j| (i, j)));
            events.extend(pairs.filter(|(i, j)| i != j).map(|(i, j)| Event::Cut(i, j)));
        }
    }

    fn node_events(&self, i: usize, events: &mut Vec<Event>) {
        let node = &self.nodes[i];
        let rich = self.bounds.rich;
        let may_crash = self.crashes < self.bounds.crashes;
        let Some(view) = self.view(i) else {
            if !node.buried {
                events.push(Event::Restart(i));
            }
            if rich && !self.bounds.calm && may_crash && !node.condemned {
                events.push(Event::Wipe(i));
            }
            return;
        };
        if may_crash {
            events.push(Event::Crash(i));
            if rich {
                events.push(Event::CrashHost(i));
            }
        }
        if node.paused {
            events.push(Event::Resume(i));
            return;
        }
        if node.pending.is_some() && node.hold.persist <= self.now {
            events.push(Event::Persist(i));
        }
        if node.handed < node.log.len() {
            events.push(Event::Hand(i));
        }
        if node.synced < node.log.len() && !node.hold.sync {
            events.push(Event::Sync(i));
        }
        if node.begin.is_some() {
            events.push(Event::Begin(i));
        }
        if node.applied < self.appliable(i) {
            events.push(Event::Apply(i));
        }
        let reigns = view.standing == Standing::Primary;
        let room = self.has_room(i, &view);
        if reigns && view.begun && !view.paused && room && self.writes < self.bounds.writes {
            events.push(Event::Write(i));
        }
        if self.shippable(i).is_some() && !node.hold.ship {
            events.push(Event::Ship(i));
            if rich {
                events.push(Event::ShipOne(i));
            }
        }
        for (j, other) in self.nodes.iter().enumerate() {
            let gone = other.dead_process > 0 && (rich || other.machine.is_none());
            let known = view.primary == Some(id(j)) && !view.suspected;
            if i != j && gone && (known || reigns) {
                events.push(Event::SeeGone(i, j));
            }
        }
        if rich && !self.bounds.calm {
            self.people_events(i, reigns, events);
        }
    }

    fn people_events(&self, i: usize, reigns: bool, events: &mut Vec<Event>) {
        if self.nodes[i].stream.is_some() {
            events.push(Event::BreakStream(i));
        }
        events.push(Event::Pause(i));
        if reigns {
            events.push(Event::Switchover(i));
            events.push(Event::StepDown(i));
        } else if self.crashes < self.bounds.crashes && i < self.bounds.data as usize {
            events.push(Event::Promote(i, Vec::new()));
            let down = |j: &usize| self.nodes[*j].machine.is_none();
            let lost: Vec<usize> = (0..self.nodes.len()).filter(down).collect();
            if !lost.is_empty() {
                events.push(Event::Promote(i, lost));
            }
        }
    }
}
