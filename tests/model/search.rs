//! Two ways through a world: breadth-first over everything, and seeded random walks that end with
//! a demand for progress.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::ops::Range;

use super::event::Event;
use super::oracle::Violation;
use super::stages::Staged;
use super::world::{Bounds, World};

/// A broken oracle and the way there.
#[derive(Debug)]
pub struct Found {
    pub what: String,
    pub seed: Option<u64>,
    pub trace: Vec<Event>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.trace.len();
        writeln!(
            f,
            "{} (seed {:?}) after {steps} steps:",
            self.what, self.seed
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
    pub lossy: u64,
    /// Walks that could be asked for progress, and made it.
    pub healed: u64,
    /// The search ended because nothing was left, not because of its limit.
    pub exhausted: bool,
    pub found: Option<Found>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds to walk: `MODEL_SEED=n` replays one, `MODEL_SEEDS=n` walks that many.
pub fn seeds(default: u64) -> Range<u64> {
    match (number("MODEL_SEED"), number("MODEL_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        // Not optimized they take ten times as long.
        (None, None) if cfg!(debug_assertions) => 0..default / 4,
        (None, None) => 0..default,
    }
}

/// States to visit: `MODEL_STATES=n` overrides.
pub fn states(default: usize) -> usize {
    number("MODEL_STATES").map_or(default, |states| states as usize)
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }
}

fn pick(world: &World, random: &mut Random) -> Option<Event> {
    let events = world.events();
    let total: u64 = events.iter().map(Event::weight).sum();
    let mut at = random.below(total);
    events.into_iter().find(|event| {
        let hit = at < event.weight();
        at = at.wrapping_sub(event.weight());
        hit
    })
}

fn walk(world: &mut World, random: &mut Random, steps: usize) -> Result<u64, (String, Vec<Event>)> {
    let mut trace = Vec::new();
    let tells = std::env::var_os("MODEL_TELL").is_some();
    for _ in 0..steps {
        let Some(event) = pick(world, random) else {
            break;
        };
        trace.push(event.clone());
        let before = tells.then(|| world.clone());
        if let Some(before) = &before {
            let packet = match &event {
                Event::Deliver(place) | Event::Double(place) => before.net.get(*place),
                _ => None,
            };
            println!(
                "{} {event:?} {}",
                trace.len(),
                packet.map_or(String::new(), |p| format!("{p:?}"))
            );
        }
        if let Err(violation) = world.apply(&event) {
            return Err((violation.0, trace));
        }
        if let Some(before) = before {
            tell_changes(&before, world);
        }
        if world.out_of_bounds() {
            break;
        }
    }
    Ok(trace.len() as u64)
}

/// `MODEL_SEED=n MODEL_TELL=1`: what each step of the walk changed.
fn tell_changes(before: &World, world: &World) {
    for i in 0..world.nodes.len() {
        let summary = |world: &World| {
            let node = &world.nodes[i];
            let log: Vec<u64> = node.log.iter().map(|rec| rec.epoch.0).collect();
            let view = world.view(i);
            let view = view.map(|view| {
                let rule = view.rule.map(|recorded| {
                    let voters = recorded.rule.voters.iter();
                    let voters: Vec<_> = voters.map(|v| (v.id.0, v.incarnation)).collect();
                    let members = recorded.rule.members;
                    let copies = recorded.rule.copies;
                    (
                        recorded.id,
                        voters,
                        members,
                        copies,
                        recorded.rule.lost.len(),
                    )
                });
                (
                    view.standing,
                    view.epoch,
                    view.incarnation,
                    view.primary,
                    view.released,
                    rule,
                )
            });
            format!(
                "{view:?} log {log:?} synced {} stream {:?}",
                node.synced, node.stream
            )
        };
        let (old, new) = (summary(before), summary(world));
        if old != new {
            println!("    node {}: {new}", i + 1);
        }
    }
    let (old, new) = (before.ghost.released.len(), world.ghost.released.len());
    if old != new {
        println!("    released: {old} -> {new}");
    }
}

/// Walks each seed for at most `steps` events, then heals the world and demands progress.
pub fn walk_seeds(bounds: &Bounds, seeds: Range<u64>, steps: usize) -> Outcome {
    match World::try_begun(bounds.clone()) {
        Ok(start) => walk_from(&start, seeds, steps),
        Err(violation) => found_before(violation),
    }
}

/// The same from a stage.
pub fn walk_stage(stage: Staged, seeds: Range<u64>, steps: usize) -> Outcome {
    match stage {
        Ok(start) => walk_from(&start, seeds, steps),
        Err(violation) => found_before(violation),
    }
}

fn walk_from(start: &World, seeds: Range<u64>, steps: usize) -> Outcome {
    let mut outcome = Outcome::default();
    for seed in seeds {
        let mut world = start.clone();
        let mut random = Random(seed);
        if start.bounds.rich && !start.bounds.calm {
            // The margin of R12 is a twentieth; these differ by less.
            world.rates = start
                .rates
                .iter()
                .map(|_| 980 + 20 * random.below(3))
                .collect();
        }
        outcome.states += 1;
        let walked = walk(&mut world, &mut random, steps);
        outcome.takeovers += (world.ghost.winners.len() as u64).saturating_sub(1);
        outcome.released += world.ghost.released.len() as u64;
        outcome.lossy += world.ghost.lossy;
        let failure = match walked {
            Err(failure) => failure,
            Ok(steps) => {
                outcome.steps += steps;
                match world.heal() {
                    Ok(healed) => {
                        outcome.healed += u64::from(healed);
                        continue;
                    }
                    Err(violation) => (violation.0, Vec::new()),
                }
            }
        };
        let (what, trace) = failure;
        let seed = Some(seed);
        outcome.found = Some(Found { what, seed, trace });
        return outcome;
    }
    outcome
}

/// What was found on the way to the start, before any walk.
fn found_before(violation: Violation) -> Outcome {
    let (what, seed, trace) = (violation.0, None, Vec::new());
    Outcome {
        found: Some(Found { what, seed, trace }),
        ..Outcome::default()
    }
}

/// Visits every state within the bounds from `start`, nearest first, up to `limit` states.
pub fn breadth_first(start: World, limit: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut seen: HashSet<u128> = HashSet::from([start.fingerprint()]);
    // Each state with the place of its parent and the event that led here, for the trace.
    let mut came: Vec<(usize, Event)> = vec![(0, Event::Time)];
    let mut queue: VecDeque<(usize, usize, World)> = VecDeque::from([(0, 0, start)]);
    while let Some((place, depth, world)) = queue.pop_front() {
        outcome.depth = depth;
        for event in world.events() {
            let mut next = world.clone();
            outcome.steps += 1;
            if let Err(violation) = next.apply(&event) {
                let trace = way(&came, place, event);
                let what = violation.0;
                outcome.found = Some(Found {
                    what,
                    seed: None,
                    trace,
                });
                outcome.states = seen.len();
                return outcome;
            }
            if next.out_of_bounds() || !seen.insert(next.fingerprint()) {
                continue;
            }
            let winners = next.ghost.winners.len() as u64;
            outcome.takeovers = outcome.takeovers.max(winners.saturating_sub(1));
            outcome.released = outcome.released.max(next.ghost.released.len() as u64);
            outcome.states = seen.len();
            if seen.len() >= limit {
                return outcome;
            }
            came.push((place, event));
            queue.push_back((came.len() - 1, depth + 1, next));
        }
    }
    outcome.exhausted = true;
    outcome
}

fn way(came: &[(usize, Event)], mut at: usize, last: Event) -> Vec<Event> {
    let mut trace = vec![last];
    while at != 0 {
        trace.push(came[at].1.clone());
        at = came[at].0;
    }
    trace.reverse();
    trace
}
