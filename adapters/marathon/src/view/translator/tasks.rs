//! Events about the status of tasks.

use model::{InstanceId, NodeId, Phase, Placement, Status, StopReason, Timestamp, What};
use serde_json::{Value, json};

use super::EventTranslator;
use crate::view::event::Event;
use crate::view::{name, task};
use server::control::Snapshot;

#[derive(Clone)]
pub(super) struct TaskCursor {
    /// The current run; 0 while the server has no status from the agent.
    run: u32,
    /// Whether the stop of the task has been requested.
    killing: bool,
    /// Whether the end of the current run has been published.
    ended: bool,
    health: TaskHealth,
}

/// The published health of a run. It is derived from the results that tasks show, so that a client
/// that follows events never sees another health than one that asks.
#[derive(Clone, Default)]
struct TaskHealth {
    run: u32,
    /// Whether each health check is alive.
    alive: Vec<bool>,
    /// The health of the instance; `None` while that of a check is unknown.
    healthy: Option<bool>,
}

impl TaskHealth {
    fn of(status: &Status) -> TaskHealth {
        let results: Vec<_> = status.checks.iter().map(task::is_alive).collect();
        let healthy = match results.iter().any(Option::is_none) || results.is_empty() {
            true => None,
            false => Some(results.iter().all(|alive| *alive == Some(true))),
        };
        let alive = results.into_iter().map(|alive| alive == Some(true)).collect();
        TaskHealth { run: status.run, alive, healthy }
    }
}

/// The subject of an event.
struct Task {
    id: InstanceId,
    cursor: TaskCursor,
    node: NodeId,
    host: String,
    ports: Vec<u16>,
    version: Timestamp,
}

impl EventTranslator {
    /// Finds a task. If it was removed in this batch, the previous state is used.
    fn task(&self, id: &InstanceId, snapshot: &Snapshot) -> Option<Task> {
        let cursor = self.tasks.get(&id.service).and_then(|tasks| tasks.get(&id.replica));
        let now = snapshot.state.placement(id).map(|placement| (&snapshot.state, placement));
        let before = || Some((&self.before, self.before.placement(id)?));
        let (state, placement) = match cursor {
            Some(_) => now.or_else(before)?,
            None => now?,
        };
        let status = snapshot.observed.status(&id.service, id.replica);
        let node = state.node(&placement.node);
        Some(Task {
            id: id.clone(),
            cursor: cursor.cloned().unwrap_or_else(|| TaskCursor::first(placement, status)),
            node: placement.node.clone(),
            host: node.map(|node| node.node.address.clone()).unwrap_or_default(),
            ports: placement.given.ports.to_vec(),
            version: task::version(state.service(&id.service)?, placement.revision),
        })
    }

    fn store_cursor(&mut self, id: &InstanceId, cursor: TaskCursor) {
        match self.tasks.get_mut(&id.service) {
            Some(tasks) => drop(tasks.insert(id.replica, cursor)),
            None => drop(self.tasks.insert(id.service.clone(), [(id.replica, cursor)].into())),
        }
    }

    fn forget(&mut self, id: &InstanceId) {
        let Some(tasks) = self.tasks.get_mut(&id.service) else { return };
        tasks.remove(&id.replica);
        if tasks.is_empty() {
            self.tasks.remove(&id.service);
        }
    }

    pub(super) fn of_task(
        &mut self,
        what: &What,
        id: &InstanceId,
        at: Timestamp,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let Some(mut task) = self.task(id, snapshot) else { return Vec::new() };
        let status = snapshot.observed.status(&id.service, id.replica);
        let runs = status.is_some_and(|status| status.phase == Phase::Running);
        let events = match what {
            What::Placed { .. } => task.placed(at),
            What::Running { run } => task.running(*run, at),
            What::CheckFailed { .. } => vec![self.check_failed(&task, at, snapshot)],
            What::Draining { why } | What::Stopping { why } => task.stopping(*why, at),
            // The exit of the previous run, which an earlier leader has published.
            What::Exited { .. } if task.cursor.run == 0 && runs => return Vec::new(),
            What::Exited { exit, .. } => {
                task.ended(task::ended(Some(exit), task.cursor.killing), what, at)
            }
            What::NotStarted { run, .. } => task.not_started(*run, what, at),
            What::Failed { .. } => task.ended(task::FAILED, what, at),
            What::Stopped { .. } => task.ended(task::KILLED, what, at),
            What::Lost => task.ended(task::UNREACHABLE, what, at),
            _ => Vec::new(),
        };
        let mut events = events;
        if let Some(status) = status.filter(|_| runs) {
            events.extend(task.health(status, at));
        }
        match what {
            What::Stopped { .. } | What::Lost => self.forget(id),
            _ => self.store_cursor(id, task.cursor),
        }
        // A change of a task's status is also a change of its instance's condition.
        let changed: Vec<_> = events.iter().filter_map(|event| event.as_instance(id)).collect();
        events.into_iter().chain(changed).collect()
    }

    fn check_failed(&self, task: &Task, at: Timestamp, snapshot: &Snapshot) -> Event {
        let app = &task.id.service;
        let service = snapshot.state.service(app);
        let check =
            service.and_then(|service| self.apps.target(service).health_checks().first().cloned());
        // As in Marathon, `taskId` is the name of the instance in this kind of event.
        let instance = name::instance(&task.id);
        let fields = json!({ "appId": app, "taskId": instance, "healthCheck": check });
        Event::new("failed_health_check_event", at, fields)
    }
}

impl TaskCursor {
    /// The published status of a task about which no event has been published yet.
    pub(super) fn first(placement: &Placement, status: Option<&Status>) -> TaskCursor {
        let run = status.map_or(0, |status| status.run);
        let health = status.map(TaskHealth::of).unwrap_or_default();
        TaskCursor { run, killing: !placement.is_wanted(), ended: false, health }
    }
}

/// Each method updates the published status for a native event, and returns Marathon's events.
impl Task {
    fn placed(&mut self, at: Timestamp) -> Vec<Event> {
        // The snapshot may be newer than the event: later events of this batch update the status.
        (self.cursor.run, self.cursor.killing) = (1, false);
        vec![self.update("TASK_STAGING", "", at)]
    }

    fn running(&mut self, run: u32, at: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let is_known = self.cursor.run > 0;
        if run > self.cursor.run {
            self.cursor.run = run;
            events.extend(is_known.then(|| self.update("TASK_STAGING", "", at)));
        }
        self.cursor.ended = false;
        events.push(self.update("TASK_RUNNING", "", at));
        events
    }

    /// Publishes the differences between the published health and that of the current run.
    fn health(&mut self, status: &Status, at: Timestamp) -> Vec<Event> {
        if self.cursor.ended || status.run != self.cursor.run {
            return Vec::new();
        }
        let now = TaskHealth::of(status);
        let before = std::mem::replace(&mut self.cursor.health, now.clone());
        let before = if before.run == now.run { before } else { TaskHealth::default() };
        let mut events = Vec::new();
        for (check, alive) in now.alive.iter().enumerate() {
            if *alive != before.alive.get(check).copied().unwrap_or(false) {
                let fields = json!({ "version": self.version, "alive": alive });
                events.push(self.event("health_status_changed_event", fields, at));
            }
        }
        if now.healthy != before.healthy {
            let instance = json!({
                "instanceId": name::instance(&self.id),
                "runSpecId": self.id.service,
                "runSpecVersion": self.version,
                "healthy": now.healthy,
            });
            events.push(Event::new("instance_health_changed_event", at, instance));
        }
        events
    }

    fn stopping(&mut self, why: StopReason, at: Timestamp) -> Vec<Event> {
        // A task that has already exited is not killed.
        if std::mem::replace(&mut self.cursor.killing, true) || self.cursor.ended {
            return Vec::new();
        }
        let mut events = Vec::new();
        if why == StopReason::Unhealthy {
            let fields = json!({
                "version": self.version,
                "reason": why.to_string(),
                "host": self.host,
                "slaveId": self.node,
            });
            events.push(self.event("unhealthy_instance_kill_event", fields, at));
        }
        events.push(self.update("TASK_KILLING", &why.to_string(), at));
        events
    }

    /// Publishes the end of the current run, unless it has already been published.
    fn ended(&mut self, state: &'static str, what: &What, at: Timestamp) -> Vec<Event> {
        match std::mem::replace(&mut self.cursor.ended, true) {
            true => Vec::new(),
            false => vec![self.update(state, &what.to_string(), at)],
        }
    }

    fn not_started(&mut self, run: u32, what: &What, at: Timestamp) -> Vec<Event> {
        if self.cursor.killing {
            return Vec::new();
        }
        let mut events = Vec::new();
        if run > self.cursor.run {
            self.cursor.run = run;
            events.push(self.update("TASK_STAGING", "", at));
        }
        events.push(self.update(task::FAILED, &what.to_string(), at));
        self.cursor.run += 1;
        events.push(self.update("TASK_STAGING", "", at));
        events
    }

    fn name(&self) -> String {
        name::task(&self.id, self.cursor.run.max(1))
    }

    /// An event about the task. `fields` are the fields in addition to the ids of app, task and
    /// instance.
    fn event(&self, kind: &'static str, mut fields: Value, at: Timestamp) -> Event {
        fields["appId"] = json!(self.id.service);
        fields["taskId"] = json!(self.name());
        fields["instanceId"] = json!(name::instance(&self.id));
        Event::new(kind, at, fields)
    }

    fn update(&self, state: &'static str, message: &str, at: Timestamp) -> Event {
        let mut fields = json!({
            "slaveId": self.node,
            "taskId": self.name(),
            "taskStatus": state,
            "message": message,
            "appId": self.id.service,
            "host": self.host,
            "ports": self.ports,
            "version": self.version,
        });
        // A staging task is not reachable yet, although its host is known.
        if state != "TASK_STAGING" {
            fields["ipAddresses"] = json!(task::addresses(&self.host));
        }
        Event::new("status_update_event", at, fields)
    }
}
