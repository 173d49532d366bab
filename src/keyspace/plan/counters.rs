//! Planning INCR and its relatives. The result is logged, not the increment.

use bytes::Bytes;

use super::Planner;
use crate::command::{LongDouble, parse_integer};
use crate::keyspace::entry::Entry;
use crate::resp::Reply;

const ZERO: &[u8] = b"0";

impl Planner<'_> {
    pub(super) fn increment(&mut self, key: &[u8], by: i64) -> Reply {
        let entry = self.find(key);
        let old: &[u8] = entry.map_or(ZERO, |entry| entry.value());
        let Some(old) = parse_integer(old) else {
            return Reply::error("ERR value is not an integer or out of range");
        };
        let Some(new) = old.checked_add(by) else {
            return Reply::error("ERR increment or decrement would overflow");
        };
        let mut text = bytes::BytesMut::with_capacity(20);
        crate::resp::push_decimal(new, &mut text);
        self.put(key, &text, entry.and_then(Entry::expire_at));
        Reply::Integer(new)
    }

    pub(super) fn increment_float(&mut self, key: &[u8], by: Option<LongDouble>) -> Reply {
        let entry = self.find(key);
        let old = LongDouble::parse(entry.map_or(ZERO, |entry| entry.value()));
        let (Some(old), Some(by)) = (old, by) else {
            return Reply::error("ERR value is not a valid float");
        };
        let Some(new) = old.checked_add(by) else {
            return Reply::error("ERR increment would produce NaN or Infinity");
        };
        let text = new.to_text();
        self.put(key, text.as_bytes(), entry.and_then(Entry::expire_at));
        Reply::Bulk(Bytes::from(text))
    }
}
