//! understudy: a replicated key-value store for Redis clients whose acknowledged writes survive
//! the loss of the primary.
//!
//! The modules stand in the order of the data's way, and each uses only those above it
//! (`tests/layers.rs` holds that):
//!
//! ```text
//! socket bytes -> resp -> command -> keyspace: plan -> effects + reply
//!             -> wal: record, group commit
//!                  |-> local write + sync  --synced-->  \
//!                  |-> peer: shipped       --acked--->   replica: commit rule -> released LSN
//!                                                          -> server: held replies go out
//! ```
//!
//! `docs/architecture.md` walks through the house room by room.

#![deny(clippy::print_stdout)]

pub mod units;
pub mod resp;
pub mod command;
pub mod keyspace;
pub mod wal;
pub mod replica;
pub mod peer;
pub mod node;
pub mod server;
pub mod http;
pub mod cli;
