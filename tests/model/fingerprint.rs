//! When two worlds count as one state.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::world::{Node, World};

impl Node {
    fn digest(&self, hasher: &mut impl Hasher) {
        self.machine.hash(hasher);
        (self.process, self.boot, self.incarnation).hash(hasher);
        self.control.hash(hasher);
        self.log.hash(hasher);
        (
            self.handed,
            self.synced,
            self.applied,
            self.begin,
            self.stream,
        )
            .hash(hasher);
        self.pending.hash(hasher);
    }
}

impl World {
    /// Equal for states from which the same can happen. The network is a set: its order is not
    /// part of the state.
    pub fn fingerprint(&self) -> u128 {
        let half = |salt: u8| {
            let mut packets: Vec<u64> = self.net.iter().map(|p| digest(&(salt, p))).collect();
            packets.sort_unstable();
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            self.nodes.iter().for_each(|node| node.digest(&mut hasher));
            packets.hash(&mut hasher);
            self.now.hash(&mut hasher);
            (self.writes, self.crashes, self.losses, self.time_steps).hash(&mut hasher);
            self.ghost.released.hash(&mut hasher);
            hasher.finish()
        };
        (u128::from(half(1)) << 64) | u128::from(half(2))
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
