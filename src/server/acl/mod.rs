//! Users and what they may do: Redis's access control lists.
//!
//! Promise: what a connection's user may not do is refused before it is parsed any further, in
//! Redis's words and order. A user's change acts on the next request of every connection; whose user
//! is gone is disconnected. Where nothing is restricted, a request costs one relaxed load.
//!
//! Each node has its own users, in its own file (`[auth] acl_file`): they are part of its
//! configuration, and no part of what is replicated.
//!
//! `rule` makes users, `describe` writes them, `permission` asks them; `access` is a session's side.

mod access;
mod answer;
mod catalogue;
mod describe;
mod file;
mod log;
mod permission;
mod rule;
mod selector;
mod user;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use thiserror::Error;

pub(super) use access::Access;
pub(super) use answer::answer;
use file::Users;
use log::Log;
use user::User;

use crate::node::Auth;
use crate::wal::{Disk, read_all};

/// The user that a connection is when it has not said who it is.
const DEFAULT: &[u8] = b"default";

/// Why an ACL file is not taken.
#[derive(Debug, Error)]
pub enum AclFileError {
    /// It could not be read.
    #[error(
        "auth.acl_file {}: {source}; create it, for example with the line: user default on nopass ~* \
         &* +@all", path.display()
    )]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("auth.acl_file: {0}")]
    Wrong(String),
}

/// What the sessions of a node share.
#[derive(Debug)]
pub(crate) struct Acl {
    /// Rises with every change of a user.
    version: AtomicU64,
    users: Mutex<Users>,
    log: Mutex<Log>,
    file: Option<PathBuf>,
    protected_mode: bool,
}

impl Acl {
    /// Without looking at the file.
    pub(super) fn new(auth: &Auth) -> Acl {
        let mut default = User::default_user();
        if let Some(digest) = auth.requirepass {
            default.add_password(digest);
        }
        Acl {
            version: AtomicU64::new(0),
            users: Mutex::new(Users::from([(default.name.clone(), Arc::new(default))])),
            log: Mutex::default(),
            file: auth.acl_file.clone(),
            protected_mode: auth.protected_mode,
        }
    }

    /// Takes the users of the file, if one is configured.
    pub(super) fn read_file(&self, disk: &dyn Disk) -> Result<(), AclFileError> {
        if let Some(path) = &self.file {
            *self.users() = read_users(path, disk)?;
            self.changed();
        }
        Ok(())
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users
            .lock()
            .expect("nothing panics while it holds the users")
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("nothing panics while it holds the log")
    }

    pub(in crate::server) fn user(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users().get(name).cloned()
    }

    fn default_user(&self) -> Arc<User> {
        let default = self.user(DEFAULT);
        // Nobody can remove it.
        default.unwrap_or_else(|| Arc::new(User::new(Bytes::from_static(DEFAULT))))
    }

    /// After a change of the users, which the lock has made visible to whoever sees the new version
    /// and asks for them.
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Whether connections need no password: the default user is everybody.
    fn is_open(&self) -> bool {
        let default = self.default_user();
        default.no_password && default.enabled
    }

    /// Whether connections from elsewhere are refused, as Redis does: nobody chose a password, and
    /// most likely nobody thought of it.
    pub(super) fn refuses_strangers(&self) -> bool {
        self.protected_mode && self.default_user().no_password
    }
}

fn read_users(path: &Path, disk: &dyn Disk) -> Result<Users, AclFileError> {
    let text = read_all(disk, path).map_err(|source| AclFileError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    file::parse(path, &text).map_err(AclFileError::Wrong)
}
