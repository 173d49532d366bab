//! What is done to a cluster, and undone.

use std::time::Duration;

use rustix::process::Signal;

use super::cluster::{Cluster, IDS, Shape};
use super::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; started again.
    Kill,
    /// SIGTERM; started again.
    Terminate,
    /// SIGSTOP, SIGCONT.
    Freeze,
    /// The host's cable is pulled: nothing in, nothing out, no refusal.
    Vanish,
    /// The host loses its power: as `Vanish`, and the process is gone when it is back.
    PowerLoss,
    /// No packets to or from other nodes; clients still reach it.
    Isolate,
    /// It hears no other node; they hear it.
    Deafen,
    /// No other node hears it; it hears them.
    Mute,
    /// No packets between it and one other node.
    Sever,
    /// All its connections are reset.
    Reset,
    /// Its connections with nodes are reset, and new ones to its peer port refused, while it lives.
    Refuse,
    /// No room on its disk.
    DiskFull,
    /// A few writes a second reach its disk.
    DiskSlow,
    /// Its disk fails with EIO; repaired and started again.
    DiskFailing,
}

impl Kind {
    /// What needs no more than processes.
    pub const LOOPBACK: [Kind; 3] = [Kind::Kill, Kind::Freeze, Kind::Terminate];

    /// What hosts of our own can suffer while refusal counts as death.
    pub const HOSTS: [Kind; 13] = [
        Kind::Kill,
        Kind::Vanish,
        Kind::Isolate,
        Kind::DiskFailing,
        Kind::Mute,
        Kind::DiskFull,
        Kind::PowerLoss,
        Kind::Deafen,
        Kind::Reset,
        Kind::DiskSlow,
        Kind::Freeze,
        Kind::Sever,
        Kind::Terminate,
    ];

    /// For clusters with `refused_is_dead = false`.
    pub const NOT_DEAD: [Kind; 4] = [Kind::Refuse, Kind::Kill, Kind::Reset, Kind::Vanish];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Terminate => "terminate",
            Kind::Freeze => "freeze",
            Kind::Vanish => "vanish",
            Kind::PowerLoss => "power-loss",
            Kind::Isolate => "isolate",
            Kind::Deafen => "deafen",
            Kind::Mute => "mute",
            Kind::Sever => "sever",
            Kind::Reset => "reset",
            Kind::Refuse => "refuse",
            Kind::DiskFull => "disk-full",
            Kind::DiskSlow => "disk-slow",
            Kind::DiskFailing => "disk-failing",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        let all = Kind::HOSTS.into_iter().chain([Kind::Refuse]);
        let mut all = all;
        all.find(|kind| kind.name() == name)
    }

    fn is_of_disk(self) -> bool {
        matches!(self, Kind::DiskFull | Kind::DiskSlow | Kind::DiskFailing)
    }

    /// How long it lasts, in milliseconds, at least and at most.
    fn span_ms(self) -> (u64, u64) {
        match self {
            Kind::Kill | Kind::Terminate => (400, 1200),
            Kind::Freeze => (200, 3000),
            Kind::Reset => (300, 600),
            Kind::Refuse | Kind::Sever | Kind::Mute | Kind::Deafen => (1000, 3000),
            Kind::Vanish | Kind::PowerLoss | Kind::Isolate => (1600, 3000),
            Kind::DiskFull | Kind::DiskSlow | Kind::DiskFailing => (2500, 5000),
        }
    }
}

/// Whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Primary,
    /// A data node that is not primary.
    Standby,
    /// The witness, or where there is none another standby.
    Third,
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub target: Target,
    pub lasts: Duration,
    /// Chooses among what the kind leaves open.
    pub variant: u64,
}

/// A fault, and perhaps another one before it is healed.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub first: Fault,
    /// After so long, where the set-up must bear two at a time.
    pub second: Option<(Duration, Fault)>,
}

/// A schedule of so many faults, all kinds equally often, in an order that the seed chooses.
pub fn schedule(seed: u64, shape: Shape, kinds: &[Kind], faults: usize) -> Vec<Planned> {
    let mut dice = Dice::new(seed);
    let mut deck: Vec<Kind> = kinds.iter().copied().cycle().take(faults).collect();
    for at in (1..deck.len()).rev() {
        deck.swap(at, dice.below(at as u64 + 1) as usize);
    }
    let mut planned = Vec::new();
    for kind in deck {
        let first = draw(&mut dice, kind, None);
        // Where nothing may be lost with any one machine, there is one fault at a time.
        let twice = shape == Shape::ThreeSync && kinds.len() > 1 && dice.one_in(6);
        let second = twice.then(|| {
            let kind = dice.pick(kinds);
            let target = match first.target {
                Target::Primary => Target::Standby,
                Target::Standby | Target::Third => Target::Primary,
            };
            let after = dice.below(first.lasts.as_millis() as u64);
            (
                Duration::from_millis(after),
                draw(&mut dice, kind, Some(target)),
            )
        });
        planned.push(Planned { first, second });
    }
    planned
}

fn draw(dice: &mut Dice, kind: Kind, target: Option<Target>) -> Fault {
    let only = std::env::var("CHAOS_TARGET").is_ok_and(|target| target == "primary");
    let drawn = match dice.below(20) {
        _ if only => Target::Primary,
        0..=12 => Target::Primary,
        13..=16 => Target::Standby,
        _ if kind.is_of_disk() => Target::Standby,
        _ => Target::Third,
    };
    let (least, most) = kind.span_ms();
    Fault {
        kind,
        target: target.unwrap_or(drawn),
        lasts: Duration::from_millis(dice.between(least, most)),
        variant: dice.next(),
    }
}

impl Fault {
    /// The node it hits, given the primary.
    pub fn node(&self, shape: Shape, primary: u32) -> u32 {
        let others: Vec<u32> = IDS.into_iter().filter(|id| *id != primary).collect();
        match self.target {
            Target::Primary => primary,
            Target::Standby => {
                let mut data = others.iter().filter(|id| !shape.is_witness(**id));
                data.next().copied().unwrap_or(primary)
            }
            Target::Third => others.last().copied().unwrap_or(primary),
        }
    }

    pub fn inject(&self, cluster: &mut Cluster, node: u32) {
        match self.kind {
            Kind::Kill => cluster.kill9(node),
            Kind::Terminate => cluster.terminate(node),
            Kind::Freeze => cluster.signal(node, Signal::STOP),
            Kind::DiskFull => hosts(cluster).disk(node).fill(),
            Kind::DiskFailing => {
                cluster.let_end(node);
                hosts(cluster).disk(node).fail();
            }
            Kind::PowerLoss => {
                hosts(cluster).link(node, false);
                cluster.kill9(node);
            }
            _ => self.inject_into_host(cluster, node),
        }
    }

    fn inject_into_host(&self, cluster: &Cluster, node: u32) {
        let hosts = hosts(cluster);
        let rule = |rules: &[&str]| {
            let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
            hosts.filter(node, &rules);
        };
        match self.kind {
            Kind::Vanish => hosts.link(node, false),
            Kind::Isolate => rule(&["in ip saddr PEERS drop", "out ip daddr PEERS drop"]),
            Kind::Deafen => rule(&["in ip saddr PEERS drop"]),
            Kind::Mute => rule(&["out ip daddr PEERS drop"]),
            Kind::Sever => {
                let others: Vec<u32> = IDS.into_iter().filter(|id| *id != node).collect();
                let other = others[(self.variant % others.len() as u64) as usize];
                let other = super::hosts::address(other);
                rule(&[
                    &format!("in ip saddr {other} drop"),
                    &format!("out ip daddr {other} drop"),
                ]);
            }
            Kind::Reset => hosts.reset(node, false),
            Kind::Refuse => {
                let port = cluster.peer_addr(node).port();
                rule(&[&format!(
                    "in ip saddr PEERS tcp dport {port} tcp flags & (syn | ack) == syn reject with \
                     tcp reset"
                )]);
                hosts.reset(node, true);
            }
            Kind::DiskSlow => {
                let per_second = [1, 4, 20][(self.variant % 3) as usize];
                assert!(
                    hosts.disk(node).limit_writes(per_second),
                    "no block throttle here"
                );
            }
            Kind::Kill | Kind::Terminate | Kind::Freeze | Kind::PowerLoss => {}
            Kind::DiskFull | Kind::DiskFailing => {}
        }
    }

    pub fn heal(&self, cluster: &mut Cluster, node: u32) {
        match self.kind {
            Kind::Kill | Kind::Terminate => {}
            Kind::Freeze => cluster.signal(node, Signal::CONT),
            Kind::Vanish | Kind::PowerLoss => hosts(cluster).link(node, true),
            Kind::Isolate | Kind::Deafen | Kind::Mute | Kind::Sever | Kind::Refuse => {
                hosts(cluster).unfilter(node);
            }
            Kind::Reset => {}
            Kind::DiskSlow => {
                hosts(cluster).disk(node).limit_writes(0);
            }
            // A full disk is not a failed one: the node goes on by itself.
            Kind::DiskFull => hosts(cluster).disk(node).empty(),
            // A log whose write failed is closed for good: somebody mends the disk and restarts.
            Kind::DiskFailing => {
                cluster.kill9(node);
                hosts(cluster).disk(node).replace_cable();
            }
        }
        if !cluster.is_running(node) {
            cluster.start_node(node);
        }
    }
}

fn hosts(cluster: &Cluster) -> &super::hosts::Hosts {
    let hosts = cluster.hosts.as_ref();
    hosts.expect("the schedule has this kind only where there are hosts")
}
