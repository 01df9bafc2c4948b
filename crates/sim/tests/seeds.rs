//! Simulations of every push: the first seeds, some new seeds, and the proof that the invariants
//! detect injected bugs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{SystemTime, UNIX_EPOCH};

use muster_sim::{InjectedBug, Options, run};

/// An injected bug must be detected within this number of seeds.
const DETECTED_WITHIN: u64 = 100;

/// Simulates seeds. A violation fails the test with the history and the command that repeats it.
fn hold(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        if let Err(failure) = run(&Options::new(seed)) {
            panic!("{}\n\n{failure}", failure.history.join("\n"));
        }
    }
}

#[test]
fn the_first_seeds_violate_no_invariant() {
    hold(0..40);
}

/// Every run of the tests simulates other seeds; `MUSTER_SEEDS` sets their number.
#[test]
fn new_seeds_violate_no_invariant() {
    let count = std::env::var("MUSTER_SEEDS").map_or(12, |count| count.parse().unwrap());
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1_000;
    hold(first..first + count);
}

#[test]
fn a_seed_has_one_history() {
    for seed in [1, 2] {
        let first = run(&Options::new(seed)).unwrap();
        assert_eq!(first, run(&Options::new(seed)).unwrap());
        assert!(first.faults > 0 && first.writes > 0, "{first:?}");
    }
}

/// The invariant that detects a bug first.
fn detected(bug: InjectedBug) -> &'static str {
    let invariant = (0..DETECTED_WITHIN).find_map(|seed| {
        let options = Options { bug: Some(bug), ..Options::new(seed) };
        run(&options).err().map(|failure| failure.invariant)
    });
    invariant.unwrap_or_else(|| panic!("{bug} is not detected within {DETECTED_WITHIN} seeds"))
}

#[test]
fn a_write_that_is_not_flushed_is_detected() {
    // Daemons that know of the lost writes refuse the server, and the cluster stays apart.
    let invariants = ["no acknowledged write is lost", "the cluster converges"];
    assert!(invariants.contains(&detected(InjectedBug::NoFlush)));
}

#[test]
fn one_instance_above_the_budget_is_detected() {
    assert_eq!(detected(InjectedBug::Ceiling), "never more live than the budget says");
}

#[test]
fn one_healthy_instance_too_few_is_detected() {
    assert_eq!(detected(InjectedBug::Floor), "never fewer healthy than the budget says");
}

#[test]
fn more_than_the_capacity_of_a_node_is_detected() {
    assert_eq!(detected(InjectedBug::Capacity), "no node over capacity");
}

#[test]
fn requests_to_an_instance_that_was_never_ready_are_detected() {
    let invariants = ["tables contain instances that are ready and stay", "the cluster converges"];
    assert!(invariants.contains(&detected(InjectedBug::Readiness)));
}

#[test]
fn a_stop_under_a_request_is_detected() {
    assert_eq!(detected(InjectedBug::Busy), "no instance is stopped under a request");
}

#[test]
fn a_stale_table_under_a_new_generation_is_detected() {
    assert_eq!(detected(InjectedBug::StaleTable), "no instance is stopped under a request");
}

#[test]
fn a_lost_deletion_is_detected() {
    let invariants = ["readers see exactly what is stored", "no instance id is used twice"];
    assert!(invariants.contains(&detected(InjectedBug::LostDelete)));
}

#[test]
fn a_service_that_ignores_its_dependencies_is_detected() {
    let invariant = detected(InjectedBug::Dependencies);
    assert_eq!(invariant, "a service waits for the services it depends on");
}

#[test]
fn a_request_that_is_executed_twice_is_detected() {
    assert_eq!(detected(InjectedBug::Repetition), "a repeated request has its first outcome");
}

#[test]
fn a_lost_node_that_is_treated_as_reachable_is_detected() {
    let invariants = [
        "nothing is placed on a lost node",
        "every deployment ends or waits for a user",
        "the cluster converges",
    ];
    assert!(invariants.contains(&detected(InjectedBug::GhostHeartbeat)));
}

#[test]
fn a_service_that_is_removed_before_its_dependents_is_detected() {
    let invariants = [
        "a service is removed after those that depend on it",
        // The services lose their dependencies before they are removed.
        "a service waits for the services it depends on",
    ];
    assert!(invariants.contains(&detected(InjectedBug::RemovalOrder)));
}

#[test]
fn surplus_instances_that_leave_in_the_wrong_order_are_detected() {
    let invariant = detected(InjectedBug::ScaleDown);
    assert_eq!(invariant, "surplus instances leave in the order of scale_down");
}

#[test]
fn a_placement_on_a_node_that_has_not_reported_is_detected() {
    let invariant = detected(InjectedBug::Unreported);
    assert_eq!(invariant, "nothing is placed on a node that has not reported");
}

#[test]
fn an_event_that_is_published_too_early_is_detected() {
    let invariant = detected(InjectedBug::EarlyEvents);
    assert_eq!(invariant, "events are published once they are durable");
}

#[test]
fn resources_that_start_at_the_same_time_are_detected() {
    assert_eq!(detected(InjectedBug::StackOrder), "the resources of a stack start in order");
}

#[test]
fn a_revision_blocked_for_the_failure_of_another_is_detected() {
    assert_eq!(detected(InjectedBug::SharedBlame), "only the revision that failed is blocked");
}

#[test]
fn an_undo_to_a_revision_that_failed_is_detected() {
    assert_eq!(detected(InjectedBug::BlindUndo), "an undo returns to a revision that succeeded");
}

#[test]
fn a_deployment_without_end_is_detected() {
    let invariant = "every deployment ends or waits for a user";
    assert_eq!(detected(InjectedBug::Deadline), invariant);
}

#[test]
fn a_stack_that_stops_with_one_of_its_resources_is_detected() {
    let invariants =
        ["a resource stops only with its instance", "the resources of a stack stop in reverse"];
    assert!(invariants.contains(&detected(InjectedBug::StackRestart)));
}

#[test]
fn an_instance_that_ends_before_its_runs_is_detected() {
    let invariants =
        ["an instance that has ended has no runs", "the resources of a stack stop in reverse"];
    assert!(invariants.contains(&detected(InjectedBug::EarlyEnd)));
}

#[test]
fn a_daemon_that_follows_a_server_with_another_store_is_detected() {
    let invariant = detected(InjectedBug::AnyServer);
    assert_eq!(invariant, "daemons follow the newest server of their cluster");
}

#[test]
fn an_absence_that_is_taken_for_an_order_is_detected() {
    let invariants = ["a resource stops only with its instance", "the cluster converges"];
    assert!(invariants.contains(&detected(InjectedBug::Absence)));
}

#[test]
fn a_route_to_a_suspended_instance_is_detected() {
    let invariant = detected(InjectedBug::EarlyResume);
    assert_eq!(invariant, "tables contain instances that are ready and stay");
}
