//! What a standby does: applies what is released and acknowledges what it holds.

use super::guard::Guard;
use super::machine::{Ack, Machine, Output, Role};
use crate::units::{Epoch, Lsn, NodeId};

impl Machine {
    pub(super) fn on_matched(&mut self, epoch: Epoch) {
        if epoch == self.control.promised && self.leader.is_some_and(|l| l.epoch == epoch) {
            self.matched = Some(epoch);
            self.last_ack = Ack::default();
            self.note_freshness();
        }
    }

    pub(super) fn on_released_told(&mut self, epoch: Epoch, released: Lsn) {
        if let Some(leader) = &mut self.leader
            && leader.epoch == epoch
        {
            leader.released = leader.released.max(released);
        }
    }

    /// The primary whose stream this node should follow now: it, and its reign.
    pub fn following(&self) -> Option<(NodeId, Epoch)> {
        // R1: nothing is stored under an epoch before it is durably promised, nor before it is
        // durable that a log was given up (R14). A rule that is being recorded stands in nobody's
        // way: each standby that was admitted once broke off its own stream by it, and the primary,
        // which had just begun to count on it, waited until it was back.
        let settled = self.persisted >= self.binding;
        let leader = self
            .leader
            .filter(|leader| leader.epoch == self.control.promised)?;
        let follows = settled && self.is_data() && leader.epoch > self.abdicated;
        (follows && matches!(self.role, Role::Follower)).then_some((leader.id, leader.epoch))
    }

    pub(super) fn follow_progress(&mut self) {
        let Some((primary, epoch)) = self.following() else {
            return;
        };
        let told = self.leader.map_or(Lsn::ZERO, |leader| leader.released);
        if !self.keeps(Guard::R23) {
            self.released = self.released.max(told.min(self.log.appended.lsn));
        }
        if self.matched != Some(epoch) {
            return;
        }
        // R23: the smaller of what the primary released and what is known to match it; a
        // heartbeat may overtake the log.
        self.released = self.released.max(told.min(self.log.appended.lsn));
        // R14: caught up, so that its word counts again, durably. Up to what the primary had
        // appended, not released: an acknowledgement from before the reboot may still be under way
        // and release more.
        let appended = self.seen.filter(|seen| seen.epoch == epoch);
        let caught_up = appended.is_some_and(|seen| self.log.written >= seen.appended);
        if self.rebooted && (caught_up || !self.keeps(Guard::R14CaughtUp)) {
            self.rebooted = false;
            let boot = self.config.boot;
            self.change_control(|control| control.boot = boot);
        }
        // The same for a log that was given up: durably here, since it is promised durably.
        let caught_up = appended.is_some_and(|seen| self.log.synced >= seen.appended);
        if self.control.incomplete && caught_up {
            self.change_control(|control| control.incomplete = false);
        }
        // R4: of the history matched with this primary, and only while it is the one promised to:
        // an acknowledgement after a vote for another would release a record the winner lacks.
        let ack = Ack {
            epoch,
            received: self.log.written,
            synced: self.log.synced,
            applied: self.log.applied,
        };
        if ack != self.last_ack {
            self.last_ack = ack;
            self.outputs
                .push_back(Output::Acknowledge { to: primary, ack });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::machine::Leader;
    use crate::units::Micros;

    /// A standby that follows node 1 in epoch 3, everything durable.
    fn standby() -> Machine {
        let mut machine = Machine::of_three(2);
        machine.change_control(|control| control.promised = Epoch(3));
        machine.persisted = machine.generation;
        machine.leader = Some(Leader {
            id: NodeId(1),
            epoch: Epoch(3),
            process: 1,
            last_beat: Micros::ZERO,
            released: Lsn::ZERO,
        });
        machine
    }

    #[test]
    fn a_stream_goes_on_while_what_does_not_bind_becomes_durable_and_only_then() {
        let leader = Some((NodeId(1), Epoch(3)));
        let after = |change: fn(&mut crate::replica::Control)| {
            let mut machine = standby();
            assert_eq!(machine.following(), leader);
            machine.change_control(change);
            assert!(machine.persisted < machine.generation);
            let meanwhile = machine.following();
            machine.persisted = machine.generation;
            assert_eq!(machine.following(), leader);
            meanwhile
        };
        assert_eq!(after(|control| control.longest_lease = Micros(7)), leader);
        assert_eq!(after(|control| control.boot = 7), leader);
        assert_eq!(after(|control| control.vote = Some(NodeId(1))), None, "R1");
        assert_eq!(after(|control| control.incarnation = 7), None, "R25");
        assert_eq!(after(|control| control.incomplete = true), None, "R14");
        let mut machine = standby();
        machine.change_control(|control| control.incomplete = true);
        machine.persisted = machine.generation;
        machine.change_control(|control| control.incomplete = false);
        assert_eq!(machine.following(), leader, "it counts as whole again");
    }
}
