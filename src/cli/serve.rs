//! `understudy serve`: runs a node until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::rewrite;
use crate::http;
use crate::node::{self, File, RealHost, Settings};
use crate::replica::Mode;
use crate::server::{self, Server};
use crate::wal::RealDisk;

/// Flags of `serve`. They win over the file, the file over the defaults.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's number among the members [default: 1 when it is alone]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
    /// Where this node keeps its log, snapshots and promises [default: understudy-N]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:7379]
    #[arg(long, value_name = "HOST:PORT")]
    client_addr: Option<String>,
    /// Where members connect [default: 127.0.0.1:7380]
    #[arg(long, value_name = "HOST:PORT")]
    peer_addr: Option<String>,
    /// Where health, metrics and orders are [default: 127.0.0.1:7381]
    #[arg(long, value_name = "HOST:PORT")]
    http_addr: Option<String>,
    /// Who must hold a write before it is acknowledged [default: semi-sync]
    #[arg(long, value_name = "async|semi-sync|sync", value_parser = parse_mode)]
    mode: Option<Mode>,
    /// A member of the cluster, this node included; once per member
    #[arg(long, value_name = "ID=PEER_ADDR/CLIENT_ADDR[/witness]")]
    member: Vec<String>,
    /// Begin a cluster although other voters do not answer that they are blank; with the log found here,
    /// where its control state is lost
    #[arg(long)]
    bootstrap: bool,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    [Mode::Async, Mode::SemiSync, Mode::Sync]
        .into_iter()
        .find(|mode| mode.name() == text)
        .ok_or_else(|| "say async, semi-sync or sync".to_string())
}

fn settle(args: Args) -> anyhow::Result<Settings> {
    let mut file = match &args.config {
        Some(path) => node::read(path)?,
        None => File::default(),
    };
    file.id = args.id.or(file.id);
    file.data_dir = args.data_dir.or(file.data_dir);
    file.client_addr = args.client_addr.or(file.client_addr);
    file.peer_addr = args.peer_addr.or(file.peer_addr);
    file.http_addr = args.http_addr.or(file.http_addr);
    file.cluster.mode = args.mode.or(file.cluster.mode);
    if !args.member.is_empty() {
        let members = args.member.iter().map(|text| node::parse_member(text));
        file.cluster.member = members.collect::<Result<_, _>>()?;
    }
    let mut settings = Settings::settle(file)?;
    settings.bootstrap = args.bootstrap;
    Ok(settings)
}

/// Runs `serve`.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    super::local_cluster::exit_with_parent();
    let filter = EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let config = args.config.clone();
    let mut settings = settle(args)?;
    if let Err(fit) = server::allow_clients(settings.max_clients) {
        tracing::warn!(
            "the system allows file descriptors for {fit} clients only, not for max_clients = {}; {fit} it \
             is. Raise the limit (ulimit -n, LimitNOFILE=) or lower max_clients",
            settings.max_clients
        );
        settings.max_clients = fit;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .context("the runtime did not start")?;
    runtime.block_on(serve(settings, config))
}

/// One core is left to the log's writer and the control plane. (On two cores a second worker served a
/// fifth more GETs, and took a quarter more CPU time for each SET, to be woken and put to sleep.)
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(1).max(1)
}

async fn serve(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    // Every port is bound before anything is promised, so that a taken one is said at once.
    let clients = server::bind(&settings.client_addr).await?;
    let orders = http::bind(&settings.http_addr).await?;
    let mut terminate = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
    // It means "read your files again". Unheard it would be the end, and a terminal that is closed says it,
    // too: as with Redis, the node goes on.
    let mut hangup = signal(SignalKind::hangup()).context("signals")?;
    for note in settings.notes() {
        tracing::info!("{note}");
    }
    server::check_files(&settings, &RealDisk)?;
    let running = tokio::select! {
        running = node::start(settings, RealHost::new()) => running?,
        // A node that waits for what its disk lost may be told to end.
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    let server = Server::new(running.node.clone());
    if let Err(wrong) = server.read_files() {
        running.stop().await;
        return Err(wrong.into());
    }
    if let Some(path) = config {
        // A session asks for it, on a thread that serves others, too.
        server.rewrite_with(Box::new(move |values| {
            tokio::task::block_in_place(|| rewrite::rewrite(&path, values))
        }));
    }
    tracing::info!(
        "node {} of cluster {}: clients on {}{}, members on {}, HTTP on {}",
        running.node.id(),
        running.node.settings.name,
        running.node.settings.client_addr,
        if running.node.settings.tls.is_some() {
            " (TLS)"
        } else {
            ""
        },
        running.node.settings.peer_addr,
        running.node.settings.http_addr,
    );
    let serving = tokio::spawn(server::serve(server.clone(), clients));
    let http = tokio::spawn(http::serve(server.clone(), orders));
    let probing = tokio::spawn(server::probe(Arc::clone(&server)));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = server.until_shutdown() => break,
            _ = hangup.recv() => {
                if !server.reload_certificate() {
                    tracing::info!("SIGHUP: there is no [tls], and so nothing to read again");
                }
            }
        }
    }
    drop(server);
    tracing::info!("stopping");
    // The process ends: its keys are not freed one by one, which takes a second for five million.
    std::mem::forget(running.node.clone());
    running.stop().await;
    probing.abort();
    for task in [serving, http] {
        // Whoever still holds a connection is cut off with the process.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), task).await;
    }
    Ok(ExitCode::SUCCESS)
}
