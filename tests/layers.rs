//! The order of the house: each module uses only those above it in `lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

fn modules() -> Vec<String> {
    let lib = fs::read_to_string("src/lib.rs").expect("the crate's own source");
    let named = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    named.map(str::to_string).collect()
}

fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let entries = fs::read_dir(place).expect("a module's folder");
    let mut found: Vec<PathBuf> = entries
        .flat_map(|entry| sources(&entry.expect("a readable entry").path()))
        .collect();
    found.sort();
    found
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let file = PathBuf::from(format!("src/{module}.rs"));
    if file.exists() {
        vec![file]
    } else {
        sources(Path::new("src").join(module).as_path())
    }
}

/// The modules that a line of code names with `crate::`, groups (`use crate::{a, b}`) included.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or("");
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        let group = part.strip_prefix('{');
        let names = group.map_or(part, |group| group.split('}').next().unwrap_or(""));
        let each: Vec<&str> = if group.is_some() {
            names.split(',').collect()
        } else {
            vec![names]
        };
        for name in each {
            let name = name.trim();
            let end = name
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(name.len());
            found.push(name[..end].to_string());
        }
    }
    found
}

#[test]
fn the_modules_are_those_of_the_house_in_its_order() {
    let wanted = [
        "units", "resp", "command", "keyspace", "wal", "replica", "peer", "node", "server", "http",
        "cli",
    ];
    assert_eq!(modules(), wanted);
}

#[test]
fn each_module_uses_only_those_above_it() {
    let order = modules();
    let mut lines = 0;
    for (place, module) in order.iter().enumerate() {
        for file in files_of(module) {
            let text = fs::read_to_string(&file).expect("a readable source");
            for (number, line) in text.lines().enumerate() {
                for name in named(line) {
                    let Some(used) = order.iter().position(|known| *known == name) else {
                        continue;
                    };
                    lines += 1;
                    assert!(
                        used <= place,
                        "{}:{}: {module} uses {name}, which stands below it",
                        file.display(),
                        number + 1
                    );
                }
            }
        }
    }
    assert!(
        lines > 100,
        "only {lines} uses found: the search itself is broken"
    );
}

#[test]
fn the_takeover_machine_touches_nothing_outside() {
    let forbidden = [
        "tokio",
        "std::fs",
        "std::net",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "tracing",
        "f32",
        "f64",
        "Mutex",
        "mpsc",
        "getrandom",
    ];
    for file in files_of("replica") {
        let text = fs::read_to_string(&file).expect("a readable source");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for word in forbidden {
                assert!(
                    !code.contains(word),
                    "{}:{}: {word}",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_the_log_and_the_command_line_touch_files() {
    let order = modules();
    for module in order
        .iter()
        .filter(|module| !matches!(module.as_str(), "wal" | "cli"))
    {
        for file in files_of(module) {
            // Configuration, the boot id and what the system counts are read, never written.
            let reads = [
                "src/node/auth.rs",
                "src/node/config/file.rs",
                "src/node/config/settle.rs",
                "src/node/clock.rs",
                "src/node/usage.rs",
            ];
            if reads.iter().any(|known| Path::new(known) == file) {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a readable source");
            assert!(
                !text.contains("std::fs"),
                "{} touches files",
                file.display()
            );
        }
    }
}
