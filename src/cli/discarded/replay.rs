//! `discarded replay`: the last given-up state of chosen keys, written back by ordinary commands.
//!
//! A value is written only if the key still holds what it held when the person was asked (`SET …
//! IFEQ`, `SET … NX`). Redis has no such form of DEL and PEXPIREAT: there the key is read again right
//! before. A FLUSH is never written back, and neither is anything of a file that is damaged: what
//! stands last in it would not be what was given up last.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::ReplayArgs;
use super::given_up::{Chosen, GivenUp, Held, State, say_held};
use super::plan::{CHANGED, Fate, decide, outcome};
use super::primary::Primary;
use super::show::{BATCH, held_document, now, state_document};
use super::source::Source;
use crate::cli::http_client::HttpClient;
use crate::cli::quoted::quote;
use crate::cli::text::count;
use crate::resp::encode_request;
use crate::units::Lsn;

/// Bytes of requests sent before their replies are read.
const BATCH_BYTES: usize = 1 << 20;

/// One chosen key.
#[derive(Debug)]
struct Item {
    key: Vec<u8>,
    state: Option<(State, Lsn)>,
    today: Option<Held>,
    fate: Fate,
}

pub(super) fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let as_json = args.file.json;
    let chosen = Chosen::new(args.keys.into_iter().map(|key| key.0).collect());
    let source = Source::open(&args.file)?;
    let (label, cluster) = (source.label.clone(), source.cluster());
    let (given_up, read) = source.read(&chosen, |_, _| {});
    read.context("nothing is written back from a damaged file")?;
    let client = HttpClient::from_args(&args.file.connect())?;
    let mut primary =
        Primary::find(&client, &args.file.login.read()?).context("nothing was written back")?;
    if let Some(theirs) = primary
        .cluster
        .as_ref()
        .filter(|theirs| **theirs != cluster)
    {
        bail!(
            "{label} is of cluster {cluster}, and node {} of {theirs}",
            primary.id
        );
    }
    let flushes = given_up.flushes.clone();
    let mut items = look(&mut primary, given_up, &chosen, args.only_missing)
        .context("nothing was written back: the primary does not answer")?;
    if !as_json {
        announce(&primary, &label, &flushes, &items);
    }
    let wanted = items
        .iter()
        .filter(|item| matches!(item.fate, Fate::Write(_)));
    let wanted = wanted.count();
    if !args.dry_run && wanted > 0 {
        confirm(args.yes, as_json, wanted, primary.id)?;
        carry_out(&mut primary, &mut items);
    }
    let file = File {
        label,
        flushes,
        primary: primary.id,
        dry_run: args.dry_run,
    };
    if as_json {
        anstream::println!("{}", serde_json::to_string_pretty(&file.document(&items))?);
    } else {
        file.print(&items);
    }
    let failed = |item: &Item| matches!(item.fate, Fate::Refused(_) | Fate::Unknown(_));
    Ok(if items.iter().any(failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Asks what the chosen keys hold, and decides about each.
fn look(
    primary: &mut Primary,
    mut given_up: GivenUp,
    chosen: &Chosen,
    only_missing: bool,
) -> std::io::Result<Vec<Item>> {
    let keys: Vec<Vec<u8>> = match chosen {
        Chosen::All => given_up.keys.keys().cloned().collect(),
        Chosen::Keys(keys) => keys.iter().cloned().collect(),
    };
    let now = now();
    let mut items = Vec::with_capacity(keys.len());
    for keys in keys.chunks(BATCH) {
        let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (key, today) in keys.iter().zip(primary.today(&names)?) {
            let state = given_up.keys.remove(key);
            let fate = match &state {
                Some((state, _)) => decide(key, state, today.as_ref(), only_missing, now),
                None => Fate::Refused("the file says nothing about this key".to_owned()),
            };
            items.push(Item {
                key: key.clone(),
                state,
                today,
                fate,
            });
        }
    }
    Ok(items)
}

fn announce(primary: &Primary, label: &str, flushes: &[Lsn], items: &[Item]) {
    anstream::println!("from {label} to node {} at {}:", primary.id, primary.addr);
    for lsn in flushes {
        anstream::println!("LSN {lsn} is a FLUSH: it is not written back");
    }
    for item in items
        .iter()
        .filter(|item| matches!(item.fate, Fate::Write(_)))
    {
        let state = item
            .state
            .as_ref()
            .map_or_else(String::new, |(state, _)| state.say());
        let today = say_held(item.today.as_ref());
        anstream::println!("{}  {today}  ->  {state}", quote(&item.key));
    }
}

/// Asks the person; an error where nobody can be asked, or the answer is not yes.
fn confirm(yes: bool, as_json: bool, wanted: usize, primary: u32) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let keys = count(wanted as u64, "key");
    if as_json || !std::io::stdin().is_terminal() {
        bail!(
            "nothing was written back: {keys} would change, and nobody can be asked here; say --yes \
             to write, or --dry-run to look"
        );
    }
    // To the error stream: it is not the command's answer.
    let mut out = anstream::stderr();
    write!(out, "Write {keys} back to node {primary}? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if is_yes(&answer) {
        Ok(())
    } else {
        bail!("nothing was written back")
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Sends what is to be written, a batch at a time, until the connection ends.
fn carry_out(primary: &mut Primary, items: &mut [Item]) {
    let mut due: Vec<&mut Item> = items
        .iter_mut()
        .filter(|item| matches!(item.fate, Fate::Write(_)))
        .collect();
    let mut rest = &mut due[..];
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at_mut(batch_of(rest));
        if let Err(error) = write_batch(primary, batch) {
            let unsent = batch.iter_mut().chain(behind);
            for item in unsent.filter(|item| matches!(item.fate, Fate::Write(_))) {
                item.fate = Fate::Refused(format!("not sent: {error}"));
            }
            return;
        }
        rest = behind;
    }
}

/// How many of the first items go together.
fn batch_of(items: &[&mut Item]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(BATCH).take_while(|item| {
        let fits = bytes < BATCH_BYTES;
        if let Fate::Write(request) = &item.fate {
            bytes += request.iter().map(Bytes::len).sum::<usize>();
        }
        fits
    });
    fits.count()
}

fn write_batch(primary: &mut Primary, batch: &mut [&mut Item]) -> std::io::Result<()> {
    keep_off_what_changed(primary, batch)?;
    let mut requests = BytesMut::new();
    for item in batch.iter() {
        if let Fate::Write(request) = &item.fate {
            let request: Vec<&[u8]> = request.iter().map(|word| &word[..]).collect();
            encode_request(&request, &mut requests);
        }
    }
    let mut ended = primary.send(&requests);
    for item in batch.iter_mut() {
        if !matches!(item.fate, Fate::Write(_)) {
            continue;
        }
        let reply = match ended {
            Ok(()) => primary.receive(),
            Err(error) => Err(error),
        };
        ended = match reply {
            Ok(reply) => {
                item.fate = outcome(&reply);
                Ok(())
            }
            Err(error) => {
                item.fate = Fate::Unknown(format!("no answer ({error}); it may be written"));
                Err(error)
            }
        };
    }
    ended
}

/// DEL, PEXPIREAT and PERSIST have no condition of their own: the key is read again.
fn keep_off_what_changed(primary: &mut Primary, batch: &mut [&mut Item]) -> std::io::Result<()> {
    let bare = |item: &Item| match &item.fate {
        Fate::Write(request) => request.first().is_some_and(|word| &word[..] != b"SET"),
        _ => false,
    };
    let mut bare: Vec<&mut &mut Item> = batch.iter_mut().filter(|item| bare(item)).collect();
    if bare.is_empty() {
        return Ok(());
    }
    let names: Vec<&[u8]> = bare.iter().map(|item| &item.key[..]).collect();
    let today = primary.today(&names)?;
    for (item, today) in bare.iter_mut().zip(today) {
        if item.today != today {
            item.fate = Fate::Refused(CHANGED.to_owned());
        }
    }
    Ok(())
}

/// What the outcome is about.
struct File {
    label: String,
    flushes: Vec<Lsn>,
    primary: u32,
    dry_run: bool,
}

impl File {
    /// The outcome's name and its reason.
    fn say<'a>(&self, fate: &'a Fate) -> (&'static str, Option<&'a str>) {
        match fate {
            Fate::Write(_) => ("would be written", None),
            Fate::Written => ("written", None),
            Fate::AlreadySo => ("already so", None),
            Fate::Left(why) => ("left", Some(why)),
            Fate::Refused(why) => ("refused", Some(why)),
            Fate::Unknown(why) => ("unknown", Some(why)),
        }
    }

    fn print(&self, items: &[Item]) {
        let mut sums: Vec<(&str, u64)> = Vec::new();
        for item in items {
            let (name, why) = self.say(&item.fate);
            match sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, number)) => *number += 1,
                None => sums.push((name, 1)),
            }
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            anstream::println!("{}  {name}{why}", quote(&item.key));
        }
        let sums: Vec<String> = sums
            .iter()
            .map(|(name, number)| format!("{number} {name}"))
            .collect();
        let end = if self.dry_run {
            "; nothing was changed (--dry-run)"
        } else {
            ""
        };
        let keys = count(items.len() as u64, "key");
        match sums.as_slice() {
            [] => anstream::println!("the file names no key{end}"),
            _ => anstream::println!("{keys}: {}{end}", sums.join(", ")),
        }
    }

    fn document(&self, items: &[Item]) -> Value {
        let key = |item: &Item| {
            let (name, why) = self.say(&item.fate);
            json!({
                "key": quote(&item.key),
                "lsn": item.state.as_ref().map(|(_, lsn)| lsn.0),
                "given_up": item.state.as_ref().map(|(state, _)| state_document(state)),
                "before": held_document(item.today.as_ref()),
                "outcome": name,
                "why": why,
            })
        };
        json!({
            "schema": "understudy.discarded.replay/1",
            "file": self.label,
            "primary": self.primary,
            "dry_run": self.dry_run,
            "flushes": self.flushes.iter().map(|lsn| lsn.0).collect::<Vec<_>>(),
            "keys": items.iter().map(key).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" Yes \n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("n\n") && !is_yes("yesterday\n"));
    }
}
