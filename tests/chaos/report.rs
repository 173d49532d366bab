//! What a run was like, as a table.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::faults::Kind;

/// Times in microseconds, up to ten minutes, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order")
}

/// The faults of one kind.
struct Row {
    faults: u64,
    on_primary: u64,
    takeovers: u64,
    /// Hit the primary, and writes went on only once it was healed.
    until_healed: u64,
    gaps_us: Histogram<u64>,
}

/// Sums of a run.
#[derive(Default)]
pub struct Report {
    rows: BTreeMap<String, Row>,
    pub operations: u64,
    pub unknown: u64,
    pub refused: u64,
    pub ledger: u64,
    pub sightings: u64,
    pub histories: u64,
    pub steps: u64,
    pub errors: BTreeMap<String, u64>,
    pub slowest_recovery_ms: u64,
}

/// What one fault did to those who write.
pub struct Effect {
    pub kind: Kind,
    /// The cluster does not take a refused connect for a death.
    pub not_dead: bool,
    pub doubled: bool,
    pub hit_primary: bool,
    pub took_over: bool,
    pub gap_us: Option<u64>,
    pub until_healed: bool,
    pub recovery_ms: u64,
}

impl Report {
    pub fn add(&mut self, effect: &Effect) {
        let name = match (effect.doubled, effect.not_dead) {
            (true, _) => "two at once".to_owned(),
            (false, true) => format!("{} *", effect.kind.name()),
            (false, false) => effect.kind.name().to_owned(),
        };
        let row = self.rows.entry(name).or_insert_with(|| Row {
            faults: 0,
            on_primary: 0,
            takeovers: 0,
            until_healed: 0,
            gaps_us: histogram(),
        });
        row.faults += 1 + u64::from(effect.doubled);
        row.takeovers += u64::from(effect.took_over);
        if effect.hit_primary {
            row.on_primary += 1;
            row.until_healed += u64::from(effect.until_healed);
            if let Some(gap) = effect.gap_us {
                row.gaps_us.saturating_record(gap);
            }
        }
        self.slowest_recovery_ms = self.slowest_recovery_ms.max(effect.recovery_ms);
    }

    pub fn faults(&self) -> u64 {
        self.rows.values().map(|row| row.faults).sum()
    }

    /// The table. Gaps are of faults that hit the primary: from the last write acknowledged before
    /// it to the first one after.
    pub fn print(&self, title: &str, floor: &Floor) {
        println!("\n{title}: {} faults", self.faults());
        println!(
            "{:<14}{:>7}{:>9}{:>10}{:>12}{:>12}{:>12}{:>9}",
            "fault",
            "faults",
            "primary",
            "takeovers",
            "gap p50 ms",
            "gap p99 ms",
            "gap max ms",
            "healed"
        );
        for (name, row) in &self.rows {
            let ms = |us: u64| {
                if row.gaps_us.is_empty() {
                    "-".to_owned()
                } else {
                    format!("{:.1}", us as f64 / 1000.0)
                }
            };
            println!(
                "{name:<14}{:>7}{:>9}{:>10}{:>12}{:>12}{:>12}{:>9}",
                row.faults,
                row.on_primary,
                row.takeovers,
                ms(row.gaps_us.value_at_quantile(0.50)),
                ms(row.gaps_us.value_at_quantile(0.99)),
                ms(row.gaps_us.max()),
                row.until_healed,
            );
        }
        println!("* with refused_is_dead = false");
        println!(
            "operations {} (unknown {}, refused {}), ledger {}, acts of primaries seen {}",
            self.operations, self.unknown, self.refused, self.ledger, self.sightings
        );
        println!(
            "histories {} linearizable ({} steps); slowest recovery after healing {} ms; errors {:?}",
            self.histories, self.steps, self.slowest_recovery_ms, self.errors
        );
        println!("{floor}");
    }
}

/// What nothing can be faster than on this machine, measured in the same run.
pub struct Floor {
    round_trip_us: Histogram<u64>,
    sync_us: Histogram<u64>,
}

impl Floor {
    /// Two hundred round trips on loopback, and two hundred appends with fdatasync in `folder`.
    pub fn measure(folder: &Path) -> std::io::Result<Floor> {
        Ok(Floor {
            round_trip_us: round_trips()?,
            sync_us: syncs(&folder.join("floor"))?,
        })
    }
}

impl std::fmt::Display for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        let both = |h: &Histogram<u64>| {
            let (p50, p99) = (h.value_at_quantile(0.5), h.value_at_quantile(0.99));
            format!("p50 {:.3} ms, p99 {:.3} ms", ms(p50), ms(p99))
        };
        write!(
            f,
            "floor: loopback round trip {}; fdatasync {}",
            both(&self.round_trip_us),
            both(&self.sync_us)
        )
    }
}

fn round_trips() -> std::io::Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (mut there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(there.read(&mut byte), Ok(1)) && there.write_all(&byte).is_ok() {}
    });
    let mut times = histogram();
    for _ in 0..200 {
        let began = Instant::now();
        here.write_all(b"x")?;
        here.read_exact(&mut [0])?;
        times.saturating_record(began.elapsed().as_micros() as u64);
    }
    drop(here);
    // It ends with its connection.
    let _ = echo.join();
    Ok(times)
}

fn syncs(path: &Path) -> std::io::Result<Histogram<u64>> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(&vec![0; 256 << 10])?;
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let mut times = histogram();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[1; 512])?;
        file.sync_data()?;
        times.saturating_record(began.elapsed().as_micros() as u64);
    }
    std::fs::remove_file(path)?;
    Ok(times)
}
