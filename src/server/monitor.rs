//! MONITOR: every command that clients send, as text, to whoever asked for it.
//!
//! A command is shown when it is read, before it is carried out: what it will do is not known to be
//! safe yet, and nothing of it is shown. Secrets are not shown. Who does not keep up is disconnected.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;

use crate::command::CommandSpec;
use crate::resp::{Request, quote};
use crate::units::Millis;

/// Lines that a monitor may be behind.
const BACKLOG: usize = 4096;

/// All who watch.
#[derive(Debug)]
pub(crate) struct Monitors {
    lines: broadcast::Sender<String>,
    count: AtomicUsize,
}

impl Monitors {
    pub(super) fn new() -> Monitors {
        Monitors {
            lines: broadcast::Sender::new(BACKLOG),
            count: AtomicUsize::new(0),
        }
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<String> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.lines.subscribe()
    }

    pub(super) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows a request. Commands of administrators are not shown, as in Redis.
    pub(super) fn show(
        &self,
        spec: &CommandSpec,
        request: &Request,
        from: SocketAddr,
        now: Millis,
    ) {
        if spec.has_flag("admin") || spec.has_flag("skip_monitor") {
            return;
        }
        let mut line = format!("{}.{:03}000 [0 {from}]", now.0 / 1000, now.0 % 1000);
        for (place, arg) in request.args.iter().enumerate() {
            line.push(' ');
            match is_secret(spec.name, request, place) {
                true => line.push_str("\"(redacted)\""),
                false => line.push_str(&quote(arg)),
            }
        }
        // Nobody watching any more is no error.
        let _ = self.lines.send(line);
    }
}

/// AUTH's arguments, and HELLO's behind AUTH.
fn is_secret(name: &str, request: &Request, place: usize) -> bool {
    let is_auth = |at: usize| {
        let arg = request.args.get(at);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(b"auth"))
    };
    match name {
        "auth" => place > 0,
        "hello" => (place >= 1 && is_auth(place - 1)) || (place >= 2 && is_auth(place - 2)),
        _ => false,
    }
}
