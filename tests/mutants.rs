//! Each rule of `docs/protocol.md` left out of the machines in turn: the model must find a fault,
//! in a bounded number of seeds, where whole machines pass the same seeds.
//!
//! `cargo test --features mutants --test mutants -- --nocapture` prints the rule, what broke, the
//! start, the seed and the steps. `MUTANT=R5` hunts only the rules whose names begin so;
//! `--ignored` hunts each from every start and prints all that catch it.

#[path = "model/mod.rs"]
mod model;

use std::collections::BTreeSet;
use std::ops::Range;

use model::scenes::SCENES;
use model::search::{Outcome, walk_seeds, walk_stage};
use model::setups;
use model::stages::STAGES;
use model::world::Bounds;
use understudy::replica::{Guard, MaxLoss};

/// Seeds walked before a mutant counts as a survivor.
const SEEDS: u64 = 200;

/// Where a hunt starts.
#[derive(Clone, Copy)]
enum Start {
    /// A scene with a demand; one run.
    Scene(&'static str),
    /// A stage, and calm walks of 300 steps from there.
    Stage(&'static str),
    /// A cluster that has begun, and walks of 500 steps through every fault.
    Setup(&'static str, fn() -> Bounds),
}

impl Start {
    fn name(&self) -> &'static str {
        let (Start::Scene(name) | Start::Stage(name) | Start::Setup(name, _)) = self;
        name
    }
}

const WITNESS: Start = Start::Setup("two and a witness", setups::witness);
const THREE: Start = Start::Setup("three in sync", setups::three);
const APPLIED: Start = Start::Setup("three at applied", setups::applied);

/// Each mutant, and from where it is caught. That it shows in other places, too, is usual.
const HUNTS: &[(Guard, Start)] = &[
    (Guard::R1, WITNESS),
    (Guard::R1Begin, Start::Stage("a blank node alone")),
    (Guard::R4, Start::Stage("a replaced standby")),
    (Guard::R5Majority, WITNESS),
    (Guard::R5OneProposal, Start::Stage("an unheard recording")),
    (Guard::R6Old, WITNESS),
    (Guard::R6New, Start::Stage("an unheard recording")),
    (Guard::R6Met, Start::Stage("released elsewhere")),
    (Guard::R7Synced, Start::Stage("an unsynced survivor")),
    (Guard::R7AtOnce, Start::Scene("alone at once")),
    (Guard::R8, WITNESS),
    (Guard::R9Release, APPLIED),
    (Guard::R9Reply, APPLIED),
    (Guard::R10NewestRule, Start::Stage("fallen back")),
    (Guard::R10Members, Start::Stage("fallen back")),
    (Guard::R10Log, THREE),
    (Guard::R11Vote, WITNESS),
    (Guard::R11Known, Start::Stage("a relearned vote")),
    (Guard::R11Restart, Start::Stage("a late vote")),
    (Guard::R11Disk, Start::Scene("a vote for another disk")),
    (Guard::R12Lease, Start::Stage("a restarted voter")),
    (Guard::R12Own, Start::Stage("one promise left")),
    (Guard::R12Restart, Start::Stage("a restarted voter")),
    (Guard::R12Longest, Start::Stage("a restarted voter")),
    (Guard::R12Margin, Start::Stage("drifting clocks")),
    (Guard::R13, Start::Scene("a lonely node")),
    (Guard::R14Forgot, Start::Stage("a rebooted standby")),
    (Guard::R14GaveUp, Start::Stage("a log given up")),
    (Guard::R14CaughtUp, Start::Stage("a rebooted standby")),
    (Guard::R15Process, Start::Stage("an old process")),
    (Guard::R15Hearsay, Start::Stage("one promise left")),
    (Guard::R16, Start::Scene("one-way loss")),
    (Guard::R18Lease, THREE),
    (Guard::R18Epoch, WITNESS),
    (Guard::R20Named, Start::Stage("a delayed abdication")),
    (Guard::R20Over, Start::Scene("a late heartbeat")),
    (Guard::R21Budget, Start::Stage("fallen back")),
    (Guard::R21Unknown, Start::Stage("a forgetful laggard")),
    (Guard::R21Majority, Start::Stage("a forced minority")),
    (Guard::R22Leave, Start::Scene("promoted without the lost")),
    (Guard::R22Wait, Start::Stage("a hasty promotion")),
    (Guard::R22Leap, Start::Stage("an unheard epoch")),
    (Guard::R22Unheard, Start::Stage("an unheard epoch")),
    (Guard::R22Blank, Start::Stage("lost and found")),
    (Guard::R23, Start::Stage("an old tail")),
    (Guard::R24Vote, Start::Stage("a forgotten vote")),
    (Guard::R24Begin, THREE),
    (Guard::R25Majority, Start::Stage("a forgotten vote")),
    (Guard::R25Whole, Start::Stage("a replaced laggard")),
    (Guard::R25Lease, Start::Stage("a forgotten promise")),
    (Guard::R26, Start::Stage("a forgotten vote")),
    (Guard::R29, Start::Stage("given up")),
];

/// What was found, if anything: by a scene, or on the way to or on a walk from the other starts.
fn hunt(start: Start, without: Option<Guard>, seeds: Range<u64>) -> Result<Outcome, String> {
    let left_out = |bounds: Bounds| Bounds { without, ..bounds };
    match start {
        Start::Scene(wanted) => {
            let named = SCENES.iter().find(|(name, ..)| *name == wanted);
            let (_, bounds, scene) = named.expect("the table names scenes that exist");
            match scene(left_out(bounds())) {
                Ok(()) => Ok(Outcome::default()),
                Err(violation) => Err(format!("{wanted}: {}", short(&violation.0))),
            }
        }
        Start::Stage(wanted) => {
            let named = STAGES.iter().find(|(name, ..)| *name == wanted);
            let (_, bounds, stage) = named.expect("the table names stages that exist");
            told(wanted, walk_stage(stage(left_out(bounds())), seeds, 300))
        }
        Start::Setup(name, bounds) => told(name, walk_seeds(&left_out(bounds()), seeds, 500)),
    }
}

fn told(start: &str, outcome: Outcome) -> Result<Outcome, String> {
    let Some(found) = &outcome.found else {
        return Ok(outcome);
    };
    let what = short(&found.what);
    let Some(seed) = found.seed else {
        return Err(format!("{start}, before the first walk: {what}"));
    };
    let end = if found.trace.is_empty() {
        "once healed".to_string()
    } else {
        format!("step {}", found.trace.len())
    };
    Err(format!("{start}, seed {seed}, {end}: {what}"))
}

fn short(what: &str) -> String {
    what.chars().take(120).collect()
}

/// Mutants run into assertions of their own, which a walk reports as its finding.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    let _ = std::panic::take_hook();
    result
}

fn chosen() -> impl Iterator<Item = &'static (Guard, Start)> {
    let only = std::env::var("MUTANT").unwrap_or_default();
    HUNTS
        .iter()
        .filter(move |(guard, _)| format!("{guard:?}").starts_with(&only))
}

#[test]
fn every_guard_is_hunted() {
    let hunted = |guard: &&Guard| HUNTS.iter().any(|(hunted, _)| hunted == *guard);
    let missing: Vec<&Guard> = Guard::ALL.iter().filter(|guard| !hunted(guard)).collect();
    assert!(missing.is_empty(), "no hunt for {missing:?}");
}

#[test]
fn every_mutant_is_caught() {
    let survivors: Vec<Guard> = quietly(|| {
        let survives = |(guard, start): &&(Guard, Start)| {
            let found = hunt(*start, Some(*guard), 0..SEEDS);
            match &found {
                Ok(_) => println!("{guard:?}: NOT CAUGHT"),
                Err(how) => println!("{guard:?}: {how}"),
            }
            found.is_ok()
        };
        chosen().filter(survives).map(|(guard, _)| *guard).collect()
    });
    assert!(
        survivors.is_empty(),
        "these rules can be left out unseen: {survivors:?}"
    );
}

/// With every rule kept, the same starts find nothing, in more seeds than any mutant above needs.
#[test]
fn whole_machines_pass_the_same_seeds() {
    let mut passed = BTreeSet::new();
    for (guard, start) in chosen() {
        if !passed.insert(start.name()) {
            continue;
        }
        if let Err(how) = hunt(*start, None, 0..SEEDS / 2) {
            panic!("where {guard:?} is hunted, nothing left out: {how}");
        }
    }
}

/// Everything that catches a mutant: a new stage or oracle may well catch more than it was made for.
#[test]
#[ignore = "ten minutes"]
fn every_start_for_every_mutant() {
    let scenes = SCENES.iter().map(|(name, ..)| Start::Scene(name));
    let stages = STAGES.iter().map(|(name, ..)| Start::Stage(name));
    let lagging = Start::Setup("async", || setups::lagging(MaxLoss::Records(2)));
    let walks = [WITNESS, THREE, APPLIED, lagging];
    let starts: Vec<Start> = scenes.chain(stages).chain(walks).collect();
    quietly(|| {
        for (guard, _) in chosen() {
            let caught = |start: &Start| hunt(*start, Some(*guard), 0..SEEDS / 2).err();
            let all: Vec<String> = starts.iter().filter_map(caught).collect();
            println!("{guard:?}:\n  {}", all.join("\n  "));
            assert!(!all.is_empty(), "nothing catches {guard:?}");
        }
    });
}
