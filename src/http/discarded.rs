//! `/discarded`: the files with the records that this node gave up on rejoining, and each of them as
//! it stands on the disk.
//!
//! The list holds no data and may be read by anyone who may read `/cluster`. A file holds keys and
//! values: it needs what an order needs. Only what the list names is ever opened, so no path leads
//! out of the folder; and a file passes through in pieces, however long it is.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::Shared;
use super::orders::{Answer, allowed, refuse};
use crate::wal::{
    DiscardedName, DiscardedSummary, FileBytes, ReadOnlyDisk, discarded_files, open_discarded,
    summarize,
};

/// Bytes of one piece of a file.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const PIECES: usize = 2;

/// What was found in each file, under its length: a file does not change once it is whole, and one
/// that is being written is longer the next time. (Counting means reading all of it.)
type Seen = HashMap<(DiscardedName, u64), DiscardedSummary>;

#[derive(Clone)]
struct Files {
    server: Shared,
    seen: Arc<Mutex<Seen>>,
}

/// The two routes.
pub(super) fn routes(server: Shared) -> Router {
    let seen = Arc::default();
    Router::new()
        .route("/discarded", get(list))
        .route("/discarded/{name}", get(file))
        .with_state(Files { server, seen })
}

fn failed(error: impl std::fmt::Display) -> Answer {
    let why = format!("the discarded records cannot be read: {error}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, why)
}

async fn list(State(files): State<Files>) -> Answer {
    let dir = files.server.node.settings.data_dir.clone();
    // Held while reading: however many ask, each file is read once.
    let mut seen = files.seen.lock().await;
    let before = std::mem::take(&mut *seen);
    let looked = tokio::task::spawn_blocking(move || look(&dir, &before)).await;
    let now = match looked {
        Ok(Ok(now)) => now,
        Ok(Err(error)) => return failed(error),
        Err(error) => return failed(error),
    };
    *seen = now.iter().cloned().collect();
    let list: Vec<Value> = now
        .iter()
        .map(|((name, _), summary)| describe(*name, summary))
        .collect();
    let body = json!({
        "schema": "understudy.discarded/1",
        "node": files.server.node.id().0,
        "files": list,
    });
    (StatusCode::OK, Json(body))
}

type Looked = Vec<((DiscardedName, u64), DiscardedSummary)>;

fn look(data_dir: &std::path::Path, before: &Seen) -> io::Result<Looked> {
    let mut found = Vec::new();
    for (name, path) in discarded_files(&ReadOnlyDisk, data_dir)? {
        let length = match FileBytes::open(&ReadOnlyDisk, &path).and_then(|file| file.len()) {
            Ok(length) => length,
            // A person removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let summary = match before.get(&(name, length)) {
            // What is whole stays so; a file with a problem may only have been half-written.
            Some(known) if known.problem.is_none() => known.clone(),
            _ => summarize(&ReadOnlyDisk, &path, name)?,
        };
        found.push(((name, length), summary));
    }
    Ok(found)
}

fn describe(name: DiscardedName, summary: &DiscardedSummary) -> Value {
    json!({
        "name": name.to_string(),
        "epoch": name.epoch.0,
        "first_lsn": name.first.0,
        "last_lsn": name.last.0,
        "records": summary.records,
        "bytes": summary.bytes,
        "first_ms": summary.span.map(|(first, _)| first.0),
        "last_ms": summary.span.map(|(_, last)| last.0),
        "problem": summary.problem,
    })
}

async fn file(
    State(files): State<Files>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = allowed(&files.server, &headers) {
        return refusal.into_response();
    }
    let dir = files.server.node.settings.data_dir.clone();
    let open = move || {
        let file = open_discarded(&ReadOnlyDisk, &dir, &name)?;
        let length = file.as_ref().map_or(Ok(0), FileBytes::len)?;
        io::Result::Ok(file.map(|file| (file, length)))
    };
    let opened = tokio::task::spawn_blocking(open).await;
    match opened {
        Ok(Ok(Some((file, length)))) => stream(file, length),
        Ok(Ok(None)) => {
            let why = "this node has no such file; GET /discarded names those it has";
            refuse(StatusCode::NOT_FOUND, why).into_response()
        }
        Ok(Err(error)) => failed(error).into_response(),
        Err(error) => failed(error).into_response(),
    }
}

fn stream(mut file: FileBytes, length: u64) -> Response {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut left = length;
        while left > 0 {
            let mut piece = vec![0; PIECE_BYTES.min(left as usize)];
            let read = file.read(&mut piece).map(|read| {
                piece.truncate(read);
                left = if read == 0 { 0 } else { left - read as u64 };
                Bytes::from(piece)
            });
            let ends = read.is_err();
            // Nobody wants the rest any more.
            if sender.blocking_send(read).is_err() || ends {
                return;
            }
        }
    });
    // With the length, a reader knows a file that ended early from a whole one.
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    (headers, Body::from_stream(Pieces(pieces))).into_response()
}

/// The pieces as hyper takes them.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl futures_core::Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
