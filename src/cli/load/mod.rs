//! The load clients: plain Redis-protocol clients over tokio, light enough not to be what is
//! measured.
//!
//! [`throughput`] presses one node and measures; [`follow`] writes unique keys through takeovers,
//! as an application would, and keeps the account of what it was told.

pub mod connection;
pub mod directory;
pub mod follow;
pub mod login;
pub mod random;
pub mod throughput;
