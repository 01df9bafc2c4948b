//! What the tools beside Marathon ask of Mesos: its nodes as agents, services as one framework,
//! instances as tasks, their output as files.

use std::sync::Arc;

use model::{InstanceId, NodeId, NodeUse, Phase, Service};
use serde_json::{Value, json};

use super::{name, task};
use crate::control::Snapshot;

/// The one framework there is.
pub(crate) const FRAMEWORK: &str = "muster-0000";
/// Where the output of a task is, as a file: below this and the task's name.
const SANDBOXES: &str = "/muster/tasks";

fn resources(node: &NodeUse, used: bool) -> Value {
    let capacity = node.node.capacity.unwrap_or(model::Resources::NONE);
    let resources = if used { node.used } else { capacity };
    json!({
        "cpus": f64::from(resources.cpu.0) / 1000.0,
        "mem": resources.memory.0 as f64 / f64::from(1 << 20),
        "disk": 0,
        "gpus": 0,
        "ports": format!("[{}-{}]", node.node.ports.0, node.node.ports.1),
    })
}

fn agent(snapshot: &Snapshot, node: &NodeUse, now: model::Timestamp) -> Value {
    let id = &node.node.id;
    let count = |phase: Phase| {
        let statuses = node.instances.iter();
        let statuses = statuses.filter_map(|i| snapshot.observed.status(&i.service, i.seat));
        statuses.filter(|status| status.phase == phase).count()
    };
    json!({
        "id": id,
        "hostname": node.node.address,
        "pid": format!("slave(1)@{}:{}", node.node.address, node.node.agent_port),
        "port": node.node.agent_port,
        "active": !snapshot.observed.is_lost(id, now),
        "attributes": node.node.labels,
        "resources": resources(node, false),
        "used_resources": resources(node, true),
        "offered_resources": { "cpus": 0, "mem": 0, "disk": 0, "gpus": 0 },
        "reserved_resources": {},
        "unreserved_resources": resources(node, false),
        "domain": null,
        "version": env!("CARGO_PKG_VERSION"),
        "registered_time": 0,
        "TASK_RUNNING": count(Phase::Running),
        "TASK_STAGING": count(Phase::Starting),
    })
}

/// The tasks, of one agent or of all; those that have ended apart from those that have not.
fn tasks(
    snapshot: &Snapshot,
    on: Option<&NodeId>,
    over: bool,
    now: model::Timestamp,
) -> Vec<Value> {
    let services = snapshot.state.services();
    services.flat_map(|service| of_service(snapshot, service, on, over, now)).collect()
}

fn of_service<'a>(
    snapshot: &'a Snapshot,
    service: &'a Arc<Service>,
    on: Option<&'a NodeId>,
    over: bool,
    now: model::Timestamp,
) -> impl Iterator<Item = Value> + 'a {
    service.placements.iter().filter_map(move |(seat, placement)| {
        if on.is_some_and(|node| placement.node != *node) {
            return None;
        }
        let status = snapshot.observed.status(&service.id, *seat);
        if status.is_some_and(|status| status.phase.is_over()) != over {
            return None;
        }
        let lost = snapshot.observed.is_lost(&placement.node, now);
        let id = InstanceId { service: service.id.clone(), seat: *seat };
        let id = name::task(&id, status.map_or(0, |status| status.run));
        let state = task::state(placement, status, lost);
        let spec = service.running_spec(placement.revision);
        let path = service.id.as_str().trim_start_matches('/');
        let name: Vec<&str> = path.rsplit('/').collect();
        let since = status.and_then(|status| status.started_at).unwrap_or(placement.placed_at);
        Some(json!({
            "id": id,
            "name": name.join("."),
            "framework_id": FRAMEWORK,
            "executor_id": "",
            "slave_id": placement.node,
            "state": state,
            "resources": {
                "cpus": f64::from(spec.resources.cpu.0) / 1000.0,
                "mem": spec.resources.memory.0 as f64 / f64::from(1 << 20),
                "disk": 0,
                "gpus": 0,
            },
            "statuses": [{ "state": state, "timestamp": since.0 as f64 / 1000.0 }],
            "labels": [],
            "user": "root",
        }))
    })
}

fn framework(snapshot: &Snapshot, now: model::Timestamp) -> Value {
    json!({
        "id": FRAMEWORK,
        "name": "marathon",
        "user": "root",
        "active": true,
        "connected": true,
        "hostname": "",
        "webui_url": "",
        "tasks": tasks(snapshot, None, false, now),
        "completed_tasks": tasks(snapshot, None, true, now),
        "unreachable_tasks": [],
        "executors": [],
        "completed_executors": [],
    })
}

/// The state of a master.
pub(crate) fn master(snapshot: &Snapshot, address: &str, now: model::Timestamp) -> Value {
    let nodes = snapshot.state.node_uses().filter(|node| node.node.capacity.is_some());
    json!({
        "id": "muster",
        "pid": format!("master@{address}"),
        "leader": format!("master@{address}"),
        "hostname": address.rsplit_once(':').map_or(address, |(host, _)| host),
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": "muster",
        "slaves": nodes.map(|node| agent(snapshot, node, now)).collect::<Vec<_>>(),
        "frameworks": [framework(snapshot, now)],
        "completed_frameworks": [],
        "unregistered_frameworks": [],
        "orphan_tasks": [],
    })
}

/// The state of an agent: each task with an executor of its own, which names its sandbox.
pub(crate) fn slave(snapshot: &Snapshot, id: &NodeId, now: model::Timestamp) -> Option<Value> {
    let node = snapshot.state.node(id)?;
    let executor = |task: &Value, key: &str| {
        let id = task["id"].as_str().unwrap_or_default();
        let mut executor = json!({
            "id": id,
            "name": task["name"],
            "source": id,
            "directory": format!("{SANDBOXES}/{id}"),
            "tasks": [],
            "completed_tasks": [],
            "queued_tasks": [],
        });
        executor[key] = json!([task]);
        executor
    };
    let running = tasks(snapshot, Some(id), false, now);
    let ended = tasks(snapshot, Some(id), true, now);
    let mut framework = framework(snapshot, now);
    framework["executors"] = running.iter().map(|task| executor(task, "tasks")).collect();
    let completed = ended.iter().map(|task| executor(task, "completed_tasks"));
    framework["completed_executors"] = completed.collect();
    let mut state = agent(snapshot, node, now);
    state["frameworks"] = json!([framework]);
    state["completed_frameworks"] = json!([]);
    Some(state)
}

/// The instance whose output a path is, and which of its streams.
pub(crate) fn file(path: &str) -> Option<(InstanceId, api::LogStream)> {
    let (task, file) = path.strip_prefix(SANDBOXES)?.strip_prefix('/')?.split_once('/')?;
    let stream = match file {
        "stdout" => api::LogStream::Stdout,
        "stderr" => api::LogStream::Stderr,
        _ => return None,
    };
    let (instance, _) = name::parse_task(task)?;
    Some((instance, stream))
}
