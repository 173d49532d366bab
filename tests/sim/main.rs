//! Whole clusters in virtual time, from one seed: the real machine, log, keyspace, driver and
//! sessions over a simulated network, simulated disks and clocks that differ.
//!
//! `cargo test --test sim` runs a slice. `docs/testing.md` names the long run. A failing seed is
//! replayed with `SIM_SEED=n`, which prints its trace; the same seed is the same trace, byte for
//! byte.

#![cfg(tokio_unstable)]

mod clients;
mod cluster;
mod faults;
mod host;
mod illness;
mod net;
mod oracle;
mod process;
mod random;
mod rot;
mod run;
mod stories;

#[cfg(feature = "mutants")]
mod mutants;

#[path = "../history/mod.rs"]
mod history;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster::Shape;
use run::{LAGGING_IN_BYTES, SHAPES, Sum, Verdict, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How to see a failing seed again.
fn replay(shape: &str, seed: u64, why: &str) -> String {
    format!(
        "{shape} seed {seed}: {why}\nSIM_SEED={seed} cargo test --test sim {shape} -- --exact \
         --nocapture"
    )
}

fn seeds_are_clean(shape: usize, default: u64) {
    are_clean(SHAPES[shape], default);
}

fn are_clean(shape: Shape, default: u64) {
    let (first, count) = match number("SIM_SEED") {
        Some(seed) => (seed, 1),
        // Not optimized they take fifteen times as long.
        None if cfg!(debug_assertions) => (0, number("SIM_SEEDS").unwrap_or(default / 4)),
        None => (0, number("SIM_SEEDS").unwrap_or(3 * default)),
    };
    if std::env::var("SIM_LOG").is_ok() {
        // What the nodes themselves log, between the lines of the trace.
        let _ = tracing_subscriber::fmt().without_time().try_init();
    }
    let mut sum = Sum::default();
    for seed in first..first + count {
        let verdict = run(shape, seed, count == 1);
        if count == 1 {
            println!("{}", verdict.trace);
        }
        if let Some(why) = &verdict.failed {
            panic!("{}", replay(shape.name, seed, why));
        }
        sum.add(&verdict);
    }
    println!("{}: {sum}", shape.name);
    assert!(sum.acknowledged > 0, "no client was ever answered");
    assert!(sum.sums.fresh > 0, "no standby ever knew how old it was");
}

#[test]
fn witness() {
    seeds_are_clean(0, 20);
}

#[test]
fn three() {
    seeds_are_clean(1, 20);
}

#[test]
fn five() {
    seeds_are_clean(2, 10);
}

#[test]
fn two_witnesses() {
    seeds_are_clean(3, 10);
}

#[test]
fn received() {
    seeds_are_clean(4, 20);
}

#[test]
fn lagging() {
    seeds_are_clean(5, 20);
}

#[test]
fn lagging_in_bytes() {
    are_clean(LAGGING_IN_BYTES, 20);
}

/// The same seed is the same trace, byte for byte. `SIM_SEED` names another one. (In this one memory loses
/// a bit in most shapes. Seed 77 was two traces in one run of a hundred: the hash of the keyspace had a
/// seed of the operating system's, so that the scrub came by the lost bit at another moment.)
#[test]
fn a_seed_is_a_trace() {
    let seed = number("SIM_SEED").unwrap_or(89);
    for shape in SHAPES {
        let one: Verdict = run(shape, seed, true);
        let two = run(shape, seed, true);
        assert!(one.trace.len() > 1000, "a trace says what happened");
        if one.trace != two.trace {
            let (one, two): (Vec<_>, Vec<_>) =
                (one.trace.lines().collect(), two.trace.lines().collect());
            let same = one.iter().zip(&two).take_while(|(a, b)| a == b).count();
            let from = same.saturating_sub(20);
            panic!(
                "{}: two traces of seed {seed}, from line {same} on:\n{:#?}\nand\n{:#?}",
                shape.name,
                &one[from..one.len().min(same + 10)],
                &two[same..two.len().min(same + 10)]
            );
        }
    }
}

/// Seeds for as long as `SIM_MINUTES` says, from `SIM_FROM` on, on every core, every shape in
/// turn. Says each minute how far it is; the first ten failing seeds are told, and fail the test.
#[test]
#[ignore = "runs for SIM_MINUTES; docs/testing.md says how"]
fn long() {
    let minutes = number("SIM_MINUTES").unwrap_or(60);
    let (began, end) = (Instant::now(), Duration::from_secs(60 * minutes));
    let first = number("SIM_FROM").unwrap_or(1_000_000);
    let next = AtomicU64::new(first);
    let over = AtomicBool::new(false);
    let sums: Mutex<Vec<Sum>> = Mutex::new(SHAPES.iter().map(|_| Sum::default()).collect());
    let failures: Mutex<Vec<String>> = Mutex::default();
    let tell = || {
        let seeds: u64 = sums.lock().expect("no panic").iter().map(|s| s.seeds).sum();
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        let failed = failures.lock().expect("no panic").len();
        println!(
            "{seeds} seeds in {:.1} min, {:.0} seeds/hour, {failed} failed",
            hours * 60.0,
            seeds as f64 / hours
        );
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        for _ in 0..cores {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && began.elapsed() < end {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let place = (seed % SHAPES.len() as u64) as usize;
                    let verdict = run(SHAPES[place], seed, false);
                    if let Some(why) = &verdict.failed {
                        let told = replay(SHAPES[place].name, seed, why);
                        println!("FAILED {told}");
                        let mut failures = failures.lock().expect("no panic");
                        failures.push(told);
                        over.fetch_or(failures.len() >= 10, Ordering::Relaxed);
                    }
                    sums.lock().expect("no panic")[place].add(&verdict);
                }
                over.store(true, Ordering::Relaxed);
            });
        }
        let mut told = Instant::now();
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            if told.elapsed() > Duration::from_secs(60) {
                told = Instant::now();
                tell();
            }
        }
    });
    tell();
    let sums = sums.into_inner().expect("no panic");
    for (shape, sum) in SHAPES.iter().zip(&sums) {
        println!("{}: {sum}", shape.name);
    }
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
