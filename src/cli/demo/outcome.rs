//! What a round measured, and the verdict on it.
//!
//! The verdict is pure: it looks only at the measurements, so every way to fail can be tested.

use serde::Serialize;

use crate::cli::answers::{Acknowledged, Takeover};
use crate::cli::text::{count, span_us, thousands};

use super::verify::ProbeOutcome;

/// In async mode the lost writes must have been acknowledged within the span that the bound
/// states; so much more is allowed for the way of the last answer to the client.
const DELIVERY_MS: u64 = 100;

/// One line of the timeline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// Microseconds after the fault.
    pub(super) at_us: i64,
    /// Whether the time was read on this process's clock; else it is from the winner's report,
    /// exact to a millisecond.
    pub(super) own_clock: bool,
    /// What happened.
    pub(super) what: String,
}

/// What became of the writes of a round.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Writes {
    /// Acknowledged to clients.
    pub(super) acknowledged: u64,
    /// Of these, before the fault.
    pub(super) before_fault: u64,
    /// Acknowledged, but missing on the new primary.
    pub(super) lost: u64,
    /// Acknowledged, but with another value on the new primary.
    pub(super) wrong: u64,
    /// Milliseconds from the first to the last acknowledgement of a lost write.
    pub(super) lost_span_ms: u64,
    /// Some lost keys.
    pub(super) lost_keys: Vec<String>,
    /// Not answered, or `-UNCONFIRMED`.
    pub(super) unknown: u64,
    /// Of these, found on the new primary.
    pub(super) unknown_present: u64,
    /// Refused.
    pub(super) refused: u64,
    /// Refused, but found on the new primary.
    pub(super) refused_present: u64,
    /// Acknowledged and on the new primary, but not on the rejoined node.
    pub(super) missing_on_rejoined: u64,
}

/// Everything measured in one round. Times are microseconds; `None`: it did not happen.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Round {
    /// From 1.
    pub(super) round: u32,
    /// Killed or frozen.
    pub(super) old_primary: u32,
    /// Took over.
    pub(super) new_primary: Option<u32>,
    /// Length of the load before the fault.
    pub(super) load_us: u64,
    /// From the fault to the first write acknowledged by the new primary.
    pub(super) rto_us: Option<u64>,
    /// Longest time without an acknowledgement, over all clients, until then.
    pub(super) gap_us: Option<u64>,
    /// Longest such time after that, to the end of the round.
    pub(super) longest_pause_after_us: Option<u64>,
    /// From the restart (or thaw) until the old primary was a standby without lag.
    pub(super) rejoin_us: Option<u64>,
    /// The writes.
    pub(super) writes: Writes,
    /// Reads asked of the thawed node.
    pub(super) probes: Option<ProbeOutcome>,
    /// What happened when.
    pub(super) timeline: Vec<Event>,
    /// The new primary's report.
    pub(super) report: Option<Takeover>,
    /// Broken promises; empty in a good round.
    pub(super) failures: Vec<String>,
}

impl Round {
    /// Books every broken promise. `lossless`: the mode promises that nothing acknowledged is lost.
    pub(super) fn judge(&mut self, lossless: bool) {
        let mut failures = Vec::new();
        self.judge_losses(lossless, &mut failures);
        let writes = &self.writes;
        if writes.wrong > 0 {
            let number = count(writes.wrong, "acknowledged write");
            failures.push(format!("{number} read back with another value"));
        }
        if writes.refused_present > 0 {
            let number = count(writes.refused_present, "refused write");
            failures.push(format!("{number} took effect all the same"));
        }
        if writes.missing_on_rejoined > 0 {
            let number = count(writes.missing_on_rejoined, "acknowledged write");
            failures.push(format!("{number} never arrived on the rejoined node"));
        }
        if self.rto_us.is_none() {
            failures.push("the new primary acknowledged no write".to_owned());
        }
        if self.rejoin_us.is_none() {
            failures.push(format!("node {} did not rejoin in time", self.old_primary));
        }
        if self.report.is_none() {
            failures.push("the new primary has no report of its takeover".to_owned());
        }
        let stale = self.probes.iter().flat_map(|probes| &probes.stale).next();
        if let Some(first) = stale {
            failures.push(format!(
                "the thawed node answered a stale read {} after the thaw: {}",
                span_us(first.after_thaw_us),
                first.answer
            ));
        }
        self.failures = failures;
    }

    fn judge_losses(&self, lossless: bool, failures: &mut Vec<String>) {
        let lost = self.writes.lost;
        if lost == 0 {
            return;
        }
        let of = thousands(self.writes.acknowledged);
        if lossless {
            failures.push(format!(
                "lost {} of {of} acknowledged writes where the mode promises none, such as {}",
                thousands(lost),
                self.writes.lost_keys.join(", ")
            ));
            return;
        }
        let Some(loss) = self.report.as_ref().map(|report| &report.loss) else {
            return;
        };
        let mut above = |what: &str, said: u64| {
            if lost > said {
                failures.push(format!(
                    "lost {} acknowledged writes, but {what} said at most {}",
                    thousands(lost),
                    thousands(said)
                ));
            }
        };
        if loss.bound.exact_zero {
            above("the bound at the takeover", 0);
        }
        if let Some(records) = loss.bound.records {
            above("the bound at the takeover", records);
        }
        if let Some(exact) = &loss.exact {
            above("the count of discarded records", exact.records);
            if let Some(Acknowledged::Exact(said) | Acknowledged::AtMost(said)) = exact.acknowledged
            {
                above("the count of acknowledged discarded records", said);
            }
        }
        let span_ms = self.writes.lost_span_ms;
        if let Some(said) = loss.bound.span_ms
            && span_ms > said + DELIVERY_MS
        {
            failures.push(format!(
                "lost writes acknowledged over {span_ms} ms, but the bound said {said} ms"
            ));
        }
    }
}

/// Median, 99th percentile and maximum of what a run of rounds measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    /// Half were at most this.
    pub(super) median_us: u64,
    /// 99 of 100 were at most this.
    pub(super) p99_us: u64,
    /// All were at most this.
    pub(super) max_us: u64,
}

impl Spread {
    /// The spread of the values there are, by nearest rank; `None` without any.
    pub(super) fn of(values: impl Iterator<Item = Option<u64>>) -> Option<Spread> {
        let mut values: Vec<u64> = values.flatten().collect();
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied()
        };
        Some(Spread {
            median_us: rank(50)?,
            p99_us: rank(99)?,
            max_us: rank(100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::answers::{Bound, Exact};
    use crate::cli::demo::verify::StaleRead;

    fn good() -> Round {
        Round {
            round: 1,
            old_primary: 1,
            new_primary: Some(2),
            rto_us: Some(11_000),
            gap_us: Some(12_000),
            rejoin_us: Some(1_000_000),
            writes: Writes {
                acknowledged: 1000,
                ..Writes::default()
            },
            report: Some(Takeover::default()),
            ..Round::default()
        }
    }

    fn failures(lossless: bool, change: impl FnOnce(&mut Round)) -> Vec<String> {
        let mut round = good();
        change(&mut round);
        round.judge(lossless);
        round.failures
    }

    #[test]
    fn a_good_round_has_no_failures() {
        assert!(failures(true, |_| ()).is_empty());
        assert!(failures(false, |_| ()).is_empty());
    }

    #[test]
    fn every_broken_promise_is_a_failure_of_its_own() {
        type Change = fn(&mut Round);
        let broken: [(&str, Change); 8] = [
            ("lost 1 of 1,000", |round| round.writes.lost = 1),
            ("another value", |round| round.writes.wrong = 1),
            ("took effect all the same", |round| {
                round.writes.refused_present = 1
            }),
            ("never arrived", |round| {
                round.writes.missing_on_rejoined = 1
            }),
            ("acknowledged no write", |round| round.rto_us = None),
            ("did not rejoin", |round| round.rejoin_us = None),
            ("no report", |round| round.report = None),
            ("stale read", |round| {
                let read = StaleRead {
                    after_thaw_us: 5,
                    answer: "old".to_owned(),
                };
                round.probes = Some(ProbeOutcome {
                    stale: vec![read],
                    ..ProbeOutcome::default()
                });
            }),
        ];
        for (text, change) in broken {
            let found = failures(true, change);
            assert!(
                matches!(&found[..], [one] if one.contains(text)),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn async_may_lose_what_it_said_and_no_more() {
        let lose = |lost: u64, span: u64, records: Option<u64>, exact: Option<u64>| {
            failures(false, |round| {
                round.writes.lost = lost;
                round.writes.lost_span_ms = span;
                let exact = exact.map(|records| Exact {
                    records,
                    acknowledged: Some(Acknowledged::AtMost(records)),
                    ..Exact::default()
                });
                let bound = Bound {
                    records,
                    bytes: None,
                    span_ms: Some(200),
                    exact_zero: false,
                };
                let report = Takeover {
                    loss: crate::cli::answers::Loss { bound, exact },
                    ..Takeover::default()
                };
                round.report = Some(report);
            })
            .len()
        };
        assert_eq!(lose(5, 10, Some(5), Some(5)), 0);
        assert_eq!(lose(5, 10, None, None), 0);
        assert_eq!(lose(6, 10, Some(5), None), 1);
        assert_eq!(
            lose(6, 10, None, Some(5)),
            2,
            "discarded and acknowledged are both wrong"
        );
        assert_eq!(lose(6, 301, None, None), 1);
    }

    #[test]
    fn the_spread_is_by_nearest_rank() {
        let twenty = (1..=20).map(|value| Some(value * 10));
        let spread = Spread {
            median_us: 100,
            p99_us: 200,
            max_us: 200,
        };
        assert_eq!(Spread::of(twenty), Some(spread));
        assert_eq!(
            Spread::of([None, Some(7)].into_iter()).map(|spread| spread.median_us),
            Some(7)
        );
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
