//! CLIENT REQUESTID: the id of the next write.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, is_option};
use super::client::client;
use super::{ClientCommand, Command, CommandSpec};
use crate::resp::Reply;

/// Longest id, in bytes.
const MAX_TOKEN_BYTES: usize = 128;

pub(super) fn parse_requestid(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (token, done) = match args.get(2..).unwrap_or_default() {
        [token] => (token, &[][..]),
        [token, option, done @ ..] if is_option(option, "DONE") && !done.is_empty() => {
            (token, done)
        }
        _ => return Err(SYNTAX_ERROR),
    };
    let fits = |token: &Bytes| (1..=MAX_TOKEN_BYTES).contains(&token.len());
    if !fits(token) || !done.iter().all(fits) {
        let text = format!("ERR a request id has 1 to {MAX_TOKEN_BYTES} bytes");
        return Err(Reply::Error(text.into()));
    }
    // They are kept for longer than the request they are parts of.
    client(ClientCommand::RequestId {
        token: Bytes::copy_from_slice(token),
        done: done
            .iter()
            .map(|done| Bytes::copy_from_slice(done))
            .collect(),
    })
}
