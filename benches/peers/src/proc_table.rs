//! CPU time and memory of processes, from `/proc`.
//!
//! A tree's CPU time is what its living members used plus what they took over from children that
//! ended and were waited for; so a backend that comes and goes (PostgreSQL's, Redis's rewriting
//! child) is counted, and the sum never falls. The kernel counts in ticks of 10 ms.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

/// One reading of the process table.
#[derive(Debug)]
pub struct ProcTable {
    rows: Vec<Row>,
    busy: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    pid: u32,
    parent: u32,
    /// Ticks of the process and of the children it waited for.
    own: u64,
    children: u64,
}

impl ProcTable {
    /// Reads the table now.
    pub fn read() -> io::Result<ProcTable> {
        let mut rows = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end between the listing and here.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            rows.extend(parse(pid, &stat));
        }
        let machine = fs::read_to_string("/proc/stat")?;
        Ok(ProcTable {
            rows,
            busy: ticks(busy_ticks(&machine)),
        })
    }

    /// CPU time, user and system, of these processes and everything below them.
    pub fn tree_time(&self, roots: &[u32]) -> Duration {
        let members = self.tree(roots);
        let rows = self.rows.iter().filter(|row| members.contains(&row.pid));
        ticks(rows.map(|row| row.own + row.children).sum())
    }

    /// CPU time of the whole machine: all processes, the kernel's threads included, and what the
    /// host took away. Not what interrupts took: loopback's packets are among them, which is work
    /// for whoever is measured.
    pub fn machine_time(&self) -> Duration {
        self.busy
    }

    /// CPU time of this process alone, without any child.
    pub fn own_time(&self) -> Duration {
        let own = std::process::id();
        let row = self.rows.iter().find(|row| row.pid == own);
        ticks(row.map_or(0, |row| row.own))
    }

    /// These processes and everything below them.
    pub fn tree(&self, roots: &[u32]) -> BTreeSet<u32> {
        let mut members: BTreeSet<u32> = roots.iter().copied().collect();
        loop {
            let before = members.len();
            let below = |row: &&Row| members.contains(&row.parent);
            let more: Vec<u32> = self.rows.iter().filter(below).map(|row| row.pid).collect();
            members.extend(more);
            if members.len() == before {
                return members;
            }
        }
    }
}

/// Resident memory of one process, bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// From the first line of `/proc/stat`: user, nice, system, (idle, waiting, irq, softirq), steal.
fn busy_ticks(stat: &str) -> u64 {
    const BUSY: [usize; 4] = [1, 2, 3, 8];
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    BUSY.into_iter().filter_map(number).sum()
}

/// The name in parentheses may hold anything, so fields are counted behind its last parenthesis.
fn parse(pid: u32, stat: &str) -> Option<Row> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Row {
        pid,
        parent: number(1)? as u32,
        own: number(11)? + number(12)?,
        children: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_process_calls_itself() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        let expected = Row {
            pid: 7,
            parent: 3,
            own: 120,
            children: 4,
        };
        assert_eq!(parse(7, line), Some(expected));
        assert_eq!(parse(7, ""), None);
    }

    #[test]
    fn idling_and_interrupts_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 9\n"), 39);
    }

    #[test]
    fn a_tree_has_all_below_its_roots_and_nothing_else() {
        let row = |pid, parent| Row {
            pid,
            parent,
            own: 100,
            children: 0,
        };
        let table = ProcTable {
            rows: vec![row(4, 3), row(3, 2), row(2, 1), row(5, 1), row(6, 5)],
            busy: Duration::ZERO,
        };
        assert_eq!(table.tree(&[2]), BTreeSet::from([2, 3, 4]));
        assert_eq!(table.tree_time(&[2, 5]), ticks(500));
    }
}
