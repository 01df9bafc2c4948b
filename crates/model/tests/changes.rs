//! Commands on services and their results: moves, outcomes, refusals.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{
    BundleSpec, Cause, Command, Deployment, DeploymentId, Document, Goal, Guard, Move, MoveState,
    Origin, Principal, Proposal, Refusal, Source, Stage, Step, StopReason, Subject, Timestamp,
};
use serde_json::json;
use support::*;

#[test]
fn documents_create_and_update_services_or_leave_them_unchanged() {
    let mut cluster = Cluster::of(&[]);
    let web = |fields| service("/web", fields);
    let public = |to: &str| gateway("public", "8080", &[to]);
    let ports = || json!({"ports": [{"name": "http"}, {"name": "admin"}]});
    let bundle = |depends_on: &[&str]| {
        let depends_on = depends_on.iter().map(|path| service_id(path)).collect();
        Document::Bundle(BundleSpec { depends_on, ..BundleSpec::new(&service_id("/shop")) })
    };
    let applied = cluster.apply([web(ports()), public("/web:http"), bundle(&[])]);
    let all = ["bundle /shop created", "gateway public created", "service /web created"];
    assert_eq!(change_summaries(&applied), all);
    assert_eq!(emitted(&applied), ["gateway-applied public", "deployment-started d-1"]);

    let applied = cluster.apply([web(ports()), public("/web:http"), bundle(&[])]);
    let all = ["bundle /shop unchanged", "gateway public unchanged", "service /web unchanged"];
    assert_eq!(change_summaries(&applied), all);
    assert_eq!(emitted(&applied), [""; 0]);
    assert_eq!(applied.changes[2].revision, Some(1), "it says at which revision it is");

    let mut more = ports();
    more["instances"] = json!(3);
    let applied = cluster.apply([web(more), public("/web:admin"), bundle(&["/web"])]);
    let all = ["bundle /shop updated", "gateway public updated", "service /web updated"];
    assert_eq!(change_summaries(&applied), all);
    assert_eq!(cluster.state.bundle(&service_id("/shop")).unwrap().revision, 2);
    assert_eq!(applied.changes[2].revision, Some(2));
    assert_eq!(applied.changes[2].deployment, Some(DeploymentId(2)));

    let applied = cluster.apply([Document::Remove(Subject::Bundle(service_id("/shop")))]);
    assert_eq!(change_summaries(&applied), ["bundle /shop removed"]);
    let applied = cluster.apply([Document::Remove(Subject::Bundle(service_id("/shop")))]);
    assert_eq!(change_summaries(&applied), [""; 0]);
}

#[test]
fn one_deployment_moves_all_services_of_one_command() {
    let mut cluster = settled();
    let applied = cluster.apply([service("/web", version(2)), service("/api", json!({}))]);
    assert_eq!(emitted(&applied), ["deployment-started d-2"]);
    let moving = |path: &str, from, aimed, to| Move {
        service: service_id(path),
        from,
        aimed,
        to: Some(to),
        run: None,
        state: MoveState::Moving,
        ready: 0,
        progressed_at: None,
        failure: None,
    };
    let deployment = cluster.deployment(2);
    let moves = [moving("/api", None, None, 1), moving("/web", Some(1), Some(1), 2)];
    assert_eq!(deployment.moves, moves, "in the order of their paths");
    assert_eq!((deployment.cause, &deployment.stage), (Cause::Apply, &Stage::Running));
    assert_eq!(deployment.created_at, cluster.now);
    for path in ["/web", "/api"] {
        assert_eq!(cluster.service(path).deployment, Some(DeploymentId(2)));
    }
}

#[test]
fn a_deployment_names_ten_services_and_counts_the_rest() {
    for (count, expected) in [
        (2, "apply of /s0, /s1"),
        (10, "apply of /s0, /s1, /s2, /s3, /s4, /s5, /s6, /s7, /s8, /s9"),
        (12, "apply of /s0, /s1, /s10, /s11, /s2, /s3, /s4, /s5, /s6, /s7 and 2 more"),
    ] {
        let all: Vec<_> = (0..count).map(|n| service(&format!("/s{n}"), json!({}))).collect();
        let applied = Cluster::of(&[]).apply(all);
        assert_eq!(applied.events[0].what.to_string(), expected);
    }
}

#[test]
fn a_newer_deployment_supersedes_earlier_moves() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({})), service("/b", json!({}))]);
    let applied = cluster.apply([service("/a", version(2))]);
    assert_eq!(emitted(&applied), ["deployment-started d-2"]);
    let states: Vec<_> = cluster.deployment(1).moves.iter().map(|m| m.state).collect();
    assert_eq!(states, [MoveState::Superseded, MoveState::Moving]);
    assert_eq!(cluster.deployment(1).stage, Stage::Running, "it moves the other one still");
    let applied = cluster.apply([service("/b", version(2))]);
    assert_eq!(emitted(&applied), ["deployment-superseded d-1", "deployment-started d-3"]);
    let stage = Stage::Superseded { by: DeploymentId(3), at: cluster.now };
    assert_eq!(cluster.deployment(1).stage, stage);
}

#[test]
fn a_service_is_removed_only_together_with_its_dependents() {
    let all = || [service("/db", json!({})), service("/web", json!({"depends_on": ["/db"]}))];
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply(all());
    let message = conflict(cluster.remove(&["/db"]));
    assert!(message.contains("/web depends on /db"), "{message}");
    let mut both = cluster.clone();
    let applied = both.remove(&["/db", "/web"]).unwrap();
    assert_eq!(change_summaries(&applied), ["service /db removed", "service /web removed"]);
    assert_eq!(both.deployment(2).cause, Cause::Remove);
    cluster.remove(&["/web"]).unwrap();
    cluster.remove(&["/db"]).unwrap();
}

#[test]
fn a_removal_continues_until_the_service_is_applied_again() {
    let mut cluster = settled();
    let applied = cluster.remove(&["/web"]).unwrap();
    assert_eq!(applied.changes[0].deployment, Some(DeploymentId(2)));
    assert_eq!(cluster.deployment(2).moves[0].to, None);
    let applied = cluster.remove(&["/web"]).unwrap();
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
    assert!(applied.changes[0].note.is_some(), "it says that it is being removed already");
    type Reapply = fn(&mut Cluster);
    let again: [Reapply; 3] = [
        |cluster| drop(cluster.scale("/web", 1)),
        |cluster| drop(cluster.apply([service("/web", json!({}))])),
        |cluster| drop(cluster.run(restart("/web")).unwrap()),
    ];
    for again in again {
        let mut cluster = cluster.clone();
        again(&mut cluster);
        assert!(!cluster.service("/web").removing);
        let moved = &cluster.deployment(3).moves[0];
        assert_eq!((moved.from, moved.aimed, moved.to), (Some(1), None, Some(2)));
    }
}

#[test]
fn a_foreign_document_makes_a_revision_only_if_it_differs() {
    let document = |text: &str| {
        let source = Source { adapter: "other".into(), text: text.into() };
        Document::foreign(spec("/web", json!({})), source)
    };
    let mut cluster = settled();
    cluster.later(1000);
    let applied = cluster.apply([document("one")]);
    assert_eq!(change_summaries(&applied), ["service /web updated"], "it was Muster's own");
    assert_eq!(cluster.service("/web").target().configured_at, None);
    let applied = cluster.apply([document("one")]);
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
    let applied = cluster.apply([document("two")]);
    assert_eq!(change_summaries(&applied), ["service /web updated"]);
    let applied = cluster.apply([service("/web", json!({}))]);
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
}

#[test]
fn a_failed_document_is_not_retried_automatically() {
    for on_failure in ["rollback", "hold"] {
        let mut cluster = settled();
        let mut broken = version(2);
        broken["rollout"] = json!({"on_failure": on_failure});
        cluster.apply([service("/web", broken.clone())]);
        cluster.adopt(fail(2, "/web")).unwrap();
        let applied = cluster.apply([service("/web", broken.clone())]);
        assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
        let note = applied.changes[0].note.clone().unwrap();
        assert!(note.contains("apply --retry") && note.contains("it is broken"), "{note}");
        let guard = Guard { retry: true, ..Guard::default() };
        let retry = Command::Apply(vec![service("/web", broken.clone())]);
        let mut retried = cluster.clone();
        let applied = retried.propose(Proposal { guard, ..Proposal::operator(retry) }).unwrap();
        assert_eq!(change_summaries(&applied), ["service /web updated"]);
        let web = retried.service("/web");
        assert_eq!((web.target, web.target().template, &web.failed), (3, 2, &None));
        let applied = cluster.apply([service("/web", version(3))]);
        assert_eq!(change_summaries(&applied), ["service /web updated"]);
        assert_eq!(cluster.service("/web").failed, None);
        let applied = cluster.apply([service("/web", broken)]);
        assert_eq!(change_summaries(&applied), ["service /web updated"], "it was let go");
    }
}

#[test]
fn a_service_rolled_back_matches_its_earlier_document() {
    let mut cluster = settled();
    cluster.apply([service("/web", version(2))]);
    cluster.adopt(fail(2, "/web")).unwrap();
    let applied = cluster.apply([service("/web", json!({}))]);
    assert_eq!(change_summaries(&applied), ["service /web unchanged"]);
    assert_eq!(applied.changes[0].note, None);
}

#[test]
fn killed_instances_drain_at_once() {
    let mut cluster = Cluster::of(&["n1"]);
    let stop = json!({"drain": "5s"});
    cluster.apply([service("/web", json!({"instances": 3, "stop": stop}))]);
    cluster.settle("/web");
    let kill = |instances: &[&str], scale| {
        let instances = instances.iter().map(|instance| instance_id(instance)).collect();
        Command::Kill { instances, scale }
    };
    let both = ["/web~0.1", "/web~2.1"];
    let applied = cluster.run(kill(&both, false)).unwrap();
    assert_eq!(emitted(&applied), both.map(|instance| format!("draining {instance}")));
    for instance in both {
        let until = Timestamp(cluster.now.0 + 5000);
        let goal = Goal::Drain { until, why: StopReason::Requested };
        assert_eq!(cluster.state.placement(&instance_id(instance)).unwrap().goal, goal);
    }
    assert_eq!(cluster.service("/web").wanted(), 3, "they are replaced");

    let gone = ["/web~0.1", "/web~1.9", "/no~0.1"];
    let applied = cluster.run(kill(&gone, true)).unwrap();
    assert_eq!(
        (emitted(&applied), change_summaries(&applied)),
        (vec![], vec![]),
        "they are passed over"
    );
}

#[test]
fn a_kill_may_lower_the_number_of_instances() {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/a", json!({"instances": 4})), service("/b", json!({}))]);
    cluster.settle("/a");
    cluster.settle("/b");
    let instances: Vec<_> =
        ["/a~0.1", "/a~2.1", "/a~3.1", "/b~0.1"].map(instance_id).into_iter().collect();
    let kill = Command::Kill { instances, scale: true };
    let mut removing = cluster.clone();
    removing.remove(&["/a", "/b"]).unwrap();
    let applied = removing.run(kill.clone()).unwrap();
    assert_eq!(
        (applied.events.len(), change_summaries(&applied)),
        (4, vec![]),
        "they go in any case"
    );

    let applied = cluster.run(kill).unwrap();
    assert_eq!(change_summaries(&applied), ["service /a updated", "service /b updated"]);
    assert_eq!((cluster.service("/a").wanted(), cluster.service("/b").wanted()), (1, 0));
    assert_eq!(cluster.deployment(2).cause, Cause::Scale);
}

#[test]
fn a_command_of_a_user_resets_the_backoff() {
    let mut cluster = settled();
    let failed = Step::Stop { instance: instance_id("/web~0.1"), why: StopReason::Unhealthy };
    cluster.adopt(failed).unwrap();
    assert_eq!(cluster.service("/web").slot(0).failures, 1);
    let mut changed = cluster.clone();
    changed.scale("/web", 2);
    assert_eq!(changed.service("/web").slot(0).failures, 0, "a change is a new chance");
    let reset = Command::ResetDelay { service: service_id("/web") };
    let applied = cluster.run(reset).unwrap();
    assert_eq!(change_summaries(&applied), ["service /web updated"]);
    assert_eq!(emitted(&applied), ["delay-reset /web"]);
    let service = cluster.service("/web");
    assert_eq!((service.slot(0).failures, service.retries), (0, 1));
}

#[test]
fn unknown_names_are_rejected_with_a_suggestion() {
    let mut cluster = settled();
    let missing = service_id("/wev");
    for command in [
        Command::Scale { service: missing.clone(), instances: 1 },
        restart("/wev"),
        undo("/wev", None),
        Command::RemoveServices(vec![service_id("/web"), missing.clone()]),
        Command::ResetDelay { service: missing },
    ] {
        let refusal = cluster.run(command).unwrap_err();
        let (name, nearest) = ("/wev".into(), Some("/web".into()));
        assert_eq!(refusal, Refusal::Unknown { kind: "service".into(), name, nearest });
    }
}

#[test]
fn a_guarded_command_requires_the_revisions_that_were_seen() {
    let mut cluster = settled();
    let scale = |path: &str, seen| Proposal {
        guard: Guard { seen: vec![(service_id(path), seen)], ..Guard::default() },
        ..Proposal::operator(Command::Scale { service: service_id("/web"), instances: 0 })
    };
    for (path, seen, holds) in [
        ("/web", Some(1), true),
        ("/web", Some(2), false),
        ("/web", None, false),
        ("/no", None, true),
        ("/no", Some(1), false),
    ] {
        let outcome = cluster.clone().propose(scale(path, seen));
        let changed = Refusal::Changed { service: service_id(path) };
        assert_eq!(outcome.err(), (!holds).then_some(changed), "{path} at {seen:?}");
    }
    cluster.remove(&["/web"]).unwrap();
    assert!(cluster.clone().propose(scale("/web", Some(1))).is_err(), "it is as good as gone");
    assert!(cluster.propose(scale("/web", None)).is_ok());
}

#[test]
fn a_guarded_command_requires_that_services_are_not_moving() {
    let mut cluster = settled();
    cluster.apply([service("/api", json!({}))]);
    cluster.apply([service("/db", json!({}))]);
    let scale = |still: &[&str]| Proposal {
        guard: Guard {
            still: still.iter().map(|path| service_id(path)).collect(),
            ..Guard::default()
        },
        ..Proposal::operator(Command::Scale { service: service_id("/web"), instances: 0 })
    };
    assert!(cluster.clone().propose(scale(&["/web", "/no"])).is_ok());
    let refusal = cluster.propose(scale(&["/web", "/db", "/api"])).unwrap_err();
    let by = vec![DeploymentId(2), DeploymentId(3)];
    assert_eq!(refusal, Refusal::Moving { service: service_id("/db"), by });
    cluster.steer(2, muster_model::Steer::Pause).unwrap();
    assert!(cluster.propose(scale(&["/api"])).is_ok(), "one that is paused moves nothing");
}

#[test]
fn a_deployment_stores_its_author() {
    let mut cluster = settled();
    let origin = Origin { client: "10.0.0.9".into(), uri: "/v2/apps".into() };
    let by = Principal::User("ada".into());
    let proposal =
        Proposal { via: Some(origin.clone()), ..Proposal::new(by.clone(), restart("/web")) };
    let applied = cluster.propose(proposal).unwrap();
    assert!(!applied.events.is_empty());
    assert!(applied.events.iter().all(|event| event.by.as_ref() == Some(&by)));
    let created = |number| {
        let Deployment { by, via, .. } = cluster.deployment(number).clone();
        (by, via)
    };
    assert_eq!(created(1), (Some(Principal::operator()), None));
    assert_eq!(created(2), (Some(by.clone()), Some(origin)));
    // The planner does the rest.
    let applied =
        cluster.adopt(Step::Stop { instance: instance_id("/web~0.1"), why: StopReason::Replaced });
    assert_eq!(applied.unwrap().events[0].by, None);
}
