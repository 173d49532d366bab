//! Every node state, message and message set once, under a number; and every step of a node once.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use hashbrown::HashMap;
use understudy::replica::Outline;

use super::message::{Msg, NOW};
use super::mirror::{self, Mirror};
use super::node::{Cluster, Node, Ran, Step};
use super::world::Bounds;

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
    /// Nodes 2 and 3 are alike, and may change places.
    pub symmetric: bool,
    pub nodes: Table<(usize, Node)>,
    pub known: Vec<Known>,
    pub messages: Table<Msg>,
    pub mirror: Mirror,
    pub sets: Table<Vec<u32>>,
    steps: Map<(u32, Step), Rc<Effect>>,
    /// Steps that hear a message, by far the most, by node state and message.
    hearings: Map<(u32, u32), Rc<Effect>>,
}

impl Store {
    pub fn new(cluster: Cluster, bounds: &Bounds) -> Store {
        Store {
            // Of two replaced disks a primary admits that of the lower number first, and of two equal
            // standbys it hands over to that of the higher.
            symmetric: cluster.data == 3 && bounds.wipes < 2 && bounds.orders == 0,
            cluster,
            nodes: Table::new(),
            known: Vec::new(),
            messages: Table::new(),
            mirror: Mirror::default(),
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
        if let Some(effect) = self.known_step(node, step) {
            return effect;
        }
        let effect = self.run(i, node, step);
        if self.symmetric {
            let (other, mirrored) = (self.mirror.nodes.of(node), self.mirrored(step));
            let there = mirror::place(i);
            let twin = match self.known_step(other, mirrored) {
                Some(twin) => twin,
                None => self.run(there, other, mirrored),
            };
            self.mirror.tie(&effect, &twin, &self.messages.all);
        }
        effect
    }

    fn known_step(&self, node: u32, step: Step) -> Option<Rc<Effect>> {
        match step {
            Step::Hear(message) => self.hearings.get(&(node, message)).cloned(),
            _ => self.steps.get(&(node, step)).cloned(),
        }
    }

    fn run(&mut self, i: usize, node: u32, step: Step) -> Rc<Effect> {
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

    fn mirrored(&self, step: Step) -> Step {
        match step {
            Step::Hear(message) => Step::Hear(self.mirror.messages.of(message)),
            Step::EndCredit(voter) => Step::EndCredit(mirror::place(voter)),
            Step::Gone(peer) => Step::Gone(mirror::place(peer)),
            Step::Followed(standby, wipes, epoch) => {
                Step::Followed(mirror::place(standby), wipes, epoch)
            }
            other => other,
        }
    }

    /// A message in another form; it is the same form that its mirror image gets.
    pub fn rewrite(&mut self, message: u32, form: impl Fn(&Msg) -> Msg) -> u32 {
        let number = self.messages.number(form(self.message(message))).0;
        if self.symmetric {
            let other = self.mirror.messages.of(message);
            let other = self.messages.number(form(self.message(other))).0;
            self.mirror.messages.tie(number, other);
        }
        number
    }

    /// Steps of single machines that were run.
    pub fn steps_run(&self) -> usize {
        self.steps.len() + self.hearings.len()
    }
}
