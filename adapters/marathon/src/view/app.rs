//! Presents services as apps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::format::App;
use model::{
    DeploymentId, InstanceId, Phase, Revision, RevisionNumber, Service, ServiceId, Timestamp,
    json_bytes,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::task::{self, Task};
use super::{failure, name};
use server::control::Snapshot;

/// The name of the adapter in the sources of revisions.
pub(crate) use crate::format::ADAPTER;

/// A cache of the apps of revisions. Entries never become stale, since revisions are immutable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apps(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Each with the size of its definition.
    apps: HashMap<(ServiceId, RevisionNumber, Timestamp), (Arc<App>, usize)>,
    bytes: usize,
    /// The size after the last prune.
    pruned_bytes: usize,
}

impl Apps {
    /// The size of the entries for removed revisions that is tolerated before the cache is pruned, beside the size of
    /// the others.
    const SPARE_BYTES: usize = 2 << 20;

    /// The app of a revision, with the revision's number of instances.
    pub(crate) fn of(&self, service: &Service, revision: &Revision) -> Arc<App> {
        let key = (service.id.clone(), revision.number, revision.created_at);
        if let Some((known, _)) = self.lock().apps.get(&key) {
            return Arc::clone(known);
        }
        let source = revision.source.as_deref().filter(|source| source.adapter == ADAPTER);
        let source_bytes = source.map(|source| source.text.len());
        let source = source.and_then(|source| App::from_source(&source.text));
        let app = source.unwrap_or_else(|| App::of(&revision.spec));
        let app = Arc::new(app.scaled(revision.spec.instances));
        let size = source_bytes.unwrap_or_else(|| json_bytes(&*revision.spec));
        let mut known = self.lock();
        if known.apps.insert(key, (Arc::clone(&app), size)).is_none() {
            known.bytes += size;
        }
        app
    }

    /// The app of the target revision of a service.
    pub(crate) fn target(&self, service: &Service) -> Arc<App> {
        self.of(service, service.target())
    }

    /// Removes entries for removed revisions, if the cache has become large.
    pub(crate) fn prune(&self, snapshot: &Snapshot) {
        let mut known = self.lock();
        if known.bytes <= 2 * known.pruned_bytes + Self::SPARE_BYTES {
            return;
        }
        known.apps.retain(|(id, number, _), _| {
            let service = snapshot.state.service(id);
            service.is_some_and(|service| service.revisions.contains_key(number))
        });
        known.bytes = known.apps.values().map(|(_, size)| size).sum();
        known.pruned_bytes = known.bytes;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Optional parts of an app, which clients request by the parameter `embed`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Embed {
    pub(crate) tasks: bool,
    pub(crate) last_task_failure: bool,
    pub(crate) readiness: bool,
    pub(crate) task_stats: bool,
}

impl Embed {
    /// The default for the response with a single app.
    pub(crate) const ONE: Embed =
        Embed { tasks: true, last_task_failure: true, readiness: true, task_stats: false };

    /// Adds the requested parts. The prefix of a name is ignored: `apps.tasks`, `group.apps.tasks`,
    /// `app.tasks` and `tasks` are equivalent. Unknown names, and those of parts that are always
    /// included, are ignored.
    pub(crate) fn and<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Embed {
        for name in names {
            match name.rsplit('.').next().unwrap_or_default() {
                "tasks" => self.tasks = true,
                "lastTaskFailure" => self.last_task_failure = true,
                "readiness" => self.readiness = true,
                "taskStats" => self.task_stats = true,
                "failures" => {
                    self.last_task_failure = true;
                    self.tasks = true;
                }
                _ => {}
            }
        }
        self
    }
}

/// The times of the last changes of an app.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionInfo {
    pub(crate) last_scaling_at: Timestamp,
    pub(crate) last_config_change_at: Timestamp,
}

/// The times at which the app of a revision was last scaled and last configured.
pub(crate) fn version_info(revision: &Revision) -> VersionInfo {
    VersionInfo {
        last_scaling_at: revision.created_at,
        last_config_change_at: revision.configured_at.unwrap_or(revision.created_at),
    }
}

/// An app with its version but without its status, for versions that may not be running.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versioned<'a> {
    #[serde(flatten)]
    pub(crate) app: &'a App,
    pub(crate) version: Timestamp,
    pub(crate) version_info: VersionInfo,
}

impl<'a> Versioned<'a> {
    pub(crate) fn new(app: &'a App, revision: &Revision) -> Versioned<'a> {
        let (version, version_info) = (revision.created_at, version_info(revision));
        Versioned { app, version, version_info }
    }
}

/// An app with its status.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    #[serde(flatten)]
    app: Arc<App>,
    version: Timestamp,
    version_info: VersionInfo,
    tasks_staged: u32,
    tasks_running: u32,
    tasks_healthy: u32,
    tasks_unhealthy: u32,
    deployments: Vec<Deployed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<Task>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_task_failure: Option<failure::Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness_check_results: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_stats: Option<Value>,
}

/// A reference to a deployment of an app.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Deployed {
    id: String,
}

impl From<DeploymentId> for Deployed {
    fn from(id: DeploymentId) -> Deployed {
        Deployed { id: name::deployment(id) }
    }
}

/// The input for presenting apps: one snapshot at one time.
pub(crate) struct Presenter<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) apps: &'a Apps,
    pub(crate) failures: BTreeMap<ServiceId, failure::Failure>,
    pub(crate) now: Timestamp,
}

impl Presenter<'_> {
    /// A service as an app with its current status.
    pub(crate) fn info(&self, service: &Arc<Service>, embed: Embed) -> Info {
        let deployment = self.deployment(service);
        let mut info = self.blank(service, deployment);
        self.count(service, &mut info);
        if embed.tasks {
            let ports = info.app.service_ports();
            let tasks = task::of(self.snapshot, service, &ports, true, self.now);
            info.tasks = Some(tasks.collect());
        }
        if embed.last_task_failure {
            info.last_task_failure = self.failures.get(&service.id).cloned();
        }
        if embed.readiness {
            info.readiness_check_results = Some(self.readiness(&service.id));
        }
        if embed.task_stats {
            info.task_stats = Some(stats(&info));
        }
        info
    }

    /// A service as the app that a request has just created. Its status is empty, even if instances
    /// have started in the meantime.
    pub(crate) fn made(&self, service: &Service, deployment: Option<DeploymentId>) -> Info {
        Info { tasks: Some(Vec::new()), ..self.blank(service, deployment) }
    }

    /// A service as an app without running tasks.
    fn blank(&self, service: &Service, deployment: Option<DeploymentId>) -> Info {
        Info {
            app: self.apps.target(service),
            version: service.target().created_at,
            version_info: version_info(service.target()),
            tasks_staged: 0,
            tasks_running: 0,
            tasks_healthy: 0,
            tasks_unhealthy: 0,
            deployments: deployment.into_iter().map(Deployed::from).collect(),
            tasks: None,
            last_task_failure: None,
            readiness_check_results: None,
            task_stats: None,
        }
    }

    /// The results of the readiness check for the new tasks of a service. Empty unless the service
    /// is part of a deployment.
    pub(crate) fn readiness(&self, id: &ServiceId) -> Vec<Value> {
        let service = self.snapshot.state.service(id);
        let Some(service) = service.filter(|service| self.deployment(service).is_some()) else {
            return Vec::new();
        };
        let app = self.apps.target(service);
        let Some(name) = app.readiness_check() else { return Vec::new() };
        let new = service.placements.iter().filter(|(_, placement)| {
            placement.is_wanted() && service.is_current(placement.revision)
        });
        let result = |(replica, _): (&model::ReplicaId, &model::Placement)| {
            let status = self.snapshot.observed.status(id, *replica)?;
            let instance = InstanceId { service: id.clone(), replica: *replica };
            let task = name::task(&instance, status.run);
            let is_running = status.phase == Phase::Running;
            is_running.then(|| json!({ "name": name, "taskId": task, "ready": status.ready }))
        };
        new.filter_map(result).collect()
    }

    /// The deployment of a service, unless it has been cancelled.
    pub(crate) fn deployment(&self, service: &Service) -> Option<DeploymentId> {
        let deployment = self.snapshot.state.deployment_of(service)?;
        (deployment.stage != model::Stage::Paused).then_some(deployment.id)
    }

    fn count(&self, service: &Service, info: &mut Info) {
        for (replica, placement) in &service.placements {
            let status = self.snapshot.observed.status(&service.id, *replica);
            let lost = self.snapshot.observed.is_lost(&placement.node, self.now);
            match task::state(placement, status, lost) {
                "TASK_STAGING" => info.tasks_staged += 1,
                "TASK_RUNNING" => info.tasks_running += 1,
                _ => continue,
            }
            let checks = status.map(|status| status.checks.as_slice()).unwrap_or_default();
            let mut alive = checks.iter().map(task::is_alive);
            match (checks.is_empty(), alive.all(|alive| alive == Some(true))) {
                (true, _) => {}
                (false, true) => info.tasks_healthy += 1,
                (false, false) => {
                    let fails = checks.iter().any(|check| task::is_alive(check) == Some(false));
                    info.tasks_unhealthy += u32::from(fails);
                }
            }
        }
    }
}

fn stats(info: &Info) -> Value {
    let counts = json!({
        "staged": info.tasks_staged,
        "running": info.tasks_running,
        "healthy": info.tasks_healthy,
        "unhealthy": info.tasks_unhealthy,
    });
    json!({ "totalSummary": { "stats": { "counts": counts } } })
}

#[cfg(test)]
mod tests {
    use super::super::cluster::TestCluster;
    use super::*;

    #[test]
    fn readiness_of_new_tasks_is_shown_during_a_deployment() {
        let mut cluster = TestCluster::new(&["n1"]);
        cluster.app(&json!({
            "id": "/web", "cmd": "serve", "instances": 2,
            "portDefinitions": [{ "port": 0, "name": "main" }],
            "readinessChecks": [{ "name": "warm", "portName": "main" }],
        }));
        let id: ServiceId = "/web".parse().unwrap();
        assert_eq!(cluster.present(|presenter| presenter.readiness(&id)), Vec::<Value>::new());
        cluster.report("/web~0.1", Phase::Running, |status| status.ready = false);
        let shown = |cluster: &TestCluster| -> Vec<String> {
            let results = cluster.present(|presenter| presenter.readiness(&id));
            let word = |result: &Value| {
                let task = result["taskId"].as_str().unwrap();
                assert_eq!(name::parse_task(task).unwrap().0.service, id);
                format!("{} {}", result["name"], result["ready"])
            };
            results.iter().map(word).collect()
        };
        assert_eq!(shown(&cluster), ["\"warm\" false"]);
        cluster.report("/web~0.1", Phase::Running, |_| {});
        cluster.report("/web~1.1", Phase::Running, |status| status.ready = false);
        assert_eq!(shown(&cluster), ["\"warm\" true", "\"warm\" false"]);
        cluster.report("/web~1.1", Phase::Running, |_| {});
        assert!(shown(&cluster).is_empty(), "the deployment is over");
    }
}
