//! Every state within the bounds, nearest first.
//!
//! A state whose nodes and history are those of another, and whose messages are among the other's,
//! can do nothing that the other cannot: it is covered, and not explored. States are compared
//! exactly, by the numbers of their parts, never by hashes alone.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::node::Cluster;
use super::oracle::{Ghost, Spent};
use super::start::begun;
use super::store::{Map, Store, Table};
use super::world::{Bounds, Event, World};

/// What a search saw.
pub struct Outcome {
    pub bounds: Bounds,
    /// States explored.
    pub states: usize,
    /// Different states of all nodes and the history together.
    pub places: usize,
    pub steps: u64,
    pub depth: u32,
    pub nodes: usize,
    pub messages: usize,
    pub machine_steps: usize,
    pub most_in_flight: usize,
    pub most_per_link: usize,
    pub newest_epoch: u64,
    pub took: Duration,
    pub exhausted: bool,
    pub found: Option<(String, Vec<String>)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (&self.found, self.exhausted) {
            (Some(_), _) => "FOUND",
            (None, true) => "exhausted",
            (None, false) => "NOT exhausted (limit reached)",
        };
        writeln!(
            f,
            "{how}: {:?}: {} states explored ({} apart from messages), {} steps, depth {}, {:.1} s",
            self.bounds,
            self.states,
            self.places,
            self.steps,
            self.depth,
            self.took.as_secs_f64()
        )?;
        write!(
            f,
            "  {} node states, {} messages, {} machine steps; at most {} messages under way, {} on \
             one link; reigns up to epoch {}",
            self.nodes,
            self.messages,
            self.machine_steps,
            self.most_in_flight,
            self.most_per_link,
            self.newest_epoch
        )?;
        if let Some((what, trace)) = &self.found {
            write!(f, "\n  {what} after {} steps:", trace.len())?;
            for event in trace {
                write!(f, "\n    {event}")?;
            }
        }
        Ok(())
    }
}

/// A state as it is kept: numbers only.
struct Kept {
    nodes: [u32; 3],
    ghost: u32,
    net: u32,
    parent: u32,
    /// The state kept before this one with the same nodes and history.
    next: u32,
    depth: u16,
    spent: Spent,
    /// By a state found since: whatever this one can do, that one can.
    covered: bool,
}

/// The end of a list of kept states.
const NONE: u32 = u32::MAX;

struct Search {
    store: Store,
    ghosts: Table<Ghost>,
    kept: Vec<Kept>,
    /// By nodes and history: the newest state kept that covers no other and is covered by none.
    places: Map<([u32; 3], u32), u32>,
    /// What is to be explored, by how much is spent: little first, since it covers much.
    queues: Vec<VecDeque<u32>>,
}

fn within(small: &[u32], large: &[u32]) -> bool {
    let mut large = large.iter();
    small.len() <= large.len() && small.iter().all(|x| large.by_ref().any(|y| y == x))
}

impl Search {
    /// Keeps `world` for exploration unless it is covered: by a state with the same nodes and the
    /// same history, with all its messages at least, which has spent no more.
    fn keep(&mut self, bounds: &Bounds, world: World, parent: u32, depth: u16) {
        let world = self.alike(world).0;
        let nodes = [world.nodes[0], world.nodes[1], world.nodes[2]];
        let ghost = self.ghosts.number(world.ghost).0;
        let spent = world.spent;
        let (net, _) = self.store.sets.number(world.net);
        let sets = &self.store.sets.all;
        let head = self.places.entry((nodes, ghost)).or_insert(NONE);
        let includes = |large: u32, small: u32| {
            large == small || within(&sets[small as usize], &sets[large as usize])
        };
        let mut at = *head;
        while at != NONE {
            let other = &self.kept[at as usize];
            if other.spent.at_most(&spent, bounds) && includes(other.net, net) {
                return;
            }
            at = other.next;
        }
        // Those that this one covers leave the list, and are not explored if they still wait.
        let (mut before, mut at) = (NONE, *head);
        while at != NONE {
            let other = &mut self.kept[at as usize];
            let next = other.next;
            other.covered = spent.at_most(&other.spent, bounds) && includes(net, other.net);
            if !other.covered {
                before = at;
            } else if before == NONE {
                *head = next;
            } else {
                self.kept[before as usize].next = next;
            }
            at = next;
        }
        let place = self.kept.len() as u32;
        let next = std::mem::replace(head, place);
        if self.queues.len() <= spent.sum() {
            self.queues.resize_with(spent.sum() + 1, VecDeque::new);
        }
        self.queues[spent.sum()].push_back(place);
        self.kept.push(Kept {
            nodes,
            ghost,
            net,
            parent,
            next,
            depth,
            spent,
            covered: false,
        });
    }

    /// The one of all states alike that stands for them, and whether it is another one.
    fn alike(&self, world: World) -> (World, bool) {
        if self.store.symmetric {
            self.store.mirror.smaller(world)
        } else {
            (world, false)
        }
    }

    fn world(&self, kept: &Kept) -> World {
        World {
            nodes: kept.nodes.to_vec(),
            net: self.store.sets.all[kept.net as usize].to_vec(),
            ghost: (*self.ghosts.all[kept.ghost as usize]).clone(),
            spent: kept.spent,
        }
    }

    /// The run that leads to state `at`, and `last` after it. Which event led from a state to the
    /// next is not kept: it is found once more.
    fn trace(&mut self, bounds: &Bounds, mut at: u32, last: Event) -> Vec<String> {
        let mut told = vec![self.tell(last)];
        while at != 0 {
            let (before, after) = (
                self.kept[at as usize].parent,
                self.world(&self.kept[at as usize]),
            );
            let world = self.world(&self.kept[before as usize]);
            let mut events = Vec::new();
            world.events(&mut self.store, bounds, &mut events);
            let found = events.into_iter().find_map(|event| {
                let next = world.after(&mut self.store, bounds, event).ok()?;
                let (next, swapped) = self.alike(next);
                (next == after).then_some((event, swapped))
            });
            let (event, swapped) = found.map_or_else(
                || ("?".to_owned(), false),
                |(event, swapped)| (self.tell(event), swapped),
            );
            let places = if swapped {
                "; nodes 2 and 3 change places"
            } else {
                ""
            };
            told.push(event + places);
            at = before;
        }
        told.reverse();
        told
    }

    fn tell(&self, event: Event) -> String {
        match event {
            Event::One(_, super::node::Step::Hear(number)) => {
                format!("{:?}", self.store.message(number))
            }
            _ => format!("{event:?}"),
        }
    }
}

/// Explores every state within `bounds`, up to `limit` of them.
pub fn exhaust(cluster: Cluster, bounds: Bounds, limit: usize) -> Outcome {
    let began = Instant::now();
    let nodes = begun(&cluster);
    let mut store = Store::new(cluster, &bounds);
    let numbers = nodes.into_iter().enumerate();
    let numbers: Vec<u32> = numbers.map(|(i, node)| store.add(i, node)).collect();
    if store.symmetric {
        store.mirror.nodes.tie(numbers[0], numbers[0]);
        store.mirror.nodes.tie(numbers[1], numbers[2]);
    }
    let first = understudy::units::Epoch(1);
    let mut start = World {
        nodes: numbers,
        net: Vec::new(),
        ghost: Ghost {
            released: vec![first],
            winners: vec![(first, 0)],
            ruled: None,
        },
        spent: Spent::default(),
    };
    let closed = start.close(&mut store, &bounds, None);
    assert!(
        closed.is_ok(),
        "a cluster begins without a fault: {closed:?}"
    );
    let mut search = Search {
        store,
        ghosts: Table::new(),
        kept: Vec::new(),
        places: Map::default(),
        queues: Vec::new(),
    };
    search.keep(&bounds, start, 0, 0);
    let mut outcome = Outcome {
        bounds: bounds.clone(),
        states: 0,
        places: 0,
        steps: 0,
        depth: 0,
        nodes: 0,
        messages: 0,
        machine_steps: 0,
        most_in_flight: 0,
        most_per_link: 0,
        newest_epoch: 1,
        took: Duration::ZERO,
        exhausted: false,
        found: None,
    };
    search.run(&bounds, limit, &mut outcome);
    outcome.places = search.places.len();
    outcome.nodes = search.store.nodes.all.len();
    outcome.messages = search.store.messages.all.len();
    outcome.machine_steps = search.store.steps_run();
    outcome.took = began.elapsed();
    outcome
}

impl Search {
    fn run(&mut self, bounds: &Bounds, limit: usize, outcome: &mut Outcome) {
        let mut events = Vec::new();
        while let Some(place) = self.queues.iter_mut().find_map(VecDeque::pop_front) {
            let kept = &self.kept[place as usize];
            if kept.covered {
                continue;
            }
            let depth = kept.depth;
            let world = self.world(kept);
            self.count(&world, depth, outcome);
            if outcome.states.is_multiple_of(1_000_000) {
                let waiting: usize = self.queues.iter().map(VecDeque::len).sum();
                eprintln!("{} states explored, at most {waiting} wait", outcome.states);
            }
            if outcome.states > limit {
                return;
            }
            events.clear();
            world.events(&mut self.store, bounds, &mut events);
            for event in &events {
                outcome.steps += 1;
                if world.is_idle(&mut self.store, *event) {
                    continue;
                }
                match world.after(&mut self.store, bounds, *event) {
                    Err(violation) => {
                        let trace = self.trace(bounds, place, *event);
                        outcome.found = Some((violation.0, trace));
                        return;
                    }
                    Ok(next) if next == world || next.out_of_bounds(&self.store, bounds) => {}
                    Ok(next) => self.keep(bounds, next, place, depth + 1),
                }
            }
        }
        outcome.exhausted = true;
    }

    fn count(&self, world: &World, depth: u16, outcome: &mut Outcome) {
        outcome.states += 1;
        outcome.depth = outcome.depth.max(depth.into());
        outcome.most_in_flight = outcome.most_in_flight.max(world.net.len());
        let newest = world.ghost.newest().map_or(0, |epoch| epoch.0);
        outcome.newest_epoch = outcome.newest_epoch.max(newest);
        let mut links = [0_usize; 9];
        for number in &world.net {
            let msg = self.store.message(*number);
            links[msg.from * 3 + msg.to] += 1;
        }
        let most = links.into_iter().max().unwrap_or(0);
        outcome.most_per_link = outcome.most_per_link.max(most);
    }
}
