//! Scenes that demand more than safety: somebody must serve, in time. Each says what it demands.

use understudy::replica::Message;
use understudy::units::Micros;

use super::event::Event;
use super::oracle::Violation;
use super::setups;
use super::world::{Bounds, Packet, World};

/// Its name, the cluster it plays in, and the demand.
pub type Scene = (
    &'static str,
    fn() -> Bounds,
    fn(Bounds) -> Result<(), Violation>,
);

fn demand(met: bool, what: &str) -> Result<(), Violation> {
    if met {
        return Ok(());
    }
    Err(Violation(what.to_string()))
}

/// Waits until one of these nodes serves; how long that took, of true time.
fn until_one_serves(world: &mut World, of: &[usize]) -> Result<Micros, Violation> {
    let from = world.now;
    world.local()?;
    while !of.iter().any(|i| world.serves(*i)) {
        let waited = world.now.since(from);
        demand(waited < Micros::from_ms(30_000), "nobody ever serves")?;
        world.apply(&Event::Time)?;
        world.local()?;
    }
    Ok(world.now.since(from))
}

/// R16: heartbeats arrive, their answers never do. The primary has no lease, so the others must
/// stop renewing it and elect one of them.
fn one_way_loss(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.cut = [(1, 0), (2, 0)].into();
    until_one_serves(&mut world, &[1, 2])?;
    Ok(())
}

/// R7: the partner's process is seen to be dead; the winner serves without waiting for the
/// fall-back's timeout of a second.
fn alone_at_once(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.apply(&Event::Write(0))?;
    world.local()?;
    world.bury(0)?;
    world.play(&[Event::SeeGone(1, 0), Event::SeeGone(2, 0)])?;
    let waited = until_one_serves(&mut world, &[1])?;
    demand(
        waited < Micros::from_ms(1_000),
        "the winner waited for the fall-back's timeout",
    )
}

/// R13: a node that nobody reaches cannot win; when it is back, the primary that the others kept
/// goes on in its epoch.
fn a_lonely_node_deposes_nobody(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.part(2, 0);
    world.part(2, 1);
    world.wait(5_000)?;
    world.apply(&Event::Mend)?;
    world.wait(5_000)?;
    demand(
        world.serves(0) && world.ghost.winners.len() == 1,
        "a node that could not win deposed a primary that a majority followed",
    )
}

/// R11: what was said to the disk before is no vote for this one, which may hold less. Every answer to
/// a candidate is turned into one to another disk: nobody may win. (The exhaustive search had a
/// disk replaced while its request was under way, and the new one win on the answer.)
fn a_vote_for_another_disk(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.bury(0)?;
    world.play(&[Event::SeeGone(1, 0), Event::SeeGone(2, 0)])?;
    let until = world.now.plus(Micros::from_ms(3_000));
    while world.now < until {
        for packet in &mut world.net {
            if let Packet::Say { envelope, .. } = packet
                && let Message::VoteAnswer { candidate, .. } = &mut envelope.message
            {
                *candidate = 999;
            }
        }
        let next = world.local_step(&[0]).unwrap_or(Event::Time);
        world.apply(&next)?;
    }
    let won = world.ghost.winners.len() > 1;
    demand(!won, "a vote for another disk elected")?;
    until_one_serves(&mut world, &[1, 2])?;
    Ok(())
}

/// R20: an abdication voids every lease at once, and a heartbeat that it overtook changes nothing:
/// another serves before the lease would have ended.
fn a_late_heartbeat_binds_nobody(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.wait(1_000)?;
    while !world.net.iter().any(is_beat) {
        world.flush()?;
        world.apply(&Event::Time)?;
    }
    let late = world.late(is_beat);
    world.apply(&Event::StepDown(0))?;
    while let Some(place) = world.net.iter().position(is_abdication) {
        world.apply(&Event::Deliver(place))?;
    }
    world.net.splice(0..0, late);
    world.flush()?;
    world.bury(0)?;
    let waited = until_one_serves(&mut world, &[1, 2])?;
    demand(
        waited < Micros::from_ms(600),
        "a reign that was over still bound its voters",
    )
}

fn is_beat(packet: &Packet) -> bool {
    matches!(packet.message(), Some(Message::Beat(_)))
}

pub fn is_abdication(packet: &Packet) -> bool {
    matches!(packet.message(), Some(Message::Abdicate { .. }))
}

/// R22: the voters declared lost count no more: the promoted node serves without them.
fn promoted_without_the_lost(bounds: Bounds) -> Result<(), Violation> {
    let mut world = World::try_begun(bounds)?;
    world.bury(0)?;
    world.bury(2)?;
    world.apply(&Event::Promote(1, vec![0, 2]))?;
    until_one_serves(&mut world, &[1])?;
    Ok(())
}

/// Every scene, by name.
pub const SCENES: &[Scene] = &[
    ("one-way loss", setups::three, one_way_loss),
    ("alone at once", setups::witness, alone_at_once),
    ("a lonely node", setups::three, a_lonely_node_deposes_nobody),
    (
        "a vote for another disk",
        setups::three,
        a_vote_for_another_disk,
    ),
    (
        "a late heartbeat",
        setups::three,
        a_late_heartbeat_binds_nobody,
    ),
    (
        "promoted without the lost",
        setups::three,
        promoted_without_the_lost,
    ),
];
