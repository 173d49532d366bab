//! The search for an order: Wing and Gong's, depth first over the list of events, with Lowe's memo
//! of what was tried (the set of operations placed and the state they left).
//!
//! What keeps it fast where hundreds of outcomes are open:
//! - An operation without effect whose answer fits the state at hand is placed at once: no other
//!   choice can need it later.
//! - An open operation is placed only right before an answered one that depends on the state and
//!   fits only thus. Any other use can be moved there, or left out (it would be overwritten unseen,
//!   or would be the end of all).
//! - A state that an answer still needs must not be left for good: where no operation that is
//!   left can bring it back, the branch is dead.
//! - Values that no answer can tell apart count as one ([`super::space`]).
//! - Where a key was only ever appended to, a state must begin every longer value that was seen.
//!
//! The memo holds 128 bits per configuration, the sum of random words for each part. Two different
//! ones agree with a chance of 2^-128 times the pairs met, and the harm would be a false alarm,
//! never a false all-clear.

use std::collections::HashSet;

use super::events::Events;
use super::operation::Operation;
use super::space::{Act, MISSING, Problem, Saw, StateId, makes, needs, step};

/// Bounds on the search of one key.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps: placements tried. A few million take a second in a release build.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 20_000_000 }
    }
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable { steps: u64 },
    /// There is none.
    Violation,
    /// Given up.
    Undecided { steps: u64 },
}

/// Searches an order of one key's operations.
pub fn search(operations: &[&Operation], limits: Limits) -> Verdict {
    Search::new(operations, true).run(limits)
}

/// The states that the search stood in where it got furthest and could not go on, found without
/// looking ahead at what later answers need: what the value could be by then. At most a few.
pub fn dead_ends(operations: &[&Operation]) -> Vec<Option<Vec<u8>>> {
    let mut search = Search::new(operations, false);
    search.looks_ahead = false;
    search.run(Limits { steps: 200_000 });
    let states = search.furthest.1.iter();
    let state = |id: &StateId| search.problem.values.value(*id).clone();
    states.map(state).collect()
}

/// A placement: some open operations, then an answered one.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub chain: Vec<u32>,
    pub operation: u32,
}

/// A configuration and what is left to try from it.
struct Frame {
    state: StateId,
    /// What led here.
    taken: Choice,
    choices: Vec<Choice>,
    next: usize,
    /// Whether `choices` are the last ones.
    complete: bool,
}

pub struct Search {
    pub problem: Problem,
    pub events: Events,
    /// Per class: how many of it are placed.
    pub used: Vec<usize>,
    /// Per answered operation: the state it needs, the state it makes.
    ties: Vec<(Option<StateId>, Option<StateId>)>,
    /// Per state met in the history: answered operations not yet placed that fit only there.
    wanted: Vec<u32>,
    /// Per such state: operations not yet placed that lead there from anywhere.
    makers: Vec<u32>,
    /// Every write adds: no state comes twice.
    grows_only: bool,
    /// The values seen, by length, where every write is an APPEND.
    seen_appended: Option<Vec<StateId>>,
    /// Whether to drop a branch for what later answers need.
    pub looks_ahead: bool,
    memo: HashSet<u128>,
    hash: u128,
    furthest: (u32, Vec<StateId>),
}

impl Search {
    fn new(operations: &[&Operation], merged: bool) -> Search {
        let mut problem = Problem::new(operations, merged);
        let mut ties = Vec::new();
        for known in &problem.known {
            let needed = needs(&mut problem.values, &known.act, &known.saw);
            ties.push((needed, makes(&known.act, &known.saw)));
        }
        let states = problem.values.len();
        let (mut wanted, mut makers) = (vec![0; states], vec![0; states]);
        for (needed, made) in &ties {
            count(&mut wanted, *needed, false);
            count(&mut makers, *made, false);
        }
        for class in &problem.classes {
            for _ in &class.begins {
                count(&mut makers, makes(&class.act, &Saw::Nothing), false);
            }
        }
        let acts = problem.known.iter().map(|known| &known.act);
        let acts: Vec<&Act> = acts.chain(problem.classes.iter().map(|c| &c.act)).collect();
        let adds = |act: &Act| matches!(act, Act::Append(more) if !more.is_empty());
        let grows_only = acts
            .iter()
            .all(|act| **act == Act::Get || **act == Act::Incr || adds(act));
        let appends_only = acts.iter().all(|act| **act == Act::Get || adds(act));
        let seen_appended = appends_only.then(|| values_seen(&problem));
        Search {
            events: Events::new(&problem),
            used: vec![0; problem.classes.len()],
            problem,
            ties,
            wanted,
            makers,
            grows_only,
            seen_appended,
            looks_ahead: true,
            memo: HashSet::new(),
            hash: 0,
            furthest: (0, Vec::new()),
        }
    }

    fn run(&mut self, limits: Limits) -> Verdict {
        let mut steps = 0;
        let mut stack = vec![self.frame(MISSING, Choice::default())];
        while let Some(top) = stack.last_mut() {
            if self.events.is_empty() {
                return Verdict::Linearizable { steps };
            }
            let Some(choice) = top.choices.get(top.next).cloned() else {
                if !top.complete {
                    (top.complete, top.next) = (true, 0);
                    top.choices = self.chains(top.state);
                    continue;
                }
                let done = stack.pop();
                if let Some(done) = done.filter(|_| !stack.is_empty()) {
                    self.take_back(&done.taken);
                }
                continue;
            };
            top.next += 1;
            let before = top.state;
            steps += 1;
            if steps > limits.steps {
                return Verdict::Undecided { steps };
            }
            let after = self.place(&choice, before);
            match after {
                Some(state) if self.memo.insert(self.hash ^ word(3, u64::from(state), 0)) => {
                    let frame = self.frame(state, choice);
                    stack.push(frame);
                }
                _ => self.take_back(&choice),
            }
        }
        Verdict::Violation
    }

    /// The configuration at hand with its direct choices.
    fn frame(&mut self, state: StateId, taken: Choice) -> Frame {
        let mut candidates = Vec::new();
        let deadline = self.events.candidates(&mut candidates);
        if deadline > self.furthest.0 {
            self.furthest = (deadline, Vec::new());
        }
        if deadline == self.furthest.0 && self.furthest.1.len() < 8 {
            self.furthest.1.push(state);
            self.furthest.1.dedup();
        }
        let (mut choices, mut complete) = (Vec::new(), false);
        for operation in candidates {
            let Some(after) = self.step(state, operation) else {
                continue;
            };
            let chain = Vec::new();
            let choice = Choice { chain, operation };
            if after == state && !matches!(self.known(operation).0, Act::Set(_)) {
                (choices, complete) = (vec![choice], true);
                break;
            }
            choices.push(choice);
        }
        Frame {
            state,
            taken,
            choices,
            next: 0,
            complete,
        }
    }

    pub fn known(&self, operation: u32) -> (&Act, &Saw) {
        let known = &self.problem.known[operation as usize];
        (&known.act, &known.saw)
    }

    pub fn step(&mut self, state: StateId, operation: u32) -> Option<StateId> {
        let known = &self.problem.known[operation as usize];
        step(&mut self.problem.values, state, &known.act, &known.saw)
    }

    /// Places a choice. `None`: it leads nowhere; it is placed all the same.
    fn place(&mut self, choice: &Choice, before: StateId) -> Option<StateId> {
        let mut path = vec![before];
        let mut state = before;
        for class in &choice.chain {
            state = self.step_class(state, *class);
            path.push(state);
            self.count_class(*class, true);
        }
        let after = self.step(state, choice.operation);
        self.count_known(choice.operation, true);
        self.events.lift(choice.operation);
        let after = after?;
        let left = path.into_iter().filter(|left| *left != after);
        let mut alive = true;
        for state in left {
            alive &= !self.is_missed(state);
        }
        (!self.looks_ahead || alive && self.is_alive(after)).then_some(after)
    }

    fn take_back(&mut self, choice: &Choice) {
        self.events.unlift(choice.operation);
        self.count_known(choice.operation, false);
        for class in choice.chain.iter().rev() {
            self.count_class(*class, false);
        }
    }

    pub fn step_class(&mut self, state: StateId, class: u32) -> StateId {
        let act = &self.problem.classes[class as usize].act;
        step(&mut self.problem.values, state, act, &Saw::Nothing).unwrap_or(state)
    }

    fn count_class(&mut self, class: u32, placed: bool) {
        let used = &mut self.used[class as usize];
        if !placed {
            *used -= 1;
        }
        self.hash ^= word(2, u64::from(class), *used as u64);
        if placed {
            *used += 1;
        }
        let made = makes(&self.problem.classes[class as usize].act, &Saw::Nothing);
        count(&mut self.makers, made, placed);
    }

    fn count_known(&mut self, operation: u32, placed: bool) {
        self.hash ^= word(1, u64::from(operation), 0);
        let (needed, made) = self.ties[operation as usize];
        count(&mut self.makers, made, placed);
        count(&mut self.wanted, needed, placed);
    }

    /// Whether an answer still needs this state, which is being left and cannot come back.
    fn is_missed(&self, state: StateId) -> bool {
        let at = state as usize;
        let wanted = self.wanted.get(at).is_some_and(|wanted| *wanted > 0);
        wanted && (self.grows_only || (self.makers[at] == 0 && !self.can_grow_to(state)))
    }

    /// Whether INCR or APPEND may lead to this state.
    fn can_grow_to(&self, state: StateId) -> bool {
        let value = self.problem.values.bytes(state);
        let known = self.problem.known.iter().map(|known| &known.act);
        let mut acts = known.chain(self.problem.classes.iter().map(|class| &class.act));
        acts.any(|act| match act {
            Act::Append(more) => value.ends_with(more),
            Act::Incr => state != MISSING && self.problem.values.number(state).is_some(),
            _ => false,
        })
    }

    /// Whether longer values seen begin with this one, where values only grow.
    pub fn is_alive(&self, state: StateId) -> bool {
        let Some(seen) = &self.seen_appended else {
            return true;
        };
        let values = &self.problem.values;
        let value = values.bytes(state);
        let at = seen.partition_point(|seen| values.bytes(*seen).len() < value.len());
        seen.get(at)
            .is_none_or(|next| values.bytes(*next).starts_with(value))
    }
}

fn values_seen(problem: &Problem) -> Vec<StateId> {
    let seen = problem.known.iter().filter_map(|known| match known.saw {
        Saw::State(state) => Some(state),
        _ => None,
    });
    let mut seen: Vec<StateId> = seen.collect();
    seen.sort_by_key(|state| problem.values.bytes(*state).len());
    seen.dedup();
    seen
}

fn count(counters: &mut [u32], state: Option<StateId>, placed: bool) {
    if let Some(counter) = state.and_then(|state| counters.get_mut(state as usize)) {
        if placed {
            *counter -= 1;
        } else {
            *counter += 1;
        }
    }
}

/// A random word for one part of a configuration: SplitMix64 twice.
fn word(kind: u64, first: u64, second: u64) -> u128 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let low = mix(mix(mix(kind).wrapping_add(first)).wrapping_add(second));
    let high = mix(mix(mix(kind ^ 0xa5a5_0000).wrapping_add(first)).wrapping_add(second));
    (u128::from(high) << 64) | u128::from(low)
}
