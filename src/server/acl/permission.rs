//! Whether a user may carry out a request.

use bytes::Bytes;

use super::catalogue::catalogue;
use super::selector::{KeyPattern, Selector};
use super::user::User;
use crate::command::{CommandSpec, KeyUse, glob_matches, key_uses};

/// Why not. Where every selector refuses, the greatest of their reasons is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denied {
    /// The command.
    Command,
    /// The key among the arguments at this place.
    Key(usize),
    /// The channel at this place.
    Channel(usize),
}

impl User {
    /// Whether this user may carry out `args`, which is a request for `spec`.
    pub(super) fn may(&self, spec: &'static CommandSpec, args: &[Bytes]) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in self.selectors() {
            match selector.may(spec, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether this user may listen to a channel, or, literally, to a pattern of channels.
    pub(super) fn may_listen(&self, channel: &[u8], literally: bool) -> bool {
        self.selectors()
            .any(|selector| selector.may_use_channel(channel, literally))
    }
}

impl Selector {
    fn may(&self, spec: &'static CommandSpec, args: &[Bytes]) -> Result<(), Denied> {
        if !self.all_commands && !spec.has_flag("no_auth") && !self.may_run(spec, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            let refused = key_uses(spec, args).find(|(place, used)| {
                args.get(*place)
                    .is_some_and(|key| !self.may_use_key(key, *used))
            });
            if let Some((place, _)) = refused {
                return Err(Denied::Key(place));
            }
        }
        if !self.all_channels {
            let (places, literally) = channels(spec, args.len());
            for place in places {
                let channel = args.get(place).map_or(&b""[..], |channel| channel);
                if !self.may_use_channel(channel, literally) {
                    return Err(Denied::Channel(place));
                }
            }
        }
        Ok(())
    }

    fn may_run(&self, spec: &'static CommandSpec, args: &[Bytes]) -> bool {
        let Some(id) = catalogue().id_of(spec) else {
            return false;
        };
        let first = args.get(1);
        self.commands.has(id)
            || self.first_arguments.iter().any(|(of, argument)| {
                *of == id && first.is_some_and(|first| first.eq_ignore_ascii_case(argument))
            })
    }

    fn may_use_key(&self, key: &[u8], used: KeyUse) -> bool {
        let allows = |keys: &KeyPattern| {
            (keys.read || !used.reads)
                && (keys.write || !used.writes)
                && matches(&keys.pattern, key)
        };
        self.keys.iter().any(allows)
    }

    fn may_use_channel(&self, channel: &[u8], literally: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|pattern| match literally {
                true => pattern == channel,
                false => matches(pattern, channel),
            })
    }
}

/// As Redis compares: its matcher finds no pattern but the empty one in an empty name. (KEYS and SCAN
/// do not ask it about `*`.)
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match name.is_empty() {
        true => pattern.is_empty(),
        false => glob_matches(pattern, name, false),
    }
}

/// Where a request has channels, and whether they are patterns, which are compared as they stand.
fn channels(spec: &CommandSpec, args: usize) -> (std::ops::Range<usize>, bool) {
    match spec.name {
        "publish" => (1..2, false),
        "subscribe" => (1..args, false),
        "psubscribe" => (1..args, true),
        _ => (0..0, false),
    }
}
