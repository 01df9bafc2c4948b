//! The last failure of each app's tasks, computed from the event log.

use std::collections::{BTreeMap, BTreeSet};

use api::EventView;
use model::{About, InstanceId, ServiceId, Timestamp, What};
use serde::Serialize;

use super::{name, task};
use server::control::Snapshot;

/// The last failure of a task of an app.
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

/// Returns the last failure of each app in `events`, which must be in chronological order. A task
/// that was stopped, or that exited with code 0, has not failed.
pub(crate) fn last<'a>(
    snapshot: &Snapshot,
    events: impl IntoIterator<Item = &'a EventView>,
) -> BTreeMap<ServiceId, Failure> {
    let mut failures = BTreeMap::new();
    let mut leaving = BTreeSet::new();
    let mut runs: BTreeMap<&InstanceId, u32> = BTreeMap::new();
    for EventView { event, .. } in events {
        let About::Instance(id) = &event.about else { continue };
        let run = match &event.what {
            What::Placed { .. } => {
                runs.insert(id, 0);
                continue;
            }
            What::Running { run } => {
                runs.insert(id, *run);
                continue;
            }
            What::Draining { .. } | What::Stopping { .. } => {
                leaving.insert(id);
                continue;
            }
            What::Exited { run, exit } if task::ended(Some(exit), false) == task::FAILED => *run,
            What::NotStarted { run, .. } => *run,
            What::Failed { .. } => runs.get(id).copied().unwrap_or(0),
            _ => continue,
        };
        if leaving.contains(id) {
            continue;
        }
        let Some(service) = snapshot.state.service(&id.service) else { continue };
        let placement = service.placements.get(&id.replica);
        let node = placement.and_then(|placement| snapshot.state.node(&placement.node));
        let revision = placement.map_or(service.target, |placement| placement.revision);
        let failure = Failure {
            app_id: id.service.clone(),
            host: node.map(|node| node.node.address.clone()).unwrap_or_default(),
            message: event.what.to_string(),
            state: task::FAILED,
            task_id: name::task(id, run.max(1)),
            timestamp: event.at,
            version: task::version(service, revision),
            slave_id: placement.map(|p| p.node.to_string()).unwrap_or_default(),
        };
        failures.insert(id.service.clone(), failure);
    }
    failures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::cluster::{TestCluster, exited};
    use super::*;

    #[test]
    fn a_task_that_exited_with_0_is_not_a_failure() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/a", "cmd": "run"}));
        cluster.event("/a~0.1", What::Running { run: 1 });
        cluster.event("/a~0.1", exited(1, 0));
        assert!(last(&cluster.snapshot(), &cluster.events).is_empty());
        cluster.event("/a~0.1", What::Running { run: 2 });
        cluster.event("/a~0.1", exited(2, 3));
        cluster.event("/a~0.1", exited(3, 0));
        let failures = last(&cluster.snapshot(), &cluster.events);
        let failure = failures.values().next().unwrap();
        assert_eq!((failure.state, failure.message.as_str()), (task::FAILED, "exit code 3"));
        assert_eq!(failure.task_id, name::task(&"/a~0.1".parse().unwrap(), 2));
    }

    #[test]
    fn a_task_that_was_stopped_did_not_fail() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({"id": "/a", "cmd": "run"}));
        cluster.event("/a~0.1", What::Running { run: 1 });
        cluster.event("/a~0.1", What::Stopping { why: model::StopReason::Requested });
        cluster.event("/a~0.1", exited(1, 143));
        assert!(last(&cluster.snapshot(), &cluster.events).is_empty());
    }
}
