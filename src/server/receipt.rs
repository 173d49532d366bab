//! What a connection's commands wait for that only other nodes can give: copies of its writes (WAIT,
//! WAITAOF, CLIENT DURABILITY), and on a standby the record that it wants to read (READAFTER).
//!
//! A receipt counts copies. It never changes what the cluster's rule releases, nor what an election
//! knows: only the rule protects a write against a takeover.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::clients::Unblocked;
use super::session::{Cannot, Session};
use crate::command::{Command, CopyLevel, DurabilityCommand, SessionCommand, WaitCommand};
use crate::node::{Copies, Serves};
use crate::replica::{Kind, Level};
use crate::resp::Reply;
use crate::units::{Epoch, Lsn};

const NO_PRIMARY: &str = "ERR WAIT cannot be used with replica instances. Please also note that \
    since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to \
    replicas are just local and are not propagated.";
const NO_PRIMARY_AOF: &str = "ERR WAITAOF cannot be used with replica instances. Please also note \
    that writes to replicas are just local and are not propagated.";
const ROLE_CHANGED: &str = "UNBLOCKED force unblock from blocking operation, instance state \
    changed (master -> replica?)";
const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Copies of a record of this reign.
    Copies(Epoch, Lsn, Copies),
    /// That readers here see the record.
    Applied(Lsn),
}

/// The command at the front waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    pub(super) need: Need,
    /// Until when; `None`: without end.
    pub(super) until: Option<Instant>,
}

/// CLIENT DURABILITY: what each write's reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Durability {
    pub(super) copies: Copies,
    /// Zero: without end.
    pub(super) timeout: Duration,
}

impl Durability {
    /// When a write of now has waited too long.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        deadline(now, self.timeout)
    }
}

/// When a wait of zero (without end), or of so long, is over.
fn deadline(now: Instant, timeout: Duration) -> Option<Instant> {
    match timeout.is_zero() {
        true => None,
        // Longer than the clock reaches is without end.
        false => now.checked_add(timeout),
    }
}

fn level_of(level: CopyLevel) -> Level {
    match level {
        CopyLevel::Received => Level::Received,
        CopyLevel::Synced => Level::Synced,
        CopyLevel::Applied => Level::Applied,
    }
}

impl WaitCommand {
    fn copies(&self) -> Copies {
        let level = if self.synced {
            Level::Synced
        } else {
            Level::Received
        };
        Copies {
            standbys: self.standbys,
            level,
            here: self.here,
        }
    }
}

impl Session<'_> {
    /// WAIT and WAITAOF at the front.
    pub(super) fn wait_for_copies(&mut self) -> Result<(), Cannot> {
        let Some(Ok(Command::Session(SessionCommand::Wait(wait)))) = self.front() else {
            return Ok(());
        };
        let wait = *wait;
        let gate = self.server.node.gate_now();
        let began = self.blocked;
        // A reign that is over took the copies' meaning with it.
        let same_reign = match began.map(|blocked| blocked.need) {
            Some(Need::Copies(epoch, ..)) => epoch == gate.epoch,
            _ => true,
        };
        let ended = if began.is_some() && (!gate.is_primary() || !same_reign) {
            Some(Reply::error(ROLE_CHANGED))
        } else if !gate.is_primary() || self.lame_until.is_some() {
            Some(self.count_copies(&wait))
        } else {
            self.outcome_of_wait(&wait)
        };
        if let Some(reply) = ended {
            self.unblock();
            self.todo.pop_front();
            self.answer(&reply);
            return Ok(());
        }
        if began.is_none() {
            let node = &self.server.node;
            let copies = wait.copies();
            node.await_copies(self.last_write, copies.level);
            let timeout = Duration::from_millis(wait.timeout_ms);
            self.block(Blocked {
                need: Need::Copies(gate.epoch, self.last_write, copies),
                until: deadline(Instant::now(), timeout),
            });
        }
        Err(Cannot::Blocked)
    }

    /// The answer, if it is time for one.
    fn outcome_of_wait(&self, wait: &WaitCommand) -> Option<Reply> {
        if let Some(blocked) = self.blocked {
            let asked = self.client.unblock.take();
            if asked == Some(Unblocked::Error) {
                return Some(Reply::error(UNBLOCKED));
            }
            let over = blocked.until.is_some_and(|until| until <= Instant::now());
            if over || asked.is_some() {
                return Some(self.count_copies(wait));
            }
        }
        let node = &self.server.node;
        let copies = wait.copies();
        let enough = node.is_copied(self.last_write, copies);
        enough.then(|| self.count_copies(wait))
    }

    /// How many copies there are of this connection's last write.
    pub(super) fn count_copies(&self, wait: &WaitCommand) -> Reply {
        let node = &self.server.node;
        if !node.gate_now().is_primary() {
            return Reply::error(if wait.synced {
                NO_PRIMARY_AOF
            } else {
                NO_PRIMARY
            });
        }
        let (standbys, here) = node.copies_of(self.last_write, wait.copies().level);
        let standbys = Reply::Integer(standbys as i64);
        match wait.synced {
            true => Reply::Array(vec![Reply::Integer(i64::from(here)), standbys]),
            false => standbys,
        }
    }

    pub(super) fn block(&mut self, blocked: Blocked) {
        // What somebody asked of the last one came too late for it.
        let _ = self.client.unblock.take();
        self.blocked = Some(blocked);
        self.client.unblock.blocked.store(true, Ordering::Release);
    }

    pub(super) fn unblock(&mut self) {
        if self.blocked.take().is_some() {
            self.client.unblock.blocked.store(false, Ordering::Release);
        }
    }

    /// Whether the read at the front may be carried out here now (READAFTER).
    pub(super) fn reads_after(&mut self) -> Result<(), Cannot> {
        let Some((lsn, timeout)) = self.read_after else {
            return Ok(());
        };
        let applied = self.server.node.store.applied();
        let asked = self.blocked.and_then(|_| self.client.unblock.take());
        let over = self
            .blocked
            .and_then(|blocked| blocked.until)
            .is_some_and(|until| until <= Instant::now());
        if applied >= lsn || over || asked.is_some() {
            self.unblock();
            self.read_after = None;
            return match (applied >= lsn, asked) {
                (true, _) => Ok(()),
                (false, Some(Unblocked::Error)) => Err(Cannot::Refuse(UNBLOCKED)),
                (false, _) => Err(Cannot::Refuse(
                    "LAGGING the record that this read waits for is not visible here in time; ask \
                     again, or the primary",
                )),
            };
        }
        if self.blocked.is_none() {
            self.block(Blocked {
                need: Need::Applied(lsn),
                until: deadline(Instant::now(), timeout),
            });
        }
        Err(Cannot::Blocked)
    }

    /// How much must be applied on this standby where it is read, for CLIENT MAXSTALENESS; or what reads are
    /// answered, where they may be older. Looked at before they are carried out: what is read after that is
    /// no older.
    pub(super) fn fresh_enough(&self) -> Result<Lsn, Reply> {
        let Some(most) = self.max_staleness else {
            return Ok(Lsn::ZERO);
        };
        let found = match self.server.node.staleness() {
            Some((age, upto)) if age <= most => return Ok(upto),
            Some((age, _)) => format!("may be {} ms old", age.as_millis()),
            None => "may be of any age: it has not caught up with a primary that serves".into(),
        };
        let text = format!(
            "LAGGING what is read here {found}, and this connection takes {} ms; ask the primary, or \
             allow more (CLIENT MAXSTALENESS)",
            most.as_millis()
        );
        Err(Reply::Error(text.into()))
    }

    /// CLIENT DURABILITY.
    pub(super) fn set_durability(&mut self, command: DurabilityCommand) -> Reply {
        match command {
            DurabilityCommand::Tell => return tell(self.durability),
            DurabilityCommand::Off => self.durability = None,
            DurabilityCommand::On {
                standbys,
                level,
                timeout_ms,
            } => {
                let node = &self.server.node;
                let members = node.settings.members.iter();
                let data = members.filter(|m| m.member.kind == Kind::Data).count();
                let others = data.saturating_sub(1);
                if standbys as usize > others {
                    let text = format!(
                        "ERR this cluster has {others} standbys: {standbys} copies would never be there"
                    );
                    return Reply::Error(text.into());
                }
                let level = level_of(level);
                self.durability = Some(Durability {
                    copies: Copies {
                        standbys,
                        level,
                        here: level >= Level::Synced,
                    },
                    timeout: Duration::from_millis(timeout_ms),
                });
            }
        }
        Reply::OK
    }

    /// READAFTER.
    pub(super) fn read_next_after(&mut self, lsn: u64, timeout_ms: u64) -> Reply {
        if self.server.node.gate_now().serves == Serves::Witness {
            return Reply::error("ERR a witness holds no keys");
        }
        self.read_after = Some((Lsn(lsn), Duration::from_millis(timeout_ms)));
        Reply::OK
    }
}

fn tell(durability: Option<Durability>) -> Reply {
    match durability {
        None => Reply::Array(vec![Reply::text("off")]),
        Some(Durability { copies, timeout }) => Reply::Array(vec![
            Reply::Integer(copies.standbys.into()),
            Reply::text(copies.level.name()),
            Reply::Integer(timeout.as_millis() as i64),
        ]),
    }
}
