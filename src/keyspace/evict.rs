//! Which keys go when memory is full: a few at random, and of those the least used.
//!
//! As in Redis: of each few the best candidates are kept in a small pool, which is asked again the next
//! time. What was used since it came into the pool is let out of it. Where what is asked for is exact and
//! cheap to know (the soonest expiry), it is exact.
//!
//! Nothing goes here. The caller logs what is chosen as deletions, so that all nodes stay equal.

use std::collections::HashSet;
use std::str::FromStr;

use super::access::{Dice, Tracking};
use super::entry::Entry;
use super::{Effect, Effects, Keyspace, is_reserved};
use crate::units::Millis;

/// Candidates that are kept.
const POOL: usize = 16;
/// Keys without an expiry that are passed over for each one that is looked for, at most.
const PASSED_OVER: usize = 64;
/// How often a few are looked at before all are.
const ATTEMPTS: usize = 16;

/// What goes when memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Redis's names; the sentences are in `docs/commands.md`.
pub enum EvictionPolicy {
    #[default]
    NoEviction,
    AllKeysLru,
    VolatileLru,
    AllKeysLfu,
    VolatileLfu,
    AllKeysRandom,
    VolatileRandom,
    VolatileTtl,
}

impl EvictionPolicy {
    /// All of them.
    pub const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::NoEviction,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::VolatileLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ];

    /// As Redis calls it.
    pub fn name(self) -> &'static str {
        match self {
            EvictionPolicy::NoEviction => "noeviction",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::VolatileLru => "volatile-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
            EvictionPolicy::VolatileLfu => "volatile-lfu",
            EvictionPolicy::AllKeysRandom => "allkeys-random",
            EvictionPolicy::VolatileRandom => "volatile-random",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
        }
    }

    /// What must be counted for it.
    pub fn tracking(self) -> Tracking {
        match self {
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => Tracking::Recency,
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => Tracking::Frequency,
            _ => Tracking::Nothing,
        }
    }

    /// Whether only keys with an expiry go.
    fn is_volatile(self) -> bool {
        self.name().starts_with("volatile")
    }
}

/// By its name, in any case; the error lists them.
impl FromStr for EvictionPolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<EvictionPolicy, String> {
        let mut all = EvictionPolicy::ALL.into_iter();
        all.find(|policy| policy.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names = EvictionPolicy::ALL.map(EvictionPolicy::name);
                format!("\"{name}\" is no policy; say one of {}", names.join(", "))
            })
    }
}

/// What shall go.
#[derive(Clone, Copy, Debug)]
pub struct Eviction {
    /// By which rule; `NoEviction` chooses nothing.
    pub policy: EvictionPolicy,
    /// Keys looked at for each one that goes.
    pub samples: usize,
    /// Bytes to free.
    pub bytes: usize,
    /// Keys that may go, at most.
    pub keys: usize,
    /// Bytes of effects that this may make, about.
    pub effect_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: u64,
    hash: u64,
}

/// The best candidates seen so far, worst first.
#[derive(Debug, Default)]
pub struct EvictionPool(Vec<Candidate>);

impl EvictionPool {
    fn offer(&mut self, new: Candidate) {
        if self.0.iter().any(|known| known.hash == new.hash) {
            return;
        }
        let place = self.0.partition_point(|known| known.score < new.score);
        self.0.insert(place, new);
        if self.0.len() > POOL {
            self.0.remove(0);
        }
    }
}

/// Keys being chosen.
struct Choice<'a> {
    keyspace: &'a mut Keyspace,
    pool: &'a mut EvictionPool,
    wanted: Eviction,
    now: Millis,
    dice: Dice,
    chosen: HashSet<u64>,
}

impl Keyspace {
    /// The DELs of keys that shall go; none where there is nothing that may. Keys that were never
    /// counted are counted from here on, and nothing else is changed.
    pub fn choose_evictions(
        &mut self,
        wanted: Eviction,
        pool: &mut EvictionPool,
        now: Millis,
        random: u64,
    ) -> Effects {
        let mut effects = Effects::new();
        let mut choice = Choice {
            keyspace: self,
            pool,
            wanted,
            now,
            dice: Dice(random),
            chosen: HashSet::new(),
        };
        let mut freed = 0;
        while freed < wanted.bytes
            && choice.chosen.len() < wanted.keys
            && effects.encoded().len() < wanted.effect_bytes
        {
            let Some(hash) = choice.next() else { break };
            choice.chosen.insert(hash);
            for entry in choice.keyspace.tables.with_hash(hash) {
                if choice.is_eligible(entry) {
                    effects.push(Effect::Del { key: entry.key() });
                    freed += choice.keyspace.entry_bytes(entry);
                }
            }
        }
        effects
    }

    /// What the key of this entry takes in memory, by the same count as [`Keyspace::used_bytes`].
    pub(super) fn entry_bytes(&self, entry: &Entry) -> usize {
        let parts = entry.parts();
        let indexed = usize::from(parts.expire_at_ms > 0) * super::expiry::ITEM_BYTES;
        parts.bytes() + super::tables::SLOT_BYTES + indexed
    }
}

impl Choice<'_> {
    fn is_eligible(&self, entry: &Entry) -> bool {
        let may_go = !self.wanted.policy.is_volatile() || entry.expire_at().is_some();
        // What is remembered of requests is promised for its time.
        may_go && !is_reserved(entry.key())
    }

    fn next(&mut self) -> Option<u64> {
        match self.wanted.policy {
            EvictionPolicy::NoEviction => None,
            EvictionPolicy::VolatileTtl => self.first_left(),
            EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => {
                let attempts = (0..ATTEMPTS).find_map(|_| self.sample(1).first().copied());
                attempts.or_else(|| self.first_left())
            }
            _ => self.next_by_use(),
        }
    }

    /// The best of the pool, after another few were looked at.
    fn next_by_use(&mut self) -> Option<u64> {
        let tracking = self.wanted.policy.tracking();
        for _ in 0..ATTEMPTS {
            for hash in self.sample(self.wanted.samples) {
                let Some(score) = self.score(tracking, hash) else {
                    continue;
                };
                self.pool.offer(Candidate { score, hash });
            }
            while let Some(best) = self.pool.0.pop() {
                let score = self.score(tracking, best.hash);
                if score.is_some_and(|score| score >= best.score) {
                    return Some(best.hash);
                }
            }
        }
        self.first_left()
    }

    /// None of a key that is gone, or may not go any more. One that was never counted is from here on.
    fn score(&mut self, tracking: Tracking, hash: u64) -> Option<u64> {
        if self.chosen.contains(&hash) {
            return None;
        }
        let found = self.keyspace.tables.with_hash(hash);
        let mut clocks = found
            .filter(|entry| self.is_eligible(entry))
            .map(Entry::clock);
        let counted = clocks.next()?;
        drop(clocks);
        let clock = match counted {
            Some(clock) => clock,
            None => {
                let first = tracking.first(self.now)?;
                self.keyspace.tables.with_hash_mut(hash)?.give_clock(first);
                first
            }
        };
        Some(tracking.score(clock, self.now))
    }

    /// The positions of some keys, from a place at random on, that may go and were not chosen yet.
    fn sample(&mut self, count: usize) -> Vec<u64> {
        let volatile = self.wanted.policy.is_volatile();
        let passed = if volatile { PASSED_OVER } else { 1 };
        let place = self.dice.roll();
        let entries = self.keyspace.tables.starting_at(place);
        let found = entries
            .take(count.saturating_mul(passed))
            .filter(|entry| self.is_eligible(entry) && !self.chosen.contains(&entry.hash));
        found.map(|entry| entry.hash).take(count).collect()
    }

    /// The first that may go: the soonest to expire, or of all.
    fn first_left(&self) -> Option<u64> {
        let left = |hash: &u64| !self.chosen.contains(hash);
        if self.wanted.policy.is_volatile() {
            self.keyspace.expiries.hashes().find(left)
        } else {
            let mut all = self.keyspace.tables.iter().map(|entry| entry.hash);
            all.find(left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, KeyCommand};
    use crate::keyspace::HashSeed;
    use crate::resp::Request;
    use crate::units::Lsn;

    /// Keys 0 to 999, the even ones with an expiry, in no order, that is the later the higher.
    fn filled(policy: EvictionPolicy) -> Keyspace {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        for number in 0..1000_u64 {
            keyspace.track(policy.tracking(), Millis(number * 1000), number);
            let expire_at = number
                .is_multiple_of(2)
                .then_some(Millis(10_000_000 + number));
            let key = number.to_string();
            let effect = Effect::Set {
                key: key.as_bytes(),
                value: b"value",
                expire_at,
            };
            keyspace.apply(&Effects::from_iter([effect]), Lsn(number + 1));
        }
        keyspace
    }

    fn evict(keyspace: &mut Keyspace, policy: EvictionPolicy, keys: usize) -> Vec<u64> {
        let (mut pool, mut gone) = (EvictionPool::default(), Vec::new());
        while gone.len() < keys {
            let wanted = Eviction {
                policy,
                samples: 5,
                bytes: usize::MAX,
                keys: 10.min(keys - gone.len()),
                effect_bytes: 1 << 20,
            };
            let random = gone.len() as u64;
            let effects = keyspace.choose_evictions(wanted, &mut pool, Millis(1_000_000), random);
            if effects.is_empty() {
                break;
            }
            for effect in effects.iter() {
                let key = effect.key().expect("a DEL");
                gone.push(std::str::from_utf8(key).unwrap().parse().unwrap());
            }
            let before = keyspace.len();
            keyspace.apply(&effects, Lsn(2000));
            assert_eq!(before - keyspace.len(), effects.iter().count(), "each once");
        }
        gone
    }

    fn get(keyspace: &Keyspace, number: u64, random: u64) {
        let args = ["GET".to_string(), number.to_string()].map(bytes::Bytes::from);
        let Ok(Command::Keys(command @ KeyCommand::Get { .. })) = Command::parse(&Request {
            args: args.to_vec(),
        }) else {
            panic!("GET is a key command");
        };
        keyspace.plan(&command, Millis(999_000), random);
    }

    #[test]
    fn every_policy_empties_what_it_may_and_no_more() {
        for policy in EvictionPolicy::ALL {
            let mut keyspace = filled(policy);
            let gone = evict(&mut keyspace, policy, 2000);
            let expected = match policy {
                EvictionPolicy::NoEviction => 0,
                policy if policy.is_volatile() => 500,
                _ => 1000,
            };
            assert_eq!(gone.len(), expected, "{policy:?}");
            let volatile = gone.iter().all(|number| number.is_multiple_of(2));
            assert_eq!(
                volatile,
                policy.is_volatile() || expected == 0,
                "{policy:?}"
            );
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert!("allkeys".parse::<EvictionPolicy>().is_err());
    }

    #[test]
    fn the_soonest_expiry_goes_first() {
        let mut keyspace = filled(EvictionPolicy::VolatileTtl);
        let gone = evict(&mut keyspace, EvictionPolicy::VolatileTtl, 30);
        assert_eq!(gone, (0..60).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn the_least_recently_used_go() {
        for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::VolatileLru] {
            let mut keyspace = filled(policy);
            // The oldest hundred were just used.
            (0..100).for_each(|number| get(&keyspace, number, number));
            let gone = evict(&mut keyspace, policy, 200);
            assert_eq!(gone.len(), 200);
            let used = gone.iter().filter(|number| **number < 100).count();
            assert_eq!(used, 0, "{policy:?}");
            let mean = gone.iter().sum::<u64>() / 200;
            assert!(mean < 350, "{policy:?}: {mean}, and 550 is chance");
        }
    }

    #[test]
    fn the_least_frequently_used_go() {
        for policy in [EvictionPolicy::AllKeysLfu, EvictionPolicy::VolatileLfu] {
            let mut keyspace = filled(policy);
            for number in 0..300 {
                (0..200).for_each(|random| get(&keyspace, number, random * 7919));
            }
            let gone = evict(&mut keyspace, policy, 200);
            let used = gone.iter().filter(|number| **number < 300).count();
            assert!(used < 6, "{policy:?}: {used}, and 60 is chance");
        }
    }

    #[test]
    fn keys_of_another_policy_s_time_are_counted_from_now_on() {
        let mut keyspace = filled(EvictionPolicy::NoEviction);
        keyspace.track(Tracking::Recency, Millis(1_000_000), 0);
        let gone = evict(&mut keyspace, EvictionPolicy::AllKeysLru, 100);
        assert_eq!(gone.len(), 100);
        let counted = keyspace
            .tables
            .iter()
            .filter(|entry| entry.clock().is_some());
        assert!(counted.count() > 100);
    }
}
