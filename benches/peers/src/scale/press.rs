//! One load on one target: the throughput, the latencies and the CPU time of it.

use anyhow::Context as _;

use super::Run;
use super::axis::Axis;
use super::results::Place;
use super::sides::{Sides, Target};
use crate::cells::{Operation, Shape};
use crate::measure::{Load, Measured, Meter};
use crate::ring::{LOAD_PATIENCE, WARM_UP};
use crate::systems::resp;

/// All values together, at most, bytes: large ones are given to fewer keys.
const DATA_BYTES: u64 = 200_000_000;

/// Values outstanding at all clients together, bytes, that a load of the length asked for is long
/// enough for: only what ends in time counts, and with more of them that would be a few.
const OUTSTANDING_BYTES: usize = 20_000_000;

/// What is pressed with.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// Number of keys, all present.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Connections.
    pub clients: usize,
    /// Requests outstanding on each.
    pub pipeline: usize,
}

impl Pressure {
    /// 50 clients without a pipeline, 100,000 keys, values of 100 bytes.
    pub const STANDARD: Pressure = Pressure {
        keys: 100_000,
        value_bytes: 100,
        clients: 50,
        pipeline: 1,
    };

    /// At this point of an axis: standard, but for what the axis is about.
    pub fn at(axis: Axis, at: u64) -> Pressure {
        let (count, standard) = (at as usize, Pressure::STANDARD);
        match axis {
            Axis::Keys => Pressure {
                keys: at,
                ..standard
            },
            Axis::Values => Pressure {
                keys: (DATA_BYTES / at).min(standard.keys),
                value_bytes: count,
                ..standard
            },
            Axis::Clients => Pressure {
                clients: count,
                ..standard
            },
            Axis::Pipeline => Pressure {
                pipeline: count,
                ..standard
            },
            Axis::Standbys | Axis::Replay | Axis::CatchUp => standard,
        }
    }
}

impl Run<'_> {
    /// Presses everybody in turn, once with each of these operations.
    pub async fn press(
        &mut self,
        sides: &mut Sides,
        place: Place,
        pressure: Pressure,
        operations: &[Operation],
    ) -> anyhow::Result<()> {
        for operation in operations {
            for index in 0..sides.targets()?.len() {
                let began_quiet = sides.wait_quiet().await?;
                let targets = sides.targets()?;
                let target = &targets[index];
                let roots = targets.iter().flat_map(|other| &other.roots).copied();
                let others = roots.filter(|pid| !target.roots.contains(pid)).collect();
                let mut meter = Meter::new(target.roots.clone(), others);
                let load = self.load(place, pressure, *operation);
                let outcome = press_one(target, &load, &mut meter).await;
                let line = target.who.line();
                let usage = meter.usage();
                let shape = load.shape;
                let measured = Measured::new(place.round, line, shape, began_quiet, usage, outcome);
                self.note_load(place, target, pressure, &measured);
            }
        }
        Ok(())
    }

    fn load(&self, place: Place, pressure: Pressure, operation: Operation) -> Load {
        let secs = self.args.secs;
        let outstanding = pressure.clients * pressure.pipeline * pressure.value_bytes;
        let longer = (outstanding / OUTSTANDING_BYTES).max(1) as u32;
        Load {
            shape: Shape::new(operation, pressure.clients, pressure.pipeline),
            keys: pressure.keys,
            value_bytes: pressure.value_bytes,
            warm_up: WARM_UP.min(secs / 8),
            length: secs * longer,
            seed: u64::from(place.round),
        }
    }

    fn note_load(&mut self, place: Place, target: &Target, with: Pressure, measured: &Measured) {
        let name = measured.shape.operation.name();
        let mut text = format!("{:.0} {name}/s", measured.per_second);
        if measured.is_disturbed() {
            text.push_str(", disturbed by other work");
        }
        if let Some(error) = &measured.first_error {
            text.push_str(&format!(", {} ERRORS: {error}", measured.errors));
        }
        self.say(place, target.who, &text);
        self.results
            .add_load(place, target.who, with.value_bytes, measured);
    }
}

async fn press_one(
    target: &Target,
    load: &Load,
    meter: &mut Meter,
) -> anyhow::Result<understudy::cli::load::throughput::LoadResult> {
    let waits = match load.shape.operation {
        Operation::Set => target.wait_replicas,
        Operation::Get => 0,
    };
    let patience = load.warm_up + load.length + LOAD_PATIENCE;
    let pressing = resp::run(target.address, waits, load, meter);
    let pressed = tokio::time::timeout(patience, pressing).await;
    pressed.with_context(|| format!("the load did not end within {patience:?}"))?
}
