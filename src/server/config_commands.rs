//! CONFIG: what the parameters are, and what some of them become while the node runs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Server;
use super::parameters::{Change, Number, PARAMETERS, Parameter, Written, find};
use super::session_commands::bulk;
use crate::command::{ConfigCommand, glob_matches};
use crate::resp::Reply;

/// Writes values into the configuration file, by section and key; or says why not.
pub type Rewrite =
    Box<dyn Fn(&[(&'static str, &'static str, Written)]) -> Result<(), String> + Send + Sync>;

/// What CONFIG SET changed since the node started, by section and key.
pub(super) type Changed = BTreeMap<(&'static str, &'static str), Written>;

pub(super) fn answer(server: &Server, command: &ConfigCommand) -> Reply {
    match command {
        ConfigCommand::Get { patterns } => get(server, patterns),
        ConfigCommand::Set { pairs } => set(server, pairs).err().unwrap_or(Reply::OK),
        ConfigCommand::ResetStat => {
            server.reset_stats();
            Reply::OK
        }
        ConfigCommand::Rewrite => rewrite(server).err().unwrap_or(Reply::OK),
    }
}

/// A name that is no pattern is answered as it was spelled.
fn get(server: &Server, patterns: &[Bytes]) -> Reply {
    let mut told: Vec<(&Parameter, Reply)> = Vec::new();
    for pattern in patterns {
        let is_pattern = pattern.iter().any(|byte| b"[*?".contains(byte));
        for known in PARAMETERS {
            let new = !told.iter().any(|(old, _)| old.name == known.name);
            if new && glob_matches(pattern, known.name.as_bytes(), true) {
                let spelled = match is_pattern {
                    true => Reply::text(known.name),
                    false => Reply::Bulk(pattern.clone()),
                };
                told.push((known, spelled));
            }
        }
    }
    let pairs = told.into_iter();
    Reply::Map(
        pairs
            .map(|(known, name)| (name, bulk((known.get)(server))))
            .collect(),
    )
}

fn failed(name: &str, why: &str) -> Reply {
    let text = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
    Reply::Error(text.into())
}

/// What is set in another way, and how.
const ELSEWHERE: [(&str, &str); 1] = [(
    "requirepass",
    "only its digest is kept: ACL SETUSER default resetpass >password changes it while the node runs, \
     auth.requirepass_file (or auth.acl_file) for its next start",
)];

/// All are judged before the first is changed.
fn set(server: &Server, pairs: &[(Bytes, Bytes)]) -> Result<(), Reply> {
    let mut changes: Vec<(&str, &'static Change, &Bytes)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let Some(parameter) = find(name) else {
            let is_it = |(known, _): &&(&str, &str)| name.eq_ignore_ascii_case(known.as_bytes());
            if let Some((known, how)) = ELSEWHERE.iter().find(is_it) {
                return Err(failed(known, how));
            }
            let name = String::from_utf8_lossy(name);
            let text =
                format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
            return Err(Reply::Error(text.into()));
        };
        let Some(change) = parameter.change else {
            return Err(failed(parameter.name, "can't set immutable config"));
        };
        // Under which of its names it is said does not matter.
        if changes
            .iter()
            .any(|(_, known, _)| std::ptr::eq(*known, change))
        {
            return Err(failed(parameter.name, "duplicate parameter"));
        }
        changes.push((parameter.name, change, value));
    }
    let judged = changes.iter().map(|(name, change, value)| {
        let value = String::from_utf8_lossy(value);
        let read = (change.read)(&value);
        read.map(|number| (*change, number))
            .map_err(|why| failed(name, &why))
    });
    let judged: Vec<(&'static Change, Number)> = judged.collect::<Result<_, _>>()?;
    let mut changed = server.changed();
    for (change, number) in judged {
        (change.set)(server, number);
        changed.insert((change.section, change.key), (change.written)(number));
    }
    Ok(())
}

fn rewrite(server: &Server) -> Result<(), Reply> {
    let Some(rewrite) = server.rewrite.get() else {
        return Err(Reply::error(
            "ERR The server is running without a config file",
        ));
    };
    let changed = server.changed();
    let values = changed
        .iter()
        .map(|((section, key), value)| (*section, *key, value.clone()));
    let values: Vec<_> = values.collect();
    rewrite(&values).map_err(|why| {
        tracing::warn!("rewriting the configuration file failed: {why}");
        Reply::Error(format!("ERR Rewriting config file: {why}").into())
    })
}
