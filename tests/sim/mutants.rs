//! Nodes without one of the rules kept around the machine: the simulator must notice each.
//!
//! R23's applier has none: what it applied too early would not be shown (R19's check covers it), and
//! is repaired at the next match. The machine's own share of R23 is in `tests/mutants.rs`.

use understudy::node::Guard;

use super::cluster::Shape;
use super::run::{SHAPES, run};

/// Runs seeds of every shape, in turn, until the missing rule shows.
fn is_caught(without: Guard) {
    for seed in 0..4000 {
        let shape = SHAPES[seed as usize % SHAPES.len()];
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

macro_rules! mutants {
    ($($name:ident: $guard:ident,)*) => {
        $(#[test]
        fn $name() {
            is_caught(Guard::$guard);
        })*
    };
}

mutants! {
    without_r18_replies_without_a_lease: R18,
    without_r19_a_deposed_primary_is_read: R19,
    without_r28_repaired_keys_are_shown_too_early: R28,
    without_r29_a_snapshot_beyond_the_fork: R29,
    without_r30_a_snapshot_of_the_unreleased: R30,
    without_r32_what_was_read_is_not_waited_for: R32,
}
