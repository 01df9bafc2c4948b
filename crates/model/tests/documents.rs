//! Validation of documents together and against the state.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model::{Command, Document, Refusal, Subject};
use serde_json::{Value, json};
use support::*;

/// The violations: the index of the document, the key and the message.
fn problems(cluster: &Cluster, documents: Vec<Document>) -> Vec<(usize, String, String)> {
    match cluster.clone().run(Command::Apply(documents)) {
        Ok(_) => Vec::new(),
        Err(Refusal::Invalid { problems }) => {
            problems.into_iter().map(|(i, problem)| (i, problem.key, problem.message)).collect()
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// The same without the messages.
fn invalid_keys(cluster: &Cluster, documents: Vec<Document>) -> Vec<(usize, String)> {
    problems(cluster, documents).into_iter().map(|(i, key, _)| (i, key)).collect()
}

fn no(path: &str) -> Document {
    Document::Remove(Subject::Service(service_id(path)))
}

fn needs(path: &str) -> Value {
    json!({"depends_on": [path]})
}

/// A service `/web` with a port `http` that no gateway routes to.
fn with_web() -> Cluster {
    let mut cluster = Cluster::of(&["n1"]);
    cluster.apply([service("/web", json!({"ports": [{"name": "http"}, {}]}))]);
    cluster
}

const NOTHING_WRONG: Vec<(usize, String)> = Vec::new();

#[test]
fn a_key_described_twice_is_rejected() {
    let cluster = with_web();
    let found = invalid_keys(&cluster, vec![service("/a", json!({})), service("/a", json!({}))]);
    assert_eq!(found, [(1, "service".to_string())]);
    let found =
        invalid_keys(&cluster, vec![service("/a", json!({})), foreign("/b", json!({})), no("/a")]);
    assert_eq!(found, [(2, "service".to_string())]);
    let twice = || gateway("public", "8080", &["/web"]);
    assert_eq!(invalid_keys(&cluster, vec![twice(), twice()]), [(1, "gateway".to_string())]);
    let group = || Document::Remove(Subject::Bundle(service_id("/a")));
    assert_eq!(invalid_keys(&cluster, vec![group(), group()]), [(1, "bundle".to_string())]);
    let alike = vec![service("/a", json!({})), group()];
    assert_eq!(invalid_keys(&cluster, alike), NOTHING_WRONG, "they are of different kinds");
}

#[test]
fn an_invalid_document_is_reported_at_its_index() {
    let both = vec![service("/a", json!({})), service("/b", json!({"process": {"command": ""}}))];
    let found = invalid_keys(&with_web(), both);
    assert!(!found.is_empty() && found.iter().all(|(i, _)| *i == 1), "{found:?}");
}

#[test]
fn dependencies_exist_or_are_applied_together() {
    let cluster = with_web();
    assert_eq!(invalid_keys(&cluster, vec![service("/a", needs("/web"))]), NOTHING_WRONG);
    let both = vec![service("/a", needs("/b")), service("/b", json!({}))];
    assert_eq!(invalid_keys(&cluster, both), NOTHING_WRONG);
    for documents in [vec![service("/a", needs("/wed"))], vec![foreign("/a", needs("/wed"))]] {
        let found = problems(&cluster, documents);
        let [(0, key, message)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(key, "depends_on");
        assert!(message.contains("did you mean `/web`?"), "{message}");
    }
    let found = invalid_keys(&cluster, vec![service("/a", needs("/web")), no("/web")]);
    assert!(found.contains(&(0, "depends_on".into())), "it goes in the same command: {found:?}");
    let mut removing = cluster;
    removing.remove(&["/web"]).unwrap();
    let found = invalid_keys(&removing, vec![service("/a", needs("/web"))]);
    assert_eq!(found, [(0, "depends_on".to_string())], "it is going");
}

#[test]
fn a_dependency_is_removed_only_by_an_adapter() {
    let mut cluster = with_web();
    cluster.apply([service("/own", needs("/web"))]);
    let found = problems(&cluster, vec![no("/web")]);
    let [(0, key, message)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(key, "service");
    assert!(message.contains("/own depends on /web"), "{message}");
    assert_eq!(invalid_keys(&cluster, vec![no("/web"), no("/own")]), NOTHING_WRONG);
    let let_go = vec![no("/web"), service("/own", json!({}))];
    assert_eq!(invalid_keys(&cluster, let_go), NOTHING_WRONG);

    let mut other = with_web();
    other.apply([foreign("/other", needs("/web"))]);
    let went = problems(&other, vec![no("/web")]);
    assert_eq!(went, [], "it no longer waits for that");
    let taken_over = vec![no("/web"), service("/other", needs("/web"))];
    assert_eq!(invalid_keys(&other, taken_over), [(1, "depends_on".to_string())]);
    // The last description decides which system owns a service.
    other.apply([service("/other", json!({"labels": {"a": "b"}, "depends_on": ["/web"]}))]);
    assert_eq!(invalid_keys(&other, vec![no("/web")]), [(0, "service".to_string())]);
    other.apply([foreign("/other", needs("/web"))]);
    assert_eq!(invalid_keys(&other, vec![no("/web")]), NOTHING_WRONG);
}

#[test]
fn dependency_cycles_are_rejected() {
    let mut cluster = with_web();
    let found = problems(
        &cluster,
        vec![service("/x", json!({})), service("/a", needs("/b")), service("/b", needs("/a"))],
    );
    let [(1, key, message)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(key, "depends_on");
    assert!(message.contains("/a -> /b -> /a"), "{message}");
    cluster.apply([service("/a", needs("/web"))]);
    let found = invalid_keys(&cluster, vec![foreign("/web", needs("/a"))]);
    assert_eq!(found, [(0, "depends_on".to_string())]);
}

#[test]
fn a_dependency_cycle_left_by_a_rollback_affects_no_other_service() {
    let mut cluster = Cluster::of(&["n1"]);
    let check = json!({"probe": {"command": "true"}});
    cluster.apply([service("/b", json!({})), service("/a", needs("/b"))]);
    cluster.settle("/b");
    cluster.settle("/a");
    cluster.apply([service("/a", json!({"health": [check]}))]);
    cluster.apply([service("/b", needs("/a"))]);
    cluster.adopt(fail(2, "/a")).unwrap();
    assert_eq!(invalid_keys(&cluster, vec![service("/x", json!({}))]), NOTHING_WRONG);
    let part = vec![service("/x", json!({})), service("/a", needs("/b"))];
    assert_eq!(invalid_keys(&cluster, part), [(1, "depends_on".to_string())]);
}

#[test]
fn two_gateways_cannot_have_the_same_listener() {
    let mut cluster = with_web();
    let at = |name: &str, listen: &str| gateway(name, listen, &["/web"]);
    cluster.apply([at("all", "8080"), at("one", "10.0.0.1:9090")]);
    for (listen, clashes) in [
        ("8080", true),
        ("10.0.0.1:8080", true),
        ("9090", true),
        ("10.0.0.1:9090", true),
        ("10.0.0.2:9090", false),
        ("8081", false),
        ("10.0.0.1:9091", false),
    ] {
        let expected = if clashes { vec![(0, "listen".to_string())] } else { NOTHING_WRONG };
        assert_eq!(invalid_keys(&cluster, vec![at("new", listen)]), expected, "{listen}");
    }
    let moved = vec![at("all", "8081"), at("new", "8080")];
    assert_eq!(invalid_keys(&cluster, moved), NOTHING_WRONG, "the place becomes free");
    let again = vec![at("all", "8080")];
    assert_eq!(invalid_keys(&cluster, again), NOTHING_WRONG, "it is the same one");
}

#[test]
fn routes_target_existing_ports() {
    let cluster = with_web();
    let to = |to: &[&str]| vec![gateway("public", "8080", to)];
    for good in ["/web", "/web:0", "/web:1", "/web:http"] {
        assert_eq!(invalid_keys(&cluster, to(&[good])), NOTHING_WRONG, "{good}");
    }
    for (bad, phrase) in [
        ("/web:2", "its named ports: http"),
        ("/web:https", "its named ports: http"),
        ("/wed:http", "did you mean `/web`?"),
    ] {
        let found = problems(&cluster, to(&["/web", bad]));
        let [(0, key, message)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(key, "routes.1.to");
        assert!(message.contains(phrase), "{message}");
    }
    let mut both = to(&["/new:api"]);
    both.push(service("/new", json!({"ports": [{"name": "api"}]})));
    assert_eq!(invalid_keys(&cluster, both), NOTHING_WRONG, "they come together");
}

#[test]
fn a_routed_port_cannot_be_removed() {
    let mut cluster = with_web();
    cluster.apply([gateway("public", "8080", &["/web:http"])]);
    let without = || service("/web", json!({"ports": [{}]}));
    assert_eq!(invalid_keys(&cluster, vec![without()]), [(0, "ports".to_string())]);
    let both = vec![without(), gateway("public", "8080", &["/web:0"])];
    assert_eq!(invalid_keys(&cluster, both), NOTHING_WRONG, "the route goes with it");
    let other = vec![without(), gateway("other", "9090", &["/web:0"])];
    assert_eq!(invalid_keys(&cluster, other), [(0, "ports".to_string())]);
    assert_eq!(invalid_keys(&cluster, vec![foreign("/web", json!({}))]), NOTHING_WRONG);
}

#[test]
fn a_route_to_a_udp_port_is_rejected() {
    let mut cluster = Cluster::of(&["n1"]);
    let ports = json!([{"name": "query", "protocol": "udp"}, {"name": "http"}]);
    cluster.apply([service("/dns", json!({ "ports": ports }))]);
    for (to, port) in [("/dns", Some("0")), ("/dns:query", Some("query")), ("/dns:http", None)] {
        let gateway = json!({"gateway": "g", "listen": 80, "routes": [{"to": to}]});
        let document = Document::Gateway(serde_json::from_value(gateway).unwrap());
        let found: Vec<_> = problems(&cluster, vec![document]).into_iter().map(|p| p.2).collect();
        let expected =
            port.map(|port| format!("port `{port}` of /dns is a UDP port; HTTP needs TCP"));
        assert_eq!(found, Vec::from_iter(expected), "{to}");
    }
}
