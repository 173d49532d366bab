//! Keys by the time they expire.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::effect::{Effect, Effects};
use super::table::Keyspace;
use crate::units::Millis;

#[derive(Debug, Default)]
pub(super) struct ExpiryIndex(BTreeSet<(u64, Box<[u8]>)>);

impl ExpiryIndex {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A key's expiry changed; 0: none.
    pub(super) fn moved(&mut self, key: &[u8], from: u64, to: u64) {
        if from == to {
            return;
        }
        if from != 0 {
            self.0.remove(&(from, key.into()));
        }
        if to != 0 {
            self.0.insert((to, key.into()));
        }
    }
}

impl Keyspace {
    /// When the next key expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.expiries.0.first().map(|(at, _)| Millis(*at))
    }

    /// The deletion of at most `most` keys that have expired by `now`. Only a primary logs it;
    /// standbys wait for the record.
    pub fn plan_expired(&self, now: Millis, most: usize) -> Effects {
        let due = self
            .expiries
            .0
            .iter()
            .take_while(|(at, _)| *at <= now.0)
            .take(most);
        Effects(
            due.map(|(_, key)| Effect::Del(Bytes::copy_from_slice(key)))
                .collect(),
        )
    }
}
