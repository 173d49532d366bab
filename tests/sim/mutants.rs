//! Nodes without one of the rules kept around the machine: the simulator must notice each.
//!
//! R23's applier has none: what it applied too early would not be shown (R19's check covers it), and
//! is repaired at the next match. The machine's own share of R23 is in `tests/mutants.rs`.

use understudy::node::Guard;

use super::cluster::Shape;
use super::run::{SHAPES, run};

/// Runs seeds of these shapes, in turn, until the missing rule shows.
fn is_caught(without: Guard, shapes: &[Shape]) {
    for seed in 0..4000 {
        let shape = shapes[seed as usize % shapes.len()];
        let verdict = run(
            Shape {
                without: Some(without),
                ..shape
            },
            seed,
            false,
        );
        if let Some(why) = verdict.failed {
            let why = why.lines().next().unwrap_or_default();
            println!("without {without:?}: {why} ({} seed {seed})", shape.name);
            return;
        }
    }
    panic!("without {without:?} 4000 seeds are clean: an oracle is missing");
}

/// A snapshot ends beyond a fork only where a takeover may lose what was released. It is loaded only
/// by the next start: in a mixture of all shapes 4,000 seeds were sometimes too few.
const LOSSY: [Shape; 1] = [SHAPES[5]];

/// Where some are found soonest: a primary without a lease took 1,382 seeds of the mixture, two minutes.
const THREE: [Shape; 1] = [SHAPES[1]];
const RECEIVED: [Shape; 1] = [SHAPES[4]];
const TWO_WITNESSES: [Shape; 1] = [SHAPES[3]];

macro_rules! mutants {
    ($($name:ident: $guard:ident in $shapes:expr,)*) => {
        $(#[test]
        fn $name() {
            is_caught(Guard::$guard, $shapes);
        })*
    };
}

mutants! {
    without_r18_replies_without_a_lease: R18 in &THREE,
    without_r19_a_deposed_primary_is_read: R19 in &SHAPES,
    without_r28_repaired_keys_are_shown_too_early: R28 in &TWO_WITNESSES,
    without_r29_a_snapshot_beyond_the_fork: R29 in &LOSSY,
    without_r30_a_snapshot_of_the_unreleased: R30 in &RECEIVED,
    without_r30_a_snapshot_of_what_nobody_confirmed: R30Confirmed in &SHAPES,
    without_r32_what_was_read_is_not_waited_for: R32 in &SHAPES,
    without_r34_a_deposed_primary_says_how_old_a_standby_is: R34 in &SHAPES,
}
