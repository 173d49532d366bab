//! Bytes of the Redis protocol to frames, and back. Incremental, bounded, without recursion on
//! input: nothing a client announces is allocated before its bytes are there.
//!
//! Source: the RESP specification and Redis 7.0's `networking.c`, whose error texts these are.

mod client;
mod reply;
mod request;

pub use client::{ReplyError, ReplyParser, encode_request};
pub use reply::{Reply, Version};
pub use request::{Limits, ProtocolError, Request, RequestParser};
