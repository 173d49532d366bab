//! The takeover machine against every order of events in small worlds, and against long random
//! ones. The oracles stand in `model/world.rs`.

#[path = "model/search.rs"]
mod search;
#[path = "model/world.rs"]
mod world;

use search::{Found, breadth_first, walk_seeds};
use understudy::replica::{Level, Mode};
use world::{Bounds, Rough};

fn witness() -> Bounds {
    Bounds {
        data: 2,
        witnesses: 1,
        mode: Mode::SemiSync,
        level: Some(Level::Synced),
        epochs: 4,
        writes: 3,
        crashes: 2,
        wipes: 0,
        losses: 3,
        in_flight: 12,
        time_steps: 60,
        rough: Rough::default(),
        #[cfg(feature = "mutants")]
        without: None,
    }
}

fn three() -> Bounds {
    Bounds {
        data: 3,
        witnesses: 0,
        mode: Mode::Sync,
        ..witness()
    }
}

fn walks_are_clean(bounds: Bounds) {
    let seeds = search::seeds(400);
    let outcome = walk_seeds(&bounds, seeds.clone(), 400);
    assert!(
        outcome.released > 0 && outcome.takeovers > 0,
        "the walks never got anywhere"
    );
    println!(
        "{} walks, {} steps: {outcome:?}",
        seeds.end - seeds.start,
        outcome.steps
    );
    if let Some(found) = outcome.found {
        panic!("{found}");
    }
}

#[test]
fn random_walks_with_a_witness() {
    walks_are_clean(Bounds {
        epochs: 40,
        writes: 30,
        crashes: 8,
        wipes: 1,
        losses: 60,
        time_steps: 900,
        ..witness()
    });
}

#[test]
fn random_walks_with_three_data_nodes() {
    walks_are_clean(Bounds {
        epochs: 40,
        writes: 30,
        crashes: 8,
        wipes: 1,
        losses: 60,
        time_steps: 900,
        ..three()
    });
}

#[test]
fn every_order_with_a_witness() {
    exhaust(witness());
}

#[test]
fn every_order_with_three_data_nodes() {
    exhaust(three());
}

fn exhaust(bounds: Bounds) {
    let bounds = Bounds {
        epochs: 3,
        writes: 1,
        crashes: 1,
        losses: 0,
        in_flight: 4,
        time_steps: 4,
        ..bounds
    };
    let outcome = breadth_first(&bounds, search::states(60_000));
    println!("{outcome:?}");
    if let Some(found) = outcome.found {
        panic!("{}", Found::to_string(&found));
    }
}
