//! Revisions: which changes create one or a new template, and where an undo leads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{Cause, Command, Goal, Revision, Source, Timestamp};
use serde_json::json;
use support::*;

/// The service's revision with this number.
fn revision(cluster: &Cluster, number: u32) -> Revision {
    Revision::clone(&cluster.service("/web").revisions[&number])
}

/// The template of the target.
fn template(cluster: &Cluster) -> u32 {
    cluster.service("/web").target().template
}

#[test]
fn revisions_have_distinct_times() {
    let mut cluster = settled();
    for n in 2..5 {
        cluster.apply([service("/web", version(n))]);
    }
    let revisions = cluster.service("/web").revisions;
    let times: Vec<u64> = revisions.values().map(|revision| revision.created_at.0).collect();
    let now = cluster.now.0;
    assert_eq!(times, [now, now + 1, now + 2, now + 3]);
    cluster.later(1000);
    cluster.apply([service("/web", version(5))]);
    assert_eq!(revision(&cluster, 5).created_at, cluster.now);
}

/// Adapters show both when a service was scaled and when it was configured.
#[test]
fn a_revision_that_only_scales_keeps_the_time_of_its_configuration() {
    let mut cluster = settled();
    let first = cluster.now;
    let check = |cluster: &Cluster, expected: Option<Timestamp>| {
        let service = cluster.service("/web");
        assert_eq!(service.target().configured_at, expected, "revision {}", service.target);
        assert_eq!(service.target().created_at, cluster.now);
    };
    cluster.later(1000);
    cluster.scale("/web", 2);
    check(&cluster, Some(first));
    cluster.later(1000);
    cluster.apply([service("/web", json!({"instances": 3}))]);
    check(&cluster, Some(first));
    cluster.later(1000);
    cluster.apply([service("/web", json!({"instances": 4, "labels": {"a": "b"}}))]);
    check(&cluster, None);
    cluster.later(1000);
    cluster.apply([service("/web", json!({"instances": 4}))]);
    check(&cluster, None);
    cluster.later(1000);
    cluster.run(restart("/web")).unwrap();
    check(&cluster, None);
    let restarted = cluster.now;
    cluster.later(1000);
    cluster.scale("/web", 1);
    check(&cluster, Some(restarted));
    cluster.later(1000);
    cluster.remove(&["/web"]).unwrap();
    cluster.later(1000);
    cluster.apply([service("/web", json!({"instances": 9}))]);
    check(&cluster, None);
}

#[test]
fn only_a_change_that_needs_a_restart_has_a_new_template() {
    let mut cluster = settled();
    cluster.scale("/web", 2);
    assert_eq!(template(&cluster), 1);
    cluster.apply([service("/web", json!({"labels": {"a": "b"}}))]);
    assert_eq!(template(&cluster), 1);
    cluster.apply([service("/web", version(2))]);
    assert_eq!(template(&cluster), 4);
    cluster.run(restart("/web")).unwrap();
    assert_eq!(template(&cluster), 5);
    assert_eq!(revision(&cluster, 5).spec, revision(&cluster, 4).spec);
    cluster.apply([service("/web", json!({"instances": 3}))]);
    assert_eq!(template(&cluster), 1, "instances that still run it are kept");
}

#[test]
fn scaling_after_a_failed_restart_restarts_no_instance() {
    let mut cluster = settled();
    cluster.run(restart("/web")).unwrap();
    cluster.adopt(fail(2, "/web")).unwrap();
    cluster.settle("/web");
    cluster.apply([service("/web", json!({"instances": 2}))]);
    assert_eq!(template(&cluster), 1);
}

#[test]
fn scaling_changes_only_the_number_of_instances() {
    let mut cluster = settled();
    cluster.apply([foreign("/web", version(2))]);
    let before = revision(&cluster, 2);
    let applied = cluster.scale("/web", 100_000);
    assert_eq!(change_summaries(&applied), ["service /web updated"]);
    assert_eq!(cluster.deployment(3).cause, Cause::Scale);
    let after = revision(&cluster, 3);
    assert_eq!(after.source, before.source);
    assert_eq!(*after.spec, spec("/web", json!({"instances": 100_000, "env": {"VERSION": "2"}})));
    let applied = cluster.scale("/web", 100_000);
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
    assert_eq!(applied.changes[0].revision, Some(3));
    let scale = Command::Scale { service: service_id("/web"), instances: 100_001 };
    conflict(cluster.run(scale));
}

#[test]
fn a_service_is_scaled_by_a_difference() {
    let mut cluster = settled();
    cluster.scale("/web", 12);
    let by = |by| Command::ScaleBy { service: service_id("/web"), by };
    cluster.run(by(2)).unwrap();
    assert_eq!(cluster.service("/web").spec().instances, 14);
    cluster.run(by(-3)).unwrap();
    assert_eq!(cluster.service("/web").spec().instances, 11);
    let applied = cluster.run(by(0)).unwrap();
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
    for wrong in [-12, i32::MIN, 100_000, i32::MAX] {
        conflict(cluster.run(by(wrong)));
    }
}

#[test]
fn undo_keeps_the_number_of_instances() {
    let mut cluster = settled();
    cluster.apply([foreign("/web", version(2))]);
    cluster.settle("/web");
    cluster.scale("/web", 3);
    cluster.run(undo("/web", Some(1))).unwrap();
    assert_eq!(template(&cluster), 1);
    assert_eq!(*revision(&cluster, 4).spec, spec("/web", json!({"instances": 3})));
    assert_eq!(revision(&cluster, 4).source, None);
    cluster.run(undo("/web", Some(2))).unwrap();
    assert_eq!(template(&cluster), 2);
    let source = revision(&cluster, 5).source.map(|source| Source::clone(&source).adapter);
    assert_eq!(source.as_deref(), Some("other"), "it is described as it was then");
    assert_eq!(cluster.deployment(5).cause, Cause::Undo);
}

#[test]
fn undo_returns_to_the_last_revision_with_another_template_that_succeeded() {
    let mut cluster = settled();
    let message = conflict(cluster.run(undo("/web", None)));
    assert!(message.contains("no earlier revision"), "{message}");
    let message = conflict(cluster.run(undo("/web", Some(7))));
    assert!(message.contains("no revision 7"), "{message}");

    cluster.apply([service("/web", version(2))]);
    cluster.apply([service("/web", version(3))]);
    let mut moving = cluster.clone();
    moving.run(undo("/web", None)).unwrap();
    assert_eq!(template(&moving), 1, "neither has arrived");

    cluster.settle("/web");
    cluster.scale("/web", 2);
    cluster.settle("/web");
    let mut arrived = cluster.clone();
    arrived.run(undo("/web", None)).unwrap();
    assert_eq!(template(&arrived), 1, "2 was superseded, and 4 differs in its instances alone");
    // A revision that failed has a lower number, but an undo does not lead to it.
    cluster.apply([service("/web", version(5))]);
    cluster.adopt(fail(5, "/web")).unwrap();
    cluster.settle("/web");
    assert_eq!(cluster.service("/web").target, 4);
    cluster.run(undo("/web", None)).unwrap();
    assert_eq!(template(&cluster), 1);
}

/// An undo used to return to the newest earlier revision, although that one had been rolled back.
#[test]
fn an_undo_returns_to_a_revision_that_succeeded() {
    let mut cluster = settled();
    cluster.apply([service("/web", version(2))]);
    cluster.settle("/web");
    cluster.apply([service("/web", version(3))]);
    cluster.adopt(fail(3, "/web")).unwrap();
    cluster.settle("/web");
    cluster.scale("/web", 2);
    cluster.settle("/web");
    let outcome =
        |cluster: &Cluster, number| revision(cluster, number).outcome.map(|outcome| outcome.word());
    let outcomes = [1, 2, 3, 4].map(|number| outcome(&cluster, number));
    assert_eq!(outcomes, ["succeeded", "succeeded", "failed", "succeeded"].map(Some));
    cluster.run(undo("/web", None)).unwrap();
    assert_eq!(template(&cluster), 1);
    assert_eq!(outcome(&cluster, 5), None, "it has not arrived yet");
}

#[test]
fn a_revision_keeps_its_last_outcome() {
    let mut cluster = Cluster::of(&["n1"]);
    let both = |n| [service("/web", version(n)), service("/b", version(n))];
    let settle = |cluster: &mut Cluster| ["/web", "/b"].map(|path| cluster.settle(path));
    cluster.apply(both(1));
    settle(&mut cluster);
    cluster.apply(both(2));
    cluster.apply(both(3));
    cluster.adopt(fail(3, "/b")).unwrap();
    settle(&mut cluster);
    let outcomes: Vec<_> = cluster.service("/web").revisions.into_values().collect();
    let outcomes: Vec<_> =
        outcomes.iter().map(|one| one.outcome.as_ref().map(|outcome| outcome.word())).collect();
    assert_eq!(outcomes, [Some("succeeded"), None, Some("withdrawn")], "2 was superseded");
    let message = conflict(cluster.run(undo("/b", None)));
    let known =
        "no earlier revision that succeeded and differs: it has 1 (succeeded), 2, 3 (failed)";
    assert!(message.ends_with(known), "{message}");

    // A held revision is tried again, and succeeds.
    let mut held = version(4);
    held["rollout"] = json!({"on_failure": "hold"});
    cluster.apply([service("/b", held)]);
    cluster.adopt(fail(4, "/b")).unwrap();
    let outcome = |cluster: &Cluster| {
        cluster.service("/b").target().outcome.as_ref().map(|outcome| outcome.word())
    };
    assert_eq!(outcome(&cluster), Some("failed"));
    cluster.steer(4, muster_model::Steer::Resume).unwrap();
    cluster.settle("/b");
    assert_eq!(outcome(&cluster), Some("succeeded"));
}

/// Fields that take effect in place also apply to instances of earlier revisions.
#[test]
fn an_instance_drains_by_the_spec_of_its_running_revision() {
    let drained = |cluster: &Cluster| {
        let mut cluster = cluster.clone();
        let instances = vec![instance_id("/web~0.1")];
        cluster.run(Command::Kill { instances, scale: false }).unwrap();
        match &cluster.state.placement(&instance_id("/web~0.1")).unwrap().goal {
            Goal::Drain { until, .. } => until.since(cluster.now).0,
            other => panic!("{other:?}"),
        }
    };
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/web", json!({"stop": {"drain": "5s"}}))]);
    cluster.settle("/web");
    assert_eq!(drained(&cluster), 5000);
    cluster.apply([service("/web", json!({"stop": {"drain": "9s"}}))]);
    assert_eq!(drained(&cluster), 9000);
    cluster.apply([service("/web", json!({"stop": {"drain": "20s"}, "env": {"A": "b"}}))]);
    assert_eq!(drained(&cluster), 5000, "it would have to be started anew for that");
}

/// A service that never arrives, because its cluster has no nodes, keeps no more revisions than others.
#[test]
fn old_revisions_are_dropped_by_number_and_size() {
    let kept = |count: u32, bytes: usize| {
        let mut cluster = Cluster::of(&[]);
        for n in 0..count {
            let text = format!("{n}{}", "x".repeat(bytes));
            cluster.apply([service("/web", json!({ "env": { "TEXT": text } }))]);
        }
        let revisions = cluster.service("/web").revisions;
        (*revisions.keys().next().unwrap(), *revisions.keys().next_back().unwrap())
    };
    assert_eq!(kept(12, 10), (3, 12));
    // Four mebibytes of them.
    assert_eq!(kept(6, 1_000_000), (3, 6));
    // An undo needs the newest two.
    assert_eq!(kept(3, 5_000_000), (2, 3));
}
