//! What a reply says about a call.

use understudy::resp::Reply;

use super::operation::{Answer, Call};

/// The reply as this call's answer; `None` for an error, or for what it never answers.
pub fn answer(call: &Call, reply: &Reply) -> Option<Answer> {
    Some(match (call, reply) {
        (Call::Get | Call::GetSet(_), Reply::Bulk(value)) => Answer::Value(Some(value.to_vec())),
        (Call::Get | Call::GetSet(_), Reply::Null) => Answer::Value(None),
        (Call::Set(_), reply) if *reply == Reply::OK => Answer::Done,
        (Call::SetIfEqual { .. }, Reply::Null) => Answer::Stored(false),
        (Call::SetIfEqual { .. }, reply) if *reply == Reply::OK => Answer::Stored(true),
        (Call::Incr | Call::Append(_) | Call::Del, Reply::Integer(n)) => Answer::Integer(*n),
        (Call::Incr, Reply::Error(text)) if text.starts_with("ERR value is not an integer") => {
            Answer::NotAnInteger
        }
        _ => return None,
    })
}
