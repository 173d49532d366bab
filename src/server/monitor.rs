//! MONITOR: every command that clients send, as text, to whoever asked for it.
//!
//! A command is shown when it is read, before it is carried out: what it will do is not known to be
//! safe yet, and nothing of it is shown. Secrets are not shown. Who does not keep up is disconnected.
//! Of long arguments, and of many, the beginning is shown: a line is bounded, and what waits for a monitor
//! is, too ([`Mailbox`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;
use crate::command::CommandSpec;
use crate::resp::{Request, quote};
use crate::units::Millis;

/// Bytes that are shown of an argument.
const ARGUMENT_BYTES: usize = 4096;
/// Bytes of a line from which on no further argument is shown.
const LINE_BYTES: usize = 64 << 10;

/// A line on its way, kept once however many watch.
pub(super) type Lines = Arc<Mailbox<Arc<str>>>;

/// All who watch.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    watching: Mutex<BTreeMap<u64, Lines>>,
    count: AtomicUsize,
}

impl Monitors {
    fn watching(&self) -> MutexGuard<'_, BTreeMap<u64, Lines>> {
        self.watching
            .lock()
            .expect("nothing panics while it holds the list of monitors")
    }

    /// The client of that number watches from now on; `end` ends its connection.
    pub(super) fn watch(&self, id: u64, end: CancellationToken) -> Lines {
        let lines = Arc::new(Mailbox::new(end, Arc::default()));
        let mut watching = self.watching();
        watching.insert(id, Arc::clone(&lines));
        self.count.store(watching.len(), Ordering::Relaxed);
        lines
    }

    pub(super) fn leave(&self, id: u64) {
        let mut watching = self.watching();
        watching.remove(&id);
        self.count.store(watching.len(), Ordering::Relaxed);
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
        let line: Arc<str> = line(spec, request, from, now).into();
        for lines in self.watching().values() {
            lines.put(Arc::clone(&line), line.len());
        }
    }
}

fn line(spec: &CommandSpec, request: &Request, from: SocketAddr, now: Millis) -> String {
    let mut line = format!("{}.{:03}000 [0 {from}]", now.0 / 1000, now.0 % 1000);
    for (place, arg) in request.args.iter().enumerate() {
        if line.len() > LINE_BYTES {
            let more = request.args.len() - place;
            line.push_str(&format!(" ... ({more} more arguments)"));
            break;
        }
        line.push(' ');
        if is_secret(spec.name, request, place) {
            line.push_str("\"(redacted)\"");
            continue;
        }
        let shown = arg.get(..ARGUMENT_BYTES).unwrap_or(arg);
        line.push_str(&quote(shown));
        if shown.len() < arg.len() {
            let more = arg.len() - shown.len();
            line.push_str(&format!("... ({more} more bytes)"));
        }
    }
    line
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
