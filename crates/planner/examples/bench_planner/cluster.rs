//! Synthetic clusters of any size, the same in each run.

use model::{
    Agent, AgentRegistration, Bytes, Command, Cpu, Document, InstanceId, Millis, NodeId, Observed,
    PORTS, Phase, Proposal, Registration, Resources, Spec, State, Status, Timestamp,
};
use muster_planner::Plan;
use serde_json::json;

/// The time of all events.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// The dimensions of a cluster: nodes, services, and instances per service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) nodes: usize,
    pub(crate) services: usize,
    pub(crate) instances: usize,
}

impl Shape {
    pub(crate) fn all_instances(self) -> usize {
        self.services * self.instances
    }
}

/// Nodes of three sizes in forty racks, with capacity for twice the instances of the shape. Their
/// agents have reported that nothing runs.
pub(crate) fn cluster(shape: Shape) -> (State, Observed) {
    // An instance takes a quarter of a core, and nodes have one, two or three times this.
    let cores = (shape.all_instances() / shape.nodes / 4).max(2) as u32;
    let mut state = State::new();
    let mut observed = Observed { since: NOW, lost_after: Millis::secs(30), ..Observed::default() };
    for i in 0..shape.nodes {
        let size = cores * (1 + i as u32 % 3);
        let memory = Bytes::mib(4_096 * u64::from(size));
        join(&mut state, &mut observed, i, Resources { cpu: Cpu(1_000 * size), memory });
    }
    (state, observed)
}

/// Adds a node whose agent has reported that nothing runs on it.
pub(crate) fn join(state: &mut State, observed: &mut Observed, i: usize, capacity: Resources) {
    let node: NodeId = format!("node-{i:05}.example").parse().expect("a name");
    let agent = AgentRegistration {
        id: String::new(),
        port: 4041,
        capacity,
        labels: [("rack".into(), format!("r{}", i % 40))].into(),
        capabilities: ["docker".to_string()].into(),
        ports: PORTS,
        software: model::Software::current(),
    };
    let address = format!("10.0.{}.{}", i / 256, i % 256);
    let registration = Registration { node: node.clone(), address, agent: Some(agent) };
    state.apply(Proposal::registration(registration), NOW).expect("it joins");
    observed.agents.insert(node, Agent { seen_at: NOW, synced: true });
}

pub(crate) fn service(path: &str, instances: usize, cores: f64, mebibytes: u64) -> Document {
    let spec: Spec = serde_json::from_value(json!({
        "service": path,
        "instances": instances,
        "process": { "command": "serve" },
        "resources": { "cpu": cores, "memory": format!("{mebibytes}MiB") },
        "ports": [{}],
        "health": [{ "probe": { "http": {} } }],
    }))
    .expect("a service");
    Document::service(spec)
}

/// A service with constraints whose instances need few resources.
pub(crate) fn constrained(
    path: &str,
    instances: usize,
    constraints: serde_json::Value,
) -> Document {
    let spec: Spec = serde_json::from_value(json!({
        "service": path,
        "instances": instances,
        "process": { "command": "serve" },
        "resources": { "cpu": 0.001, "memory": "1MiB" },
        "constraints": constraints,
    }))
    .expect("a service");
    Document::service(spec)
}

/// Applies the services of the shape.
pub(crate) fn apply(state: &mut State, shape: Shape) {
    let path = |i: usize| format!("/shop/part-{}/web-{i}", i % 10);
    let documents = (0..shape.services).map(|i| service(&path(i), shape.instances, 0.25, 256));
    state
        .apply(Proposal::operator(Command::Apply(documents.collect())), NOW)
        .expect("it is applied");
}

/// The state after all steps of a plan.
pub(crate) fn adopt(state: &State, plan: &Plan) -> State {
    let mut state = state.clone();
    for step in &plan.steps {
        state.apply(Proposal::step(step.clone()), NOW).expect("the step is accepted");
    }
    state
}

/// Reports every instance as running and healthy.
pub(crate) fn run_all(state: &State, observed: &mut Observed) {
    for service in state.services() {
        for replica in service.placements.keys() {
            let mut status = Status::new(Phase::Running, NOW);
            (status.healthy, status.ready) = (Some(true), true);
            status.started_at = Some(NOW);
            observed
                .set_status(&InstanceId { service: service.id.clone(), replica: *replica }, status);
        }
    }
}

/// The number of instances that a plan places.
pub(crate) fn placed(plan: &Plan) -> usize {
    let is_place = |step: &&model::Step| matches!(step, model::Step::Place { .. });
    plan.steps.iter().filter(is_place).count()
}
