//! The table of `docs/commands.md` says of every command of Redis 7.2 what it is here, and is written
//! from the table of commands. `UPDATE=1` writes it anew.

use std::fmt::Write;

use bytes::Bytes;
use understudy::command::{Command, commands, lookup};
use understudy::resp::{Reply, Request};

const FILE: &str = "docs/commands.md";
const BEGIN: &str = "<!-- commands: begin -->\n";
const END: &str = "<!-- commands: end -->\n";

/// Groups of which every command is told.
const GROUPS: [&str; 8] = [
    "string",
    "generic",
    "bitmap",
    "transactions",
    "pubsub",
    "connection",
    "server",
    "scripting",
];

/// What is to be said of a command that is here.
const NOTES: [(&str, &str); 15] = [
    (
        "debug",
        "`DEBUG ERROR`, and `DEBUG SLEEP` of this connection alone",
    ),
    ("failover", "a switchover, without loss; see below"),
    ("function|delete", "answers as Redis without functions"),
    ("function|dump", "answers as Redis without functions"),
    ("function|flush", "answers as Redis without functions"),
    ("function|kill", "answers as Redis without functions"),
    ("function|list", "answers as Redis without functions"),
    ("function|stats", "answers as Redis without functions"),
    ("memory|malloc-stats", "answers as Redis without jemalloc"),
    ("move", "answers as Redis with one database"),
    ("script|exists", "answers as Redis without scripts"),
    ("script|flush", "answers as Redis without scripts"),
    ("script|kill", "answers as Redis without scripts"),
    ("shutdown", "a primary hands over first"),
    ("swapdb", "answers as Redis with one database"),
];

/// Group and name.
fn of_redis() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("redis_commands.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

/// What a request of that name is refused with.
fn refusal(name: &str) -> String {
    let mut words = name.split('|');
    let args = words.by_ref().map(|word| Bytes::from(word.to_string()));
    let args: Vec<Bytes> = args.chain([Bytes::from_static(b"x")]).collect();
    match Command::parse(&Request { args }) {
        Err(Reply::Error(text)) if text.contains("unknown command") => "unknown command".into(),
        Err(Reply::Error(text)) if text.contains("unknown subcommand") => {
            "unknown subcommand".into()
        }
        Err(Reply::Error(text)) => format!("refused: `{}`", text.replace('`', "'")),
        other => panic!("{name} has no row, and yet it is understood: {other:?}"),
    }
}

fn here(name: &str) -> String {
    let note = NOTES.iter().find(|(known, _)| *known == name);
    match (lookup(name.as_bytes()), note) {
        (Some(_), Some((_, note))) => (*note).to_string(),
        (Some(_), None) => "yes".to_string(),
        (None, _) => refusal(name),
    }
}

fn table() -> String {
    let of_redis = of_redis();
    let is_container = |name: &str| {
        let mut names = of_redis.iter().map(|(_, name)| *name);
        names.any(|known| known.split_once('|').is_some_and(|(of, _)| of == name))
    };
    let mut text = String::new();
    for group in GROUPS {
        let _ = write!(text, "\n| {group} | here |\n| --- | --- |\n");
        let of_group = of_redis.iter().filter(|(known, _)| *known == group);
        let names: Vec<&str> = of_group.map(|(_, name)| *name).collect();
        // A container that is not here at all needs no lines for its subcommands.
        let is_told = |name: &str| match name.split_once('|') {
            Some((container, _)) => lookup(container.as_bytes()).is_some(),
            None => lookup(name.as_bytes()).is_none() || !is_container(name) || name == "command",
        };
        for name in names.into_iter().filter(|name| is_told(name)) {
            let title = name.replace('|', " ").to_ascii_uppercase();
            let _ = writeln!(text, "| `{title}` | {} |", here(name));
        }
    }
    let mut others: Vec<&str> = of_redis.iter().map(|(group, _)| *group).collect();
    others.sort_unstable();
    others.dedup();
    let _ = write!(text, "\n| group | here |\n| --- | --- |\n");
    for group in others.into_iter().filter(|group| !GROUPS.contains(group)) {
        let mut names = of_redis.iter().filter(|(known, _)| *known == group);
        let some = names.any(|(_, name)| lookup(name.as_bytes()).is_some());
        assert!(
            !some,
            "{group}: some of it is here, so that each of its commands is to be told"
        );
        let _ = writeln!(text, "| {group} | none |");
    }
    text
}

#[test]
fn the_table_says_what_is_here() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&path).expect("the documentation");
    let (before, rest) = text.split_once(BEGIN).expect("the line before the table");
    let (_, after) = rest.split_once(END).expect("the line after the table");
    let wanted = format!("{before}{BEGIN}{}\n{END}{after}", table());
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, wanted).expect("it is ours to write");
        return;
    }
    assert!(
        text == wanted,
        "{FILE} is not what the table of commands says; write it anew: \
         UPDATE=1 cargo test --test command_docs"
    );
}

#[test]
fn what_redis_does_not_have_is_told() {
    let known = of_redis();
    let not_of_redis = commands()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()))
        .map(|spec| spec.name)
        .filter(|name| !known.iter().any(|(_, of_redis)| of_redis == name))
        .filter(|name| !name.starts_with("sentinel"));
    let text = std::fs::read_to_string(FILE).expect("the page");
    let (_, beyond) = text.split_once("## Beyond Redis").expect("its section");
    let (beyond, _) = beyond
        .split_once("\n## Who may")
        .expect("the next but some");
    for name in not_of_redis {
        let name = name.replace('|', " ").to_ascii_uppercase();
        assert!(
            beyond.contains(&format!("`{name}")),
            "{name} is told nowhere"
        );
    }
    for (name, _) in NOTES {
        assert!(lookup(name.as_bytes()).is_some(), "{name}");
    }
}
