//! What was refused lately: ACL LOG.
//!
//! Promise: at most [`MOST`] entries, each of a few kilobytes, whatever is refused.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::resp::Reply;
use crate::units::Millis;

/// Entries kept (Redis: `acllog-max-len`).
const MOST: usize = 128;
/// Bytes kept of a key, a channel or a name.
const MOST_BYTES: usize = 1024;
/// Entries that a new one may be counted with.
const LOOKED_AT: usize = 10;
/// How old they may be.
const TOGETHER_MS: u64 = 60_000;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Command,
    Key,
    Channel,
    Auth,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

/// Something that was refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// Between MULTI and EXEC.
    pub(super) in_transaction: bool,
    /// The command, key or channel.
    pub(super) object: Bytes,
    pub(super) user: Bytes,
    pub(super) at: Millis,
    /// Who, as CLIENT LIST has it.
    pub(super) client: String,
}

impl Refusal {
    fn is_like(&self, other: &Refusal) -> bool {
        self.reason == other.reason
            && self.in_transaction == other.in_transaction
            && self.at.0.abs_diff(other.at.0) <= TOGETHER_MS
            && self.object == other.object
            && self.user == other.user
    }
}

/// The latest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<(u64, Refusal)>,
}

impl Log {
    pub(super) fn add(&mut self, mut refusal: Refusal) {
        // Copied: what is a part of a request would keep all of it.
        let cut = |bytes: &Bytes| Bytes::copy_from_slice(bytes.get(..MOST_BYTES).unwrap_or(bytes));
        refusal.object = cut(&refusal.object);
        refusal.user = cut(&refusal.user);
        let looked_at = self.entries.iter().take(LOOKED_AT);
        let known = looked_at
            .enumerate()
            .find(|(_, (_, known))| known.is_like(&refusal))
            .map(|(place, _)| place);
        let before = known.and_then(|place| self.entries.remove(place));
        let count = before.map_or(1, |(count, _)| count + 1);
        self.entries.push_front((count, refusal));
        self.entries.truncate(MOST);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The latest `most`.
    pub(super) fn answer(&self, most: usize, now: Millis) -> Reply {
        let entries = self.entries.iter().take(most);
        Reply::Array(
            entries
                .map(|(count, refusal)| entry(*count, refusal, now))
                .collect(),
        )
    }
}

fn entry(count: u64, refusal: &Refusal, now: Millis) -> Reply {
    let context = match refusal.in_transaction {
        true => "multi",
        false => "toplevel",
    };
    let age = now.0 as f64 - refusal.at.0 as f64;
    let fields = [
        ("count", Reply::Integer(count as i64)),
        ("reason", Reply::text(refusal.reason.name())),
        ("context", Reply::text(context)),
        ("object", Reply::Bulk(refusal.object.clone())),
        ("username", Reply::Bulk(refusal.user.clone())),
        ("age-seconds", Reply::Double(age / 1000.0)),
        ("client-info", Reply::bulk(refusal.client.as_bytes())),
    ];
    Reply::Map(
        fields
            .map(|(name, value)| (Reply::text(name), value))
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(object: &str, at: u64) -> Refusal {
        Refusal {
            reason: Reason::Key,
            in_transaction: false,
            object: Bytes::copy_from_slice(object.as_bytes()),
            user: Bytes::from_static(b"u"),
            at: Millis(at),
            client: String::new(),
        }
    }

    #[test]
    fn the_same_within_a_minute_is_counted_and_the_number_is_bounded() {
        let mut log = Log::default();
        for at in [0, 1, 60_001, 60_002, 200_000] {
            log.add(refusal("a", at));
        }
        let counts: Vec<u64> = log.entries.iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [1, 4]);
        for number in 0..500 {
            log.add(refusal(&format!("{number}-{}", "x".repeat(5000)), 0));
        }
        assert_eq!(log.entries.len(), MOST);
        assert!(
            log.entries
                .iter()
                .all(|(_, refusal)| refusal.object.len() <= MOST_BYTES)
        );
    }
}
