//! Benchmark of the planner on one core: the duration of plans, and how well they fill nodes.
//!
//! Prints one JSON object per figure in the format of the benchmark history: the subject, its value
//! and its limit. Times are processor times, which depend little on other load of the machine.
//! `cargo xtask bench --only planner` builds this in release mode and checks the limits.
//!
//! With the arguments `count cold` or `count rest`, it makes one plan of that kind inside of
//! [`counted`], for a tool that counts the instructions of that function only.

mod cluster;
mod packing;

use std::hint::black_box;

use model::{Command, InstanceId, Observed, Phase, Proposal, State, Status};
use muster_planner::{WorkQueue, plan};
use serde_json::{Value, json};

use cluster::{NOW, Shape, adopt, apply, cluster, constrained, placed, run_all, service};

/// Minimum number of placements per second: 100,000 instances take a second, a million ten.
const PLACED_PER_SECOND_MIN: f64 = 100_000.0;
/// Maximum duration in milliseconds of a plan for a settled cluster.
const SETTLED_MS_MAX: f64 = 5.0;
/// The same for a cluster with many services, each of which has a cost. A server plans only its
/// work queue, which skips settled services.
const SETTLED_MANY_MS_MAX: f64 = 25.0;
/// Maximum duration in milliseconds of a plan for a full cluster with many waiting services.
const BLOCKED_MS_MAX: f64 = 100.0;
/// Minimum utilization of a cluster by instances that arrive one by one and are spread, as a ratio
/// to the utilization by first-fit-decreasing, which knows all of them in advance.
const PACKED_RATIO_MIN: f64 = 0.85;

/// Maximum cost of a constraint that counts instances, as a ratio to the same without it. A higher
/// ratio means that placements recount all instances.
const COUNTED_RATIO_MAX: f64 = 2.0;

/// Minimum processor time in milliseconds over which a measurement is repeated.
const LASTING_MS: f64 = 500.0;

/// The cluster whose instructions are counted: large enough that constant costs do not matter,
/// small enough for a tool that is fifty times slower.
const COUNTED: Shape = Shape { nodes: 1_000, services: 100, instances: 100 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => measure(),
        ["count", "cold"] => count_cold(),
        ["count", "rest"] => count_settled(),
        _ => {
            eprintln!("usage: bench_planner [count cold|rest]");
            std::process::exit(2);
        }
    }
}

fn measure() {
    let shape = |nodes, services, instances| Shape { nodes, services, instances };
    cold(shape(1_000, 100, 100));
    for (services, instances) in [(1_000, 100), (100, 1_000), (20_000, 5)] {
        let (state, observed) = cold(shape(10_000, services, instances));
        rest(&format!("{services} services of {instances}"), &state, &observed);
    }
    cold(shape(10_000, 10_000, 100));
    blocked();
    counted_constraint();
    let (ours, peer) = packing::shares();
    let peer = json!({ "name": "first-fit-decreasing", "value": 100.0 * peer });
    let limit = json!({ "ratio_min": PACKED_RATIO_MIN });
    figure("a cluster's use when the first finds no node", "%", 100.0 * ours, peer, limit);
}

/// Measures the first plan of a cluster and its adoption. Returns the cluster with all instances
/// running.
fn cold(shape: Shape) -> (State, Observed) {
    let (mut state, mut observed) = cluster(shape);
    apply(&mut state, shape);
    let count = shape.all_instances();
    let what =
        format!("{} services of {} on {} nodes", shape.services, shape.instances, shape.nodes);
    let (cold_ms, cold) = timed(|| plan(&state, &observed, NOW));
    assert_eq!(placed(&cold), count, "all find a place");
    let per_second = |ms: f64| count as f64 * 1_000.0 / ms;
    let least = || json!({ "min": PLACED_PER_SECOND_MIN });
    figure(&format!("placed: {what}"), "1/s", per_second(cold_ms), Value::Null, least());
    let (adopt_ms, adopted) = timed(|| adopt(&state, &cold));
    figure(&format!("adopted: {what}"), "1/s", per_second(adopt_ms), Value::Null, least());
    state = adopted;
    run_all(&state, &mut observed);
    let arrived = plan(&state, &observed, NOW);
    (adopt(&state, &arrived), observed)
}

/// Measures plans while a thousand services find no node.
fn blocked() {
    let (mut state, observed) = cluster(Shape { nodes: 10_000, services: 1_000, instances: 100 });
    let documents = (0..1_000).map(|i| service(&format!("/big-{i}"), 3, 1_000.0, 256));
    state
        .apply(Proposal::operator(Command::Apply(documents.collect())), NOW)
        .expect("it is applied");
    state = adopt(&state, &plan(&state, &observed, NOW));
    let mut work_queue = WorkQueue::everything();
    let (blocked_ms, blocked) = timed(|| work_queue.plan(&state, &observed, NOW));
    assert_eq!((blocked.steps.len(), blocked.waits.len()), (0, 1_000));
    time("1000 services that no node can take", blocked_ms, BLOCKED_MS_MAX);
}

/// Measures placing 16,000 instances of one service on 50 nodes, with and without MAX_PER.
fn counted_constraint() {
    let [without, with] =
        [json!([]), json!([["hostname", "MAX_PER", "1000"]])].map(|constraints| {
            let shape = Shape { nodes: 50, services: 1, instances: 16_000 };
            let (mut state, observed) = cluster(shape);
            let document = constrained("/web", shape.instances, constraints);
            state
                .apply(Proposal::operator(Command::Apply(vec![document])), NOW)
                .expect("it is applied");
            let (ms, _) = timed(|| {
                let plan = plan(&state, &observed, NOW);
                assert_eq!(placed(&plan), shape.all_instances());
                adopt(&state, &plan)
            });
            ms
        });
    let peer = json!({ "name": "without the constraint", "value": without });
    let limit = json!({ "ratio_max": COUNTED_RATIO_MAX });
    figure("placed with MAX_PER: 1 service of 16000 on 50 nodes", "ms", with, peer, limit);
}

/// Measures plans of a settled cluster, and of one in which one service has steps.
fn rest(shape: &str, state: &State, observed: &Observed) {
    let (settled_ms, settled_plan) = timed(|| plan(state, observed, NOW));
    assert!(settled_plan.steps.is_empty() && settled_plan.waits.is_empty());
    let is_many = state.services().count() > 10_000;
    let max = if is_many { SETTLED_MANY_MS_MAX } else { SETTLED_MS_MAX };
    time(&format!("no-op plan of everything, {shape}"), settled_ms, max);
    let mut work_queue = WorkQueue::everything();
    work_queue.plan(state, observed, NOW);
    let (queue_ms, _) = timed(|| work_queue.plan(state, observed, NOW));
    time(&format!("no-op plan of a work queue, {shape}"), queue_ms, SETTLED_MS_MAX);
    let service = state.services().next().expect("there are services").id.clone();
    let mut observed = observed.clone();
    let mut status = Status::new(Phase::Running, NOW);
    status.healthy = Some(false);
    observed.set_status(&InstanceId::new(service.clone(), 0, 1), status);
    let (one_ms, one) = timed(|| {
        work_queue.touch(&service);
        work_queue.plan(state, &observed, NOW)
    });
    assert_eq!(placed(&one), 1);
    time(&format!("one unhealthy instance, {shape}"), one_ms, SETTLED_MS_MAX);
}

/// The one call whose instructions are counted.
#[inline(never)]
fn counted(what: &mut dyn FnMut()) {
    what();
}

fn count_cold() {
    let (mut state, observed) = cluster(COUNTED);
    apply(&mut state, COUNTED);
    counted(&mut || assert_eq!(placed(&plan(&state, &observed, NOW)), COUNTED.all_instances()));
}

fn count_settled() {
    let (mut state, mut observed) = cluster(COUNTED);
    apply(&mut state, COUNTED);
    state = adopt(&state, &plan(&state, &observed, NOW));
    run_all(&state, &mut observed);
    state = adopt(&state, &plan(&state, &observed, NOW));
    counted(&mut || assert!(plan(&state, &observed, NOW).steps.is_empty()));
}

/// Returns the mean processor time of `what` in milliseconds, over enough runs for a precise value,
/// and the result of the last run.
fn timed<T>(mut what: impl FnMut() -> T) -> (f64, T) {
    let (began, mut runs) = (cpu_ms(), 0.0);
    loop {
        let made = black_box(what());
        runs += 1.0;
        let timed = cpu_ms() - began;
        if timed >= LASTING_MS {
            return (timed / runs, made);
        }
    }
}

/// The processor time in milliseconds of this thread, the only one. The kernel's value may lag by 4
/// ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells");
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.expect("a number") / 1e6
}

fn time(what: &str, ms: f64, max: f64) {
    figure(what, "ms", ms, Value::Null, json!({ "max": max }));
}

fn figure(what: &str, unit: &str, ours: f64, peer: Value, limit: Value) {
    let figure =
        json!({ "figure": what, "unit": unit, "ours": ours, "peer": peer, "limit": limit });
    println!("{figure}");
}
