//! All commands that rules may name, with their categories.
//!
//! Promise: these are this server's commands and those of Redis 7.0.15 (`redis_commands.txt`, its
//! `COMMAND`), so that an ACL file that was written for Redis loads here and comes out again with
//! the same words. A permission for a command that does not exist here permits nothing.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::command::{CommandSpec, commands};

/// The categories, in the order in which Redis names them.
pub(super) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const OF_REDIS: &str = include_str!("redis_commands.txt");

/// A command's place in the catalogue.
pub(super) type CommandId = usize;

/// One command or subcommand.
#[derive(Debug)]
pub(super) struct Entry {
    /// A subcommand's is `container|subcommand`.
    pub(super) name: &'static str,
    /// One bit for each of [`CATEGORIES`].
    categories: u32,
    /// Redis 7.0.15 has it, too.
    pub(super) of_redis: bool,
    /// A container's subcommands.
    pub(super) subcommands: Vec<CommandId>,
}

impl Entry {
    pub(super) fn is_in(&self, category: usize) -> bool {
        self.categories >> category & 1 == 1
    }

    pub(super) fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }
}

/// All of them: each container is followed by its subcommands.
#[derive(Debug)]
pub(super) struct Catalogue {
    entries: Vec<Entry>,
    by_name: HashMap<&'static str, CommandId>,
}

/// The catalogue.
pub(super) fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::make);
    &CATALOGUE
}

/// The place of a category in [`CATEGORIES`].
pub(super) fn category(name: &[u8]) -> Option<usize> {
    CATEGORIES
        .iter()
        .position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

impl Catalogue {
    fn make() -> Catalogue {
        let mut found: Vec<(&'static str, u32, bool)> = OF_REDIS
            .lines()
            .filter_map(|line| {
                let (name, categories) = line.split_once(' ')?;
                Some((name, bits(categories), true))
            })
            .collect();
        let ours = commands().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()));
        for spec in ours {
            if !found.iter().any(|(name, ..)| *name == spec.name) {
                found.push((spec.name, bits(spec.categories), false));
            }
        }
        // A container's bar sorts before any letter, so that its subcommands follow it.
        found.sort_by_key(|(name, ..)| name.replace('|', "\0"));
        let entries: Vec<Entry> = found
            .iter()
            .map(|&(name, categories, of_redis)| Entry {
                name,
                categories,
                of_redis,
                subcommands: subcommands(&found, name),
            })
            .collect();
        let by_name = entries
            .iter()
            .enumerate()
            .map(|(id, entry)| (entry.name, id))
            .collect();
        Catalogue { entries, by_name }
    }

    /// How many there are; ids are below that.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (CommandId, &Entry)> {
        self.entries.iter().enumerate()
    }

    pub(super) fn entry(&self, id: CommandId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The command of this name, in any case.
    pub(super) fn find(&self, name: &[u8]) -> Option<CommandId> {
        let name = std::str::from_utf8(name).ok()?;
        match self.by_name.get(name) {
            Some(id) => Some(*id),
            None => self
                .by_name
                .get(name.to_ascii_lowercase().as_str())
                .copied(),
        }
    }

    /// This server's command.
    pub(super) fn id_of(&self, spec: &CommandSpec) -> Option<CommandId> {
        self.by_name.get(spec.name).copied()
    }
}

fn subcommands(found: &[(&'static str, u32, bool)], container: &str) -> Vec<CommandId> {
    let of_container = |name: &str| {
        let split = name.split_once('|');
        split.is_some_and(|(parent, _)| parent == container)
    };
    let numbered = found.iter().enumerate();
    numbered
        .filter(|(_, (name, ..))| of_container(name))
        .map(|(id, _)| id)
        .collect()
}

fn bits(categories: &str) -> u32 {
    categories
        .split_ascii_whitespace()
        .filter_map(|name| category(name.trim_start_matches('@').as_bytes()))
        .fold(0, |bits, category| bits | 1 << category)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_and_in_redis_has_the_same_categories() {
        let mut compared = 0;
        let ours = commands().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()));
        for spec in ours {
            let id = catalogue().id_of(spec).expect("all commands are in it");
            let entry = catalogue().entry(id).expect("it was found");
            assert_eq!(entry.categories, bits(spec.categories), "{}", spec.name);
            compared += usize::from(entry.of_redis);
        }
        assert!(compared > 90, "only {compared} compared");
    }

    #[test]
    fn each_container_is_followed_by_its_subcommands() {
        let mut last = None;
        for (id, entry) in catalogue().entries() {
            match entry.name.split_once('|') {
                Some((container, _)) => assert_eq!(Some(container), last, "{}", entry.name),
                None => last = Some(entry.name),
            }
            for (place, subcommand) in entry.subcommands.iter().enumerate() {
                assert_eq!(*subcommand, id + 1 + place, "{}", entry.name);
            }
        }
        assert_eq!(
            catalogue().find(b"CONFIG|Get"),
            catalogue().find(b"config|get")
        );
        assert!(catalogue().find(b"lpush").is_some(), "Redis has it");
        assert_eq!(catalogue().find(b"nosuch"), None);
    }
}
