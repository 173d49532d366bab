//! What Sentinel publishes of what happens, in its own words.

use crate::command::glob_matches;
use crate::node::{MemberSettings, Node, NodeEvent};
use crate::replica::Kind;
use crate::units::NodeId;

use super::{host_port, majority, run_id};

/// A channel and what is said on it.
type Said = (&'static str, String);

/// Whether somebody who subscribes to this wants to hear what Sentinel publishes. All of its channels
/// begin with a sign; a pattern is one if it takes in the channel that everybody follows.
pub(in crate::server) fn is_news(name: &[u8], pattern: bool) -> bool {
    match pattern {
        true => {
            glob_matches(name, b"+switch-master", false)
                || name.starts_with(b"+")
                || name.starts_with(b"-")
        }
        false => name.starts_with(b"+") || name.starts_with(b"-"),
    }
}

/// `<host> <port>`.
fn place(node: &Node, id: NodeId) -> String {
    let member = node.settings.member(id);
    let (host, port) = host_port(member.map_or("", |member| &member.client_addr));
    format!("{host} {port}")
}

/// `master <name> <host> <port>`.
fn as_master(node: &Node, id: NodeId) -> String {
    format!("master {} {}", node.settings.name, place(node, id))
}

/// `@ <name> <host> <port>`.
fn at(node: &Node, primary: NodeId) -> String {
    format!("@ {} {}", node.settings.name, place(node, primary))
}

/// `slave <host>:<port> <host> <port> @ <name> <host> <port>`.
fn as_replica(node: &Node, id: NodeId, primary: NodeId) -> String {
    let place = place(node, id);
    let name = place.replacen(' ', ":", 1);
    format!("slave {name} {place} {}", at(node, primary))
}

/// `sentinel <run id> <host> <port> @ <name> <host> <port>`.
fn as_sentinel(node: &Node, id: NodeId, primary: NodeId) -> String {
    let (run_id, place) = (run_id(node, id), place(node, id));
    format!("sentinel {run_id} {place} {}", at(node, primary))
}

/// What is said when another primary is known: what Sentinel-aware clients follow.
fn switched(node: &Node, old: Option<NodeId>, new: NodeId) -> Vec<Said> {
    let mut said = Vec::new();
    if let Some(old) = old {
        let replica = as_replica(node, new, old);
        said.push((
            "-role-change",
            format!("{replica} new reported role is master"),
        ));
    }
    // A node that has just started knows of no other before; who listens already is told where to go.
    let (from, to) = (place(node, old.unwrap_or(new)), place(node, new));
    let switch = format!("{} {from} {to}", node.settings.name);
    said.push(("+switch-master", switch));
    let standby = |m: &&MemberSettings| m.member.kind == Kind::Data && m.member.id != new;
    let standbys = node.settings.members.iter().filter(standby);
    said.extend(standbys.map(|m| ("+slave", as_replica(node, m.member.id, new))));
    said
}

/// What is said of an event; `primary`: the one that was known last, `old`: the one before. Of a member
/// nothing is said before there is a primary: its news name one, and Jedis' listener ends for good on
/// news that do not.
pub(in crate::server) fn published(
    node: &Node,
    event: &NodeEvent,
    primary: Option<NodeId>,
    old: Option<NodeId>,
) -> Vec<Said> {
    match (event, primary) {
        (NodeEvent::PrimaryChanged { old, new }, _) => switched(node, *old, *new),
        (NodeEvent::PrimaryDown(id), _) => vec![
            ("+sdown", as_master(node, *id)),
            ("+sdown", as_sentinel(node, *id, *id)),
        ],
        (NodeEvent::PrimaryAgreedDown(id), _) => {
            let (master, quorum) = (as_master(node, *id), majority(node));
            vec![("+odown", format!("{master} #quorum {quorum}/{quorum}"))]
        }
        (NodeEvent::PrimaryUp { primary, agreed }, _) => {
            let sentinel = as_sentinel(node, *primary, *primary);
            let mut said = vec![("-sdown", as_master(node, *primary)), ("-sdown", sentinel)];
            if *agreed {
                said.push(("-odown", as_master(node, *primary)));
            }
            said
        }
        (NodeEvent::EpochPromised(epoch), _) => vec![("+new-epoch", epoch.to_string())],
        (NodeEvent::Met(id), Some(at)) => vec![("+sentinel", as_sentinel(node, *id, at))],
        (NodeEvent::MemberDown(id), Some(at)) => in_all_roles(node, "+sdown", *id, at),
        (NodeEvent::MemberUp(id), Some(at)) => in_all_roles(node, "-sdown", *id, at),
        (NodeEvent::Follows(id), Some(at)) => follows(node, *id, at, old),
        (NodeEvent::ReignWon(_), Some(at)) => vec![("+elected-leader", as_master(node, at))],
        _ => Vec::new(),
    }
}

/// A data node is a replica and a Sentinel in one.
fn in_all_roles(node: &Node, channel: &'static str, id: NodeId, primary: NodeId) -> Vec<Said> {
    let kind = node.settings.member(id).map(|member| member.member.kind);
    let mut said = Vec::new();
    if kind == Some(Kind::Data) {
        said.push((channel, as_replica(node, id, primary)));
    }
    said.push((channel, as_sentinel(node, id, primary)));
    said
}

/// A standby follows the primary of now. (Clients of go-redis wait for a name that Sentinel never had.)
fn follows(node: &Node, id: NodeId, primary: NodeId, old: Option<NodeId>) -> Vec<Said> {
    let replica = as_replica(node, id, primary);
    let mut said = Vec::new();
    if old == Some(id) {
        said.push((
            "+role-change",
            format!("{replica} new reported role is slave"),
        ));
    }
    said.push(("+slave-reconf-done", replica.clone()));
    said.push(("+replica-reconf-done", replica));
    said
}
