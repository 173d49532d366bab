//! Chaos: real processes under real faults, judged by what their clients saw.
//!
//! `cargo test --test chaos` runs a short slice. The long forms, each from one seed that it prints:
//! ```text
//! UNDERSTUDY_LONG=1 CHAOS_FAULTS=300 CHAOS_SEED=7 cargo test --release --test chaos hosts -- --nocapture
//! CHAOS_KINDS=kill CHAOS_FAULTS=200 cargo test --release --test chaos processes -- --nocapture
//! UNDERSTUDY_LONG=1 CHAOS_MINUTES=10 cargo test --release --test chaos saturated -- --nocapture
//! UNDERSTUDY_LONG=1 CHAOS_SWITCHOVERS=50 cargo test --release --test chaos switchovers -- --nocapture
//! ```
//! See `docs/chaos.md`. Where namespaces cannot be made, the part that needs them says `SKIPPED`.

#[path = "chaos/clients.rs"]
mod clients;
#[path = "chaos/cluster.rs"]
mod cluster;
#[path = "chaos/dice.rs"]
mod dice;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/handover.rs"]
mod handover;
#[path = "history/mod.rs"]
mod history;
#[path = "chaos/hosts.rs"]
mod hosts;
#[path = "chaos/observer.rs"]
mod observer;
#[path = "chaos/report.rs"]
mod report;
#[path = "chaos/rounds.rs"]
mod rounds;
#[path = "chaos/saturated.rs"]
mod saturated;
#[path = "chaos/wire.rs"]
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::Shape;
use faults::{Kind, schedule};
use report::Report;
use rounds::Run;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

fn long() -> bool {
    std::env::var_os("UNDERSTUDY_LONG").is_some_and(|value| value == "1")
}

/// The seed given, or one of the clock's.
fn seed() -> u64 {
    number("CHAOS_SEED").unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .expect("the clock is past 1970");
        now.as_millis() as u64 % 1_000_000
    })
}

/// One run at a time: what one does to the machine's cores must not be the other's fault.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed while it held this harms no other.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kinds asked for among those possible.
fn kinds(possible: &[Kind]) -> Vec<Kind> {
    let Ok(names) = std::env::var("CHAOS_KINDS") else {
        return possible.to_vec();
    };
    let named = names.split(',').map(|name| {
        Kind::named(name).unwrap_or_else(|| panic!("CHAOS_KINDS: there is no fault {name:?}"))
    });
    named.filter(|kind| possible.contains(kind)).collect()
}

/// Half of the faults on each set-up; some with refusals that do not count as death.
fn chaos(hosts: bool, possible: &[Kind], faults: u64, title: &str) {
    let (seed, kinds) = (seed(), kinds(possible));
    println!("{title}: CHAOS_SEED={seed} CHAOS_FAULTS={faults}");
    let mut report = Report::default();
    let mut floor = None;
    for (half, shape) in [(0, Shape::ThreeSync), (1, Shape::PairAndWitness)] {
        let faults = (faults + 1 - half) / 2;
        let not_dead = self::kinds(&Kind::NOT_DEAD);
        let apart = match (hosts && !not_dead.is_empty(), kinds.is_empty()) {
            (false, _) => 0,
            (true, true) => faults,
            (true, false) => faults / 5,
        };
        let plans = [
            (kinds.as_slice(), faults - apart),
            (not_dead.as_slice(), apart),
        ];
        for (part, (kinds, faults)) in (0..).zip(plans) {
            if faults == 0 || kinds.is_empty() {
                continue;
            }
            let seed = seed.wrapping_add(half * 1_000_003 + part * 2_000_003);
            let not_dead = part == 1;
            let flag = if not_dead {
                ", refused_is_dead = false"
            } else {
                ""
            };
            let title = format!("{title}, {}{flag}", shape.name());
            println!("{title}: {faults} faults");
            let run = Run {
                shape,
                seed,
                schedule: &schedule(seed, shape, kinds, faults as usize),
                hosts,
                not_dead,
                title,
            };
            floor = Some(rounds::run(&run, &mut report));
        }
    }
    if let Some(floor) = floor {
        report.print(title, &floor);
    }
}

#[test]
fn processes() {
    let faults = number("CHAOS_FAULTS").unwrap_or(if long() { 300 } else { 4 });
    let _alone = alone();
    chaos(false, &Kind::LOOPBACK, faults, "processes on loopback");
}

#[test]
fn hosts_of_their_own() {
    if let Some(why) = hosts::missing() {
        println!("SKIPPED: no hosts in network namespaces here: {why}");
        return;
    }
    let _alone = alone();
    if let Some(well) = hosts::enter("hosts_of_their_own") {
        assert!(well, "the run inside failed; it said why above");
        return;
    }
    let faults = number("CHAOS_FAULTS").unwrap_or(if long() { 300 } else { 6 });
    let mut possible = Kind::HOSTS.to_vec();
    if !hosts::can_throttle() {
        println!("SKIPPED: no block throttle here, so no slow disks");
        possible.retain(|kind| *kind != Kind::DiskSlow);
    }
    chaos(true, &possible, faults, "hosts in namespaces");
}

#[test]
fn saturated_cores_make_no_takeover() {
    let minutes = number("CHAOS_MINUTES").unwrap_or(if long() { 10 } else { 0 });
    let span = match minutes {
        0 => Duration::from_secs(3),
        minutes => Duration::from_secs(60 * minutes),
    };
    let _alone = alone();
    for shape in [Shape::ThreeSync, Shape::PairAndWitness] {
        saturated::run(shape, span);
    }
}

#[test]
fn switchovers_cost_no_request() {
    let times = number("CHAOS_SWITCHOVERS").unwrap_or(if long() { 50 } else { 3 });
    let _alone = alone();
    for shape in [Shape::ThreeSync, Shape::PairAndWitness] {
        handover::run(shape, times);
    }
}
