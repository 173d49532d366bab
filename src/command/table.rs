//! The table of all commands this server knows, as `COMMAND` describes them.
//!
//! Promise: name, arity, flags, key positions and categories of each row are those that Redis
//! 7.0.15 reports for the command (its rows were written from `COMMAND INFO`), so that clients
//! which route or check by them behave as with Redis. A command that is not here does not exist.
//! The rows of SENTINEL are a Redis Sentinel's 7.0.15 (but PING, which it had before); those of what came with
//! Redis 7.2 follow its manual, that of DELIFEQ follows Valkey 9.0.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;

use super::{
    Command, acl, bitmap, client, client_control, config, describe, diagnostics, dump, expire,
    generic, help, object, parse_container, pubsub, receipt, request_id, scripting, sentinel,
    server, session, set, string, transaction,
};
use crate::resp::Reply;

/// How a command's arguments (its name included) become a [`Command`].
pub(super) type ParseFn = fn(&'static CommandSpec, &[Bytes]) -> Result<Command, Reply>;

/// One row: what is known about a command before its arguments are looked at. Lists are text
/// separated by blanks, since only COMMAND, which is rare, takes them apart.
#[derive(Debug)]
pub struct CommandSpec {
    /// Lower-case name; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// Number of arguments, name (and subcommand) included; negative: at least that many.
    pub arity: i32,
    /// Redis's flags: `write`, `readonly`, `fast`, `loading`, `stale` and so on.
    pub flags: &'static str,
    /// Positions of the first and the last key (negative: from the end) and the step between.
    pub keys: (i32, i32, i32),
    /// What happens to the keys: `RO access`, `RW update` and so on; behind a `;`, to those behind the
    /// first.
    pub key_flags: &'static str,
    /// ACL categories, each with its `@`.
    pub categories: &'static str,
    /// Command tips, such as `nondeterministic_output`.
    pub tips: &'static str,
    /// Group of the manual: `string`, `generic`, `server` and so on.
    pub group: &'static str,
    /// First version of Redis that had it, or ours.
    pub since: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    pub(super) parse: ParseFn,
}

impl CommandSpec {
    /// Whether `flag` is among the command's flags.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags
            .split_ascii_whitespace()
            .any(|known| known == flag)
    }

    /// Whether a request with `args` arguments, the name included, satisfies the arity.
    pub fn accepts(&self, args: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            args >= wanted
        } else {
            args == wanted
        }
    }

    /// The container's name for a subcommand, else none.
    pub fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// The rows of this command's subcommands, in alphabetical order.
    pub fn subcommands(&self) -> impl Iterator<Item = &'static CommandSpec> {
        static BY_CONTAINER: LazyLock<HashMap<&'static str, Vec<&'static CommandSpec>>> =
            LazyLock::new(|| {
                let mut rows: HashMap<_, Vec<_>> = HashMap::new();
                for spec in COMMANDS {
                    if let Some(container) = spec.container() {
                        rows.entry(container).or_default().push(spec);
                    }
                }
                rows
            });
        BY_CONTAINER.get(self.name).into_iter().flatten().copied()
    }
}

/// All commands that are not subcommands, in alphabetical order.
pub fn commands() -> impl Iterator<Item = &'static CommandSpec> {
    COMMANDS.iter().filter(|spec| spec.container().is_none())
}

/// All rows, those of subcommands, too.
pub fn rows() -> &'static [CommandSpec] {
    COMMANDS
}

/// The row of the command `name`, in any case; a subcommand's name is `container|subcommand`.
pub fn lookup(name: &[u8]) -> Option<&'static CommandSpec> {
    static ALL: LazyLock<Buckets> = LazyLock::new(|| Buckets::of(COMMANDS.iter()));
    ALL.find(name)
}

/// The same of commands alone. It runs once per request.
pub(super) fn lookup_command(name: &[u8]) -> Option<&'static CommandSpec> {
    static ALONE: LazyLock<Buckets> = LazyLock::new(|| Buckets::of(commands()));
    ALONE.find(name)
}

/// Rows by first byte and length: a lookup compares one or two names, hashes nothing and copies nothing.
struct Buckets([Vec<&'static CommandSpec>; 256]);

impl Buckets {
    fn of(specs: impl Iterator<Item = &'static CommandSpec>) -> Buckets {
        let mut buckets = [const { Vec::new() }; 256];
        for spec in specs {
            buckets[bucket_of(spec.name.as_bytes())].push(spec);
        }
        Buckets(buckets)
    }

    fn find(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let bucket = self.0.get(bucket_of(name))?;
        bucket
            .iter()
            .copied()
            .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

fn bucket_of(name: &[u8]) -> usize {
    let first = name
        .first()
        .map_or(0, |byte| usize::from(byte.to_ascii_lowercase()));
    (first * 8 + name.len()) % 256
}

#[rustfmt::skip]
static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "acl", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.0.0", summary: "A container for Access List Control commands ",
        parse: parse_container,
    },
    CommandSpec {
        name: "acl|cat", arity: -2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.0.0", summary: "List the ACL categories or the commands inside a category",
        parse: acl::parse_cat,
    },
    CommandSpec {
        name: "acl|deluser", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "Remove the specified ACL users and the associated rules",
        parse: acl::parse_deluser,
    },
    CommandSpec {
        name: "acl|dryrun", arity: -4, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "7.0.0", summary: "Returns whether the user can execute the given command without executing the command.",
        parse: acl::parse_dryrun,
    },
    CommandSpec {
        name: "acl|genpass", arity: -2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.0.0", summary: "Generate a pseudorandom secure password to use for ACL users",
        parse: acl::parse_genpass,
    },
    CommandSpec {
        name: "acl|getuser", arity: 3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "Get the rules for a specific ACL user",
        parse: acl::parse_getuser,
    },
    CommandSpec {
        name: "acl|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "acl|list", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "List the current ACL rules in ACL config file format",
        parse: acl::parse_list,
    },
    CommandSpec {
        name: "acl|load", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "Reload the ACLs from the configured ACL file",
        parse: acl::parse_load,
    },
    CommandSpec {
        name: "acl|log", arity: -2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "List latest events denied because of ACLs in place",
        parse: acl::parse_log,
    },
    CommandSpec {
        name: "acl|save", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "Save the current ACL rules in the configured ACL file",
        parse: acl::parse_save,
    },
    CommandSpec {
        name: "acl|setuser", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "Modify or create the rules for a specific ACL user",
        parse: acl::parse_setuser,
    },
    CommandSpec {
        name: "acl|users", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.0.0", summary: "List the username of all the configured ACL rules",
        parse: acl::parse_users,
    },
    CommandSpec {
        name: "acl|whoami", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.0.0", summary: "Return the name of the user associated to the current connection",
        parse: acl::parse_whoami,
    },
    CommandSpec {
        name: "append", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW insert",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "2.0.0", summary: "Append a value to a key",
        parse: string::parse_append,
    },
    CommandSpec {
        name: "auth", arity: -2, flags: "noscript loading stale fast no_auth allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "1.0.0", summary: "Authenticate to the server",
        parse: session::parse_auth,
    },
    CommandSpec {
        name: "bitcount", arity: -2, flags: "readonly",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @bitmap @slow", tips: "",
        group: "bitmap", since: "2.6.0", summary: "Count set bits in a string",
        parse: bitmap::parse_bitcount,
    },
    CommandSpec {
        name: "bitfield", arity: -2, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "RW access update variable_flags",
        categories: "@write @bitmap @slow", tips: "",
        group: "bitmap", since: "3.2.0", summary: "Perform arbitrary bitfield integer operations on strings",
        parse: bitmap::parse_bitfield,
    },
    CommandSpec {
        name: "bitfield_ro", arity: -2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @bitmap @fast", tips: "",
        group: "bitmap", since: "6.0.0", summary: "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD",
        parse: bitmap::parse_bitfield_ro,
    },
    CommandSpec {
        name: "bitop", arity: -4, flags: "write denyoom",
        keys: (2, -1, 1), key_flags: "OW update; RO access",
        categories: "@write @bitmap @slow", tips: "",
        group: "bitmap", since: "2.6.0", summary: "Perform bitwise operations between strings",
        parse: bitmap::parse_bitop,
    },
    CommandSpec {
        name: "bitpos", arity: -3, flags: "readonly",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @bitmap @slow", tips: "",
        group: "bitmap", since: "2.8.7", summary: "Find first bit set or clear in a string",
        parse: bitmap::parse_bitpos,
    },
    CommandSpec {
        name: "client", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "connection", since: "2.4.0", summary: "A container for client connection commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "client|caching", arity: 3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "6.0.0", summary: "Instruct the server about tracking or not keys in the next request",
        parse: client_control::parse_caching,
    },
    CommandSpec {
        name: "client|durability", arity: -2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "understudy 0.1.0", summary: "Ask for copies on standbys before each write is answered",
        parse: receipt::parse_durability,
    },
    CommandSpec {
        name: "client|getname", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "2.6.9", summary: "Get the current connection name",
        parse: client::parse_getname,
    },
    CommandSpec {
        name: "client|getredir", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "6.0.0", summary: "Get tracking notifications redirection client ID if any",
        parse: client_control::parse_getredir,
    },
    CommandSpec {
        name: "client|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "5.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "client|id", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "5.0.0", summary: "Returns the client ID for the current connection",
        parse: client::parse_id,
    },
    CommandSpec {
        name: "client|info", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "nondeterministic_output",
        group: "connection", since: "6.2.0", summary: "Returns information about the current client connection.",
        parse: client::parse_info,
    },
    CommandSpec {
        name: "client|kill", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "",
        group: "connection", since: "2.4.0", summary: "Kill the connection of a client",
        parse: client_control::parse_kill,
    },
    CommandSpec {
        name: "client|lastlsn", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "understudy 0.1.0", summary: "Returns the record number of this connection's last write",
        parse: receipt::parse_lastlsn,
    },
    CommandSpec {
        name: "client|list", arity: -2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "nondeterministic_output",
        group: "connection", since: "2.4.0", summary: "Get the list of client connections",
        parse: client::parse_list,
    },
    CommandSpec {
        name: "client|maxstaleness", arity: 3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "understudy 0.1.0", summary: "Has this connection's reads on a standby refused where they may be older",
        parse: receipt::parse_maxstaleness,
    },
    CommandSpec {
        name: "client|no-evict", arity: 3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "",
        group: "connection", since: "7.0.0", summary: "Set client eviction mode for the current connection",
        parse: client::parse_no_evict,
    },
    CommandSpec {
        name: "client|no-touch", arity: 3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "7.2.0", summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        parse: client_control::parse_no_touch,
    },
    CommandSpec {
        name: "client|pause", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "",
        group: "connection", since: "2.9.50", summary: "Stop processing commands from clients for some time",
        parse: client_control::parse_pause,
    },
    CommandSpec {
        name: "client|reply", arity: 3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "3.2.0", summary: "Instruct the server whether to reply to commands",
        parse: client_control::parse_reply,
    },
    CommandSpec {
        name: "client|requestid", arity: -3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "understudy 0.1.0", summary: "The next write on this connection happens once, however often it is sent with this id",
        parse: request_id::parse_requestid,
    },
    CommandSpec {
        name: "client|setinfo", arity: 4, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "7.2.0", summary: "Set client or connection specific info",
        parse: client::parse_setinfo,
    },
    CommandSpec {
        name: "client|setname", arity: 3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "2.6.9", summary: "Set the current connection name",
        parse: client::parse_setname,
    },
    CommandSpec {
        name: "client|tracking", arity: -3, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "6.0.0", summary: "Enable or disable server assisted client side caching support",
        parse: client_control::parse_tracking,
    },
    CommandSpec {
        name: "client|trackinginfo", arity: 2, flags: "noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "6.2.0", summary: "Return information about server assisted client side caching for the current connection",
        parse: client_control::parse_trackinginfo,
    },
    CommandSpec {
        name: "client|unblock", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "",
        group: "connection", since: "5.0.0", summary: "Unblock a client blocked in a blocking command from a different connection",
        parse: client_control::parse_unblock,
    },
    CommandSpec {
        name: "client|unpause", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous @connection", tips: "",
        group: "connection", since: "6.2.0", summary: "Resume processing of clients that were paused",
        parse: client_control::parse_unpause,
    },
    CommandSpec {
        name: "command", arity: -1, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "nondeterministic_output_order",
        group: "server", since: "2.8.13", summary: "Get array of Redis command details",
        parse: describe::parse_command,
    },
    CommandSpec {
        name: "command|count", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "server", since: "2.8.13", summary: "Get total number of Redis commands",
        parse: describe::parse_count,
    },
    CommandSpec {
        name: "command|docs", arity: -2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "nondeterministic_output_order",
        group: "server", since: "7.0.0", summary: "Get array of specific Redis command documentation",
        parse: describe::parse_docs,
    },
    CommandSpec {
        name: "command|getkeys", arity: -4, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "server", since: "2.8.13", summary: "Extract keys given a full Redis command",
        parse: describe::parse_getkeys,
    },
    CommandSpec {
        name: "command|getkeysandflags", arity: -4, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "server", since: "7.0.0", summary: "Extract keys and access flags given a full Redis command",
        parse: describe::parse_getkeysandflags,
    },
    CommandSpec {
        name: "command|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "server", since: "5.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "command|info", arity: -2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "nondeterministic_output_order",
        group: "server", since: "2.8.13", summary: "Get array of specific Redis command details, or all when no argument is given.",
        parse: describe::parse_info,
    },
    CommandSpec {
        name: "command|list", arity: -2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "nondeterministic_output_order",
        group: "server", since: "7.0.0", summary: "Get an array of Redis command names",
        parse: describe::parse_list,
    },
    CommandSpec {
        name: "config", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "2.0.0", summary: "A container for server configuration commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "config|get", arity: -3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "2.0.0", summary: "Get the values of configuration parameters",
        parse: config::parse_get,
    },
    CommandSpec {
        name: "config|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "5.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "config|resetstat", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "2.0.0", summary: "Reset the stats returned by INFO",
        parse: config::parse_resetstat,
    },
    CommandSpec {
        name: "config|rewrite", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "2.8.0", summary: "Rewrite the configuration file with the in memory configuration",
        parse: config::parse_rewrite,
    },
    CommandSpec {
        name: "config|set", arity: -4, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "request_policy:all_nodes response_policy:all_succeeded",
        group: "server", since: "2.0.0", summary: "Set configuration parameters to the given values",
        parse: config::parse_set,
    },
    CommandSpec {
        name: "copy", arity: -3, flags: "write denyoom",
        keys: (1, 2, 1), key_flags: "RO access; OW update",
        categories: "@keyspace @write @slow", tips: "",
        group: "generic", since: "6.2.0", summary: "Copy a key",
        parse: generic::parse_copy,
    },
    CommandSpec {
        name: "dbsize", arity: 1, flags: "readonly fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @read @fast", tips: "request_policy:all_shards response_policy:agg_sum",
        group: "server", since: "1.0.0", summary: "Return the number of keys in the selected database",
        parse: generic::parse_db_size,
    },
    CommandSpec {
        name: "debug", arity: -2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "1.0.0", summary: "A container for debugging commands",
        parse: server::parse_debug,
    },
    CommandSpec {
        name: "decr", arity: 2, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Decrement the integer value of a key by one",
        parse: string::parse_decr,
    },
    CommandSpec {
        name: "decrby", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Decrement the integer value of a key by the given number",
        parse: string::parse_decrby,
    },
    CommandSpec {
        name: "del", arity: -2, flags: "write",
        keys: (1, -1, 1), key_flags: "RM delete",
        categories: "@keyspace @write @slow", tips: "request_policy:multi_shard response_policy:agg_sum",
        group: "generic", since: "1.0.0", summary: "Delete a key",
        parse: generic::parse_del,
    },
    CommandSpec {
        name: "delifeq", arity: 3, flags: "write",
        keys: (1, 1, 1), key_flags: "RM access delete",
        categories: "@write @string @slow", tips: "",
        group: "string", since: "9.0.0", summary: "Delete key if value matches string.",
        parse: set::parse_delifeq,
    },
    CommandSpec {
        name: "discard", arity: 1, flags: "noscript loading stale fast allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @transaction", tips: "",
        group: "transactions", since: "2.0.0", summary: "Discard all commands issued after MULTI",
        parse: transaction::parse_discard,
    },
    CommandSpec {
        name: "dump", arity: 2, flags: "readonly",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output",
        group: "generic", since: "2.6.0", summary: "Return a serialized version of the value stored at the specified key.",
        parse: dump::parse_dump,
    },
    CommandSpec {
        name: "echo", arity: 2, flags: "loading stale fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "1.0.0", summary: "Echo the given string",
        parse: session::parse_echo,
    },
    CommandSpec {
        name: "exec", arity: 1, flags: "noscript loading stale skip_slowlog",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @transaction", tips: "",
        group: "transactions", since: "1.2.0", summary: "Execute all commands issued after MULTI",
        parse: transaction::parse_exec,
    },
    CommandSpec {
        name: "exists", arity: -2, flags: "readonly fast",
        keys: (1, -1, 1), key_flags: "RO",
        categories: "@keyspace @read @fast", tips: "request_policy:multi_shard response_policy:agg_sum",
        group: "generic", since: "1.0.0", summary: "Determine if a key exists",
        parse: generic::parse_exists,
    },
    CommandSpec {
        name: "expire", arity: -3, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "1.0.0", summary: "Set a key's time to live in seconds",
        parse: expire::parse_expire,
    },
    CommandSpec {
        name: "expireat", arity: -3, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "1.2.0", summary: "Set the expiration for a key as a UNIX timestamp",
        parse: expire::parse_expireat,
    },
    CommandSpec {
        name: "expiretime", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@keyspace @read @fast", tips: "",
        group: "generic", since: "7.0.0", summary: "Get the expiration Unix timestamp for a key",
        parse: expire::parse_expiretime,
    },
    CommandSpec {
        name: "failover", arity: -1, flags: "admin noscript stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "6.2.0", summary: "Start a coordinated failover between this server and one of its replicas.",
        parse: server::parse_failover,
    },
    CommandSpec {
        name: "flushall", arity: -1, flags: "write",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @write @slow @dangerous", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "server", since: "1.0.0", summary: "Remove all keys from all databases",
        parse: generic::parse_flush,
    },
    CommandSpec {
        name: "flushdb", arity: -1, flags: "write",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @write @slow @dangerous", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "server", since: "1.0.0", summary: "Remove all keys from the current database",
        parse: generic::parse_flush,
    },
    CommandSpec {
        name: "function", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "scripting", since: "7.0.0", summary: "A container for function commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "function|delete", arity: 3, flags: "write noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@write @slow @scripting", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "scripting", since: "7.0.0", summary: "Delete a function by name",
        parse: scripting::parse_function_delete,
    },
    CommandSpec {
        name: "function|dump", arity: 2, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "",
        group: "scripting", since: "7.0.0", summary: "Dump all functions into a serialized binary payload",
        parse: scripting::parse_function_dump,
    },
    CommandSpec {
        name: "function|flush", arity: -2, flags: "write noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@write @slow @scripting", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "scripting", since: "7.0.0", summary: "Deleting all functions",
        parse: scripting::parse_function_flush,
    },
    CommandSpec {
        name: "function|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "",
        group: "scripting", since: "7.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "function|kill", arity: 2, flags: "noscript allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "request_policy:all_shards response_policy:one_succeeded",
        group: "scripting", since: "7.0.0", summary: "Kill the function currently in execution.",
        parse: scripting::parse_kill,
    },
    CommandSpec {
        name: "function|list", arity: -2, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "nondeterministic_output_order",
        group: "scripting", since: "7.0.0", summary: "List information about all the functions",
        parse: scripting::parse_function_list,
    },
    CommandSpec {
        name: "function|stats", arity: 2, flags: "noscript allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        group: "scripting", since: "7.0.0", summary: "Return information about the function currently running (name, description, duration)",
        parse: scripting::parse_function_stats,
    },
    CommandSpec {
        name: "get", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Get the value of a key",
        parse: string::parse_get,
    },
    CommandSpec {
        name: "getbit", arity: 3, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @bitmap @fast", tips: "",
        group: "bitmap", since: "2.2.0", summary: "Returns the bit value at offset in the string value stored at key",
        parse: bitmap::parse_getbit,
    },
    CommandSpec {
        name: "getdel", arity: 2, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW access delete",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "6.2.0", summary: "Get the value of a key and delete the key",
        parse: string::parse_getdel,
    },
    CommandSpec {
        name: "getex", arity: -2, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "6.2.0", summary: "Get the value of a key and optionally set its expiration",
        parse: set::parse_getex,
    },
    CommandSpec {
        name: "getrange", arity: 4, flags: "readonly",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @string @slow", tips: "",
        group: "string", since: "2.4.0", summary: "Get a substring of the string stored at a key",
        parse: string::parse_getrange,
    },
    CommandSpec {
        name: "getset", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Set the string value of a key and return its old value",
        parse: set::parse_getset,
    },
    CommandSpec {
        name: "hello", arity: -1, flags: "noscript loading stale fast no_auth allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "6.0.0", summary: "Handshake with Redis",
        parse: session::parse_hello,
    },
    CommandSpec {
        name: "incr", arity: 2, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Increment the integer value of a key by one",
        parse: string::parse_incr,
    },
    CommandSpec {
        name: "incrby", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Increment the integer value of a key by the given amount",
        parse: string::parse_incrby,
    },
    CommandSpec {
        name: "incrbyfloat", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "2.6.0", summary: "Increment the float value of a key by the given amount",
        parse: string::parse_incrbyfloat,
    },
    CommandSpec {
        name: "info", arity: -1, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @dangerous", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        group: "server", since: "1.0.0", summary: "Get information and statistics about the server",
        parse: session::parse_info,
    },
    CommandSpec {
        name: "keys", arity: 2, flags: "readonly",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @read @slow @dangerous", tips: "request_policy:all_shards nondeterministic_output_order",
        group: "generic", since: "1.0.0", summary: "Find all keys matching the given pattern",
        parse: generic::parse_keys,
    },
    CommandSpec {
        name: "latency", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "2.8.13", summary: "A container for latency diagnostics commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "latency|doctor", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
        group: "server", since: "2.8.13", summary: "Return a human readable latency analysis report.",
        parse: diagnostics::parse_latency_doctor,
    },
    CommandSpec {
        name: "latency|graph", arity: 3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
        group: "server", since: "2.8.13", summary: "Return a latency graph for the event.",
        parse: diagnostics::parse_latency_graph,
    },
    CommandSpec {
        name: "latency|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "2.8.13", summary: "Show helpful text about the different subcommands.",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "latency|histogram", arity: -2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
        group: "server", since: "7.0.0", summary: "Return the cumulative distribution of latencies of a subset of commands or all.",
        parse: diagnostics::parse_latency_histogram,
    },
    CommandSpec {
        name: "latency|history", arity: 3, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
        group: "server", since: "2.8.13", summary: "Return timestamp-latency samples for the event.",
        parse: diagnostics::parse_latency_history,
    },
    CommandSpec {
        name: "latency|latest", arity: 2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "nondeterministic_output request_policy:all_nodes response_policy:special",
        group: "server", since: "2.8.13", summary: "Return the latest latency samples for all events.",
        parse: diagnostics::parse_latency_latest,
    },
    CommandSpec {
        name: "latency|reset", arity: -2, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "request_policy:all_nodes response_policy:all_succeeded",
        group: "server", since: "2.8.13", summary: "Reset latency data for one or more events.",
        parse: diagnostics::parse_latency_reset,
    },
    CommandSpec {
        name: "lcs", arity: -3, flags: "readonly",
        keys: (1, 2, 1), key_flags: "RO access",
        categories: "@read @string @slow", tips: "",
        group: "string", since: "7.0.0", summary: "Find longest common substring",
        parse: string::parse_lcs,
    },
    CommandSpec {
        name: "lolwut", arity: -1, flags: "readonly fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@read @fast", tips: "",
        group: "server", since: "5.0.0", summary: "Display some computer art and the Redis version",
        parse: server::parse_lolwut,
    },
    CommandSpec {
        name: "memory", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "4.0.0", summary: "A container for memory diagnostics commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "memory|doctor", arity: 2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        group: "server", since: "4.0.0", summary: "Outputs memory problems report",
        parse: diagnostics::parse_memory_doctor,
    },
    CommandSpec {
        name: "memory|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "4.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "memory|malloc-stats", arity: 2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        group: "server", since: "4.0.0", summary: "Show allocator internal stats",
        parse: diagnostics::parse_memory_malloc_stats,
    },
    CommandSpec {
        name: "memory|purge", arity: 2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "server", since: "4.0.0", summary: "Ask the allocator to release memory",
        parse: diagnostics::parse_memory_purge,
    },
    CommandSpec {
        name: "memory|stats", arity: 2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        group: "server", since: "4.0.0", summary: "Show memory usage details",
        parse: diagnostics::parse_memory_stats,
    },
    CommandSpec {
        name: "memory|usage", arity: -3, flags: "readonly",
        keys: (2, 2, 1), key_flags: "RO",
        categories: "@read @slow", tips: "",
        group: "server", since: "4.0.0", summary: "Estimate the memory usage of a key",
        parse: object::parse_usage,
    },
    CommandSpec {
        name: "mget", arity: -2, flags: "readonly fast",
        keys: (1, -1, 1), key_flags: "RO access",
        categories: "@read @string @fast", tips: "request_policy:multi_shard",
        group: "string", since: "1.0.0", summary: "Get the values of all the given keys",
        parse: string::parse_mget,
    },
    CommandSpec {
        name: "monitor", arity: 1, flags: "admin noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "1.0.0", summary: "Listen for all requests received by the server in real time",
        parse: session::parse_monitor,
    },
    CommandSpec {
        name: "move", arity: 3, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "1.0.0", summary: "Move a key to another database",
        parse: server::parse_move,
    },
    CommandSpec {
        name: "mset", arity: -3, flags: "write denyoom",
        keys: (1, -1, 2), key_flags: "OW update",
        categories: "@write @string @slow", tips: "request_policy:multi_shard response_policy:all_succeeded",
        group: "string", since: "1.0.1", summary: "Set multiple keys to multiple values",
        parse: string::parse_mset,
    },
    CommandSpec {
        name: "msetnx", arity: -3, flags: "write denyoom",
        keys: (1, -1, 2), key_flags: "OW insert",
        categories: "@write @string @slow", tips: "request_policy:multi_shard response_policy:agg_min",
        group: "string", since: "1.0.1", summary: "Set multiple keys to multiple values, only if none of the keys exist",
        parse: string::parse_msetnx,
    },
    CommandSpec {
        name: "multi", arity: 1, flags: "noscript loading stale fast allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @transaction", tips: "",
        group: "transactions", since: "1.2.0", summary: "Mark the start of a transaction block",
        parse: transaction::parse_multi,
    },
    CommandSpec {
        name: "object", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "generic", since: "2.2.3", summary: "A container for object introspection commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "object|encoding", arity: 3, flags: "readonly",
        keys: (2, 2, 1), key_flags: "RO",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output",
        group: "generic", since: "2.2.3", summary: "Inspect the internal encoding of a Redis object",
        parse: object::parse_encoding,
    },
    CommandSpec {
        name: "object|freq", arity: 3, flags: "readonly",
        keys: (2, 2, 1), key_flags: "RO",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output",
        group: "generic", since: "4.0.0", summary: "Get the logarithmic access frequency counter of a Redis object",
        parse: object::parse_freq,
    },
    CommandSpec {
        name: "object|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @slow", tips: "",
        group: "generic", since: "6.2.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "object|idletime", arity: 3, flags: "readonly",
        keys: (2, 2, 1), key_flags: "RO",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output",
        group: "generic", since: "2.2.3", summary: "Get the time since a Redis object was last accessed",
        parse: object::parse_idletime,
    },
    CommandSpec {
        name: "object|refcount", arity: 3, flags: "readonly",
        keys: (2, 2, 1), key_flags: "RO",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output",
        group: "generic", since: "2.2.3", summary: "Get the number of references to the value of the key",
        parse: object::parse_refcount,
    },
    CommandSpec {
        name: "persist", arity: 2, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "2.2.0", summary: "Remove the expiration from a key",
        parse: expire::parse_persist,
    },
    CommandSpec {
        name: "pexpire", arity: -3, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "2.6.0", summary: "Set a key's time to live in milliseconds",
        parse: expire::parse_pexpire,
    },
    CommandSpec {
        name: "pexpireat", arity: -3, flags: "write fast",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "2.6.0", summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
        parse: expire::parse_pexpireat,
    },
    CommandSpec {
        name: "pexpiretime", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@keyspace @read @fast", tips: "",
        group: "generic", since: "7.0.0", summary: "Get the expiration Unix timestamp for a key in milliseconds",
        parse: expire::parse_pexpiretime,
    },
    CommandSpec {
        name: "ping", arity: -1, flags: "fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "request_policy:all_shards response_policy:all_succeeded",
        group: "connection", since: "1.0.0", summary: "Ping the server",
        parse: session::parse_ping,
    },
    CommandSpec {
        name: "psetex", arity: 4, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "OW update",
        categories: "@write @string @slow", tips: "",
        group: "string", since: "2.6.0", summary: "Set the value and expiration in milliseconds of a key",
        parse: set::parse_psetex,
    },
    CommandSpec {
        name: "psubscribe", arity: -2, flags: "pubsub noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.0.0", summary: "Listen for messages published to channels matching the given patterns",
        parse: pubsub::parse_psubscribe,
    },
    CommandSpec {
        name: "pttl", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@keyspace @read @fast", tips: "nondeterministic_output",
        group: "generic", since: "2.6.0", summary: "Get the time to live for a key in milliseconds",
        parse: expire::parse_pttl,
    },
    CommandSpec {
        name: "publish", arity: 3, flags: "pubsub loading stale fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @fast", tips: "",
        group: "pubsub", since: "2.0.0", summary: "Post a message to a channel",
        parse: pubsub::parse_publish,
    },
    CommandSpec {
        name: "pubsub", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "pubsub", since: "2.8.0", summary: "A container for Pub/Sub commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "pubsub|channels", arity: -2, flags: "pubsub loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.8.0", summary: "List active channels",
        parse: pubsub::parse_channels,
    },
    CommandSpec {
        name: "pubsub|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "pubsub", since: "6.2.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "pubsub|numpat", arity: 2, flags: "pubsub loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.8.0", summary: "Get the count of unique patterns pattern subscriptions",
        parse: pubsub::parse_numpat,
    },
    CommandSpec {
        name: "pubsub|numsub", arity: -2, flags: "pubsub loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.8.0", summary: "Get the count of subscribers for channels",
        parse: pubsub::parse_numsub,
    },
    CommandSpec {
        name: "pubsub|shardchannels", arity: -2, flags: "pubsub loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "7.0.0", summary: "List active shard channels",
        parse: pubsub::parse_shardchannels,
    },
    CommandSpec {
        name: "pubsub|shardnumsub", arity: -2, flags: "pubsub loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "7.0.0", summary: "Get the count of subscribers for shard channels",
        parse: pubsub::parse_shardnumsub,
    },
    CommandSpec {
        name: "punsubscribe", arity: -1, flags: "pubsub noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.0.0", summary: "Stop listening for messages posted to channels matching the given patterns",
        parse: pubsub::parse_punsubscribe,
    },
    CommandSpec {
        name: "quit", arity: -1, flags: "noscript loading stale fast no_auth allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "1.0.0", summary: "Close the connection",
        parse: session::parse_quit,
    },
    CommandSpec {
        name: "randomkey", arity: 1, flags: "readonly",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @read @slow", tips: "request_policy:all_shards nondeterministic_output",
        group: "generic", since: "1.0.0", summary: "Return a random key from the keyspace",
        parse: generic::parse_random_key,
    },
    CommandSpec {
        name: "readafter", arity: 3, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "",
        group: "connection", since: "understudy 0.1.0", summary: "The next read on this connection waits until a record is visible here",
        parse: receipt::parse_readafter,
    },
    CommandSpec {
        name: "rename", arity: 3, flags: "write",
        keys: (1, 2, 1), key_flags: "RW access delete; OW update",
        categories: "@keyspace @write @slow", tips: "",
        group: "generic", since: "1.0.0", summary: "Rename a key",
        parse: generic::parse_rename,
    },
    CommandSpec {
        name: "renamenx", arity: 3, flags: "write fast",
        keys: (1, 2, 1), key_flags: "RW access delete; OW insert",
        categories: "@keyspace @write @fast", tips: "",
        group: "generic", since: "1.0.0", summary: "Rename a key, only if the new key does not exist",
        parse: generic::parse_renamenx,
    },
    CommandSpec {
        name: "reset", arity: 1, flags: "noscript loading stale fast no_auth allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "6.2.0", summary: "Reset the connection",
        parse: session::parse_reset,
    },
    CommandSpec {
        name: "restore", arity: -4, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "OW update",
        categories: "@keyspace @write @slow @dangerous", tips: "",
        group: "generic", since: "2.6.0", summary: "Create a key using the provided serialized value, previously obtained using DUMP.",
        parse: dump::parse_restore,
    },
    CommandSpec {
        name: "role", arity: 1, flags: "noscript loading stale fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @fast @dangerous", tips: "",
        group: "server", since: "2.8.12", summary: "Return the role of the instance in the context of replication",
        parse: session::parse_role,
    },
    CommandSpec {
        name: "scan", arity: -2, flags: "readonly",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @read @slow", tips: "nondeterministic_output request_policy:special",
        group: "generic", since: "2.8.0", summary: "Incrementally iterate the keys space",
        parse: generic::parse_scan,
    },
    CommandSpec {
        name: "script", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "scripting", since: "2.6.0", summary: "A container for Lua scripts management commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "script|exists", arity: -3, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "request_policy:all_shards response_policy:agg_logical_and",
        group: "scripting", since: "2.6.0", summary: "Check existence of scripts in the script cache.",
        parse: scripting::parse_script_exists,
    },
    CommandSpec {
        name: "script|flush", arity: -2, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "request_policy:all_nodes response_policy:all_succeeded",
        group: "scripting", since: "2.6.0", summary: "Remove all the scripts from the script cache.",
        parse: scripting::parse_script_flush,
    },
    CommandSpec {
        name: "script|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "",
        group: "scripting", since: "5.0.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "script|kill", arity: 2, flags: "noscript allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @scripting", tips: "request_policy:all_shards response_policy:one_succeeded",
        group: "scripting", since: "2.6.0", summary: "Kill the script currently in execution.",
        parse: scripting::parse_kill,
    },
    CommandSpec {
        name: "select", arity: 2, flags: "loading stale fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @connection", tips: "",
        group: "connection", since: "1.0.0", summary: "Change the selected database for the current connection",
        parse: session::parse_select,
    },
    CommandSpec {
        name: "sentinel", arity: -2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "sentinel", since: "2.8.4", summary: "A container for Sentinel commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "sentinel|ckquorum", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Check for a Sentinel quorum",
        parse: sentinel::parse_ckquorum,
    },
    CommandSpec {
        name: "sentinel|config", arity: -3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "6.2.0", summary: "Configure Sentinel",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|debug", arity: -2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "7.0.0", summary: "List or update the current configurable parameters",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|failover", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Force a failover",
        parse: sentinel::parse_failover,
    },
    CommandSpec {
        name: "sentinel|flushconfig", arity: 2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Rewrite configuration file",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|get-master-addr-by-name", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Get port and address of a master",
        parse: sentinel::parse_get_master_addr_by_name,
    },
    CommandSpec {
        name: "sentinel|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "sentinel", since: "6.2.0", summary: "Show helpful text about the different subcommands",
        parse: sentinel::parse_help,
    },
    CommandSpec {
        name: "sentinel|info-cache", arity: -3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "3.2.0", summary: "Get cached INFO from the instances in the deployment",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|is-master-down-by-addr", arity: 6, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Check if a master is down",
        parse: sentinel::parse_is_master_down_by_addr,
    },
    CommandSpec {
        name: "sentinel|master", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Shows the state of a master",
        parse: sentinel::parse_master,
    },
    CommandSpec {
        name: "sentinel|masters", arity: 2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "List the monitored masters",
        parse: sentinel::parse_masters,
    },
    CommandSpec {
        name: "sentinel|monitor", arity: 6, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Start monitoring",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|myid", arity: 2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "6.2.0", summary: "Get the Sentinel instance ID",
        parse: sentinel::parse_myid,
    },
    CommandSpec {
        name: "sentinel|pending-scripts", arity: 2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Get information about pending scripts",
        parse: sentinel::parse_pending_scripts,
    },
    CommandSpec {
        name: "sentinel|ping", arity: 2, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Answer PONG",
        parse: sentinel::parse_ping,
    },
    CommandSpec {
        name: "sentinel|remove", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Stop monitoring",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|replicas", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "5.0.0", summary: "List the monitored replicas",
        parse: sentinel::parse_replicas,
    },
    CommandSpec {
        name: "sentinel|reset", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Reset masters by name pattern",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|sentinels", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "List the Sentinel instances",
        parse: sentinel::parse_sentinels,
    },
    CommandSpec {
        name: "sentinel|set", arity: -5, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.4", summary: "Change the configuration of a monitored master",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|simulate-failure", arity: -3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "3.2.0", summary: "Simulate failover scenarios",
        parse: sentinel::parse_not_here,
    },
    CommandSpec {
        name: "sentinel|slaves", arity: 3, flags: "admin",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "sentinel", since: "2.8.0", summary: "List the monitored slaves",
        parse: sentinel::parse_slaves,
    },
    CommandSpec {
        name: "set", arity: -3, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "RW access update variable_flags",
        categories: "@write @string @slow", tips: "",
        group: "string", since: "1.0.0", summary: "Set the string value of a key",
        parse: set::parse_set,
    },
    CommandSpec {
        name: "setbit", arity: 4, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "RW access update",
        categories: "@write @bitmap @slow", tips: "",
        group: "bitmap", since: "2.2.0", summary: "Sets or clears the bit at offset in the string value stored at key",
        parse: bitmap::parse_setbit,
    },
    CommandSpec {
        name: "setex", arity: 4, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "OW update",
        categories: "@write @string @slow", tips: "",
        group: "string", since: "2.0.0", summary: "Set the value and expiration of a key",
        parse: set::parse_setex,
    },
    CommandSpec {
        name: "setnx", arity: 3, flags: "write denyoom fast",
        keys: (1, 1, 1), key_flags: "OW insert",
        categories: "@write @string @fast", tips: "",
        group: "string", since: "1.0.0", summary: "Set the value of a key, only if the key does not exist",
        parse: set::parse_setnx,
    },
    CommandSpec {
        name: "setrange", arity: 4, flags: "write denyoom",
        keys: (1, 1, 1), key_flags: "RW update",
        categories: "@write @string @slow", tips: "",
        group: "string", since: "2.2.0", summary: "Overwrite part of a string at key starting at the specified offset",
        parse: string::parse_setrange,
    },
    CommandSpec {
        name: "shutdown", arity: -1, flags: "admin noscript loading stale no_multi allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "",
        group: "server", since: "1.0.0", summary: "Synchronously save the dataset to disk and then shut down the server",
        parse: server::parse_shutdown,
    },
    CommandSpec {
        name: "slowlog", arity: -2, flags: "",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "2.2.12", summary: "A container for slow log commands",
        parse: parse_container,
    },
    CommandSpec {
        name: "slowlog|get", arity: -2, flags: "admin loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "request_policy:all_nodes nondeterministic_output",
        group: "server", since: "2.2.12", summary: "Get the slow log's entries",
        parse: diagnostics::parse_slowlog_get,
    },
    CommandSpec {
        name: "slowlog|help", arity: 2, flags: "loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow", tips: "",
        group: "server", since: "6.2.0", summary: "Show helpful text about the different subcommands",
        parse: help::parse_help,
    },
    CommandSpec {
        name: "slowlog|len", arity: 2, flags: "admin loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
        group: "server", since: "2.2.12", summary: "Get the slow log's length",
        parse: diagnostics::parse_slowlog_len,
    },
    CommandSpec {
        name: "slowlog|reset", arity: 2, flags: "admin loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@admin @slow @dangerous", tips: "request_policy:all_nodes response_policy:all_succeeded",
        group: "server", since: "2.2.12", summary: "Clear all entries from the slow log",
        parse: diagnostics::parse_slowlog_reset,
    },
    CommandSpec {
        name: "spublish", arity: 3, flags: "pubsub loading stale fast",
        keys: (1, 1, 1), key_flags: "not_key",
        categories: "@pubsub @fast", tips: "",
        group: "pubsub", since: "7.0.0", summary: "Post a message to a shard channel",
        parse: pubsub::parse_spublish,
    },
    CommandSpec {
        name: "ssubscribe", arity: -2, flags: "pubsub noscript loading stale",
        keys: (1, -1, 1), key_flags: "not_key",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "7.0.0", summary: "Listen for messages published to the given shard channels",
        parse: pubsub::parse_ssubscribe,
    },
    CommandSpec {
        name: "strlen", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO",
        categories: "@read @string @fast", tips: "",
        group: "string", since: "2.2.0", summary: "Get the length of the value stored in a key",
        parse: string::parse_strlen,
    },
    CommandSpec {
        name: "subscribe", arity: -2, flags: "pubsub noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.0.0", summary: "Listen for messages published to the given channels",
        parse: pubsub::parse_subscribe,
    },
    CommandSpec {
        name: "substr", arity: 4, flags: "readonly",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@read @string @slow", tips: "",
        group: "string", since: "1.0.0", summary: "Get a substring of the string stored at a key",
        parse: string::parse_getrange,
    },
    CommandSpec {
        name: "sunsubscribe", arity: -1, flags: "pubsub noscript loading stale",
        keys: (1, -1, 1), key_flags: "not_key",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "7.0.0", summary: "Stop listening for messages posted to the given shard channels",
        parse: pubsub::parse_sunsubscribe,
    },
    CommandSpec {
        name: "swapdb", arity: 3, flags: "write fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@keyspace @write @fast @dangerous", tips: "",
        group: "server", since: "4.0.0", summary: "Swaps two Redis databases",
        parse: server::parse_swapdb,
    },
    CommandSpec {
        name: "time", arity: 1, flags: "loading stale fast",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast", tips: "nondeterministic_output",
        group: "server", since: "2.6.0", summary: "Return the current server time",
        parse: session::parse_time,
    },
    CommandSpec {
        name: "touch", arity: -2, flags: "readonly fast",
        keys: (1, -1, 1), key_flags: "RO",
        categories: "@keyspace @read @fast", tips: "request_policy:multi_shard response_policy:agg_sum",
        group: "generic", since: "3.2.1", summary: "Alters the last access time of a key(s). Returns the number of existing keys specified.",
        parse: generic::parse_touch,
    },
    CommandSpec {
        name: "ttl", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO access",
        categories: "@keyspace @read @fast", tips: "nondeterministic_output",
        group: "generic", since: "1.0.0", summary: "Get the time to live for a key in seconds",
        parse: expire::parse_ttl,
    },
    CommandSpec {
        name: "type", arity: 2, flags: "readonly fast",
        keys: (1, 1, 1), key_flags: "RO",
        categories: "@keyspace @read @fast", tips: "",
        group: "generic", since: "1.0.0", summary: "Determine the type stored at key",
        parse: generic::parse_type,
    },
    CommandSpec {
        name: "unlink", arity: -2, flags: "write fast",
        keys: (1, -1, 1), key_flags: "RM delete",
        categories: "@keyspace @write @fast", tips: "request_policy:multi_shard response_policy:agg_sum",
        group: "generic", since: "4.0.0", summary: "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.",
        parse: generic::parse_del,
    },
    CommandSpec {
        name: "unsubscribe", arity: -1, flags: "pubsub noscript loading stale",
        keys: (0, 0, 0), key_flags: "",
        categories: "@pubsub @slow", tips: "",
        group: "pubsub", since: "2.0.0", summary: "Stop listening for messages posted to the given channels",
        parse: pubsub::parse_unsubscribe,
    },
    CommandSpec {
        name: "unwatch", arity: 1, flags: "noscript loading stale fast allow_busy",
        keys: (0, 0, 0), key_flags: "",
        categories: "@fast @transaction", tips: "",
        group: "transactions", since: "2.2.0", summary: "Forget about all watched keys",
        parse: transaction::parse_unwatch,
    },
    CommandSpec {
        name: "wait", arity: 3, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "request_policy:all_shards response_policy:agg_min",
        group: "generic", since: "3.0.0", summary: "Wait for the synchronous replication of all the write commands sent in the context of the current connection",
        parse: receipt::parse_wait,
    },
    CommandSpec {
        name: "waitaof", arity: 4, flags: "noscript",
        keys: (0, 0, 0), key_flags: "",
        categories: "@slow @connection", tips: "request_policy:all_shards response_policy:agg_min",
        group: "generic", since: "7.2.0", summary: "Wait for all write commands sent in the context of the current connection to be synced to the log of this node and of standbys",
        parse: receipt::parse_waitaof,
    },
    CommandSpec {
        name: "watch", arity: -2, flags: "noscript loading stale fast allow_busy",
        keys: (1, -1, 1), key_flags: "RO",
        categories: "@fast @transaction", tips: "",
        group: "transactions", since: "2.2.0", summary: "Watch the given keys to determine execution of the MULTI/EXEC block",
        parse: transaction::parse_watch,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_row_is_found() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for spec in COMMANDS {
            let found = lookup(spec.name.to_ascii_uppercase().as_bytes());
            assert_eq!(found.map(|found| found.name), Some(spec.name));
            assert!(
                spec.container()
                    .is_none_or(|name| lookup(name.as_bytes()).is_some())
            );
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(b"getx").is_none());
    }
}
