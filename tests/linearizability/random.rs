//! Random histories: small ones against the definition, and what a real register would answer.

use proptest::prelude::*;

use super::brute;
use crate::history::{Answer, Call, Fault, Operation, Outcome, check};

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"1".to_vec()),
        Just(b"2".to_vec()),
        Just(b"a".to_vec()),
        Just(b"-1".to_vec())
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => Just(Call::Get),
        2 => value().prop_map(Call::Set),
        1 => value().prop_map(Call::GetSet),
        2 => Just(Call::Incr),
        2 => value().prop_map(Call::Append),
        1 => Just(Call::Del),
        2 => (value(), value()).prop_map(|(old, value)| Call::SetIfEqual { old, value }),
    ]
}

/// Calls of one family, so that the rules for keys that only grow are met.
fn calls(most: usize) -> impl Strategy<Value = Vec<Call>> {
    let family = |calls: BoxedStrategy<Call>| proptest::collection::vec(calls, 1..most);
    prop_oneof![
        3 => family(call().boxed()),
        1 => family(prop_oneof![Just(Call::Get), Just(Call::Incr)].boxed()),
        1 => family(prop_oneof![Just(Call::Get), value().prop_map(Call::Append)].boxed()),
        1 => family(prop_oneof![Just(Call::Get), value().prop_map(Call::Set)].boxed()),
    ]
}

/// One operation's place in time and fate: begin, time to its effect, time to its answer, whether
/// it is open and whether it took effect then.
type Fate = (u8, u8, u8, u8);

/// A history as a correct register makes it: operations take effect in the order of their effects.
fn truthful(calls: Vec<Call>, fates: Vec<Fate>) -> Vec<Operation> {
    let mut order: Vec<(u64, usize)> = Vec::new();
    for (number, (begin, to_effect, _, _)) in fates.iter().take(calls.len()).enumerate() {
        order.push((u64::from(*begin) + u64::from(*to_effect % 8), number));
    }
    order.sort_unstable();
    let mut state = None;
    let mut history = Vec::new();
    for (at, number) in order {
        let (begin, _, to_answer, fate) = fates[number];
        let call = calls[number].clone();
        let (after, answer) = crate::history::apply(&state, &call);
        let outcome = match fate % 8 {
            0 => Outcome::Unknown,
            1 => Outcome::Failed,
            2 => Outcome::Unknown,
            _ => Outcome::Ok(answer, at + u64::from(to_answer % 8)),
        };
        if !matches!(fate % 8, 1 | 2) {
            state = after;
        }
        history.push(Operation {
            client: number as u32,
            key: "k".to_owned(),
            call,
            begin: u64::from(begin),
            outcome,
        });
    }
    history
}

fn fates(most: usize, ticks: u8) -> impl Strategy<Value = Vec<Fate>> {
    let fate = (0..ticks, any::<u8>(), any::<u8>(), any::<u8>());
    proptest::collection::vec(fate, most)
}

/// Answers that a liar might give instead.
fn lie() -> impl Strategy<Value = Answer> {
    prop_oneof![
        value().prop_map(|value| Answer::Value(Some(value))),
        Just(Answer::Value(None)),
        (-1_i64..4).prop_map(Answer::Integer),
        any::<bool>().prop_map(Answer::Stored),
        Just(Answer::NotAnInteger),
    ]
}

/// As the definition says; a violation's prefix must break, too, and hold without its last answer.
fn agrees(history: &[Operation]) {
    let expected = brute::is_linearizable(history);
    match check(history) {
        Ok(_) => assert!(expected, "found linearizable: {history:#?}"),
        Err(Fault::Undecided { steps, .. }) => panic!("undecided after {steps} steps"),
        Err(Fault::Violation(violation)) => {
            assert!(!expected, "found broken: {violation}");
            assert!(
                !brute::is_linearizable(&violation.prefix),
                "too short: {violation}"
            );
            let mut without = violation.prefix.clone();
            for operation in &mut without {
                if *operation == violation.last {
                    operation.outcome = Outcome::Unknown;
                }
            }
            // Several answers may have come at the last one's tick.
            let ends = |op: &Operation| op.end() == violation.last.end();
            let one = violation.prefix.iter().filter(|op| ends(op)).count() == 1;
            assert!(
                !one || brute::is_linearizable(&without),
                "too long: {violation}"
            );
        }
    }
}

proptest! {
    #[test]
    fn small_histories_as_the_definition_says(
        calls in calls(8),
        fates in fates(8, 12),
        lies in proptest::collection::vec((0_usize..8, lie()), 0..3),
    ) {
        let mut history = truthful(calls, fates);
        for (at, lie) in lies {
            if let Some(Operation { outcome: Outcome::Ok(answer, _), .. }) = history.get_mut(at) {
                *answer = lie;
            }
        }
        agrees(&history);
    }

    #[test]
    fn a_true_register_is_always_linearizable(calls in calls(60), fates in fates(60, 100)) {
        let history = truthful(calls, fates);
        if let Err(fault) = check(&history) {
            panic!("{fault}");
        }
    }
}
