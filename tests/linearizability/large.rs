//! Large histories of a true register, with tens of clients and hundreds of open outcomes: they
//! must be decided in seconds, and one stale answer in them must be found.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Fault, Limits, Operation, Outcome, State, apply, check_within};

/// Pseudo-random numbers of one seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a run is like.
struct Shape {
    clients: u32,
    keys: u64,
    operations: usize,
    /// One in so many outcomes is open.
    open_one_in: u64,
}

/// Clients that each have one operation at a time under way, on a register that takes each at a
/// random moment of its time; an open one takes effect then, much later, or never.
fn run(seed: u64, shape: &Shape) -> Vec<Operation> {
    let mut dice = Dice(seed);
    let mut history = Vec::new();
    let mut free_at = vec![0_u64; shape.clients as usize];
    for number in 0..shape.operations {
        let client = dice.below(u64::from(shape.clients)) as usize;
        let begin = free_at[client] + 1 + dice.below(20);
        let effect = begin + 1 + dice.below(40);
        let end = effect + 1 + dice.below(40);
        free_at[client] = end;
        let key = dice.below(shape.keys);
        let open = dice.below(shape.open_one_in) == 0;
        let effect = match (open, dice.below(3)) {
            (true, 0) => None,
            (true, 1) => Some(effect + dice.below(2000)),
            _ => Some(effect),
        };
        let call = call(&mut dice, key, number);
        history.push((effect, end, open, client as u32, key, call, begin));
    }
    history.sort_by_key(|entry| entry.0);
    let mut states: BTreeMap<u64, State> = BTreeMap::new();
    let mut operations = Vec::new();
    for (effect, end, open, client, key, call, begin) in history {
        let state = states.entry(key).or_default();
        let (after, answer) = apply(state, &call);
        if effect.is_some() {
            *state = after;
        }
        let outcome = if open {
            Outcome::Unknown
        } else {
            Outcome::Ok(answer, end)
        };
        let key = format!("key {key}");
        operations.push(Operation {
            client,
            key,
            call,
            begin,
            outcome,
        });
    }
    operations
}

/// Keys by kind: registers, counters, lists of words, and one where everything is mixed.
fn call(dice: &mut Dice, key: u64, number: usize) -> Call {
    let unique = || format!("v{number}").into_bytes();
    match (key % 4, dice.below(6)) {
        (_, 0 | 1) => Call::Get,
        (0, 2..=4) => Call::Set(unique()),
        (0, _) => Call::Del,
        (1, _) => Call::Incr,
        (2, _) => Call::Append(format!("{number:>6}").into_bytes()),
        (_, 2) => Call::Set(unique()),
        (_, 3) => Call::Append(b"+".to_vec()),
        (_, 4) => Call::GetSet(unique()),
        // Mostly a miss, as with real clients that lost a race.
        (_, _) => Call::SetIfEqual {
            old: format!("v{}", number.saturating_sub(dice.below(20) as usize)).into_bytes(),
            value: unique(),
        },
    }
}

const SHAPE: Shape = Shape {
    clients: 30,
    keys: 16,
    operations: 20_000,
    open_one_in: 40,
};

#[test]
fn twenty_thousand_operations_of_thirty_clients_are_decided() {
    // With fewer keys more clients meet on each; one in ten outcomes open is a bad day.
    let harder = Shape {
        keys: 8,
        open_one_in: 10,
        ..SHAPE
    };
    for (seed, shape) in [(1, &SHAPE), (2, &SHAPE), (3, &harder)] {
        let history = run(seed, shape);
        match check_within(&history, Limits::default()) {
            Ok(checked) => {
                println!("seed {seed}: {checked:?}");
                assert!(checked.unknown > 300);
            }
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
}

#[test]
fn one_stale_read_among_many_operations_is_found() {
    for seed in 1..=3 {
        let mut history = run(seed, &SHAPE);
        let (at, stale) = stale_answer(&history);
        if let Outcome::Ok(answer, _) = &mut history[at].outcome {
            *answer = stale;
        }
        match check_within(&history, Limits::default()) {
            Err(Fault::Violation(violation)) => {
                let text = violation.to_string();
                assert!(text.lines().count() < 60, "{text}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

/// A read late in the history and an answer that was true for an earlier read of that key, before
/// yet another one saw something else.
fn stale_answer(history: &[Operation]) -> (usize, Answer) {
    let reads = |op: &&Operation| op.call == Call::Get && op.key == "key 1" && op.end().is_some();
    let reads: Vec<&Operation> = history.iter().filter(reads).collect();
    let (old, late) = (reads[reads.len() / 2], reads[reads.len() * 3 / 4]);
    let Outcome::Ok(answer, _) = &old.outcome else {
        panic!("only answered reads were taken");
    };
    let at = history
        .iter()
        .position(|op| op == late)
        .expect("it was taken from there");
    (at, answer.clone())
}
