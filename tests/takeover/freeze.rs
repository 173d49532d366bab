//! A frozen primary that wakes after the takeover answers nothing stale on the connections it had.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use understudy::cli::local_cluster::Plan;

use crate::common::{Lab, PATIENCE, text};

/// A connection of our own making: a stock client hides when bytes come.
fn open(lab: &Lab, node: u32) -> TcpStream {
    let mut stream = TcpStream::connect(lab.addr(node)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
    stream.write_all(b"GET k\r\n").expect("it reads");
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"$3\r\nold\r\n");
    stream
}

/// Everything that comes until the connection ends or an answer to `ECHO end` arrives.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&some[..n]),
            // Reset: it was closed with our question unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("neither answer nor end: {error}; so far {}", text(&all)),
        }
        if text(&all).contains("$3\r\nend\r\n") {
            break;
        }
    }
    text(&all)
}

#[test]
fn a_thawed_primary_answers_nothing_stale() {
    let (mut lab, first) = Lab::start(Plan::three_data_nodes("t"));
    let set = |node: u32, value: &str| {
        let mut client = lab.connect(node);
        let () = redis::cmd("SET")
            .arg("k")
            .arg(value)
            .query(&mut client)
            .expect("a write");
    };
    set(first, "old");
    let mut asked_before: Vec<TcpStream> = (0..8).map(|_| open(&lab, first)).collect();
    let mut asked_after: Vec<TcpStream> = (0..8).map(|_| open(&lab, first)).collect();
    let load = lab.load(3, 1);
    load.more(100);
    lab.cluster.freeze(first).expect("it runs");
    // The signal takes a moment to stop every thread; an answer before that is none after a thaw.
    crate::common::until("silence", || {
        let says = lab.cluster.cluster_json(first).expect("a member");
        says.is_none().then_some(())
    });
    for stream in &mut asked_before {
        // It lies in the socket's buffer until the thaw.
        stream
            .write_all(b"GET k\r\nSET k stale\r\nECHO end\r\n")
            .expect("the buffer takes it");
    }
    let second = lab.primary_among(&lab.others(&[first]));
    let mut client = lab.connect(second);
    let () = crate::common::until("a write at the new primary", || {
        redis::cmd("SET")
            .arg("k")
            .arg("new")
            .query(&mut client)
            .ok()
    });
    load.more(50);
    lab.cluster.thaw(first).expect("it is frozen");
    for stream in &mut asked_after {
        // Refused where the connection is closed already.
        let _ = stream.write_all(b"GET k\r\nSET k stale\r\nECHO end\r\n");
    }
    for stream in asked_before.iter_mut().chain(&mut asked_after) {
        let said = rest(stream);
        assert!(!said.contains("old"), "a stale read: {said}");
        assert!(
            !said.contains("+OK"),
            "a write by a deposed primary: {said}"
        );
    }
    assert_eq!(lab.ready(), second, "it follows again");
    let value: String = redis::cmd("GET")
        .arg("k")
        .query(&mut client)
        .expect("a read");
    assert_eq!(value, "new", "nothing of the old reign came through");
    load.more(50);
    let ledger = load.stop();
    lab.has_all(second, &ledger);
    lab.caught_up(first, second);
    lab.has_all(first, &ledger);
    let report = lab.takeover(second, "a report", |t| t.kind == "failover");
    assert_eq!(report.detected_by, "missed beats");
}
