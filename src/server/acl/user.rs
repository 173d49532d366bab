//! One user. A user never changes: who changes it puts another in its place, so that a session reads
//! what it holds without a lock.

use bytes::Bytes;

use super::catalogue::catalogue;
use super::selector::Selector;
use crate::node::PasswordDigest;

/// What Redis would do with the payload of RESTORE; kept since rules say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sanitize {
    #[default]
    Unsaid,
    Yes,
    Skip,
}

/// Somebody who may authenticate, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(super) name: Bytes,
    pub(super) enabled: bool,
    /// Any password will do.
    pub(super) no_password: bool,
    pub(super) sanitize: Sanitize,
    pub(super) passwords: Vec<PasswordDigest>,
    /// What is said outside of parentheses.
    pub(super) root: Selector,
    /// What is said inside.
    pub(super) others: Vec<Selector>,
}

impl User {
    /// A user that nobody can be, and that may do nothing.
    pub(super) fn new(name: Bytes) -> User {
        User {
            name,
            enabled: false,
            no_password: false,
            sanitize: Sanitize::Unsaid,
            passwords: Vec::new(),
            root: Selector::nothing(),
            others: Vec::new(),
        }
    }

    /// The default user: everybody, with every permission.
    pub(super) fn default_user() -> User {
        User {
            enabled: true,
            no_password: true,
            root: Selector::everything(),
            ..User::new(Bytes::from_static(super::DEFAULT))
        }
    }

    /// Who asks whether this node answers. Nobody can be it: names have no blanks.
    pub(super) fn probe() -> User {
        let mut root = Selector::nothing();
        if let Some(ping) = catalogue().find(b"ping") {
            root.set_command(ping, true);
        }
        User {
            root,
            ..User::new(Bytes::from_static(b"the probe"))
        }
    }

    pub(super) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.others)
    }

    /// Whether permissions need not be looked at.
    pub(super) fn may_do_everything(&self) -> bool {
        self.selectors().any(Selector::permits_everything)
    }

    /// Whether two users may do the same.
    pub(super) fn may_do_what(&self, other: &User) -> bool {
        self.root == other.root && self.others == other.others
    }

    /// Whether `password` is one of this user's. Every one is compared, in constant time.
    pub(super) fn accepts(&self, password: &[u8]) -> bool {
        if !self.enabled {
            return false;
        }
        if self.no_password {
            return true;
        }
        let given = PasswordDigest::of(password);
        self.passwords
            .iter()
            .fold(false, |found, known| found | known.matches(&given))
    }

    pub(super) fn add_password(&mut self, digest: PasswordDigest) {
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
        self.no_password = false;
    }

    /// The flags, in the order in which Redis names them.
    pub(super) fn flags(&self) -> impl Iterator<Item = &'static str> {
        let sanitize = match self.sanitize {
            Sanitize::Unsaid => None,
            Sanitize::Yes => Some("sanitize-payload"),
            Sanitize::Skip => Some("skip-sanitize-payload"),
        };
        [
            Some(if self.enabled { "on" } else { "off" }),
            self.no_password.then_some("nopass"),
            sanitize,
        ]
        .into_iter()
        .flatten()
    }
}
