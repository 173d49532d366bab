//! Requests to commands: names, arity, options. Plain data comes out; nothing is executed here.
//!
//! Texts and rules are Redis 7.0's.

mod expiry;
mod keys;
mod parse;
mod set;
mod strings;
mod table;

pub use expiry::{ExpireCondition, When};
pub use keys::TypeFilter;
pub use parse::Command;
pub use set::{SetCondition, SetExpiry, SetOptions, SetReply};
pub use table::{COMMANDS, CommandInfo, find};

pub(crate) use parse::parse_int;

use bytes::Bytes;

/// A command that is answered from the keyspace alone.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names are Redis's; what the fields mean stands in its documentation.
pub enum KeyCommand {
    Get(Bytes),
    Set {
        key: Bytes,
        value: Bytes,
        options: SetOptions,
    },
    GetDel(Bytes),
    GetEx {
        key: Bytes,
        expiry: SetExpiry,
    },
    MGet(Vec<Bytes>),
    MSet {
        pairs: Vec<(Bytes, Bytes)>,
        only_if_none: bool,
    },
    Append {
        key: Bytes,
        value: Bytes,
    },
    StrLen(Bytes),
    GetRange {
        key: Bytes,
        start: i64,
        end: i64,
    },
    SetRange {
        key: Bytes,
        offset: i64,
        value: Bytes,
    },
    IncrBy {
        key: Bytes,
        by: i64,
    },
    IncrByFloat {
        key: Bytes,
        by: Bytes,
    },
    Del(Vec<Bytes>),
    Exists(Vec<Bytes>),
    Expire {
        key: Bytes,
        at: When,
        condition: ExpireCondition,
    },
    Ttl {
        key: Bytes,
        seconds: bool,
        absolute: bool,
    },
    Persist(Bytes),
    Type(Bytes),
    Keys(Bytes),
    Scan {
        cursor: u64,
        pattern: Option<Bytes>,
        count: usize,
        filter: TypeFilter,
    },
    RandomKey,
    DbSize,
    Flush,
}

impl KeyCommand {
    /// Whether it may change anything (a read that finds an expired key may, too, but is no write).
    pub fn is_write(&self) -> bool {
        use KeyCommand::*;
        match self {
            Get(_)
            | MGet(_)
            | StrLen(_)
            | GetRange { .. }
            | Exists(_)
            | Ttl { .. }
            | Type(_)
            | Keys(_)
            | Scan { .. }
            | RandomKey
            | DbSize => false,
            Set { .. }
            | GetDel(_)
            | GetEx { .. }
            | MSet { .. }
            | Append { .. }
            | SetRange { .. }
            | IncrBy { .. }
            | IncrByFloat { .. }
            | Del(_)
            | Expire { .. }
            | Persist(_)
            | Flush => true,
        }
    }
}

/// A command about the connection or the server, with its arguments (the name left out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SessionCommand {
    Ping,
    Echo,
    Hello,
    Auth,
    Select,
    Client,
    CommandCmd,
    Info,
    Role,
    Config,
    Sentinel,
    Quit,
    Reset,
    Subscribe,
    PSubscribe,
    Unsubscribe,
    PUnsubscribe,
    Publish,
    Wait,
    Time,
}
