//! Presents runs of instances as tasks.

use std::sync::Arc;

use model::{CheckResult, Exit, Goal, InstanceId, Phase, Placement, Service, Status, Timestamp};
use serde::Serialize;

use super::name;
use server::control::Snapshot;

/// A task, with the keys that clients expect.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) app_id: String,
    pub(crate) host: String,
    pub(crate) slave_id: String,
    pub(crate) state: &'static str,
    pub(crate) ports: Vec<u16>,
    pub(crate) service_ports: Vec<u16>,
    pub(crate) ip_addresses: Vec<Address>,
    pub(crate) staged_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) version: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health_check_results: Option<Vec<Health>>,
}

/// An IP address of a task.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Address {
    ip_address: String,
    protocol: &'static str,
}

/// The addresses of a task on `host`.
pub(crate) fn addresses(host: &str) -> Vec<Address> {
    let protocol = if host.contains(':') { "IPv6" } else { "IPv4" };
    vec![Address { ip_address: host.into(), protocol }]
}

/// The results of a health check for a task. A time is null until there is such a result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    alive: bool,
    consecutive_failures: u32,
    first_success: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    last_failure_cause: Option<String>,
    last_success: Option<Timestamp>,
    task_id: String,
}

/// Whether the last result of a health check is a success. `None` before the first result; failures
/// during the startup of the task do not count.
pub(crate) fn is_alive(seen: &CheckResult) -> Option<bool> {
    let has_word = seen.last_success.is_some() || seen.consecutive_failures > 0;
    has_word.then_some(seen.consecutive_failures == 0)
}

fn health(task: &str, seen: &CheckResult) -> Health {
    // A failure during the startup of the task is not shown.
    let counts = |at: &Timestamp| seen.first_success.is_none_or(|first| *at > first);
    let last_failure = seen.last_failure.filter(counts);
    Health {
        alive: is_alive(seen) == Some(true),
        consecutive_failures: seen.consecutive_failures,
        first_success: seen.first_success,
        last_failure,
        last_failure_cause: last_failure.and_then(|_| seen.last_failure_cause.clone()),
        last_success: seen.last_success,
        task_id: task.into(),
    }
}

/// The task was stopped.
pub(crate) const KILLED: &str = "TASK_KILLED";
/// The task exited by itself with code 0.
pub(crate) const FINISHED: &str = "TASK_FINISHED";
/// The task exited by itself in any other way, or could not be started.
pub(crate) const FAILED: &str = "TASK_FAILED";
/// The node of the task is unreachable.
pub(crate) const UNREACHABLE: &str = "TASK_UNREACHABLE";

/// The state of a task that has ended, for tasks, their history, the event stream and
/// `lastTaskFailure`. `leaving` is set if the instance was being stopped.
pub(crate) fn ended(exit: Option<&Exit>, leaving: bool) -> &'static str {
    match exit {
        _ if leaving => KILLED,
        Some(exit) if exit.is_success() => FINISHED,
        _ => FAILED,
    }
}

/// The state of the current run of an instance.
pub(crate) fn state(placement: &Placement, status: Option<&Status>, lost: bool) -> &'static str {
    let leaving = placement.goal != Goal::Run;
    match status {
        _ if lost => UNREACHABLE,
        Some(status) if status.phase.is_over() => ended(status.last_exit.as_deref(), leaving),
        _ if leaving => "TASK_KILLING",
        Some(Status { phase: Phase::Running, .. }) => "TASK_RUNNING",
        Some(Status { phase: Phase::Stopping, .. }) => "TASK_KILLING",
        _ => "TASK_STAGING",
    }
}

/// The tasks of a service that have not ended. If `always` is set, the results of health checks are
/// an empty list for apps without health checks, as Marathon shows tasks in an app. Otherwise they
/// are absent, as in its list of all tasks.
pub(crate) fn of<'a>(
    snapshot: &'a Snapshot,
    service: &'a Arc<Service>,
    service_ports: &'a [u16],
    always: bool,
    now: Timestamp,
) -> impl Iterator<Item = Task> + 'a {
    service.placements.iter().filter_map(move |(replica, placement)| {
        let status = snapshot.observed.status(&service.id, *replica);
        if status.is_some_and(|status| status.phase.is_over()) {
            return None;
        }
        let lost = snapshot.observed.is_lost(&placement.node, now);
        let id = InstanceId { service: service.id.clone(), replica: *replica };
        let id = name::task(&id, status.map_or(0, |status| status.run));
        let node = snapshot.state.node(&placement.node);
        let host = node.map(|node| node.node.address.clone()).unwrap_or_default();
        let spec = service.running_spec(placement.revision);
        let shows_health = always || !spec.health.is_empty();
        let checks = status.map(|status| status.checks.as_slice()).unwrap_or_default();
        // A check without results is omitted.
        let made = checks.iter().filter(|seen| is_alive(seen).is_some());
        let results = || made.map(|seen| health(&id, seen)).collect();
        Some(Task {
            app_id: service.id.to_string(),
            slave_id: placement.node.to_string(),
            state: state(placement, status, lost),
            ports: placement.given.ports.clone(),
            service_ports: service_ports.to_vec(),
            ip_addresses: addresses(&host),
            staged_at: placement.placed_at,
            started_at: status.and_then(|status| status.started_at),
            version: version(service, placement.revision),
            health_check_results: shows_health.then(results),
            host,
            id,
        })
    })
}

/// The version of a revision.
pub(crate) fn version(service: &Service, revision: model::RevisionNumber) -> Timestamp {
    let known = service.revisions.get(&revision).unwrap_or_else(|| service.target());
    known.created_at
}
