//! What an old primary gave up can be listed, read, compared and written back, and every wrong call
//! says what is wrong and what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, text, understudy, until};

const SECRET: &str = "not-to-be-printed";

/// A cluster with a secret, in which `old` gave records up and follows `new` again.
struct GaveUp {
    lab: Lab,
    old: u32,
    new: u32,
    /// The file's name, and where it lies.
    name: String,
    path: PathBuf,
    secret: tempfile::NamedTempFile,
}

fn run(lab: &Lab, node: u32, words: &[&[u8]]) {
    let mut command = redis::cmd(&String::from_utf8_lossy(words[0]));
    for word in &words[1..] {
        command.arg(*word);
    }
    let mut client = lab.connect(node);
    until("a write", || {
        command.query::<redis::Value>(&mut client).ok()
    });
}

/// The value of a key there.
fn get(lab: &Lab, node: u32, key: &[u8]) -> Option<Vec<u8>> {
    let mut get = redis::cmd("GET");
    let value = get.arg(key).query(&mut lab.connect(node));
    value.expect("it answers")
}

impl GaveUp {
    /// `before` runs while both follow, `lost` at the old one alone, `after` at the new one.
    fn make(before: &[&[&[u8]]], lost: &[&[&[u8]]], after: &[&[&[u8]]]) -> GaveUp {
        let secret = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(secret.path(), SECRET).expect("it is ours");
        let plan = Plan {
            mode: "async".to_owned(),
            level: None,
            ..Plan::pair_with_witness("t")
        };
        let keys = format!("secret_file = \"{}\"", secret.path().display());
        let (mut lab, old) = Lab::start_with(plan, &keys);
        let new = 3 - old;
        before.iter().for_each(|words| run(&lab, old, words));
        lab.caught_up(new, old);
        lab.cluster.kill9(new).expect("it runs");
        lost.iter().for_each(|words| run(&lab, old, words));
        lab.cluster.kill9(old).expect("it runs");
        lab.cluster.start(new).expect("it starts");
        let (addr, file) = (lab.http_addr(new), secret.path().display().to_string());
        until("the promotion", || {
            let order = [
                "promote",
                "--addr",
                &addr,
                "--force",
                "--secret-file",
                &file,
            ];
            understudy(&order).status.success().then_some(())
        });
        assert_eq!(lab.primary_among(&[new]), new);
        after.iter().for_each(|words| run(&lab, new, words));
        lab.cluster.start(old).expect("it starts");
        let name = until("the file in the list", || {
            let list = understudy(&["discarded", "list", "--addr", &addr, "--json"]);
            let list: Value = serde_json::from_slice(&list.stdout).ok()?;
            let nodes = list["nodes"].as_array()?;
            let node = nodes.iter().find(|node| node["node"] == old)?;
            let file = node["files"].as_array()?.first()?;
            assert_eq!(file["problem"], Value::Null, "{list}");
            Some(file["name"].as_str()?.to_owned())
        });
        lab.caught_up(old, new);
        let path = lab.data_dir(old).join("discarded").join(&name);
        GaveUp {
            lab,
            old,
            new,
            name,
            path,
            secret,
        }
    }

    /// Runs `discarded` with the new primary's address and the secret.
    fn ask(&self, arguments: &[&str]) -> Output {
        let (addr, secret) = (self.lab.http_addr(self.new), self.secret_file());
        let mut all = vec!["discarded"];
        all.extend(arguments);
        all.extend(["--addr", &addr, "--secret-file", &secret]);
        let output = understudy(&all);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains(SECRET), "{said}");
        output
    }

    fn secret_file(&self) -> String {
        self.secret.path().display().to_string()
    }
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The one line that a failed command says.
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.starts_with("error: ") && said.lines().count() == 1,
        "{said}"
    );
    said
}

/// Whether some line begins so and ends so.
fn has_line(said: &str, begins: &str, ends: &str) -> bool {
    let mut lines = said.lines();
    lines.any(|line| line.starts_with(begins) && line.ends_with(ends))
}

/// The key a line is about, and its outcome, of `discarded replay --json`.
fn outcomes(output: &Output) -> Vec<(String, String)> {
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(document["schema"], "understudy.discarded.replay/1");
    let field = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let keys = document["keys"].as_array().expect("keys").iter();
    keys.map(|item| (field(item, "key"), field(item, "outcome")))
        .collect()
}

const FAR: &[u8] = b"4102444800000";

fn several() -> GaveUp {
    GaveUp::make(
        &[
            &[b"SET", b"changed", b"first"],
            &[b"SET", b"deleted", b"first"],
            &[b"SET", b"expiring", b"first"],
            &[b"SET", b"same", b"first"],
            &[b"SET", b"untouched", b"first"],
        ],
        &[
            &[b"SET", b"lost", b"1"],
            &[b"SET", b"lost", b"2", b"PXAT", FAR],
            &[b"SET", b"changed", b"old"],
            &[b"DEL", b"deleted"],
            &[b"PEXPIREAT", b"expiring", FAR],
            &[b"SET", b"same", b"now"],
            &[b"SET", b"bin\0\"\n\xff", b"\0\x01"],
            &[b"SET", b"late", b"1", b"PX", b"100000"],
            &[b"PERSIST", b"late"],
            &[b"PEXPIREAT", b"late", FAR],
        ],
        &[&[b"SET", b"changed", b"new"], &[b"SET", b"same", b"now"]],
    )
}

fn lists_and_shows(it: &GaveUp) {
    let (addr, old, name) = (it.lab.http_addr(it.new), it.old, &it.name);
    let list = ok(&understudy(&["discarded", "list", "--addr", &addr]));
    let row = list.lines().find(|line| line.contains(name.as_str()));
    let row = row.unwrap_or_else(|| panic!("no row of {name}: {list}"));
    assert!(row.trim_start().starts_with(&old.to_string()), "{list}");
    assert!(!list.contains("could not be asked"), "{list}");

    let dir = it.path.parent().and_then(Path::parent).expect("it has one");
    let dir = dir.display().to_string();
    let offline = ok(&understudy(&["discarded", "list", "--data-dir", &dir]));
    assert!(offline.contains(name.as_str()), "{offline}");
    let other = it.path.parent().expect("it has one").display().to_string();
    let none = ok(&understudy(&["discarded", "list", "--data-dir", &other]));
    assert_eq!(none, format!("{other} holds no discarded records\n"));

    let show = ok(&it.ask(&["show", name]));
    assert!(
        show.starts_with(&format!("{name} on node {old}: behind LSN ")),
        "{show}"
    );
    assert!(has_line(&show, "", r#"SET "lost" "1""#), "{show}");
    assert!(has_line(&show, "", r#"DEL "deleted""#), "{show}");
    let later = "expires 2100-01-01T00:00:00.000Z";
    for (key, state, today) in [
        ("lost", format!("\"2\" {later}"), "gone"),
        ("changed", "\"old\"".to_owned(), "differs: \"new\""),
        ("deleted", "deleted".to_owned(), "differs: \"first\""),
        (
            "expiring",
            format!("{later}, its value unchanged"),
            "differs: \"first\"",
        ),
        ("same", "\"now\"".to_owned(), "same"),
        (r#"bin\x00\"\n\xff"#, r#""\x00\x01""#.to_owned(), "gone"),
        ("late", format!("\"1\" {later}"), "gone"),
    ] {
        let (begins, ends) = (
            format!("\"{key}\"  given up at LSN "),
            format!(": {state}; today: {today}"),
        );
        assert!(has_line(&show, &begins, &ends), "{begins}…{ends} in {show}");
    }
    let sum = format!(
        "7 keys, compared with node {}: 1 the same, 3 different, 3 gone\n",
        it.new
    );
    assert!(show.ends_with(&sum), "{show}");

    let one = ok(&it.ask(&["show", name, "--key", r#""bin\x00\"\n\xff""#]));
    assert!(one.contains("1 key, compared"), "{one}");
    assert!(!one.contains("lost"), "{one}");

    // The path that `history` tells is one on another machine.
    let far_away = format!("/no/such/place/{name}");
    ok(&it.ask(&["show", &far_away]));
    // A file here needs no node.
    let path = it.path.display().to_string();
    let alone = ok(&understudy(&["discarded", "show", &path]));
    let why = "7 keys, not compared with today's values: say --addr HOST:PORT to compare with \
               today's values\n";
    assert!(alone.ends_with(why), "{alone}");
    let json = ok(&it.ask(&["show", &path, "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON alone");
    assert_eq!(json["schema"], "understudy.discarded.show/1");
    assert_eq!(json["keys"].as_array().map(Vec::len), Some(7), "{json}");
    assert_eq!(json["primary"], it.new);
}

fn replays(it: &GaveUp) {
    let name = it.name.as_str();
    let (lab, new) = (&it.lab, it.new);
    let dry = ok(&it.ask(&[
        "replay",
        name,
        "--key",
        "lost",
        "--key",
        "same",
        "--dry-run",
    ]));
    assert!(
        dry.contains("\"lost\"  no such key  ->  \"2\" expires 2100"),
        "{dry}"
    );
    let end = "2 keys: 1 would be written, 1 already so; nothing was changed (--dry-run)\n";
    assert!(dry.ends_with(end), "{dry}");
    let nobody = error(&it.ask(&["replay", name, "--key", "lost"]));
    assert!(
        nobody.contains("nothing was written back: 1 key would change"),
        "{nobody}"
    );
    assert!(
        nobody.contains("--yes") && nobody.contains("--dry-run"),
        "{nobody}"
    );
    assert_eq!(get(lab, new, b"lost"), None);

    let missing = it.ask(&["replay", name, "--all", "--only-missing", "--yes", "--json"]);
    ok(&missing);
    let outcome = |outcomes: &[(String, String)], key: &str| -> String {
        let found = outcomes.iter().find(|(own, _)| own == key);
        found.map_or_else(String::new, |(_, outcome)| outcome.clone())
    };
    let found = outcomes(&missing);
    for (key, wanted) in [
        ("\"lost\"", "written"),
        ("\"changed\"", "left"),
        ("\"deleted\"", "left"),
        ("\"same\"", "already so"),
        (r#""bin\x00\"\n\xff""#, "written"),
    ] {
        assert_eq!(outcome(&found, key), wanted, "{key} in {found:?}");
    }
    assert_eq!(get(lab, new, b"lost").as_deref(), Some(&b"2"[..]));
    assert_eq!(
        get(lab, new, b"bin\0\"\n\xff").as_deref(),
        Some(&b"\0\x01"[..])
    );
    let expiry: i64 = redis::cmd("PEXPIRETIME")
        .arg("lost")
        .query(&mut lab.connect(new))
        .expect("it answers");
    assert_eq!(expiry.to_string().as_bytes(), FAR);

    let some = [
        "replay",
        name,
        "--yes",
        "--key",
        "changed",
        "--key",
        "no such key",
    ];
    let some = it.ask(&some);
    assert_eq!(some.status.code(), Some(1), "{some:?}");
    let said = text(&some.stdout);
    assert!(
        said.contains("\"changed\"  \"new\"  ->  \"old\"\n"),
        "{said}"
    );
    assert!(said.contains("\"changed\"  written\n"), "{said}");
    let refused = "\"no such key\"  refused: the file says nothing about this key\n";
    assert!(said.contains(refused), "{said}");
    assert_eq!(get(lab, new, b"changed").as_deref(), Some(&b"old"[..]));
    assert_eq!(get(lab, new, b"deleted").as_deref(), Some(&b"first"[..]));

    let rest = ok(&it.ask(&["replay", name, "--all", "--yes"]));
    assert!(
        rest.ends_with("7 keys: 5 already so, 2 written\n"),
        "{rest}"
    );
    assert_eq!(get(lab, new, b"deleted"), None);
    assert_eq!(get(lab, new, b"untouched").as_deref(), Some(&b"first"[..]));
    let again = ok(&it.ask(&["replay", name, "--all"]));
    assert!(again.ends_with("7 keys: 7 already so\n"), "{again}");
    lab.caught_up(it.old, new);
}

/// At a terminal the person is asked, and only yes is yes.
fn asks_at_a_terminal(it: &GaveUp) {
    run(&it.lab, it.new, &[b"SET", b"changed", b"newer"]);
    let answer = |answer: &str| {
        let line = format!(
            "{} discarded replay {} --key changed --addr {} --secret-file {}",
            env!("CARGO_BIN_EXE_understudy"),
            it.name,
            it.lab.http_addr(it.new),
            it.secret_file()
        );
        let mut terminal = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut stdin = terminal.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, answer.as_bytes()).expect("it reads");
        let output = terminal.wait_with_output().expect("it ends");
        Some((output.status.success(), text(&output.stdout)))
    };
    let Some((success, said)) = answer("n\n") else {
        eprintln!("SKIPPED: no `script` on the PATH, so the question at a terminal is not tested");
        return;
    };
    assert!(
        said.contains(&format!("Write 1 key back to node {}? [y/N]", it.new)),
        "{said}"
    );
    assert!(
        said.contains("nothing was written back") && !success,
        "{said}"
    );
    assert_eq!(
        get(&it.lab, it.new, b"changed").as_deref(),
        Some(&b"newer"[..])
    );
    let (success, said) = answer("y\n").expect("it was there a moment ago");
    assert!(success && said.contains("1 written"), "{said}");
    assert_eq!(
        get(&it.lab, it.new, b"changed").as_deref(),
        Some(&b"old"[..])
    );
}

fn status(addr: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.get(format!("http://{addr}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.call().expect("it answers").status().as_u16()
}

fn files_are_guarded(it: &GaveUp) {
    let addr = it.lab.http_addr(it.old);
    let bearer = format!("Bearer {SECRET}");
    let both = [("x-understudy-request", "1"), ("authorization", &*bearer)];
    let path = format!("/discarded/{}", it.name);
    assert_eq!(status(&addr, "/discarded", &[]), 200);
    assert_eq!(status(&addr, &path, &both), 200);
    assert_eq!(status(&addr, &path, &both[..1]), 401);
    assert_eq!(status(&addr, &path, &both[1..]), 403);
    let wrong = [both[0], ("authorization", "Bearer wrong")];
    assert_eq!(status(&addr, &path, &wrong), 401);
    for name in [
        "9-9-9.wal",
        "..%2fNODE",
        "..%2f..%2fNODE",
        "%2e%2e%2fcontrol.a",
        "..%2fwal%2f00000000000000000001.wal",
        "%2fetc%2fpasswd",
    ] {
        let path = format!("/discarded/{name}");
        assert_eq!(status(&addr, &path, &both), 404, "{name}");
    }
    let (name, other) = (it.name.as_str(), it.lab.http_addr(it.new));
    let without = understudy(&["discarded", "show", name, "--addr", &other]);
    assert!(
        error(&without).contains("--secret-file FILE"),
        "{without:?}"
    );
}

fn wrong_calls_say_what_to_do(it: &mut GaveUp) {
    let name = it.name.clone();
    let nothing = error(&it.ask(&["show", "9-9-9.wal"]));
    assert!(
        nothing.contains("no node that could be asked has 9-9-9.wal;"),
        "{nothing}"
    );
    assert!(nothing.contains("`understudy discarded list`"), "{nothing}");
    let no_name = error(&it.ask(&["show", "nonsense"]));
    assert!(
        no_name.contains("nonsense is neither a file here nor a name that"),
        "{no_name}"
    );
    let no_dir = error(&understudy(&[
        "discarded",
        "list",
        "--data-dir",
        "/no/such/dir",
    ]));
    assert!(no_dir.contains("/no/such/dir is no directory"), "{no_dir}");

    let mut bytes = std::fs::read(&it.path).expect("it is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = it.path.with_file_name("copy.wal");
    std::fs::write(&damaged, &bytes).expect("it is ours");
    let damaged = damaged.display().to_string();
    let shown = understudy(&["discarded", "show", &damaged]);
    let why = error(&shown);
    assert!(
        why.contains("copy.wal: at offset ") && why.contains(" is damaged ("),
        "{why}"
    );
    // What stands before the damage is shown all the same.
    assert!(
        text(&shown.stdout).contains(r#"SET "lost" "1""#),
        "{shown:?}"
    );
    let why = error(&it.ask(&["replay", &damaged, "--all", "--yes"]));
    assert!(
        why.contains("nothing is written back from a damaged file: "),
        "{why}"
    );

    it.lab.cluster.kill9(it.new).expect("it runs");
    let old = it.lab.http_addr(it.old);
    let secret = it.secret_file();
    let there = ["--addr", &old, "--secret-file", &secret];
    let show = ok(&understudy(
        &[&["discarded", "show", &name][..], &there].concat(),
    ));
    assert!(
        has_line(
            &show,
            "\"lost\"  given up",
            "today: not asked: no primary answers"
        ),
        "{show}"
    );
    let silent = format!("the primary, node {}, does not answer at ", it.new);
    let end = format!("not compared with today's values: no primary answers ({silent}");
    assert!(show.contains(&end), "{show}");
    let why = error(&understudy(
        &[&["discarded", "replay", &name, "--all"][..], &there].concat(),
    ));
    assert!(
        why.contains(&format!("nothing was written back: {silent}")),
        "{why}"
    );
    let list = ok(&understudy(&["discarded", "list", "--addr", &old]));
    let silent = format!("node {} could not be asked: cannot reach ", it.new);
    assert!(list.contains(&silent) && list.contains(&name), "{list}");
}

#[test]
fn discarded_records_are_listed_shown_and_written_back() {
    let mut it = several();
    lists_and_shows(&it);
    files_are_guarded(&it);
    replays(&it);
    asks_at_a_terminal(&it);
    wrong_calls_say_what_to_do(&mut it);
}

/// A FLUSH was given up: it is shown, and never written back.
#[test]
fn a_discarded_flush_is_shown_and_never_written_back() {
    let it = GaveUp::make(
        &[&[b"SET", b"kept", b"1"], &[b"SET", b"again", b"1"]],
        &[
            &[b"SET", b"between", b"1"],
            &[b"FLUSHALL"],
            &[b"SET", b"again", b"2"],
        ],
        &[&[b"SET", b"between", b"2"]],
    );
    let show = ok(&it.ask(&["show", &it.name]));
    assert!(
        has_line(&show, "LSN ", " is a FLUSH: it deleted everything"),
        "{show}"
    );
    let between = ": deleted by a FLUSH; today: differs: \"2\"";
    assert!(has_line(&show, "\"between\"", between), "{show}");
    let replay = it.ask(&["replay", &it.name, "--all", "--yes"]);
    assert_eq!(replay.status.code(), Some(1), "{replay:?}");
    let said = text(&replay.stdout);
    assert!(
        has_line(&said, "LSN ", " is a FLUSH: it is not written back"),
        "{said}"
    );
    let refused = "\"between\"  refused: a FLUSH deleted it, and a FLUSH is never written back\n";
    assert!(said.contains(refused), "{said}");
    assert!(said.contains("\"again\"  written\n"), "{said}");
    let values = [&b"kept"[..], b"between", b"again"].map(|key| get(&it.lab, it.new, key));
    assert_eq!(values, [b"1", b"2", b"2"].map(|value| Some(value.to_vec())));
}
