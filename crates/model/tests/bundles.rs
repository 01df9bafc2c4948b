//! Bundles: revisions of their documents, and the revisions of services that they describe.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use muster_model as model;

use model::object::{Key, Object};
use model::{BundleRef, BundleSpec, Document, Source, State, Subject, Timestamp};
use serde_json::json;
use support::{Cluster, change_summaries, service, service_id, version};

fn bundle(path: &str, members: &[&str], text: impl Into<String>) -> Document {
    Document::Bundle(BundleSpec {
        members: members.iter().map(|path| service_id(path)).collect(),
        source: Some(Source { adapter: "other".into(), text: text.into() }),
        ..BundleSpec::new(&service_id(path))
    })
}

fn revisions(cluster: &Cluster, path: &str) -> Vec<u32> {
    cluster.state.bundle_revisions(&service_id(path)).map(|bundle| bundle.revision).collect()
}

fn described_by(cluster: &Cluster, service: &str) -> Option<(String, u32)> {
    let described = cluster.service(service).target().bundle.clone();
    described.map(|BundleRef { path, revision }| (path.to_string(), revision))
}

#[test]
fn a_document_that_differs_is_the_next_revision() {
    let mut cluster = Cluster::of(&[]);
    let shop = |text: &str| bundle("/shop", &["/shop/web"], text);
    for (text, verdict, expected) in [
        ("a", "created", &[1][..]),
        ("a", "unchanged", &[1]),
        ("b", "updated", &[1, 2]),
        ("a", "updated", &[1, 2, 3]),
    ] {
        let applied = cluster.apply([shop(text)]);
        assert_eq!(change_summaries(&applied), [format!("bundle /shop {verdict}")]);
        assert_eq!(applied.changes[0].revision, expected.last().copied());
        assert_eq!(revisions(&cluster, "/shop"), expected);
    }
    let times: Vec<_> = cluster.state.bundle_revisions(&service_id("/shop")).collect();
    assert!(times.is_sorted_by(|a, b| a.created_at < b.created_at), "{times:?}");
    cluster.apply([bundle("/shop-2", &[], "x"), bundle("/shop/db", &[], "x")]);
    assert_eq!(revisions(&cluster, "/shop"), [1, 2, 3]);
    let newest = cluster.state.bundles().map(|b| (b.spec.path.to_string(), b.revision));
    let expected = [("/shop", 3), ("/shop-2", 1), ("/shop/db", 1)];
    let expected: Vec<_> = expected.map(|(path, number)| (path.to_string(), number)).into();
    assert_eq!(newest.collect::<Vec<_>>(), expected);
    cluster.apply([Document::Remove(Subject::Bundle(service_id("/shop")))]);
    assert_eq!(revisions(&cluster, "/shop"), [0; 0]);
    assert_eq!(cluster.state.bundles().count(), 2);
}

#[test]
fn old_revisions_are_dropped() {
    let mut cluster = Cluster::of(&[]);
    for number in 0..12 {
        cluster.apply([bundle("/shop", &[], number.to_string())]);
    }
    assert_eq!(revisions(&cluster, "/shop"), (3..=12).collect::<Vec<_>>());
    let large = |letter: &str| bundle("/shop", &[], letter.repeat(3 << 20));
    cluster.apply([large("a")]);
    assert_eq!(revisions(&cluster, "/shop"), (4..=13).collect::<Vec<_>>());
    cluster.apply([large("b")]);
    assert_eq!(revisions(&cluster, "/shop"), [14], "two together are too large");
}

#[test]
fn a_revision_of_a_service_knows_the_bundle_that_described_it() {
    let mut cluster = Cluster::of(&["n1"]);
    let (web, db) = (|n| service("/shop/web", version(n)), || service("/shop/db/pg", json!({})));
    let all = ["/shop/web", "/shop/db/pg"];
    let applied = cluster.apply([web(1), db(), bundle("/shop", &all, "a")]);
    assert_eq!(change_summaries(&applied)[0], "bundle /shop created");
    for service in all {
        assert_eq!(described_by(&cluster, service), Some(("/shop".into(), 1)));
    }
    cluster.apply([web(2), db(), bundle("/shop", &all, "b")]);
    assert_eq!(described_by(&cluster, "/shop/web"), Some(("/shop".into(), 2)));
    assert_eq!(described_by(&cluster, "/shop/db/pg"), Some(("/shop".into(), 1)), "unchanged");
    let inner = bundle("/shop/db", &["/shop/db/pg"], "x");
    let more = service("/shop/db/pg", json!({"instances": 2}));
    cluster.apply([inner, more, bundle("/shop", &all, "c")]);
    assert_eq!(described_by(&cluster, "/shop/db/pg"), Some(("/shop/db".into(), 1)), "innermost");
    cluster.scale("/shop/web", 4);
    assert_eq!(described_by(&cluster, "/shop/web"), Some(("/shop".into(), 2)), "scaled only");
    cluster.apply([web(3)]);
    assert_eq!(described_by(&cluster, "/shop/web"), None, "described by itself");
}

#[test]
fn a_group_of_an_earlier_version_is_a_bundle() {
    let key: Key = "groups/shop/db".parse().unwrap();
    assert_eq!(key, Key::Bundle(service_id("/shop/db"), 1));
    assert_eq!(key.to_string(), "bundles/shop/db@1");
    let group =
        br#"{"group":"/shop/db","depends_on":["/a"],"changed_at":"1970-01-01T00:00:10.000Z"}"#;
    let state = State::load([(key.clone(), Object::read(&key, group).unwrap())]);
    let bundle = state.bundle(&service_id("/shop/db")).unwrap();
    assert_eq!((bundle.revision, bundle.created_at), (1, Timestamp(10_000)));
    let depends_on = [service_id("/a")].into();
    let spec = BundleSpec { depends_on, ..BundleSpec::new(&service_id("/shop/db")) };
    assert_eq!(bundle.spec, spec);
}
