//! What the system counts of this process, where it has Linux's `/proc`.

use std::time::Duration;

/// What it used so far, and uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of cores in the program.
    pub user: Duration,
    /// Time of cores in the system, for it.
    pub system: Duration,
    /// Bytes of memory.
    pub resident: u64,
}

/// Now; nothing where it cannot be read.
pub fn process_usage() -> Usage {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let (user, system) = times(&read("/proc/self/stat")).unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let span = |count: u64| Duration::from_millis(count.saturating_mul(1000) / ticks);
    let pages = pages(&read("/proc/self/statm")).unwrap_or_default();
    Usage {
        user: span(user),
        system: span(system),
        resident: pages * rustix::param::page_size() as u64,
    }
}

/// The 14th and 15th field. The second is the program's name in brackets, which may hold anything.
fn times(stat: &str) -> Option<(u64, u64)> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    Some((next()?, next()?))
}

/// The second field.
fn pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 -1 5 6 7 8 9 250 75 0 0 20 0 3 0 1000";
        assert_eq!(times(stat), Some((250, 75)));
        assert_eq!(times("7 (x"), None);
        assert_eq!(pages("900 321 5 0 0 0 0\n"), Some(321));
        assert_eq!(pages(""), None);
        assert!(process_usage().resident > 0, "this process has memory");
    }
}
