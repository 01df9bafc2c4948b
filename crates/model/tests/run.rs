//! Whether the instances of services run: `run` in documents, and the commands that change it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{Cause, ChangeKind, Command, MoveState, Run, RunChange, Stage, Steer, What};
use serde_json::json;
use support::*;

const STOP: RunChange = RunChange { from: Run::Started, to: Run::Stopped };

fn set_run(paths: &[&str], run: Run) -> Command {
    Command::SetRun { services: paths.iter().map(|path| service_id(path)).collect(), run }
}

/// `/web` with its instance stopped and forgotten.
fn stopped() -> Cluster {
    let mut cluster = settled();
    cluster.run(set_run(&["/web"], Run::Stopped)).unwrap();
    cluster.settle("/web");
    cluster
}

#[test]
fn a_stop_is_a_deployment_and_no_revision() {
    let mut cluster = settled();
    let applied = cluster.run(set_run(&["/web"], Run::Stopped)).unwrap();
    let [change] = &applied.changes[..] else { panic!("{:?}", applied.changes) };
    assert_eq!(
        (change.verdict, change.run, change.revision),
        (ChangeKind::Updated, Some(STOP), Some(1))
    );
    assert_eq!(change.deployment.map(|id| id.0), Some(2));
    assert!(applied.events.iter().any(|event| event.what == What::RunChanged { change: STOP }));
    let web = cluster.service("/web");
    assert_eq!((web.run, web.wanted(), web.revisions.len()), (Run::Stopped, 0, 1));
    let deployment = cluster.deployment(2);
    assert_eq!(deployment.cause, Cause::Stop);
    let [m] = &deployment.moves[..] else { panic!("{:?}", deployment.moves) };
    assert_eq!((m.from, m.to, m.run, m.state), (Some(1), Some(1), Some(STOP), MoveState::Moving));

    let again = cluster.run(set_run(&["/web"], Run::Stopped)).unwrap();
    assert_eq!(
        (change_summaries(&again), again.changed.len()),
        (vec!["service /web unchanged".into()], 0)
    );
}

#[test]
fn a_stopped_service_keeps_its_number_slots_and_revision() {
    let mut cluster = stopped();
    assert!(matches!(cluster.deployment(2).stage, Stage::Succeeded { .. }));
    let web = cluster.service("/web");
    assert_eq!((web.target, web.settled, web.spec().instances), (1, Some(1), 1));
    assert_eq!((web.slots.len(), web.placements.len()), (1, 0));
    cluster.stale(cluster.placement_of("/web~0.2", "n1"));

    let applied = cluster.run(set_run(&["/web"], Run::Started)).unwrap();
    assert_eq!(applied.changes[0].run, Some(RunChange { from: Run::Stopped, to: Run::Started }));
    cluster.settle("/web");
    assert_eq!(cluster.service("/web").revisions.len(), 1);
}

#[test]
fn a_document_without_the_key_keeps_the_goal() {
    let mut cluster = stopped();
    let unchanged = cluster.apply([service("/web", json!({}))]);
    assert_eq!(change_summaries(&unchanged), ["service /web unchanged"]);
    cluster.apply([service("/web", version(2))]);
    let web = cluster.service("/web");
    assert_eq!((web.target, web.run), (2, Run::Stopped));
}

#[test]
fn a_document_with_the_key_changes_goal_and_revision_in_one_deployment() {
    let mut cluster = stopped();
    let mut fields = version(2);
    fields["run"] = json!("started");
    let applied = cluster.apply([service("/web", fields.clone())]);
    assert_eq!(applied.changes[0].run, Some(RunChange { from: Run::Stopped, to: Run::Started }));
    let web = cluster.service("/web");
    assert_eq!((web.target, web.run, web.spec().run), (2, Run::Started, None));
    let m = &cluster.deployment(3).moves[0];
    assert_eq!((m.from, m.to), (Some(1), Some(2)));
    let again = cluster.apply([service("/web", fields)]);
    assert_eq!(change_summaries(&again), ["service /web unchanged"]);
}

#[test]
fn a_revision_settles_only_with_instances() {
    let mut cluster = stopped();
    cluster.apply([service("/web", version(2))]);
    cluster.settle("/web");
    let web = cluster.service("/web");
    assert_eq!((web.target, web.settled, web.deployment), (2, Some(1), None));
}

#[test]
fn an_aborted_deployment_restores_the_goal_and_blocks_no_revision() {
    let mut cluster = settled();
    cluster.run(set_run(&["/web"], Run::Stopped)).unwrap();
    cluster.steer(2, Steer::Abort).unwrap();
    let web = cluster.service("/web");
    assert_eq!((web.run, web.target, web.head.failed), (Run::Started, 1, None));
    cluster.settle("/web");
    assert!(matches!(cluster.deployment(2).stage, Stage::RolledBack { .. }));
}

#[test]
fn a_failed_deployment_restores_the_goals_of_services_that_had_arrived() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({})), service("/web", json!({}))]);
    cluster.settle("/a");
    cluster.settle("/web");
    cluster.apply([service("/a", json!({"run": "stopped"})), service("/web", version(2))]);
    cluster.settle("/a");
    cluster.adopt(fail(2, "/web")).unwrap();
    assert_eq!(cluster.service("/a").run, Run::Started);

    // Another deployment has changed the goal since: it stays.
    let mut cluster = stopped();
    cluster.apply([service("/b", json!({})), service("/web", json!({"run": "started"}))]);
    cluster.settle("/web");
    cluster.run(set_run(&["/web"], Run::Stopped)).unwrap();
    cluster.steer(3, Steer::Abort).unwrap();
    assert_eq!(cluster.service("/web").run, Run::Stopped);
}

#[test]
fn an_unknown_service_is_rejected_before_anything_changes() {
    let mut cluster = settled();
    let refused = cluster.run(set_run(&["/web", "/wev"], Run::Stopped));
    assert!(refused.is_err());
    assert_eq!(cluster.service("/web").run, Run::Started);
}
