//! Simulations of each push: some seeds that are new each time, and the proof that the laws see
//! what they should. `MUSTER_SEEDS` says how many; `cargo xtask sim` runs as many as one likes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::{Options, Tamper, run};

/// So many seeds are enough to see a broken rule.
const CAUGHT_WITHIN: u64 = 100;

#[test]
fn new_seeds_keep_the_laws() {
    let count = std::env::var("MUSTER_SEEDS").map_or(12, |count| count.parse().unwrap());
    // Others each time; a failure names its own.
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1_000;
    for seed in first..first + count {
        if let Err(failure) = run(&Options::new(seed)) {
            panic!("{}\n\n{failure}", failure.history.join("\n"));
        }
    }
}

#[test]
fn a_seed_has_one_history() {
    for seed in [1, 2] {
        let first = run(&Options::new(seed)).unwrap();
        assert_eq!(first, run(&Options::new(seed)).unwrap());
        assert!(first.faults > 10 && first.writes > 5, "{first:?}");
    }
}

/// The seed that shows a rule to be broken, and the law that says so.
fn caught(tamper: Tamper) -> (u64, &'static str) {
    let seen = (0..CAUGHT_WITHIN).find_map(|seed| {
        let options = Options { tamper: Some(tamper), ..Options::new(seed) };
        run(&options).err().map(|failure| (seed, failure.law))
    });
    seen.unwrap_or_else(|| panic!("{tamper} is not seen within {CAUGHT_WITHIN} seeds"))
}

#[test]
fn a_write_that_is_not_flushed_is_seen() {
    assert_eq!(caught(Tamper::NoFlush).1, "no acknowledged write is lost");
}

#[test]
fn one_instance_above_the_budget_is_seen() {
    assert_eq!(caught(Tamper::Ceiling).1, "never more live than the budget says");
}

#[test]
fn one_healthy_instance_too_few_is_seen() {
    assert_eq!(caught(Tamper::Floor).1, "never fewer healthy than the budget says");
}

#[test]
fn more_than_a_node_has_is_seen() {
    assert_eq!(caught(Tamper::Capacity).1, "no node over capacity");
}

#[test]
fn requests_to_what_was_never_ready_are_seen() {
    let laws = ["routes name what is ready and stays", "everything comes to rest"];
    assert!(laws.contains(&caught(Tamper::Readiness).1));
}

#[test]
fn a_stop_under_a_request_is_seen() {
    assert_eq!(caught(Tamper::Busy).1, "nothing is stopped under a request");
}

#[test]
fn an_old_table_taken_for_a_new_one_is_seen() {
    assert_eq!(caught(Tamper::StaleTable).1, "nothing is stopped under a request");
}
