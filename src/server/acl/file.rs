//! ACL files: one user a line, in the form of Redis's `aclfile`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::rule::{has_blanks, merge};
use super::user::User;

/// Everybody, by name.
pub(super) type Users = BTreeMap<Bytes, Arc<User>>;

/// The users of a file's text, or everything that is wrong with it in Redis's words.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Users, String> {
    let mut users = Users::new();
    let mut errors = String::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let place = format!("{}:{}", path.display(), index + 1);
        match parse_line(line, &place, &users) {
            Ok(user) => drop(users.insert(user.name.clone(), Arc::new(user))),
            Err(error) => errors.push_str(&error),
        }
    }
    if !errors.is_empty() {
        errors.push_str(
            "WARNING: ACL errors detected, no change to the previously active ACL rules was \
             performed",
        );
        return Err(errors);
    }
    users
        .entry(Bytes::from_static(super::DEFAULT))
        .or_insert_with(|| Arc::new(User::default_user()));
    Ok(users)
}

fn parse_line(line: &[u8], place: &str, users: &Users) -> Result<User, String> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(b"user"), Some(name)) = (words.next(), words.next()) else {
        return Err(format!(
            "{place} should start with user keyword followed by the username. "
        ));
    };
    let shown = String::from_utf8_lossy(name);
    if has_blanks(name) {
        return Err(format!(
            "'{place}: username '{shown}' contains invalid characters. "
        ));
    }
    if users.contains_key(name) {
        let line = place.rsplit(':').next().unwrap_or_default();
        return Err(format!(
            "WARNING: Duplicate user '{shown}' found on line {line}. "
        ));
    }
    let rules: Vec<Bytes> = words.map(Bytes::copy_from_slice).collect();
    let rules = merge(&rules)
        .map_err(|_| format!("{place}: Unmatched parenthesis in selector definition."))?;
    let mut user = User::new(Bytes::copy_from_slice(name));
    let wrong = |rule: &Bytes| user.apply(rule.trim_ascii()).err();
    let errors: Vec<String> = rules
        .iter()
        .filter_map(wrong)
        .map(|error| format!("{place}: {error}. "))
        .collect();
    match errors.is_empty() {
        true => Ok(user),
        false => Err(errors.concat()),
    }
}

/// The text of a file with these users.
pub(super) fn text(users: &Users) -> Vec<u8> {
    let mut text = Vec::new();
    for user in users.values() {
        text.extend_from_slice(&line(user));
        text.push(b'\n');
    }
    text
}

/// One user, as a file has it.
pub(super) fn line(user: &User) -> Vec<u8> {
    [b"user ", &user.name[..], b" ", &user.describe()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Users, String> {
        parse(Path::new("users.acl"), text.as_bytes())
    }

    #[test]
    fn a_file_reads_what_it_wrote() {
        let users = parsed(
            "user default off\n\n  user a on >p ~a* &c +get ( +set ~b )\r\nuser b on nopass +@all\n",
        );
        let users = users.expect("good lines");
        assert_eq!(users.len(), 3);
        let again = parse(Path::new("x"), &text(&users)).expect("it wrote it");
        assert_eq!(again, users);
    }

    #[test]
    fn a_file_without_a_default_user_leaves_the_usual_one() {
        let users = parsed("user a on").expect("a good line");
        let default = users.get(super::super::DEFAULT).expect("always there");
        assert!(default.may_do_everything());
    }

    #[test]
    fn all_errors_are_told_and_nothing_is_taken() {
        let errors = parsed("user a on +nosuch foo\nnobody\nuser a on\nuser b (+get\n");
        let errors = errors.expect_err("they are wrong");
        for part in [
            "users.acl:1: Unknown command or category name in ACL. users.acl:1: Syntax error. ",
            "users.acl:2 should start with user keyword followed by the username. ",
            "users.acl:4: Unmatched parenthesis in selector definition.",
            "WARNING: ACL errors detected",
        ] {
            assert!(errors.contains(part), "{errors}");
        }
        let twice = parsed("user a\nuser a\n").expect_err("twice");
        assert!(twice.starts_with("WARNING: Duplicate user 'a' found on line 2. "));
    }
}
