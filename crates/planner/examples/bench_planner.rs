//! How long plans take on a large cluster: 10,000 nodes, 100,000 instances, one core.
//!
//! Prints one JSON object a figure: what was measured, its value in milliseconds and the most it
//! may be. Each is the best of several runs, since whatever else the machine does only adds.
//! `cargo xtask bench --only planner` builds this for release and holds the figures to their
//! limits.

use std::hint::black_box;
use std::time::Instant;

use model::{
    Agent, AgentRegistration, Bytes, Command, Cpu, Document, InstanceId, Millis, NodeId, Observed,
    PORTS, Phase, Registration, Resources, Spec, State, Status, Timestamp,
};
use muster_planner::{Agenda, Plan, plan};
use serde_json::json;

const NODES: usize = 10_000;
const NOW: Timestamp = Timestamp(1_767_225_600_000);
const RUNS: usize = 15;

/// The most milliseconds for a plan of a cluster in which nothing is to be done.
const REST_MS_MAX: f64 = 5.0;
/// The same where the instances belong to very many services, of which each costs something. What
/// a server does is the plan of its agenda, which does not look at services that rest.
const REST_OF_MANY_MS_MAX: f64 = 25.0;
/// The most milliseconds for a full cluster to say again what each of many services waits for.
const BLOCKED_MS_MAX: f64 = 100.0;
/// The most milliseconds for the places of 100,000 instances.
const COLD_MS_MAX: f64 = 1_000.0;

fn main() {
    for (services, instances) in [(1_000, 100), (100, 1_000), (20_000, 5)] {
        let shape = format!("{services} services of {instances}");
        let (mut state, mut observed) = cluster();
        apply(&mut state, services, instances);
        let (cold_ms, cold) = best(|| plan(&state, &observed, NOW));
        assert_eq!(placed(&cold), services * instances, "all find a place");
        figure(&format!("cold plan, {shape}"), cold_ms, COLD_MS_MAX);
        let (adopt_ms, adopted) = best(|| adopt(&state, &cold));
        figure(&format!("its adoption, {shape}"), adopt_ms, COLD_MS_MAX);
        state = adopted;
        run_all(&state, &mut observed);
        let arrived = plan(&state, &observed, NOW);
        state = adopt(&state, &arrived);
        rest(&shape, &state, &observed);
    }
    blocked();
}

/// What plans cost while a thousand services find no node.
fn blocked() {
    let (mut state, observed) = cluster();
    let documents = (0..1_000).map(|i| service(&format!("/big-{i}"), 3, 1_000.0));
    state.apply(Command::Apply(documents.collect()), NOW).expect("it is applied");
    state = adopt(&state, &plan(&state, &observed, NOW));
    let mut agenda = Agenda::everything();
    let (blocked_ms, blocked) = best(|| agenda.plan(&state, &observed, NOW));
    assert_eq!((blocked.steps.len(), blocked.waits.len()), (0, 1_000));
    figure("1000 services that no node can take", blocked_ms, BLOCKED_MS_MAX);
}

/// What plans cost while nothing is to be done, and while one service has something to do.
fn rest(shape: &str, state: &State, observed: &Observed) {
    let (rest_ms, plan_at_rest) = best(|| plan(state, observed, NOW));
    assert!(plan_at_rest.steps.is_empty() && plan_at_rest.waits.is_empty());
    let is_many = state.services().count() > 10_000;
    let max = if is_many { REST_OF_MANY_MS_MAX } else { REST_MS_MAX };
    figure(&format!("no-op plan of everything, {shape}"), rest_ms, max);
    let mut agenda = Agenda::everything();
    agenda.plan(state, observed, NOW);
    let (agenda_ms, _) = best(|| agenda.plan(state, observed, NOW));
    figure(&format!("no-op plan of an agenda, {shape}"), agenda_ms, REST_MS_MAX);
    let service = state.services().next().expect("there are services").id.clone();
    let mut observed = observed.clone();
    let mut status = Status::new(Phase::Running, NOW);
    status.healthy = Some(false);
    observed.set_status(&InstanceId::new(service.clone(), 0, 1), status);
    let (one_ms, one) = best(|| {
        agenda.touch(&service);
        agenda.plan(state, &observed, NOW)
    });
    assert_eq!(placed(&one), 1);
    figure(&format!("one unhealthy instance, {shape}"), one_ms, REST_MS_MAX);
}

fn best<T>(mut what: impl FnMut() -> T) -> (f64, T) {
    let mut best_ms = f64::INFINITY;
    let mut result = None;
    for _ in 0..RUNS {
        let began = Instant::now();
        let made = black_box(what());
        best_ms = best_ms.min(began.elapsed().as_secs_f64() * 1_000.0);
        result = Some(made);
    }
    (best_ms, result.expect("it ran"))
}

fn figure(what: &str, ms: f64, max: f64) {
    println!("{}", json!({ "what": what, "unit": "ms", "ours": ms, "max": max }));
}

fn placed(plan: &Plan) -> usize {
    let is_place = |step: &&model::Step| matches!(step, model::Step::Place { .. });
    plan.steps.iter().filter(is_place).count()
}

/// Nodes of three sizes in forty racks, whose agents have told that nothing runs.
fn cluster() -> (State, Observed) {
    let mut state = State::new();
    let mut observed = Observed { since: NOW, lost_after: Millis::secs(30), ..Observed::default() };
    for i in 0..NODES {
        let node: NodeId = format!("node-{i:05}.example").parse().expect("a name");
        let size = 1 + i as u32 % 3;
        let agent = AgentRegistration {
            port: 4041,
            capacity: Resources {
                cpu: Cpu(8_000 * size),
                memory: Bytes::mib(32_768 * u64::from(size)),
            },
            labels: [("rack".into(), format!("r{}", i % 40))].into(),
            capabilities: ["docker".to_string()].into(),
            ports: PORTS,
        };
        let address = format!("10.0.{}.{}", i / 256, i % 256);
        let registration = Registration { node: node.clone(), address, agent: Some(agent) };
        state.apply(Command::Register(registration), NOW).expect("it joins");
        observed.agents.insert(node, Agent { seen_at: NOW, told_all: true });
    }
    (state, observed)
}

fn service(path: &str, instances: usize, cores: f64) -> Document {
    let spec: Spec = serde_json::from_value(json!({
        "service": path,
        "instances": instances,
        "process": { "command": "serve" },
        "resources": { "cpu": cores, "memory": "256MiB" },
        "ports": [{}],
        "health": [{ "probe": { "http": {} } }],
    }))
    .expect("a service");
    Document::Service(Box::new(spec))
}

fn apply(state: &mut State, services: usize, instances: usize) {
    let path = |i: usize| format!("/shop/part-{}/web-{i}", i % 10);
    let documents = (0..services).map(|i| service(&path(i), instances, 0.25));
    state.apply(Command::Apply(documents.collect()), NOW).expect("it is applied");
}

fn adopt(state: &State, plan: &Plan) -> State {
    let mut state = state.clone();
    for step in &plan.steps {
        state.apply(Command::Adopt(step.clone()), NOW).expect("the step is accepted");
    }
    state
}

/// Every instance runs and is healthy.
fn run_all(state: &State, observed: &mut Observed) {
    for service in state.services() {
        for seat in service.placements.keys() {
            let mut status = Status::new(Phase::Running, NOW);
            (status.healthy, status.ready) = (Some(true), true);
            status.started_at = Some(NOW);
            observed.set_status(&InstanceId { service: service.id.clone(), seat: *seat }, status);
        }
    }
}
