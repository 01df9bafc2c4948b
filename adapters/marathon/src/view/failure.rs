//! The last failure of each app's tasks, from what has happened.

use std::collections::{BTreeMap, BTreeSet};

use api::EventView;
use model::{InstanceId, ServiceId, Timestamp};
use serde::Serialize;

use super::feed::run_of;
use super::{name, task};
use server::control::Snapshot;

/// How a task failed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    app_id: ServiceId,
    host: String,
    message: String,
    state: &'static str,
    task_id: String,
    timestamp: Timestamp,
    version: Timestamp,
    slave_id: String,
}

/// The last failure of each app, of those that are remembered. An instance that was told to stop
/// did not fail. Events are given oldest first.
pub(crate) fn last<'a>(
    snapshot: &Snapshot,
    events: impl IntoIterator<Item = &'a EventView>,
) -> BTreeMap<ServiceId, Failure> {
    let mut failures = BTreeMap::new();
    let mut leaving = BTreeSet::new();
    let mut runs: BTreeMap<&str, u32> = BTreeMap::new();
    for EventView { event, .. } in events {
        let subject = event.subject.as_str();
        match event.kind.as_str() {
            "placed" => drop(runs.insert(subject, 0)),
            "running" => drop(runs.insert(subject, run_of(&event.message).unwrap_or(1))),
            "draining" | "stopping" => drop(leaving.insert(subject)),
            "exited" | "not-started" | "failed" if !leaving.contains(subject) => {
                let Ok(id) = subject.parse::<InstanceId>() else { continue };
                let Some(service) = snapshot.state.service(&id.service) else { continue };
                let placement = service.placements.get(&id.replica);
                let node = placement.and_then(|placement| snapshot.state.node(&placement.node));
                let run = run_of(&event.message).or(runs.get(subject).copied());
                let revision = placement.map_or(service.target, |placement| placement.revision);
                let failure = Failure {
                    app_id: id.service.clone(),
                    host: node.map(|node| node.node.address.clone()).unwrap_or_default(),
                    message: event.message.clone(),
                    state: "TASK_FAILED",
                    task_id: name::task(&id, run.unwrap_or(0).max(1)),
                    timestamp: event.at,
                    version: task::version(service, revision),
                    slave_id: placement.map(|p| p.node.to_string()).unwrap_or_default(),
                };
                failures.insert(id.service, failure);
            }
            _ => {}
        }
    }
    failures
}
