//! What is to be written for a key, and what became of it.
//!
//! A value is written only if the key still holds what it held when the person was asked (`SET …
//! IFEQ`, `SET … NX`). What expired meanwhile, and what a FLUSH deleted, is not written back.

use bytes::Bytes;

use super::given_up::{Held, State, Verdict};
use super::primary::unexpected;
use crate::cli::text::when;
use crate::resp::Reply;
use crate::units::Millis;

/// What is to be done about a key, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This request; not sent yet.
    Write(Vec<Bytes>),
    /// It was sent, and answered as wanted.
    Written,
    /// The key holds it.
    AlreadySo,
    /// As the flags say.
    Left(&'static str),
    /// It cannot be, or the primary will not.
    Refused(String),
    /// Sent, and not answered, or not surely.
    Unknown(String),
}

/// Said of a key that no longer holds what it did.
pub(super) const CHANGED: &str = "the key changed meanwhile; look again";

/// Decides about a key by what was given up last and what it holds.
pub(super) fn decide(
    key: &[u8],
    state: &State,
    today: Option<&Held>,
    only_missing: bool,
    now: Millis,
) -> Fate {
    let refuse = |why: &str| Fate::Refused(why.to_owned());
    if state.compare(today, now) == Verdict::Same {
        return Fate::AlreadySo;
    }
    if only_missing && today.is_some() {
        return Fate::Left("the key exists (--only-missing)");
    }
    match state {
        State::Value { expire_at, .. } | State::Expiry(expire_at) if state.expired(now) => {
            let at = expire_at.map_or_else(String::new, |at| format!(" at {}", when(at)));
            Fate::Refused(format!(
                "it expired{at}: writing it back would only delete the key"
            ))
        }
        State::Value { value, expire_at } => Fate::Write(set(key, value, *expire_at, today)),
        State::Gone => Fate::Write(words(&[b"DEL", key])),
        State::Expiry(_) if today.is_none() => {
            refuse("there is no such key, and its value is not in the file")
        }
        State::Expiry(Some(at)) => {
            Fate::Write(words(&[b"PEXPIREAT", key, at.to_string().as_bytes()]))
        }
        State::Expiry(None) => Fate::Write(words(&[b"PERSIST", key])),
        State::Flushed => refuse("a FLUSH deleted it, and a FLUSH is never written back"),
    }
}

fn words(words: &[&[u8]]) -> Vec<Bytes> {
    words
        .iter()
        .map(|word| Bytes::copy_from_slice(word))
        .collect()
}

/// Writes the value only onto what was seen.
fn set(key: &[u8], value: &Bytes, expire_at: Option<Millis>, today: Option<&Held>) -> Vec<Bytes> {
    let mut request = words(&[b"SET", key]);
    request.push(value.clone());
    match today {
        Some(held) => request.extend([Bytes::from_static(b"IFEQ"), held.value.clone()]),
        None => request.push(Bytes::from_static(b"NX")),
    }
    if let Some(at) = expire_at {
        request.extend(words(&[b"PXAT", at.to_string().as_bytes()]));
    }
    request
}

/// What became of a write, by its reply.
pub(super) fn outcome(reply: &Reply) -> Fate {
    match reply {
        Reply::Simple(_) | Reply::Integer(1) => Fate::Written,
        Reply::Null | Reply::Integer(0) => Fate::Refused(CHANGED.to_owned()),
        Reply::Error(text) if text.starts_with("UNCONFIRMED") => Fate::Unknown(text.to_string()),
        other => Fate::Refused(unexpected(other).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1000);

    fn value(value: &'static [u8], at: Option<u64>) -> State {
        State::Value {
            value: Bytes::from_static(value),
            expire_at: at.map(Millis),
        }
    }

    fn held(value: &'static [u8], at: Option<u64>) -> Held {
        Held {
            value: Bytes::from_static(value),
            expire_at: at.map(Millis),
        }
    }

    fn decided(state: &State, today: Option<Held>) -> String {
        say(&decide(b"k", state, today.as_ref(), false, NOW))
    }

    fn say(fate: &Fate) -> String {
        match fate {
            Fate::Write(request) => {
                let words: Vec<String> = request
                    .iter()
                    .map(|word| word.escape_ascii().to_string())
                    .collect();
                words.join(" ")
            }
            Fate::Refused(why) => format!("refused: {why}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_value_is_written_only_onto_what_was_seen() {
        assert_eq!(decided(&value(b"1", None), None), "SET k 1 NX");
        assert_eq!(
            decided(&value(b"1", Some(2000)), None),
            "SET k 1 NX PXAT 2000"
        );
        assert_eq!(
            decided(&value(b"1", None), Some(held(b"2", None))),
            "SET k 1 IFEQ 2"
        );
        assert_eq!(
            decided(&value(b"1", Some(2000)), Some(held(b"1", None))),
            "SET k 1 IFEQ 1 PXAT 2000"
        );
        assert_eq!(
            decided(&value(b"1", None), Some(held(b"1", None))),
            "AlreadySo"
        );
    }

    #[test]
    fn a_deletion_and_an_expiry_are_written_back_too() {
        assert_eq!(decided(&State::Gone, Some(held(b"2", None))), "DEL k");
        assert_eq!(decided(&State::Gone, None), "AlreadySo");
        let expiry = State::Expiry(Some(Millis(2000)));
        assert_eq!(decided(&expiry, Some(held(b"2", None))), "PEXPIREAT k 2000");
        assert_eq!(
            decided(&State::Expiry(None), Some(held(b"2", Some(2000)))),
            "PERSIST k"
        );
        assert_eq!(
            decided(&expiry, None),
            "refused: there is no such key, and its value is not in the file"
        );
    }

    #[test]
    fn what_expired_and_what_a_flush_took_is_not_written_back() {
        let expired = value(b"1", Some(999));
        assert_eq!(decided(&expired, None), "AlreadySo");
        let said = decided(&expired, Some(held(b"2", None)));
        assert!(
            said.starts_with("refused: it expired at 1970-01-01T00:00:00.999Z"),
            "{said}"
        );
        assert_eq!(decided(&State::Flushed, None), "AlreadySo");
        let said = decided(&State::Flushed, Some(held(b"2", None)));
        assert!(said.starts_with("refused: a FLUSH deleted it"), "{said}");
    }

    #[test]
    fn only_missing_leaves_what_exists() {
        let fate = |state: &State, today: Option<Held>| {
            say(&decide(b"k", state, today.as_ref(), true, NOW))
        };
        let exists = "Left(\"the key exists (--only-missing)\")";
        assert_eq!(fate(&value(b"1", None), Some(held(b"2", None))), exists);
        assert_eq!(fate(&State::Gone, Some(held(b"2", None))), exists);
        assert_eq!(fate(&value(b"1", None), None), "SET k 1 NX");
    }

    #[test]
    fn a_reply_says_what_became_of_the_write() {
        assert_eq!(outcome(&Reply::OK), Fate::Written);
        assert_eq!(outcome(&Reply::Integer(1)), Fate::Written);
        for reply in [Reply::Null, Reply::Integer(0)] {
            assert_eq!(outcome(&reply), Fate::Refused(CHANGED.to_owned()));
        }
        let unconfirmed = Reply::error("UNCONFIRMED it may still take effect");
        assert!(matches!(outcome(&unconfirmed), Fate::Unknown(_)));
        let refused = Reply::error("NOREPLICAS too far ahead");
        assert_eq!(
            outcome(&refused),
            Fate::Refused("NOREPLICAS too far ahead".to_owned())
        );
    }
}
