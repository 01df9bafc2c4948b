//! The work queue: which services are planned again. The histories in `properties` check that its
//! plans equal those of planning all services.

use std::collections::BTreeSet;

use model::{Millis, NodeId, ServiceId};
use muster_planner::WorkQueue;
use muster_planner::scenario::World;

use super::{play, world};

fn service(path: &str) -> ServiceId {
    path.parse().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Plans the services on the work queue and returns their names.
fn planned(work_queue: &mut WorkQueue, world: &World) -> Vec<String> {
    let plan = work_queue.plan(&world.state, &world.observed, world.now);
    assert_eq!(plan.steps, world.plan().steps);
    assert_eq!(plan.waits, world.plan().waits);
    work_queue.take_planned().iter().map(ToString::to_string).collect()
}

/// Two settled services, each on a node of its own.
const SETTLED: &str = r#"
> node n1
> node n2
> apply /a constraints=[["hostname","IS","n1"]] , /b constraints=[["hostname","IS","n2"]]
> settle
"#;

#[test]
fn a_new_work_queue_contains_every_service() {
    let mut world = world(SETTLED);
    play(&mut world, "> scale /a 2");
    let mut work_queue = WorkQueue::everything();
    assert_eq!(planned(&mut work_queue, &world), ["/a", "/b"]);
    assert_eq!(work_queue.take_planned(), BTreeSet::new(), "each is returned once");
}

#[test]
fn a_settled_service_is_planned_again_after_a_relevant_change() {
    type Trigger = fn(&mut WorkQueue, &mut World);
    let cases: &[(&str, Trigger, &[&str])] = &[
        ("nothing", |_, _| {}, &[]),
        ("time passes", |_, world| world.tick(Millis::secs(3600)), &[]),
        ("something of it", |work_queue, _| work_queue.touch(&service("/a")), &["/a"]),
        (
            "something of its node",
            |work_queue, world| work_queue.touch_node(&world.state, &node("n2")),
            &["/b"],
        ),
        ("anything", |work_queue, _| work_queue.touch_all(), &["/a", "/b"]),
        (
            "its node is lost",
            |_, world| {
                world.lose(&node("n2"));
                world.tick(Millis::secs(30));
            },
            &["/b"],
        ),
    ];
    for (what, happens, expected) in cases {
        let mut world = world(SETTLED);
        let mut work_queue = WorkQueue::everything();
        planned(&mut work_queue, &world);
        happens(&mut work_queue, &mut world);
        assert_eq!(planned(&mut work_queue, &world), *expected, "{what}");
    }
}

#[test]
fn a_waiting_service_is_planned_in_every_turn() {
    let mut world = world(SETTLED);
    let mut work_queue = WorkQueue::everything();
    planned(&mut work_queue, &world);
    play(&mut world, "> lose n2\n> tick 30s");
    for _ in 0..2 {
        assert_eq!(planned(&mut work_queue, &world), ["/b"]);
        let waits: Vec<_> = world.plan().waits.into_iter().collect();
        let known = work_queue.waits().iter();
        let known: Vec<_> =
            known.flat_map(|(id, waits)| waits.iter().map(|w| (id.clone(), w.clone()))).collect();
        assert_eq!(known, waits);
        assert!(!known.is_empty());
    }
    play(&mut world, "> return n2");
    assert_eq!(planned(&mut work_queue, &world), ["/b"], "it is there again");
    assert_eq!(planned(&mut work_queue, &world), [""; 0]);
    assert!(work_queue.waits().is_empty());
}

/// A plan that was not adopted is made again in time, even though its service waits for nothing.
#[test]
fn a_service_is_planned_at_its_wake_time() {
    let mut world = world(
        "> node n1\n> apply /a\n> settle\n> apply /b rollout.deadline=5s health\n> run\n\
         > report /b~0.1 running healthy ready",
    );
    let mut work_queue = WorkQueue::everything();
    assert_eq!(planned(&mut work_queue, &world), ["/a", "/b"]);
    assert!(work_queue.waits().is_empty());
    for (span, expected) in [(4_999, ""), (1, "/b")] {
        world.tick(Millis(span));
        work_queue.plan(&world.state, &world.observed, world.now);
        let planned: Vec<_> = work_queue.take_planned().iter().map(ToString::to_string).collect();
        assert_eq!(planned.concat(), expected);
    }
}
