//! Why a history is not linearizable, in as few lines as will do.

use std::fmt;

use super::operation::{Answer, Call, Operation, Outcome, State, integer};
use super::search::{Limits, Verdict, dead_ends, search};

/// Lines of history printed at most.
const LINES: usize = 40;

/// One key's operations that no order explains.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// Operations on it in the whole history.
    pub of: usize,
    /// The shortest prefix (by answers) that cannot be explained, less the reads that do not
    /// matter, in the order of their begins. What had begun and was not answered by then is
    /// unknown in it.
    pub prefix: Vec<Operation>,
    /// The operation whose answer ends the prefix: without it, all can be explained.
    pub last: Operation,
    /// What the value could be where the search got furthest.
    pub possible: Vec<State>,
}

/// Reduces one key's operations that are known not to be linearizable.
pub fn explain(operations: &[&Operation], limits: Limits) -> Violation {
    let fails = |history: &[Operation]| {
        let history: Vec<&Operation> = history.iter().collect();
        search(&history, limits) == Verdict::Violation
    };
    let mut ends: Vec<u64> = operations.iter().filter_map(|op| op.end()).collect();
    ends.sort_unstable();
    ends.dedup();
    // A longer prefix explains no more than a shorter one, so the first that fails can be bisected.
    let (mut low, mut high) = (0, ends.len().saturating_sub(1));
    while low < high {
        let middle = low.midpoint(high);
        if fails(&until(operations, ends[middle])) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let end = ends.get(high).copied().unwrap_or(u64::MAX);
    let mut prefix = until(operations, end);
    prefix.sort_by_key(|operation| operation.begin);
    let last = prefix.iter().rfind(|op| op.end() == Some(end));
    let last = last.cloned().unwrap_or_else(|| operations[0].clone());
    let prefix = without_idle_reads(prefix, &last, fails);
    let all: Vec<&Operation> = prefix.iter().collect();
    let mut possible = dead_ends(&all);
    possible.sort();
    possible.dedup();
    Violation {
        key: last.key.clone(),
        of: operations.len(),
        prefix,
        last,
        possible,
    }
}

/// What had happened when this tick was over.
fn until(operations: &[&Operation], tick: u64) -> Vec<Operation> {
    let begun = operations
        .iter()
        .filter(|operation| operation.begin <= tick);
    let mut prefix: Vec<Operation> = begun.map(|operation| (*operation).clone()).collect();
    for operation in &mut prefix {
        if operation.end().is_some_and(|end| end > tick) {
            operation.outcome = Outcome::Unknown;
        }
    }
    prefix.retain(|op| match op.outcome {
        Outcome::Ok(..) => true,
        Outcome::Unknown => op.call.is_write(),
        Outcome::Failed => false,
    });
    prefix
}

/// Leaves out reads as long as what is left cannot be explained either: halves, quarters, down to
/// single ones. (A write cannot be left out: what saw it would be inexplicable for that. Nor can a
/// compare-and-set that stored nothing: until its answer it might have.)
fn without_idle_reads(
    mut prefix: Vec<Operation>,
    last: &Operation,
    fails: impl Fn(&[Operation]) -> bool,
) -> Vec<Operation> {
    let is_idle = |op: &Operation| op.call == Call::Get && op != last;
    let mut size = prefix.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < prefix.len() {
            let range = at..(at + size).min(prefix.len());
            let mut number = 0..;
            let mut fewer = prefix.clone();
            fewer.retain(|op| {
                let number = number.next().unwrap_or(usize::MAX);
                !range.contains(&number) || !is_idle(op)
            });
            if fewer.len() < prefix.len() && fails(&fewer) {
                prefix = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    prefix
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, of) = (&self.key, self.of);
        writeln!(f, "key {key:?} is not linearizable ({of} operations).")?;
        writeln!(f, "no order explains the answer to")?;
        writeln!(f, "  {}", Line(&self.last))?;
        let possible: Vec<String> = self.possible.iter().map(shown).collect();
        writeln!(
            f,
            "by then the value could only be {}",
            possible.join(" or ")
        )?;
        if let Outcome::Ok(Answer::Value(seen), _) = &self.last.outcome {
            self.origin(f, seen)?;
        }
        let lines = self.prefix.len().min(LINES);
        let left_out = self.prefix.len() - lines;
        writeln!(f, "the shortest prefix, without reads that do not matter:")?;
        if left_out > 0 {
            writeln!(f, "  ({left_out} earlier operations)")?;
        }
        for operation in &self.prefix[left_out..] {
            writeln!(f, "  {}", Line(operation))?;
        }
        Ok(())
    }
}

impl Violation {
    /// Says where the value that was seen came from: writes that surely made it, else open ones
    /// that may have.
    fn origin(&self, f: &mut fmt::Formatter<'_>, seen: &State) -> fmt::Result {
        let Some(value) = seen else { return Ok(()) };
        let makers = self.prefix.iter().filter(|op| may_make(op, value));
        let (known, open): (Vec<_>, Vec<_>) = makers.partition(|op| op.end().is_some());
        let makers = if known.is_empty() { open } else { known };
        let what = match makers.len() {
            0 => "nobody wrote",
            1 => "one write may have made",
            _ => "several writes may have made",
        };
        writeln!(f, "{what} {}", shown(seen))?;
        for operation in makers.iter().take(4) {
            writeln!(f, "  {}", Line(operation))?;
        }
        Ok(())
    }
}

fn may_make(operation: &Operation, value: &[u8]) -> bool {
    let open = operation.outcome == Outcome::Unknown;
    match &operation.call {
        Call::Set(new) | Call::GetSet(new) => new == value,
        Call::SetIfEqual { value: new, .. } => {
            let stored = matches!(operation.outcome, Outcome::Ok(Answer::Stored(true), _));
            new == value && (open || stored)
        }
        Call::Append(more) => value.ends_with(more),
        Call::Incr => integer(value)
            .is_some_and(|number| open || operation.outcome_is(&Answer::Integer(number))),
        Call::Get | Call::Del => false,
    }
}

/// One operation on one line.
struct Line<'a>(&'a Operation);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.0;
        let end = operation
            .end()
            .map_or("?".to_owned(), |end| end.to_string());
        write!(
            f,
            "[{:>10} .. {end:>10}] client {:>3}  ",
            operation.begin, operation.client
        )?;
        for word in operation.call.words(&operation.key) {
            write!(f, "{} ", short(&word))?;
        }
        match &operation.outcome {
            Outcome::Ok(answer, _) => write!(f, "-> {}", Said(answer)),
            Outcome::Failed => write!(f, "-> refused"),
            Outcome::Unknown => write!(f, "-> unknown"),
        }
    }
}

struct Said<'a>(&'a Answer);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Answer::Value(state) => f.write_str(&shown(state)),
            Answer::Done => f.write_str("OK"),
            Answer::Integer(number) => number.fmt(f),
            Answer::Stored(true) => f.write_str("OK"),
            Answer::Stored(false) => f.write_str("nil"),
            Answer::NotAnInteger => f.write_str("not an integer"),
        }
    }
}

fn shown(state: &State) -> String {
    state
        .as_ref()
        .map_or("nil".to_owned(), |value| format!("\"{}\"", short(value)))
}

/// The end of a long value says more than its beginning: that is where APPEND puts things.
fn short(value: &[u8]) -> String {
    match value.len().checked_sub(60) {
        Some(more @ 1..) => format!("({more} bytes)...{}", value[more..].escape_ascii()),
        _ => value.escape_ascii().to_string(),
    }
}
