//! What a run found: as text, as JSON, as a picture.

mod shows;
mod summary;
mod table;

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use understudy::cli::bench::machine::Machine;

use crate::cross_check::CrossCheck;
use crate::floor::Floor;
use crate::measure::Measured;
use crate::svg;

pub use shows::{Aim, Verdict, text as aims};
pub use summary::{Cell, cells};

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Rounds.
    pub rounds: u32,
    /// Seconds per measurement.
    pub secs: f64,
    /// Number of different keys.
    pub keys: u64,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Seed of the choice of keys.
    pub seed: u64,
    /// Whether Redis rewrites an append-only file that has grown.
    pub aof_rewrite: bool,
}

/// Growth of a server's resident memory while it was filled.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Which system.
    pub system: String,
    /// Growth over the number of keys.
    pub bytes_per_key: f64,
}

/// Everything measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// What was asked for.
    pub settings: Settings,
    /// Where and when.
    pub machine: Machine,
    /// The other systems' versions.
    pub versions: Vec<String>,
    /// CPU use of all servers together when nobody asks them anything, in cores.
    pub rest_cores: f64,
    /// Memory per key, where one process holds the keys.
    pub memory: Vec<Memory>,
    /// All measurements, in the order made.
    pub measured: Vec<Measured>,
    /// The floor, each round.
    pub floors: Vec<Floor>,
    /// redis-benchmark beside our client.
    pub checks: Vec<CrossCheck>,
    /// Why runs of redis-benchmark gave nothing.
    pub check_errors: Vec<String>,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(settings: Settings, machine: Machine) -> Results {
        Results {
            settings,
            machine,
            versions: Vec::new(),
            rest_cores: 0.0,
            memory: Vec::new(),
            measured: Vec::new(),
            floors: Vec::new(),
            checks: Vec::new(),
            check_errors: Vec::new(),
        }
    }

    /// The load in one line.
    pub fn describe(&self) -> String {
        let Settings {
            rounds,
            secs,
            keys,
            key_bytes,
            value_bytes,
            ..
        } = self.settings;
        format!(
            "{key_bytes}-byte keys drawn from {keys}, {value_bytes}-byte values, {secs} s per cell, \
             {rounds} rounds in turn, medians; all systems run, idle ones use {:.2} cores together; \
             the one client runs on this machine too",
            self.rest_cores
        )
    }
}

/// The middle value; of an even number the mean of the middle two; none of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

/// Prints the tables and the aims, and writes both files.
pub fn publish(results: &Results, json_file: &Path, svg_file: &Path) -> anyhow::Result<()> {
    let cells = cells(&results.measured);
    let verdicts = shows::verdicts(results);
    println!("{}", results.machine.describe());
    println!("{}\n{}\n", results.versions.join("; "), results.describe());
    println!("{}", table::cells(&cells));
    println!("{}", table::aside(results));
    println!("{}", shows::text(&verdicts));
    let document = json!({
        "schema": "understudy.ring/1",
        "machine": results.machine,
        "versions": results.versions,
        "settings": results.settings,
        "rest_cores": results.rest_cores,
        "memory": results.memory,
        "floor": results.floors,
        "cross_check": results.checks,
        "cross_check_errors": results.check_errors,
        "aims": verdicts,
        "cells": cells,
        "measured": results.measured,
    });
    write(
        json_file,
        &(serde_json::to_string_pretty(&document)? + "\n"),
    )?;
    write(svg_file, &svg::draw(results, &cells))
}

/// Writes one of the files that a run leaves.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
