//! SCAN: a cursor that survives every change.
//!
//! The cursor is a position in hash order: the one behind the last key visited. Keys do not move
//! in that order, so a key that exists from the first call to the last is returned exactly once
//! (Redis promises at least once). Positions depend on the process's hash seed: after a takeover, a
//! cursor of the old primary means nothing to the new one, as between two Redis nodes.

use super::is_reserved;
use super::plan::Planner;
use crate::command::{ScanCommand, glob_matches};
use crate::resp::Reply;
use bytes::Bytes;

impl Planner<'_> {
    pub(super) fn scan(&mut self, scan: &ScanCommand) -> Reply {
        let keyspace = self.keyspace;
        let mut found = Vec::new();
        let mut next = None;
        let mut last = None;
        let entries = keyspace.tables.sorted_from(scan.cursor).flatten();
        for (visited, entry) in (0u64..).zip(entries) {
            if visited >= scan.count && last != Some(entry.hash) {
                // Only at a new position: a cursor between two keys of one would lose the second.
                next = Some(entry.hash);
                break;
            }
            last = Some(entry.hash);
            let matches = !is_reserved(entry.key())
                && scan.pattern.as_ref().is_none_or(|pattern| {
                    &pattern[..] == b"*" || glob_matches(pattern, entry.key(), false)
                });
            if matches && !self.sees_expired(entry) {
                found.push(Reply::bulk(entry.key()));
            }
        }
        if scan
            .kind
            .as_ref()
            .is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string"))
        {
            found.clear();
        }
        let cursor = Bytes::from(next.unwrap_or(0).to_string());
        Reply::Array(vec![Reply::Bulk(cursor), Reply::Array(found)])
    }
}
