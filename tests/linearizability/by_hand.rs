//! Small histories of which a person can tell.

use crate::history::pair::{Said, said, watched};
use crate::history::{Answer, Call, Fault, Operation, Outcome, check, parse, write};
use understudy::resp::Reply;

/// A history of one key, written down operation by operation.
#[derive(Default)]
struct Story(Vec<Operation>);

impl Story {
    fn add(mut self, client: u32, begin: u64, call: Call, outcome: Outcome) -> Story {
        self.0.push(Operation {
            client,
            key: "k".to_owned(),
            call,
            begin,
            outcome,
        });
        self
    }

    fn set(self, client: u32, value: &str, begin: u64, end: u64) -> Story {
        self.add(client, begin, set(value), Outcome::Ok(Answer::Done, end))
    }

    fn get(self, client: u32, value: &str, begin: u64, end: u64) -> Story {
        let value = Some(value.as_bytes().to_vec()).filter(|value| !value.is_empty());
        self.add(
            client,
            begin,
            Call::Get,
            Outcome::Ok(Answer::Value(value), end),
        )
    }

    fn number(self, client: u32, call: Call, number: i64, begin: u64, end: u64) -> Story {
        self.add(
            client,
            begin,
            call,
            Outcome::Ok(Answer::Integer(number), end),
        )
    }

    fn cas(self, client: u32, old: &str, value: &str, stored: bool, begin: u64, end: u64) -> Story {
        let call = cas(old, value);
        self.add(
            client,
            begin,
            call,
            Outcome::Ok(Answer::Stored(stored), end),
        )
    }

    fn unknown(self, client: u32, call: Call, begin: u64) -> Story {
        self.add(client, begin, call, Outcome::Unknown)
    }

    fn failed(self, client: u32, call: Call, begin: u64) -> Story {
        self.add(client, begin, call, Outcome::Failed)
    }

    fn holds(self) {
        if let Err(fault) = check(&self.0) {
            panic!("{fault}");
        }
    }

    /// Panics unless it is a violation that ends with this operation.
    fn breaks_at(self, last: usize) -> String {
        let Err(Fault::Violation(violation)) = check(&self.0) else {
            panic!("found linearizable: {:#?}", self.0);
        };
        assert_eq!(violation.last, self.0[last], "{violation}");
        violation.to_string()
    }
}

fn set(value: &str) -> Call {
    Call::Set(value.as_bytes().to_vec())
}

fn append(more: &str) -> Call {
    Call::Append(more.as_bytes().to_vec())
}

fn cas(old: &str, value: &str) -> Call {
    Call::SetIfEqual {
        old: old.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
    }
}

#[test]
fn one_client_reads_its_writes() {
    Story::default()
        .get(1, "", 0, 1)
        .set(1, "a", 2, 3)
        .get(1, "a", 4, 5)
        .holds();
}

#[test]
fn concurrent_operations_may_be_in_either_order() {
    Story::default()
        .set(1, "a", 0, 10)
        .get(2, "", 1, 2)
        .get(2, "a", 3, 4)
        .holds();
    Story::default()
        .set(1, "a", 0, 10)
        .set(2, "b", 0, 10)
        .get(3, "a", 11, 12)
        .holds();
    Story::default()
        .set(1, "a", 0, 10)
        .set(2, "b", 0, 10)
        .get(3, "b", 11, 12)
        .holds();
}

#[test]
fn a_stale_read_is_found_and_told() {
    let story = Story::default()
        .set(1, "a", 0, 1)
        .set(1, "b", 2, 3)
        .get(2, "a", 4, 5);
    let told = story.breaks_at(2);
    assert!(
        told.contains("by then the value could only be \"b\""),
        "{told}"
    );
    assert!(told.contains("one write may have made \"a\""), "{told}");
}

#[test]
fn reads_never_go_back() {
    // The write is under way all the time; but once somebody saw it, everybody must.
    let story = Story::default().set(1, "a", 0, 1).set(1, "b", 2, 90);
    story.get(2, "b", 10, 20).get(3, "a", 30, 40).breaks_at(3);
}

#[test]
fn a_lost_write_is_found() {
    Story::default()
        .set(1, "a", 0, 1)
        .get(1, "", 2, 3)
        .breaks_at(1);
}

#[test]
fn a_value_that_nobody_wrote_is_told() {
    let told = Story::default()
        .set(1, "a", 0, 1)
        .get(2, "x", 2, 3)
        .breaks_at(1);
    assert!(told.contains("nobody wrote \"x\""), "{told}");
}

#[test]
fn a_write_cannot_be_seen_before_it_began() {
    let story = Story::default().get(2, "a", 0, 1).set(1, "a", 2, 3);
    story.breaks_at(0);
}

#[test]
fn counters_count_each_increment_once() {
    let twice = Story::default()
        .number(1, Call::Incr, 1, 0, 1)
        .number(2, Call::Incr, 1, 2, 3);
    twice.breaks_at(1);
    let lost = Story::default()
        .number(1, Call::Incr, 1, 0, 1)
        .number(2, Call::Incr, 2, 2, 3);
    lost.get(1, "1", 4, 5).breaks_at(2);
    let applied_twice = Story::default().number(1, Call::Incr, 1, 0, 1);
    applied_twice.number(1, Call::Incr, 3, 2, 3).breaks_at(1);
    let crossed = Story::default()
        .number(1, Call::Incr, 2, 0, 9)
        .number(2, Call::Incr, 1, 0, 9);
    crossed.get(3, "2", 10, 11).holds();
}

#[test]
fn an_open_increment_explains_a_gap_once() {
    let story = || {
        Story::default()
            .number(1, Call::Incr, 1, 0, 1)
            .unknown(2, Call::Incr, 2)
    };
    story().number(1, Call::Incr, 3, 4, 5).holds();
    story()
        .number(1, Call::Incr, 2, 4, 5)
        .number(1, Call::Incr, 4, 6, 7)
        .holds();
    story().number(1, Call::Incr, 4, 4, 5).breaks_at(2);
    let early = Story::default()
        .number(1, Call::Incr, 2, 0, 1)
        .unknown(2, Call::Incr, 2);
    early.breaks_at(0);
}

#[test]
fn an_open_write_may_come_late_or_never() {
    let story = || Story::default().unknown(1, set("x"), 0).set(2, "a", 1, 2);
    story().get(3, "a", 3, 4).holds();
    story()
        .get(3, "a", 3, 4)
        .set(2, "b", 5, 6)
        .get(3, "x", 70, 80)
        .get(3, "x", 81, 82)
        .holds();
    // But only once: after something else was seen it is gone.
    let again = story()
        .get(3, "x", 3, 4)
        .set(2, "b", 5, 6)
        .get(3, "b", 7, 8);
    again.get(3, "x", 9, 10).breaks_at(5);
}

#[test]
fn a_refused_write_never_shows() {
    Story::default()
        .failed(1, set("x"), 0)
        .get(2, "", 1, 2)
        .holds();
    Story::default()
        .failed(1, set("x"), 0)
        .get(2, "x", 1, 2)
        .breaks_at(1);
}

#[test]
fn appends_show_in_one_order() {
    let story = || {
        let story = Story::default().number(1, append("aa"), 2, 0, 9);
        story.number(2, append("bb"), 4, 0, 9)
    };
    story().get(3, "aabb", 10, 11).holds();
    story().get(3, "bbaa", 10, 11).breaks_at(2);
    story().get(3, "aa", 10, 11).breaks_at(2);
    let open = || story().unknown(4, append("cc"), 0);
    open().get(3, "aabbcc", 10, 11).holds();
    open()
        .get(3, "aabb", 10, 11)
        .get(3, "aabbcc", 12, 13)
        .holds();
    open().get(3, "aaccbb", 10, 11).breaks_at(3);
    let longer = Story::default()
        .unknown(4, append("cc"), 0)
        .unknown(5, append("dd"), 0);
    longer
        .number(1, append("aa"), 6, 1, 2)
        .get(1, "ddccaa", 3, 4)
        .holds();
}

#[test]
fn compare_and_set_succeeds_once() {
    let story = || {
        Story::default()
            .set(1, "a", 0, 1)
            .cas(1, "a", "b", true, 2, 9)
    };
    story()
        .cas(2, "a", "c", false, 2, 9)
        .get(3, "b", 10, 11)
        .holds();
    story().cas(2, "a", "c", true, 2, 9).breaks_at(2);
    story()
        .cas(2, "b", "c", true, 2, 9)
        .get(3, "c", 10, 11)
        .holds();
    story().cas(2, "b", "c", false, 10, 11).breaks_at(2);
    // An open one may have made the other fail.
    let open = Story::default()
        .set(1, "a", 0, 1)
        .unknown(2, cas("a", "x"), 2);
    open.cas(1, "a", "b", false, 3, 4).get(1, "x", 5, 6).holds();
}

#[test]
fn deletions_and_exchanges_count() {
    let del = |story: Story, was, begin| story.number(1, Call::Del, was, begin, begin + 1);
    del(Story::default().set(1, "a", 0, 1), 1, 2)
        .get(1, "", 4, 5)
        .holds();
    del(Story::default().set(1, "a", 0, 1), 0, 2).breaks_at(1);
    del(Story::default(), 1, 0).breaks_at(0);
    let exchange = Call::GetSet(b"b".to_vec());
    let saw = |value: &str| Answer::Value(Some(value.as_bytes().to_vec()));
    let story = || Story::default().set(1, "a", 0, 1);
    story()
        .add(2, 2, exchange.clone(), Outcome::Ok(saw("a"), 3))
        .get(1, "b", 4, 5)
        .holds();
    story()
        .add(2, 2, exchange.clone(), Outcome::Ok(saw("b"), 3))
        .breaks_at(1);
    // An answer that this command never gives.
    story()
        .add(2, 2, exchange, Outcome::Ok(Answer::Done, 3))
        .breaks_at(1);
}

#[test]
fn an_increment_of_a_word_fails_and_changes_nothing() {
    let story = || Story::default().set(1, "a", 0, 1);
    let failed = Outcome::Ok(Answer::NotAnInteger, 3);
    story()
        .add(1, 2, Call::Incr, failed.clone())
        .get(1, "a", 4, 5)
        .holds();
    Story::default().add(1, 2, Call::Incr, failed).breaks_at(0);
}

#[test]
fn equal_ticks_are_concurrent() {
    Story::default().set(1, "a", 0, 5).get(2, "", 5, 6).holds();
    Story::default()
        .set(1, "a", 0, 5)
        .get(2, "", 6, 7)
        .breaks_at(1);
}

#[test]
fn keys_are_checked_apart() {
    let mut story = Story::default().set(1, "a", 0, 1).get(1, "a", 2, 3);
    story.0[1].key = "other".to_owned();
    let Err(Fault::Violation(violation)) = check(&story.0) else {
        panic!("a value crossed from key to key");
    };
    assert_eq!(violation.key, "other");
}

#[test]
fn reads_that_do_not_matter_are_left_out() {
    let mut story = Story::default().set(1, "a", 0, 1);
    for n in 0..100 {
        story = story.get(2, "a", 10 + 2 * n, 11 + 2 * n);
    }
    let story = story
        .set(1, "b", 300, 301)
        .get(3, "b", 302, 303)
        .get(3, "a", 304, 305);
    let Err(Fault::Violation(violation)) = check(&story.0) else {
        panic!("a stale read");
    };
    assert_eq!(violation.prefix.len(), 3, "{violation}");
}

#[test]
fn histories_survive_being_written_down() {
    let exchange = Call::GetSet(b"tab\there \\ \xff".to_vec());
    let story = Story::default()
        .set(1, "a\nb", 0, 1)
        .get(2, "", 2, 3)
        .number(1, Call::Incr, -7, 4, 5)
        .number(1, append("->"), 2, 4, 5)
        .number(1, Call::Del, 1, 4, 5)
        .cas(1, "", "x", true, 6, 7)
        .cas(1, "", "x", false, 6, 7)
        .add(3, 8, Call::Incr, Outcome::Ok(Answer::NotAnInteger, 9))
        .add(
            3,
            8,
            exchange.clone(),
            Outcome::Ok(Answer::Value(Some(vec![0, 255, 9])), 9),
        )
        .unknown(4, exchange, 10)
        .failed(5, Call::Get, 11);
    assert_eq!(
        parse(&write(&story.0)).expect("it was just written"),
        story.0
    );
    assert!(parse("1\t2\tthree\tk\tget").is_err());
}

#[test]
fn what_a_torn_transaction_answers_is_noticed() {
    let ok = || Reply::OK;
    let queued = || Reply::Simple("QUEUED".into());
    let executed = |left: Reply, right: Reply| {
        let both = Reply::Array(vec![left, right]);
        said(&Call::Incr, &[ok(), queued(), queued(), both])
    };
    let three = || Reply::Integer(3);
    let answer = Said::Answer(Answer::Integer(3));
    assert_eq!(executed(three(), three()), answer);
    let torn = executed(three(), Reply::Integer(2));
    assert!(matches!(torn, Said::Torn(_)), "{torn:?}");
    let torn = executed(three(), Reply::Null);
    assert!(matches!(torn, Said::Torn(_)), "{torn:?}");
    let torn = watched(&[ok(), Reply::Array(vec![Reply::Null, Reply::text("x")])]);
    assert!(matches!(torn, Said::Torn(_)), "{torn:?}");

    let broken = said(&Call::Incr, &[ok(), queued(), queued(), Reply::NullArray]);
    assert_eq!(broken, Said::Nothing);
    let readonly = || Reply::error("READONLY no");
    let aborted = || Reply::error("EXECABORT no");
    let refused = said(&Call::Incr, &[ok(), readonly(), readonly(), aborted()]);
    assert_eq!(refused, Said::Error("READONLY no".to_owned()));
}
