//! Every node state, message and message set once, under a number; and every step of a node once.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use hashbrown::HashMap;
use understudy::replica::Outline;

use super::message::{Msg, NOW};
use super::node::{Cluster, Node, Ran, Step};

/// A quick hash (the multiply-rotate one of rustc) for keys that are small numbers.
#[derive(Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Numbers for values, equal numbers for equal values.
pub struct Table<T> {
    pub all: Vec<Rc<T>>,
    places: HashMap<Rc<T>, u32>,
}

impl<T: Eq + Hash> Table<T> {
    pub fn new() -> Table<T> {
        Table {
            all: Vec::new(),
            places: HashMap::new(),
        }
    }

    pub fn number(&mut self, value: T) -> (u32, bool) {
        if let Some(place) = self.places.get(&value) {
            return (*place, false);
        }
        let (place, value) = (self.all.len() as u32, Rc::new(value));
        self.all.push(value.clone());
        self.places.insert(value, place);
        (place, true)
    }
}

/// A node state with what is asked of it often.
pub struct Known {
    pub outline: Outline,
    pub following: Option<(usize, understudy::units::Epoch)>,
}

/// What a step of a node comes to.
pub struct Effect {
    pub node: u32,
    pub sends: Vec<u32>,
    pub won: Option<understudy::units::Epoch>,
    pub fault: Option<String>,
}

pub struct Store {
    pub cluster: Cluster,
    pub nodes: Table<(usize, Node)>,
    pub known: Vec<Known>,
    pub messages: Table<Msg>,
    pub sets: Table<Vec<u32>>,
    steps: Map<(u32, Step), Rc<Effect>>,
    /// Steps that hear a message, by far the most, by node state and message.
    hearings: Map<(u32, u32), Rc<Effect>>,
}

impl Store {
    pub fn new(cluster: Cluster) -> Store {
        Store {
            cluster,
            nodes: Table::new(),
            known: Vec::new(),
            messages: Table::new(),
            sets: Table::new(),
            steps: Map::default(),
            hearings: Map::default(),
        }
    }

    pub fn node(&self, number: u32) -> &Node {
        &self.nodes.all[number as usize].1
    }

    pub fn outline(&self, number: u32) -> &Outline {
        &self.known[number as usize].outline
    }

    pub fn message(&self, number: u32) -> &Msg {
        &self.messages.all[number as usize]
    }

    pub fn add(&mut self, i: usize, node: Node) -> u32 {
        let (number, new) = self.nodes.number((i, node));
        if new {
            let machine = &self.node(number).machine;
            let following = machine.following();
            self.known.push(Known {
                outline: machine.outline(NOW),
                following: following.map(|(id, epoch)| (id.0 as usize - 1, epoch)),
            });
        }
        number
    }

    pub fn step(&mut self, i: usize, node: u32, step: Step) -> Rc<Effect> {
        let known = match step {
            Step::Hear(message) => self.hearings.get(&(node, message)),
            _ => self.steps.get(&(node, step)),
        };
        if let Some(effect) = known {
            return effect.clone();
        }
        let heard = match step {
            Step::Hear(message) => Some(self.messages.all[message as usize].clone()),
            _ => None,
        };
        let ran = Ran::step(&self.cluster, i, self.node(node), step, heard.as_deref());
        let sends = ran.sends.into_iter();
        let sends = sends.map(|msg| self.messages.number(msg).0).collect();
        let effect = Rc::new(Effect {
            node: self.add(i, ran.node),
            sends,
            won: ran.won,
            fault: ran.fault,
        });
        match step {
            Step::Hear(message) => self.hearings.insert((node, message), effect.clone()),
            _ => self.steps.insert((node, step), effect.clone()),
        };
        effect
    }

    /// Steps of single machines that were run.
    pub fn steps_run(&self) -> usize {
        self.steps.len() + self.hearings.len()
    }
}
