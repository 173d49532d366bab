//! Failures that the search found in the machine, each as the shortest run that shows it.

use std::sync::Arc;

use understudy::replica::{Level, MaxLag, MaxLoss, Message, Mode};
use understudy::units::{Epoch, Micros, NodeId};

use crate::model::event::Event;
use crate::model::setups;
use crate::model::stages;
use crate::model::world::{Bounds, Packet, World};

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

/// A node without other members has nobody to listen for, and serves as soon as it has started. (It listened
/// for a primary's heartbeats for 0.4 s, half of the time that a million records took to replay.)
#[test]
fn a_single_node_serves_as_soon_as_it_has_started() {
    let single = Bounds {
        data: 1,
        witnesses: 0,
        ..setups::received()
    };
    let mut world = play(single, &[(Event::Crash(0), 0), (Event::Restart(0), 0)]);
    let began = world.now;
    while !world.serves(0) {
        world.play(&[Event::Time]).expect("nothing is lost");
        world.local().expect("nothing is lost");
        assert!(world.now.since(began) < Micros::from_ms(20));
    }
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

/// Where votes come later than a candidate waits for them (a vote is sent when it is durable, and a
/// disk may be busy), each candidacy must last longer than the one before, or none is ever won.
/// Found by the chaos tests: 20 s without a primary, every vote granted, and too late.
#[test]
fn a_candidate_without_answers_waits_longer_each_time() {
    let mut world = World::begun(setups::three());
    for event in [Event::Crash(0), Event::SeeGone(1, 0), Event::SeeGone(2, 0)] {
        world.apply(&event).expect("a crash breaks no rule");
    }
    let mut stood: Vec<(Epoch, Micros)> = Vec::new();
    for _ in 0..5_000 {
        let vote = world.net.iter().position(|packet| packet.vote().is_some());
        if let Some(at) = vote {
            let now = world.clock(1).boot;
            let epoch = world.net[at].vote().filter(|_| world.net[at].from() == 1);
            if let Some(epoch) = epoch.filter(|epoch| stood.last().is_none_or(|l| l.0 < *epoch)) {
                stood.push((epoch, now));
            }
        }
        let next = vote.map(Event::Lose).or_else(|| world.local_step(&[0]));
        world
            .apply(&next.unwrap_or(Event::Time))
            .expect("losses break no rule");
    }
    let spans: Vec<Micros> = stood
        .windows(2)
        .map(|pair| pair[1].1.since(pair[0].1))
        .collect();
    assert!(spans.len() > 5, "it stood again and again: {spans:?}");
    let (first, last) = (spans[0], spans[spans.len() - 1]);
    assert!(
        last.0 > 6 * first.0,
        "in the end long enough for a slow disk: {spans:?}"
    );
}

/// A primary that hears nobody goes on being heard (its peer port refuses connections). After
/// `semi_sync_timeout` it proposed to go on alone, the voters recorded that, and with that rule no
/// standby could win. Found by the chaos tests.
#[test]
fn a_deaf_primary_proposes_no_fall_back() {
    let mut world = World::begun(setups::witness());
    world.apply(&Event::Write(0)).expect("it reigns");
    for _ in 0..5_000 {
        let unheard = world.net.iter().position(|packet| packet.to() == 0);
        let next = unheard.map(Event::Lose).or_else(|| world.local_step(&[]));
        let next = next.filter(|next| !matches!(next, Event::Ship(_)));
        let next = next.unwrap_or(Event::Time);
        world.apply(&next).expect("losses break no rule");
        if world.serves(1) {
            return;
        }
    }
    panic!("the standby never took over");
}

/// R11, R25: two candidates stood in one epoch. One won and re-admitted the witness, whose disk had
/// been replaced; the other, slow, recorded this while it still stood. The new witness restarted,
/// knew that it votes and no longer who reigns, and gave the slow one its vote: two winners.
#[test]
fn who_is_made_a_voter_has_no_vote_in_that_epoch() {
    let bounds = setups::lagging(MaxLoss::Records(2));
    let mut world = stages::relearned_vote(bounds).expect("the stage breaks no rule");
    let witness = &world.nodes[2];
    let control = witness.control.as_ref().expect("it was told of the rule");
    let rule = control.rule.as_ref().expect("it recorded the rule");
    assert!(rule.rule.counts(NodeId(3), witness.incarnation));
    for _ in 0..60 {
        let next = world.local_step(&[]).unwrap_or(Event::SomeTime);
        world.apply(&next).expect("one winner per epoch");
    }
}

/// R22: a person declares two of three lost, and promotes the third, which never heard of the last
/// reign and of the rule under which that one released. By the rule it knew its own vote proved
/// that nothing was missing: the report stated a loss of exactly nothing.
#[test]
fn what_only_the_lost_knew_is_not_called_nothing() {
    let mut world = stages::unheard_epoch(setups::witness()).expect("the stage breaks no rule");
    world.wait_for(1).expect("the report admits to a loss");
    assert_eq!(world.ghost.lossy, 1, "the last reign's EpochStart is gone");
}

fn is_question(packet: &Packet) -> bool {
    let asks =
        |message: &Message| matches!(message, Message::PreVote { .. } | Message::Vote { .. });
    packet.message().is_some_and(asks)
}

/// R22, R25: a node with a new disk has caught up and is not admitted yet when its primary steps
/// down; a person promotes it by force. It reigned for good under a rule that counts its old disk.
#[test]
fn who_is_promoted_on_a_new_disk_votes_from_then_on() {
    let mut world = World::begun(setups::witness());
    world
        .play(&[Event::Crash(1), Event::Wipe(1), Event::Restart(1)])
        .expect("a new disk breaks no rule");
    let until = world.now.plus(Micros::from_ms(1_000));
    while world.now < until {
        // Its primary does not hear of it.
        world.late(|packet| packet.from() == 1 && packet.message().is_none());
        let next = world.local_step(&[]).unwrap_or(Event::Time);
        world
            .apply(&next)
            .expect("a late acknowledgement breaks no rule");
    }
    assert_eq!(world.nodes[0].log, world.nodes[1].log, "it has caught up");
    world
        .play(&[Event::StepDown(0), Event::Promote(1, Vec::new())])
        .expect("an order breaks no rule");
    let until = world.now.plus(Micros::from_ms(10_000));
    while !world.serves(1) {
        assert!(world.now < until, "it is not promoted");
        // The old primary would stand again, and first.
        world.late(|packet| packet.from() == 0 && is_question(packet));
        let next = world.local_step(&[]).unwrap_or(Event::Time);
        world.apply(&next).expect("a lost question breaks no rule");
    }
    let view = world.view(1).expect("it lives");
    let rule = view.rule.expect("it serves under a rule");
    assert!(rule.rule.counts(NodeId(2), view.incarnation), "{rule:?}");
}

/// R21: the standby hears nothing for a while; the witness, which heard all that its primary relied
/// on, restarts and has forgotten it. What the standby had seen was called the bound: 800 ms, and
/// more was lost.
#[test]
fn a_bound_in_time_needs_those_who_heard() {
    let mut world = World::begun(setups::lagging(MaxLoss::SpanMs(5_000)));
    world.wait(1_000).expect("nothing happens");
    world.part(0, 1);
    world.wait(500).expect("a cut breaks no rule");
    world.apply(&Event::Write(0)).expect("it reigns");
    world.wait(200).expect("a cut breaks no rule");
    world.bury(0).expect("a crash breaks no rule");
    world
        .play(&[Event::Crash(2), Event::Restart(2)])
        .expect("a restart breaks no rule");
    world
        .wait(10_000)
        .expect("no bound is stated that is wrong");
    assert!(!world.serves(1));
    let held_back = world.view(1).and_then(|view| view.held_back);
    let held_back = held_back.expect("it says why it does not take over");
    assert!(held_back.contains("no bound in time"), "{held_back}");
}

/// The budget that the newest rule names that this node has recorded.
fn promised(world: &World, i: usize) -> Option<MaxLag> {
    let control = world.nodes[i].control.as_ref();
    let rule = control.and_then(|control| control.rule.as_ref());
    rule.expect("a rule was recorded").rule.max_lag
}

/// R21: a budget is kept against what the others hold, and with another primary those are others.
/// The primary before may be behind its own stream: it ships a record before it has written it. (Seed
/// 23 of the simulator's `lagging`: a primary with a slow disk was killed, its successor released
/// what it had been shipped and named the budget that its predecessor had kept; when the first
/// came back and took over, 22 records were gone, 20 at most stated.)
#[test]
fn a_new_primary_promises_no_budget_for_its_predecessor() {
    let budget = Some(MaxLag::Records(2));
    let mut world = World::begun(setups::lagging(MaxLoss::Records(2)));
    world.wait(2_000).expect("nothing happens");
    assert_eq!(promised(&world, 2), budget);
    world.bury(0).expect("a crash breaks no rule");
    world.wait_for(1).expect("it takes over within the budget");
    world.apply(&Event::Restart(0)).expect("it comes back");
    world.wait(5_000).expect("it follows");
    assert!(world.serves(1));
    assert_eq!(promised(&world, 2), budget, "what node 0 holds is known");
    world.bury(1).expect("a crash breaks no rule");
    world.wait_for(0).expect("it takes over within the budget");
    world.wait(1_000).expect("it goes on alone");
    assert_eq!(promised(&world, 2), None, "what node 1 holds is not known");
}

/// R21: what was released before there was a budget lies beyond it. A rule that named the budget at
/// once would have a takeover state a bound of 2 records, and lose 5. (It was proposed while the
/// restarted primary did not know yet that anything was released.)
#[test]
fn a_budget_is_promised_once_it_holds() {
    let budget = Some(MaxLag::Records(2));
    let mut world = World::begun(Bounds {
        max_lag: None,
        ..setups::lagging(MaxLoss::Records(2))
    });
    world.wait(1_000).expect("nothing happens");
    world.part(0, 1);
    for _ in 0..5 {
        world.apply(&Event::Write(0)).expect("it reigns");
    }
    world.wait(500).expect("a cut breaks no rule");
    Arc::make_mut(&mut world.bounds).max_lag = budget;
    world
        .play(&[Event::Crash(0), Event::Restart(0)])
        .expect("a restart breaks no rule");
    world.wait_for(0).expect("it knows more than the other");
    world.wait(1_000).expect("it goes on alone");
    assert_eq!(promised(&world, 2), None, "the standby lacks five");
    let limit = world.view(0).and_then(|view| view.append_limit);
    let end = world.nodes[0].log.len() as u64;
    assert_eq!(limit.map(|lsn| lsn.0), Some(end), "and it is kept already");

    let mut without = world.clone();
    without.bury(0).expect("a crash breaks no rule");
    without.wait(10_000).expect("no bound is stated");
    assert!(!without.serves(1), "a takeover would lose five records");

    world.apply(&Event::Mend).expect("the cut ends");
    world.wait(2_000).expect("the standby catches up");
    assert_eq!(promised(&world, 2), budget);
}
