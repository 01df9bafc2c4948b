//! The identity of a cluster, and the positions by which daemons recognise an older store.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster_model as model;

use std::collections::BTreeSet;

use model::{
    Cluster, ClusterId, Command, Mismatch, Position, Principal, Proposal, Start, State, Term,
    Timestamp,
};

/// A start of a server on the store of `state`, whose newest revision is `after`.
fn start(state: &mut State, nonce: u64, after: u64) {
    let by = || Principal::Server;
    state.apply(Proposal::new(by(), Command::BecomeLeader), Timestamp(1)).unwrap();
    let start = Start { cluster: ClusterId(nonce), nonce, after };
    state.apply(Proposal::new(by(), Command::BeginTerm(start)), Timestamp(1)).unwrap();
}

fn checked(state: &State, known: Position, newest: u64) -> Result<(), Mismatch> {
    state.cluster().unwrap().check(&known, newest)
}

#[test]
fn the_id_of_a_cluster_is_that_of_its_first_term() {
    let mut state = State::new();
    assert_eq!(state.position(0), None);
    start(&mut state, 7, 0);
    start(&mut state, 8, 10);
    assert_eq!(state.cluster().unwrap().id, ClusterId(7));
    let term = Term { number: 2, nonce: 8 };
    assert_eq!(state.position(11), Some(Position { cluster: ClusterId(7), term, revision: 11 }));
}

#[test]
fn a_copy_of_a_store_is_older_even_after_it_has_passed_the_known_revision() {
    let mut state = State::new();
    start(&mut state, 1, 0);
    let copy = state.clone();
    let same_term = state.position(150).unwrap();
    start(&mut state, 2, 200);
    let next_term = state.position(250).unwrap();
    // The copy was made at revision 100. Started again, it counts on.
    for (mut copy, nonce) in [(copy.clone(), 3), (copy, 4)] {
        start(&mut copy, nonce, 100);
        for newest in [101, 1_000] {
            for known in [same_term, next_term] {
                assert_eq!(checked(&copy, known, newest), Err(Mismatch::Older { known }));
            }
            let before = Position { revision: 100, ..same_term };
            assert_eq!(checked(&copy, before, newest), Ok(()));
        }
        let stated = copy.position(1_000).unwrap();
        let advanced = Position::advance(Some(next_term), stated);
        assert_eq!(advanced, Err(Mismatch::Older { known: next_term }), "without the server");
    }
    for known in [same_term, next_term] {
        assert_eq!(checked(&state, known, 250), Ok(()));
    }
}

#[test]
fn a_daemon_keeps_the_newest_position_of_its_cluster() {
    let (term, cluster) = (Term { number: 3, nonce: 9 }, ClusterId(1));
    let known = Position { cluster, term, revision: 10 };
    assert_eq!(Position::advance(None, known), Ok(known));
    let newer = Position { revision: 11, ..known };
    assert_eq!(Position::advance(Some(known), newer), Ok(newer));
    assert_eq!(Position::advance(Some(newer), known), Ok(newer), "a response that was overtaken");
    let next = Position { term: Term { number: 4, nonce: 1 }, revision: 5, ..known };
    assert_eq!(Position::advance(Some(newer), next), Ok(next));
    let other = Position { cluster: ClusterId(2), ..next };
    let mismatch = Mismatch::OtherCluster { daemon: cluster, server: ClusterId(2) };
    assert_eq!(Position::advance(Some(newer), other), Err(mismatch));
}

#[test]
fn an_accepted_loss_lets_the_daemons_of_the_lost_terms_return() {
    let mut state = State::new();
    start(&mut state, 1, 0);
    let mut copy = state.clone();
    start(&mut state, 2, 200);
    start(&mut state, 3, 300);
    let known = state.position(350).unwrap();
    start(&mut copy, 4, 100);
    assert!(checked(&copy, known, 101).is_err());
    let start = Start { cluster: ClusterId(0), nonce: 5, after: 101 };
    let command = Command::AcceptLoss { lost: BTreeSet::from([known.term]), start };
    copy.apply(Proposal::operator(command), Timestamp(1)).unwrap();
    assert_eq!(checked(&copy, known, 102), Ok(()));
    let stated = copy.position(102).unwrap();
    assert_eq!(Position::advance(Some(known), stated), Ok(stated));
    assert!(copy.meta().epoch > known.term.number, "generations must be above the lost ones");
}

#[test]
fn the_oldest_terms_are_dropped_and_trusted() {
    let mut state = State::new();
    start(&mut state, 1, 0);
    let first = state.position(1).unwrap();
    for number in 2..400 {
        start(&mut state, number, number * 10);
    }
    let Cluster { terms, .. } = state.cluster().unwrap();
    assert_eq!(terms.len(), 256);
    assert_eq!(checked(&state, first, 5_000), Ok(()));
    let fork = Position { term: Term { number: 399, nonce: 0 }, ..first };
    assert!(checked(&state, fork, 5_000).is_err());
}

#[test]
fn positions_are_text() {
    let position: Position = "00000000000000ff/12-000000000000abcd/4711".parse().unwrap();
    assert_eq!(position.to_string(), "00000000000000ff/12-000000000000abcd/4711");
    assert_eq!((position.cluster, position.term.number), (ClusterId(255), 12));
    for text in ["", "ff/12-000000000000abcd/1", "00000000000000ff/12/1", "00000000000000ff/1-/1"] {
        assert!(text.parse::<Position>().is_err(), "{text}");
    }
}
