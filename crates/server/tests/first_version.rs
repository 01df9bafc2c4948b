//! State and messages of the first version (0.1.0): they must load with everything that they say,
//! and no instance may restart. In `fixtures/first-version`, every optional key of a service has a
//! value that is not its default; in `fixtures/first-version-leaving`, one instance drains and one
//! stops. The files were written by that version and are never changed: a key that is renamed is
//! read under both names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use api::{Assigned, Assignments, path};
use model::{Goal, Key, Millis, Object, Share, State, StopReason};
use serde_json::Value;
use store::{Embedded, Store};
use support::{Server, soon};

/// Keys of the first version and their successors.
const RENAMED: [(&str, &str); 8] = [
    ("max_over", "max_surge"),
    ("settle", "min_ready"),
    ("surplus", "scale_down"),
    ("door", "adapter"),
    ("origin", "via"),
    ("latch", "failed"),
    ("group", "path"),
    ("changed_at", "created_at"),
];

const FULL: &str = "first-version";
const LEAVING: &str = "first-version-leaving";

fn fixture(folder: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder).join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(FULL, name)).unwrap()).unwrap()
}

/// A data directory with a state of the first version.
fn data_dir(folder: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture(folder, "state.db"), dir.path().join("state.db")).unwrap();
    dir
}

/// The objects as they were written.
async fn stored(folder: &str) -> BTreeMap<Key, Value> {
    let dir = data_dir(folder);
    let store = Embedded::open(dir.path()).unwrap();
    let page = store.range("/muster/v1/", None, 10_000).await.unwrap();
    let items = page.items.into_iter().filter_map(|item| {
        let name = item.key.strip_prefix("/muster/v1/")?;
        let key = (!name.starts_with("events/")).then(|| name.parse().unwrap())?;
        Some((key, serde_json::from_slice(&item.value).unwrap()))
    });
    items.collect()
}

fn loaded(stored: &BTreeMap<Key, Value>) -> State {
    State::load(stored.iter().map(|(key, value)| {
        let object = Object::read(key, value.to_string().as_bytes()).unwrap();
        (key.clone(), object)
    }))
}

/// Appends to `found` the path of every value in `before` that `after` lacks or has changed.
fn lost(before: &Value, after: &Value, at: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let renamed = RENAMED.iter().find(|(old, _)| old == key);
                let key = renamed.map_or(key.as_str(), |(_, new)| new);
                let at = format!("{at}.{key}");
                match after.get(key) {
                    Some(after) => lost(value, after, &at, found),
                    None => found.push(at),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (i, (before, after)) in before.iter().zip(after).enumerate() {
                lost(before, after, &format!("{at}.{i}"), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{at}: {before} is {after}")),
    }
}

#[tokio::test]
async fn no_stored_fact_is_lost() {
    for folder in [FULL, LEAVING] {
        let stored = stored(folder).await;
        let state = loaded(&stored);
        assert_eq!(state.violations(), []);
        let mut found = Vec::new();
        for (key, before) in &stored {
            let object = state.object(key).unwrap_or_else(|| panic!("{key} is dropped"));
            lost(before, &serde_json::to_value(&object).unwrap(), &key.to_string(), &mut found);
        }
        assert_eq!(found, [""; 0]);
        assert_eq!(state.objects().count(), stored.len());
    }
}

#[tokio::test]
async fn leaving_instances_keep_their_goals() {
    let state = loaded(&stored(LEAVING).await);
    let goal = |id: &str| state.placement(&id.parse().unwrap()).unwrap().goal.clone();
    assert_eq!(goal("/shop/web~0.1"), Goal::Run);
    let until = "2026-11-27T11:48:29.479Z".parse().unwrap();
    assert_eq!(goal("/shop/web~1.1"), Goal::Drain { until, why: StopReason::Surplus });
    assert_eq!(goal("/shop/stubborn~0.1"), Goal::Stop { why: StopReason::Surplus });
}

#[tokio::test]
async fn services_budgets_placements_and_deployments_are_the_same() {
    let stored = stored(FULL).await;
    let state = loaded(&stored);
    let web = state.service(&"/shop/web".parse().unwrap()).unwrap();
    let rollout = &web.spec().rollout;
    assert_eq!(rollout.max_surge, "30%".parse::<Share>().unwrap());
    assert_eq!(rollout.min_ready, Millis::secs(9));
    assert_eq!((web.target, web.settled, web.placements.len()), (2, Some(2), 3));
    let placement = state.placement(&"/shop/web~0.2".parse().unwrap()).unwrap();
    assert_eq!(placement.given.ports, [21_845, 21_846]);
    let app = state.service(&"/m/app".parse().unwrap()).unwrap();
    let written = &stored[&Key::Revision(app.id.clone(), 1)]["source"]["door"];
    assert_eq!(app.target().source.as_ref().unwrap().adapter, written.as_str().unwrap());
    assert_eq!(state.deployments().count(), 3);
    let bridge = state.service(&"/shop/bridge".parse().unwrap()).unwrap();
    assert_eq!((bridge.retries, bridge.attempts_before, bridge.slots[0].failures), (2, 4, 2));
    assert!(bridge.failed.is_some());
}

/// A key of an earlier version must not remain: the object would reappear after its removal.
#[tokio::test]
async fn objects_are_stored_under_their_present_keys() {
    let names = async |dir: &Path| {
        let store = Embedded::open(dir).unwrap();
        let items = store.range("/muster/v1/", None, 10_000).await.unwrap().items;
        let names = items.into_iter().map(|item| item.key["/muster/v1/".len()..].to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let dir = data_dir(FULL);
    let before = names(dir.path()).await;
    let groups: Vec<_> = before.iter().filter(|name| name.starts_with("groups/")).collect();
    assert!(!groups.is_empty(), "{before:?}");
    Server::start(dir.path()).await.stop().await.unwrap();
    let after = names(dir.path()).await;
    for group in groups {
        assert!(!after.contains(group), "{group}");
        let bundle = format!("{}@1", group.replace("groups/", "bundles/"));
        assert!(after.contains(&bundle), "{bundle}");
    }
}

/// An agent of the first version, with its registration, its report and its assignments, goes on
/// with a server of this one: it is sent nothing that restarts or stops an instance.
#[tokio::test]
async fn an_agent_of_the_first_version_keeps_its_instances() {
    let dir = data_dir(FULL);
    let server = Server::start(dir.path()).await;
    let _: Value = server.client.post(path::REGISTER, &read("registration.json")).await.unwrap();
    let stream = path::with(path::NODE_ASSIGNMENTS, "n1");
    let mut lines = server.client.follow(&stream).await.unwrap();
    let report = path::with(path::NODE_REPORT, "n1");
    let _: Value = server.client.post(&report, &read("report.json")).await.unwrap();
    let line: Value = soon(lines.next_document()).await.unwrap().unwrap();
    let now: Assignments = serde_json::from_value(line.clone()).unwrap();
    let mut before = read("assignments.json");
    for assignment in before["set"].as_array_mut().unwrap() {
        // Variables that an adapter sets; this server has none.
        assignment.as_object_mut().unwrap().remove("env");
    }
    let before: Assignments = serde_json::from_value(before).unwrap();
    assert!(now.whole && now.generation > before.generation);
    assert_eq!(now.set.len(), before.set.len());
    for (now, before) in now.set.iter().zip(&before.set) {
        assert_eq!((&now.instance, now.revision), (&before.instance, before.revision));
        assert_eq!((now.goal, &now.given), (Assigned::Run, &before.given));
        assert!(!now.spec.needs_restart(&before.spec), "{}", now.instance);
    }
    // Agents of the first version reject keys that they do not know.
    for key in ["max_surge", "min_ready", "scale_down"] {
        assert!(!line.to_string().contains(&format!("\"{key}\"")), "{key} in {line}");
    }
    server.stop().await.unwrap();
}
