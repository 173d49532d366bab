//! Planning DUMP and RESTORE.

use super::Planner;
use crate::command::{NOT_AN_INTEGER, RestoreCommand};
use crate::keyspace::{Effect, dump};
use crate::resp::Reply;
use crate::units::Millis;

impl Planner<'_> {
    pub(super) fn dump(&mut self, key: &[u8]) -> Reply {
        self.find(key).map_or(Reply::Null, |entry| {
            Reply::Bulk(dump::dump(entry.value()).into())
        })
    }

    /// What the payload holds is logged as a value like any other.
    pub(super) fn restore(&mut self, restore: &RestoreCommand) -> Reply {
        let old = self.find(&restore.key);
        if old.is_some() && !restore.replace {
            return Reply::error("BUSYKEY Target key name already exists.");
        }
        let Some(ttl) = restore.ttl else {
            return NOT_AN_INTEGER;
        };
        if ttl < 0 {
            return Reply::error("ERR Invalid TTL value, must be >= 0");
        }
        let value = match dump::restore(&restore.payload) {
            Ok(value) => value,
            Err(error) => return Reply::Error(error.to_string().into()),
        };
        let now = i64::try_from(self.now.0).unwrap_or(i64::MAX);
        let at = match ttl {
            0 => None,
            ttl if restore.absolute => Some(ttl),
            // As in Redis: beyond the end of time is long ago.
            ttl => Some(ttl.wrapping_add(now)),
        };
        if at.is_some_and(|at| at <= now) {
            if let Some(old) = old {
                self.effects.push(Effect::Del { key: old.key() });
            }
            return Reply::OK;
        }
        let at = at.and_then(|at| u64::try_from(at).ok()).map(Millis);
        self.put(&restore.key, &value, at);
        Reply::OK
    }
}
