//! Planning what reads or changes a part of a string.

use super::{Planner, count, from_start, grown};
use crate::command::MAX_STRING_BYTES;
use crate::keyspace::entry::Entry;
use crate::resp::Reply;

pub(super) const TOO_LONG: Reply =
    Reply::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

impl Planner<'_> {
    /// The whole new value is logged, since effects are absolute.
    pub(super) fn append(&mut self, key: &[u8], tail: &[u8]) -> Reply {
        let Some(entry) = self.find(key) else {
            self.put(key, tail, None);
            return count(tail.len());
        };
        if entry.value().len() + tail.len() > MAX_STRING_BYTES {
            return TOO_LONG;
        }
        if tail.is_empty() {
            self.touch(entry, entry.expire_at());
        } else {
            self.put(key, &[entry.value(), tail].concat(), entry.expire_at());
        }
        count(entry.value().len() + tail.len())
    }

    /// Both ends inclusive; negative ones count from the end.
    pub(super) fn get_range(&mut self, key: &[u8], start: i64, end: i64) -> Reply {
        let Some(entry) = self.find(key) else {
            return Reply::text("");
        };
        let length = entry.value().len() as i64;
        if length == 0 || start < 0 && end < 0 && start > end {
            return Reply::text("");
        }
        let (start, end) = (from_start(start, length), from_start(end, length));
        let end = end.min(length - 1);
        if start > end {
            return Reply::text("");
        }
        Reply::Bulk(entry.shared(start as usize..=end as usize))
    }

    /// Pads with zero bytes up to the offset.
    pub(super) fn set_range(&mut self, key: &[u8], offset: u64, patch: &[u8]) -> Reply {
        let entry = self.find(key);
        let old: &[u8] = entry.map_or(&[], |entry| entry.value());
        if patch.is_empty() {
            return count(old.len());
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(patch.len());
        if end > MAX_STRING_BYTES {
            return TOO_LONG;
        }
        let mut value = grown(old, end);
        if let Some(part) = value.get_mut(offset..end) {
            part.copy_from_slice(patch);
        }
        self.put(key, &value, entry.and_then(Entry::expire_at));
        count(value.len())
    }
}
