//! The world, its events, its oracles, and two ways to search it.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod event;
pub mod fingerprint;
pub mod heal;
pub mod oracle;
pub mod scenes;
pub mod search;
pub mod setups;
pub mod stages;
pub mod world;
