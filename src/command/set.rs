//! SET and its kin: SETNX, SETEX, PSETEX, GETSET, GETEX.

use bytes::Bytes;

use super::KeyCommand;
use super::expiry::{When, invalid_expire, when};
use super::parse::{Parsed, int, syntax_error};
use super::table::CommandInfo;

/// When the value is set at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only if there is none.
    IfMissing,
    /// XX: only if there is one.
    IfThere,
    /// IFEQ: only if there is one and it equals this (Valkey 8.1).
    IfEqual(Bytes),
}

/// What becomes of the expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetExpiry {
    /// There is none afterwards. (GETEX: it stays.)
    #[default]
    None,
    /// It stays. (GETEX: PERSIST.)
    Keep,
    /// It becomes this.
    At(When),
}

/// What is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetReply {
    /// OK, or nil when the condition did not hold.
    #[default]
    Status,
    /// The old value (SET … GET, GETSET).
    OldValue,
    /// 1 or 0 (SETNX).
    Integer,
}

/// Options of SET.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// When the value is set at all.
    pub condition: SetCondition,
    /// What becomes of the expiry.
    pub expiry: SetExpiry,
    /// What is answered.
    pub reply: SetReply,
}

pub(super) fn parse(info: &CommandInfo, args: &[Bytes]) -> Parsed<KeyCommand> {
    let key = args[0].clone();
    let plain = |value: &Bytes, options: SetOptions| KeyCommand::Set {
        key: key.clone(),
        value: value.clone(),
        options,
    };
    match info.name {
        "set" => Ok(plain(&args[1], set_options(info, &args[2..])?)),
        "setnx" => Ok(plain(
            &args[1],
            SetOptions {
                condition: SetCondition::IfMissing,
                reply: SetReply::Integer,
                ..SetOptions::default()
            },
        )),
        "getset" => Ok(plain(
            &args[1],
            SetOptions {
                reply: SetReply::OldValue,
                ..SetOptions::default()
            },
        )),
        "setex" | "psetex" => {
            let at = when(info, &args[1], info.name == "setex", false)?;
            let expiry = SetExpiry::At(at);
            Ok(plain(
                &args[2],
                SetOptions {
                    expiry,
                    ..SetOptions::default()
                },
            ))
        }
        _ => Ok(KeyCommand::GetEx {
            key,
            expiry: getex_expiry(info, &args[1..])?,
        }),
    }
}

/// The unit and kind of an expiry option: (seconds, absolute).
fn expiry_option(option: &[u8]) -> Option<(bool, bool)> {
    match option {
        b"ex" => Some((true, false)),
        b"px" => Some((false, false)),
        b"exat" => Some((true, true)),
        b"pxat" => Some((false, true)),
        _ => None,
    }
}

fn set_options(info: &CommandInfo, args: &[Bytes]) -> Parsed<SetOptions> {
    let mut options = SetOptions::default();
    let mut expiry: Option<(&Bytes, bool, bool)> = None;
    let mut keep = false;
    let mut at = 0;
    while at < args.len() {
        let option = args[at].to_ascii_lowercase();
        let free = options.condition == SetCondition::Always;
        let next = args.get(at + 1);
        match (option.as_slice(), next) {
            (b"nx", _) if free || options.condition == SetCondition::IfMissing => {
                options.condition = SetCondition::IfMissing;
            }
            (b"xx", _) if free || options.condition == SetCondition::IfThere => {
                options.condition = SetCondition::IfThere;
            }
            (b"ifeq", Some(value)) if free => {
                options.condition = SetCondition::IfEqual(value.clone());
                at += 1;
            }
            (b"get", _) => options.reply = SetReply::OldValue,
            (b"keepttl", _) if expiry.is_none() => keep = true,
            (name, Some(value)) if !keep && expiry.is_none() => {
                let (seconds, absolute) = expiry_option(name).ok_or_else(syntax_error)?;
                expiry = Some((value, seconds, absolute));
                at += 1;
            }
            _ => return Err(syntax_error()),
        }
        at += 1;
    }
    options.expiry = match expiry {
        Some((value, seconds, absolute)) => SetExpiry::At(when(info, value, seconds, absolute)?),
        None if keep => SetExpiry::Keep,
        None => SetExpiry::None,
    };
    Ok(options)
}

fn getex_expiry(info: &CommandInfo, args: &[Bytes]) -> Parsed<SetExpiry> {
    match args {
        [] => Ok(SetExpiry::None),
        [option] if option.eq_ignore_ascii_case(b"persist") => Ok(SetExpiry::Keep),
        [option, value] => {
            let (seconds, absolute) =
                expiry_option(&option.to_ascii_lowercase()).ok_or_else(syntax_error)?;
            Ok(SetExpiry::At(when(info, value, seconds, absolute)?))
        }
        _ => Err(syntax_error()),
    }
}

/// Checks a positive expiry in the unit given.
pub(super) fn positive(info: &CommandInfo, value: &Bytes) -> Parsed<i64> {
    match int(value)? {
        n if n <= 0 => Err(invalid_expire(info)),
        n => Ok(n),
    }
}
