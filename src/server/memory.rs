//! MEMORY: what is known of the memory that keys and values take.

use bytes::Bytes;

use super::Server;
use crate::command::MemoryCommand;
use crate::resp::Reply;

pub(super) fn answer(server: &Server, command: &MemoryCommand) -> Reply {
    match command {
        MemoryCommand::Stats => stats(server),
        MemoryCommand::Doctor => Reply::Verbatim(*b"txt", Bytes::from_static(doctor(server))),
    }
}

/// Redis's names for what is counted here; what is not is left out.
fn stats(server: &Server) -> Reply {
    let (keys, _, bytes) = server.node.store.size();
    let count = |name, number: usize| (Reply::text(name), Reply::Integer(number as i64));
    Reply::Map(vec![
        count("keys.count", keys),
        count("keys.bytes-per-key", bytes.checked_div(keys).unwrap_or(0)),
        count("dataset.bytes", bytes),
    ])
}

/// Bytes below which Redis finds nothing worth a diagnosis.
const LITTLE: usize = 5 << 20;

fn doctor(server: &Server) -> &'static [u8] {
    let (_, _, bytes) = server.node.store.size();
    if bytes < LITTLE {
        return b"Hi Sam, this instance is empty or is using very little memory, my issues detector can't be \
used in these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and \
I will be back to our programming as soon as I finished rebooting.\n";
    }
    b"Keys and values take what INFO memory calls used_memory; that memory holds what was written to it is \
proven by the memory scrub (limits.memory_scrub), and there is nothing else to find here.\n"
}
