//! Bytes to frames and back: the Redis serialization protocol, versions 2 and 3.
//!
//! Promise: a byte stream gives the same requests (or the same error) however it is cut into
//! reads; nothing is scanned twice; nothing is allocated because a peer *announced* it; nesting
//! never becomes recursion. What is wrong gets Redis's own error text.
//!
//! It never touches a socket, never interprets a command, and never keeps a slice of the caller's
//! read buffer beyond the request it belongs to.
//!
//! - [`RequestParser`]: what a server reads (inline commands and arrays of bulk strings).
//! - [`Reply`]: what a server writes, with [`Reply::encode`] for either [`Version`].
//! - [`ReplyParser`] and [`encode_request`]: the client's side, for `bench`, `demo` and probes.

mod decimal;
mod inline;
mod limits;
mod quoted;
mod reply;
mod reply_parser;
mod request;

pub use decimal::{format_double, push_decimal};
pub use inline::split_args;
pub use limits::{Limits, MOST_REPLY_BYTES};
pub use quoted::quote;
pub use reply::{Reply, Version};
pub use reply_parser::{ReplyLimits, ReplyParseError, ReplyParser};
pub use request::{ProtocolError, Request, RequestParser, encode_request, parse_integer};
