//! Rules, as ACL SETUSER and ACL files say them, applied to a user.

use bytes::Bytes;
use thiserror::Error;

use super::catalogue::{catalogue, category};
use super::selector::Selector;
use super::user::{Sanitize, User};
use crate::node::PasswordDigest;
use crate::resp::split_args;

/// What is wrong with a rule, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum RuleError {
    #[error("Unknown command or category name in ACL")]
    Unknown,
    #[error("Syntax error")]
    Syntax,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not \
         have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AllKeysAlready,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does \
         not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AllChannelsAlready,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal \
         characters"
    )]
    NoDigest,
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgumentOfSubcommand,
}

/// Blanks of C's `isspace`, and NUL: no name and no pattern may hold one, since rules are written
/// apart by blanks.
pub(super) fn has_blanks(text: &[u8]) -> bool {
    let blank = |byte: &u8| matches!(byte, 0 | b'\t'..=b'\r' | b' ');
    text.iter().any(blank)
}

/// Rules with those that lie between parentheses put together. The error is the rule that opens a
/// parenthesis which nobody closes.
pub(super) fn merge(rules: &[Bytes]) -> Result<Vec<Bytes>, Bytes> {
    let mut merged = Vec::with_capacity(rules.len());
    let mut open: Option<(&Bytes, Vec<u8>)> = None;
    for rule in rules {
        let closes = rule.ends_with(b")");
        if rule.starts_with(b"(") && !closes {
            open = Some((rule, rule.to_vec()));
            continue;
        }
        match &mut open {
            None => merged.push(rule.clone()),
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(rule);
                if closes {
                    merged.push(Bytes::from(std::mem::take(selector)));
                    open = None;
                }
            }
        }
    }
    match open {
        None => Ok(merged),
        Some((rule, _)) => Err(rule.clone()),
    }
}

impl User {
    /// Applies one rule.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let word = rule.to_ascii_lowercase();
        match &word[..] {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.sanitize = Sanitize::Skip,
            b"sanitize-payload" => self.sanitize = Sanitize::Yes,
            b"nopass" => {
                self.no_password = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.no_password = false;
                self.passwords.clear();
            }
            b"clearselectors" => self.others.clear(),
            b"reset" => {
                *self = User {
                    sanitize: Sanitize::Yes,
                    ..User::new(self.name.clone())
                }
            }
            _ => return self.apply_longer(rule),
        }
        Ok(())
    }

    fn apply_longer(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule {
            [b'>', password @ ..] => self.add_password(PasswordDigest::of(password)),
            [b'#', hex @ ..] => {
                let digest = PasswordDigest::from_hex(hex).ok_or(RuleError::NoDigest)?;
                self.add_password(digest);
            }
            [b'<', password @ ..] => self.remove_password(PasswordDigest::of(password))?,
            [b'!', hex @ ..] => {
                let digest = PasswordDigest::from_hex(hex).ok_or(RuleError::NoDigest)?;
                self.remove_password(digest)?;
            }
            [b'(', rules @ .., b')'] => {
                let mut selector = Selector::nothing();
                // Quotes that do not balance leave an empty selector, as in Redis.
                for rule in split_args(rules).unwrap_or_default() {
                    selector.apply(&rule)?;
                }
                self.others.push(selector);
            }
            rule => self.root.apply(rule)?,
        }
        Ok(())
    }

    fn remove_password(&mut self, digest: PasswordDigest) -> Result<(), RuleError> {
        let place = self.passwords.iter().position(|known| *known == digest);
        let place = place.ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(place);
        Ok(())
    }
}

impl Selector {
    /// Applies one rule about commands, keys or channels.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let word = rule.to_ascii_lowercase();
        match &word[..] {
            b"allkeys" | b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.set_all_commands(true),
            b"nocommands" | b"-@all" => self.set_all_commands(false),
            _ => return self.apply_pattern(rule),
        }
        Ok(())
    }

    fn apply_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule {
            [b'~' | b'%', ..] if self.all_keys => Err(RuleError::AllKeysAlready),
            [b'~', pattern @ ..] => self.apply_keys(pattern, true, true),
            [b'%', rest @ ..] => {
                let (read, write, pattern) = split_key_rule(rest)?;
                self.apply_keys(pattern, read, write)
            }
            [b'&', ..] if self.all_channels => Err(RuleError::AllChannelsAlready),
            [b'&', pattern @ ..] if has_blanks(pattern) => Err(RuleError::Syntax),
            [b'&', pattern @ ..] => {
                self.add_channels(Bytes::copy_from_slice(pattern));
                Ok(())
            }
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let category = category(name).ok_or(RuleError::Unknown)?;
                self.set_category(category, *sign == b'+');
                Ok(())
            }
            [b'+', name @ ..] => self.permit(name),
            [b'-', name @ ..] => {
                let id = catalogue().find(name).ok_or(RuleError::Unknown)?;
                self.set_command(id, false);
                Ok(())
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn apply_keys(&mut self, pattern: &[u8], read: bool, write: bool) -> Result<(), RuleError> {
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        self.add_keys(Bytes::copy_from_slice(pattern), read, write);
        Ok(())
    }

    /// `+command`, `+container|subcommand`, or `+command|first-argument`.
    fn permit(&mut self, name: &[u8]) -> Result<(), RuleError> {
        let bar = name.iter().rposition(|byte| *byte == b'|');
        let Some((command, argument)) = bar.and_then(|bar| name.split_at_checked(bar)) else {
            let id = catalogue().find(name).ok_or(RuleError::Unknown)?;
            self.set_command(id, true);
            return Ok(());
        };
        let argument = argument.get(1..).unwrap_or_default();
        let id = catalogue().find(command).ok_or(RuleError::Unknown)?;
        let entry = catalogue().entry(id).ok_or(RuleError::Unknown)?;
        if entry.is_subcommand() {
            return Err(RuleError::FirstArgumentOfSubcommand);
        }
        if argument.is_empty() {
            return Err(RuleError::Syntax);
        }
        if entry.subcommands.is_empty() {
            self.permit_first_argument(id, Bytes::copy_from_slice(argument));
        } else {
            let subcommand = catalogue().find(name).ok_or(RuleError::Unknown)?;
            self.set_command(subcommand, true);
        }
        Ok(())
    }
}

/// What stands behind the `%`: letters, a `~`, the pattern. (Without a `~` it is the empty pattern.)
fn split_key_rule(rest: &[u8]) -> Result<(bool, bool, &[u8]), RuleError> {
    let tilde = rest.iter().position(|byte| *byte == b'~');
    let letters = rest.get(..tilde.unwrap_or(rest.len())).unwrap_or_default();
    let pattern = tilde.and_then(|tilde| rest.get(tilde + 1..));
    let (mut read, mut write) = (false, false);
    for letter in letters {
        let said = match letter {
            b'r' | b'R' => &mut read,
            b'w' | b'W' => &mut write,
            _ => return Err(RuleError::Syntax),
        };
        if std::mem::replace(said, true) {
            return Err(RuleError::Syntax);
        }
    }
    match read || write {
        true => Ok((read, write, pattern.unwrap_or_default())),
        false => Err(RuleError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &[&str]) -> Result<User, RuleError> {
        let mut user = User::new(Bytes::from_static(b"u"));
        for rule in rules {
            user.apply(rule.as_bytes())?;
        }
        Ok(user)
    }

    #[test]
    fn wrong_rules_are_refused_as_redis_does() {
        for (rule, error) in [
            ("foo", RuleError::Syntax),
            ("+nosuch", RuleError::Unknown),
            ("-config|nosuch", RuleError::Unknown),
            ("+config|get|x", RuleError::FirstArgumentOfSubcommand),
            ("+select|", RuleError::Syntax),
            ("-select|0", RuleError::Unknown),
            ("+@nosuch", RuleError::Unknown),
            ("%~a", RuleError::Syntax),
            ("%", RuleError::Syntax),
            ("%RR~a", RuleError::Syntax),
            ("~a b", RuleError::Syntax),
            ("<p", RuleError::NoSuchPassword),
            ("#abc", RuleError::NoDigest),
            ("(+nosuch)", RuleError::Unknown),
        ] {
            assert_eq!(user(&[rule]), Err(error), "{rule}");
        }
        assert_eq!(user(&["allkeys", "~a"]), Err(RuleError::AllKeysAlready));
        assert_eq!(user(&["&*", "&a"]), Err(RuleError::AllChannelsAlready));
    }

    #[test]
    fn rules_between_parentheses_are_one() {
        let merged = |rules: &[&'static str]| {
            let rules: Vec<Bytes> = rules
                .iter()
                .map(|rule| Bytes::from_static(rule.as_bytes()))
                .collect();
            merge(&rules)
        };
        let one = Bytes::from_static(b"(+get ~a)");
        assert_eq!(merged(&["(+get", "~a)"]), Ok(vec![one.clone()]));
        assert_eq!(merged(&["(+get ~a)"]), Ok(vec![one]));
        assert_eq!(merged(&["on", "(+get"]), Err(Bytes::from_static(b"(+get")));
    }

    #[test]
    fn passwords_come_and_go() {
        let known = user(&["on", ">a", ">b", ">a", "<b"]).expect("good rules");
        assert!(known.accepts(b"a") && !known.accepts(b"b") && !known.accepts(b""));
        let open = user(&["on", ">a", "nopass"]).expect("good rules");
        assert!(open.accepts(b"anything"));
        let off = user(&["nopass"]).expect("good rules");
        assert!(!off.accepts(b"anything"), "it is off");
    }
}
