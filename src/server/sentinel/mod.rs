//! The Sentinel commands, on every node: so that Sentinel-aware clients follow a takeover with no
//! Sentinel running.
//!
//! Shapes, order of fields and error texts are those of Redis Sentinel 7.0.15. What a field says is what
//! this node knows (`node/outlook.rs`); the cluster is the one master there is, under the cluster's name,
//! each other data node a replica, each other node a Sentinel.

mod failover;
mod instances;
mod news;

use bytes::Bytes;

use super::Server;
use super::session_commands::bulk;
use super::transaction::NOT_HERE;
use crate::command::{SentinelCommand, help_of};
use crate::node::{MemberSettings, Node, Outlook};
use crate::resp::Reply;
use crate::units::NodeId;

pub(crate) use failover::begin_failover;
pub(super) use failover::{Ordered, order};
pub(super) use news::{is_news, published};

const UNKNOWN: Reply = Reply::error("ERR No such master with that name");
/// What Sentinels of old said when they had just started.
const NO_IDEA: Reply =
    Reply::error("IDONTKNOW this node knows of no primary yet; ask another node, or again");

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

/// Forty hexadecimal digits, as Redis's run ids are: the cluster's and the node's.
pub(super) fn run_id(node: &Node, id: NodeId) -> String {
    format!("{:032x}{:08x}", node.gate_now().cluster, id.0)
}

pub(super) fn answer(server: &Server, command: &SentinelCommand) -> Reply {
    let node = &server.node;
    match command {
        SentinelCommand::GetMasterAddrByName { master } => address(node, master),
        SentinelCommand::Masters => {
            let outlook = node.outlook();
            let known = primary(node, &outlook);
            let described = known.map(|member| instances::master(node, &outlook, member));
            Reply::Array(described.into_iter().collect())
        }
        SentinelCommand::Master { master } => of_primary(node, master, instances::master),
        SentinelCommand::Replicas { master } => of_primary(node, master, instances::replicas),
        SentinelCommand::Sentinels { master } if is_name(node, master) => {
            instances::sentinels(node, &node.outlook())
        }
        SentinelCommand::Sentinels { .. } => UNKNOWN,
        SentinelCommand::CkQuorum { master } if is_name(node, master) => quorum(node),
        SentinelCommand::CkQuorum { .. } => UNKNOWN,
        SentinelCommand::IsMasterDownByAddr { host, port } => is_down(node, host, *port),
        SentinelCommand::PendingScripts => Reply::Array(Vec::new()),
        SentinelCommand::Help => help_of("sentinel"),
        SentinelCommand::MyId => bulk(run_id(node, node.id())),
        SentinelCommand::Ping => Reply::Simple("PONG".into()),
        // It may have to wait for another node: the session orders it.
        SentinelCommand::Failover { .. } => NOT_HERE,
    }
}

fn is_name(node: &Node, master: &Bytes) -> bool {
    *master == node.settings.name.as_bytes()
}

/// The newest primary that was known, also while none is.
fn primary<'a>(node: &'a Node, outlook: &Outlook) -> Option<&'a MemberSettings> {
    node.settings.member(outlook.primary?)
}

/// Nil while there is no primary as far as this node knows: who asks then asks another, and is not
/// sent to one that is gone.
fn address(node: &Node, master: &Bytes) -> Reply {
    let id = node.gate_now().primary.filter(|_| is_name(node, master));
    match id.and_then(|id| node.settings.member(id)) {
        Some(member) => {
            let (host, port) = host_port(&member.client_addr);
            Reply::Array(vec![bulk(host), bulk(port)])
        }
        None => Reply::NullArray,
    }
}

fn of_primary(
    node: &Node,
    master: &Bytes,
    describe: fn(&Node, &Outlook, &MemberSettings) -> Reply,
) -> Reply {
    if !is_name(node, master) {
        return UNKNOWN;
    }
    let outlook = node.outlook();
    primary(node, &outlook).map_or(NO_IDEA, |member| describe(node, &outlook, member))
}

/// Votes that an election needs.
fn majority(node: &Node) -> usize {
    let members = node.settings.members.iter();
    members.filter(|m| m.member.vote).count() / 2 + 1
}

fn quorum(node: &Node) -> Reply {
    let outlook = node.outlook();
    let members = node.settings.members.iter();
    let voters = members.filter(|member| member.member.vote);
    let usable = voters
        .filter(|member| !instances::is_down(&outlook, member.member.id))
        .count();
    if usable >= majority(node) {
        let text = format!(
            "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
        );
        return Reply::Simple(text.into());
    }
    let text = format!(
        "NOQUORUM {usable} usable Sentinels. Not enough available Sentinels to reach the specified \
         quorum for this master. Not enough available Sentinels to reach the majority and authorize a \
         failover"
    );
    Reply::Error(text.into())
}

/// One Sentinel's question to another. Votes are given between members only, so the answer never
/// carries one: no leader, in no epoch.
fn is_down(node: &Node, host: &Bytes, port: i64) -> Reply {
    let outlook = node.outlook();
    let asked = primary(node, &outlook).is_some_and(|member| {
        let (known, number) = host_port(&member.client_addr);
        *host == known.as_bytes() && number == port.to_string()
    });
    let down = asked && outlook.down.is_some();
    Reply::Array(vec![
        Reply::Integer(down.into()),
        Reply::text("*"),
        Reply::Integer(0),
    ])
}
