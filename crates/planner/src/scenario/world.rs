//! A synthetic cluster or a copy of a real one: the desired state, the instances that run, and the
//! observations of the server.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Agent, AgentRegistration, Command, Document, GatewayStatus, Goal, Guard, InstanceId, Millis,
    NodeId, Observed, Outcome, PauseReport, Phase, Proposal, Registration, RevisionNumber,
    SILENT_AFTER, ServiceId, State, Status, Timestamp,
};

use crate::{Plan, plan, routes};

/// A cluster whose time is advanced explicitly.
#[derive(Debug, Clone)]
pub struct World {
    /// The desired state.
    pub state: State,
    /// The observations of the server.
    pub observed: Observed,
    /// The current time.
    pub now: Timestamp,
    /// The actual statuses of instances.
    truth: BTreeMap<InstanceId, Status>,
    /// Nodes whose agents are silent.
    silent: BTreeSet<NodeId>,
    /// Nodes whose gateways are silent.
    silent_gateways: BTreeSet<NodeId>,
    /// Revisions whose instances never become healthy.
    sick: BTreeSet<(ServiceId, RevisionNumber)>,
    /// The contents of the files that `apply -f` may name.
    files: BTreeMap<String, Vec<Document>>,
    /// Whether commands also act on frozen services.
    force: bool,
}

/// The initial time: 2026-01-01T00:00:00Z, chosen arbitrarily.
const BEGINNING: Timestamp = Timestamp(1_767_225_600_000);

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A cluster without nodes.
    pub fn new() -> World {
        let lost_after = Millis::secs(30);
        World {
            state: State::new(),
            observed: Observed { since: BEGINNING, lost_after, ..Observed::default() },
            now: BEGINNING,
            truth: BTreeMap::new(),
            silent: BTreeSet::new(),
            silent_gateways: BTreeSet::new(),
            sick: BTreeSet::new(),
            files: BTreeMap::new(),
            force: false,
        }
    }

    /// A copy of the cluster of a server: the reported statuses become the actual ones, and daemons
    /// that have been silent stay silent.
    pub fn of(state: State, observed: Observed, now: Timestamp) -> World {
        let statuses = observed.statuses();
        let statuses = statuses.map(|(instance, status)| (instance, status.clone()));
        let is_silent = |seen_at: Option<Timestamp>| {
            seen_at.is_none_or(|seen_at| now.since(seen_at) >= SILENT_AFTER)
        };
        let agent = |node: &NodeId| observed.agents.get(node).map(|agent| agent.seen_at);
        let gateway = |node: &NodeId| observed.gateways.get(node).map(|gateway| gateway.seen_at);
        let nodes = || state.nodes().map(|node| &node.id);
        World {
            truth: statuses.collect(),
            silent: nodes().filter(|node| is_silent(agent(node))).cloned().collect(),
            silent_gateways: nodes().filter(|node| is_silent(gateway(node))).cloned().collect(),
            sick: BTreeSet::new(),
            files: BTreeMap::new(),
            force: false,
            state,
            observed,
            now,
        }
    }

    /// Adds a file that `apply -f` may name, since commands do not read the disk.
    pub fn offer(&mut self, file: impl Into<String>, documents: Vec<Document>) {
        self.files.insert(file.into(), documents);
    }

    /// The documents of a file that was added.
    pub(super) fn offered(&self, file: &str) -> Option<&[Document]> {
        self.files.get(file).map(Vec::as_slice)
    }

    /// Applies a command at the current time.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let guard = Guard { force: self.force, ..Guard::default() };
        self.state.apply(Proposal { guard, ..Proposal::usual(command) }, self.now)
    }

    /// Runs `commands` so that they also act on frozen services.
    pub(super) fn forcing<T>(&mut self, commands: impl FnOnce(&mut World) -> T) -> T {
        self.force = true;
        let result = commands(self);
        self.force = false;
        result
    }

    /// The plan for the current time.
    pub fn plan(&self) -> Plan {
        plan(&self.state, &self.observed, self.now)
    }

    /// Registers an agent, which reports that nothing runs.
    pub fn join(&mut self, node: &NodeId, agent: AgentRegistration) -> Outcome {
        self.silent.remove(node);
        let reported = Agent { seen_at: self.now, synced: true };
        self.observed.agents.insert(node.clone(), reported);
        let address = format!("{node}.example");
        let registration = Registration { node: node.clone(), address, agent: Some(agent) };
        self.apply(Command::Register(registration))
    }

    /// Registers a gateway.
    pub fn join_gateway(&mut self, node: &NodeId) -> Outcome {
        let address = format!("{node}.example");
        let registration = Registration { node: node.clone(), address, agent: None };
        let outcome = self.apply(Command::Register(registration));
        self.silent_gateways.remove(node);
        let reported = GatewayStatus { seen_at: self.now, ..GatewayStatus::default() };
        self.observed.gateways.insert(node.clone(), reported);
        self.publish();
        outcome
    }

    /// Advances the time; the daemons that are not silent send heartbeats.
    pub fn tick(&mut self, span: Millis) {
        self.now = self.now.after(span);
        for (node, agent) in &mut self.observed.agents {
            if !self.silent.contains(node) {
                agent.seen_at = self.now;
            }
        }
        for (node, gateway) in &mut self.observed.gateways {
            if !self.silent_gateways.contains(node) {
                gateway.seen_at = self.now;
            }
        }
        self.publish();
    }

    /// Silences the daemons of a node. Its instances keep running.
    pub fn lose(&mut self, node: &NodeId) {
        self.silent.insert(node.clone());
        self.silent_gateways.insert(node.clone());
    }

    /// Ends the silence of the daemons of a node.
    pub fn find(&mut self, node: &NodeId) {
        self.silent.remove(node);
        self.silent_gateways.remove(node);
        self.report_all(node);
    }

    /// Whether the agent of a node is not silent.
    pub fn is_reporting(&self, node: &NodeId) -> bool {
        !self.silent.contains(node)
    }

    /// Restarts the server: it has no observations until agents report.
    pub fn drop_observations(&mut self) {
        let lost_after = self.observed.lost_after;
        self.observed = Observed { since: self.now, lost_after, ..Observed::default() };
    }

    /// The daemons of a node send full reports.
    pub fn report_all(&mut self, node: &NodeId) {
        let Some(host) = self.state.node(node).cloned() else { return };
        if host.node.capacity.is_some() {
            let reported = Agent { seen_at: self.now, synced: true };
            self.observed.agents.insert(node.clone(), reported);
            for instance in &host.instances {
                match self.truth.get(instance) {
                    Some(status) => self.observed.set_status(instance, status.clone()),
                    None => self.observed.remove_status(instance),
                }
            }
        }
        if host.node.gateway {
            let reported = GatewayStatus { seen_at: self.now, ..GatewayStatus::default() };
            self.observed.gateways.insert(node.clone(), reported);
        }
        self.publish();
    }

    /// The actual status of an instance; `placed` before its agent has received it.
    pub fn status(&self, instance: &InstanceId) -> Status {
        let known = self.truth.get(instance).cloned();
        known.unwrap_or_else(|| Status::new(Phase::Placed, self.now))
    }

    /// Changes the status of an instance; its agent reports that unless it is silent.
    pub fn report(&mut self, instance: &InstanceId, status: Status) {
        let Some(placement) = self.state.placement(instance) else { return };
        let known = self.observed.agents.get(&placement.node);
        if known.is_some_and(|agent| agent.synced) && self.is_reporting(&placement.node) {
            self.observed.set_status(instance, status.clone());
        }
        self.truth.insert(instance.clone(), status);
        self.publish();
    }

    /// Makes instances of a revision unhealthy from now on.
    pub fn make_unhealthy(&mut self, service: ServiceId, revision: RevisionNumber) {
        self.sick.insert((service, revision));
    }

    /// Adopts a plan; returns the steps that were rejected.
    pub fn adopt(&mut self, plan: &Plan) -> Vec<(model::Step, model::Refusal)> {
        let mut refused = Vec::new();
        for step in &plan.steps {
            if let Err(refusal) = self.apply(Command::Adopt(step.clone())) {
                refused.push((step.clone(), refusal));
            }
        }
        self.publish();
        refused
    }

    /// Moves every instance towards its goal; returns whether that changed anything.
    pub fn work(&mut self) -> bool {
        let mut reported = Vec::new();
        for service in self.state.services() {
            for (replica, placement) in &service.placements {
                let instance = InstanceId { service: service.id.clone(), replica: *replica };
                let status = self.truth.get(&instance);
                let runs = status.is_some_and(|status| status.phase == Phase::Running);
                let is_well = !self.sick.contains(&(service.id.clone(), placement.revision));
                let is_judged = status.is_some_and(|s| s.healthy == Some(false) || s.ready);
                let mut next = Status::new(Phase::Running, self.now);
                let is_suspended = status.is_some_and(|status| status.pause.is_some());
                match placement.goal {
                    Goal::Run if placement.is_suspended() && !is_suspended => {
                        let unstarted = Status::new(Phase::Starting, self.now);
                        next = status.cloned().unwrap_or(unstarted);
                        next.pause = Some(PauseReport::Suspended);
                    }
                    Goal::Run if placement.is_suspended() => continue,
                    Goal::Run if is_suspended => {
                        next.started_at = status.and_then(|s| s.started_at);
                        next.healthy = is_well.then_some(true);
                        next.ready = is_well;
                    }
                    Goal::Run if !runs || (is_well && !is_judged) => {
                        next.started_at = status.and_then(|s| s.started_at).or(Some(self.now));
                        next.healthy = is_well.then_some(true);
                        next.ready = is_well;
                    }
                    Goal::Stop { .. } if status.is_none_or(|status| !status.phase.is_over()) => {
                        next.phase = Phase::Stopped;
                    }
                    _ => continue,
                }
                if self.is_reporting(&placement.node) {
                    reported.push((instance, next));
                }
            }
        }
        let moved = !reported.is_empty();
        for (instance, status) in reported {
            self.report(&instance, status);
        }
        moved
    }

    /// Publishes the current routes; the gateways that are not silent follow immediately.
    fn publish(&mut self) {
        let state = &self.state;
        let truth = |instance: &InstanceId, _: &mut Status| state.placement(instance).is_some();
        self.truth.retain(truth);
        for instance in self.forgotten() {
            self.observed.remove_status(&instance);
        }
        if !self.observed.is_settled(&self.state, self.now) {
            return;
        }
        let listeners = routes(&self.state, &self.observed, self.now);
        let routes = listeners.iter().flat_map(|listener| &listener.routes);
        let backends = routes.flat_map(|route| &route.backends);
        let present: BTreeSet<_> = backends.map(|backend| backend.instance.clone()).collect();
        let published = &mut self.observed.published;
        if published.first == 0 || present != published.present {
            published.last += 1;
            published.first = published.first.max(1);
            for gone in published.present.difference(&present) {
                published.left.insert(gone.clone(), published.last);
            }
            published.present = present;
        }
        for (node, gateway) in &mut self.observed.gateways {
            if !self.silent_gateways.contains(node) {
                gateway.generation = published.last;
            }
        }
    }

    fn forgotten(&self) -> Vec<InstanceId> {
        let known = self.observed.statuses().map(|(instance, _)| instance);
        known.filter(|instance| self.state.placement(instance).is_none()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Line, replay};

    #[test]
    fn a_copy_of_a_cluster_behaves_like_the_original() {
        let before = "> node n1 cpu=2\n> node n2 cpu=3\n> node n3\n> gateway n3\n\
            > gateway n4\n> route 8080 /web\n> apply /web instances=4 health , /db\n> settle\n\
            > restart /db\n> run\n> lose n1\n> lose n4\n> tick 20s\n";
        let after = "> plan\n> show\n> tick 10s\n> run\n> settle\n> show\n> return n1\n\
            > drain n2\n> settle\n> show\n> gateway n2\n> lose n3\n> tick 31s\n> settle\n";
        let mut made_up = World::new();
        replay(&mut made_up, before);
        let mut copy =
            World::of(State::load(made_up.state.objects()), made_up.observed.clone(), made_up.now);
        let written = |world: &mut World| -> String {
            replay(world, after).iter().map(Line::to_string).collect()
        };
        assert_eq!(written(&mut copy), written(&mut made_up));
        assert!(written(&mut copy).contains("wait"), "the nodes that are left have no room");
    }
}
