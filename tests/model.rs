//! The takeover machine against every order of events in small worlds, and against long random
//! walks in larger ones. See `docs/model.md`; the oracles stand in `model/oracle.rs`.

#[path = "model/mod.rs"]
mod model;
#[path = "model/stories.rs"]
mod stories;

use std::sync::Arc;

use model::event::Event;
use model::scenes::SCENES;
use model::search::{self, breadth_first, walk_seeds, walk_stage};
use model::setups;
use model::stages::STAGES;
use model::world::{Bounds, World};
use understudy::replica::MaxLoss;

fn walks_are_clean(name: &str, bounds: Bounds) {
    let outcome = walk_seeds(&bounds, search::seeds(100), 500);
    println!("{name}: {outcome:?}");
    if let Some(found) = outcome.found {
        panic!("{name}: {found}");
    }
    assert!(
        outcome.released > 0 && outcome.takeovers > 0,
        "the walks never got anywhere"
    );
}

#[test]
fn random_walks_with_a_witness() {
    walks_are_clean("two and a witness", setups::witness());
}

#[test]
fn random_walks_with_three_data_nodes() {
    walks_are_clean("three in sync", setups::three());
}

#[test]
fn random_walks_at_level_received() {
    walks_are_clean("three at received", setups::received());
    walks_are_clean("two and a witness at received", setups::received_witness());
}

#[test]
fn random_walks_at_level_applied() {
    walks_are_clean("three at applied", setups::applied());
}

#[test]
fn random_walks_in_async() {
    walks_are_clean("async, 2 records", setups::lagging(MaxLoss::Records(2)));
    walks_are_clean("async, 20 bytes", setups::lagging(MaxLoss::Bytes(20)));
    walks_are_clean("async, 400 ms", setups::lagging_in_time(400));
    walks_are_clean("async, 5 s", setups::lagging(MaxLoss::SpanMs(5_000)));
}

#[test]
fn every_scene_ends_well() {
    for (name, bounds, scene) in SCENES {
        if let Err(violation) = scene(bounds()) {
            panic!("{name}: {}", violation.0);
        }
    }
}

#[test]
fn walks_from_every_stage_are_clean() {
    for (name, bounds, stage) in STAGES {
        let outcome = walk_stage(stage(bounds()), search::seeds(25), 300);
        println!("{name}: {outcome:?}");
        if let Some(found) = outcome.found {
            panic!("{name}: {found}");
        }
    }
}

#[test]
fn every_order_with_a_witness() {
    exhaust(setups::witness());
}

#[test]
fn every_order_with_three_data_nodes() {
    exhaust(setups::three());
}

/// Every order of events from the moment after a crash: one record released, one not, the primary
/// dead with its host.
fn exhaust(bounds: Bounds) {
    let mut start = World::begun(Bounds {
        rich: false,
        ..bounds.clone()
    });
    let mut prefix = vec![Event::Write(0)];
    prefix.extend([Event::Ship(1), Event::Sync(1), Event::Sync(0)]);
    for event in prefix {
        start.apply(&event).expect("a write breaks no rule");
    }
    while let Some(event) = start.local_step(&[]) {
        start
            .apply(&event)
            .expect("a run without faults breaks no rule");
    }
    assert_eq!(start.ghost.released.len(), 2, "EpochStart and one write");
    for event in [Event::Write(0), Event::Crash(0)] {
        start.apply(&event).expect("a crash breaks no rule");
    }
    (start.crashes, start.writes, start.time_steps) = (0, 0, 0);
    start.bounds = Arc::new(Bounds {
        epochs: 3,
        writes: 1,
        crashes: 1,
        losses: 0,
        in_flight: 4,
        time_steps: 5,
        rich: false,
        ..bounds
    });
    let outcome = breadth_first(start, search::states(60_000));
    println!("{outcome:?}");
    if let Some(found) = outcome.found {
        panic!("{found}");
    }
    assert!(outcome.takeovers > 0, "no takeover within the bound");
}
