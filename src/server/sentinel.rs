//! The Sentinel commands, on every node: so that Sentinel-aware clients follow a takeover with no
//! Sentinel running.

use bytes::Bytes;

use super::Server;
use super::session_commands::bulk;
use crate::command::SentinelCommand;
use crate::node::{MemberSettings, Node};
use crate::replica::Kind;
use crate::resp::Reply;
use crate::units::NodeId;

/// Host and port of an address.
pub(super) fn host_port(addr: &str) -> (String, String) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "0"));
    (
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_string(),
        port.to_string(),
    )
}

/// What Sentinel says on `+switch-master`: `<name> <old ip> <old port> <new ip> <new port>`.
pub(super) fn switch_message(
    node: &Node,
    old: Option<NodeId>,
    new: NodeId,
) -> (&'static str, String) {
    let place = |id: NodeId| {
        let member = node.settings.member(id);
        let (host, port) = host_port(member.map_or("", |member| &member.client_addr));
        format!("{host} {port}")
    };
    let name = &node.settings.name;
    (
        "+switch-master",
        format!("{name} {} {}", place(old.unwrap_or(new)), place(new)),
    )
}

pub(super) fn answer(server: &Server, command: &SentinelCommand) -> Reply {
    let node = &server.node;
    let named = |master: &Bytes| *master == node.settings.name.as_bytes();
    let unknown = Reply::error("ERR No such master with that name");
    match command {
        SentinelCommand::GetMasterAddrByName { master } if named(master) => match primary(node) {
            Some(member) => {
                let (host, port) = host_port(&member.client_addr);
                Reply::Array(vec![bulk(host), bulk(port)])
            }
            None => Reply::NullArray,
        },
        SentinelCommand::GetMasterAddrByName { .. } => Reply::NullArray,
        SentinelCommand::Masters => Reply::Array(
            primary(node)
                .map(|member| master(node, member))
                .into_iter()
                .collect(),
        ),
        SentinelCommand::Master { master: name } if named(name) => {
            primary(node).map_or(unknown, |member| master(node, member))
        }
        SentinelCommand::Replicas { master } if named(master) => {
            let primary = primary(node).map(|member| member.member.id);
            let data = node
                .settings
                .members
                .iter()
                .filter(|m| m.member.kind == Kind::Data);
            let standbys = data.filter(|member| Some(member.member.id) != primary);
            Reply::Array(standbys.map(|member| replica(node, member)).collect())
        }
        SentinelCommand::Sentinels { master } if named(master) => {
            let others = node
                .settings
                .members
                .iter()
                .filter(|m| m.member.id != node.id());
            Reply::Array(others.map(|member| sentinel(node, member)).collect())
        }
        SentinelCommand::Master { .. }
        | SentinelCommand::Replicas { .. }
        | SentinelCommand::Sentinels { .. } => unknown,
        SentinelCommand::MyId => bulk(run_id(node, node.id())),
        SentinelCommand::Ping => Reply::Simple("PONG".into()),
    }
}

fn primary(node: &Node) -> Option<&MemberSettings> {
    let id = node.gate_now().primary?;
    node.settings.member(id)
}

/// Forty hexadecimal digits, as Redis's run ids are: the cluster's and the node's.
pub(super) fn run_id(node: &Node, id: NodeId) -> String {
    format!("{:032x}{:08x}", node.gate_now().cluster, id.0)
}

fn fields(pairs: Vec<(&'static str, String)>) -> Reply {
    Reply::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (Reply::text(key), bulk(value)))
            .collect(),
    )
}

fn common(node: &Node, member: &MemberSettings, flags: String) -> Vec<(&'static str, String)> {
    let (host, port) = host_port(&member.client_addr);
    vec![
        ("name", format!("{host}:{port}")),
        ("ip", host),
        ("port", port),
        ("runid", run_id(node, member.member.id)),
        ("flags", flags),
        ("link-pending-commands", "0".into()),
        ("link-refcount", "1".into()),
        ("last-ping-sent", "0".into()),
        ("last-ok-ping-reply", "0".into()),
        ("last-ping-reply", "0".into()),
        (
            "down-after-milliseconds",
            node.settings.lease.as_millis().to_string(),
        ),
    ]
}

fn master(node: &Node, member: &MemberSettings) -> Reply {
    let gate = node.gate_now();
    let flags = if gate.suspected {
        "master,s_down,o_down"
    } else {
        "master"
    };
    let mut pairs = common(node, member, flags.into());
    if let Some(name) = pairs.first_mut() {
        name.1 = node.settings.name.clone();
    }
    let members = &node.settings.members;
    let data = members
        .iter()
        .filter(|m| m.member.kind == Kind::Data)
        .count();
    let voters = members.iter().filter(|m| m.member.vote).count();
    pairs.extend([
        ("info-refresh", "0".into()),
        ("role-reported", "master".into()),
        (
            "role-reported-time",
            node.started.elapsed().as_millis().to_string(),
        ),
        ("config-epoch", gate.epoch.to_string()),
        ("num-slaves", (data - 1).to_string()),
        ("num-other-sentinels", (members.len() - 1).to_string()),
        ("quorum", (voters / 2 + 1).to_string()),
        (
            "failover-timeout",
            node.tunables.write_timeout().as_millis().to_string(),
        ),
        ("parallel-syncs", "1".into()),
    ]);
    fields(pairs)
}

fn replica(node: &Node, member: &MemberSettings) -> Reply {
    let view = node.view();
    let id = member.member.id;
    let cursor = view.standbys.iter().find(|standby| standby.id == id);
    let connected = cursor.is_some() || !node.gate_now().is_primary();
    let flags = if connected {
        "slave"
    } else {
        "slave,s_down,disconnected"
    };
    let (host, port) =
        host_port(primary(node).map_or("?:0", |primary| primary.client_addr.as_str()));
    let mut pairs = common(node, member, flags.into());
    pairs.extend([
        ("info-refresh", "0".into()),
        ("role-reported", "slave".into()),
        (
            "role-reported-time",
            node.started.elapsed().as_millis().to_string(),
        ),
        ("master-link-down-time", "0".into()),
        (
            "master-link-status",
            if connected { "ok".into() } else { "err".into() },
        ),
        ("master-host", host),
        ("master-port", port),
        (
            "slave-priority",
            if member.member.priority == 0 {
                "0"
            } else {
                "100"
            }
            .into(),
        ),
        (
            "slave-repl-offset",
            cursor.map_or(0, |cursor| cursor.received.0).to_string(),
        ),
        ("replica-announced", "1".into()),
    ]);
    fields(pairs)
}

fn sentinel(node: &Node, member: &MemberSettings) -> Reply {
    let mut pairs = common(node, member, "sentinel".into());
    pairs.extend([
        ("last-hello-message", "0".into()),
        ("voted-leader", "?".into()),
        ("voted-leader-epoch", "0".into()),
    ]);
    fields(pairs)
}
