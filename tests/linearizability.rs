//! The checker of histories, checked: histories made by hand, both kinds; random small ones against
//! a checker too simple to be wrong; large ones against the clock.
//!
//! `HISTORY=FILE cargo test --release --test linearizability given -- --nocapture` checks a history
//! that another test kept.

#[path = "linearizability/brute.rs"]
mod brute;
#[path = "linearizability/by_hand.rs"]
mod by_hand;
#[path = "history/mod.rs"]
mod history;
#[path = "linearizability/large.rs"]
mod large;
#[path = "linearizability/random.rs"]
mod random;

#[test]
fn a_given_history() {
    let Some(file) = std::env::var_os("HISTORY") else {
        return;
    };
    let text = std::fs::read_to_string(&file).expect("HISTORY names a readable file");
    let history = history::parse(&text).expect("HISTORY is a history");
    match history::check(&history) {
        Ok(checked) => println!("linearizable: {checked:?}"),
        Err(fault) => panic!("{fault}"),
    }
}
