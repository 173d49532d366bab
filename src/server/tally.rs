//! What commands came to, since the start or since CONFIG RESETSTAT: INFO's `commandstats` and `errorstats`.
//!
//! A batch is executed under one lock and timed as one; each of its commands is given an even share.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use crate::command::{CommandSpec, rows};
use crate::node::Stats;
use crate::resp::Reply;

/// Kinds of errors that are told apart, and bytes of each: clients make them up, too (DEBUG ERROR).
const MOST_KINDS: usize = 128;
const MOST_KIND_BYTES: usize = 64;

/// Ranges of time, each twice as long as the one before: from a microsecond to two minutes.
const SPANS: usize = 28;

/// How one command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Carried out.
    Done,
    /// Carried out, and answered an error.
    Failed,
    /// Answered an error instead.
    Rejected,
}

impl End {
    pub(super) fn of(reply: &Reply) -> End {
        match reply {
            Reply::Error(_) => End::Failed,
            _ => End::Done,
        }
    }
}

/// Of one command.
#[derive(Debug, Default)]
struct Count {
    calls: AtomicU64,
    nanos: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    /// Calls that took no longer than [`longest`] of the place, and longer than that of the place before.
    spans: [AtomicU64; SPANS],
}

/// The longest time that is counted in this place, in nanoseconds.
const fn longest(place: usize) -> u64 {
    1024 << place
}

/// Where a call is counted that took so many nanoseconds.
fn place(nanos: u64) -> usize {
    let doublings = u64::BITS - (nanos.saturating_sub(1) >> 10).leading_zeros();
    (doublings as usize).min(SPANS - 1)
}

impl Count {
    /// As far as there are calls that took longer, each range with all shorter ones.
    fn histogram(&self) -> Reply {
        let calls = Stats::get(&self.calls);
        let (mut sum, mut ranges) = (0, Vec::new());
        for (place, span) in self.spans.iter().enumerate() {
            if sum >= calls {
                break;
            }
            let here = Stats::get(span);
            sum += here;
            if here > 0 {
                let micros = longest(place) / 1000;
                ranges.push((Reply::Integer(micros as i64), Reply::Integer(sum as i64)));
            }
        }
        Reply::Map(vec![
            (Reply::text("calls"), Reply::Integer(calls as i64)),
            (Reply::text("histogram_usec"), Reply::Map(ranges)),
        ])
    }
}

/// Of one node.
#[derive(Debug)]
pub(super) struct Tally {
    /// In the order of the table.
    counts: Box<[Count]>,
    /// By the first word of an error.
    errors: Mutex<BTreeMap<Box<str>, u64>>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            counts: rows().iter().map(|_| Count::default()).collect(),
            errors: Mutex::default(),
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    if n > 0 {
        Stats::add(counter, n);
    }
}

impl Tally {
    fn errors(&self) -> MutexGuard<'_, BTreeMap<Box<str>, u64>> {
        self.errors
            .lock()
            .expect("nothing panics with numbers of errors")
    }

    fn count(&self, spec: &'static CommandSpec) -> Option<&Count> {
        self.counts.get(rows().element_offset(spec)?)
    }

    /// Commands that were executed together in `took`: which, and how each ended. What is not in the table
    /// counts nowhere.
    pub(super) fn batch(
        &self,
        commands: impl Iterator<Item = (Option<&'static CommandSpec>, End)>,
        count: usize,
        took: Duration,
    ) {
        let share = took.as_nanos() as u64 / (count as u64).max(1);
        let (mut of, mut calls, mut failed) = (None::<&'static CommandSpec>, 0, 0);
        let put = |of: Option<&'static CommandSpec>, calls: u64, failed| {
            if let Some(count) = of.and_then(|spec| self.count(spec)) {
                add(&count.calls, calls);
                add(&count.nanos, share * calls);
                add(&count.failed, failed);
                if let Some(span) = count.spans.get(place(share)) {
                    add(span, calls);
                }
            }
        };
        // A pipeline mostly asks for the same again and again.
        for (spec, end) in commands.take(count) {
            let same = match (of, spec) {
                (Some(before), Some(now)) => std::ptr::eq(before, now),
                (before, now) => before.is_none() && now.is_none(),
            };
            if !same {
                put(of, calls, failed);
                (of, calls, failed) = (spec, 0, 0);
            }
            calls += 1;
            failed += u64::from(end == End::Failed);
        }
        put(of, calls, failed);
    }

    /// One command.
    pub(super) fn one(&self, spec: Option<&'static CommandSpec>, end: End, took: Duration) {
        if end != End::Rejected {
            return self.batch(std::iter::once((spec, end)), 1, took);
        }
        if let Some(count) = spec.and_then(|spec| self.count(spec)) {
            add(&count.rejected, 1);
        }
    }

    /// A client was told this error.
    pub(super) fn error(&self, text: &str) {
        let kind = text.split_ascii_whitespace().next().unwrap_or_default();
        let kind = &kind[..kind.floor_char_boundary(MOST_KIND_BYTES)];
        // They would make another line or field of it.
        let kind = kind.replace([':', '#', ',', '='], "_");
        let mut errors = self.errors();
        if let Some(count) = errors.get_mut(kind.as_str()) {
            *count += 1;
        } else if errors.len() < MOST_KINDS {
            errors.insert(kind.into(), 1);
        }
    }

    pub(super) fn reset(&self) {
        for count in &self.counts {
            for number in [&count.calls, &count.nanos, &count.rejected, &count.failed] {
                number.store(0, Ordering::Relaxed);
            }
            for span in &count.spans {
                span.store(0, Ordering::Relaxed);
            }
        }
        self.errors().clear();
    }

    /// LATENCY HISTOGRAM: of these commands, or of all, how many calls took at most so many microseconds.
    pub(super) fn histograms(&self, names: &[Bytes]) -> Reply {
        let wanted = |spec: &CommandSpec| {
            let names_it = |name: &Bytes| {
                let container = spec.container();
                name.eq_ignore_ascii_case(spec.name.as_bytes())
                    || container.is_some_and(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            };
            names.is_empty() || names.iter().any(names_it)
        };
        let asked = rows().iter().zip(&self.counts);
        let asked = asked.filter(|(spec, count)| wanted(spec) && Stats::get(&count.calls) > 0);
        let told = asked.map(|(spec, count)| (Reply::text(spec.name), count.histogram()));
        Reply::Map(told.collect())
    }

    /// A line for each command that was asked for.
    pub(super) fn tell_commands(&self, out: &mut String) {
        for (spec, count) in rows().iter().zip(&self.counts) {
            let (calls, nanos) = (Stats::get(&count.calls), Stats::get(&count.nanos));
            let (rejected, failed) = (Stats::get(&count.rejected), Stats::get(&count.failed));
            if calls + rejected == 0 {
                continue;
            }
            let usec = nanos / 1000;
            let each = nanos as f64 / 1000.0 / (calls as f64).max(1.0);
            // Writing to a string does not fail.
            let _ = write!(
                out,
                "cmdstat_{}:calls={calls},usec={usec},usec_per_call={each:.2},\
                 rejected_calls={rejected},failed_calls={failed}\r\n",
                spec.name
            );
        }
    }

    /// A line for each kind of error that was answered.
    pub(super) fn tell_errors(&self, out: &mut String) {
        for (kind, count) in self.errors().iter() {
            let _ = write!(out, "errorstat_{kind}:count={count}\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::lookup;

    #[test]
    fn a_batch_shares_its_time_and_counts_by_command() {
        let tally = Tally::default();
        let (get, set) = (lookup(b"get"), lookup(b"SET"));
        let batch = [
            (get, End::Done),
            (get, End::Failed),
            (set, End::Done),
            (None, End::Done),
            (get, End::Done),
        ];
        tally.batch(batch.into_iter(), 5, Duration::from_micros(10));
        tally.one(set, End::Rejected, Duration::from_secs(1));
        let mut told = String::new();
        tally.tell_commands(&mut told);
        assert_eq!(
            told,
            "cmdstat_get:calls=3,usec=6,usec_per_call=2.00,rejected_calls=0,failed_calls=1\r\n\
             cmdstat_set:calls=1,usec=2,usec_per_call=2.00,rejected_calls=1,failed_calls=0\r\n"
        );
        tally.reset();
        let mut told = String::new();
        tally.tell_commands(&mut told);
        assert_eq!(told, "");
    }

    #[test]
    fn calls_are_counted_by_how_long_they_took() {
        for (nanos, wanted) in [(0, 0), (1024, 0), (1025, 1), (2048, 1), (2049, 2)] {
            assert_eq!(place(nanos), wanted, "{nanos}");
        }
        assert!(
            (1..SPANS - 1).all(|at| place(longest(at)) == at && place(longest(at) + 1) == at + 1)
        );
        assert_eq!(place(u64::MAX), SPANS - 1);
        let tally = Tally::default();
        let (get, list) = (lookup(b"get"), lookup(b"client|list"));
        for micros in [1, 1, 3, 50] {
            tally.one(get, End::Done, Duration::from_micros(micros));
        }
        tally.one(list, End::Rejected, Duration::ZERO);
        let number = Reply::Integer;
        let ranges =
            [(1, 2), (4, 3), (65, 4)].map(|(micros, calls)| (number(micros), number(calls)));
        let told = Reply::Map(vec![
            (Reply::text("calls"), number(4)),
            (Reply::text("histogram_usec"), Reply::Map(ranges.to_vec())),
        ]);
        let all = Reply::Map(vec![(Reply::text("get"), told)]);
        assert_eq!(tally.histograms(&[]), all);
        assert_eq!(
            tally.histograms(&[Bytes::from("GET"), Bytes::from("client")]),
            all
        );
        assert_eq!(
            tally.histograms(&[Bytes::from("set")]),
            Reply::Map(Vec::new())
        );
        tally.one(list, End::Done, Duration::ZERO);
        let Reply::Map(found) = tally.histograms(&[Bytes::from("client")]) else {
            panic!("no map");
        };
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let tally = Tally::default();
        for kind in 0..1000 {
            tally.error(&format!("KIND{kind} of error"));
        }
        tally.error("KIND0 again");
        tally.error("KIND0 and again");
        let mut told = String::new();
        tally.tell_errors(&mut told);
        assert_eq!(told.lines().count(), MOST_KINDS);
        assert!(told.contains("errorstat_KIND0:count=3\r\n"));
        let tally = Tally::default();
        tally.error(&"é".repeat(1000));
        tally.error("a:b#c\r\nforged:1");
        tally.error("");
        let mut told = String::new();
        tally.tell_errors(&mut told);
        let long = "é".repeat(MOST_KIND_BYTES / 2);
        assert_eq!(
            told,
            format!(
                "errorstat_:count=1\r\nerrorstat_a_b_c:count=1\r\nerrorstat_{long}:count=1\r\n"
            )
        );
    }
}
