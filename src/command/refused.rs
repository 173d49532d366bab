//! Commands of Redis that are not here, of which somebody may think that they are: what to do instead.
//!
//! They have no row in the table, so that COMMAND does not list what cannot be done.

use crate::resp::Reply;

const SCRIPTS: &str = "ERR scripts and functions are not supported here; MULTI with WATCH, or SET \
                       with IFEQ, change keys that nobody else changed meanwhile";
const REPLICAS: &str = "ERR who follows whom is decided by the cluster; `understudy switchover` \
                        or FAILOVER at the primary hands over, `understudy promote` forces a takeover";

const SORT: &str = "ERR SORT is not supported here: there are no lists and sets to be sorted";

/// Names, a subcommand's behind its container's, and what they are answered.
static REFUSED: [(&str, &str); 15] = [
    ("eval", SCRIPTS),
    ("eval_ro", SCRIPTS),
    ("evalsha", SCRIPTS),
    ("evalsha_ro", SCRIPTS),
    ("fcall", SCRIPTS),
    ("fcall_ro", SCRIPTS),
    ("function|load", SCRIPTS),
    ("function|restore", SCRIPTS),
    ("replicaof", REPLICAS),
    ("script|debug", SCRIPTS),
    ("script|load", SCRIPTS),
    ("slaveof", REPLICAS),
    ("sort", SORT),
    ("sort_ro", SORT),
    ("cluster", "ERR This instance has cluster support disabled"),
];

/// What is answered to a command that is none here but might be thought to be one.
pub(super) fn command(name: &[u8]) -> Option<Reply> {
    find(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// The same of a subcommand.
pub(super) fn subcommand(container: &str, name: &[u8]) -> Option<Reply> {
    find(|known| {
        known.split_once('|').is_some_and(|(of, known)| {
            of == container && known.as_bytes().eq_ignore_ascii_case(name)
        })
    })
}

fn find(is_it: impl Fn(&str) -> bool) -> Option<Reply> {
    let found = REFUSED.iter().find(|(known, _)| is_it(known));
    found.map(|(_, text)| Reply::error(text))
}
