//! What one connection may do: its user, and when it looks again.

use std::sync::Arc;

use bytes::Bytes;

use super::log::{Reason, Refusal};
use super::permission::Denied;
use super::user::User;
use super::{Acl, DEFAULT};
use crate::command::{Command, CommandSpec, SessionCommand, TransactionCommand, row_of};
use crate::resp::{Reply, Request};
use crate::server::session::{Asked, Mistake, Session, Weight};
use crate::server::session_commands;

const NOAUTH: &str = "NOAUTH Authentication required.";
const WRONGPASS: Reply =
    Reply::error("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Reply = Reply::error(
    "ERR AUTH <password> called without any password configured for the default user. Are you \
     sure your configuration is correct?",
);
const TAKEN_AWAY: Reply = Reply::error(
    "EXECABORT Transaction discarded because of: NOPERM ACLs rules changed between the moment the \
     transaction was accumulated and the EXEC call.",
);

/// A connection's side of the access control.
#[derive(Debug)]
pub(in crate::server) struct Access {
    user: Arc<User>,
    /// The version of the users that was looked at last.
    seen: u64,
    authenticated: bool,
    /// No request can be refused.
    free: bool,
    /// A password is needed, and was not given.
    stranger: bool,
    /// The user was removed: the connection ends.
    gone: bool,
    /// What the user may do has changed while requests were waiting or a transaction was open.
    shifted: bool,
    /// A request that may change the user waits to be carried out: none behind it is looked at.
    barrier: bool,
    /// Such a one is in the open transaction: EXEC is a barrier, too.
    barrier_queued: bool,
}

impl Access {
    /// Of a connection that just began.
    pub(in crate::server) fn new(acl: &Acl) -> Access {
        let seen = acl.version();
        let user = acl.default_user();
        let mut access = Access {
            authenticated: user.no_password && user.enabled,
            user,
            seen,
            free: false,
            stranger: false,
            gone: false,
            shifted: false,
            barrier: false,
            barrier_queued: false,
        };
        access.judge(acl);
        access
    }

    /// Of this node's probe of its own client port.
    pub(in crate::server) fn of_probe(acl: &Acl) -> Access {
        Access {
            user: Arc::new(User::probe()),
            authenticated: true,
            free: false,
            stranger: false,
            // Its user is not one of those.
            seen: u64::MAX,
            ..Access::new(acl)
        }
    }

    /// Whether the narrower limits of a client hold that has not authenticated.
    pub(in crate::server) fn is_stranger(&self) -> bool {
        self.stranger
    }

    fn judge(&mut self, acl: &Acl) {
        self.stranger = !self.authenticated && !acl.is_open();
        self.free = !self.stranger && !self.gone && self.user.may_do_everything();
    }

    /// Looks at the users again if there was a change.
    fn refresh(&mut self, acl: &Acl, in_the_middle: bool) {
        let version = acl.version();
        if version == self.seen || self.seen == u64::MAX {
            return;
        }
        self.seen = version;
        match acl.user(&self.user.name) {
            Some(user) => {
                self.shifted |= in_the_middle && !user.may_do_what(&self.user);
                self.user = user;
            }
            None => self.gone = true,
        }
        self.judge(acl);
    }

    fn become_user(&mut self, acl: &Acl, user: Arc<User>, authenticated: bool) {
        self.user = user;
        self.authenticated = authenticated;
        self.judge(acl);
    }
}

impl Session<'_> {
    /// Whether requests may be looked at: not while one that may change the user waits.
    pub(in crate::server) fn is_behind_barrier(&mut self) -> bool {
        if self.access.barrier && self.todo.is_empty() {
            self.access.barrier = false;
            self.access.barrier_queued = self.transaction.is_some();
        }
        if self.access.shifted && self.todo.is_empty() && self.transaction.is_none() {
            self.access.shifted = false;
        }
        self.access.barrier
    }

    /// Whether what was just read may change the user, so that what follows must wait for it.
    pub(in crate::server) fn is_barrier(&mut self, todo: &Result<Command, Mistake>) -> bool {
        let Ok(Command::Session(command)) = todo else {
            return false;
        };
        self.access.barrier = match command {
            SessionCommand::Auth { .. } | SessionCommand::Hello(_) | SessionCommand::Reset => true,
            SessionCommand::Acl(command) => command.changes_users(),
            SessionCommand::Transaction(TransactionCommand::Execute) => self.access.barrier_queued,
            _ => false,
        };
        self.access.barrier
    }

    /// Whether the connection's user may send this request.
    #[inline]
    pub(in crate::server) fn admit(&mut self, request: &Request) -> Result<(), Mistake> {
        if self.access.free && self.server.acl.version() == self.access.seen {
            return Ok(());
        }
        self.judge_request(request)
    }

    fn judge_request(&mut self, request: &Request) -> Result<(), Mistake> {
        let in_the_middle = !self.todo.is_empty() || self.transaction.is_some();
        self.access.refresh(&self.server.acl, in_the_middle);
        if self.access.free {
            return Ok(());
        }
        if self.access.gone {
            self.close_after_replies();
            return Err(refusal(request, NOAUTH.to_string()));
        }
        // What is wrong in itself is told first, by who finds it.
        let Ok(spec) = row_of(&request.args) else {
            return Ok(());
        };
        if self.access.stranger && !spec.has_flag("no_auth") {
            return Err(refusal(request, NOAUTH.to_string()));
        }
        match self.access.user.may(spec, &request.args) {
            Ok(()) => Ok(()),
            Err(denied) => {
                self.log_denied(denied, spec, &request.args);
                Err(refusal(request, text_of(denied, spec)))
            }
        }
    }

    fn log_denied(&self, denied: Denied, spec: &CommandSpec, args: &[Bytes]) {
        let at = |place: usize| args.get(place).cloned().unwrap_or_default();
        let (reason, object) = match denied {
            Denied::Command => (Reason::Command, Bytes::from_static(spec.name.as_bytes())),
            Denied::Key(place) => (Reason::Key, at(place)),
            Denied::Channel(place) => (Reason::Channel, at(place)),
        };
        self.log_refusal(reason, object, self.access.user.name.clone());
    }

    fn log_refusal(&self, reason: Reason, object: Bytes, user: Bytes) {
        self.server.acl.log().add(Refusal {
            reason,
            in_transaction: self.transaction.is_some() || self.todo.iter().any(begins),
            object,
            user,
            at: self.server.node.host.wall(),
            client: session_commands::own_line(self),
        });
    }

    /// AUTH.
    pub(in crate::server) fn authenticate(
        &mut self,
        user: Option<Bytes>,
        password: &[u8],
    ) -> Reply {
        let name = match user {
            Some(name) => name,
            None if self.server.acl.default_user().no_password => return NO_PASSWORD,
            None => Bytes::from_static(DEFAULT),
        };
        match self.log_in(&name, password, b"auth") {
            Ok(()) => Reply::OK,
            Err(reply) => reply,
        }
    }

    /// Makes the connection the user's, if the password is right.
    pub(in crate::server) fn log_in(
        &mut self,
        name: &Bytes,
        password: &[u8],
        command: &'static [u8],
    ) -> Result<(), Reply> {
        let user = self.server.acl.user(name);
        let Some(user) = user.filter(|user| user.accepts(password)) else {
            self.log_refusal(Reason::Auth, Bytes::from_static(command), name.clone());
            return Err(WRONGPASS);
        };
        self.become_user(user, true);
        Ok(())
    }

    /// RESET: the connection is the default user's again.
    pub(in crate::server) fn log_out(&mut self) {
        let user = self.server.acl.default_user();
        let authenticated = user.no_password && user.enabled;
        self.become_user(user, authenticated);
    }

    fn become_user(&mut self, user: Arc<User>, authenticated: bool) {
        let name = user.name.clone();
        self.access
            .become_user(&self.server.acl, user, authenticated);
        self.client.facts().user = name;
    }

    /// Whether this connection has said who it is, or need not.
    pub(in crate::server) fn is_authenticated(&self) -> bool {
        self.access.authenticated
    }

    /// The name of the connection's user.
    pub(super) fn user_name(&self) -> Bytes {
        self.access.user.name.clone()
    }

    /// After a change that this connection made itself: its user may be gone.
    pub(super) fn look_at_own_user(&mut self) {
        self.access.refresh(&self.server.acl, false);
        if self.access.gone {
            self.close_after_replies();
        }
    }

    /// Whether what an open transaction holds was permitted by rules that are not in force any more.
    pub(in crate::server) fn permission_was_taken(&mut self) -> Option<Reply> {
        std::mem::take(&mut self.access.shifted).then_some(TAKEN_AWAY)
    }

    /// Whether this connection listens to what its user may not listen to any more.
    pub(in crate::server) fn overhears(&mut self) -> bool {
        let in_the_middle = !self.todo.is_empty() || self.transaction.is_some();
        self.access.refresh(&self.server.acl, in_the_middle);
        let user = &self.access.user;
        let (channels, patterns) = self.subscriptions.names();
        self.access.gone
            || channels.iter().any(|name| !user.may_listen(name, false))
            || patterns.iter().any(|name| !user.may_listen(name, true))
    }
}

/// MULTI, which waits to be carried out with what was sent behind it.
fn begins(asked: &Asked) -> bool {
    let begin = SessionCommand::Transaction(TransactionCommand::Begin);
    matches!(&asked.what, Ok(Command::Session(command)) if *command == begin)
}

/// EXEC that may not be sent ends its transaction; any other request aborts it.
fn refusal(request: &Request, text: String) -> Mistake {
    let name = request.args.first();
    let exec = name.is_some_and(|name| name.eq_ignore_ascii_case(b"exec"));
    let (weight, text) = match exec {
        true => (
            Weight::Ends,
            format!("EXECABORT Transaction discarded because of: {text}"),
        ),
        false => (Weight::Aborts, text),
    };
    Mistake {
        reply: Reply::Error(text.into()),
        weight,
    }
}

fn text_of(denied: Denied, spec: &CommandSpec) -> String {
    match denied {
        Denied::Command => format!(
            "NOPERM this user has no permissions to run the '{}' command",
            spec.name
        ),
        Denied::Key(_) => "NOPERM this user has no permissions to access one of the keys used as \
                           arguments"
            .to_string(),
        Denied::Channel(_) => "NOPERM this user has no permissions to access one of the channels \
                               used as arguments"
            .to_string(),
    }
}
