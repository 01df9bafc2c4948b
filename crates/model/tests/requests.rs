//! Requests with an id are executed once, and every repetition has the first outcome.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model as model;

use model::{
    Command, Guard, Key, Outcome, Principal, Proposal, Refusal, RequestId, State, Timestamp,
};
use serde_json::json;
use support::{Cluster, restart, service, service_id, settled};

fn id(key: &str) -> RequestId {
    RequestId { key: key.parse().unwrap(), digest: 7 }
}

fn request(key: &str, command: Command) -> Proposal {
    Proposal { id: Some(id(key)), ..Proposal::operator(command) }
}

fn scale(instances: u32) -> Command {
    Command::Scale { service: service_id("/web"), instances }
}

/// Proposes as a server does, which records refusals.
fn propose(cluster: &mut Cluster, proposal: Proposal) -> Outcome {
    let (id, by) = (proposal.id.clone().unwrap(), proposal.by.clone());
    let outcome = cluster.propose(proposal);
    if let Err(refusal) = &outcome {
        cluster.state.record_refusal(id, by, refusal, cluster.now);
    }
    outcome
}

/// The same cluster as a server loads it after a restart.
fn reloaded(cluster: &Cluster) -> Cluster {
    Cluster { state: State::load(cluster.state.objects()), now: cluster.now }
}

#[test]
fn a_repeated_request_has_its_first_outcome_and_no_effect() {
    let mut cluster = settled();
    let first = propose(&mut cluster, request("a", scale(3))).unwrap();
    assert!(first.changed.contains(&Key::Request(id("a").key)));
    propose(&mut cluster, request("b", scale(5))).unwrap();
    let documents = vec![service("/api", json!({}))];
    propose(&mut cluster, request("c", Command::Apply(documents.clone()))).unwrap();
    cluster.later(60_000);
    for mut cluster in [reloaded(&cluster), cluster] {
        let again = propose(&mut cluster, request("a", scale(3))).unwrap();
        assert_eq!(again.changes, first.changes);
        assert!(again.changed.is_empty() && again.events.is_empty(), "{again:?}");
        assert_eq!(cluster.service("/web").spec().instances, 5);
        let again = propose(&mut cluster, request("c", Command::Apply(documents.clone())));
        assert_eq!(again.unwrap().changes[0].verdict, model::ChangeKind::Created);
    }
}

/// Its repetition must not revert what others have changed since.
#[test]
fn a_request_without_effect_is_stored_as_well() {
    let mut cluster = settled();
    propose(&mut cluster, request("a", scale(1))).unwrap();
    cluster.scale("/web", 4);
    propose(&mut cluster, request("a", scale(1))).unwrap();
    assert_eq!(cluster.service("/web").spec().instances, 4);
}

#[test]
fn a_rejected_request_stays_rejected() {
    let mut cluster = settled();
    let remove = || Command::RemoveServices(vec![service_id("/web")]);
    cluster.apply([service("/api", json!({"depends_on": ["/web"]}))]);
    let refusal = propose(&mut cluster, request("a", remove())).unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict { .. }), "{refusal:?}");
    let unknown = Command::Restart { service: service_id("/wev") };
    let unknown = propose(&mut cluster, request("b", unknown)).unwrap_err();
    cluster.apply([service("/api", json!({}))]);
    for mut cluster in [reloaded(&cluster), cluster] {
        assert_eq!(propose(&mut cluster, request("a", remove())), Err(refusal.clone()));
        assert_eq!(
            propose(&mut cluster, request("b", restart("/wev"))),
            Err(unknown.clone()),
            "the nearest name included"
        );
        assert!(propose(&mut cluster, request("c", remove())).is_ok());
    }
}

/// An adapter reloads the state and proposes its request again.
#[test]
fn a_request_for_an_outdated_state_is_not_a_verdict() {
    let mut cluster = settled();
    let seen = |revision| Proposal {
        guard: Guard { seen: vec![(service_id("/web"), Some(revision))], ..Guard::default() },
        ..request("a", scale(3))
    };
    let refusal = propose(&mut cluster, seen(8)).unwrap_err();
    assert_eq!(refusal, Refusal::Changed { service: service_id("/web") });
    assert!(propose(&mut cluster, seen(1)).is_ok());
    assert!(propose(&mut cluster, seen(8)).is_ok(), "it has been executed");
    let forbidden = Proposal { by: Principal::Planner, ..request("b", scale(3)) };
    assert!(propose(&mut cluster, forbidden).is_err());
    assert!(propose(&mut cluster, request("b", scale(3))).is_ok());
}

#[test]
fn another_request_with_the_same_id_is_rejected() {
    let mut cluster = settled();
    propose(&mut cluster, request("a", scale(3))).unwrap();
    let reused = Err(Refusal::RequestReused { key: id("a").key });
    let digest = 8;
    let other = Proposal { id: Some(RequestId { digest, ..id("a") }), ..request("a", scale(4)) };
    assert_eq!(propose(&mut cluster, other), reused);
    let by = Principal::User("ada".into());
    assert_eq!(propose(&mut cluster, Proposal { by, ..request("a", scale(3)) }), reused);
    assert_eq!(cluster.service("/web").spec().instances, 3);
    assert!(propose(&mut cluster, request("a", scale(3))).is_ok());
}

#[test]
fn an_outcome_is_dropped_after_a_day() {
    let mut cluster = settled();
    propose(&mut cluster, request("a", scale(3))).unwrap();
    cluster.scale("/web", 1);
    cluster.now = Timestamp(cluster.now.0 + 24 * 3_600_000 + 1);
    let applied = propose(&mut cluster, request("b", scale(2))).unwrap();
    assert!(applied.changed.contains(&Key::Request(id("a").key)), "its object is deleted");
    propose(&mut cluster, request("a", scale(3))).unwrap();
    assert_eq!(cluster.service("/web").spec().instances, 3);
}
