//! What is told of tasks, from their placing to their end.

use model::{InstanceId, NodeId, Phase, Placement, Status, StopReason, Timestamp};
use serde_json::{Value, json};

use super::Feed;
use crate::view::event::Event;
use crate::view::{name, task};
use server::control::Snapshot;

#[derive(Clone, Copy)]
pub(super) struct Told {
    /// Its run; 0 while no agent has spoken of it to this server.
    run: u32,
    /// It was told to stop.
    killing: bool,
    /// Its present run has ended.
    ended: bool,
}

/// A task of which something is to be told.
struct Task {
    told: Told,
    node: NodeId,
    host: String,
    ports: Vec<u16>,
    version: Timestamp,
}

impl Feed {
    /// A task, also if it has gone away in this turn: then it is in the state before.
    fn task(&self, id: &InstanceId, snapshot: &Snapshot) -> Option<Task> {
        let told = self.tasks.get(&id.service).and_then(|tasks| tasks.get(&id.replica));
        let now = snapshot.state.placement(id).map(|placement| (&snapshot.state, placement));
        let before = || Some((&self.before, self.before.placement(id)?));
        let (state, placement) = match told {
            Some(_) => now.or_else(before)?,
            None => now?,
        };
        let status = snapshot.observed.status(&id.service, id.replica);
        let node = state.node(&placement.node);
        Some(Task {
            told: told.copied().unwrap_or_else(|| Told::first(placement, status)),
            node: placement.node.clone(),
            host: node.map(|node| node.node.address.clone()).unwrap_or_default(),
            ports: placement.given.ports.to_vec(),
            version: task::version(state.service(&id.service)?, placement.revision),
        })
    }

    fn remember(&mut self, id: &InstanceId, told: Told) {
        match self.tasks.get_mut(&id.service) {
            Some(tasks) => drop(tasks.insert(id.replica, told)),
            None => drop(self.tasks.insert(id.service.clone(), [(id.replica, told)].into())),
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
        kind: &str,
        message: &str,
        id: &InstanceId,
        at: Timestamp,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let Some(mut known) = self.task(id, snapshot) else { return Vec::new() };
        let (mut told, mut is_gone) = (Vec::new(), false);
        match kind {
            "placed" => {
                // What has become of it since is told by what comes after this.
                (known.told.run, known.told.killing) = (1, false);
                told.push(known.update(id, "TASK_STAGING", "", at));
            }
            "running" => {
                let run = run_of(message).unwrap_or(known.told.run + 1);
                let is_first_word = known.told.run == 0;
                if is_first_word {
                    known.told.run = run;
                } else if run > known.told.run {
                    known.told.run = run;
                    told.push(known.update(id, "TASK_STAGING", "", at));
                }
                known.told.ended = false;
                told.push(known.update(id, "TASK_RUNNING", "", at));
            }
            "healthy" | "unhealthy" => {
                let alive = kind == "healthy";
                let fields = json!({ "version": known.version, "alive": alive });
                told.push(known.event(id, "health_status_changed_event", fields, at));
                told.push(Event::new(
                    "instance_health_changed_event",
                    at,
                    json!({
                        "instanceId": name::instance(id),
                        "runSpecId": id.service,
                        "runSpecVersion": known.version,
                        "healthy": alive,
                    }),
                ));
            }
            "check-failed" => {
                let service = snapshot.state.service(&id.service);
                let check = service
                    .and_then(|service| self.apps.target(service).health_checks().first().cloned());
                // As in Marathon, the instance is what it calls a task here.
                let (app, instance) = (&id.service, name::instance(id));
                let fields = json!({ "appId": app, "taskId": instance, "healthCheck": check });
                told.push(Event::new("failed_health_check_event", at, fields));
            }
            // A task that has ended by itself is not killed any more.
            "draining" | "stopping" if known.told.ended => known.told.killing = true,
            "draining" | "stopping" if !known.told.killing => {
                known.told.killing = true;
                if message == StopReason::Unhealthy.to_string() {
                    let fields = json!({
                        "version": known.version,
                        "reason": message,
                        "host": known.host,
                        "slaveId": known.node,
                    });
                    told.push(known.event(id, "unhealthy_instance_kill_event", fields, at));
                }
                told.push(known.update(id, "TASK_KILLING", message, at));
            }
            "exited" if !known.told.ended => {
                let status = snapshot.observed.status(&id.service, id.replica);
                if known.told.run == 0
                    && status.is_some_and(|status| status.phase == Phase::Running)
                {
                    // The run before this one has ended, in the days of an earlier server.
                    return told;
                }
                known.told.ended = true;
                let exit = status.and_then(|status| status.last_exit.as_deref());
                let state =
                    if known.told.killing { "TASK_KILLED" } else { task::state_after(exit) };
                told.push(known.update(id, state, message, at));
            }
            "not-started" if !known.told.killing => {
                let run = run_of(message).unwrap_or(known.told.run);
                if run > known.told.run {
                    known.told.run = run;
                    told.push(known.update(id, "TASK_STAGING", "", at));
                }
                told.push(known.update(id, "TASK_FAILED", message, at));
                known.told.run += 1;
                told.push(known.update(id, "TASK_STAGING", "", at));
            }
            "failed" if !known.told.ended => {
                known.told.ended = true;
                told.push(known.update(id, "TASK_FAILED", message, at));
            }
            "stopped" | "lost" => {
                if !known.told.ended {
                    let state = if kind == "lost" { "TASK_UNREACHABLE" } else { "TASK_KILLED" };
                    told.push(known.update(id, state, message, at));
                }
                is_gone = true;
            }
            _ => {}
        }
        match is_gone {
            true => self.forget(id),
            false => self.remember(id, known.told),
        }
        // A task that changes its state is an instance that changes its condition.
        let changed: Vec<_> = told.iter().filter_map(|event| event.as_instance(id)).collect();
        told.into_iter().chain(changed).collect()
    }
}

/// The run that something is told of: `run 2`, or more about it after a colon.
pub(crate) fn run_of(message: &str) -> Option<u32> {
    message.strip_prefix("run ")?.split(':').next()?.parse().ok()
}

impl Told {
    /// What followers count as told of a task that nothing was told of yet.
    pub(super) fn first(placement: &Placement, status: Option<&Status>) -> Told {
        let run = status.map_or(0, |status| status.run);
        Told { run, killing: !placement.is_wanted(), ended: false }
    }
}

impl Task {
    fn name(&self, id: &InstanceId) -> String {
        name::task(id, self.told.run.max(1))
    }

    /// An event about the task, with more about it.
    fn event(
        &self,
        id: &InstanceId,
        kind: &'static str,
        mut fields: Value,
        at: Timestamp,
    ) -> Event {
        fields["appId"] = json!(id.service);
        fields["taskId"] = json!(self.name(id));
        fields["instanceId"] = json!(name::instance(id));
        Event::new(kind, at, fields)
    }

    fn update(&self, id: &InstanceId, state: &'static str, message: &str, at: Timestamp) -> Event {
        let mut fields = json!({
            "slaveId": self.node,
            "taskId": self.name(id),
            "taskStatus": state,
            "message": message,
            "appId": id.service,
            "host": self.host,
            "ports": self.ports,
            "version": self.version,
        });
        // Where a task is to run is known before it can be reached there.
        if state != "TASK_STAGING" {
            fields["ipAddresses"] = json!(task::addresses(&self.host));
        }
        Event::new("status_update_event", at, fields)
    }
}
