//! A cluster that has begun: node 1 reigns in epoch 1 and every data node holds its EpochStart.

use std::collections::VecDeque;

use understudy::replica::{Input, Message};
use understudy::units::Epoch;

use super::message::{Body, Msg, NOW};
use super::node::{Cluster, Node, Ran, hearing, id};

struct Boot {
    nodes: Vec<Node>,
    net: VecDeque<Msg>,
}

impl Boot {
    fn give(&mut self, i: usize, input: Input) {
        let mut ran = Ran::new(self.nodes[i].clone());
        ran.input(i, input);
        ran.persist(i);
        assert_eq!(ran.fault, None, "a run without faults breaks no rule");
        self.nodes[i] = ran.node;
        self.net.extend(ran.sends);
        while let Some(msg) = self.net.pop_front() {
            self.give(msg.to, hearing(&msg));
        }
    }

    fn log_moved(&mut self, i: usize) {
        self.nodes[i].synced = self.nodes[i].log.len();
        let view = self.nodes[i].log_view();
        self.give(i, Input::Log(view));
    }
}

pub fn begun(cluster: &Cluster) -> Vec<Node> {
    let nodes: Vec<Node> = (0..cluster.size()).map(|i| cluster.node(i)).collect();
    let mut boot = Boot {
        nodes,
        net: VecDeque::new(),
    };
    let epoch = Epoch(1);
    for from in 1..cluster.size() {
        let mut envelope = Box::new(understudy::replica::Envelope {
            from: id(from),
            cluster: None,
            incarnation: from as u64 + 1,
            message: Message::Blank,
        });
        envelope.from = id(from);
        boot.give(0, Input::Message(envelope));
    }
    boot.nodes[0].begin = None;
    boot.nodes[0].log.push(epoch);
    boot.log_moved(0);
    let start = boot.nodes[0].log_view().appended;
    boot.give(0, Input::ReignBegun { epoch, start });
    beat(&mut boot);
    for i in 1..cluster.data {
        let (standby, incarnation, stream) = (id(i), i as u64 + 1, 1);
        boot.give(
            0,
            Input::Followed {
                standby,
                incarnation,
                epoch,
                stream,
            },
        );
        boot.nodes[i].stream = Some(epoch);
        boot.give(i, Input::Matched { epoch });
        boot.nodes[i].log.push(epoch);
        boot.log_moved(i);
    }
    beat(&mut boot);
    beat(&mut boot);
    for node in &mut boot.nodes {
        node.machine.canonical(NOW);
    }
    boot.nodes
}

fn beat(boot: &mut Boot) {
    boot.nodes[0].machine.make_beat_due();
    boot.give(0, Input::Tick);
    debug_assert!(boot.net.iter().all(|msg| matches!(msg.body, Body::Say(_))));
}
