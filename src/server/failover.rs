//! FAILOVER: a switchover, as `understudy switchover` orders it, in the words of Redis.
//!
//! Promise: nothing acknowledged is lost. The reply says that it has begun; how it ends is told by who
//! the primary is then, and by the log of this node where it came to nothing.

use super::Server;
use super::sentinel::host_port;
use crate::command::{FailoverCommand, FailoverTarget};
use crate::replica::{HANDOVER_PATIENCE, Input};
use crate::resp::Reply;
use crate::units::NodeId;

/// Begins it, or says why not; the checks stand in the order of Redis.
pub(super) fn answer(server: &Server, command: &FailoverCommand) -> Reply {
    let node = &server.node;
    let view = node.view();
    let FailoverCommand::Begin {
        to,
        force,
        timeout_ms,
    } = command
    else {
        return Reply::error(match view.paused {
            true => "ERR a switchover under way cannot be taken back; it ends within 5 s by itself",
            false => "ERR No failover in progress.",
        });
    };
    if view.paused {
        return Reply::error("ERR FAILOVER already in progress.");
    }
    if !node.gate_now().is_primary() {
        return Reply::error("ERR FAILOVER is not valid when server is a replica.");
    }
    if view.standbys.is_empty() {
        return Reply::error("ERR FAILOVER requires connected replicas.");
    }
    if *force {
        return Reply::error(
            "ERR FAILOVER FORCE could lose acknowledged writes; say FAILOVER without FORCE, or \
             `understudy promote --force` where the primary is gone",
        );
    }
    if timeout_ms.is_some_and(|ms| ms < HANDOVER_PATIENCE.as_ms()) {
        return Reply::error(
            "ERR a switchover that does not end is called off after 5000 ms; say TIMEOUT 5000 or \
             more, or none",
        );
    }
    let to = match to.as_ref().map(|target| standby_at(server, target)) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            return Reply::error("ERR FAILOVER target HOST and PORT is not a replica.");
        }
    };
    let connected = |id: NodeId| view.standbys.iter().any(|standby| standby.id == id);
    match to {
        Some(id) if !connected(id) || view.unfit.contains(&id) => {
            return Reply::error("ERR FAILOVER target replica is not online.");
        }
        None if view.successor.is_none() => {
            return Reply::error("ERR no standby that could take over is connected");
        }
        _ => {}
    }
    node.enter([Input::Switchover(to)]);
    Reply::OK
}

/// The data node, other than this one, that clients reach there.
fn standby_at(server: &Server, target: &FailoverTarget) -> Option<NodeId> {
    let settings = &server.node.settings;
    settings.other_data_nodes().find(|id| {
        settings.member(*id).is_some_and(|member| {
            let (host, port) = host_port(&member.client_addr);
            host.eq_ignore_ascii_case(&target.host) && port.parse() == Ok(target.port)
        })
    })
}
