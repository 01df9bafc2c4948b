//! A small cluster for tests, and its snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format;
use api::EventView;
use model::{
    About, AgentRegistration, Bytes, Changeset, Command, Cpu, Document, Ending, Exit, InstanceId,
    Millis, Observed, PORTS, Phase, Proposal, Registration, Resources, ServiceId, State, Status,
    Timestamp, Wait, What,
};
use serde_json::Value;

use super::app::{Apps, Presenter};
use server::control::Snapshot;

/// A cluster without daemons. Tests set the status that daemons would report.
pub(super) struct TestCluster {
    pub(super) now: Timestamp,
    pub(super) events: Vec<EventView>,
    pub(super) state: State,
    observed: Observed,
    waits: BTreeMap<ServiceId, Vec<Wait>>,
    apps: Apps,
}

impl TestCluster {
    /// A cluster at 1970-01-01T00:01:40.000Z with nodes of 8 cores and 8 GiB.
    pub(super) fn new(nodes: &[&str]) -> TestCluster {
        let now = Timestamp(100_000);
        let lost_after = Millis::secs(30);
        let mut cluster = TestCluster {
            now,
            events: Vec::new(),
            state: State::new(),
            observed: Observed { since: now, lost_after, ..Observed::default() },
            waits: BTreeMap::new(),
            apps: Apps::default(),
        };
        for node in nodes {
            let capacity = Resources { cpu: Cpu(8000), memory: Bytes::mib(8192) };
            let agent = AgentRegistration {
                id: String::new(),
                port: 4041,
                capacity,
                labels: BTreeMap::from([("rack".to_string(), "r1".to_string())]),
                capabilities: Default::default(),
                ports: PORTS,
                software: model::Software::current(),
            };
            let address = "10.0.0.1".into();
            let node = node.parse().unwrap();
            cluster.command(Command::Register(Registration { node, address, agent: Some(agent) }));
        }
        cluster
    }

    /// Executes a command and all its consequences.
    pub(super) fn command(&mut self, command: Command) {
        self.apply(command);
        self.plan();
    }

    fn apply(&mut self, command: Command) {
        let Changeset { events, .. } =
            self.state.apply(Proposal::usual(command), self.now).unwrap();
        for event in events {
            self.events.push(EventView { number: self.events.len() as u64 + 1, event });
        }
    }

    /// Plans and applies until the state is stable. All agents count as having sent a full report.
    pub(super) fn plan(&mut self) {
        for node in self.state.node_usages() {
            let agent = model::Agent { seen_at: self.now, synced: true };
            self.observed.agents.insert(node.node.id.clone(), agent);
        }
        loop {
            let plan = planner::plan(&self.state, &self.observed, self.now);
            if plan.steps.is_empty() {
                self.waits.clear();
                for (service, wait) in plan.waits {
                    self.waits.entry(service).or_default().push(wait);
                }
                return;
            }
            plan.steps.into_iter().for_each(|step| self.apply(Command::Adopt(step)));
        }
    }

    /// Creates or updates an app.
    pub(super) fn app(&mut self, app: &Value) {
        let app = format::read_app(app.to_string().as_bytes(), None).unwrap();
        let document = Document::foreign(app.spec().unwrap(), app.source());
        self.command(Command::Apply(vec![document]));
    }

    /// Reports the status of an instance.
    pub(super) fn report(&mut self, instance: &str, phase: Phase, set: impl FnOnce(&mut Status)) {
        let id: InstanceId = instance.parse().unwrap();
        let mut status = Status::new(phase, self.now);
        status.run = 1;
        if phase == Phase::Running {
            (status.started_at, status.ready) = (Some(self.now), true);
        }
        set(&mut status);
        self.observed.set_status(&id, status);
        self.plan();
    }

    /// Adds an event about an instance that no command has caused.
    pub(super) fn event(&mut self, instance: &str, what: What) {
        let about = About::Instance(instance.parse().unwrap());
        let event = model::Event { at: self.now, about, by: None, what };
        self.events.push(EventView { number: self.events.len() as u64 + 1, event });
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state.clone(),
            observed: Arc::new(self.observed.clone()),
            waits: Arc::new(self.waits.clone()),
            routes: Arc::default(),
            failed: Arc::default(),
            revision: 0,
        }
    }

    /// Calls `show` with the current view of the cluster.
    pub(super) fn present<T>(&self, show: impl FnOnce(&Presenter<'_>) -> T) -> T {
        let failures = BTreeMap::new();
        show(&Presenter { snapshot: &self.snapshot(), apps: &self.apps, failures, now: self.now })
    }
}

/// The exit of a run with a code.
pub(super) fn exited(run: u32, code: i32) -> What {
    let how = Ending::Code { code };
    What::Exited { run, exit: Box::new(Exit { at: Timestamp(1), how }) }
}
