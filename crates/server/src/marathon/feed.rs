//! From what happens in the cluster to the events that Marathon's clients are told. Pure.
//!
//! Native events are taken by turns, together with the snapshot that was current when all of the
//! turn had been told. Remembered is only what is gone from the snapshot by the time it is needed:
//! what was told of the tasks there are, the plans of deployments under way, and the state before
//! the turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::EventView;
use formats::marathon::HealthCheck;
use model::{
    Deployment, DeploymentId, InstanceId, Leave, Move, NodeId, Origin, Phase, Placement, Revision,
    Seat, Service, ServiceId, State, Status, Timestamp,
};
use serde_json::{Map, Value, json};

use super::app::{Apps, Versioned};
use super::event::Event;
use super::group::{self, ROOT, Shown};
use super::plan::{self, Action, Step};
use super::{name, task};
use crate::control::Snapshot;

/// Translates events.
pub(crate) struct Feed {
    tasks: BTreeMap<ServiceId, BTreeMap<Seat, Told>>,
    plans: BTreeMap<DeploymentId, Plan>,
    /// The state at the end of the turn before.
    before: State,
    apps: Apps,
}

/// What was told of a task. Of every one there is, so what the state knows is not kept here.
#[derive(Clone, Copy)]
struct Told {
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

/// A deployment under way.
struct Plan {
    steps: Vec<Step>,
    version: Timestamp,
    /// The number of the step that was told last.
    current: usize,
    original: Value,
    target: Value,
}

impl Feed {
    /// A feed that goes on from what there is.
    pub(crate) fn new(snapshot: &Snapshot, apps: Apps) -> Feed {
        let (tasks, plans) = (BTreeMap::new(), BTreeMap::new());
        let before = snapshot.state.clone();
        let mut feed = Feed { tasks, plans, before, apps };
        for service in snapshot.state.services() {
            let seats = service.placements.iter();
            let told = |(seat, placement): (&Seat, &Placement)| {
                let status = snapshot.observed.status(&service.id, *seat);
                (*seat, Told::first(placement, status))
            };
            feed.tasks.insert(service.id.clone(), seats.map(told).collect());
        }
        for deployment in snapshot.state.deployments().filter(|d| !d.stage.is_over()) {
            let plan = feed.plan(deployment, snapshot);
            feed.plans.insert(deployment.id, plan);
        }
        feed
    }

    /// A task, also if it has gone away in this turn: then it is in the state before.
    fn task(&self, id: &InstanceId, snapshot: &Snapshot) -> Option<Task> {
        let told = self.tasks.get(&id.service).and_then(|tasks| tasks.get(&id.seat));
        let now = snapshot.state.placement(id).map(|placement| (&snapshot.state, placement));
        let before = || Some((&self.before, self.before.placement(id)?));
        let (state, placement) = match told {
            Some(_) => now.or_else(before)?,
            None => now?,
        };
        let status = snapshot.observed.status(&id.service, id.seat);
        let node = state.node(&placement.node);
        Some(Task {
            told: told.copied().unwrap_or_else(|| Told::first(placement, status)),
            node: placement.node.clone(),
            host: node.map(|node| node.node.address.clone()).unwrap_or_default(),
            ports: placement.ports.to_vec(),
            version: task::version(state.service(&id.service)?, placement.revision),
        })
    }

    fn remember(&mut self, id: &InstanceId, told: Told) {
        match self.tasks.get_mut(&id.service) {
            Some(tasks) => drop(tasks.insert(id.seat, told)),
            None => drop(self.tasks.insert(id.service.clone(), [(id.seat, told)].into())),
        }
    }

    fn forget(&mut self, id: &InstanceId) {
        let Some(tasks) = self.tasks.get_mut(&id.service) else { return };
        tasks.remove(&id.seat);
        if tasks.is_empty() {
            self.tasks.remove(&id.service);
        }
    }

    /// What is told of the events of a turn.
    pub(crate) fn take<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a EventView>,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let told = events.into_iter().flat_map(|event| self.take_one(event, snapshot)).collect();
        self.before = snapshot.state.clone();
        told
    }

    /// A service, also if it has gone away in this turn.
    fn service<'a>(&'a self, id: &ServiceId, snapshot: &'a Snapshot) -> Option<&'a Arc<Service>> {
        snapshot.state.service(id).or_else(|| self.before.service(id))
    }

    fn take_one(&mut self, event: &EventView, snapshot: &Snapshot) -> Vec<Event> {
        let EventView { event, .. } = event;
        let at = event.at;
        if let Ok(id) = event.subject.parse::<InstanceId>() {
            return self.of_task(&event.kind, &event.message, &id, at, snapshot);
        }
        if let Ok(id) = event.subject.parse::<DeploymentId>() {
            return self.of_deployment(&event.kind, &event.message, id, at, snapshot);
        }
        match (&*event.kind, &event.service) {
            ("removed", Some(app)) => {
                let mut told =
                    vec![Event::new("app_terminated_event", at, json!({ "appId": app }))];
                told.extend(self.steps_done(at, snapshot));
                told
            }
            ("arrived", Some(_)) => self.steps_done(at, snapshot),
            _ => Vec::new(),
        }
    }

    fn of_task(
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
                if message == Leave::Unhealthy.to_string() {
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
                let status = snapshot.observed.status(&id.service, id.seat);
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

    fn of_deployment(
        &mut self,
        kind: &str,
        message: &str,
        id: DeploymentId,
        at: Timestamp,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        match kind {
            "deployment-started" => self.started(id, at, snapshot),
            "deployment-succeeded" => {
                let Some(mut plan) = self.plans.remove(&id) else { return Vec::new() };
                let mut told = plan.advance(id, plan.steps.len() + 1, at);
                told.push(plan.event("deployment_success", id, at, json!({})));
                told
            }
            // One that stands still is called off, as far as Marathon's clients know.
            "deployment-superseded"
            | "deployment-rolled-back"
            | "deployment-held"
            | "deployment-paused" => {
                let Some(plan) = self.plans.remove(&id) else { return Vec::new() };
                let by = message.strip_prefix("by ").and_then(|by| by.parse().ok());
                let reason = match by {
                    Some(by) => format!("cancelled by deployment {}", name::deployment(by)),
                    None => message.to_string(),
                };
                vec![plan.event("deployment_failed", id, at, json!({ "reason": reason }))]
            }
            "deployment-resumed" => {
                let Some(deployment) = snapshot.state.deployment(id) else { return Vec::new() };
                let plan = self.plan(deployment, snapshot);
                let told = vec![plan.info(id, at)];
                self.plans.insert(id, plan);
                told
            }
            _ => Vec::new(),
        }
    }

    fn started(&mut self, id: DeploymentId, at: Timestamp, snapshot: &Snapshot) -> Vec<Event> {
        let Some(deployment) = snapshot.state.deployment(id) else { return Vec::new() };
        let mut plan = self.plan(deployment, snapshot);
        plan.current = 1;
        let mut told = vec![plan.info(id, at)];
        for m in &deployment.moves {
            told.extend(self.health_checks(m, plan.version, at, snapshot));
        }
        let group = common_group(deployment);
        let success = json!({ "groupId": group, "version": plan.version });
        told.push(Event::new("group_change_success", at, success));
        if let Some((origin, app)) = self.posted(deployment, snapshot) {
            told.push(api_post(origin, app, at));
        }
        // A step of starts brings nothing by itself: it is over at once.
        let is_start = |step: &Step| step.iter().all(|a| a.action == "StartApplication");
        let starts = plan.steps.iter().take_while(|step| is_start(step)).count();
        told.extend(plan.advance(id, starts + 1, at));
        self.plans.insert(id, plan);
        told
    }

    /// The request that has made or changed one app, with what it is now.
    fn posted<'a>(
        &self,
        deployment: &'a Deployment,
        snapshot: &Snapshot,
    ) -> Option<(&'a Origin, Value)> {
        let origin = deployment.origin.as_ref()?;
        let m = deployment.moves.iter().find(|m| posts(origin, &m.service))?;
        let service = snapshot.state.service(&m.service)?;
        let revision = service.revisions.get(&m.to?)?;
        Some((origin, versioned(&self.apps, service, revision)))
    }

    /// Health checks that a move adds, or takes away.
    fn health_checks(
        &self,
        m: &Move,
        version: Timestamp,
        at: Timestamp,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let Some(service) = self.service(&m.service, snapshot) else { return Vec::new() };
        let app = |number| {
            let revision = service.revisions.get(&number)?;
            Some(self.apps.of(service, revision))
        };
        let before = plan::before(m);
        let (from, to) = (before.and_then(app), m.to.and_then(app));
        let Some(to) = to else {
            let had_some = !self.apps.target(service).health_checks().is_empty();
            let removed =
                || Event::new("remove_health_check_event", at, json!({ "appId": m.service }));
            return had_some.then(removed).into_iter().collect();
        };
        let same_instances = before
            .zip(m.to)
            .is_some_and(|(before, to)| service.template(before) == service.template(to));
        if same_instances && from.is_some_and(|from| from.health_checks() == to.health_checks()) {
            return Vec::new();
        }
        let added = |check: &HealthCheck| {
            let fields = json!({ "appId": m.service, "version": version, "healthCheck": check });
            Event::new("add_health_check_event", at, fields)
        };
        to.health_checks().iter().map(added).collect()
    }

    /// What has come of the plans since they were last told of.
    fn steps_done(&mut self, at: Timestamp, snapshot: &Snapshot) -> Vec<Event> {
        let mut told = Vec::new();
        for (id, plan) in &mut self.plans {
            let Some(deployment) = snapshot.state.deployment(*id) else { continue };
            if !deployment.stage.is_over() {
                let current = plan::current_step(deployment, &plan.steps);
                told.extend(plan.advance(*id, current, at));
            }
        }
        told
    }

    fn plan(&self, deployment: &Deployment, snapshot: &Snapshot) -> Plan {
        let state = &snapshot.state;
        let revision = |service: &Service, number: Option<u32>| {
            service.revisions.get(&number?).map(Arc::clone)
        };
        let services =
            deployment.moves.iter().filter_map(|m| Some((self.service(&m.service, snapshot)?, m)));
        let services: Vec<_> = services.collect();
        let version = plan::version(deployment, state);
        let shown = Shown { groups: true, apps: true, pods: true, of_apps: Default::default() };
        let tree = |number: fn(&Move) -> Option<u32>, at: Option<Timestamp>| {
            let there: BTreeMap<&ServiceId, Arc<Revision>> = services
                .iter()
                .filter_map(|(service, m)| Some((&service.id, revision(service, number(m))?)))
                .collect();
            let list: Vec<&Arc<Service>> = services
                .iter()
                .map(|(service, _)| *service)
                .filter(|service| there.contains_key(&service.id))
                .collect();
            let app = |service: &Arc<Service>| versioned(&self.apps, service, &there[&service.id]);
            let mut tree = group::tree(ROOT, &list, &[], shown, &app);
            tree.version = at.unwrap_or(tree.version);
            json!(tree)
        };
        let steps = plan::steps(deployment, state);
        let current = plan::current_step(deployment, &steps);
        Plan {
            original: tree(plan::before, None),
            target: tree(|m| m.to, Some(version)),
            version,
            current,
            steps,
        }
    }
}

pub(crate) fn versioned(apps: &Apps, service: &Service, revision: &Revision) -> Value {
    json!(Versioned::new(&apps.of(service, revision), revision))
}

/// The run that something is told of: `run 2`, or more about it after a colon.
pub(crate) fn run_of(message: &str) -> Option<u32> {
    message.strip_prefix("run ")?.split(':').next()?.parse().ok()
}

/// The innermost group that holds all apps of a deployment.
fn common_group(deployment: &Deployment) -> String {
    let parent = |id: &ServiceId| {
        id.as_str().rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_string())
    };
    let mut common = deployment.moves.first().map(|m| parent(&m.service)).unwrap_or_default();
    for m in &deployment.moves {
        while !common.is_empty() && !m.service.is_in(&common) {
            common = common.rsplit_once('/').map_or(String::new(), |(up, _)| up.to_string());
        }
    }
    if common.is_empty() { ROOT.into() } else { common }
}

/// Whether a request is told of as one that posts an app: Marathon tells of those that make one or
/// change one, and not of restarts, kills, groups and lists. (That one is removed or not changed at
/// all is for the caller to know.)
pub(crate) fn posts(origin: &Origin, app: &ServiceId) -> bool {
    let rest = origin.uri.strip_prefix("/v2/apps");
    rest.is_some_and(|rest| rest.is_empty() || rest == app.as_str())
}

/// What is told of a request that has posted an app.
pub(crate) fn api_post(origin: &Origin, app: Value, at: Timestamp) -> Event {
    let fields = json!({ "clientIp": origin.client, "uri": origin.uri, "appDefinition": app });
    Event::new("api_post_event", at, fields)
}

impl Told {
    /// What followers count as told of a task that nothing was told of yet.
    fn first(placement: &Placement, status: Option<&Status>) -> Told {
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

impl Plan {
    /// What is told on the way to the step `current`, from 1; one beyond the last: all are done.
    fn advance(&mut self, id: DeploymentId, current: usize, at: Timestamp) -> Vec<Event> {
        let mut told = Vec::new();
        while self.current < current {
            told.push(self.event("deployment_step_success", id, at, self.actions()));
            self.current += 1;
            if self.current <= self.steps.len() {
                told.push(self.info(id, at));
            }
        }
        told
    }

    fn info(&self, id: DeploymentId, at: Timestamp) -> Event {
        self.event("deployment_info", id, at, self.actions())
    }

    fn actions(&self) -> Value {
        let none: &[Action] = &[];
        let step = self.steps.get(self.current.saturating_sub(1)).map_or(none, Vec::as_slice);
        json!({ "currentStep": { "actions": step } })
    }

    fn event(&self, kind: &'static str, id: DeploymentId, at: Timestamp, more: Value) -> Event {
        let steps: Vec<Value> = self.steps.iter().map(|step| json!({ "actions": step })).collect();
        let id = name::deployment(id);
        let mut fields = json!({ "plan": { "id": id, "steps": steps, "version": self.version } });
        if kind == "deployment_success" || kind == "deployment_failed" {
            fields["id"] = json!(id);
        }
        if let (Some(fields), Value::Object(mut more)) = (fields.as_object_mut(), more) {
            fields.append(&mut more);
        }
        let heavy = Map::from_iter([
            ("original".to_string(), self.original.clone()),
            ("target".to_string(), self.target.clone()),
        ]);
        Event::new(kind, at, fields).with_heavy_plan(heavy)
    }
}

#[cfg(test)]
mod tests;
