//! Steering of deployments: pause, resume, abort, fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{
    ChangeKind, Command, DeploymentId, Document, FailedRevision, MoveState, Refusal, Stage, Steer,
    Step, StopReason,
};
use serde_json::json;
use support::*;

const PATHS: [&str; 3] = ["/a", "/b", "/c"];

fn versions(n: u32) -> [Document; 3] {
    PATHS.map(|path| service(path, json!({"env": {"VERSION": n.to_string()}})))
}

/// Three services at their first revision, and a second deployment: `/a` has arrived again, `/b`
/// has begun to move, `/c` has not.
fn in_progress() -> Cluster {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(versions(1));
    settle_all(&mut cluster);
    cluster.later(1000);
    cluster.apply(versions(2));
    cluster.adopt(progress("/a", 0)).unwrap();
    cluster.settle("/a");
    cluster.adopt(progress("/b", 0)).unwrap();
    cluster.later(1000);
    cluster
}

fn settle_all(cluster: &mut Cluster) {
    for path in PATHS {
        cluster.settle(path);
    }
}

fn states(cluster: &Cluster, deployment: u64) -> Vec<MoveState> {
    cluster.deployment(deployment).moves.iter().map(|m| m.state).collect()
}

fn targets(cluster: &Cluster) -> [u32; 3] {
    PATHS.map(|path| cluster.service(path).target)
}

/// The failed revision that each service blocks.
fn blocked(cluster: &Cluster) -> [Option<u32>; 3] {
    PATHS.map(|path| cluster.service(path).head.failed.map(|failed| failed.revision))
}

#[test]
fn a_deployment_cannot_leave_a_final_stage() {
    let stage = |path: &str| {
        let mut cluster = in_progress();
        match path {
            "running" => {}
            "paused" => drop(cluster.steer(2, Steer::Pause).unwrap()),
            "rolling-back" => drop(cluster.steer(2, Steer::Abort).unwrap()),
            "superseded" => drop(cluster.apply(versions(3)[1..].to_vec())),
            "succeeded" => drop(["/b", "/c"].map(|path| cluster.settle(path))),
            "rolled-back" => {
                cluster.steer(2, Steer::Abort).unwrap();
                settle_all(&mut cluster);
            }
            "rollback-failed" => {
                cluster.steer(2, Steer::Abort).unwrap();
                cluster.adopt(fail(2, "/a")).unwrap();
                drop(["/b", "/c"].map(|path| cluster.settle(path)));
            }
            "held" => {
                let held = json!({"rollout": {"on_failure": "hold"}});
                cluster.apply([service("/a", held)]);
                cluster.adopt(fail(3, "/a")).unwrap();
            }
            other => panic!("{other}"),
        }
        cluster
    };
    use Steer::{Abort, Pause, Resume};
    for (from, expected) in [
        ("running", [(Pause, "paused"), (Resume, "running"), (Abort, "rolling-back")]),
        ("paused", [(Pause, "paused"), (Resume, "running"), (Abort, "rolling-back")]),
        ("held", [(Pause, "refused"), (Resume, "running"), (Abort, "rolling-back")]),
        ("rolling-back", [(Pause, "refused"), (Resume, "refused"), (Abort, "rollback-failed")]),
        ("succeeded", [(Pause, "refused"), (Resume, "refused"), (Abort, "refused")]),
        ("superseded", [(Pause, "refused"), (Resume, "refused"), (Abort, "refused")]),
        ("rolled-back", [(Pause, "refused"), (Resume, "refused"), (Abort, "refused")]),
        ("rollback-failed", [(Pause, "refused"), (Resume, "refused"), (Abort, "refused")]),
    ] {
        for (how, to) in expected {
            let mut cluster = stage(from);
            let id = if from == "held" { 3 } else { 2 };
            assert_eq!(cluster.deployment(id).stage.word(), from);
            let outcome = cluster.steer(id, how);
            if to == "refused" {
                let Err(Refusal::Conflict { message }) = outcome else { panic!("{outcome:?}") };
                let is_over = cluster.deployment(id).stage.is_over();
                assert_eq!(message.contains("is over"), is_over, "{message}");
                continue;
            }
            assert_eq!(cluster.deployment(id).stage.word(), to, "{how:?} while {from}");
            let verdict = if from == to { ChangeKind::Unchanged } else { ChangeKind::Updated };
            let changes = outcome.unwrap().changes;
            let changes: Vec<_> = changes.iter().map(|c| (c.name.as_str(), c.verdict)).collect();
            assert_eq!(changes, [(DeploymentId(id).to_string().as_str(), verdict)]);
        }
    }
}

#[test]
fn an_unknown_deployment_is_rejected_with_a_suggestion() {
    let (name, nearest) = ("d-3".to_string(), Some("d-2".to_string()));
    let refusal = in_progress().steer(3, Steer::Pause).unwrap_err();
    assert_eq!(refusal, Refusal::Unknown { kind: "deployment".into(), name, nearest });
}

#[test]
fn paused_time_does_not_count_towards_the_deadline() {
    let mut cluster = in_progress();
    let progressed = |cluster: &Cluster| {
        let moves = cluster.deployment(2).moves.iter();
        moves.map(|m| m.progressed_at).collect::<Vec<_>>()
    };
    let before = progressed(&cluster);
    let paused = cluster.steer(2, Steer::Pause).unwrap();
    assert_eq!(emitted(&paused), ["deployment-paused d-2"]);
    cluster.later(60_000);
    let resumed = cluster.steer(2, Steer::Resume).unwrap();
    assert_eq!(emitted(&resumed), ["deployment-resumed d-2"]);
    let expected = [before[0], Some(cluster.now), None];
    assert_eq!(progressed(&cluster), expected, "what has not begun has no time to lose");
}

#[test]
fn a_failed_deployment_rolls_back_all_its_services() {
    let mut cluster = in_progress();
    let unhealthy = Step::Stop { instance: instance_id("/a~0.2"), why: StopReason::Unhealthy };
    cluster.adopt(unhealthy).unwrap();
    assert_eq!(cluster.service("/a").slot(0).failures, 1);
    let applied = cluster.adopt(fail(2, "/b")).unwrap();
    assert_eq!(emitted(&applied), ["deployment-rolling-back d-2"]);
    let reason = broken();
    let deployment = cluster.deployment(2);
    assert_eq!(deployment.stage, Stage::RollingBack { reason: reason.clone() });
    for m in &deployment.moves {
        let moved = (m.state, m.ready, m.progressed_at);
        assert_eq!(moved, (MoveState::Moving, 0, None), "{}", m.service);
    }
    let failed = FailedRevision { revision: 2, reason, at: cluster.now };
    for path in PATHS {
        let service = cluster.service(path);
        assert_eq!((service.target, service.deployment), (1, Some(DeploymentId(2))));
    }
    assert_eq!(cluster.service("/b").failed, Some(failed));
    assert_eq!(cluster.service("/a").slot(0).failures, 0);
    settle_all(&mut cluster);
    assert_eq!(cluster.deployment(2).stage.word(), "rolled-back");
    assert_eq!(blocked(&cluster), [None, Some(2), None], "the others did not fail");
}

/// The revisions of the other services of a deployment used to be blocked as well, by a failure that
/// another service had caused.
#[test]
fn a_failure_blocks_only_the_service_that_caused_it() {
    let mut cluster = in_progress();
    cluster.adopt(fail(2, "/b")).unwrap();
    settle_all(&mut cluster);
    let mended = service("/b", json!({"env": {"VERSION": "mended"}}));
    let [a, _, c] = versions(2);
    let applied = cluster.apply([a, mended, c]);
    let updated = PATHS.map(|path| format!("service {path} updated"));
    assert_eq!(change_summaries(&applied), updated);
    settle_all(&mut cluster);
    assert_eq!((targets(&cluster), blocked(&cluster)), ([3; 3], [None; 3]));
}

#[test]
fn an_abort_blocks_the_revisions_that_were_on_their_way() {
    let mut cluster = in_progress();
    cluster.steer(2, Steer::Abort).unwrap();
    let expected = [None, Some(2), None];
    assert_eq!(blocked(&cluster), expected, "/a has arrived, and /c has not begun");
}

#[test]
fn a_failed_deployment_is_held_if_a_service_requires_it() {
    let mut cluster = in_progress();
    let held = json!({"rollout": {"on_failure": "hold"}, "env": {"VERSION": "3"}});
    cluster.apply([service("/a", held), service("/b", json!({})), service("/c", json!({}))]);
    cluster.adopt(progress("/b", 0)).unwrap();
    cluster.settle("/b");
    let applied = cluster.adopt(fail(3, "/a")).unwrap();
    assert_eq!(emitted(&applied), ["deployment-held d-3"]);
    assert_eq!(cluster.deployment(3).stage, Stage::Held { reason: broken() });
    assert_eq!(blocked(&cluster), [Some(3), None, None], "the others did not fail");
    assert_eq!(targets(&cluster), [3, 3, 3]);
    let again = cluster.stale(fail(3, "/a"));
    assert_eq!(again, "the deployment has advanced");
    cluster.steer(3, Steer::Resume).unwrap();
    assert_eq!(blocked(&cluster), [None; 3], "they are tried again");
}

#[test]
fn a_stale_failure_is_rejected() {
    let has_advanced = "the deployment has advanced";
    let cluster = in_progress();
    assert_eq!(cluster.clone().stale(fail(9, "/b")), has_advanced, "there is no such deployment");
    assert_eq!(cluster.clone().stale(fail(2, "/no")), has_advanced, "it moves no such service");
    assert_eq!(cluster.clone().stale(fail(2, "/a")), has_advanced, "it has arrived");
    let mut paused = cluster.clone();
    paused.steer(2, Steer::Pause).unwrap();
    assert_eq!(paused.stale(fail(2, "/b")), has_advanced);
    let mut taken = cluster;
    taken.apply(versions(3)[1..2].to_vec());
    assert_eq!(taken.stale(fail(2, "/b")), has_advanced, "another one moves it");
}

#[test]
fn a_new_service_cannot_roll_back() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(versions(1));
    let applied = cluster.adopt(fail(1, "/a")).unwrap();
    assert_eq!(emitted(&applied), ["deployment-held d-1"], "nothing has run before");
    assert_eq!(blocked(&cluster), [Some(1), None, None]);

    // Together with services that can roll back, it stays and has no deployment.
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(versions(1)[..1].to_vec());
    cluster.settle("/a");
    cluster.apply(versions(2));
    cluster.settle("/c");
    cluster.adopt(fail(2, "/a")).unwrap();
    let expected = [MoveState::Moving, MoveState::Abandoned, MoveState::Done];
    assert_eq!(states(&cluster, 2), expected);
    assert_eq!((targets(&cluster), blocked(&cluster)), ([1, 1, 1], [Some(2), None, None]));
    let moved_by = PATHS.map(|path| cluster.service(path).deployment);
    assert_eq!(moved_by, [Some(DeploymentId(2)), None, None]);
    cluster.settle("/a");
    assert_eq!(cluster.deployment(2).stage.word(), "rolled-back");
}

/// The abort of a first deployment used to hold it, and the hint was to abort it.
#[test]
fn an_abort_removes_new_services() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(versions(1));
    cluster.settle("/c");
    cluster.adopt(fail(1, "/a")).unwrap();
    assert_eq!(cluster.deployment(1).stage.word(), "held");
    let applied = cluster.steer(1, Steer::Abort).unwrap();
    assert_eq!(emitted(&applied), ["deployment-rolling-back d-1"]);
    let removing = PATHS.map(|path| cluster.service(path).removing);
    assert_eq!(removing, [true, true, false], "/c has arrived");
    cluster.settle("/a");
    let applied = cluster.settle("/b");
    assert_eq!(emitted(&applied), ["removed /b", "deployment-rolled-back d-1"]);
    assert!(cluster.state.service(&service_id("/a")).is_none());
}

/// A rollback had no deadline, so it did not end when the earlier revision did not work either.
#[test]
fn a_rollback_without_progress_ends() {
    let mut cluster = in_progress();
    cluster.adopt(fail(2, "/b")).unwrap();
    let applied = cluster.adopt(fail(2, "/a")).unwrap();
    assert_eq!(emitted(&applied), [""; 0], "the others are still on their way");
    let expected = [MoveState::Abandoned, MoveState::Moving, MoveState::Moving];
    assert_eq!(states(&cluster, 2), expected);
    assert_eq!(cluster.deployment(2).moves[0].failure, Some(broken()));
    cluster.settle("/b");
    let applied = cluster.settle("/c");
    assert_eq!(emitted(&applied), ["arrived /c", "deployment-rollback-failed d-2"]);
    let (reason, cause, at) = (broken(), broken(), cluster.now);
    assert_eq!(cluster.deployment(2).stage, Stage::RollbackFailed { reason, cause, at });
    let a = cluster.service("/a");
    assert_eq!((a.target, a.deployment), (1, None), "the planner still brings it there");
}

#[test]
fn an_aborted_rollback_leaves_its_services_as_they_are() {
    let mut cluster = in_progress();
    cluster.steer(2, Steer::Abort).unwrap();
    let applied = cluster.steer(2, Steer::Abort).unwrap();
    assert_eq!(emitted(&applied), ["deployment-rollback-failed d-2"]);
    assert_eq!(states(&cluster, 2), [MoveState::Abandoned; 3]);
    assert_eq!(PATHS.map(|path| cluster.service(path).deployment), [None; 3]);

    // So does that of a rollback which removes a new service.
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(versions(1));
    cluster.steer(1, Steer::Abort).unwrap();
    cluster.steer(1, Steer::Abort).unwrap();
    assert!(PATHS.iter().all(|path| !cluster.service(path).removing));
}

/// A deployment rolls back the services that no other deployment has moved since.
#[test]
fn a_service_moved_by_another_deployment_does_not_roll_back() {
    type Since = fn(&mut Cluster);
    let cases: [(&str, Since, [u32; 3]); 5] = [
        ("nothing happened", |_| {}, [1, 1, 1]),
        ("it is moved", |cluster| drop(cluster.apply(versions(3)[..1].to_vec())), [3, 1, 1]),
        (
            "it has been moved",
            |cluster| {
                cluster.apply(versions(3)[..1].to_vec());
                cluster.settle("/a");
            },
            [3, 1, 1],
        ),
        ("it is being removed", |cluster| drop(cluster.remove(&["/a"]).unwrap()), [2, 1, 1]),
        ("another is moved", |cluster| drop(cluster.apply(versions(3)[1..2].to_vec())), [1, 3, 1]),
    ];
    for (why, since, expected) in cases {
        let mut cluster = in_progress();
        since(&mut cluster);
        let removing = cluster.service("/a").removing;
        cluster.steer(2, Steer::Abort).unwrap();
        assert_eq!(targets(&cluster), expected, "{why}");
        assert_eq!(cluster.service("/a").removing, removing, "{why}");
    }
    let mut cluster = in_progress();
    cluster.remove(&["/a"]).unwrap();
    cluster.settle("/a");
    cluster.steer(2, Steer::Abort).unwrap();
    assert!(cluster.state.service(&service_id("/a")).is_none(), "it is gone");
    assert_eq!(states(&cluster, 2), [MoveState::Done, MoveState::Moving, MoveState::Moving]);
}

#[test]
fn an_aborted_removal_keeps_the_services() {
    let mut cluster = in_progress();
    cluster.remove(&["/a", "/c"]).unwrap();
    cluster.steer(3, Steer::Abort).unwrap();
    assert_eq!(targets(&cluster), [2, 2, 1], "it goes back to what last arrived");
    assert!(PATHS.iter().all(|path| !cluster.service(path).removing));
    assert_eq!(blocked(&cluster), [None; 3], "no revision has failed");

    let mut cluster = Cluster::of(&[]);
    cluster.apply([service("/new", json!({}))]);
    cluster.remove(&["/new"]).unwrap();
    cluster.steer(2, Steer::Abort).unwrap();
    let service = cluster.service("/new");
    assert_eq!((service.target, service.removing), (1, false), "though it never arrived");
}

#[test]
fn a_paused_deployment_can_be_superseded() {
    let mut cluster = in_progress();
    cluster.steer(2, Steer::Pause).unwrap();
    cluster.run(Command::Restart { service: service_id("/b") }).unwrap();
    assert_eq!(cluster.deployment(2).stage, Stage::Paused);
    cluster.run(Command::Restart { service: service_id("/c") }).unwrap();
    assert_eq!(cluster.deployment(2).stage.word(), "superseded");
}
