//! Chains: open operations placed right before an answered one that fits only behind them.

use super::search::{Choice, Search};
use super::space::{Act, Saw, StateId};

/// Open operations being put before an answered one.
struct Chain {
    operation: u32,
    /// The first end among all that is not yet placed.
    until: u64,
    /// Where the operation leads without a chain, if it fits.
    plain: Option<StateId>,
    classes: Vec<u32>,
}

impl Search {
    /// The choices that need open operations.
    pub fn chains(&mut self, state: StateId) -> Vec<Choice> {
        let mut candidates = Vec::new();
        let deadline = self.events.candidates(&mut candidates);
        let Some((operation, _)) = self.events.what.get(deadline as usize).copied() else {
            return Vec::new();
        };
        let until = self.problem.known[operation as usize].end;
        let mut choices = Vec::new();
        for operation in candidates {
            let (act, saw) = self.known(operation);
            if matches!(saw, Saw::Nothing | Saw::Absurd) || matches!(act, Act::Set(_)) {
                continue;
            }
            let plain = self.step(state, operation);
            let mut chain = Chain {
                operation,
                until,
                plain,
                classes: Vec::new(),
            };
            self.extend(state, &mut chain, &mut choices);
        }
        choices
    }

    /// Adds every chain that begins as `chain` does and ends where its operation fits.
    fn extend(&mut self, state: StateId, chain: &mut Chain, choices: &mut Vec<Choice>) {
        for class in 0..self.problem.classes.len() {
            let open = &self.problem.classes[class];
            let begun = open.begins.get(self.used[class]);
            let blind = matches!(open.act, Act::Set(_) | Act::GetSet(_) | Act::Del);
            if begun.is_none_or(|begin| *begin > chain.until)
                || (blind && !chain.classes.is_empty())
            {
                continue;
            }
            let number = class as u32;
            let after = self.step_class(state, number);
            if after == state || (self.looks_ahead && !self.is_alive(after)) {
                continue;
            }
            chain.classes.push(number);
            self.used[class] += 1;
            let fits = self.step(after, chain.operation);
            // What is reached without these open operations needs none of them.
            if fits.is_some() && fits != chain.plain {
                choices.push(Choice {
                    chain: chain.classes.clone(),
                    operation: chain.operation,
                });
            }
            let appends = matches!(self.known(chain.operation).0, Act::Append(_));
            if (fits.is_none() || appends) && self.is_within_reach(after, chain.operation) {
                self.extend(after, chain, choices);
            }
            self.used[class] -= 1;
            chain.classes.pop();
        }
    }

    /// Whether INCR, APPEND and compare-and-set may still lead from here to where this operation
    /// fits. May say yes too often.
    fn is_within_reach(&self, state: StateId, operation: u32) -> bool {
        let values = &self.problem.values;
        let open = |is: fn(&Act) -> bool| {
            let mut classes = self.problem.classes.iter().zip(&self.used);
            classes.any(|(class, used)| is(&class.act) && *used < class.begins.len())
        };
        if open(|act| matches!(act, Act::Swap { .. })) {
            return true;
        }
        let number = values.number(state);
        let increments = number.filter(|_| open(|act| *act == Act::Incr));
        let appends = open(|act| matches!(act, Act::Append(_)));
        let (value, (act, saw)) = (values.bytes(state), self.known(operation));
        match (act, saw) {
            (Act::Append(more), Saw::Length(length)) => {
                // A negative number gets shorter.
                let fits = value.len() + more.len() <= *length;
                (appends && fits) || increments.is_some_and(|number| fits || number < 0)
            }
            (Act::Incr, Saw::Number(seen)) => {
                appends || increments.is_some_and(|number| number < *seen)
            }
            (Act::Swap { old: seen, .. }, Saw::Stored(true)) | (_, Saw::State(seen)) => {
                let (seen, wanted) = (values.bytes(*seen), values.number(*seen));
                match increments {
                    Some(number) => appends || wanted.is_some_and(|wanted| number < wanted),
                    None => appends && seen.len() > value.len() && seen.starts_with(value),
                }
            }
            _ => increments.is_some() || appends,
        }
    }
}
