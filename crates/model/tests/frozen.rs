//! Frozen services: `frozen` in documents, and the commands that freeze, thaw and force.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{ChangeKind, Command, Guard, Outcome, Proposal, Refusal, Run, Selection, What};
use serde_json::json;
use support::*;

fn set_frozen(frozen: bool) -> Command {
    let resources = Selection::default();
    Command::SetFrozen { services: vec![service_id("/web")], resources, frozen }
}

fn set_frozen_resource(name: &str, frozen: bool) -> Command {
    let names = [name.parse().unwrap()].into();
    let resources = Selection { names, ..Selection::default() };
    Command::SetFrozen { services: vec![service_id("/web")], resources, frozen }
}

fn forced(cluster: &mut Cluster, command: Command) -> Outcome {
    let guard = Guard { force: true, ..Guard::default() };
    cluster.propose(Proposal { guard, ..Proposal::usual(command) })
}

fn frozen() -> Cluster {
    let mut cluster = settled();
    cluster.run(set_frozen(true)).unwrap();
    cluster
}

fn is_frozen(cluster: &Cluster) -> bool {
    cluster.state.is_frozen(&cluster.service("/web"))
}

#[test]
fn freezing_needs_neither_a_deployment_nor_a_revision() {
    let mut cluster = settled();
    let applied = cluster.run(set_frozen(true)).unwrap();
    let change = &applied.changes[0];
    assert_eq!(
        (change.verdict, change.frozen, change.deployment),
        (ChangeKind::Updated, Some(true), None)
    );
    assert_eq!(applied.events[0].what, What::Frozen);
    assert!(is_frozen(&cluster));
    assert_eq!(
        change_summaries(&cluster.run(set_frozen(true)).unwrap()),
        ["service /web unchanged"]
    );
    assert_eq!(cluster.run(set_frozen(false)).unwrap().events[0].what, What::Thawed);
    let web = cluster.service("/web");
    assert_eq!((web.frozen, web.deployment, web.revisions.len()), (false, None, 1));
}

#[test]
fn a_command_that_acts_on_a_frozen_service_needs_force() {
    let web = || service_id("/web");
    let commands = || {
        [
            Command::Scale { service: web(), instances: 2 },
            restart("/web"),
            undo("/web", Some(1)),
            Command::SetRun { services: vec![web()], run: Run::Stopped },
            Command::RemoveServices(vec![web()]),
            Command::Kill { instances: vec![instance_id("/web~0.1")], scale: false },
            Command::ResetDelay { service: web() },
        ]
    };
    for command in commands() {
        let mut cluster = frozen();
        assert_eq!(cluster.run(command.clone()), Err(Refusal::Frozen { service: web() }));
        forced(&mut cluster, command).unwrap();
    }
    let mut thawed = frozen();
    thawed.run(set_frozen(false)).unwrap();
    commands().into_iter().for_each(|command| drop(thawed.clone().run(command).unwrap()));
}

#[test]
fn a_forced_deployment_acts_until_its_end() {
    let mut cluster = frozen();
    forced(&mut cluster, restart("/web")).unwrap();
    assert!(cluster.deployment(2).forced && !is_frozen(&cluster));
    cluster.settle("/web");
    assert!(is_frozen(&cluster));
}

#[test]
fn documents_change_the_target_of_a_frozen_service() {
    let mut cluster = frozen();
    cluster.apply([service("/web", version(2))]);
    assert_eq!(cluster.service("/web").target, 2);
    assert!(is_frozen(&cluster) && !cluster.deployment(2).forced);
}

#[test]
fn a_document_freezes_and_thaws_and_omits_to_keep() {
    let mut cluster = settled();
    let applied = cluster.apply([service("/web", json!({"frozen": true}))]);
    assert_eq!(change_summaries(&applied), ["service /web updated"]);
    let web = cluster.service("/web");
    assert_eq!((web.frozen, web.spec().frozen, web.target), (true, None, 1));
    assert_eq!(
        change_summaries(&cluster.apply([service("/web", json!({}))])),
        ["service /web unchanged"]
    );
    cluster.apply([service("/web", json!({"frozen": false}))]);
    assert!(!is_frozen(&cluster));
}

#[test]
fn the_deadline_of_a_deployment_starts_again_with_a_thaw() {
    let mut cluster = settled();
    cluster.apply([service("/web", version(2))]);
    cluster.adopt(progress("/web", 0)).unwrap();
    cluster.run(set_frozen(true)).unwrap();
    cluster.later(600_000);
    cluster.run(set_frozen(false)).unwrap();
    assert_eq!(cluster.deployment(2).moves[0].progressed_at, Some(cluster.now));
}

#[test]
fn resources_are_frozen_while_the_service_is_not() {
    let mut cluster = settled();
    let applied = cluster.run(set_frozen_resource("main", true)).unwrap();
    let resources = vec!["main".parse().unwrap()];
    assert_eq!(applied.events[0].what, What::ResourcesFrozen { resources: resources.clone() });
    assert_eq!(applied.changes[0].note.as_deref(), Some("frozen: main"));
    let web = cluster.service("/web");
    assert!(!is_frozen(&cluster) && web.frozen_resources == resources.into_iter().collect());
    assert_eq!(cluster.run(set_frozen_resource("main", true)).unwrap().events, []);
    cluster.run(set_frozen_resource("main", false)).unwrap();
    assert!(cluster.service("/web").frozen_resources.is_empty());
    let unknown = cluster.run(set_frozen_resource("maim", true)).unwrap_err().to_string();
    assert_eq!(unknown, "there is no resource of /web named `maim`; did you mean `main`?");
}

#[test]
fn a_thaw_of_the_service_thaws_its_resources() {
    let mut cluster = settled();
    cluster.run(set_frozen_resource("main", true)).unwrap();
    cluster.run(set_frozen(true)).unwrap();
    let refused = cluster.run(set_frozen_resource("main", false));
    assert!(matches!(refused, Err(Refusal::Conflict { .. })), "{refused:?}");
    cluster.run(set_frozen(false)).unwrap();
    assert!(!is_frozen(&cluster) && cluster.service("/web").frozen_resources.is_empty());
}
