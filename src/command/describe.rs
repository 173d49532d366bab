//! COMMAND and its subcommands: the command table, as clients ask for it.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, is_option, rest};
use super::{
    Command, CommandSpec, SessionCommand, commands, find_subcommand, glob_matches, lookup,
};
use crate::resp::Reply;

/// A question about the command table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandQuery {
    /// COMMAND, or COMMAND INFO without names: every command.
    All,
    /// COMMAND COUNT.
    Count,
    /// COMMAND INFO name…
    Info {
        /// Names; a subcommand's is `container|subcommand`.
        names: Vec<Bytes>,
    },
    /// COMMAND DOCS name…; without names, every command.
    Docs {
        /// Names.
        names: Vec<Bytes>,
    },
    /// COMMAND LIST.
    List(ListFilter),
    /// COMMAND GETKEYS.
    GetKeys {
        /// A whole request.
        request: Vec<Bytes>,
    },
    /// COMMAND GETKEYSANDFLAGS.
    GetKeysAndFlags {
        /// A whole request.
        request: Vec<Bytes>,
    },
}

/// Which names COMMAND LIST gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All, subcommands included.
    All,
    /// Those of a module: none, since there are no modules.
    Module,
    /// Those of an ACL category, named without `@`.
    Category(Bytes),
    /// Those that match a glob pattern.
    Pattern(Bytes),
}

fn query(query: CommandQuery) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Command(query)))
}

pub(super) fn parse_command(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    if args.len() == 1 {
        query(CommandQuery::All)
    } else {
        super::parse_container(spec, args)
    }
}

pub(super) fn parse_count(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    query(CommandQuery::Count)
}

pub(super) fn parse_info(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match rest(args, 2) {
        names if names.is_empty() => query(CommandQuery::All),
        names => query(CommandQuery::Info { names }),
    }
}

pub(super) fn parse_docs(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    query(CommandQuery::Docs {
        names: rest(args, 2),
    })
}

pub(super) fn parse_getkeys(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    query(CommandQuery::GetKeys {
        request: rest(args, 2),
    })
}

pub(super) fn parse_getkeysandflags(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    query(CommandQuery::GetKeysAndFlags {
        request: rest(args, 2),
    })
}

pub(super) fn parse_list(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let filter = match args.get(2..).unwrap_or_default() {
        [] => ListFilter::All,
        [by, kind, value] if is_option(by, "FILTERBY") => {
            if is_option(kind, "MODULE") {
                ListFilter::Module
            } else if is_option(kind, "ACLCAT") {
                ListFilter::Category(value.clone())
            } else if is_option(kind, "PATTERN") {
                ListFilter::Pattern(value.clone())
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        _ => return Err(SYNTAX_ERROR),
    };
    query(CommandQuery::List(filter))
}

impl CommandQuery {
    /// The answer.
    pub fn answer(&self) -> Reply {
        match self {
            CommandQuery::All => Reply::Array(commands().map(info).collect()),
            CommandQuery::Count => Reply::Integer(commands().count() as i64),
            CommandQuery::Info { names } => {
                let infos = names
                    .iter()
                    .map(|name| lookup(name).map_or(Reply::Null, info));
                Reply::Array(infos.collect())
            }
            CommandQuery::Docs { names } if names.is_empty() => {
                Reply::Map(commands().map(docs).collect())
            }
            CommandQuery::Docs { names } => Reply::Map(
                names
                    .iter()
                    .filter_map(|name| lookup(name))
                    .map(docs)
                    .collect(),
            ),
            CommandQuery::List(filter) => list(filter),
            CommandQuery::GetKeys { request } => keys_of(request),
            CommandQuery::GetKeysAndFlags { request } => keys_and_flags(request),
        }
    }
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split_ascii_whitespace()
}

fn statuses(text: &'static str) -> Reply {
    Reply::Set(words(text).map(|word| Reply::Simple(word.into())).collect())
}

fn number(number: i32) -> Reply {
    Reply::Integer(i64::from(number))
}

/// One command as COMMAND INFO gives it: ten fields.
fn info(spec: &'static CommandSpec) -> Reply {
    let (first_key, last_key, key_step) = spec.keys;
    Reply::Array(vec![
        Reply::text(spec.name),
        number(spec.arity),
        statuses(spec.flags),
        number(first_key),
        number(last_key),
        number(key_step),
        statuses(spec.categories),
        Reply::Array(words(spec.tips).map(Reply::text).collect()),
        key_specs(spec),
        Reply::Array(spec.subcommands().map(info).collect()),
    ])
}

/// Where the keys are, in the form of Redis 7. All our commands have theirs at fixed positions.
fn key_specs(spec: &'static CommandSpec) -> Reply {
    let (first, last, step) = spec.keys;
    if first == 0 {
        return Reply::Array(Vec::new());
    }
    let notes = match spec.name {
        "set" => Some("RW and ACCESS due to the optional `GET` argument"),
        "getex" => Some("RW and UPDATE because it changes the TTL"),
        "bitfield" => Some("This command allows both access and modification of the key"),
        _ => None,
    };
    Reply::Array(match spec.key_flags.split_once(';') {
        None => vec![key_spec((first, last, step), spec.key_flags, notes)],
        Some((of_first, of_others)) => vec![
            key_spec((first, first, step), of_first, notes),
            key_spec((first + 1, last, step), of_others, None),
        ],
    })
}

fn key_spec(
    (first, last, step): (i32, i32, i32),
    flags: &'static str,
    notes: Option<&'static str>,
) -> Reply {
    let part = |kind, fields| {
        Reply::Map(vec![
            (Reply::text("type"), Reply::text(kind)),
            (Reply::text("spec"), Reply::Map(fields)),
        ])
    };
    let last_from_first = if last < 0 { last } else { last - first };
    let range = vec![
        (Reply::text("lastkey"), number(last_from_first)),
        (Reply::text("keystep"), number(step)),
        (Reply::text("limit"), number(0)),
    ];
    let begin = vec![(Reply::text("index"), number(first))];
    let mut fields = vec![
        (Reply::text("flags"), statuses(flags)),
        (Reply::text("begin_search"), part("index", begin)),
        (Reply::text("find_keys"), part("range", range)),
    ];
    if let Some(notes) = notes {
        fields.insert(0, (Reply::text("notes"), Reply::text(notes)));
    }
    Reply::Map(fields)
}

/// One command as COMMAND DOCS gives it.
fn docs(spec: &'static CommandSpec) -> (Reply, Reply) {
    let mut fields = vec![
        (Reply::text("summary"), Reply::text(spec.summary)),
        (Reply::text("since"), Reply::text(spec.since)),
        (Reply::text("group"), Reply::text(spec.group)),
    ];
    let subcommands: Vec<_> = spec.subcommands().map(docs).collect();
    if !subcommands.is_empty() {
        fields.push((Reply::text("subcommands"), Reply::Map(subcommands)));
    }
    (Reply::text(spec.name), Reply::Map(fields))
}

fn list(filter: &ListFilter) -> Reply {
    let all = commands().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()));
    let listed = all.filter(|spec| match filter {
        ListFilter::All => true,
        ListFilter::Module => false,
        ListFilter::Category(category) => words(spec.categories)
            .filter_map(|known| known.strip_prefix('@'))
            .any(|known| is_option(category, known)),
        ListFilter::Pattern(pattern) => glob_matches(pattern, spec.name.as_bytes(), true),
    });
    Reply::Array(listed.map(|spec| Reply::text(spec.name)).collect())
}

fn keys_of(request: &[Bytes]) -> Reply {
    match find_keys(request) {
        Ok((_, keys)) => Reply::Array(keys.cloned().map(Reply::Bulk).collect()),
        Err(error) => error,
    }
}

fn keys_and_flags(request: &[Bytes]) -> Reply {
    let (spec, keys) = match find_keys(request) {
        Ok(found) => found,
        Err(error) => return error,
    };
    let (first, others) = spec
        .key_flags
        .split_once(';')
        .unwrap_or((spec.key_flags, spec.key_flags));
    // What a key is used for may depend on the arguments.
    let first = match (spec.name, variable_use(spec.name, request)) {
        ("set", Some(KeyUse { reads: false, .. })) => "OW update",
        ("set", _) => "RW access update",
        ("bitfield", Some(KeyUse { writes: false, .. })) => "RO access",
        ("bitfield", _) => "RW access update",
        _ => first,
    };
    let flags = std::iter::once(first).chain(std::iter::repeat(others));
    let with_flags = keys
        .zip(flags)
        .map(|(key, flags)| Reply::Array(vec![Reply::Bulk(key.clone()), statuses(flags)]));
    Reply::Array(with_flags.collect())
}

/// The row of a request's command, and its keys.
fn find_keys(
    request: &[Bytes],
) -> Result<(&'static CommandSpec, impl Iterator<Item = &Bytes>), Reply> {
    let named = request.first().and_then(|name| lookup(name));
    let of_container =
        |spec: &CommandSpec| request.len() > 1 && spec.subcommands().next().is_some();
    let spec = match named {
        Some(spec) if of_container(spec) => find_subcommand(spec, request),
        named => named,
    };
    let Some(spec) = spec else {
        return Err(Reply::error("ERR Invalid command specified"));
    };
    if spec.keys.0 == 0 || spec.key_flags == "not_key" {
        return Err(Reply::error("ERR The command has no key arguments"));
    }
    if !spec.accepts(request.len()) {
        let text = "ERR Invalid number of arguments specified for command";
        return Err(Reply::error(text));
    }
    let keys = key_places(spec, request.len()).filter_map(|place| request.get(place));
    Ok((spec, keys))
}

/// Where the keys of a request with `args` arguments stand.
fn key_places(spec: &CommandSpec, args: usize) -> impl Iterator<Item = usize> + use<> {
    let (first_key, last_key, key_step) = spec.keys;
    let position = |key: i32| {
        let distance = key.unsigned_abs() as usize;
        if key < 0 {
            args.saturating_sub(distance)
        } else {
            distance
        }
    };
    let (first, last) = (position(first_key), position(last_key));
    let end = if first_key == 0 {
        0
    } else {
        (last + 1).min(args)
    };
    (first..end).step_by(key_step.max(1) as usize)
}

/// What a request does with a key, as far as permissions ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Something of its value is told.
    pub reads: bool,
    /// It is made, changed or removed.
    pub writes: bool,
}

/// Where the keys of a request for `spec` stand, and what happens to each.
pub fn key_uses(
    spec: &'static CommandSpec,
    args: &[Bytes],
) -> impl Iterator<Item = (usize, KeyUse)> + use<> {
    let said = |flags: &'static str| KeyUse {
        reads: words(flags).any(|flag| flag == "access"),
        writes: words(flags).any(|flag| ["insert", "update", "delete"].contains(&flag)),
    };
    let (of_first, of_others) = match spec.key_flags.split_once(';') {
        Some((of_first, of_others)) => (said(of_first), said(of_others)),
        None => (said(spec.key_flags), said(spec.key_flags)),
    };
    let of_first = variable_use(spec.name, args).unwrap_or(of_first);
    let places = key_places(spec, args.len()).enumerate();
    places.map(move |(number, place)| (place, if number == 0 { of_first } else { of_others }))
}

/// Of the commands whose arguments say whether they read and write.
fn variable_use(name: &str, args: &[Bytes]) -> Option<KeyUse> {
    match name {
        "set" => {
            let options = args.iter().skip(3);
            Some(KeyUse {
                reads: options.into_iter().any(|option| is_option(option, "GET")),
                writes: true,
            })
        }
        "bitfield" => Some(KeyUse {
            reads: true,
            writes: !bitfield_only_reads(args.get(2..).unwrap_or_default()),
        }),
        _ => None,
    }
}

fn bitfield_only_reads(mut options: &[Bytes]) -> bool {
    loop {
        options = match options {
            [] => return true,
            [option, _, _, tail @ ..] if is_option(option, "GET") => tail,
            [option, _, tail @ ..] if is_option(option, "OVERFLOW") => tail,
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::commands;
    use crate::resp::Request;

    #[test]
    fn a_command_names_the_keys_that_its_row_says() {
        // MOVE, with one database, is never understood.
        let of_keys = |spec: &&CommandSpec| {
            let on_keys = !matches!(spec.group, "transactions" | "pubsub");
            spec.keys.0 > 0 && on_keys && spec.name != "move"
        };
        for spec in commands().filter(of_keys) {
            let mut parsed = 0;
            for count in 1..=7 {
                let mut args = vec![Bytes::from_static(spec.name.as_bytes())];
                // In turn, so that they are bits, too. What stands before the first key is BITOP's.
                args.extend((1..spec.keys.0).map(|_| Bytes::from_static(b"OR")));
                args.extend((0..count).map(|number: u8| Bytes::from((number % 2).to_string())));
                let request = Request { args };
                let Ok(Command::Keys(command)) = Command::parse(&request) else {
                    continue;
                };
                let keys = command.keys().map(Reply::bulk).collect();
                assert_eq!(Reply::Array(keys), keys_of(&request.args), "{}", spec.name);
                assert_eq!(command.is_write(), spec.has_flag("write"), "{}", spec.name);
                let grows = spec.has_flag("denyoom");
                assert_eq!(command.may_grow(), grows, "{}", spec.name);
                parsed += 1;
            }
            assert!(parsed > 0, "{} takes no such arguments", spec.name);
        }
    }
}
