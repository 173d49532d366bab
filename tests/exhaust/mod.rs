//! The exhaustive search: see `docs/model-exhaustive.md`.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod message;
pub mod mirror;
pub mod node;
pub mod oracle;
pub mod search;
pub mod settle;
pub mod start;
pub mod store;
pub mod world;
