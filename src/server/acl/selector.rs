//! What a set of rules permits: commands, keys and channels that go together.

use bytes::Bytes;

use super::catalogue::{CommandId, catalogue};

/// Which commands of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandSet {
    bits: Vec<u64>,
}

impl CommandSet {
    pub(super) fn all_or_none(all: bool) -> CommandSet {
        let words = catalogue().len().div_ceil(64);
        CommandSet {
            bits: vec![if all { u64::MAX } else { 0 }; words],
        }
    }

    pub(super) fn has(&self, id: CommandId) -> bool {
        let word = self.bits.get(id / 64).copied().unwrap_or(0);
        word >> (id % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, id: CommandId, on: bool) {
        if let Some(word) = self.bits.get_mut(id / 64) {
            let bit = 1 << (id % 64);
            *word = if on { *word | bit } else { *word & !bit };
        }
    }
}

/// A pattern of keys, and what may be done with those that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub(super) pattern: Bytes,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// Rules that are judged together: a request must satisfy one selector in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// Every command, without looking.
    pub(super) all_commands: bool,
    pub(super) all_keys: bool,
    pub(super) all_channels: bool,
    pub(super) commands: CommandSet,
    /// It began with all commands: rules that describe it do so, too.
    pub(super) future_commands: bool,
    /// Commands that are permitted with these first arguments only, in the order they were given.
    pub(super) first_arguments: Vec<(CommandId, Bytes)>,
    pub(super) keys: Vec<KeyPattern>,
    pub(super) channels: Vec<Bytes>,
}

impl Selector {
    /// Permits nothing.
    pub(super) fn nothing() -> Selector {
        Selector {
            all_commands: false,
            all_keys: false,
            all_channels: false,
            commands: CommandSet::all_or_none(false),
            future_commands: false,
            first_arguments: Vec::new(),
            keys: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Permits everything.
    pub(super) fn everything() -> Selector {
        Selector {
            all_commands: true,
            all_keys: true,
            all_channels: true,
            commands: CommandSet::all_or_none(true),
            future_commands: true,
            ..Selector::nothing()
        }
    }

    pub(super) fn permits_everything(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Every command, or none.
    pub(super) fn set_all_commands(&mut self, on: bool) {
        self.commands = CommandSet::all_or_none(on);
        self.all_commands = on;
        self.future_commands = on;
        self.first_arguments.clear();
    }

    /// One command; with a container, its subcommands.
    pub(super) fn set_command(&mut self, id: CommandId, on: bool) {
        self.set_bit(id, on);
        self.first_arguments.retain(|(of, _)| *of != id);
        let subcommands = catalogue().entry(id).map(|entry| &entry.subcommands[..]);
        for subcommand in subcommands.unwrap_or_default() {
            self.set_bit(*subcommand, on);
        }
    }

    fn set_bit(&mut self, id: CommandId, on: bool) {
        self.commands.set(id, on);
        self.all_commands &= on;
    }

    /// Every command of a category.
    pub(super) fn set_category(&mut self, category: usize, on: bool) {
        for (id, entry) in catalogue().entries() {
            if !entry.is_in(category) {
                continue;
            }
            // A subcommand alone; with a container, its subcommands as well.
            self.set_command(id, on);
        }
    }

    /// A command, with this first argument only.
    pub(super) fn permit_first_argument(&mut self, id: CommandId, argument: Bytes) {
        let known = self
            .first_arguments
            .iter()
            .any(|(of, first)| *of == id && first.eq_ignore_ascii_case(&argument));
        if !known {
            self.first_arguments.push((id, argument));
        }
    }

    pub(super) fn add_keys(&mut self, pattern: Bytes, read: bool, write: bool) {
        let known = self.keys.iter_mut().find(|known| known.pattern == pattern);
        match known {
            Some(known) => {
                known.read |= read;
                known.write |= write;
            }
            None => self.keys.push(KeyPattern {
                pattern,
                read,
                write,
            }),
        }
    }

    pub(super) fn add_channels(&mut self, pattern: Bytes) {
        if !self.channels.contains(&pattern) {
            self.channels.push(pattern);
        }
    }
}
