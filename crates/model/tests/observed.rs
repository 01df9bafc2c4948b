//! The evaluation of reports: which agents are lost, which instances serve, and why others do not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use muster_model as model;

use model::{
    Agent, CheckResult, Command, Document, GATEWAY_SILENCE_MAX, GatewayStatus, Given, InstanceId,
    Millis, Observed, Phase, Proposal, Published, ServiceId, Spec, State, Status, Step, StopReason,
    Timestamp, not_serving,
};
use support::node_id;

const PHASES: [Phase; 8] = [
    Phase::Pending,
    Phase::Placed,
    Phase::Starting,
    Phase::Running,
    Phase::Stopping,
    Phase::Stopped,
    Phase::Failed,
    Phase::Lost,
];

/// When observation began.
const SINCE: Timestamp = Timestamp(100_000);
const LOST_AFTER: Millis = Millis::secs(30);

fn observed() -> Observed {
    Observed { since: SINCE, lost_after: LOST_AFTER, ..Observed::default() }
}

fn instance(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn agent(seen_at: u64, synced: bool) -> Agent {
    Agent { seen_at: Timestamp(seen_at), synced }
}

fn gateway(seen_at: u64) -> GatewayStatus {
    GatewayStatus { seen_at: Timestamp(seen_at), ..GatewayStatus::default() }
}

#[test]
fn the_word_of_a_phase_is_its_serialised_name() {
    for phase in PHASES {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.word());
    }
    let over: Vec<_> = PHASES.into_iter().filter(|phase| phase.is_over()).collect();
    assert_eq!(over, [Phase::Stopped, Phase::Failed]);
}

#[test]
fn a_reported_status_is_kept_until_it_is_removed() {
    let mut observed = observed();
    let (first, second, other) = (instance("/web~0.1"), instance("/web~1.1"), instance("/db~0.1"));
    let known = |observed: &Observed| -> Vec<_> {
        observed.statuses().map(|(instance, status)| (instance, status.phase)).collect()
    };
    observed.set_status(&first, Status::new(Phase::Starting, SINCE));
    observed.set_status(&second, Status::new(Phase::Starting, SINCE));
    observed.set_status(&first, Status::new(Phase::Running, SINCE));
    let both = [(first.clone(), Phase::Running), (second.clone(), Phase::Starting)];
    assert_eq!(known(&observed), both);
    assert_eq!(observed.status(&first.service, first.replica).unwrap().phase, Phase::Running);
    assert_eq!(observed.status(&other.service, other.replica), None);
    observed.remove_status(&first);
    observed.remove_status(&other);
    assert_eq!(observed.status(&first.service, first.replica), None);
    assert_eq!(known(&observed), both[1..]);
    observed.remove_status(&second);
    assert!(observed.instances.is_empty(), "services come and go");
}

#[test]
fn an_agent_is_lost_after_its_heartbeat_timeout() {
    let (node, mut observed) = (node_id("n1"), observed());
    let lost_from = |observed: &Observed, at: Timestamp| {
        assert!(!observed.is_lost(&node, Timestamp(at.0 - 1)));
        assert!(observed.is_lost(&node, at));
    };
    lost_from(&observed, SINCE.after(LOST_AFTER));
    observed.agents.insert(node.clone(), agent(170_000, false));
    lost_from(&observed, Timestamp(170_000).after(LOST_AFTER));
}

#[test]
fn a_gateway_is_reachable_until_its_heartbeat_timeout() {
    let (node, mut observed) = (node_id("n1"), observed());
    let silent_from = |observed: &Observed, at: Timestamp| {
        assert!(observed.gateway_responds(&node, Timestamp(at.0 - 1)));
        assert!(!observed.gateway_responds(&node, at));
    };
    silent_from(&observed, SINCE.after(GATEWAY_SILENCE_MAX));
    observed.gateways.insert(node.clone(), gateway(170_000));
    silent_from(&observed, Timestamp(170_000).after(GATEWAY_SILENCE_MAX));
}

#[test]
fn a_pause_of_the_server_extends_all_heartbeat_deadlines() {
    let mut observed = observed();
    observed.agents.insert(node_id("n1"), agent(150_000, true));
    observed.agents.insert(node_id("n2"), agent(195_000, true));
    observed.gateways.insert(node_id("n1"), gateway(160_000));
    let now = Timestamp(200_000);
    observed.extend_deadlines(Millis::secs(20), now);
    assert_eq!(observed.since, Timestamp(120_000));
    assert_eq!(observed.agents[&node_id("n1")], agent(170_000, true));
    assert_eq!(observed.agents[&node_id("n2")], agent(200_000, true), "nobody has spoken later");
    assert_eq!(observed.gateways[&node_id("n1")], gateway(180_000));
    assert_eq!(observed.seen_from(Timestamp(199_999)), now, "nobody was there to see it");
    assert_eq!(observed.seen_from(Timestamp(200_001)), Timestamp(200_001));
}

#[test]
fn an_instance_is_in_no_table_from_its_last_known_generation_on() {
    let present = instance("/web~0.1");
    let (left, unheard) = (instance("/web~0.2"), instance("/web~0.3"));
    let mut published = Published {
        first: 0,
        last: 9,
        present: [present.clone()].into(),
        // It may be in a table again.
        left: BTreeMap::from([(left.clone(), 7), (present.clone(), 6)]),
    };
    assert_eq!(published.without(&unheard), None, "no table has been published");
    published.first = 5;
    assert_eq!(published.without(&present), None);
    assert_eq!(published.without(&left), Some(7));
    assert_eq!(published.without(&unheard), Some(5));
}

#[test]
fn only_reports_on_tables_of_this_epoch_count() {
    let instance = instance("/web~0.1");
    let mut observed = observed();
    observed.published = Published {
        first: 5,
        last: 9,
        left: BTreeMap::from([(instance.clone(), 7)]),
        ..Published::default()
    };
    for (generation, drained) in [(6, false), (7, true), (9, true), (10, false)] {
        let status = GatewayStatus { generation, ..GatewayStatus::default() };
        observed.gateways.insert(node_id("n1"), status);
        assert_eq!(observed.is_drained(&instance, &[node_id("n1")]), drained, "{generation}");
    }
}

#[test]
fn an_instance_is_drained_once_all_gateways_have_released_it() {
    let leaving = instance("/web~0.1");
    let mut observed = observed();
    let (nodes, no_nodes) = ([node_id("n1"), node_id("n2")], []);
    assert!(!observed.is_drained(&leaving, &no_nodes), "no table has been published");
    observed.published = Published { first: 5, last: 5, ..Published::default() };
    assert!(observed.is_drained(&leaving, &no_nodes));
    let through = GatewayStatus { generation: 5, ..GatewayStatus::default() };
    observed.gateways.insert(node_id("n1"), through.clone());
    assert!(!observed.is_drained(&leaving, &nodes), "one has not spoken");
    let busy = [leaving.clone()].into();
    observed.gateways.insert(node_id("n2"), GatewayStatus { busy, ..through.clone() });
    assert!(!observed.is_drained(&leaving, &nodes), "one has requests of it under way");
    let busy = [instance("/web~1.1")].into();
    observed.gateways.insert(node_id("n2"), GatewayStatus { busy, ..through });
    assert!(observed.is_drained(&leaving, &nodes));
    observed.published.present.insert(leaving.clone());
    assert!(!observed.is_drained(&leaving, &nodes), "it is in the newest table");
}

fn apply(state: &mut State, command: Command) {
    state.apply(Proposal::usual(command), Timestamp(1)).unwrap();
}

fn register(state: &mut State, node: &str, is_agent: bool) {
    apply(state, support::register(node, is_agent.then(support::agent)));
}

/// `/web` with one instance on `n1`; `more` adds fields to the spec.
fn cluster(more: &str) -> State {
    let mut state = State::new();
    register(&mut state, "n1", true);
    let spec = spec(more);
    apply(&mut state, Command::Apply(vec![Document::service(spec)]));
    let (instance, node) = (instance("/web~0.1"), node_id("n1"));
    let step = Step::Place { instance, revision: 1, node, given: Given::default() };
    apply(&mut state, Command::Adopt(step));
    state
}

#[test]
fn the_server_settles_once_all_relevant_daemons_reported_or_timed_out() {
    let mut state = cluster(r#""instances": 1"#);
    let settled_from = |state: &State, observed: &Observed, at: Timestamp| {
        assert!(!observed.is_settled(state, Timestamp(at.0 - 1)));
        assert!(observed.is_settled(state, at));
    };
    let settled = |state: &State, observed: &Observed| observed.is_settled(state, SINCE);
    let mut observed = observed();
    register(&mut state, "n2", true);
    settled_from(&state, &observed, SINCE.after(LOST_AFTER));
    observed.agents.insert(node_id("n1"), agent(110_000, false));
    settled_from(&state, &observed, Timestamp(110_000).after(LOST_AFTER));
    observed.agents.insert(node_id("n1"), agent(110_000, true));
    assert!(settled(&state, &observed), "the agent of `n2` runs nothing");
    register(&mut state, "n3", false);
    settled_from(&state, &observed, SINCE.after(LOST_AFTER));
    observed.gateways.insert(node_id("n3"), gateway(110_000));
    assert!(settled(&state, &observed));
}

#[test]
fn a_node_is_awaited_until_both_its_daemons_have_reported() {
    let mut state = cluster(r#""instances": 1"#);
    register(&mut state, "n1", false);
    let member = &state.node_index()[0];
    let mut observed = observed();
    let silent = agent(110_000, false);
    let until = |observed: &Observed, agent| observed.awaited_until(&state, member, agent);
    let (of_gateway, of_agent) = (SINCE.after(LOST_AFTER), Timestamp(110_000).after(LOST_AFTER));
    assert_eq!(until(&observed, None), Some(of_gateway));
    assert_eq!(until(&observed, Some(&silent)), Some(of_agent));
    let synced_agent = agent(110_000, true);
    assert_eq!(until(&observed, Some(&synced_agent)), Some(of_gateway));
    observed.gateways.insert(node_id("n1"), gateway(110_000));
    assert_eq!(until(&observed, Some(&silent)), Some(of_agent));
    assert_eq!(until(&observed, Some(&synced_agent)), None);
}

#[test]
fn a_repeated_pass_of_a_probe_is_no_change() {
    let check = |failures, last_success| CheckResult {
        consecutive_failures: failures,
        first_success: Some(Timestamp(1)),
        last_success: Some(Timestamp(last_success)),
        last_failure: Some(Timestamp(2)),
        last_failure_cause: Some("timeout".into()),
    };
    let with = |checks: Vec<CheckResult>| Status { checks, ..Status::new(Phase::Running, SINCE) };
    let before = with(vec![check(0, 3), check(0, 3)]).without_timestamps();
    assert_eq!(with(vec![check(0, 3), check(0, 4)]).without_timestamps(), before);
    assert_ne!(with(vec![check(0, 3), check(1, 3)]).without_timestamps(), before);
    assert_ne!(with(vec![check(0, 3)]).without_timestamps(), before);
    let stopping = Status { phase: Phase::Stopping, ..with(vec![check(0, 3), check(0, 3)]) };
    assert_ne!(stopping.without_timestamps(), before);
}

/// A service `/web` that runs a process; `more` adds fields to the spec.
fn spec(more: &str) -> Spec {
    let text = format!(r#"{{"service": "/web", "process": {{"command": "serve"}}, {more}}}"#);
    serde_json::from_str(&text).unwrap()
}

const HEALTH: &str = r#""health": [{"probe": {"command": "check"}}]"#;
const READINESS: &str = r#""readiness": {"probe": {"command": "check"}}"#;
const NO_CHECKS: &str = r#""rollout": {"min_ready": "5s"}"#;

#[test]
fn an_instance_is_healthy_or_unhealthy_only_while_it_runs() {
    for (spec, has_health) in [(spec(HEALTH), true), (spec(NO_CHECKS), false)] {
        for phase in PHASES {
            for verdict in [None, Some(true), Some(false)] {
                let status = Status { healthy: verdict, ..Status::new(phase, SINCE) };
                let expected = match (phase, has_health) {
                    (Phase::Running, true) => (verdict == Some(true), verdict == Some(false)),
                    // There is no check; earlier results do not count.
                    (Phase::Running, false) => (true, false),
                    _ => (false, false),
                };
                let shown = (status.is_healthy(&spec), status.is_unhealthy(&spec));
                assert_eq!(shown, expected, "{status:?} {has_health}");
            }
        }
    }
}

#[test]
fn an_instance_without_checks_is_ready_after_min_ready() {
    let running = Status {
        started_at: Some(SINCE),
        healthy: Some(true),
        ready: true,
        ..Status::new(Phase::Running, SINCE)
    };
    let at_once = Some(Timestamp(0));
    assert_eq!(running.ready_at(&spec(NO_CHECKS)), Some(SINCE.after(Millis::secs(5))));
    assert_eq!(running.ready_at(&spec(HEALTH)), at_once);
    assert_eq!(running.ready_at(&spec(READINESS)), at_once);
    for spec in [NO_CHECKS, HEALTH, READINESS].map(spec) {
        let not_ready = Status { ready: false, ..running.clone() };
        assert_eq!(not_ready.ready_at(&spec), None);
        let starting = Status { phase: Phase::Starting, ..running.clone() };
        assert_eq!(starting.ready_at(&spec), None);
    }
    let unhealthy = Status { healthy: Some(false), ..running };
    assert_eq!(unhealthy.ready_at(&spec(HEALTH)), None);
}

#[test]
fn an_instance_without_traffic_has_a_reason() {
    let mut state = cluster(HEALTH);
    let id: ServiceId = "/web".parse().unwrap();
    let replica = instance("/web~0.1").replica;
    let shown = |state: &State, status: Option<&Status>| {
        not_serving(state.service(&id).unwrap(), replica, status).map(|why| why.to_string())
    };
    let serving = Status { healthy: Some(true), ready: true, ..Status::new(Phase::Running, SINCE) };
    let failed = |cause: &str| CheckResult {
        last_failure_cause: Some(cause.into()),
        ..CheckResult::default()
    };
    assert_eq!(shown(&state, Some(&serving)), None);
    let message = Some("exit code 1".to_string());
    let starting = Status { message, ..Status::new(Phase::Starting, SINCE) };
    let unknown = Status { healthy: None, ..serving.clone() };
    let checks = vec![CheckResult::default(), failed("refused"), failed("timeout")];
    let unhealthy = Status { healthy: Some(false), checks, ..serving.clone() };
    let message = Some("port 8080 is closed".to_string());
    let not_ready = Status { ready: false, message, ..serving.clone() };
    let cases = [
        (None, "its agent has not reported it yet"),
        (Some(&starting), "it is starting: exit code 1"),
        (Some(&unknown), "its health is not known yet"),
        (Some(&unhealthy), "it is unhealthy: refused"),
        (Some(&not_ready), "it is not ready yet: port 8080 is closed"),
    ];
    for (status, reason) in cases {
        assert_eq!(shown(&state, status).as_deref(), Some(reason));
    }
    let unchecked = cluster(NO_CHECKS);
    assert_eq!(shown(&unchecked, Some(&unhealthy)), None, "no check speaks of it any more");
    let stop = Step::Stop { instance: instance("/web~0.1"), why: StopReason::Requested };
    apply(&mut state, Command::Adopt(stop));
    assert_eq!(shown(&state, Some(&serving)).as_deref(), Some("it is terminating"));
}
