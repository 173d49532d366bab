//! Planning LCS: the longest common subsequence of two strings, by the table of those of all their
//! beginnings, as Redis has it: its time and memory grow with the product of the lengths.

use super::Planner;
use crate::command::{LcsCommand, LcsForm, MAX_STRING_BYTES};
use crate::keyspace::entry::Entry;
use crate::resp::Reply;

const TOO_MUCH: Reply =
    Reply::error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

impl Planner<'_> {
    pub(super) fn lcs(&mut self, lcs: &LcsCommand) -> Reply {
        let [a, b] = &lcs.keys;
        let a = self.find(a).map_or(&[][..], Entry::value);
        let b = self.find(b).map_or(&[][..], Entry::value);
        let cells = (a.len() + 1).saturating_mul(b.len() + 1);
        if cells.saturating_mul(size_of::<u32>()) > MAX_STRING_BYTES {
            return TOO_MUCH;
        }
        let table = Table::new(a, b);
        let length = Reply::Integer(i64::from(table.length(a.len(), b.len())));
        let (at_least, with_length) = match lcs.form {
            LcsForm::Length => return length,
            LcsForm::Text => (u64::MAX, false),
            LcsForm::Ranges {
                at_least,
                with_length,
            } => (at_least, with_length),
        };
        let runs = table.runs();
        if lcs.form == LcsForm::Text {
            let text: Vec<u8> = runs
                .iter()
                .rev()
                .flat_map(|run| a.get(run.a..run.a + run.length).unwrap_or_default())
                .copied()
                .collect();
            return Reply::Bulk(text.into());
        }
        let long = runs.iter().filter(|run| run.length as u64 >= at_least);
        Reply::Map(vec![
            (
                Reply::text("matches"),
                Reply::Array(long.map(|run| run.as_reply(with_length)).collect()),
            ),
            (Reply::text("len"), length),
        ])
    }
}

/// Bytes that follow each other in both strings.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where it begins in the first string.
    a: usize,
    /// In the second.
    b: usize,
    length: usize,
}

impl Run {
    fn as_reply(self, with_length: bool) -> Reply {
        let ends = |start: usize| {
            let (start, end) = (start as i64, (start + self.length - 1) as i64);
            Reply::Array(vec![Reply::Integer(start), Reply::Integer(end)])
        };
        let mut parts = vec![ends(self.a), ends(self.b)];
        if with_length {
            parts.push(Reply::Integer(self.length as i64));
        }
        Reply::Array(parts)
    }
}

/// The lengths of the longest common subsequences of all beginnings of two strings.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// A row for each beginning of `a`, the empty one included; in it, one for each of `b`.
    lengths: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(a: &'a [u8], b: &'a [u8]) -> Table<'a> {
        let width = b.len() + 1;
        let mut lengths = vec![0_u32; width * (a.len() + 1)];
        for (row, byte) in a.iter().enumerate() {
            let (done, rest) = lengths.split_at_mut((row + 1) * width);
            let above = done.get(row * width..).unwrap_or_default();
            let mut left = 0;
            let cells = rest.iter_mut().skip(1).zip(above.windows(2)).zip(b);
            for ((cell, above), other) in cells {
                let &[before, above] = above else { continue };
                *cell = if byte == other {
                    before + 1
                } else {
                    above.max(left)
                };
                left = *cell;
            }
        }
        Table { a, b, lengths }
    }

    fn length(&self, a: usize, b: usize) -> u32 {
        let at = a * (self.b.len() + 1) + b;
        self.lengths.get(at).copied().unwrap_or(0)
    }

    /// What the subsequence is made of, from its end.
    fn runs(&self) -> Vec<Run> {
        let (mut a, mut b) = (self.a.len(), self.b.len());
        let mut runs: Vec<Run> = Vec::new();
        while a > 0 && b > 0 {
            if self.a[a - 1] == self.b[b - 1] {
                (a, b) = (a - 1, b - 1);
                match runs.last_mut() {
                    Some(run) if (run.a, run.b) == (a + 1, b + 1) => {
                        (run.a, run.b, run.length) = (a, b, run.length + 1);
                    }
                    _ => runs.push(Run { a, b, length: 1 }),
                }
            } else if self.length(a - 1, b) > self.length(a, b - 1) {
                a -= 1;
            } else {
                b -= 1;
            }
        }
        runs
    }
}
