//! Two keys that are only ever read and written together, by transactions: to a judge they are one.
//!
//! Every call is made on both keys between one MULTI and its EXEC, and both must be answered alike,
//! whatever happened before: a node that kept one half of a transaction, showed one, or carried out
//! something else in between, answers them differently. That is a [`Said::Torn`], at once. The rest
//! the judge of one key finds.

use understudy::resp::Reply;

use super::operation::{Answer, Call};
use super::reply::answer;

/// What the replies to a transaction say about the call on the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The same of both keys.
    Answer(Answer),
    /// EXEC's nil: a watched key was changed, nothing was done.
    Nothing,
    /// This error, about all of it.
    Error(String),
    /// What no transaction answers.
    Torn(String),
}

/// The names of the two keys.
pub fn keys(pair: &str) -> [String; 2] {
    [format!("{pair}:left"), format!("{pair}:right")]
}

/// MULTI, the call on each key, EXEC: sent at once.
pub fn transaction(pair: &str, call: &Call) -> Vec<Vec<Vec<u8>>> {
    let [left, right] = keys(pair);
    vec![
        vec![b"MULTI".to_vec()],
        call.words(&left),
        call.words(&right),
        vec![b"EXEC".to_vec()],
    ]
}

/// What comes before a transaction that is to see no change of what is read here: WATCH, and a
/// read of both.
pub fn watch(pair: &str) -> Vec<Vec<Vec<u8>>> {
    let keys = keys(pair).map(String::into_bytes);
    let with = |name: &str| {
        let mut words = vec![name.as_bytes().to_vec()];
        words.extend(keys.iter().cloned());
        words
    };
    vec![with("WATCH"), with("MGET")]
}

/// The replies to [`watch`]: what both keys hold.
pub fn watched(replies: &[Reply]) -> Said {
    match replies {
        [watching, _] if *watching != Reply::OK => refused(watching),
        [_, both] => alike(&Call::Get, both),
        _ => Said::Torn(format!("{replies:?}")),
    }
}

/// The replies to [`transaction`].
pub fn said(call: &Call, replies: &[Reply]) -> Said {
    match replies {
        [begun, _, _, _] if *begun != Reply::OK => refused(begun),
        // A command was not queued; EXEC says so once more.
        [_, Reply::Error(text), _, _] | [_, _, Reply::Error(text), _] => {
            Said::Error(text.to_string())
        }
        [_, _, _, executed] => alike(call, executed),
        _ => Said::Torn(format!("{replies:?}")),
    }
}

/// The reply to a call on one key.
pub fn single(call: &Call, reply: &Reply) -> Said {
    match answer(call, reply) {
        Some(answer) => Said::Answer(answer),
        None => refused(reply),
    }
}

/// The replies on both keys, as EXEC or MGET give them.
pub fn alike(call: &Call, replies: &Reply) -> Said {
    let both = match replies {
        Reply::NullArray | Reply::Null => return Said::Nothing,
        Reply::Array(both) => both,
        other => return refused(other),
    };
    match &both[..] {
        [left, right] if left == right => match answer(call, left) {
            Some(answer) => Said::Answer(answer),
            None => Said::Torn(format!("{call:?} answered {left:?}")),
        },
        _ => Said::Torn(format!("{call:?} on both keys answered {both:?}")),
    }
}

fn refused(reply: &Reply) -> Said {
    match reply {
        Reply::Error(text) => Said::Error(text.to_string()),
        other => Said::Torn(format!("{other:?}")),
    }
}
