//! Users as rules again: what ACL LIST, GETUSER and SAVE write.

use bytes::Bytes;

use super::catalogue::{CATEGORIES, catalogue};
use super::selector::{CommandSet, KeyPattern, Selector};
use super::user::User;

impl User {
    /// The rules that make this user, behind its name.
    pub(super) fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().map(|flag| flag.into()).collect();
        let passwords = self.passwords.iter();
        words.extend(passwords.map(|digest| format!("#{}", digest.to_hex()).into_bytes()));
        words.push(self.root.describe());
        for selector in &self.others {
            words.push([b"(", &selector.describe()[..], b")"].concat());
        }
        words.join(&b' ')
    }
}

impl Selector {
    fn describe(&self) -> Vec<u8> {
        let mut words = Vec::new();
        let keys = self.describe_keys();
        if !keys.is_empty() {
            words.push(keys);
        }
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        let channels = self.describe_channels();
        if !channels.is_empty() {
            words.push(channels);
        }
        words.push(self.describe_commands().into_bytes());
        words.join(&b' ')
    }

    pub(super) fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let rule = |keys: &KeyPattern| {
            let sign: &[u8] = match (keys.read, keys.write) {
                (true, false) => b"%R~",
                (false, true) => b"%W~",
                _ => b"~",
            };
            [sign, &keys.pattern[..]].concat()
        };
        let rules: Vec<Vec<u8>> = self.keys.iter().map(rule).collect();
        rules.join(&b' ')
    }

    pub(super) fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let rule = |pattern: &Bytes| [b"&", &pattern[..]].concat();
        let rules: Vec<Vec<u8>> = self.channels.iter().map(rule).collect();
        rules.join(&b' ')
    }

    /// All commands or none, then the categories that come nearest, one by one, then what single
    /// commands still differ. As Redis does it, so that the same rules come out as the same words;
    /// only the order of the single commands is another (there it is that of a hash table).
    pub(super) fn describe_commands(&self) -> String {
        let additive = !self.future_commands;
        let (sign, all) = if additive {
            ('+', "-@all")
        } else {
            ('-', "+@all")
        };
        let mut words = vec![all.to_string()];
        let mut described = Selector::nothing();
        described.set_all_commands(!additive);
        // What is not described yet.
        let mut left = self.clone();
        let mut applied = [false; CATEGORIES.len()];
        while let Some(category) = nearest(&left.commands, additive, &applied) {
            if let (Some(applied), Some(name)) =
                (applied.get_mut(category), CATEGORIES.get(category))
            {
                *applied = true;
                words.push(format!("{sign}@{name}"));
            }
            described.set_category(category, additive);
            left.set_category(category, !additive);
        }
        self.describe_single_commands(&mut described, &mut words);
        words.join(" ")
    }

    fn describe_single_commands(&self, described: &mut Selector, words: &mut Vec<String>) {
        // Containers stand before their subcommands: one rule for all of them, then what differs.
        for (id, entry) in catalogue().entries() {
            let permitted = self.commands.has(id);
            if permitted != described.commands.has(id) {
                let sign = if permitted { '+' } else { '-' };
                words.push(format!("{sign}{}", entry.name));
                described.set_command(id, permitted);
            }
            if permitted {
                continue;
            }
            for (_, argument) in self.first_arguments.iter().filter(|(of, _)| *of == id) {
                let argument = String::from_utf8_lossy(argument);
                words.push(format!("+{}|{argument}", entry.name));
            }
        }
    }
}

/// The category that has more commands in common with `commands` than others, if there is one: with the
/// fewest others, and among such the one with the most in common.
fn nearest(commands: &CommandSet, additive: bool, applied: &[bool]) -> Option<usize> {
    let mut best: Option<(usize, usize, usize)> = None;
    for (category, _) in applied.iter().enumerate().filter(|(_, applied)| !**applied) {
        let (mut same, mut other) = (0, 0);
        // Judged by Redis's commands alone, so that it chooses as Redis does.
        let members = catalogue().entries().filter(|(_, entry)| entry.of_redis);
        for (id, _) in members.filter(|(_, entry)| entry.is_in(category)) {
            match commands.has(id) == additive {
                true => same += 1,
                false => other += 1,
            }
        }
        let nearer =
            best.is_none_or(|(_, least, most)| other < least || (other == least && same > most));
        if same > other && nearer {
            best = Some((category, other, same));
        }
    }
    best.map(|(category, ..)| category)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_out_as_redis_writes_them() {
        let described = |rules: &[&str]| {
            let mut user = User::new(Bytes::from_static(b"u"));
            for rule in rules {
                user.apply(rule.as_bytes()).expect("a good rule");
            }
            String::from_utf8(user.describe()).expect("text")
        };
        assert_eq!(described(&[]), "off resetchannels -@all");
        assert_eq!(
            described(&["reset", "+@read", "-get", "+acl|whoami"]),
            "off sanitize-payload resetchannels -@all +@read +acl|whoami -get"
        );
        assert_eq!(
            described(&[
                "on",
                "nopass",
                "%R~r*",
                "%W~w*",
                "&ch*",
                "+get",
                "(~b* +set)"
            ]),
            "on nopass %R~r* %W~w* resetchannels &ch* -@all +get (~b* resetchannels -@all +set)"
        );
        assert_eq!(
            described(&["on", ">p", "~a*", "+set|x", "+get"]),
            "on #148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940 ~a* resetchannels \
             -@all +get +set|x"
        );
        let all = User::default_user().describe();
        assert_eq!(String::from_utf8_lossy(&all), "on nopass ~* &* +@all");
    }
}
