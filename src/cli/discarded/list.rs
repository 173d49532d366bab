//! `discarded list`: which files there are, and on which node.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use comfy_table::Table;
use serde_json::{Value, json};

use super::ListArgs;
use super::source::ask_all;
use crate::cli::answers::{DiscardedFile, Discards};
use crate::cli::http_client::HttpClient;
use crate::cli::text::{size, table_style, thousands, when};
use crate::units::Millis;
use crate::wal::{ReadOnlyDisk, discarded_files, summarize};

/// Longest wait for one node: it may count a file for the first time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What was found, and who could not be asked.
#[derive(Debug, Default)]
struct Found {
    nodes: Vec<Discards>,
    /// Node and reason.
    not_asked: Vec<(u32, String)>,
}

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.data_dir {
        return offline(dir, args.json);
    }
    let mut found = Found::default();
    for asked in ask_all(&HttpClient::new(&args.addr, TIMEOUT))? {
        match asked.answer {
            Ok((_, discards)) => found.nodes.push(discards),
            Err(why) => found.not_asked.push((asked.id, why)),
        }
    }
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&document(&found))?);
    } else {
        anstream::print!("{}", render(&found));
    }
    Ok(ExitCode::SUCCESS)
}

fn document(found: &Found) -> Value {
    let not_asked = found.not_asked.iter();
    let not_asked: Vec<Value> = not_asked
        .map(|(id, why)| json!({ "node": id, "why": why }))
        .collect();
    json!({
        "schema": "understudy.discarded.list/1",
        "nodes": found.nodes,
        "not_asked": not_asked,
    })
}

fn offline(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    if !dir.is_dir() {
        bail!(
            "{} is no directory; name a node's data directory",
            dir.display()
        );
    }
    let mut files = Vec::new();
    let listed = discarded_files(&ReadOnlyDisk, dir).with_context(|| dir.display().to_string())?;
    for (name, path) in listed {
        let summary =
            summarize(&ReadOnlyDisk, &path, name).with_context(|| path.display().to_string())?;
        files.push(DiscardedFile {
            name: name.to_string(),
            epoch: name.epoch.0,
            first_lsn: name.first.0,
            last_lsn: name.last.0,
            records: summary.records,
            bytes: summary.bytes,
            first_ms: summary.span.map(|(first, _)| first.0),
            last_ms: summary.span.map(|(_, last)| last.0),
            problem: summary.problem,
        });
    }
    if as_json {
        let document = json!({
            "schema": "understudy.discarded.list/1",
            "data_dir": dir.display().to_string(),
            "files": files,
        });
        anstream::println!("{}", serde_json::to_string_pretty(&document)?);
    } else if files.is_empty() {
        anstream::println!("{} holds no discarded records", dir.display());
    } else {
        anstream::print!("{}", render_files(files.iter().map(|file| (None, file))));
    }
    Ok(ExitCode::SUCCESS)
}

fn render(found: &Found) -> String {
    let mut out = String::new();
    let write = "writing to a String cannot fail";
    let all = found.nodes.iter();
    let files = all.flat_map(|node| node.files.iter().map(|file| (Some(node.node), file)));
    if files.clone().next().is_some() {
        out += &render_files(files);
    } else {
        let asked: Vec<String> = found
            .nodes
            .iter()
            .map(|node| node.node.to_string())
            .collect();
        let noun = if asked.len() == 1 { "node" } else { "nodes" };
        writeln!(out, "no discarded records on {noun} {}", asked.join(", ")).expect(write);
    }
    for (id, why) in &found.not_asked {
        writeln!(out, "node {id} could not be asked: {why}").expect(write);
    }
    out
}

fn render_files<'a>(
    files: impl Iterator<Item = (Option<u32>, &'a DiscardedFile)> + Clone,
) -> String {
    let mut table = Table::new();
    table.load_style(table_style());
    let with_node = files.clone().any(|(node, _)| node.is_some());
    let node_column = with_node.then(|| "node".to_owned());
    let names = ["file", "epoch", "LSN", "records", "size", "from", "to"].map(str::to_owned);
    table.set_header(node_column.into_iter().chain(names));
    let mut problems = String::new();
    for (node, file) in files {
        let at = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| when(Millis(ms)));
        let row = [
            file.name.clone(),
            file.epoch.to_string(),
            format!("{} to {}", file.first_lsn, file.last_lsn),
            thousands(file.records),
            size(file.bytes),
            at(file.first_ms),
            at(file.last_ms),
        ];
        table.add_row(node.map(|node| node.to_string()).into_iter().chain(row));
        if let Some(problem) = &file.problem {
            let place = node.map_or_else(String::new, |node| format!(" on node {node}"));
            problems += &format!("{}{place} is damaged: {problem}\n", file.name);
        }
    }
    format!("{table}\n{problems}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(problem: Option<&str>) -> DiscardedFile {
        DiscardedFile {
            name: "3-8-1010.wal".to_owned(),
            epoch: 3,
            first_lsn: 8,
            last_lsn: 1010,
            records: 1002,
            bytes: 123_456,
            first_ms: Some(1_763_700_000_123),
            last_ms: None,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn the_list_says_on_which_node_a_file_is_and_who_was_not_asked() {
        let found = Found {
            nodes: vec![
                Discards {
                    node: 1,
                    files: vec![file(Some("at offset 96: LSN 8 is damaged"))],
                },
                Discards::default(),
            ],
            not_asked: vec![(3, "nobody is there".to_owned())],
        };
        let text = render(&found);
        let row = text.lines().find(|line| line.contains("3-8-1010.wal"));
        let row: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        let row = row.join(" ").replace(" ┆ ", " | ");
        let row: String = row.chars().filter(|c| !matches!(c, '|' | '┆')).collect();
        let row: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            row.join(" "),
            "1 3-8-1010.wal 3 8 to 1010 1,002 123 kB 2025-11-21T04:40:00.123Z -",
            "{text}"
        );
        let damaged = "3-8-1010.wal on node 1 is damaged: at offset 96: LSN 8 is damaged\n";
        assert!(text.contains(damaged), "{text}");
        assert!(
            text.ends_with("node 3 could not be asked: nobody is there\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_said_to_be_nothing_on_those_that_answered() {
        let node = |node| Discards {
            node,
            files: Vec::new(),
        };
        let found = Found {
            nodes: vec![node(1), node(2)],
            not_asked: Vec::new(),
        };
        assert_eq!(render(&found), "no discarded records on nodes 1, 2\n");
    }
}
