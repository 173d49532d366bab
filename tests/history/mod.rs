//! Histories of clients, and whether they are linearizable.
//!
//! Test support without a runtime, a socket or a clock: whoever records a history says when each
//! [`Operation`] began and ended, in ticks of any kind (microseconds, or the index of an event).
//! Each operation is on one key, so each key is checked by itself (linearizability is local:
//! Herlihy and Wing, 1990), with the search of Wing and Gong as Lowe and Porcupine do it
//! ([`search`]).
//!
//! Promises: [`check`] says `Ok` only with an order of the operations in hand that explains every
//! answer and keeps real time, and names a [`Violation`] only when there is none. Where the search
//! would take too long it says so, and never guesses.
//!
//! What a client does not know is part of the history: an [`Outcome::Unknown`] operation takes
//! effect once at any time after it began, even after the history's end, or never.

// Each test binary compiles this file and uses a part of it.
#![allow(dead_code, unused_imports)]

mod chain;
mod events;
mod explain;
mod operation;
pub mod pair;
mod reply;
mod search;
mod space;
mod text;

pub use explain::Violation;
pub use operation::{Answer, Call, Operation, Outcome, State, apply};
pub use reply::answer;
pub use search::Limits;
pub use text::{parse, write};

use std::collections::BTreeMap;

/// Why a history was not found linearizable.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No order explains it.
    Violation(Box<Violation>),
    /// The search was given up. Nothing is said about the history.
    Undecided {
        /// The key whose operations took too long.
        key: String,
        /// Steps taken.
        steps: u64,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Violation(violation) => violation.fmt(f),
            Fault::Undecided { key, steps } => write!(
                f,
                "key {key:?}: undecided after {steps} steps; give Limits more steps, or the \
                 workload more keys"
            ),
        }
    }
}

/// What was found out about a linearizable history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Keys with at least one operation.
    pub keys: usize,
    /// Operations whose answer was explained.
    pub explained: usize,
    /// Operations whose effect was open.
    pub unknown: usize,
    /// Steps the search took, over all keys.
    pub steps: u64,
}

/// Checks a history, in any order, all keys missing at its beginning.
pub fn check(history: &[Operation]) -> Result<Checked, Fault> {
    check_within(history, Limits::default())
}

/// As [`check`], with bounds on the search of each key.
pub fn check_within(history: &[Operation], limits: Limits) -> Result<Checked, Fault> {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut checked = Checked {
        keys: by_key.len(),
        ..Checked::default()
    };
    for (key, operations) in by_key {
        match search::search(&operations, limits) {
            search::Verdict::Linearizable { steps } => checked.steps += steps,
            search::Verdict::Violation => {
                let violation = explain::explain(&operations, limits);
                return Err(Fault::Violation(Box::new(violation)));
            }
            search::Verdict::Undecided { steps } => {
                let key = key.to_owned();
                return Err(Fault::Undecided { key, steps });
            }
        }
        for operation in operations {
            match &operation.outcome {
                Outcome::Ok(..) => checked.explained += 1,
                Outcome::Unknown => checked.unknown += 1,
                Outcome::Failed => {}
            }
        }
    }
    Ok(checked)
}
