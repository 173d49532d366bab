//! `[auth]`, settled: who may do what on the client port.
//!
//! Promise: a password is hashed as it is read and never kept, printed or logged as it stands. No
//! password comes over the command line, where every user of the machine could read it.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::config::{AuthFile, ConfigError, wrong};

/// The SHA-256 of a password.
#[derive(Clone, Copy)]
pub struct PasswordDigest([u8; 32]);

impl PasswordDigest {
    /// Of a password.
    pub fn of(password: &[u8]) -> PasswordDigest {
        PasswordDigest(Sha256::digest(password).into())
    }

    /// As 64 hexadecimal digits in lower case, the form in which ACL rules name it; none for anything
    /// else.
    pub fn from_hex(hex: &[u8]) -> Option<PasswordDigest> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = hex.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() != 32 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(PasswordDigest(digest))
    }

    /// As [`PasswordDigest::from_hex`] reads it.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &PasswordDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for PasswordDigest {
    fn eq(&self, other: &PasswordDigest) -> bool {
        self.matches(other)
    }
}

impl Eq for PasswordDigest {}

impl std::fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordDigest(…)")
    }
}

/// Who may do what, as the operator says it.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The default user's password.
    pub requirepass: Option<PasswordDigest>,
    /// Where this node's users are kept.
    pub acl_file: Option<PathBuf>,
    /// Clients from other hosts are refused while the default user needs no password.
    pub protected_mode: bool,
}

impl Auth {
    pub(super) fn settle(file: &AuthFile) -> Result<Auth, ConfigError> {
        if file.requirepass_file.is_some() && file.acl_file.is_some() {
            return wrong(
                "auth.requirepass_file and auth.acl_file are both set; the default user's password \
                 belongs into the ACL file then: user default on >PASSWORD ~* &* +@all",
            );
        }
        Ok(Auth {
            requirepass: match &file.requirepass_file {
                Some(path) => Some(read_password(path)?),
                None => None,
            },
            acl_file: file.acl_file.clone(),
            protected_mode: file.protected_mode.unwrap_or(true),
        })
    }

    /// Whether the settings alone keep clients of other hosts out. (An ACL file may or may not give
    /// the default user a password.)
    pub(super) fn shuts_out_others(&self) -> bool {
        self.protected_mode && self.requirepass.is_none() && self.acl_file.is_none()
    }
}

/// The password is the file's text without its last line end: blanks may belong to it.
fn read_password(path: &Path) -> Result<PasswordDigest, ConfigError> {
    let name = path.display();
    let text = std::fs::read(path)
        .map_err(|error| ConfigError(format!("auth.requirepass_file {name}: {error}")))?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let password = text.strip_suffix(b"\r").unwrap_or(text);
    if password.is_empty() {
        return wrong(format!(
            "auth.requirepass_file {name} is empty; put the password into it"
        ));
    }
    if password.contains(&b'\n') {
        return wrong(format!(
            "auth.requirepass_file {name} has more than one line; a password is one line"
        ));
    }
    Ok(PasswordDigest::of(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("password");
        std::fs::write(&path, content).expect("it is ours");
        let auth = AuthFile {
            requirepass_file: Some(path),
            ..AuthFile::default()
        };
        (dir, auth)
    }

    #[test]
    fn a_password_is_one_line() {
        for content in [&b"a b "[..], b"a b \n", b"a b \r\n"] {
            let (_dir, auth) = file(content);
            let settled = Auth::settle(&auth).expect("a password");
            assert_eq!(settled.requirepass, Some(PasswordDigest::of(b"a b ")));
        }
        for content in [&b""[..], b"\n", b"a\nb\n"] {
            let (_dir, auth) = file(content);
            assert!(Auth::settle(&auth).is_err(), "{content:?}");
        }
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = PasswordDigest::of(b"p");
        assert_eq!(
            PasswordDigest::from_hex(digest.to_hex().as_bytes()),
            Some(digest)
        );
        assert_eq!(
            digest.to_hex(),
            "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940"
        );
        for wrong in ["", "148d", &"A".repeat(64), &"a".repeat(66)] {
            assert_eq!(PasswordDigest::from_hex(wrong.as_bytes()), None);
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        assert_eq!(
            format!("{:?}", PasswordDigest::of(b"p")),
            "PasswordDigest(…)"
        );
    }
}
