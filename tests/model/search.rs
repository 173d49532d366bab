//! Two ways through a world: breadth-first over everything, and seeded random walks.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::ops::Range;

use crate::world::{Bounds, Event, Rough, World};

/// A broken oracle and the way there.
#[derive(Debug)]
pub struct Found {
    pub what: String,
    pub seed: Option<u64>,
    pub trace: Vec<Event>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} (seed {:?}) after {} steps:",
            self.what,
            self.seed,
            self.trace.len()
        )?;
        for event in &self.trace {
            writeln!(f, "  {event:?}")?;
        }
        Ok(())
    }
}

/// What a search saw.
#[derive(Debug, Default)]
pub struct Outcome {
    pub states: usize,
    pub depth: usize,
    pub steps: u64,
    pub takeovers: u64,
    pub released: u64,
    /// The search ended because nothing was left, not because of its limit.
    pub exhausted: bool,
    pub found: Option<Found>,
}

/// Seeds to walk: `MODEL_SEED=n` replays one, `MODEL_SEEDS=n` walks that many.
pub fn seeds(default: u64) -> Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match (number("MODEL_SEED"), number("MODEL_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..default,
    }
}

/// States to visit: `MODEL_STATES=n` overrides.
pub fn states(default: usize) -> usize {
    std::env::var("MODEL_STATES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

fn weight(event: &Event, rough: &Rough) -> u64 {
    match event {
        Event::Deliver(_) => 30,
        Event::Persist(_) | Event::Sync(_) | Event::Begin(_) => 25,
        Event::Ship(_) => rough.ship,
        Event::ShipOne(_) => rough.ship_one,
        Event::Write(_) => 8,
        Event::SeeGone(..) => 10,
        Event::Time => 12,
        Event::Restart(_) => rough.restart,
        Event::Lose(_) => 2,
        Event::Wipe(_) => rough.wipe,
        Event::Crash(_) => rough.crash,
        Event::Switchover(_) => 1,
    }
}

/// Walks each seed for at most `steps` events.
pub fn walk_seeds(bounds: &Bounds, seeds: Range<u64>, steps: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let start = World::begun(bounds.clone());
    for seed in seeds {
        let mut world = start.clone();
        let mut random = Random(seed);
        let mut trace = Vec::new();
        for _ in 0..steps {
            let mut events = world.events();
            let primary = (0..world.nodes.len()).find(|i| {
                world.nodes[*i]
                    .machine
                    .as_ref()
                    .is_some_and(|m| m.view().serving)
            });
            events.extend(primary.map(Event::Switchover));
            let total: u64 = events
                .iter()
                .map(|event| weight(event, &bounds.rough))
                .sum();
            let mut at = random.below(total);
            let Some(event) = events.into_iter().find(|event| {
                let weight = weight(event, &bounds.rough);
                let hit = at < weight;
                at = at.wrapping_sub(weight);
                hit
            }) else {
                break;
            };
            trace.push(event.clone());
            outcome.steps += 1;
            if let Err(violation) = world.apply(&event) {
                outcome.found = Some(Found {
                    what: violation.0,
                    seed: Some(seed),
                    trace,
                });
                return outcome;
            }
            if world.out_of_bounds() {
                break;
            }
        }
        outcome.takeovers += world.winners.len() as u64 - 1;
        outcome.released += world.released.len() as u64;
    }
    outcome
}

/// Visits every state within the bounds, nearest first, up to `limit` states.
pub fn breadth_first(bounds: &Bounds, limit: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let start = World::begun(bounds.clone());
    let mut seen: HashSet<u128> = HashSet::from([start.fingerprint()]);
    // Each state with the place of its parent and the event that led here, for the trace.
    let mut came: Vec<(usize, Event)> = vec![(0, Event::Time)];
    let mut queue: VecDeque<(usize, usize, World)> = VecDeque::from([(0, 0, start)]);
    while let Some((place, depth, world)) = queue.pop_front() {
        outcome.depth = depth;
        for event in world.events() {
            let mut next = world.clone();
            outcome.steps += 1;
            let result = next.apply(&event);
            if let Err(violation) = result {
                let mut trace = vec![event];
                let mut at = place;
                while at != 0 {
                    trace.push(came[at].1.clone());
                    at = came[at].0;
                }
                trace.reverse();
                outcome.found = Some(Found {
                    what: violation.0,
                    seed: None,
                    trace,
                });
                outcome.states = seen.len();
                return outcome;
            }
            if next.out_of_bounds() || !seen.insert(next.fingerprint()) {
                continue;
            }
            outcome.takeovers = outcome.takeovers.max(next.winners.len() as u64 - 1);
            outcome.released = outcome.released.max(next.released.len() as u64);
            if seen.len() >= limit {
                outcome.states = seen.len();
                return outcome;
            }
            came.push((place, event));
            queue.push_back((came.len() - 1, depth + 1, next));
        }
    }
    outcome.exhausted = true;
    outcome.states = seen.len();
    outcome
}
