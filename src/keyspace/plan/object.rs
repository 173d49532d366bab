//! Planning OBJECT and MEMORY USAGE.

use super::Planner;
use crate::command::{ObjectQuestion, parse_integer};
use crate::keyspace::Tracking;
use crate::keyspace::access::{frequency, idle_seconds};
use crate::resp::Reply;

/// The longest string that Redis keeps together with what describes it.
const MOST_EMBEDDED_BYTES: usize = 44;
/// Below this, Redis has each number once for all keys, and counts that as so many references.
const SHARED_INTEGERS: i64 = 10_000;
const REFERENCES_OF_SHARED: i64 = i32::MAX as i64;

const NO_FREQUENCY: Reply = Reply::error(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
const NO_IDLE_TIME: Reply = Reply::error(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
const NOT_TRACKED: Reply = Reply::error(
    "ERR An LRU maxmemory policy is not selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

impl Planner<'_> {
    /// Encoding and references as Redis has them of a value that was set as it is.
    pub(super) fn object(&mut self, key: &[u8], question: ObjectQuestion) -> Reply {
        let Some(entry) = self.look(key) else {
            return Reply::Null;
        };
        let number = parse_integer(entry.value());
        let tracking = self.keyspace.tracking();
        match question {
            ObjectQuestion::Encoding => Reply::text(match number {
                Some(_) => "int",
                None if entry.value().len() <= MOST_EMBEDDED_BYTES => "embstr",
                None => "raw",
            }),
            ObjectQuestion::ReferenceCount => {
                let shared = number.is_some_and(|number| (0..SHARED_INTEGERS).contains(&number));
                // A number that many keys have cannot say how one of them is used.
                let shared = shared && tracking == Tracking::Nothing;
                Reply::Integer(if shared { REFERENCES_OF_SHARED } else { 1 })
            }
            ObjectQuestion::Frequency if tracking != Tracking::Frequency => NO_FREQUENCY,
            ObjectQuestion::Frequency => {
                let clock = entry.clock().or_else(|| tracking.first(self.now));
                let frequent = clock.map_or(0, |clock| frequency(clock, self.now));
                Reply::Integer(i64::from(frequent))
            }
            ObjectQuestion::IdleTime => match tracking {
                Tracking::Frequency => NO_IDLE_TIME,
                Tracking::Nothing => NOT_TRACKED,
                Tracking::Recency => {
                    let idle = entry
                        .clock()
                        .map_or(0, |clock| idle_seconds(clock, self.now));
                    Reply::Integer(i64::try_from(idle).unwrap_or(i64::MAX))
                }
            },
        }
    }

    /// Key, value, their place in the tables and in the index of expiries.
    pub(super) fn memory_usage(&mut self, key: &[u8]) -> Reply {
        self.look(key).map_or(Reply::Null, |entry| {
            super::count(self.keyspace.entry_bytes(entry))
        })
    }
}
