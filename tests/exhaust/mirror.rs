//! Two standbys alike: whatever happens can happen with their places exchanged. The mirror image of
//! a node state is not computed from it, it is what the mirrored steps lead to; that both
//! derivations of a state agree on its image is checked each time.

use std::rc::Rc;

use super::message::Msg;
use super::store::Effect;
use super::world::World;

/// The place of node `i` when nodes 2 and 3 change places.
pub fn place(i: usize) -> usize {
    [0, 2, 1][i]
}

/// The image of each number, itself a number.
#[derive(Default)]
pub struct Images(Vec<u32>);

/// Not known yet.
const NONE: u32 = u32::MAX;

impl Images {
    /// # Panics
    /// If the two have other images already: then the machine treats the standbys differently.
    pub fn tie(&mut self, one: u32, other: u32) {
        for (from, to) in [(one, other), (other, one)] {
            let at = from as usize;
            if self.0.len() <= at {
                self.0.resize(at + 1, NONE);
            }
            let known = std::mem::replace(&mut self.0[at], to);
            assert!(
                known == NONE || known == to,
                "not symmetric: {from} is {known} and {to}"
            );
        }
    }

    pub fn of(&self, number: u32) -> u32 {
        self.0[number as usize]
    }
}

/// The images of node states and of messages.
#[derive(Default)]
pub struct Mirror {
    pub nodes: Images,
    pub messages: Images,
}

impl Mirror {
    /// What two mirrored steps came to. A node may speak to its peers in any order, so messages
    /// are paired by receiver.
    pub fn tie(&mut self, one: &Effect, other: &Effect, messages: &[Rc<Msg>]) {
        self.nodes.tie(one.node, other.node);
        for peer in 0..3 {
            let to = |number: &&u32, peer: usize| messages[**number as usize].to == peer;
            let here = one.sends.iter().filter(|number| to(number, peer));
            let there = other.sends.iter().filter(|number| to(number, place(peer)));
            assert_eq!(
                here.clone().count(),
                there.clone().count(),
                "not symmetric: messages"
            );
            for (one, other) in here.zip(there) {
                self.messages.tie(*one, *other);
            }
        }
    }

    /// Of `world` and its image the one to keep, and whether it is the image.
    pub fn smaller(&self, world: World) -> (World, bool) {
        let nodes = [0, 2, 1].map(|i| self.nodes.of(world.nodes[i]));
        if *world.nodes < nodes[..] {
            return (world, false);
        }
        let mut image = world.clone();
        image.nodes = nodes.to_vec();
        image
            .net
            .iter_mut()
            .for_each(|msg| *msg = self.messages.of(*msg));
        image.net.sort_unstable();
        for (_, winner) in &mut image.ghost.winners {
            *winner = place(*winner);
        }
        let key = |world: &World| {
            (
                world.nodes.clone(),
                world.ghost.winners.clone(),
                world.net.clone(),
            )
        };
        if key(&image) < key(&world) {
            (image, true)
        } else {
            (world, false)
        }
    }
}
