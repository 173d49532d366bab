//! Frames to commands: what a request means, before anything is looked up.
//!
//! Promise: [`Command::parse`] accepts what Redis 7.0 accepts and refuses the rest with the same
//! error text, in the same order of precedence. Parsing needs no clock and no keyspace; what
//! depends on them (an expiry that overflows when added to the time) is decided by
//! `keyspace::plan`. Nothing here is carried out.
//!
//! One file per family; `table.rs` knows all names, arities and flags; `describe.rs` answers
//! COMMAND from it. Differences from Redis are listed in `docs/commands.md`.

mod args;
mod bitmap;
mod client;
mod config;
mod describe;
mod diagnostics;
mod expire;
mod generic;
mod glob;
mod help;
mod long_double;
mod pubsub;
mod refused;
mod scripting;
mod sentinel;
mod server;
mod session;
mod set;
mod string;
mod table;
mod transaction;

use bytes::Bytes;

pub use args::{MAX_STRING_BYTES, invalid_expire_time, parse_integer};
pub use bitmap::{BitOp, BitRange, BitSearch, FieldAction, FieldOp, FieldType, Overflow};
pub use client::{ClientCommand, ClientKind};
pub use config::ConfigCommand;
pub use describe::{CommandQuery, ListFilter};
pub use diagnostics::{LatencyCommand, MemoryCommand, SlowLogCommand};
pub use expire::{ExpireCommand, ExpireCondition, TtlForm};
pub use generic::{CopyCommand, RenameCommand, ScanCommand};
pub use glob::glob_matches;
pub use long_double::LongDouble;
pub use pubsub::PubSubQuery;
pub use sentinel::SentinelCommand;
pub use server::{FailoverCommand, FailoverTarget};
pub use session::{HelloCommand, SessionCommand};
pub use set::{Expiry, GetExCommand, GetExExpiry, SetCommand, SetCondition, SetExpiry, SetReply};
pub use string::{LcsCommand, LcsForm};
pub use table::{CommandSpec, commands, lookup};
pub use transaction::TransactionCommand;

use crate::resp::{Reply, Request};

/// A request, understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answered from the keyspace alone, by `keyspace::plan`.
    Keys(KeyCommand),
    /// Answered by the server: about the connection, the node or the cluster.
    Session(SessionCommand),
}

impl Command {
    /// Whether there is such a command, and it takes so many arguments. What is wrong with `request`
    /// besides is found when it is carried out, which matters in a transaction.
    pub fn is_known(request: &Request) -> bool {
        let args = &request.args[..];
        let spec = args.first().and_then(|name| lookup(name));
        let Some(spec) = spec.filter(|spec| spec.container().is_none()) else {
            return false;
        };
        let container = spec.subcommands().next().is_some();
        let with_subcommand = container && (args.len() > 1 || spec.name != "command");
        spec.accepts(args.len())
            && (!with_subcommand
                || find_subcommand(spec, args).is_some_and(|found| found.accepts(args.len())))
    }

    /// The meaning of `request`, or the error to answer.
    pub fn parse(request: &Request) -> Result<Command, Reply> {
        let args = &request.args[..];
        let Some(name) = args.first() else {
            return Err(Reply::error("ERR empty request"));
        };
        let Some(spec) = lookup(name).filter(|spec| spec.container().is_none()) else {
            return if is_http(name) {
                Ok(Command::Session(SessionCommand::CrossProtocol))
            } else {
                Err(refused::command(name).unwrap_or_else(|| args::unknown_command(args)))
            };
        };
        if !spec.accepts(args.len()) {
            return Err(args::wrong_arity(spec.name));
        }
        (spec.parse)(spec, args)
    }
}

/// A browser can be made to post to any port. Its request lines must not be taken for inline
/// commands one after the other, so the first of them ends the connection, as in Redis.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn find_subcommand(spec: &'static CommandSpec, args: &[Bytes]) -> Option<&'static CommandSpec> {
    let name = args.get(1)?;
    spec.subcommands().find(|subcommand| {
        let (_, known) = subcommand.name.split_once('|').unwrap_or_default();
        known.as_bytes().eq_ignore_ascii_case(name)
    })
}

/// Passes a request on to the subcommand it names.
fn parse_container(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let Some(subcommand) = find_subcommand(spec, args) else {
        let name = args.get(1).map_or(&b""[..], |name| name);
        let refused = refused::subcommand(spec.name, name);
        return Err(refused.unwrap_or_else(|| args::unknown_subcommand(spec.name, name)));
    };
    if !subcommand.accepts(args.len()) {
        return Err(args::wrong_arity(subcommand.name));
    }
    (subcommand.parse)(subcommand, args)
}

/// A command that reads or changes keys and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyCommand {
    /// DBSIZE.
    DbSize,
    /// FLUSHALL and FLUSHDB, which are the same while there is one database.
    Flush,
    /// GET.
    Get {
        /// The key.
        key: Bytes,
    },
    /// SET, SETNX, SETEX, PSETEX and GETSET.
    Set(SetCommand),
    /// GETDEL.
    GetDel {
        /// The key.
        key: Bytes,
    },
    /// GETEX.
    GetEx(GetExCommand),
    /// MGET.
    MGet {
        /// The keys, in the order of the reply.
        keys: Vec<Bytes>,
    },
    /// MSET.
    MSet {
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// MSETNX: all or, where one of the keys exists, nothing.
    MSetNx {
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// APPEND.
    Append {
        /// The key.
        key: Bytes,
        /// What is added at the end.
        value: Bytes,
    },
    /// STRLEN.
    StrLen {
        /// The key.
        key: Bytes,
    },
    /// GETRANGE and SUBSTR; both ends inclusive, negative ones count from the end.
    GetRange {
        /// The key.
        key: Bytes,
        /// First byte.
        start: i64,
        /// Last byte.
        end: i64,
    },
    /// SETRANGE.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where the value goes, in bytes; not negative.
        offset: u64,
        /// What is written there.
        value: Bytes,
    },
    /// LCS.
    Lcs(LcsCommand),
    /// GETBIT.
    GetBit {
        /// The key.
        key: Bytes,
        /// The bit, from the highest of the first byte on.
        offset: u64,
    },
    /// SETBIT.
    SetBit {
        /// The key.
        key: Bytes,
        /// The bit, from the highest of the first byte on.
        offset: u64,
        /// What it becomes.
        on: bool,
    },
    /// BITCOUNT.
    BitCount(BitSearch),
    /// BITPOS.
    BitPos(BitSearch),
    /// BITOP.
    BitOp {
        /// How to combine.
        op: BitOp,
        /// The destination, and what is combined.
        keys: Vec<Bytes>,
    },
    /// BITFIELD and BITFIELD_RO.
    BitField {
        /// The key.
        key: Bytes,
        /// What to do, in this order.
        ops: Vec<FieldOp>,
        /// BITFIELD_RO. The other is a write even if it only reads, as in Redis.
        read_only: bool,
    },
    /// INCR, DECR, INCRBY and DECRBY.
    IncrBy {
        /// The key.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// INCRBYFLOAT. Redis reads the old value before it judges the increment, and both errors are
    /// the same, so an increment that is no number is kept until then.
    IncrByFloat {
        /// The key.
        key: Bytes,
        /// What is added; none where the argument was no number.
        by: Option<LongDouble>,
    },
    /// DEL and UNLINK.
    Del {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// EXISTS; a key named twice counts twice.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// TOUCH.
    Touch {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// RENAME and RENAMENX.
    Rename(RenameCommand),
    /// COPY.
    Copy(CopyCommand),
    /// EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
    Expire(ExpireCommand),
    /// TTL, PTTL, EXPIRETIME and PEXPIRETIME.
    Ttl {
        /// The key.
        key: Bytes,
        /// Unit, and whether from now or since 1970.
        form: TtlForm,
    },
    /// PERSIST.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// TYPE.
    Type {
        /// The key.
        key: Bytes,
    },
    /// KEYS.
    Keys {
        /// Glob pattern.
        pattern: Bytes,
    },
    /// SCAN.
    Scan(ScanCommand),
    /// RANDOMKEY.
    RandomKey,
}

impl KeyCommand {
    /// Whether the command may change keys by its own meaning (and is refused on a standby). A
    /// read may still find an expired key, whose DEL its plan then carries.
    pub fn is_write(&self) -> bool {
        use KeyCommand as K;
        match self {
            K::Flush
            | K::Set(_)
            | K::GetDel { .. }
            | K::GetEx(_)
            | K::MSet { .. }
            | K::MSetNx { .. }
            | K::Append { .. }
            | K::SetRange { .. }
            | K::SetBit { .. }
            | K::BitOp { .. }
            | K::BitField {
                read_only: false, ..
            }
            | K::IncrBy { .. }
            | K::IncrByFloat { .. }
            | K::Del { .. }
            | K::Rename(_)
            | K::Copy(_)
            | K::Expire(_)
            | K::Persist { .. } => true,
            K::DbSize
            | K::Get { .. }
            | K::MGet { .. }
            | K::StrLen { .. }
            | K::GetRange { .. }
            | K::Lcs(_)
            | K::GetBit { .. }
            | K::BitCount(_)
            | K::BitPos(_)
            | K::BitField { .. }
            | K::Exists { .. }
            | K::Touch { .. }
            | K::Ttl { .. }
            | K::Type { .. }
            | K::Keys { .. }
            | K::Scan(_)
            | K::RandomKey => false,
        }
    }

    /// A name for the log of slow commands, in capitals; of commands that are the same but for their
    /// form, the most general one.
    pub fn name(&self) -> &'static str {
        use KeyCommand as K;
        match self {
            K::DbSize => "DBSIZE",
            K::Flush => "FLUSHALL",
            K::Get { .. } => "GET",
            K::Set(_) => "SET",
            K::GetDel { .. } => "GETDEL",
            K::GetEx(_) => "GETEX",
            K::MGet { .. } => "MGET",
            K::MSet { .. } => "MSET",
            K::MSetNx { .. } => "MSETNX",
            K::Append { .. } => "APPEND",
            K::StrLen { .. } => "STRLEN",
            K::GetRange { .. } => "GETRANGE",
            K::SetRange { .. } => "SETRANGE",
            K::Lcs(_) => "LCS",
            K::GetBit { .. } => "GETBIT",
            K::SetBit { .. } => "SETBIT",
            K::BitCount(_) => "BITCOUNT",
            K::BitPos(_) => "BITPOS",
            K::BitOp { .. } => "BITOP",
            K::BitField { .. } => "BITFIELD",
            K::IncrBy { .. } => "INCRBY",
            K::IncrByFloat { .. } => "INCRBYFLOAT",
            K::Del { .. } => "DEL",
            K::Exists { .. } => "EXISTS",
            K::Touch { .. } => "TOUCH",
            K::Rename(_) => "RENAME",
            K::Copy(_) => "COPY",
            K::Expire(_) => "PEXPIRE",
            K::Ttl { .. } => "PTTL",
            K::Persist { .. } => "PERSIST",
            K::Type { .. } => "TYPE",
            K::Keys { .. } => "KEYS",
            K::Scan(_) => "SCAN",
            K::RandomKey => "RANDOMKEY",
        }
    }

    /// The keys that the command names.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        use KeyCommand as K;
        let (mut one, mut other, mut many, mut pairs) = (None, None, &[][..], &[][..]);
        match self {
            K::Get { key }
            | K::GetDel { key }
            | K::Append { key, .. }
            | K::StrLen { key }
            | K::GetRange { key, .. }
            | K::SetRange { key, .. }
            | K::GetBit { key, .. }
            | K::SetBit { key, .. }
            | K::BitField { key, .. }
            | K::IncrBy { key, .. }
            | K::IncrByFloat { key, .. }
            | K::Ttl { key, .. }
            | K::Persist { key }
            | K::Type { key } => one = Some(key),
            K::Set(set) => one = Some(&set.key),
            K::GetEx(get) => one = Some(&get.key),
            K::Expire(expire) => one = Some(&expire.key),
            K::BitCount(search) | K::BitPos(search) => one = Some(&search.key),
            K::Lcs(lcs) => (one, other) = (Some(&lcs.keys[0]), Some(&lcs.keys[1])),
            K::Rename(rename) => (one, other) = (Some(&rename.from), Some(&rename.to)),
            K::Copy(copy) => (one, other) = (Some(&copy.from), Some(&copy.to)),
            K::MGet { keys }
            | K::Del { keys }
            | K::Exists { keys }
            | K::Touch { keys }
            | K::BitOp { keys, .. } => many = keys,
            K::MSet { pairs: some } | K::MSetNx { pairs: some } => pairs = some,
            K::DbSize | K::Flush | K::Keys { .. } | K::Scan(_) | K::RandomKey => {}
        }
        let firsts = pairs.iter().map(|(key, _)| key);
        one.into_iter()
            .chain(other)
            .chain(many)
            .chain(firsts)
            .map(|key| &key[..])
    }
}
