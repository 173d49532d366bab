//! `discarded show`: each effect of a file, in order, and per key what was given up last against
//! what it holds today.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::{Value, json};
use thiserror::Error;

use super::given_up::{Chosen, GivenUp, Held, State, Verdict, say_held};
use super::primary::Primary;
use super::source::Source;
use super::{FileArgs, ShowArgs};
use crate::cli::http_client::HttpClient;
use crate::cli::quoted::quote;
use crate::cli::text::{count, or_dash, when};
use crate::cli::wal::say_effect;
use crate::keyspace::Effect;
use crate::units::{Lsn, Millis};
use crate::wal::{Kind, RecordRef};

/// Keys asked for at once.
pub(super) const BATCH: usize = 64;

pub(super) fn run(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let chosen = Chosen::new(args.keys.into_iter().map(|key| key.0).collect());
    let source = Source::open(&args.file)?;
    let (label, node, cluster) = (source.label.clone(), source.node, source.cluster());
    let fork = source.fork();
    let as_json = args.file.json;
    if !as_json {
        anstream::println!(
            "{label}: behind LSN {} of epoch {}, of cluster {cluster}",
            fork.lsn,
            fork.epoch
        );
    }
    let mut records = Vec::new();
    let (given_up, read) = source.read(&chosen, |record, effects| {
        let named: Vec<&Effect<'_>> = effects.iter().filter(|e| chosen.touches(e)).collect();
        let hidden = named.is_empty() && !matches!(chosen, Chosen::All);
        if as_json && !hidden {
            records.push(record_document(record, &named));
        } else if !hidden {
            anstream::println!("{}", record_line(record, &named));
        }
    });
    let compared = Compared::with_today(given_up, node.is_some(), &args.file, &cluster);
    if as_json {
        let problem = read.as_ref().err().map(|error| format!("{error:#}"));
        let document = json!({
            "schema": "understudy.discarded.show/1",
            "file": label,
            "node": node,
            "cluster_id": cluster,
            "fork": { "epoch": fork.epoch.0, "lsn": fork.lsn.0 },
            "records": records,
            "primary": compared.primary,
            "not_asked": compared.not_asked.as_ref().map(ToString::to_string),
            "keys": compared.documents(),
            "problem": problem,
        });
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        compared.print();
    }
    read.map(|()| ExitCode::SUCCESS)
}

fn record_line(record: &RecordRef<'_>, effects: &[&Effect<'_>]) -> String {
    let effects: Vec<String> = match record.kind {
        Kind::EpochStart => vec![format!("epoch {} begins", record.epoch)],
        Kind::Effects => effects.iter().map(|effect| say_effect(effect)).collect(),
    };
    format!(
        "{:>10}  {}  epoch {}  {}",
        record.lsn,
        when(record.time),
        record.epoch,
        effects.join("; ")
    )
}

fn record_document(record: &RecordRef<'_>, effects: &[&Effect<'_>]) -> Value {
    let effects: Vec<Value> = effects
        .iter()
        .map(|effect| effect_document(effect))
        .collect();
    json!({
        "lsn": record.lsn.0,
        "epoch": record.epoch.0,
        "time_ms": record.time.0,
        "begins_epoch": record.kind == Kind::EpochStart,
        "effects": effects,
    })
}

fn effect_document(effect: &Effect<'_>) -> Value {
    let at = |at: Option<Millis>| at.map(|at| at.0);
    match *effect {
        Effect::Set {
            key,
            value,
            expire_at,
        } => json!({
            "effect": "set", "key": quote(key), "value": quote(value),
            "expire_at_ms": at(expire_at),
        }),
        Effect::Del { key } => json!({ "effect": "del", "key": quote(key) }),
        Effect::Expire { key, expire_at } => json!({
            "effect": "expire", "key": quote(key), "expire_at_ms": at(expire_at),
        }),
        Effect::Flush => json!({ "effect": "flush" }),
    }
}

/// A state for JSON.
pub(super) fn state_document(state: &State) -> Value {
    let at = |at: &Option<Millis>| at.map(|at| at.0);
    match state {
        State::Value { value, expire_at } => json!({
            "state": "value", "value": quote(value), "expire_at_ms": at(expire_at),
        }),
        State::Gone => json!({ "state": "deleted" }),
        State::Expiry(expire_at) => json!({ "state": "expiry", "expire_at_ms": at(expire_at) }),
        State::Flushed => json!({ "state": "flushed" }),
    }
}

/// What a key holds, for JSON; null where there is no such key.
pub(super) fn held_document(held: Option<&Held>) -> Value {
    held.map_or(Value::Null, |held| {
        json!({ "value": quote(&held.value), "expire_at_ms": held.expire_at.map(|at| at.0) })
    })
}

/// The clock of this machine, for what has expired.
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Millis(since.map_or(0, |since| since.as_millis() as u64))
}

/// One key's last state, and today's where it was asked.
struct Compare {
    key: Vec<u8>,
    state: State,
    lsn: Lsn,
    today: Option<(Verdict, Option<Held>)>,
}

/// All keys.
struct Compared {
    keys: Vec<Compare>,
    flushes: Vec<Lsn>,
    /// The node that was asked.
    primary: Option<u32>,
    /// Why none was, or not for every key.
    not_asked: Option<NotAsked>,
}

/// Why today's values are not known.
#[derive(Debug, Error)]
enum NotAsked {
    #[error("say --addr HOST:PORT to compare with today's values")]
    NoAddress,
    #[error("no primary answers ({0})")]
    NoPrimary(String),
    #[error("the primary is of another cluster, {0}")]
    OtherCluster(String),
}

fn no_primary(error: impl std::fmt::Display) -> NotAsked {
    NotAsked::NoPrimary(error.to_string())
}

impl Compared {
    /// Asks the primary, where the file came from a node or an address was given.
    fn with_today(given_up: GivenUp, of_node: bool, args: &FileArgs, cluster: &str) -> Compared {
        let keys = given_up.keys.into_iter();
        let mut compared = Compared {
            keys: keys
                .map(|(key, (state, lsn))| Compare {
                    key,
                    state,
                    lsn,
                    today: None,
                })
                .collect(),
            flushes: given_up.flushes,
            primary: None,
            not_asked: None,
        };
        let asked = if of_node || args.addr.is_some() {
            compared.ask(args, cluster)
        } else {
            Err(NotAsked::NoAddress)
        };
        compared.not_asked = asked.err();
        compared
    }

    fn ask(&mut self, args: &FileArgs, cluster: &str) -> Result<(), NotAsked> {
        let client = HttpClient::from_args(&args.connect()).map_err(no_primary)?;
        let login = args.login.read().map_err(no_primary)?;
        let mut primary = Primary::find(&client, &login).map_err(no_primary)?;
        if let Some(theirs) = primary.cluster.as_ref().filter(|theirs| *theirs != cluster) {
            return Err(NotAsked::OtherCluster(theirs.clone()));
        }
        let now = now();
        for keys in self.keys.chunks_mut(BATCH) {
            let names: Vec<&[u8]> = keys.iter().map(|key| &key.key[..]).collect();
            let today = primary.today(&names).map_err(no_primary)?;
            for (key, today) in keys.iter_mut().zip(today) {
                let verdict = key.state.compare(today.as_ref(), now);
                key.today = Some((verdict, today));
            }
        }
        self.primary = Some(primary.id);
        Ok(())
    }

    fn print(&self) {
        anstream::println!();
        for lsn in &self.flushes {
            anstream::println!("LSN {lsn} is a FLUSH: it deleted everything");
        }
        for key in &self.keys {
            anstream::println!("{}", self.line(key));
        }
        let number = |verdict| {
            let of = |key: &&Compare| key.today.as_ref().is_some_and(|(own, _)| *own == verdict);
            self.keys.iter().filter(of).count()
        };
        let keys = count(self.keys.len() as u64, "key");
        match (self.primary, &self.not_asked) {
            (_, Some(why)) => {
                anstream::println!("{keys}, not compared with today's values: {why}");
            }
            (primary, None) => anstream::println!(
                "{keys}, compared with node {}: {} the same, {} different, {} gone",
                or_dash(primary),
                number(Verdict::Same),
                number(Verdict::Differs),
                number(Verdict::Gone)
            ),
        }
    }

    fn line(&self, key: &Compare) -> String {
        let today = match &key.today {
            Some((Verdict::Differs, today)) => format!("differs: {}", say_held(today.as_ref())),
            Some((verdict, _)) => verdict.name().to_owned(),
            None => match &self.not_asked {
                Some(NotAsked::NoPrimary(_)) => "not asked: no primary answers".to_owned(),
                _ => "not asked".to_owned(),
            },
        };
        let (name, state) = (quote(&key.key), key.state.say());
        format!(
            "{name}  given up at LSN {}: {state}; today: {today}",
            key.lsn
        )
    }

    fn documents(&self) -> Vec<Value> {
        let document = |key: &Compare| {
            let today = key.today.as_ref();
            json!({
                "key": quote(&key.key),
                "lsn": key.lsn.0,
                "given_up": state_document(&key.state),
                "compared": today.map(|(verdict, _)| verdict.name()),
                "today": today.map(|(_, held)| held_document(held.as_ref())),
            })
        };
        self.keys.iter().map(document).collect()
    }
}
