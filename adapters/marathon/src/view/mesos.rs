//! The cluster as the tools of Mesos see it: nodes as agents, services as one framework, instances
//! as tasks, and their output as files.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    InstanceId, NodeId, NodeUsage, Phase, Placement, Resources, Service, Status, Timestamp,
    endpoint,
};
use serde_json::{Value, json};

use super::history::CompletedRun;
use super::{name, task};
use server::control::Snapshot;

/// The id of the only framework.
pub(crate) const FRAMEWORK: &str = "muster-0000";
/// The directory of sandboxes. The sandbox of a task is the subdirectory with the task's name.
const SANDBOXES: &str = "/muster/tasks";

fn amounts(resources: &Resources) -> Value {
    json!({
        "cpus": f64::from(resources.cpu.0) / 1000.0,
        "mem": resources.memory.0 as f64 / f64::from(1 << 20),
        "disk": 0,
        "gpus": 0,
    })
}

fn resources(node: &NodeUsage, used: bool) -> Value {
    let capacity = node.node.capacity.unwrap_or(Resources::NONE);
    let mut amounts = amounts(if used { &node.used } else { &capacity });
    amounts["ports"] = format!("[{}-{}]", node.node.ports.0, node.node.ports.1).into();
    amounts
}

/// The input for presenting the cluster as Mesos.
pub(crate) struct Mesos<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Completed runs.
    pub(crate) history: &'a [CompletedRun],
    /// The address of the server, as `host:port`.
    pub(crate) address: &'a str,
    pub(crate) now: Timestamp,
}

impl Mesos<'_> {
    /// The state of a master.
    pub(crate) fn master(&self) -> Value {
        let nodes = self.snapshot.state.node_usages().filter(|node| node.node.capacity.is_some());
        json!({
            "id": "muster",
            "pid": format!("master@{}", self.address),
            "leader": format!("master@{}", self.address),
            "hostname": host(self.address),
            "version": env!("CARGO_PKG_VERSION"),
            "cluster": "muster",
            "slaves": nodes.map(|node| self.agent(node)).collect::<Vec<_>>(),
            "frameworks": [framework(self.tasks(None), self.completed(None))],
            "completed_frameworks": [],
            "unregistered_frameworks": [],
            "orphan_tasks": [],
        })
    }

    /// The state of an agent. Each task has its own executor, which contains the path of its
    /// sandbox.
    pub(crate) fn slave(&self, id: &NodeId) -> Option<Value> {
        let node = self.snapshot.state.node(id)?;
        let executors = |tasks: &[Value], key: &str| -> Vec<Value> {
            tasks.iter().map(|task| executor(task, key)).collect()
        };
        let (tasks, completed) = (self.tasks(Some(id)), self.completed(Some(id)));
        let running = executors(&tasks, "tasks");
        let ended = executors(&completed, "completed_tasks");
        let mut framework = framework(tasks, completed);
        framework["executors"] = running.into();
        framework["completed_executors"] = ended.into();
        let mut state = self.agent(node);
        state["frameworks"] = json!([framework]);
        state["completed_frameworks"] = json!([]);
        Some(state)
    }

    fn agent(&self, node: &NodeUsage) -> Value {
        let id = &node.node.id;
        let statuses = |wanted: Phase| {
            let statuses = node.instances.iter();
            let statuses =
                statuses.filter_map(|i| self.snapshot.observed.status(&i.service, i.replica));
            statuses.filter(|status| status.phase == wanted).count()
        };
        json!({
            "id": id,
            "hostname": node.node.address,
            "pid": format!("slave(1)@{}", endpoint(&node.node.address, node.node.agent_port)),
            "port": node.node.agent_port,
            "active": !self.snapshot.observed.is_lost(id, self.now),
            "attributes": node.node.labels,
            "resources": resources(node, false),
            "used_resources": resources(node, true),
            "offered_resources": { "cpus": 0, "mem": 0, "disk": 0, "gpus": 0 },
            "reserved_resources": {},
            "unreserved_resources": resources(node, false),
            "domain": null,
            "version": env!("CARGO_PKG_VERSION"),
            "registered_time": 0,
            "TASK_RUNNING": statuses(Phase::Running),
            "TASK_STAGING": statuses(Phase::Starting),
        })
    }

    /// The current runs of instances, on one node or on all nodes.
    fn present<'a>(
        &'a self,
        on: Option<&'a NodeId>,
    ) -> impl Iterator<Item = (&'a Arc<Service>, InstanceId, &'a Placement, Option<&'a Status>)> + 'a
    {
        let services = self.snapshot.state.services();
        let all = services.flat_map(move |service| {
            service.placements.iter().map(move |(replica, placement)| {
                let status = self.snapshot.observed.status(&service.id, *replica);
                let id = InstanceId { service: service.id.clone(), replica: *replica };
                (service, id, placement, status)
            })
        });
        all.filter(move |(_, _, placement, _)| on.is_none_or(|node| placement.node == *node))
    }

    fn of_present(&self, over: bool, on: Option<&NodeId>) -> Vec<Value> {
        let present = self.present(on).filter(|(_, _, _, status)| {
            status.is_some_and(|status| status.phase.is_over()) == over
        });
        let tasks = present.map(|(service, id, placement, status)| {
            let lost = self.snapshot.observed.is_lost(&placement.node, self.now);
            let state = task::state(placement, status, lost);
            let since = status.and_then(|status| status.started_at).unwrap_or(placement.placed_at);
            let run = status.map_or(0, |status| status.run);
            let spec = service.running_spec(placement.revision);
            mesos_task(&id, run, &placement.node, state, since, &spec.resources)
        });
        tasks.collect()
    }

    /// Tasks that have not ended.
    fn tasks(&self, on: Option<&NodeId>) -> Vec<Value> {
        self.of_present(false, on)
    }

    /// Tasks that have ended: current runs that are over, and earlier ones in the history. Earlier
    /// runs on removed nodes are omitted, because clients look up the agent of each task.
    fn completed(&self, on: Option<&NodeId>) -> Vec<Value> {
        let run = |status: Option<&Status>| status.map_or(0, |status| status.run).max(1);
        let present: BTreeSet<(InstanceId, u32)> =
            self.present(on).map(|(_, id, _, status)| (id, run(status))).collect();
        let of_history = self.history.iter().filter(|ended| {
            on.is_none_or(|node| ended.node == *node)
                && self.snapshot.state.node(&ended.node).is_some()
                && !present.contains(&(ended.instance.clone(), ended.run))
        });
        let of_history = of_history.map(|ended| {
            let service = self.snapshot.state.service(&ended.instance.service);
            let resources = service.map_or(Resources::NONE, |service| service.spec().resources);
            let CompletedRun { instance, run, node, state, at } = ended;
            mesos_task(instance, *run, node, state, *at, &resources)
        });
        of_history.chain(self.of_present(true, on)).collect()
    }

    /// The addresses of a name in the domain `mesos`. The server has the names of both the master
    /// and Marathon.
    pub(crate) fn hosts(&self, name: &str) -> Value {
        let known = match name.trim_end_matches('.') {
            "leader.mesos" | "master.mesos" | "marathon.mesos" => host(self.address),
            _ => return json!([{ "host": "", "ip": "" }]),
        };
        json!([{ "host": format!("{}.", name.trim_end_matches('.')), "ip": known }])
    }
}

/// The host of an address in the form `host:port`.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn mesos_task(
    id: &InstanceId,
    run: u32,
    node: &NodeId,
    state: &str,
    since: Timestamp,
    resources: &Resources,
) -> Value {
    let path = id.service.as_str().trim_start_matches('/');
    let name: Vec<&str> = path.rsplit('/').collect();
    json!({
        "id": name::task(id, run),
        "name": name.join("."),
        "framework_id": FRAMEWORK,
        "executor_id": "",
        "slave_id": node,
        "state": state,
        "resources": amounts(resources),
        "statuses": [{ "state": state, "timestamp": since.0 as f64 / 1000.0 }],
        "labels": [],
        "user": "root",
    })
}

fn executor(task: &Value, key: &str) -> Value {
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
}

fn framework(tasks: Vec<Value>, completed: Vec<Value>) -> Value {
    json!({
        "id": FRAMEWORK,
        "name": "marathon",
        "user": "root",
        "active": true,
        "connected": true,
        "hostname": "",
        "webui_url": "",
        "tasks": tasks,
        "completed_tasks": completed,
        "unreachable_tasks": [],
        "executors": [],
        "completed_executors": [],
    })
}

/// The instance and the stream that the path of a file refers to.
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

#[cfg(test)]
mod tests {
    use super::super::cluster::{TestCluster, exited};
    use super::super::history;
    use super::*;

    const FIRST: &str = "shop_web.instance-00000000-0000-4000-8000-000000000001._app";

    fn with<T>(cluster: &TestCluster, show: impl FnOnce(&Mesos<'_>) -> T) -> T {
        let history = history::ended(&cluster.events);
        let (snapshot, address, now) = (&cluster.snapshot(), "10.0.0.9:4040", cluster.now);
        show(&Mesos { snapshot, history: &history, address, now })
    }

    /// Two instances: one in its second run, and one that has not started.
    fn cluster() -> TestCluster {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster
            .app(&json!({"id": "/shop/web", "cmd": "run", "instances": 2, "cpus": 0.5, "mem": 32}));
        cluster.event("/shop/web~0.1", model::What::Running { run: 1 });
        cluster.event("/shop/web~0.1", exited(1, 1));
        cluster.event("/shop/web~0.1", model::What::Running { run: 2 });
        cluster.report("/shop/web~0.1", Phase::Running, |status| status.run = 2);
        cluster
    }

    fn ids(tasks: &Value) -> Vec<(&str, &str)> {
        let tasks = tasks.as_array().unwrap().iter();
        tasks.map(|t| (t["id"].as_str().unwrap(), t["state"].as_str().unwrap())).collect()
    }

    #[test]
    fn the_master_state_has_the_keys_that_clients_read() {
        let state = with(&cluster(), |mesos| mesos.master());
        assert_eq!(
            (&state["hostname"], &state["completed_frameworks"]),
            (&json!("10.0.0.9"), &json!([]))
        );
        let slave = &state["slaves"][0];
        assert_eq!((&slave["id"], &slave["hostname"]), (&json!("n1"), &json!("10.0.0.1")));
        assert_eq!(slave["pid"], "slave(1)@10.0.0.1:4041");
        let framework = &state["frameworks"][0];
        for key in ["id", "name", "user", "active", "executors"] {
            assert!(framework.get(key).is_some(), "{key}");
        }
        let second = "shop_web.instance-00000001-0000-4000-8000-000000000001._app.1";
        let running = format!("{FIRST}.2");
        assert_eq!(
            ids(&framework["tasks"]),
            [(running.as_str(), "TASK_RUNNING"), (second, "TASK_STAGING")]
        );
        assert_eq!(ids(&framework["completed_tasks"]), [(&*format!("{FIRST}.1"), "TASK_FAILED")]);
        let task = &framework["tasks"][0];
        let amounts = json!({"cpus": 0.5, "mem": 32.0, "disk": 0, "gpus": 0});
        assert_eq!((&task["name"], &task["resources"]), (&json!("web.shop"), &amounts));
        assert_eq!((&task["slave_id"], &task["framework_id"]), (&slave["id"], &framework["id"]));
        assert_eq!(task["statuses"][0]["state"], "TASK_RUNNING");
    }

    #[test]
    fn an_agent_state_has_the_sandbox_of_each_task() {
        let cluster = cluster();
        let state = with(&cluster, |mesos| mesos.slave(&"n1".parse().unwrap()).unwrap());
        let framework = &state["frameworks"][0];
        let executor = &framework["executors"][0];
        assert_eq!(executor["tasks"][0]["id"], format!("{FIRST}.2"));
        let directory = executor["directory"].as_str().unwrap();
        let expected = ("/shop/web~0.1".parse().unwrap(), api::LogStream::Stderr);
        assert_eq!(file(&format!("{directory}/stderr")), Some(expected));
        for path in ["stdout", "/muster/tasks/none/stdout", &format!("{directory}/other")] {
            assert_eq!(file(path), None, "{path}");
        }
        let ended = &framework["completed_executors"][0];
        assert_eq!(ended["completed_tasks"][0]["id"], format!("{FIRST}.1"));
        assert!(with(&cluster, |mesos| mesos.slave(&"n2".parse().unwrap()).is_none()));
    }

    #[test]
    fn a_run_is_either_completed_or_current() {
        let mut cluster = cluster();
        // The end of the first run is reported before the start of the next one.
        cluster.event("/shop/web~0.1", exited(1, 1));
        let framework = with(&cluster, |mesos| mesos.master())["frameworks"][0].clone();
        assert_eq!(ids(&framework["completed_tasks"]).len(), 1);
        assert_eq!(ids(&framework["tasks"]).len(), 2);
    }

    #[test]
    fn the_server_resolves_the_names_of_the_master() {
        let expected = json!([{"host": "leader.mesos.", "ip": "10.0.0.9"}]);
        with(&cluster(), |mesos| {
            assert_eq!(mesos.hosts("leader.mesos"), expected);
            assert_eq!(mesos.hosts("leader.mesos."), expected);
            assert_eq!(mesos.hosts("none.mesos"), json!([{"host": "", "ip": ""}]));
        });
    }
}
