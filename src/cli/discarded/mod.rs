//! `discarded list|show|replay`: what a node gave up when it rejoined, held against today's values,
//! and written back where a person wants it.
//!
//! Promises: only `replay` changes anything, only the keys it was told to, only after saying what,
//! and through ordinary commands at the primary, so that what is written back is a write like any
//! other. What changed since it was looked at is left alone.

mod given_up;
mod list;
mod plan;
mod primary;
mod replay;
mod show;
mod source;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::http_client::ConnectArgs;
use super::load::login::LoginArgs;
use super::quoted::unquote;

/// Where to ask when nobody says.
const DEFAULT_ADDR: &str = "127.0.0.1:7381";

/// Flags of `discarded`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: DiscardedCommand,
}

#[derive(Debug, Subcommand)]
enum DiscardedCommand {
    /// List the files with discarded records, on every node that can be asked
    List(ListArgs),
    /// Print the records of a file, and what each key holds today
    Show(ShowArgs),
    /// Write the last discarded state of keys back, after showing what will change
    Replay(ReplayArgs),
}

/// Flags of `discarded list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// HTTP address of any node of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDR)]
    addr: String,
    /// Look into this data directory instead of asking a node
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    data_dir: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Which file, and where to ask.
#[derive(Debug, clap::Args)]
struct FileArgs {
    /// A file on this machine, or a name that `discarded list` shows
    #[arg(value_name = "FILE|NAME")]
    file: PathBuf,
    /// HTTP address of any node of the cluster [default: 127.0.0.1:7381 where one is needed]
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Take the file of this name from this data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// File with the cluster's secret, to take a file from a node
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    login: LoginArgs,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

impl FileArgs {
    fn connect(&self) -> ConnectArgs {
        ConnectArgs {
            addr: self.addr.clone().unwrap_or_else(|| DEFAULT_ADDR.to_owned()),
            secret_file: self.secret_file.clone(),
            json: self.json,
        }
    }
}

/// Flags of `discarded show`.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only this key, as it stands or in quotes with escapes ("a\x00b"); may be given again
    #[arg(long = "key", value_name = "KEY", value_parser = key_parser())]
    keys: Vec<Key>,
}

/// Flags of `discarded replay`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["keys", "all"]))]
struct ReplayArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Write this key back, as it stands or in quotes with escapes ("a\x00b"); may be given again
    #[arg(long = "key", value_name = "KEY", value_parser = key_parser())]
    keys: Vec<Key>,
    /// Write every key of the file back
    #[arg(long)]
    all: bool,
    /// Leave keys alone that exist today
    #[arg(long)]
    only_missing: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// A key as it was typed.
#[derive(Clone, Debug)]
struct Key(Vec<u8>);

fn key_parser() -> impl TypedValueParser<Value = Key> {
    OsStringValueParser::new().try_map(|text: OsString| unquote(text.as_bytes()).map(Key))
}

/// Runs `discarded`.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        DiscardedCommand::List(args) => list::run(&args),
        DiscardedCommand::Show(args) => show::run(args),
        DiscardedCommand::Replay(args) => replay::run(args),
    }
}
