//! OBJECT and MEMORY: how a value is kept.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, integer, is_option, keys};
use super::{Command, CommandSpec, KeyCommand};
use crate::resp::Reply;

/// What OBJECT asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectQuestion {
    /// ENCODING.
    Encoding,
    /// FREQ.
    Frequency,
    /// IDLETIME.
    IdleTime,
    /// REFCOUNT.
    ReferenceCount,
}

fn question(args: &[Bytes], question: ObjectQuestion) -> Result<Command, Reply> {
    keys(KeyCommand::Object {
        key: arg(args, 2),
        question,
    })
}

pub(super) fn parse_encoding(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    question(args, ObjectQuestion::Encoding)
}

pub(super) fn parse_freq(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    question(args, ObjectQuestion::Frequency)
}

pub(super) fn parse_idletime(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    question(args, ObjectQuestion::IdleTime)
}

pub(super) fn parse_refcount(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    question(args, ObjectQuestion::ReferenceCount)
}

pub(super) fn parse_usage(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    for at in (3..args.len()).step_by(2) {
        let known = args
            .get(at)
            .is_some_and(|option| is_option(option, "SAMPLES"));
        if !known || at + 1 == args.len() || integer(args, at + 1)? < 0 {
            return Err(SYNTAX_ERROR);
        }
    }
    keys(KeyCommand::MemoryUsage { key: arg(args, 2) })
}
