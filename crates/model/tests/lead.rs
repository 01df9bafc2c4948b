//! Becoming leader: no timestamp of the previous leader's clock remains in the future.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{Command, Goal, Key, Millis, Step, StopReason, Timestamp};
use serde_json::json;
use support::*;

/// The present, from which the times below are offsets.
const NOW: Timestamp = Timestamp(2_000_000);

/// Offsets from the present, in milliseconds, of an instance's placement, failure and drain
/// deadline and of a deployment's progress; the drain timeout is 5 s.
struct Stamps {
    placed: i64,
    failed: i64,
    until: i64,
    progressed: i64,
}

const RIGHT: Stamps = Stamps { placed: -3000, failed: -2000, until: 4000, progressed: -1000 };

fn from_now(millis: i64) -> Timestamp {
    Timestamp(NOW.0.checked_add_signed(millis).unwrap())
}

fn stamped(stamps: &Stamps) -> Cluster {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/web", json!({"stop": {"drain": "5s"}}))]);
    let instance = instance_id("/web~0.1");
    cluster.now = from_now(stamps.placed);
    cluster.place("/web~0.1", "n1");
    cluster.now = from_now(stamps.failed);
    let until = from_now(stamps.until);
    cluster.adopt(Step::Drain { instance, until, why: StopReason::Unhealthy }).unwrap();
    cluster.now = from_now(stamps.progressed);
    cluster.adopt(Step::Progress { service: service_id("/web"), ready: 0 }).unwrap();
    cluster.now = NOW;
    cluster
}

/// The timestamps of the state.
fn stamps(cluster: &Cluster) -> [Timestamp; 4] {
    let placement = cluster.state.placement(&instance_id("/web~0.1")).unwrap();
    let Goal::Drain { until, .. } = placement.goal else { panic!("it is drained") };
    let progressed = cluster.deployment(1).moves[0].progressed_at.unwrap();
    [placement.placed_at, cluster.service("/web").slot(0).failed_at, until, progressed]
}

#[test]
fn timestamps_ahead_of_the_clock_are_reset_by_a_new_leader() {
    let instance = Key::Instance(instance_id("/web~0.1"));
    let deployment = Key::Deployment(muster_model::DeploymentId(1));
    let web = Key::Service(service_id("/web"));
    let hour = 3_600_000;
    for (ahead, changed) in [
        (Stamps { placed: hour, ..RIGHT }, vec![&instance]),
        (Stamps { failed: hour, ..RIGHT }, vec![&web]),
        (Stamps { until: hour, ..RIGHT }, vec![&instance]),
        (Stamps { progressed: hour, ..RIGHT }, vec![&deployment]),
        (RIGHT, vec![]),
        (Stamps { placed: 0, failed: 0, until: 5000, progressed: 0 }, vec![]),
        (
            Stamps { placed: hour, failed: hour, until: hour, progressed: hour },
            vec![&instance, &web, &deployment],
        ),
    ] {
        let mut cluster = stamped(&ahead);
        let applied = cluster.run(Command::BecomeLeader).unwrap();
        let changed = changed.into_iter().chain([&Key::Meta]).cloned().collect();
        assert_eq!(applied.changed, changed);
        let Stamps { placed, failed, until, progressed } = ahead;
        let expected = [placed.min(0), failed.min(0), until.min(5000), progressed.min(0)];
        assert_eq!(stamps(&cluster), expected.map(from_now));
        let again = cluster.run(Command::BecomeLeader).unwrap();
        assert_eq!(again.changed, [Key::Meta].into(), "what is right stays as it is");
    }
}

#[test]
fn each_leadership_starts_an_epoch() {
    let mut cluster = Cluster::of(&[]);
    for epoch in 1..4 {
        let applied = cluster.run(Command::BecomeLeader).unwrap();
        assert_eq!(emitted(&applied), ["server-started server"]);
        assert_eq!(cluster.state.meta().epoch, epoch);
    }
}

#[test]
fn a_new_leader_does_not_start_the_clock_of_an_unstarted_move() {
    let mut cluster = stamped(&Stamps { progressed: 1000, ..RIGHT });
    cluster.apply([service("/web", json!({"env": {"A": "b"}})), service("/api", json!({}))]);
    cluster.now = NOW.after(Millis(1000));
    cluster.adopt(Step::Progress { service: service_id("/web"), ready: 0 }).unwrap();
    cluster.now = NOW;
    cluster.run(Command::BecomeLeader).unwrap();
    let moves = cluster.deployment(2).moves.iter();
    assert_eq!(moves.map(|m| m.progressed_at).collect::<Vec<_>>(), [None, Some(NOW)]);
}
