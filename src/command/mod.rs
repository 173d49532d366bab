//! Frames to commands: what a request means, before anything is looked up.
//!
//! Promise: [`Command::parse`] accepts what Redis 7.0 accepts and refuses the rest with the same
//! error text, in the same order of precedence. Parsing needs no clock and no keyspace; what
//! depends on them (an expiry that overflows when added to the time) is decided by
//! `keyspace::plan`. Nothing here is carried out.
//!
//! One file per family; `table.rs` knows all names, arities and flags; `describe.rs` answers
//! COMMAND from it. Differences from Redis are listed in `docs/commands.md`.

mod acl;
mod args;
mod bitmap;
mod client;
mod client_control;
mod config;
mod describe;
mod diagnostics;
mod dump;
mod expire;
mod generic;
mod glob;
mod help;
mod long_double;
mod object;
mod pubsub;
mod receipt;
mod refused;
mod request_id;
mod scripting;
mod sentinel;
mod server;
mod session;
mod set;
mod string;
mod table;
mod transaction;

use bytes::Bytes;

pub use acl::AclCommand;
pub(crate) use args::NOT_AN_INTEGER;
pub use args::{MAX_STRING_BYTES, invalid_expire_time, parse_integer};
pub use bitmap::{BitOp, BitRange, BitSearch, FieldAction, FieldOp, FieldType, Overflow};
pub use client::{ClientCommand, ClientKind, clean_name};
pub use client_control::{ClientFilter, ReplyMode};
pub use config::ConfigCommand;
pub use describe::{CommandQuery, KeyUse, ListFilter, key_uses};
pub use diagnostics::{LatencyCommand, MemoryCommand, SlowLogCommand};
pub use dump::RestoreCommand;
pub use expire::{ExpireCommand, ExpireCondition, TtlForm};
pub use generic::{CopyCommand, RenameCommand, ScanCommand};
pub use glob::glob_matches;
pub use help::help_of;
pub use long_double::LongDouble;
pub use object::ObjectQuestion;
pub use pubsub::PubSubQuery;
pub use receipt::{CopyLevel, DurabilityCommand, WaitCommand};
pub use sentinel::SentinelCommand;
pub use server::{FailoverCommand, FailoverTarget};
pub use session::{HelloCommand, HelloStep, SessionCommand};
pub use set::{Expiry, GetExCommand, GetExExpiry, SetCommand, SetCondition, SetExpiry, SetReply};
pub use string::{LcsCommand, LcsForm};
use table::lookup_command;
pub use table::{CommandSpec, commands, lookup, rows};
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
        row_of(&request.args).is_ok()
    }

    /// The meaning of `request`, or the error to answer.
    pub fn parse(request: &Request) -> Result<Command, Reply> {
        match find_spec(request) {
            Ok(spec) => spec.parse(request),
            Err(reply) => Command::unknown(request, reply),
        }
    }

    /// What a request means that names no command, or gives it too few or too many arguments.
    pub fn unknown(request: &Request, reply: Reply) -> Result<Command, Reply> {
        match request.args.first() {
            Some(name) if is_http(name) => Ok(Command::Session(SessionCommand::CrossProtocol)),
            _ => Err(reply),
        }
    }
}

/// The row of the command that `request` names and has enough arguments for, or the error to answer.
pub fn find_spec(request: &Request) -> Result<&'static CommandSpec, Reply> {
    let args = &request.args[..];
    let Some(name) = args.first() else {
        return Err(Reply::error("ERR empty request"));
    };
    let Some(spec) = lookup_command(name) else {
        return Err(refused::command(name).unwrap_or_else(|| args::unknown_command(args)));
    };
    if !spec.accepts(args.len()) {
        return Err(args::wrong_arity(spec.name));
    }
    Ok(spec)
}

impl CommandSpec {
    /// The row of the subcommand that the request names, if it names one, else this one.
    pub fn named_by(&'static self, request: &Request) -> &'static CommandSpec {
        // No container has keys, and whatever has is asked for often.
        if self.keys.0 > 0 {
            return self;
        }
        find_subcommand(self, &request.args).unwrap_or(self)
    }

    /// The meaning of a request for this command.
    pub fn parse(&'static self, request: &Request) -> Result<Command, Reply> {
        (self.parse)(self, &request.args)
    }
}

/// Why a request has no row in the table.
#[derive(Clone, Copy, Debug)]
pub enum NoRow {
    /// There is no such command or subcommand.
    Unknown,
    /// It takes another number of arguments.
    Arity(&'static CommandSpec),
}

/// The row that a request is for, the subcommand's where there is one, once the number of its
/// arguments is right.
pub fn row_of(args: &[Bytes]) -> Result<&'static CommandSpec, NoRow> {
    let spec = args.first().and_then(|name| lookup_command(name));
    let spec = spec.ok_or(NoRow::Unknown)?;
    let container = spec.subcommands().next().is_some();
    let row = match container && args.len() > 1 {
        true => find_subcommand(spec, args).ok_or(NoRow::Unknown)?,
        false => spec,
    };
    match row.accepts(args.len()) {
        true => Ok(row),
        false => Err(NoRow::Arity(row)),
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
    /// DELIFEQ (as in Valkey 9.0).
    DelIfEqual {
        /// The key.
        key: Bytes,
        /// The value that it must have.
        value: Bytes,
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
    /// OBJECT ENCODING, FREQ, IDLETIME and REFCOUNT.
    Object {
        /// The key.
        key: Bytes,
        /// What is asked of it.
        question: ObjectQuestion,
    },
    /// MEMORY USAGE. One value is not made of many, so that there is nothing to take samples of.
    MemoryUsage {
        /// The key.
        key: Bytes,
    },
    /// DUMP.
    Dump {
        /// The key.
        key: Bytes,
    },
    /// RESTORE.
    Restore(RestoreCommand),
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
            | K::DelIfEqual { .. }
            | K::Rename(_)
            | K::Copy(_)
            | K::Restore(_)
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
            | K::Object { .. }
            | K::MemoryUsage { .. }
            | K::Dump { .. }
            | K::Ttl { .. }
            | K::Type { .. }
            | K::Keys { .. }
            | K::Scan(_)
            | K::RandomKey => false,
        }
    }

    /// Whether the command is refused while memory is full (Redis: `denyoom`).
    pub fn may_grow(&self) -> bool {
        use KeyCommand as K;
        match self {
            K::Set(_)
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
            | K::Copy(_)
            | K::Restore(_) => true,
            K::Flush
            | K::GetDel { .. }
            | K::GetEx(_)
            | K::Del { .. }
            | K::DelIfEqual { .. }
            | K::Rename(_)
            | K::Expire(_)
            | K::Persist { .. } => false,
            reads => {
                debug_assert!(!reads.is_write(), "{reads:?} is in neither list");
                false
            }
        }
    }

    /// A name for the log of slow commands, in capitals; of commands that are the same but for their
    /// form, the most general one.
    pub fn name(&self) -> &'static str {
        use KeyCommand as K;
        match self {
            K::DelIfEqual { .. } => "DELIFEQ",
            K::Dump { .. } => "DUMP",
            K::Restore(_) => "RESTORE",
            K::Object { .. } => "OBJECT",
            K::MemoryUsage { .. } => "MEMORY USAGE",
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
            | K::Object { key, .. }
            | K::MemoryUsage { key }
            | K::Dump { key }
            | K::DelIfEqual { key, .. }
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
            K::Restore(restore) => one = Some(&restore.key),
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
