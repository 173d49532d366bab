//! Failures that the search found in the machine, each as the shortest run that shows it.

use understudy::replica::{Level, MaxLoss, Mode};

use crate::model::event::Event;
use crate::model::setups;
use crate::model::world::{Bounds, World};

/// Plays these events, with a benign run of `steps` of time after each.
fn play(bounds: Bounds, events: &[(Event, u32)]) -> World {
    let mut world = World::begun(bounds);
    for (event, steps) in events {
        world
            .apply(event)
            .unwrap_or_else(|violation| panic!("{event:?}: {}", violation.0));
        world.rest(*steps);
    }
    world
}

/// A single node at level received, whose host reboots, took its own synced log for forgotten
/// (R14) and never served again.
#[test]
fn a_single_node_survives_a_reboot_of_its_host() {
    let single = Bounds {
        data: 1,
        witnesses: 0,
        ..setups::received()
    };
    let events = [(Event::CrashHost(0), 0), (Event::Restart(0), 30)];
    assert!(play(single, &events).serves(0));
}

/// R14: the second node's host loses its whole log, the first node dies. An empty log was no
/// reason to doubt, so it was elected and the released records were gone.
#[test]
fn a_log_that_a_reboot_emptied_elects_nobody() {
    let mut world = World::begun(setups::received_witness());
    world.nodes[1].synced = 0;
    let events = [Event::CrashHost(1), Event::CrashHost(0), Event::Restart(1)];
    for event in events {
        world.apply(&event).expect("nothing is elected yet");
    }
    assert!(world.nodes[1].log.is_empty());
    for _ in 0..60 {
        world
            .apply(&Event::Time)
            .expect("no released record is lost");
        while let Some(event) = world.local_step(&[0]) {
            world.apply(&event).expect("no released record is lost");
        }
    }
    assert!(!world.serves(1));
}

/// A voter's `Recorded` is lost, once, and its heartbeat answers say that it knows the rule: it was
/// never asked again, and the reign never released a record.
#[test]
fn a_lost_recording_is_heard_from_the_next_heartbeat() {
    let bounds = Bounds {
        mode: Mode::Sync,
        level: Some(Level::Synced),
        max_loss: MaxLoss::Nothing,
        ..setups::three()
    };
    let mut world = World::begun(bounds);
    for event in [Event::Crash(0), Event::SeeGone(1, 0), Event::SeeGone(2, 0)] {
        world.apply(&event).expect("a crash breaks no rule");
    }
    for _ in 0..2_000 {
        let lost = world.net.iter().position(|packet| packet.is_recorded());
        let next = lost.map(Event::Lose).or_else(|| world.local_step(&[0]));
        let next = next.unwrap_or(Event::Time);
        world.apply(&next).expect("losses break no rule");
        if world.serves(1) {
            return;
        }
    }
    panic!("the new primary never served");
}
