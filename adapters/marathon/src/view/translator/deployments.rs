//! Events about the progress of deployments.

use std::sync::Arc;

use crate::format::HealthCheck;
use model::{
    Deployment, DeploymentId, Move, Origin, Revision, Service, ServiceId, Timestamp, What,
};
use serde_json::{Map, Value, json};

use super::EventTranslator;
use crate::view::app::{Apps, Versioned};
use crate::view::event::Event;
use crate::view::group::{self, Entry, ROOT, Shown};
use crate::view::name;
use crate::view::plan::{self, Action, Step};
use server::control::Snapshot;

/// The plan of a deployment in progress.
pub(super) struct Plan {
    steps: Vec<Step>,
    version: Timestamp,
    /// The number of the last step that has been published, from 1.
    current: usize,
    original: Value,
    target: Value,
}

impl EventTranslator {
    pub(super) fn of_deployment(
        &mut self,
        what: &What,
        id: DeploymentId,
        at: Timestamp,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        match what {
            What::DeploymentStarted { .. } => self.started(id, at, snapshot),
            What::DeploymentSucceeded => {
                let Some(mut plan) = self.plans.remove(&id) else { return Vec::new() };
                let mut events = plan.advance(id, plan.steps.len() + 1, at);
                events.push(plan.event("deployment_success", id, at, json!({})));
                events
            }
            // To Marathon's clients, a paused or held deployment has been cancelled.
            What::DeploymentSuperseded { .. }
            | What::DeploymentRolledBack { .. }
            | What::DeploymentRollbackFailed { .. }
            | What::DeploymentHeld { .. }
            | What::DeploymentPaused => {
                let Some(plan) = self.plans.remove(&id) else { return Vec::new() };
                let reason = match what {
                    What::DeploymentSuperseded { successor } => {
                        format!("cancelled by deployment {}", name::deployment(*successor))
                    }
                    what => what.to_string(),
                };
                vec![plan.event("deployment_failed", id, at, json!({ "reason": reason }))]
            }
            What::DeploymentResumed => {
                let Some(deployment) = snapshot.state.deployment(id) else { return Vec::new() };
                let plan = self.plan(deployment, snapshot);
                let events = vec![plan.info(id, at)];
                self.plans.insert(id, plan);
                events
            }
            _ => Vec::new(),
        }
    }

    fn started(&mut self, id: DeploymentId, at: Timestamp, snapshot: &Snapshot) -> Vec<Event> {
        let Some(deployment) = snapshot.state.deployment(id) else { return Vec::new() };
        let mut plan = self.plan(deployment, snapshot);
        plan.current = 1;
        let mut events = vec![plan.info(id, at)];
        for m in &deployment.moves {
            events.extend(self.health_checks(m, plan.version, at, snapshot));
        }
        let group = common_group(deployment);
        let success = json!({ "groupId": group, "version": plan.version });
        events.push(Event::new("group_change_success", at, success));
        if let Some((origin, app)) = self.posted(deployment, snapshot) {
            events.push(api_post(origin, app, at));
        }
        // A step that only starts apps does not start instances, so it is completed at once.
        let is_start = |step: &Step| step.iter().all(|a| a.action == "StartApplication");
        let starts = plan.steps.iter().take_while(|step| is_start(step)).count();
        events.extend(plan.advance(id, starts + 1, at));
        self.plans.insert(id, plan);
        events
    }

    /// The origin of the request that created or changed a single app, and the app afterwards.
    fn posted<'a>(
        &self,
        deployment: &'a Deployment,
        snapshot: &Snapshot,
    ) -> Option<(&'a Origin, Value)> {
        let origin = deployment.via.as_ref()?;
        let m = deployment.moves.iter().find(|m| is_created_or_updated(origin, &m.service))?;
        let service = snapshot.state.service(&m.service)?;
        let revision = service.revisions.get(&m.to?)?;
        Some((origin, versioned(&self.apps, service, revision)))
    }

    /// Events about the health checks that a move adds or removes.
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

    /// Publishes the steps that were completed since the last call.
    pub(super) fn steps_done(&mut self, at: Timestamp, snapshot: &Snapshot) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, plan) in &mut self.plans {
            let Some(deployment) = snapshot.state.deployment(*id) else { continue };
            if !deployment.stage.is_over() {
                let current = plan::current_step(deployment, &plan.steps);
                events.extend(plan.advance(*id, current, at));
            }
        }
        events
    }

    pub(super) fn plan(&self, deployment: &Deployment, snapshot: &Snapshot) -> Plan {
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
            let entry = |(service, m): &(&Arc<Service>, &Move)| {
                let app = versioned(&self.apps, service, &*revision(service, number(m))?);
                let (id, version) = (service.id.clone(), service.target().created_at);
                Some(Entry { id, version, app })
            };
            let apps = services.iter().filter_map(entry).collect();
            let mut tree = group::tree(ROOT, apps, Vec::new(), shown);
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

/// The innermost group that contains all apps of a deployment.
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

/// Whether a request is published by `api_post_event`. Marathon publishes requests that create or
/// change a single app, but no restarts, kills, or requests for groups or lists. The caller must
/// exclude requests that remove an app or have no effect.
pub(crate) fn is_created_or_updated(origin: &Origin, app: &ServiceId) -> bool {
    let rest = origin.uri.strip_prefix("/v2/apps");
    rest.is_some_and(|rest| rest.is_empty() || rest == app.as_str())
}

/// The event about a request that created or changed an app.
pub(crate) fn api_post(origin: &Origin, app: Value, at: Timestamp) -> Event {
    let fields = json!({ "clientIp": origin.client, "uri": origin.uri, "appDefinition": app });
    Event::new("api_post_event", at, fields)
}

impl Plan {
    /// Publishes the progress up to the step `current`, from 1. The number after the last step
    /// stands for the completion of all steps.
    fn advance(&mut self, id: DeploymentId, current: usize, at: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        while self.current < current {
            events.push(self.event("deployment_step_success", id, at, self.actions()));
            self.current += 1;
            if self.current <= self.steps.len() {
                events.push(self.info(id, at));
            }
        }
        events
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
