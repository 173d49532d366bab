//! What happened when, counted from the fault.
//!
//! Times read by this process are on one monotonic clock. The winner's own phases come from its
//! report and are placed by wall clock, which both processes share on this host; they are exact to
//! a millisecond and marked so.

use crate::cli::answers::Takeover;

use super::Fault;
use super::outcome::{Event, Round};

/// What is known at the moment of the fault.
pub(super) struct FaultPoint {
    /// The primary that is struck.
    pub(super) old: u32,
    /// Its place among the nodes.
    pub(super) old_index: usize,
    /// Its epoch.
    pub(super) epoch: u64,
    /// When, on the clock of the run.
    pub(super) fault_us: u64,
    /// When, on the wall clock.
    pub(super) fault_unix_ms: u64,
    /// When its process was gone.
    pub(super) gone_us: u64,
    /// Writes acknowledged until then.
    pub(super) before: u64,
}

/// The events in the order of their times.
pub(super) fn timeline(
    round: &Round,
    at: &FaultPoint,
    fault: Fault,
    back_us: u64,
    rejoined_us: Option<u64>,
) -> Vec<Event> {
    let old = at.old;
    let (signal, back) = match fault {
        Fault::Kill => ("SIGKILL to", "started again"),
        Fault::Freeze => ("SIGSTOP to", "thawed (SIGCONT)"),
    };
    let mut events = Vec::new();
    let mut own = |at_us: Option<u64>, what: String| {
        let Some(at_us) = at_us else { return };
        let at_us = at_us as i64 - at.fault_us as i64;
        events.push(Event {
            at_us,
            own_clock: true,
            what,
        });
    };
    own(
        Some(at.fault_us),
        format!("{signal} node {old}, the primary"),
    );
    let gone_us = Some(at.gone_us).filter(|_| fault == Fault::Kill);
    own(gone_us, "its process is gone".to_owned());
    let first = round.rto_us.map(|rto_us| at.fault_us + rto_us);
    own(
        first,
        "first write acknowledged to a client by the new primary".to_owned(),
    );
    own(Some(back_us), format!("node {old} {back}"));
    own(
        rejoined_us,
        format!("node {old} has rejoined as a standby, without lag"),
    );
    if let Some(report) = &round.report {
        events.extend(reported(report, at.fault_unix_ms));
    }
    events.sort_by_key(|event| event.at_us);
    events
}

/// The winner's own phases, placed by the wall clock of its victory (its votes were in).
fn reported(report: &Takeover, fault_unix_ms: u64) -> Vec<Event> {
    let phases = &report.phases_us;
    let won_us = (report.at_ms as i64 - fault_unix_ms as i64) * 1000;
    let began_us = won_us - phases.voted.unwrap_or(0) as i64;
    let new = report.new_primary;
    let phase = |at: Option<u64>, what: String| {
        let at_us = began_us + at? as i64;
        Some(Event {
            at_us,
            own_clock: false,
            what,
        })
    };
    let suspected = format!("node {new} suspects it: {}", report.detected_by);
    [
        phase(Some(phases.suspected.unwrap_or(0)), suspected),
        phase(
            phases.voted,
            format!("node {new} is elected, epoch {}", report.epoch),
        ),
        phase(phases.promoted, format!("node {new} acts as primary")),
        phase(
            phases.first_release,
            "its first record is released".to_owned(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::answers::Phases;

    #[test]
    fn reported_phases_are_placed_by_the_time_of_victory() {
        let phases = Phases {
            suspected: Some(0),
            voted: Some(3_000),
            promoted: Some(5_000),
            first_release: None,
        };
        let report = Takeover {
            at_ms: 1_010,
            phases_us: phases,
            ..Takeover::default()
        };
        let times: Vec<i64> = reported(&report, 1_000)
            .iter()
            .map(|event| event.at_us)
            .collect();
        assert_eq!(times, [7_000, 10_000, 12_000], "suspected, elected, acting");
    }
}
