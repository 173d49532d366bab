//! Stages: worlds in the middle of a fault, from which seeded walks in calm weather go on. Each is
//! a fair story up to the moment where one rule decides how it ends.

use std::sync::Arc;

use understudy::replica::{Input, MaxLoss, Message};
use understudy::units::Micros;

use super::event::Event;
use super::oracle::Violation;
use super::scenes::is_abdication;
use super::setups;
use super::world::{Bounds, Hold, Packet, World, id};

/// A stage, or what was wrong already on the way to it.
pub type Staged = Result<World, Violation>;

/// Its name, the cluster it plays in, and how it comes about.
pub type Stage = (&'static str, fn() -> Bounds, fn(Bounds) -> Staged);

impl World {
    /// These events, and nothing else.
    pub fn play(&mut self, events: &[Event]) -> Result<(), Violation> {
        events.iter().try_for_each(|event| self.apply(event))
    }

    /// Delivers and persists until nothing is under way; logs, streams and time stand still.
    pub fn flush(&mut self) -> Result<(), Violation> {
        let talk = |event: &Event| matches!(event, Event::Deliver(_) | Event::Persist(_));
        while let Some(next) = self.events().into_iter().find(talk) {
            self.apply(&next)?;
        }
        Ok(())
    }

    /// Everything that needs no time, in a benign order.
    pub fn local(&mut self) -> Result<(), Violation> {
        while let Some(next) = self.local_step(&[]) {
            self.apply(&next)?;
        }
        Ok(())
    }

    /// Lets so much time pass, with everything that happens meanwhile.
    pub fn wait(&mut self, ms: u64) -> Result<(), Violation> {
        let until = self.now.plus(Micros::from_ms(ms));
        self.local()?;
        while self.now < until {
            self.apply(&Event::TimeUpTo(until))?;
            self.local()?;
        }
        Ok(())
    }

    /// Waits until node `i` serves, for a minute at most.
    pub fn wait_for(&mut self, i: usize) -> Result<(), Violation> {
        let until = self.now.plus(Micros::from_ms(60_000));
        self.local()?;
        while !self.serves(i) {
            if self.now > until {
                return Err(Violation(format!("node {} never serves", i + 1)));
            }
            self.apply(&Event::Time)?;
            self.local()?;
        }
        Ok(())
    }

    /// Nothing goes between the two any more.
    pub fn part(&mut self, i: usize, j: usize) {
        self.cut.extend([(i, j), (j, i)]);
    }

    /// Takes packets out of the net, to be put back later: they are late.
    pub fn late(&mut self, is: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let (late, net) = std::mem::take(&mut self.net).into_iter().partition(is);
        self.net = net;
        late
    }

    pub fn bury(&mut self, i: usize) -> Result<(), Violation> {
        self.nodes[i].buried = true;
        self.apply(&Event::Crash(i))
    }

    /// From here on nothing goes wrong but so many crashes.
    pub fn calm(mut self, crashes: u32) -> World {
        self.bounds = Arc::new(Bounds {
            calm: true,
            crashes: self.crashes + crashes,
            ..Bounds::clone(&self.bounds)
        });
        self
    }
}

/// R24: nothing has begun yet.
///
/// Found by a test that kills who wins first: it had written into its log under a cluster's number
/// that was not durable, and its log was another cluster's when it came back.
#[expect(clippy::unnecessary_wraps, reason = "as every stage")]
fn blank(bounds: Bounds) -> Staged {
    Ok(World::blank(bounds).calm(6))
}

/// R25: the witness promises a lease, its disk is replaced, and it is admitted again at once. The
/// standby heard none of the heartbeats meanwhile (they went down with a connection), so its own
/// promise is nearly over. Then nobody hears the primary any more.
///
/// Found by the exhaustive search: the primary went on counting what the old disk had promised,
/// and the new one, which knew nothing of it, voted.
fn forgotten_promise(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    let deaf =
        |packet: &Packet| packet.to() == 1 && matches!(packet.message(), Some(Message::Beat(_)));
    let until = world.now.plus(Micros::from_ms(500));
    while world.now < until {
        world.apply(&Event::TimeUpTo(until))?;
        world.late(deaf);
        world.local()?;
    }
    world.play(&[Event::Crash(2), Event::Wipe(2), Event::Restart(2)])?;
    let incarnation = world.nodes[2].incarnation;
    let admitted = |world: &World, i: usize| {
        let rule = world.view(i).and_then(|view| view.rule);
        rule.is_some_and(|recorded| recorded.rule.counts(id(2), incarnation))
    };
    while !admitted(&world, 0) || !admitted(&world, 2) {
        if world.now > until.plus(Micros::from_ms(5_000)) {
            return Err(Violation("the new disk is never admitted".to_string()));
        }
        world.late(deaf);
        if let Some(next) = world.local_step(&[]) {
            world.apply(&next)?;
        } else {
            world.apply(&Event::Time)?;
        }
    }
    world.net.clear();
    world.part(0, 1);
    world.part(0, 2);
    Ok(world.calm(0))
}

/// R14: the standby gives up its log for a full copy, as it must where the fork lies before all that
/// it could begin again from; before the copy has come its primary dies for good.
///
/// Found by the simulator (seed 7042265 of `lagging`): the empty log won, and 310 records that were
/// acknowledged on its word were gone.
fn log_given_up(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    for _ in 0..3 {
        world.apply(&Event::Write(0))?;
        world.local()?;
    }
    world.nodes[1].hold.ship = true;
    world.apply(&Event::BreakStream(1))?;
    world.input(1, Input::GiveUpLog);
    world.flush()?;
    let node = &mut world.nodes[1];
    node.log.clear();
    (node.handed, node.synced, node.applied) = (0, 0, 0);
    world.play(&[Event::Crash(1), Event::Restart(1)])?;
    world.bury(0)?;
    Ok(world.calm(0))
}

/// R4: the standby's disk is replaced; what its stream acknowledged before is gone with it.
fn replaced_standby(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    for _ in 0..4 {
        world.apply(&Event::Write(0))?;
        world.local()?;
    }
    world.play(&[Event::Crash(1), Event::Wipe(1), Event::Restart(1)])?;
    world.nodes[1].hold.ship = true;
    world.wait(400)?;
    world.play(&[Event::ShipOne(1), Event::Sync(1)])?;
    world.flush()?;
    Ok(world.calm(1))
}

/// R5, R6: the primary has fallen back to itself alone, and its partner is back.
fn fallen_back(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.bury(1)?;
    world.play(&[Event::SeeGone(0, 1), Event::Write(0)])?;
    world.wait(400)?;
    world.nodes[1].buried = false;
    world.apply(&Event::Restart(1))?;
    Ok(world.calm(2))
}

/// R5, R6: the primary that fell back to itself proposes to count its partner again. The witness
/// has recorded that; no answer reaches the primary any more, and no record its partner.
fn unheard_recording(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.bury(1)?;
    world.play(&[Event::SeeGone(0, 1), Event::Write(0)])?;
    world.wait(400)?;
    world.nodes[1].buried = false;
    world.apply(&Event::Restart(1))?;
    let proposed = |packet: &Packet| {
        packet.to() == 2 && matches!(packet.message(), Some(Message::Propose { .. }))
    };
    while !world.net.iter().any(proposed) {
        let next = world.local_step(&[]).unwrap_or(Event::Time);
        world.apply(&next)?;
    }
    world.cut = [(1, 0), (2, 0)].into();
    world.late(|packet| packet.to() != 2);
    world.flush()?;
    world.play(&[Event::Write(0), Event::Sync(0)])?;
    Ok(world.calm(0))
}

/// R6: two standbys released a record that the primary has not synced; then one dies for good and
/// the other's process dies, and the primary would fall back to itself.
fn released_elsewhere(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    for i in 0..3 {
        world.nodes[i].hold.sync = true;
    }
    let way = [Event::Write(0), Event::Ship(1), Event::Ship(2)];
    world.play(&way)?;
    world.play(&[Event::Hand(1), Event::Hand(2)])?;
    world.flush()?;
    world.bury(2)?;
    world.play(&[Event::Crash(1), Event::SeeGone(0, 1), Event::SeeGone(0, 2)])?;
    Ok(world.calm(2))
}

/// R7: the survivor of a pair at level received has everything released, in its page cache.
fn unsynced_survivor(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.nodes[1].hold.sync = true;
    world.play(&[Event::Write(0), Event::Ship(1), Event::Hand(1)])?;
    world.apply(&Event::Sync(0))?;
    world.flush()?;
    world.bury(0)?;
    world.play(&[Event::SeeGone(1, 0), Event::SeeGone(2, 0)])?;
    Ok(world.calm(1))
}

/// R11: a candidate's host dies with a tail that its voter compared itself with; the vote is on
/// its way.
fn late_vote(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.nodes[1].hold.sync = true;
    world.play(&[Event::Write(0), Event::Ship(2), Event::Sync(2)])?;
    world.play(&[Event::Sync(0), Event::Ship(1)])?;
    world.flush()?;
    world.bury(0)?;
    world.nodes[2].hold.persist = world.now.plus(Micros::from_ms(900));
    world.play(&[Event::SeeGone(1, 0), Event::SeeGone(2, 0)])?;
    world.flush()?;
    world.nodes[1].hold.sync = false;
    world.play(&[Event::CrashHost(1), Event::Restart(1)])?;
    Ok(world.calm(0))
}

/// R12: the witness restarts, with a shorter lease in its configuration, while it is the only one
/// that keeps the primary on its throne; then the primary is cut off.
fn restarted_voter(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.wait(1_000)?;
    world.part(0, 2);
    world.nodes[2].lease = Micros::from_ms(100);
    world.play(&[Event::Crash(2), Event::Restart(2)])?;
    Ok(world.calm(0))
}

/// R12: one of two standbys has not heard the primary for long, the other has until now.
fn one_promise_left(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.cut.insert((0, 2));
    world.wait(1_000)?;
    world.cut.insert((0, 1));
    Ok(world.calm(0))
}

/// R12: the primary's clock is slow, the voters' are fast, and the primary is cut off.
fn drifting_clocks(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.rates = vec![980, 1020, 1020];
    world.wait(1_000)?;
    world.part(0, 1);
    world.part(0, 2);
    Ok(world.calm(0))
}

/// R14: a standby's host reboots and loses what it had received; it matches the primary's log
/// again, and before it has caught up the primary dies.
fn rebooted_standby(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.nodes[1].hold.sync = true;
    world.play(&[Event::Write(0), Event::Write(0), Event::Write(0)])?;
    world.play(&[Event::Ship(1), Event::Hand(1), Event::Sync(0)])?;
    world.flush()?;
    world.nodes[1].hold.ship = true;
    world.play(&[Event::CrashHost(1), Event::Restart(1)])?;
    world.wait(400)?;
    world.apply(&Event::ShipOne(1))?;
    world.flush()?;
    world.bury(0)?;
    Ok(world.calm(0))
}

/// R21: a standby's host reboots and forgets more than the budget; the primary dies.
fn forgetful_laggard(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.nodes[1].hold.sync = true;
    for _ in 0..3 {
        world.play(&[Event::Write(0), Event::Write(0)])?;
        world.play(&[Event::Ship(1), Event::Hand(1), Event::Sync(0)])?;
        world.flush()?;
    }
    world.nodes[1].hold = Hold::default();
    world.play(&[Event::CrashHost(1), Event::Restart(1)])?;
    world.bury(0)?;
    Ok(world.calm(0))
}

/// R15: an old process of the primary died, another of its processes reigns now and is cut off.
/// That the old one is gone can still be seen.
fn old_process(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.bury(0)?;
    world.wait_for(1)?;
    world.nodes[0].buried = false;
    world.apply(&Event::Restart(0))?;
    world.wait(4_000)?;
    world.apply(&Event::Switchover(1))?;
    world.wait_for(0)?;
    world.wait(2_000)?;
    world.part(0, 1);
    world.part(0, 2);
    Ok(world.calm(0))
}

/// R20: the primary abdicated and was elected again; its abdication is still under way when it is
/// cut off from its partner.
fn delayed_abdication(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.wait(1_000)?;
    world.apply(&Event::StepDown(0))?;
    let late = world.late(is_abdication);
    world.part(1, 2);
    world.wait_for(0)?;
    world.cut = [(0, 1), (1, 0)].into();
    world.wait(1_000)?;
    world.net.extend(late);
    Ok(world.calm(0))
}

/// R21: a person promotes, by force, a node that reaches nobody, while the others elect, too.
fn forced_minority(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.part(1, 2);
    world.wait(1_000)?;
    world.play(&[Event::Crash(0), Event::Restart(0)])?;
    world.apply(&Event::Promote(1, vec![]))?;
    Ok(world.calm(0))
}

/// R22: the witness is dead and the primary cut off; a person takes both for lost and promotes the
/// node whose promise the primary still lives on.
fn hasty_promotion(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.bury(2)?;
    world.wait(1_000)?;
    world.part(0, 1);
    world.apply(&Event::Promote(1, vec![0, 2]))?;
    Ok(world.calm(0))
}

/// R22: an epoch was won that the node to be promoted never heard of.
pub fn unheard_epoch(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.part(1, 2);
    world.apply(&Event::StepDown(0))?;
    world.wait_for(0)?;
    world.bury(0)?;
    world.bury(2)?;
    world.apply(&Event::Promote(1, vec![0, 2]))?;
    Ok(world.calm(0))
}

/// R22: a node was declared lost, and its disk comes back as it was.
fn lost_and_found(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.bury(0)?;
    world.apply(&Event::Promote(1, vec![0]))?;
    world.wait_for(1)?;
    (world.nodes[0].buried, world.nodes[0].condemned) = (false, false);
    world.apply(&Event::Restart(0))?;
    Ok(world.calm(0))
}

/// Two candidates stand in one epoch, the second with a slow disk; the first wins with the vote of
/// the witness.
fn two_in_one_epoch(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.apply(&Event::StepDown(0))?;
    let to_second = |packet: &Packet| packet.to() == 1;
    let late = world.late(to_second);
    world.part(0, 1);
    world.wait(450)?;
    world.net.extend(late);
    world.nodes[1].hold.persist = world.now.plus(Micros::from_ms(700));
    world.local()?;
    world.wait_for(0)?;
    Ok(world)
}

/// R25, R26: the witness votes for the second node, and its answer is late. Its disk is replaced;
/// the primary, cut off meanwhile and back at the new witness, would count that in the place of the
/// old one, abdicates, and stands in the epoch in which the old witness has voted.
fn forgotten_vote(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.part(0, 2);
    world.part(1, 2);
    world.wait(1_150)?;
    world.cut = [(0, 1), (1, 0), (0, 2), (2, 0)].into();
    let voted = |packet: &Packet| matches!(packet.message(), Some(Message::VoteAnswer { .. }));
    while !world.net.iter().any(voted) {
        let next = world.local_step(&[]).unwrap_or(Event::Time);
        world.apply(&next)?;
    }
    let late = world.late(voted);
    world.play(&[Event::Crash(2), Event::Wipe(2), Event::Restart(2)])?;
    world.cut = [(0, 1), (1, 0), (1, 2), (2, 1)].into();
    world.wait(420)?;
    world.apply(&Event::StepDown(0))?;
    world.wait(300)?;
    world.net.extend(late);
    Ok(world.calm(0))
}

/// R11, R25: two candidates stood in one epoch, and the witness that decided is replaced. The loser
/// records the admission of the new one, once its slow disk lets it, while it still stands. The new
/// witness is told, as it must be, and restarts: it no longer knows who reigns.
pub fn relearned_vote(bounds: Bounds) -> Staged {
    let mut world = two_in_one_epoch(bounds)?;
    world.play(&[Event::Crash(2), Event::Wipe(2), Event::Restart(2)])?;
    let answers = |packet: &Packet| packet.to() == 0 && packet.from() == 2;
    while !world.net.iter().any(answers) {
        let to_witness = |event: &Event| match event {
            Event::Deliver(place) => world.net[*place].to() == 2,
            event => matches!(event, Event::Persist(_)),
        };
        let next = world.events().into_iter().find(to_witness);
        world.apply(&next.unwrap_or(Event::Time))?;
    }
    world.apply(&Event::Mend)?;
    world.flush()?;
    let until = world.nodes[1].hold.persist;
    world.apply(&Event::TimeUpTo(until))?;
    world.play(&[Event::Persist(1)])?;
    let vote = world.late(|packet| matches!(packet.message(), Some(Message::Vote { .. })));
    world.flush()?;
    world.net.extend(vote);
    world.play(&[Event::Crash(2), Event::Restart(2)])?;
    Ok(world.calm(0))
}

/// R23: an old primary comes back with a record of its own where the new one has released
/// another, and hears the new one's heartbeats before it has compared logs.
fn old_tail(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.play(&[Event::Write(0), Event::Sync(0)])?;
    world.bury(0)?;
    world.wait_for(1)?;
    world.apply(&Event::Write(1))?;
    world.local()?;
    (world.nodes[0].buried, world.nodes[0].hold.ship) = (false, true);
    world.apply(&Event::Restart(0))?;
    Ok(world.calm(0))
}

/// R29: a takeover within the budget gives up records that the old primary, cut off and alive, had
/// released; then it is back.
fn given_up(bounds: Bounds) -> Staged {
    let mut world = World::try_begun(bounds)?;
    world.part(0, 1);
    world.part(0, 2);
    world.play(&[Event::Write(0), Event::Write(0), Event::Sync(0)])?;
    world.wait_for(1)?;
    world.apply(&Event::Mend)?;
    Ok(world.calm(0))
}

/// A budget that the lag allows, for what waives the votes of the rule's members.
fn budget() -> Bounds {
    setups::lagging(MaxLoss::Records(2))
}

/// Every stage, by name.
pub const STAGES: &[Stage] = &[
    ("a blank node alone", setups::alone, blank),
    ("three blank nodes", setups::three, blank),
    ("a blank pair", setups::witness, blank),
    ("a forgotten promise", setups::witness, forgotten_promise),
    ("a log given up", setups::witness, log_given_up),
    ("a replaced standby", setups::witness, replaced_standby),
    ("fallen back", setups::witness, fallen_back),
    ("an unheard recording", setups::witness, unheard_recording),
    ("a replaced laggard", budget, replaced_standby),
    ("a forgetful laggard", budget, forgetful_laggard),
    ("an old tail", setups::three, old_tail),
    ("given up", budget, given_up),
    ("released elsewhere", setups::received, released_elsewhere),
    (
        "an unsynced survivor",
        setups::received_witness,
        unsynced_survivor,
    ),
    ("a late vote", setups::three, late_vote),
    ("a restarted voter", setups::witness, restarted_voter),
    ("one promise left", setups::three, one_promise_left),
    ("drifting clocks", setups::witness, drifting_clocks),
    (
        "a rebooted standby",
        setups::received_witness,
        rebooted_standby,
    ),
    ("an old process", setups::witness, old_process),
    ("a delayed abdication", setups::three, delayed_abdication),
    ("a forced minority", setups::three, forced_minority),
    ("a hasty promotion", setups::witness, hasty_promotion),
    ("an unheard epoch", setups::witness, unheard_epoch),
    ("lost and found", setups::three, lost_and_found),
    ("a forgotten vote", budget, forgotten_vote),
    ("a relearned vote", budget, relearned_vote),
];
