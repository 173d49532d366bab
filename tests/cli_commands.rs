//! The commands as a user meets them: exit status, one-line errors, JSON on standard output.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use understudy::cli::local_cluster::ports::Reservation;

fn understudy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

#[test]
fn wrong_usage_is_status_2_and_names_the_flag() {
    let output = understudy(&["status", "--adr", "x"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.contains("--adr") && error.contains("--addr"),
        "{error}"
    );
}

#[test]
fn nobody_there_is_status_1_and_one_line_that_says_what_to_do() {
    let free = Reservation::take().expect("a free port");
    let address = free.address().to_string();
    for command in ["status", "switchover", "promote", "history"] {
        let output = understudy(&[command, "--addr", &address]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let expected = format!(
            "error: cannot reach {address}: connection refused; is a node running there? \
             (--addr HOST:PORT)\n"
        );
        assert_eq!(text(&output.stderr), expected, "{command}");
        assert!(output.stdout.is_empty(), "{command}");
    }
}

#[test]
fn async_without_a_budget_is_refused_before_anything_starts() {
    let output = understudy(&["demo", "--mode", "async"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--max-loss"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn bench_measures_a_given_server_and_writes_json_and_plots() {
    let port = Reservation::take().expect("a free port");
    let address = port.address().to_string();
    let spawned = Command::new("redis-server")
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.address().port().to_string(),
        ])
        .current_dir(std::env::temp_dir())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut redis) = spawned else {
        eprintln!("SKIPPED: no redis-server on the PATH, so `bench --addr` is not tested");
        return;
    };
    let mut lines = BufReader::new(redis.stdout.take().expect("piped")).lines();
    let is_up = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept")));
    let plots = tempfile::tempdir().expect("a temporary folder");
    let folder = plots.path().to_string_lossy().into_owned();
    let cells = [
        "--clients",
        "1,3",
        "--pipeline",
        "4",
        "--secs",
        "0.1",
        "--rounds",
        "2",
    ];
    let mut arguments = vec!["bench", "--addr", &address, "--json", "--svg", &folder];
    arguments.extend(cells);
    let output = understudy(&arguments);
    redis.kill().expect("redis-server is our child");
    redis.wait().expect("redis-server is our child");
    assert!(is_up, "redis-server did not start");

    assert!(output.status.success(), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    assert_eq!(document["schema"], "understudy.bench/1");
    assert!(document["machine"]["kernel"].is_string());
    let cells = document["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2);
    for cell in cells {
        assert_eq!(cell["mode"], address.as_str());
        assert_eq!(
            cell["per_second_by_round"].as_array().map(Vec::len),
            Some(2)
        );
        assert!(cell["operations"].as_u64() > Some(0), "{cell}");
        assert!(cell["latency"]["p50_us"].as_u64() <= cell["latency"]["max_us"].as_u64());
    }
    for name in ["throughput-pipeline-4.svg", "latency-pipeline-4.svg"] {
        let svg = std::fs::read_to_string(plots.path().join(name)).expect("it was drawn");
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n"),
            "{name}"
        );
    }
}
