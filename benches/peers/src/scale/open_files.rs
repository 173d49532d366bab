//! Room for thousands of connections: the limit on open files of this process, which the servers
//! that it starts inherit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of a process beside its connections: logs, segments, sockets between nodes.
const OTHER_FILES: u64 = 200;

/// Raises the limit so that `connections` fit; as root even above what is allowed.
pub fn allow(connections: u64) -> anyhow::Result<()> {
    let needed = connections + OTHER_FILES;
    let now = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if is_enough(now.current) {
        return Ok(());
    }
    let maximum = match is_enough(now.maximum) {
        true => now.maximum,
        false => Some(needed),
    };
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        anyhow::anyhow!(
            "{connections} clients need {needed} open files, and this process may not have so many \
             ({error}); raise the limit with ulimit -Hn {needed}, or leave the axis clients out"
        )
    })
}
