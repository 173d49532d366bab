//! What MASTER, REPLICAS and SENTINELS say of each node.
//!
//! Spans are milliseconds. A connection between members is one, whatever roles they have, so
//! `link-refcount` is 1; nobody is pinged in particular, so a ping's answer is whatever was heard last.

use crate::node::{MemberSettings, Node, Outlook, Presence, down_after};
use crate::replica::{Kind, Standing, View};
use crate::resp::Reply;
use crate::units::{Micros, NodeId};

use super::super::session_commands::bulk;
use super::{host_port, majority, run_id};

type Fields = Vec<(&'static str, String)>;

/// Whether this node takes it for down, in whatever role.
pub(super) fn is_down(outlook: &Outlook, id: NodeId) -> bool {
    down_since(outlook, id).is_some()
}

fn down_since(outlook: &Outlook, id: NodeId) -> Option<Micros> {
    if outlook.primary == Some(id) {
        return outlook.down;
    }
    outlook.members.get(&id).and_then(|member| member.down)
}

fn fields(pairs: Fields) -> Reply {
    let pair = |(key, value): (&'static str, String)| (Reply::text(key), bulk(value));
    Reply::Map(pairs.into_iter().map(pair).collect())
}

/// One node in one role.
struct Instance<'a> {
    node: &'a Node,
    outlook: &'a Outlook,
    member: &'a MemberSettings,
    now: Micros,
}

impl<'a> Instance<'a> {
    fn of(node: &'a Node, outlook: &'a Outlook, member: &'a MemberSettings) -> Instance<'a> {
        let now = node.host.boot_time();
        Instance {
            node,
            outlook,
            member,
            now,
        }
    }

    fn id(&self) -> NodeId {
        self.member.member.id
    }

    fn own(&self) -> bool {
        self.id() == self.node.id()
    }

    fn presence(&self) -> Presence {
        let known = self.outlook.members.get(&self.id());
        known.copied().unwrap_or_default()
    }

    fn ms_since(&self, at: Micros) -> String {
        self.now.since(at).as_ms().to_string()
    }

    /// How long it has said nothing; of one that never did, since when it could have.
    fn silence(&self) -> String {
        let known = self.presence();
        match self.own() {
            true => "0".into(),
            false => self.ms_since(known.heard.unwrap_or(known.linked_since)),
        }
    }

    fn flags(&self, role: &str) -> String {
        let mut flags: Vec<&str> = Vec::new();
        let primary = role == "master";
        if is_down(self.outlook, self.id()) {
            flags.push("s_down");
        }
        if primary && self.outlook.agreed.is_some() {
            flags.push("o_down");
        }
        flags.push(role);
        if !self.own() && !self.presence().reached() {
            flags.push("disconnected");
        }
        if role == "slave" && self.outlook.down.is_some() {
            flags.push("master_down");
        }
        if primary && self.outlook.failover {
            flags.push("failover_in_progress");
        }
        flags.join(",")
    }

    fn common(&self, name: String, role: &str, state: Option<&str>) -> Fields {
        let (host, port) = host_port(&self.member.client_addr);
        let down = down_since(self.outlook, self.id());
        let mut pairs = vec![
            ("name", name),
            ("ip", host),
            ("port", port),
            ("runid", run_id(self.node, self.id())),
            ("flags", self.flags(role)),
            (
                "link-pending-commands",
                self.node.unsaid(self.id()).to_string(),
            ),
            ("link-refcount", "1".into()),
        ];
        pairs.extend(state.map(|state| ("failover-state", state.to_string())));
        let unanswered = match down {
            Some(_) => self.silence(),
            None => "0".into(),
        };
        pairs.extend([
            ("last-ping-sent", unanswered),
            ("last-ok-ping-reply", self.silence()),
            ("last-ping-reply", self.silence()),
        ]);
        pairs.extend(down.map(|since| ("s-down-time", self.ms_since(since))));
        let agreed = self.outlook.agreed.filter(|_| role == "master");
        pairs.extend(agreed.map(|since| ("o-down-time", self.ms_since(since))));
        let patience = down_after(&self.node.settings).as_ms();
        pairs.push(("down-after-milliseconds", patience.to_string()));
        pairs
    }

    fn role(&self, role: &str) -> [(&'static str, String); 3] {
        let since = self.ms_since(self.presence().role_since);
        [
            ("info-refresh", self.silence()),
            ("role-reported", role.into()),
            ("role-reported-time", since),
        ]
    }
}

pub(super) fn master(node: &Node, outlook: &Outlook, member: &MemberSettings) -> Reply {
    let it = Instance::of(node, outlook, member);
    let view = node.view();
    let state = match outlook.failover {
        true if view.paused => Some("wait_promotion"),
        true => Some("wait_start"),
        false => None,
    };
    let mut pairs = it.common(node.settings.name.clone(), "master", state);
    pairs.extend(it.role("master"));
    let members = &node.settings.members;
    let standbys = members.iter().filter(|m| m.member.kind == Kind::Data);
    let standbys = standbys.count().saturating_sub(1).to_string();
    pairs.extend([
        ("config-epoch", outlook.reign.to_string()),
        ("num-slaves", standbys.clone()),
        (
            "num-other-sentinels",
            members.len().saturating_sub(1).to_string(),
        ),
        ("quorum", majority(node).to_string()),
        // How long a switchover waits for its standby.
        (
            "failover-timeout",
            crate::replica::HANDOVER_PATIENCE.as_ms().to_string(),
        ),
        // All follow at once.
        ("parallel-syncs", standbys),
    ]);
    fields(pairs)
}

pub(super) fn replicas(node: &Node, outlook: &Outlook, primary: &MemberSettings) -> Reply {
    let view = node.view();
    let members = node.settings.members.iter();
    let standbys = members
        .filter(|m| m.member.kind == Kind::Data && m.member.id != primary.member.id)
        .map(|member| replica(&view, &Instance::of(node, outlook, member), primary));
    Reply::Array(standbys.collect())
}

/// Since when it does not follow; `None`: it does, or nothing speaks against it. Only the two nodes of
/// a stream see it; for another, who is there follows a primary that is there.
fn link_down(view: &View, it: &Instance<'_>) -> Option<Micros> {
    let known = it.presence();
    let sees = it.own() || view.standing == Standing::Primary;
    match (sees, known.follows) {
        // Itself it follows until it takes the primary for down.
        (true, Some(epoch)) if epoch == it.outlook.reign => it.outlook.down,
        (true, _) => Some(known.follows_since),
        (false, _) => known.down.or(it.outlook.down),
    }
}

/// Redis prefers the lowest number, this cluster the highest; zero never takes over in either.
fn priority(it: &Instance<'_>) -> String {
    let own = it.member.member;
    let highest = it.node.settings.members.iter().map(|m| m.member.priority);
    match own.priority {
        0 => "0".into(),
        _ if !own.vote => "0".into(),
        priority => (100 + u64::from(highest.max().unwrap_or(priority) - priority)).to_string(),
    }
}

fn replica(view: &View, it: &Instance<'_>, primary: &MemberSettings) -> Reply {
    let (host, port) = host_port(&it.member.client_addr);
    let mut pairs = it.common(format!("{host}:{port}"), "slave", None);
    pairs.extend(it.role("slave"));
    let down = link_down(view, it);
    let cursor = view.standbys.iter().find(|standby| standby.id == it.id());
    let received = match it.own() {
        true => view.log.written,
        false => cursor.map_or(crate::units::Lsn::ZERO, |cursor| cursor.received),
    };
    let (host, port) = host_port(&primary.client_addr);
    let since = down.map_or("0".into(), |since| it.ms_since(since));
    let status = if down.is_some() { "err" } else { "ok" };
    pairs.extend([
        ("master-link-down-time", since),
        ("master-link-status", status.into()),
        ("master-host", host),
        ("master-port", port),
        ("slave-priority", priority(it)),
        ("slave-repl-offset", received.to_string()),
        ("replica-announced", "1".into()),
    ]);
    fields(pairs)
}

pub(super) fn sentinels(node: &Node, outlook: &Outlook) -> Reply {
    let members = node.settings.members.iter();
    let others = members.filter(|member| member.member.id != node.id());
    let described = others.map(|member| {
        let it = Instance::of(node, outlook, member);
        let mut pairs = it.common(run_id(node, it.id()), "sentinel", None);
        pairs.extend([
            ("last-hello-message", it.silence()),
            // Whom another votes for is told to the candidate only.
            ("voted-leader", "?".into()),
            ("voted-leader-epoch", "0".into()),
        ]);
        fields(pairs)
    });
    Reply::Array(described.collect())
}
