//! The takeover machine: who reigns, what is released, who follows. Sans-I/O and deterministic.
//!
//! # Contract
//!
//! A [`Machine`] is plain data: no socket, file, clock, channel, task, log line or float inside.
//! Its owner
//!
//! 1. gives it everything that happens, with the time, through [`Machine::handle`];
//! 2. then drains [`Machine::poll_output`] and does what it says, in order;
//! 3. gives [`Input::Tick`] no later than [`Machine::poll_deadline`];
//! 4. reads [`Machine::view`] for everything that only needs to be seen.
//!
//! [`Output::Persist`] is answered with [`Input::Persisted`] once durable. The machine itself
//! keeps back whatever depends on it (R1), so the owner may go on with everything else meanwhile.
//!
//! The machine sees LSNs, never payloads, and is entered once per group of records. The cursors of
//! a primary, and who may be where:
//!
//! ```text
//!   released <= appended        the rule's copies decide; leases must be live
//!   synced <= written <= appended                      this node's own log
//!   standby: synced <= received <= (primary's) appended, applied <= released
//! ```
//!
//! The same code runs in production (`node`), in the model checker (`tests/model.rs`) and in
//! simulation.
//!
//! Sources: Raft (Ongaro, Ousterhout 2014) for epochs, votes and section 5.4.2's rule about
//! records of earlier terms; Chubby and Spanner for leases bounded by clock rates; PostgreSQL for
//! timelines. The rules R1 to R33 are those of `docs/protocol.md`.

mod canonical;
mod config;
mod control;
mod election;
mod follow;
mod freshness;
mod guard;
mod lag;
mod loss;
mod machine;
mod message;
mod reign;
mod report;
mod rule;
mod view;
mod vote;

#[doc(hidden)]
pub use canonical::{Outline, ReignOutline};
pub use config::{Config, Kind, Level, MaxLag, MaxLoss, Member, Mode};
pub use control::Control;
pub use freshness::Fresh;
#[cfg(feature = "mutants")]
pub use guard::Guard;
pub use lag::Lag;
pub use machine::{Ack, Input, LogView, Machine, Now, Output};
pub use message::{Ballot, Beat, BeatAnswer, Envelope, LogPos, Message, Refusal, SeenBeat};
pub use reign::HANDOVER_PATIENCE;
pub use report::{Cause, LossBound, Report};
pub use rule::{RecordedRule, Rule, RuleId, Voter};
pub use view::{ModeState, StandbyView, Standing, View};
