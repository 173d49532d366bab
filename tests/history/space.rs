//! One key's operations made small: values as numbers, each operation as a move between them.
//!
//! Invariant: number 0 is the missing key, and equal values have equal numbers.
//!
//! Values that no answer can tell apart have one number, too ([`Seen`]): where hundreds of writes
//! went unseen, it does not matter which of them was the last.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Included, Unbounded};

use super::operation::{Answer, Call, Operation, Outcome, State, integer};

/// The number of a value.
pub type StateId = u32;

/// The missing key.
pub const MISSING: StateId = 0;

/// What the answers can tell apart.
///
/// A value that was never seen, nor anything that begins with it, and that nobody compared with,
/// shows itself by its length alone; and so does whatever is appended to it. It is written as so
/// many zero bytes. A word that was appended and is part of no value seen, likewise.
struct Seen {
    /// Values that a client saw, or compared with.
    values: BTreeSet<Vec<u8>>,
    /// Those of them that begin no other.
    longest: Vec<Vec<u8>>,
    /// There are INCRs: a number is more than its length.
    counts: bool,
}

impl Seen {
    /// `None` where everything may matter: words appended to numbers are numbers.
    fn of(operations: &[&Operation]) -> Option<Seen> {
        let counts = operations.iter().any(|op| op.call == Call::Incr);
        let appends = operations
            .iter()
            .any(|op| matches!(op.call, Call::Append(_)));
        if counts && appends {
            return None;
        }
        let mut values = BTreeSet::new();
        for operation in operations {
            if let Outcome::Ok(Answer::Value(Some(value)), _) = &operation.outcome {
                values.insert(value.clone());
            }
            if let Call::SetIfEqual { old, .. } = &operation.call {
                values.insert(old.clone());
            }
        }
        let next = values.iter().skip(1).map(Some).chain([None]);
        let ends = |(value, next): &(&Vec<u8>, Option<&Vec<u8>>)| {
            next.is_none_or(|next| !next.starts_with(value))
        };
        let longest = values.iter().zip(next).filter(ends);
        let longest = longest.map(|(value, _)| value.clone()).collect();
        Some(Seen {
            values,
            longest,
            counts,
        })
    }

    fn begins_one(&self, value: &[u8]) -> bool {
        let mut from = self.values.range::<[u8], _>((Included(value), Unbounded));
        from.next().is_some_and(|seen| seen.starts_with(value))
    }

    fn canonical(&self, value: &[u8]) -> Option<Vec<u8>> {
        let stands_for_all = vec![0; value.len()];
        let matters = self.begins_one(value) || (self.counts && integer(value).is_some());
        (!matters && !self.begins_one(&stands_for_all)).then_some(stands_for_all)
    }

    fn canonical_word(&self, word: &[u8]) -> Option<Vec<u8>> {
        let stands_for_all = vec![0; word.len()];
        let within = |word: &[u8]| {
            let mut values = self.longest.iter();
            values.any(|seen| memchr::memmem::find(seen, word).is_some())
        };
        (!word.is_empty() && !within(word) && !within(&stands_for_all)).then_some(stands_for_all)
    }
}

/// All values met so far.
pub struct Values {
    states: Vec<State>,
    ids: HashMap<State, StateId>,
    seen: Option<Seen>,
}

impl Values {
    fn new(seen: Option<Seen>) -> Values {
        Values {
            states: vec![None],
            ids: HashMap::from([(None, MISSING)]),
            seen,
        }
    }

    pub fn id(&mut self, state: &State) -> StateId {
        if let (Some(seen), Some(value)) = (&self.seen, state)
            && let Some(canonical) = seen.canonical(value)
        {
            return self.exact_id(&Some(canonical));
        }
        self.exact_id(state)
    }

    fn exact_id(&mut self, state: &State) -> StateId {
        if let Some(id) = self.ids.get(state) {
            return *id;
        }
        let id = StateId::try_from(self.states.len()).expect("memory ends before four billion");
        self.states.push(state.clone());
        self.ids.insert(state.clone(), id);
        id
    }

    pub fn value(&self, id: StateId) -> &State {
        &self.states[id as usize]
    }

    pub fn bytes(&self, id: StateId) -> &[u8] {
        self.value(id).as_deref().unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// The number that INCR would find.
    pub fn number(&self, id: StateId) -> Option<i64> {
        self.value(id).as_deref().map_or(Some(0), integer)
    }

    fn set(&mut self, value: &[u8]) -> StateId {
        self.id(&Some(value.to_vec()))
    }
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Get,
    Set(StateId),
    GetSet(StateId),
    Incr,
    Append(Vec<u8>),
    Del,
    Swap { old: StateId, new: StateId },
}

/// What its client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saw {
    /// Nothing that depends on the state.
    Nothing,
    State(StateId),
    Number(i64),
    NotANumber,
    Length(usize),
    Existed(bool),
    Stored(bool),
    /// An answer that this call never gives.
    Absurd,
}

/// An operation that was answered: it must find its place.
pub struct Known {
    pub act: Act,
    pub saw: Saw,
    pub begin: u64,
    pub end: u64,
}

/// Operations with open outcomes that do the same. They are interchangeable: where one is used,
/// it may as well be the one that began first, so only their number counts.
pub struct Class {
    pub act: Act,
    /// When each began, ascending.
    pub begins: Vec<u64>,
}

/// What is to be ordered.
pub struct Problem {
    pub values: Values,
    pub known: Vec<Known>,
    pub classes: Vec<Class>,
}

impl Problem {
    /// `merged`: values that no answer can tell apart are one.
    pub fn new(operations: &[&Operation], merged: bool) -> Problem {
        let seen = merged.then(|| Seen::of(operations)).flatten();
        let mut values = Values::new(seen);
        let mut known = Vec::new();
        let mut open: HashMap<Act, Vec<u64>> = HashMap::new();
        let mut order = Vec::new();
        for operation in operations {
            let act = act(&mut values, &operation.call);
            match &operation.outcome {
                Outcome::Failed => {}
                Outcome::Unknown if operation.call.is_write() => {
                    let begins = open.entry(act.clone()).or_insert_with(|| {
                        order.push(act);
                        Vec::new()
                    });
                    begins.push(operation.begin);
                }
                Outcome::Unknown => {}
                Outcome::Ok(answer, end) => known.push(Known {
                    saw: saw(&mut values, &operation.call, answer),
                    act,
                    begin: operation.begin,
                    end: *end,
                }),
            }
        }
        let classes = order.into_iter().map(|act| {
            let mut begins = open.remove(&act).unwrap_or_default();
            begins.sort_unstable();
            Class { act, begins }
        });
        let classes = classes.collect();
        Problem {
            values,
            known,
            classes,
        }
    }
}

fn act(values: &mut Values, call: &Call) -> Act {
    match call {
        Call::Get => Act::Get,
        Call::Set(value) => Act::Set(values.set(value)),
        Call::GetSet(value) => Act::GetSet(values.set(value)),
        Call::Incr => Act::Incr,
        Call::Append(more) => {
            let seen = values.seen.as_ref();
            let canonical = seen.and_then(|seen| seen.canonical_word(more));
            Act::Append(canonical.unwrap_or_else(|| more.clone()))
        }
        Call::Del => Act::Del,
        Call::SetIfEqual { old, value } => Act::Swap {
            old: values.set(old),
            new: values.set(value),
        },
    }
}

fn saw(values: &mut Values, call: &Call, answer: &Answer) -> Saw {
    match (call, answer) {
        (Call::Get | Call::GetSet(_), Answer::Value(state)) => Saw::State(values.id(state)),
        (Call::Set(_), Answer::Done) => Saw::Nothing,
        (Call::Incr, Answer::Integer(number)) => Saw::Number(*number),
        (Call::Incr, Answer::NotAnInteger) => Saw::NotANumber,
        (Call::Append(_), Answer::Integer(length)) => {
            usize::try_from(*length).map_or(Saw::Absurd, Saw::Length)
        }
        (Call::Del, Answer::Integer(count @ (0 | 1))) => Saw::Existed(*count == 1),
        (Call::SetIfEqual { .. }, Answer::Stored(stored)) => Saw::Stored(*stored),
        _ => Saw::Absurd,
    }
}

/// The state after `act` on `state`, if that could be answered with what was seen.
pub fn step(values: &mut Values, state: StateId, act: &Act, saw: &Saw) -> Option<StateId> {
    match (act, saw) {
        (_, Saw::Absurd) => None,
        (Act::Get, Saw::State(seen)) => (*seen == state).then_some(state),
        (Act::Get, _) => Some(state),
        (Act::Set(new), _) => Some(*new),
        (Act::GetSet(new), Saw::State(seen)) => (*seen == state).then_some(*new),
        (Act::GetSet(new), _) => Some(*new),
        (Act::Incr, saw) => increment(values, state, saw),
        (Act::Append(more), saw) => {
            let length = values.bytes(state).len() + more.len();
            if matches!(saw, Saw::Length(seen) if *seen != length) {
                return None;
            }
            let mut value = values.bytes(state).to_vec();
            value.extend_from_slice(more);
            Some(values.id(&Some(value)))
        }
        (Act::Del, Saw::Existed(existed)) => (*existed == (state != MISSING)).then_some(MISSING),
        (Act::Del, _) => Some(MISSING),
        (Act::Swap { old, new }, saw) => {
            let stores = state == *old;
            match saw {
                Saw::Stored(stored) if *stored != stores => None,
                _ => Some(if stores { *new } else { state }),
            }
        }
    }
}

fn increment(values: &mut Values, state: StateId, saw: &Saw) -> Option<StateId> {
    let next = values.number(state).and_then(|old| old.checked_add(1));
    match (next, saw) {
        (Some(next), Saw::Number(seen)) if next != *seen => None,
        (Some(_), Saw::NotANumber) | (None, Saw::Number(_)) => None,
        (Some(next), _) => Some(values.id(&Some(next.to_string().into_bytes()))),
        (None, _) => Some(state),
    }
}

/// The one state in which an operation with this answer can take effect, where there is just one.
pub fn needs(values: &mut Values, act: &Act, saw: &Saw) -> Option<StateId> {
    match (act, saw) {
        (Act::Get | Act::GetSet(_), Saw::State(seen)) => Some(*seen),
        (Act::Swap { old, .. }, Saw::Stored(true)) => Some(*old),
        // 1 follows the missing key as well as 0.
        (Act::Incr, Saw::Number(seen)) if *seen != 1 => {
            let before = seen.checked_sub(1)?;
            Some(values.set(before.to_string().as_bytes()))
        }
        _ => None,
    }
}

/// The state that an operation may leave without regard to what was there.
pub fn makes(act: &Act, saw: &Saw) -> Option<StateId> {
    match (act, saw) {
        (Act::Swap { .. }, Saw::Stored(false)) => None,
        (Act::Set(new) | Act::GetSet(new) | Act::Swap { new, .. }, _) => Some(*new),
        (Act::Del, _) => Some(MISSING),
        (Act::Get | Act::Incr | Act::Append(_), _) => None,
    }
}
