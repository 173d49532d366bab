//! Linearizability as it is defined: every order of every subset. For a handful of operations.

use crate::history::{Operation, Outcome, State, apply};

/// Whether some order of all answered operations and some of the open ones, keeping real time,
/// explains every answer. All on one key.
pub fn is_linearizable(operations: &[Operation]) -> bool {
    let rest: Vec<&Operation> = operations.iter().collect();
    go_on(&None, &rest)
}

fn go_on(state: &State, rest: &[&Operation]) -> bool {
    if rest.iter().all(|operation| operation.end().is_none()) {
        return true;
    }
    let first_end = rest.iter().filter_map(|operation| operation.end()).min();
    let first_end = first_end.unwrap_or(u64::MAX);
    (0..rest.len()).any(|at| {
        let operation = rest[at];
        if operation.begin > first_end || operation.outcome == Outcome::Failed {
            return false;
        }
        let (after, answer) = apply(state, &operation.call);
        if matches!(&operation.outcome, Outcome::Ok(said, _) if *said != answer) {
            return false;
        }
        let mut fewer = rest.to_vec();
        fewer.remove(at);
        go_on(&after, &fewer)
    })
}
