//! The takeover machine without one of its rules: the checker must notice each.
//!
//! `cargo test --features mutants --test mutants`

#[path = "model/search.rs"]
#[allow(dead_code)] // `tests/model.rs` uses the rest.
mod search;
#[path = "model/world.rs"]
#[allow(dead_code)]
mod world;

use search::walk_seeds;
use understudy::replica::{Guard, Level, Mode};
use world::{Bounds, Rough};

fn bounds(data: u32, witnesses: u32, mode: Mode, without: Guard) -> Bounds {
    Bounds {
        data,
        witnesses,
        mode,
        level: Some(Level::Synced),
        epochs: 40,
        writes: 30,
        crashes: 10,
        wipes: if without == Guard::R24AndR25 { 1 } else { 0 },
        losses: 60,
        in_flight: 14,
        time_steps: 900,
        rough: rough(without),
        without: Some(without),
    }
}

/// What a rule guards against may be rare; the walks look where it would be.
fn rough(without: Guard) -> Rough {
    match without {
        // A record of an older epoch replicated without the new epoch's first, then a crash.
        Guard::R8 => Rough {
            crash: 6,
            restart: 12,
            ship: 2,
            ship_one: 40,
            ..Rough::default()
        },
        Guard::R24AndR25 => Rough {
            crash: 6,
            restart: 8,
            wipe: 20,
            ..Rough::default()
        },
        Guard::R5 => Rough {
            crash: 5,
            restart: 10,
            ..Rough::default()
        },
        _ => Rough::default(),
    }
}

/// Walks seeds in every set-up until the missing rule shows.
fn is_caught(without: Guard) {
    let set_ups = [
        (2, 1, Mode::SemiSync),
        (3, 0, Mode::Sync),
        (3, 0, Mode::SemiSync),
        (5, 0, Mode::Sync),
    ];
    let mut steps = 0;
    for batch in 0..40_u64 {
        for (data, witnesses, mode) in set_ups {
            let seeds = batch * 100..(batch + 1) * 100;
            let outcome = walk_seeds(&bounds(data, witnesses, mode, without), seeds, 500);
            steps += outcome.steps;
            if let Some(found) = outcome.found {
                println!(
                    "without {without:?}: {} ({data} data + {witnesses} witnesses, {mode:?}, seed \
                     {:?}, {steps} steps in all)",
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

mutants! {
    without_r1_said_before_durable: R1,
    without_r5_released_before_a_rule_is_recorded: R5,
    without_r6_a_change_is_not_joint: R6,
    without_r10_newest_rule: R10NewestRule,
    without_r10_any_log_wins: R10Log,
    without_r11_two_votes_in_an_epoch: R11,
    without_r12_votes_against_live_leases: R12,
}
