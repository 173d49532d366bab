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
mod net;
mod oracle;
mod process;
mod random;
mod run;

#[path = "../history/mod.rs"]
mod history;

use run::{SHAPES, Verdict, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds_are_clean(shape: usize, default: u64) {
    let shape = SHAPES[shape];
    let (first, count) = match number("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SIM_SEEDS").unwrap_or(default)),
    };
    let mut sum = run::Sum::default();
    for seed in first..first + count {
        let verdict = run(shape, seed, count == 1);
        if count == 1 {
            println!("{}", verdict.trace);
        }
        if let Some(why) = &verdict.failed {
            panic!(
                "{} seed {seed}: {why}\nSIM_SEED={seed} cargo test --test sim {} -- --exact --nocapture",
                shape.name, shape.name
            );
        }
        sum.add(&verdict);
    }
    println!("{}: {sum}", shape.name);
    assert!(sum.acknowledged > 0, "no client was ever answered");
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

/// The same seed is the same trace, byte for byte.
#[test]
fn a_seed_is_a_trace() {
    for shape in SHAPES {
        let one: Verdict = run(shape, 77, true);
        let two = run(shape, 77, true);
        assert!(one.trace.len() > 1000, "a trace says what happened");
        assert!(
            one.trace == two.trace,
            "{}: two traces of one seed",
            shape.name
        );
    }
}
