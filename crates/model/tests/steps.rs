//! The effects of the planner's steps, and the rejection of stale steps.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{
    Availability, Command, DeploymentId, Goal, Proposal, Refusal, ReplicaId, ServiceId, Slot,
    Stage, Steer, Step, StopReason, Timestamp, What,
};
use serde_json::json;
use support::*;

/// One service with two wanted instances, none placed, on two nodes.
fn unplaced() -> Cluster {
    let mut cluster = Cluster::of(&["n1", "n2"]);
    cluster.apply([service("/web", json!({"instances": 2, "ports": [{}]}))]);
    cluster
}

fn drain(instance: &str, until: Timestamp, why: StopReason) -> Step {
    Step::Drain { instance: instance_id(instance), until, why }
}

fn stop(instance: &str, why: StopReason) -> Step {
    Step::Stop { instance: instance_id(instance), why }
}

fn forget(instance: &str, why: StopReason) -> Step {
    Step::Forget { instance: instance_id(instance), why }
}

fn arrive(service: &str) -> Step {
    Step::Arrive { service: service_id(service) }
}

#[test]
fn a_stale_placement_is_rejected() {
    let availability =
        |availability| Command::SetAvailability { node: node_id("n1"), availability };
    type Meanwhile = Box<dyn Fn(&mut Cluster)>;
    let overtakers: Vec<(&str, Meanwhile)> = vec![
        (
            "the service is gone",
            Box::new(|cluster| {
                cluster.remove(&["/web"]).unwrap();
                cluster.settle("/web");
            }),
        ),
        (
            "the service aims for another revision",
            Box::new(|cluster| {
                cluster.remove(&["/web"]).unwrap();
            }),
        ),
        (
            "the service aims for another revision",
            Box::new(|cluster| {
                let again = json!({"instances": 2, "ports": [{}], "env": {"A": "b"}});
                cluster.apply([service("/web", again)]);
            }),
        ),
        (
            "the service wants fewer instances",
            Box::new(|cluster| {
                cluster.scale("/web", 1);
            }),
        ),
        (
            "the slot has been placed meanwhile",
            Box::new(|cluster| {
                cluster.place("/web~1.1", "n2");
            }),
        ),
        (
            "the node is gone",
            Box::new(|cluster| {
                cluster.run(Command::RemoveNode(node_id("n1"))).unwrap();
            }),
        ),
        (
            "the node cannot take it any more",
            Box::new(move |cluster| {
                cluster.run(availability(Availability::Cordoned)).unwrap();
            }),
        ),
        (
            "the node cannot take it any more",
            Box::new(|cluster| {
                let all = json!({"resources": {"cpu": "4"}});
                cluster.apply([service("/large", all)]);
                cluster.place("/large~0.1", "n1");
            }),
        ),
        (
            "a port has been taken meanwhile",
            Box::new(|cluster| {
                cluster.place("/web~0.1", "n1");
            }),
        ),
        (
            "a port has been taken meanwhile",
            Box::new(|cluster| {
                let mut fewer = agent();
                fewer.ports = (21_000, 22_000);
                cluster.run(register("n1", Some(fewer))).unwrap();
            }),
        ),
    ];
    let step = unplaced().placement_of("/web~1.1", "n1");
    for (why, meanwhile) in overtakers {
        let mut cluster = unplaced();
        meanwhile(&mut cluster);
        assert_eq!(cluster.stale(step.clone()), why);
    }
    assert!(unplaced().adopt(step).is_ok(), "nothing has overtaken it");
}

#[test]
fn a_slot_is_placed_only_at_its_next_attempt() {
    let mut cluster = unplaced();
    let attempt = |cluster: &Cluster, n: u32| cluster.placement_of(&format!("/web~0.{n}"), "n1");
    for expected in 1..4 {
        for other in (0..6).filter(|n| *n != expected) {
            let step = attempt(&cluster, other);
            assert_eq!(cluster.stale(step), "the slot has been placed meanwhile");
        }
        let applied = cluster.adopt(attempt(&cluster, expected)).unwrap();
        let instance = format!("/web~0.{expected}");
        assert_eq!(emitted(&applied), [format!("placed {instance}")]);
        assert!(cluster.is_placed(&instance));
        assert_eq!(cluster.service("/web").slot(0).attempts, expected);
        cluster.adopt(forget(&instance, StopReason::Requested)).unwrap();
    }
}

#[test]
fn slots_are_placed_in_any_order() {
    let mut cluster = unplaced();
    cluster.place("/web~1.1", "n1");
    let slots = cluster.service("/web").head.slots;
    assert_eq!(slots.iter().map(|slot| slot.attempts).collect::<Vec<_>>(), [0, 1]);
    cluster.place("/web~0.1", "n2");
    assert_eq!(cluster.service("/web").placements.len(), 2);
}

#[test]
fn a_terminating_instance_only_advances() {
    let until = Timestamp(2_000_000);
    let cases = [
        (vec![drain("/web~0.1", until, StopReason::Surplus)], "draining"),
        (vec![stop("/web~0.1", StopReason::Surplus)], "stopping"),
        (
            vec![
                drain("/web~0.1", until, StopReason::Surplus),
                stop("/web~0.1", StopReason::Removed),
            ],
            "stopping",
        ),
    ];
    for (steps, kind) in cases {
        let mut cluster = unplaced();
        cluster.place("/web~0.1", "n1");
        let last = steps.into_iter().map(|step| cluster.adopt(step).unwrap()).last().unwrap();
        assert_eq!(emitted(&last), [format!("{kind} /web~0.1")]);
        let back = cluster.stale(drain("/web~0.1", until, StopReason::Requested));
        assert_eq!(back, "the instance is terminating already");
    }
    let mut cluster = unplaced();
    assert_eq!(cluster.stale(stop("/web~0.1", StopReason::Lost)), "the instance is gone");
    assert_eq!(cluster.stale(stop("/no~0.1", StopReason::Lost)), "the service is gone");
}

/// Only wanted instances of the target count, because the next placement would repeat their
/// failure.
#[test]
fn unhealthy_instances_of_the_target_count_as_failures_of_their_slot() {
    let until = Timestamp(2_000_000);
    let failures = |before: &dyn Fn(&mut Cluster), step: Step| {
        let mut cluster = unplaced();
        cluster.place("/web~0.1", "n1");
        before(&mut cluster);
        cluster.adopt(step).unwrap();
        let Slot { failures, failed_at, .. } = cluster.service("/web").slot(0);
        assert_eq!(failed_at, if failures == 0 { Timestamp(0) } else { cluster.now });
        failures
    };
    let at_once = |_: &mut Cluster| {};
    assert_eq!(failures(&at_once, drain("/web~0.1", until, StopReason::Unhealthy)), 1);
    assert_eq!(failures(&at_once, stop("/web~0.1", StopReason::Unhealthy)), 1);
    for why in [
        StopReason::Surplus,
        StopReason::Lost,
        StopReason::Draining,
        StopReason::Requested,
        StopReason::Replaced,
    ] {
        assert_eq!(failures(&at_once, stop("/web~0.1", why)), 0, "{why}");
    }
    let leaving = |cluster: &mut Cluster| {
        cluster.adopt(drain("/web~0.1", until, StopReason::Surplus)).unwrap();
    };
    assert_eq!(failures(&leaving, stop("/web~0.1", StopReason::Unhealthy)), 0);
    let scaled = |cluster: &mut Cluster| drop(cluster.scale("/web", 3));
    assert_eq!(failures(&scaled, stop("/web~0.1", StopReason::Unhealthy)), 1);
    let outdated = |cluster: &mut Cluster| {
        cluster.run(Command::Restart { service: service_id("/web") }).unwrap();
    };
    assert_eq!(failures(&outdated, stop("/web~0.1", StopReason::Unhealthy)), 0);
}

#[test]
fn a_removed_instance_is_lost_or_stopped() {
    for (why, kind) in [(StopReason::Lost, "lost"), (StopReason::Replaced, "stopped")] {
        let mut cluster = unplaced();
        cluster.place("/web~0.1", "n1");
        assert_eq!(cluster.node("n1").ports.len(), 1);
        let applied = cluster.adopt(forget("/web~0.1", why)).unwrap();
        assert_eq!(emitted(&applied), [format!("{kind} /web~0.1")]);
        assert!(cluster.node("n1").ports.is_empty());
        assert_eq!(cluster.stale(forget("/web~0.1", why)), "the instance is gone");
    }
}

#[test]
fn progress_is_the_start_of_a_move_or_a_new_maximum_of_ready_instances() {
    let mut cluster = unplaced();
    let moved = |cluster: &Cluster| {
        let moved = &cluster.deployment(1).moves[0];
        (moved.ready, moved.progressed_at)
    };
    assert_eq!(moved(&cluster), (0, None));
    for (ready, is_progress) in
        [(0, true), (0, false), (1, true), (1, false), (0, false), (2, true), (1, false)]
    {
        cluster.later(1000);
        let before = moved(&cluster);
        match is_progress {
            true => {
                assert!(cluster.adopt(progress("/web", ready)).is_ok());
                assert_eq!(moved(&cluster), (ready, Some(cluster.now)));
            }
            false => {
                assert_eq!(cluster.stale(progress("/web", ready)), "the progress is known");
                assert_eq!(moved(&cluster), before);
            }
        }
    }
    cluster.settle("/web");
    assert_eq!(cluster.stale(progress("/web", 3)), "the service does not move");
}

#[test]
fn a_service_arrives_once_all_its_instances_match_the_target() {
    let further = "the service has further to go";
    let mut cluster = unplaced();
    cluster.place("/web~0.1", "n1");
    assert_eq!(cluster.stale(arrive("/web")), further, "one is missing");
    cluster.place("/web~1.1", "n1");
    let placed = cluster.clone();
    assert!(cluster.adopt(arrive("/web")).is_ok());
    assert_eq!(cluster.stale(arrive("/web")), "the service does not move");

    let mut cluster = placed.clone();
    cluster.adopt(drain("/web~1.1", Timestamp(2_000_000), StopReason::Unhealthy)).unwrap();
    assert_eq!(cluster.stale(arrive("/web")), further, "one leaves");

    let mut cluster = placed.clone();
    cluster.run(Command::Restart { service: service_id("/web") }).unwrap();
    assert_eq!(cluster.stale(arrive("/web")), further, "none was started anew");

    let mut cluster = placed.clone();
    cluster.scale("/web", 1);
    assert_eq!(cluster.stale(arrive("/web")), further, "there is one too many");
    cluster.adopt(forget("/web~1.1", StopReason::Surplus)).unwrap();
    assert!(cluster.adopt(arrive("/web")).is_ok());

    let mut cluster = placed;
    cluster.steer(1, Steer::Pause).unwrap();
    assert_eq!(cluster.stale(arrive("/web")), "the deployment is suspended");
    assert_eq!(cluster.stale(arrive("/no")), "the service is gone");
}

#[test]
fn a_deployment_completes_with_its_last_service() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({})), service("/b", json!({}))]);
    assert_eq!(emitted(&cluster.settle("/a")), ["arrived /a"]);
    assert_eq!(cluster.deployment(1).stage, Stage::Running);
    assert_eq!(cluster.service("/a").settled, Some(1));
    cluster.later(1000);
    assert_eq!(emitted(&cluster.settle("/b")), ["arrived /b", "deployment-succeeded d-1"]);
    assert_eq!(cluster.deployment(1).stage, Stage::Succeeded { at: cluster.now });
}

#[test]
fn a_rolled_back_deployment_has_its_reason() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({}))]);
    cluster.settle("/a");
    cluster.apply([service("/a", json!({"env": {"A": "b"}}))]);
    let (deployment, reason) = (DeploymentId(2), broken());
    let fail = Step::Fail { deployment, service: service_id("/a"), reason: reason.clone() };
    cluster.adopt(fail).unwrap();
    let applied = cluster.settle("/a");
    assert_eq!(emitted(&applied), ["arrived /a", "deployment-rolled-back d-2"]);
    let expected = What::DeploymentRolledBack { reason: reason.clone() };
    assert_eq!(applied.events[1].what, expected);
    let stage = Stage::RolledBack { reason, at: cluster.now };
    assert_eq!(cluster.deployment(2).stage, stage);
}

#[test]
fn a_removed_service_disappears_with_its_last_instance() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({}))]);
    cluster.settle("/a");
    cluster.scale("/a", 2);
    cluster.remove(&["/a"]).unwrap();
    assert_eq!(cluster.stale(arrive("/a")), "the service has further to go");
    assert_eq!(emitted(&cluster.settle("/a")), ["removed /a", "deployment-succeeded d-3"]);
    assert!(cluster.state.service(&service_id("/a")).is_none());
}

#[test]
fn ids_of_instances_are_not_reused_by_a_new_service_of_the_same_path() {
    let mut cluster = Cluster::of(&["n1"]);
    let all = || ["/a", "/b", "/c"].map(|path| service(path, json!({})));
    cluster.apply(all());
    for attempt in 1..4 {
        cluster.place(&format!("/a~0.{attempt}"), "n1");
        cluster.adopt(forget(&format!("/a~0.{attempt}"), StopReason::Unhealthy)).unwrap();
    }
    cluster.settle("/b");
    // The service with the most attempts goes first; the others must not lower the count.
    for path in ["/a", "/b", "/c"] {
        cluster.remove(&[path]).unwrap();
        cluster.settle(path);
        assert_eq!(cluster.state.meta().attempts, 3);
    }
    cluster.apply(all());
    for path in ["/a", "/b", "/c"] {
        cluster.settle(path);
        let service = cluster.service(path);
        assert_eq!(service.placements.keys().next(), Some(&ReplicaId { slot: 0, attempt: 4 }));
    }
}

#[test]
fn the_last_ten_and_all_referenced_revisions_are_kept() {
    let mut cluster = Cluster::of(&["n1"]);
    let version = |n: u32| service("/a", json!({"env": {"N": n.to_string()}}));
    let numbers = |cluster: &Cluster| -> Vec<u32> {
        cluster.service("/a").revisions.keys().copied().collect()
    };
    cluster.apply([version(1)]);
    cluster.settle("/a");
    for n in 2..13 {
        cluster.apply([version(n)]);
    }
    cluster.apply([version(13), service("/b", json!({}))]);
    let kept: Vec<u32> = [1].into_iter().chain(4..14).collect();
    assert_eq!(numbers(&cluster), kept, "the deployment may go back to the first one");
    cluster.settle("/a");
    assert_eq!(numbers(&cluster), kept, "the deployment may go back to the first one still");
    cluster.settle("/b");
    cluster.apply([version(14)]);
    cluster.place("/a~0.3", "n1");
    cluster.adopt(forget("/a~0.2", StopReason::Replaced)).unwrap();
    assert_eq!(numbers(&cluster), (5..15).collect::<Vec<_>>());

    let mut cluster = Cluster::of(&[]);
    for n in 1..14 {
        let labels = json!({"n": n.to_string()});
        cluster.apply([service("/a", json!({"instances": 0, "labels": labels}))]);
        cluster.settle("/a");
    }
    let kept: Vec<u32> = [1].into_iter().chain(4..14).collect();
    assert_eq!(numbers(&cluster), kept, "a template stays with its revisions");
}

#[test]
fn the_last_two_hundred_and_all_active_deployments_are_kept() {
    let mut cluster = Cluster::of(&[]);
    cluster.apply([service("/still", json!({"instances": 0}))]);
    cluster.steer(1, Steer::Pause).unwrap();
    cluster.apply([service("/a", json!({"instances": 0}))]);
    for _ in 0..205 {
        let restart = Command::Restart { service: service_id("/a") };
        cluster.state.apply(Proposal::usual(restart), cluster.now).unwrap();
    }
    cluster.settle("/a");
    let kept: Vec<u64> = cluster.state.deployments().map(|deployment| deployment.id.0).collect();
    assert_eq!(kept, [1].into_iter().chain(9..208).collect::<Vec<_>>());
}

#[test]
fn steps_for_unknown_services_are_stale() {
    let mut cluster = Cluster::of(&[]);
    let step = progress("/web", 1);
    assert!(matches!(cluster.adopt(step), Err(Refusal::Stale(_))));
    let of: &ServiceId = &service_id("/web");
    for step in [
        drain("/web~0.1", Timestamp(0), StopReason::Lost),
        stop("/web~0.1", StopReason::Lost),
        forget("/web~0.1", StopReason::Lost),
        progress("/web", 1),
        arrive("/web"),
        Step::Fail { deployment: DeploymentId(1), service: of.clone(), reason: broken() },
    ] {
        assert_eq!(step.service(), of);
    }
}

#[test]
fn a_drain_step_stores_its_deadline() {
    let mut cluster = unplaced();
    cluster.place("/web~0.1", "n1");
    let goal = Goal::Drain { until: Timestamp(1_500_000), why: StopReason::Surplus };
    cluster.adopt(drain("/web~0.1", Timestamp(1_500_000), StopReason::Surplus)).unwrap();
    let placement = cluster.state.placement(&instance_id("/web~0.1")).unwrap();
    assert_eq!(placement.goal, goal);
    assert!(!placement.is_wanted());
}
