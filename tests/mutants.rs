//! The takeover machine without one of its rules: the checker must notice each.
//!
//! `cargo test --features mutants --test mutants -- --nocapture`

#[path = "model/mod.rs"]
mod model;

use model::search::walk_seeds;
use model::setups;
use model::world::Bounds;
use understudy::replica::{Guard, MaxLoss};

/// Walks seeds in every set-up until the missing rule shows.
fn is_caught(without: Guard) {
    let set_ups = [
        ("two and a witness", setups::witness()),
        ("three in sync", setups::three()),
        ("three at received", setups::received()),
        ("two and a witness at received", setups::received_witness()),
        ("async, 2 records", setups::lagging(MaxLoss::Records(2))),
    ];
    let mut steps = 0;
    for batch in 0..20_u64 {
        for (name, bounds) in &set_ups {
            let bounds = Bounds {
                without: Some(without),
                ..bounds.clone()
            };
            let outcome = walk_seeds(&bounds, batch * 50..(batch + 1) * 50, 500);
            steps += outcome.steps;
            if let Some(found) = outcome.found {
                println!(
                    "without {without:?}: {} ({name}, seed {:?}, {steps} steps in all)",
                    found.what, found.seed
                );
                return;
            }
        }
    }
    panic!("without {without:?} nothing was found in {steps} steps: an oracle is missing");
}

macro_rules! mutants {
    ($($name:ident: $guard:ident,)*) => {
        $(#[test]
        fn $name() {
            is_caught(Guard::$guard);
        })*
    };
}

/// This one is seen before the first walk: even the beginning of a cluster breaks it.
#[test]
#[should_panic(expected = "said before durable")]
fn without_r1_said_before_durable() {
    is_caught(Guard::R1);
}

mutants! {
    without_r5_released_before_a_rule_is_recorded: R5,
    without_r6_a_change_is_not_joint: R6,
    without_r8_older_records_released_alone: R8,
    without_r10_newest_rule: R10NewestRule,
    without_r10_any_log_wins: R10Log,
    without_r11_two_votes_in_an_epoch: R11,
    without_r12_votes_against_live_leases: R12,
    without_r24_and_r25_blank_nodes_vote: R24AndR25,
}
