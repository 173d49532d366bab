//! File descriptors: as many as all clients may need, and a reserve for the log, the peers and HTTP.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For what is not a client: segments, snapshots, peers, HTTP.
const RESERVE: u64 = 512;

/// Sees to it that so many clients can be served beside all else.
///
/// # Errors
///
/// How many can, where the system does not allow as many.
pub fn allow_clients(clients: u32) -> Result<(), u32> {
    let wanted = u64::from(clients) + RESERVE;
    let limits = getrlimit(Resource::Nofile);
    let Some(now) = limits.current.filter(|now| *now < wanted) else {
        return Ok(());
    };
    let maximum = limits.maximum.filter(|maximum| *maximum < wanted);
    // Only a process with the right to do so gets above its own maximum.
    let above = (wanted, maximum.map_or(limits.maximum, |_| Some(wanted)));
    let within = (maximum.unwrap_or(wanted), limits.maximum);
    for (current, maximum) in [above, within] {
        let asked = Rlimit {
            current: Some(current),
            maximum,
        };
        if setrlimit(Resource::Nofile, asked).is_ok() {
            return fits(clients, current);
        }
    }
    fits(clients, now)
}

/// With so many descriptors; where they are few, half of them are the clients'.
fn fits(clients: u32, descriptors: u64) -> Result<(), u32> {
    let reserve = RESERVE.min(descriptors / 2);
    let room = u32::try_from(descriptors - reserve).unwrap_or(u32::MAX);
    match room >= clients {
        true => Ok(()),
        false => Err(room.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left() {
        assert_eq!(fits(10_000, 10_512), Ok(()));
        assert_eq!(fits(10_000, 10_511), Err(9_999));
        assert_eq!(fits(10_000, 1024), Err(512));
        assert_eq!(fits(10_000, 256), Err(128));
        assert_eq!(fits(10_000, 0), Err(1));
    }
}
