//! One round: load, fault, takeover, rejoin, and the account.
//!
//! The main thread drives the processes and asks over HTTP; the clients run on the runtime's
//! threads and are never held up by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::cli::answers::{Member, Takeover};
use crate::cli::load::follow::{Account, FollowSpec, Following, State, longest_gap_us};
use crate::cli::text::thousands;

use super::outcome::{Round, Writes};
use super::timeline::{FaultPoint, timeline};
use super::verify::{Found, StaleProbe, WriteId, await_arrival, read_back};
use super::{Demo, Fault};

/// Longest wait for a takeover, and for a rejoin.
const PATIENCE: Duration = Duration::from_secs(30);
/// Load after the takeover, before the old primary returns.
const AFTER_TAKEOVER: Duration = Duration::from_secs(1);
/// The new primary may serve while writes wait for the old one (sync on two data nodes): after
/// this long without an acknowledged write the old primary is brought back.
const WAIT_FOR_WRITES: Duration = Duration::from_secs(3);
/// Pause between two questions to the survivors: rare, so as not to be in the takeover's way.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Load after the rejoin.
const AFTER_REJOIN: Duration = Duration::from_millis(300);
/// Pause between two looks at something that is not announced.
const TICK: Duration = Duration::from_millis(5);
/// Keys named in a failure.
const KEYS_SHOWN: usize = 5;

/// Runs round `number` against `old`, the present primary.
pub(super) fn run(demo: &mut Demo, number: u32, old: u32) -> anyhow::Result<Round> {
    let spec = follow_spec(demo, number)?;
    let mut round = Round {
        round: number,
        old_primary: old,
        ..Round::default()
    };
    let start_us = demo.clock.now_us();
    let following = Following::start(demo.runtime.handle(), spec, demo.clock);
    load(demo, &following, number, old)?;
    let mut probe = match demo.args.fault {
        Fault::Freeze => Some(open_probe(demo, old, number)?),
        Fault::Kill => None,
    };
    let at = strike(demo, &following, old)?;
    round.load_us = at.fault_us - start_us;

    let new = await_takeover(demo, &following, &at)?;
    demo.progress(format!("round {number}: node {new} took over"));
    let probing = match probe.take() {
        Some(mut probe) => {
            let overwritten = probe.overwrite(demo.cluster.client_addr(new)?);
            demo.runtime.block_on(overwritten).context(
                "without a write acknowledged by the new primary, stale reads cannot be checked",
            )?;
            demo.runtime.block_on(probe.ask());
            Some(probe)
        }
        None => None,
    };
    idle(demo, AFTER_TAKEOVER)?;

    let back_us = demo.clock.now_us();
    bring_back(demo, old)?;
    let (stop_probe, probe_stopped) = watch::channel(false);
    let probing = probing.map(|probe| {
        let _inside = demo.runtime.enter();
        probe.watch(demo.clock, probe_stopped)
    });
    let (new, rejoined_us) = await_rejoin(demo, number, &at, new)?;
    idle(demo, AFTER_REJOIN)?;
    stop_probe.send_replace(true);
    round.new_primary = Some(new);
    round.rejoin_us = rejoined_us.map(|at_us| at_us - back_us);
    if let Some(probing) = probing {
        round.probes = Some(demo.runtime.block_on(probing)?);
    }

    demo.progress(format!("round {number}: reading back every write"));
    let account = demo.runtime.block_on(following.stop());
    round.report = report(demo, new, &at, rejoined_us.is_some())?;
    measure(&mut round, &at, &account);
    round.writes = verify(demo, &account, &at, new, rejoined_us.is_some())?;
    round.timeline = timeline(&round, &at, demo.args.fault, back_us, rejoined_us);
    round.judge(demo.args.is_lossless());
    Ok(round)
}

fn follow_spec(demo: &Demo, number: u32) -> anyhow::Result<FollowSpec> {
    let mut nodes = Vec::new();
    for id in demo.cluster.ids() {
        nodes.push(demo.cluster.client_addr(id)?);
    }
    Ok(FollowSpec {
        nodes,
        cluster_name: demo.cluster.plan().name.clone(),
        clients: demo.args.clients,
        value_bytes: demo.args.value_bytes,
        prefix: format!("demo:{number}"),
    })
}

/// Lets the clients write for the time asked.
fn load(demo: &mut Demo, following: &Following, number: u32, old: u32) -> anyhow::Result<()> {
    let start_us = demo.clock.now_us();
    let span = demo.args.load_span();
    loop {
        let past = Duration::from_micros(demo.clock.now_us() - start_us);
        let (acknowledged, ..) = following.counters().read();
        let rate = acknowledged as f64 / past.as_secs_f64().max(0.001);
        demo.progress(format!(
            "round {number} of {}: writing to node {old}, {} acknowledged ({}/s)",
            demo.args.rounds,
            thousands(acknowledged),
            thousands(rate as u64)
        ));
        if past >= span {
            anyhow::ensure!(
                acknowledged > 0,
                "no write was acknowledged in {span:?}, before any fault; see the nodes' logs"
            );
            return Ok(());
        }
        idle(demo, (span - past).min(Duration::from_millis(100)))?;
    }
}

fn open_probe(demo: &Demo, old: u32, number: u32) -> anyhow::Result<StaleProbe> {
    let address = demo.cluster.client_addr(old)?;
    demo.runtime
        .block_on(StaleProbe::open(address, &format!("demo:{number}")))
}

/// The fault itself.
fn strike(demo: &mut Demo, following: &Following, old: u32) -> anyhow::Result<FaultPoint> {
    let epoch = demo
        .cluster
        .cluster_json(old)?
        .map_or(0, |cluster| cluster.epoch);
    let old_index = demo.cluster.ids().iter().position(|id| *id == old);
    let old_index = old_index.ok_or_else(|| anyhow::anyhow!("there is no node {old}"))?;
    let (before, ..) = following.counters().read();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let fault_us = demo.clock.now_us();
    match demo.args.fault {
        Fault::Kill => demo.cluster.kill9(old)?,
        Fault::Freeze => demo.cluster.freeze(old)?,
    }
    let gone_us = demo.clock.now_us();
    let fault_unix_ms = u64::try_from(unix.as_millis())?;
    Ok(FaultPoint {
        old,
        old_index,
        epoch,
        fault_us,
        fault_unix_ms,
        gone_us,
        before,
    })
}

/// Waits until another node acknowledged a write, or is primary but cannot release writes alone.
fn await_takeover(demo: &mut Demo, following: &Following, at: &FaultPoint) -> anyhow::Result<u32> {
    let ids = demo.cluster.ids();
    let survivors: Vec<u32> = ids.iter().copied().filter(|id| *id != at.old).collect();
    let wait_us = WAIT_FOR_WRITES.as_micros() as u64;
    let mut primary_since_us = None;
    let mut ask_at_us = demo.clock.now_us();
    loop {
        for (index, id) in ids.iter().enumerate() {
            let first = following.counters().first_acknowledged_us(index);
            if *id != at.old && first.is_some_and(|first_us| first_us >= at.fault_us) {
                return Ok(*id);
            }
        }
        let now_us = demo.clock.now_us();
        if now_us >= ask_at_us {
            ask_at_us = now_us + ASK_EVERY.as_micros() as u64;
            match (demo.cluster.primary_among(&survivors)?, primary_since_us) {
                (Some(_), None) => primary_since_us = Some(now_us),
                (Some(id), Some(since_us)) if now_us - since_us > wait_us => return Ok(id),
                (None, _) => primary_since_us = None,
                _ => {}
            }
        }
        if now_us - at.fault_us > PATIENCE.as_micros() as u64 {
            anyhow::bail!(
                "nobody took over within {PATIENCE:?}{}",
                why_not(demo, &survivors)?
            );
        }
        idle(demo, TICK)?;
    }
}

/// What the survivors say about the missing takeover.
fn why_not(demo: &Demo, survivors: &[u32]) -> anyhow::Result<String> {
    let mut notes = Vec::new();
    for id in survivors {
        let said = demo.cluster.cluster_json(*id)?.unwrap_or_default().notes;
        notes.extend(
            said.into_iter()
                .map(|note| format!("; node {id} says: {note}")),
        );
    }
    Ok(notes.concat())
}

fn bring_back(demo: &mut Demo, old: u32) -> anyhow::Result<()> {
    match demo.args.fault {
        Fault::Kill => demo.cluster.start(old)?,
        Fault::Freeze => demo.cluster.thaw(old)?,
    }
    Ok(())
}

/// Waits until the primary sees the old one as a standby that has all the primary had released
/// when it first streamed. Returns the primary (it may have changed once more) and the time.
fn await_rejoin(
    demo: &mut Demo,
    number: u32,
    at: &FaultPoint,
    new: u32,
) -> anyhow::Result<(u32, Option<u64>)> {
    let mut primary = new;
    let mut mark = None;
    let start_us = demo.clock.now_us();
    loop {
        demo.cluster.notice_deaths()?;
        match demo
            .cluster
            .cluster_json(primary)?
            .filter(|seen| seen.primary == Some(primary))
        {
            Some(seen) => {
                if let Some(member) = seen.member(at.old).filter(|member| is_streaming(member)) {
                    let released = seen.member(primary).and_then(|own| own.released_lsn);
                    let mark = *mark.get_or_insert(released);
                    if has_caught_up(member, mark) {
                        return Ok((primary, Some(demo.clock.now_us())));
                    }
                }
                let state = seen
                    .member(at.old)
                    .map_or("unknown", |member| &member.state);
                demo.progress(format!("round {number}: node {} is {state}", at.old));
            }
            None => {
                let found = demo.cluster.primary()?.filter(|found| *found != at.old);
                if let Some(found) = found.filter(|found| *found != primary) {
                    (primary, mark) = (found, None);
                }
            }
        }
        if demo.clock.now_us() - start_us > PATIENCE.as_micros() as u64 {
            return Ok((primary, None));
        }
        idle(demo, TICK)?;
    }
}

fn is_streaming(member: &Member) -> bool {
    member.connected == Some(true) && member.state == "streaming"
}

fn has_caught_up(member: &Member, mark: Option<u64>) -> bool {
    let reached = |lsn: Option<u64>| matches!((lsn, mark), (Some(lsn), Some(mark)) if lsn >= mark);
    member.lag_records == Some(0) || reached(member.acked_lsn) || reached(member.synced_lsn)
}

/// The new primary's report of this takeover; waits for the exact loss when the old one is back.
fn report(
    demo: &mut Demo,
    new: u32,
    at: &FaultPoint,
    is_back: bool,
) -> anyhow::Result<Option<Takeover>> {
    let deadline_us = demo.clock.now_us() + Duration::from_secs(5).as_micros() as u64;
    loop {
        let history = demo.cluster.history_json(new)?.unwrap_or_default();
        let found = history
            .takeovers
            .into_iter()
            .find(|takeover| takeover.epoch > at.epoch && takeover.new_primary != at.old);
        let is_complete = found
            .as_ref()
            .is_some_and(|found| found.loss.exact.is_some());
        if is_complete || !is_back || demo.clock.now_us() >= deadline_us {
            return Ok(found);
        }
        idle(demo, TICK)?;
    }
}

/// The client's view: RTO, gap, later pauses.
fn measure(round: &mut Round, at: &FaultPoint, account: &Account) {
    let times = account.acknowledged_at_us();
    let Some(first_us) = account.first_elsewhere_us(at.old_index, at.fault_us) else {
        return;
    };
    round.rto_us = Some(first_us - at.fault_us);
    round.gap_us = longest_gap_us(&times, at.fault_us, first_us);
    round.longest_pause_after_us = longest_gap_us(&times, first_us, u64::MAX);
}

/// Reads back every write on the new primary, and every acknowledged one that is there on the
/// rejoined node too.
fn verify(
    demo: &Demo,
    account: &Account,
    at: &FaultPoint,
    new: u32,
    is_back: bool,
) -> anyhow::Result<Writes> {
    let address = demo.cluster.client_addr(new)?;
    let read = |state: State| -> anyhow::Result<(Vec<WriteId>, Vec<Found>)> {
        let ids: Vec<WriteId> = account
            .in_state(state)
            .map(|(client, sequence, _)| (client, sequence))
            .collect();
        let reading = read_back(address, &account.spec, &ids, PATIENCE);
        let found = demo.runtime.block_on(reading)?;
        Ok((ids, found))
    };
    let present =
        |found: &[Found]| found.iter().filter(|one| **one != Found::Absent).count() as u64;

    let (ids, found) = read(State::Acknowledged)?;
    let mut writes = Writes {
        acknowledged: ids.len() as u64,
        before_fault: at.before,
        ..Writes::default()
    };
    let is_lost = |one: &Found| *one == Found::Absent;
    let lost: Vec<WriteId> = ids
        .iter()
        .zip(&found)
        .filter(|(_, one)| is_lost(one))
        .map(|(id, _)| *id)
        .collect();
    writes.lost = lost.len() as u64;
    writes.wrong = found.iter().filter(|one| **one == Found::Wrong).count() as u64;
    let lost_at_us = || {
        lost.iter()
            .map(|(client, number)| account.clients[*client][*number].at_us)
    };
    writes.lost_span_ms = match (lost_at_us().min(), lost_at_us().max()) {
        (Some(first), Some(last)) => (last - first) / 1000,
        _ => 0,
    };
    let key = |(client, number): &WriteId| account.spec.key(*client, *number);
    writes.lost_keys = lost.iter().take(KEYS_SHOWN).map(key).collect();

    let (unknown, found_unknown) = read(State::Unknown)?;
    writes.unknown = unknown.len() as u64;
    writes.unknown_present = present(&found_unknown);
    let (refused, found_refused) = read(State::Refused)?;
    writes.refused = refused.len() as u64;
    writes.refused_present = present(&found_refused);

    if is_back {
        let kept: Vec<WriteId> = ids
            .iter()
            .zip(&found)
            .filter(|(_, one)| !is_lost(one))
            .map(|(id, _)| *id)
            .collect();
        let old = demo.cluster.client_addr(at.old)?;
        let arrival = await_arrival(old, &account.spec, &kept, PATIENCE);
        writes.missing_on_rejoined = demo.runtime.block_on(arrival)?.len() as u64;
    }
    Ok(writes)
}

/// Waits while the clients work; an interrupt ends it.
fn idle(demo: &mut Demo, span: Duration) -> anyhow::Result<()> {
    demo.interrupt.check()?;
    std::thread::sleep(span);
    demo.interrupt.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_has_rejoined_without_lag_or_past_the_mark() {
        let member = |lag_records, acked_lsn| Member {
            lag_records,
            acked_lsn,
            ..Member::default()
        };
        assert!(has_caught_up(&member(Some(0), None), None));
        assert!(has_caught_up(&member(Some(5), Some(100)), Some(100)));
        assert!(!has_caught_up(&member(Some(5), Some(99)), Some(100)));
        assert!(
            !has_caught_up(&member(None, Some(99)), None),
            "nothing is known: not yet"
        );
        let state = |state: &str, connected| Member {
            state: state.to_owned(),
            connected: Some(connected),
            ..Member::default()
        };
        assert!(is_streaming(&state("streaming", true)));
        assert!(
            !is_streaming(&state("streaming", false)) && !is_streaming(&state("loading", true))
        );
    }
}
