//! Registrations and reports of daemons.

use std::collections::BTreeMap;

use api::{GatewayReport, ServiceState};
use model::{Command, InstanceId, Millis, Refusal, SILENT_AFTER, Status};

use super::fixture::{Fixture, NODES, node, registration, report, service};
use crate::control::observe::thread_events;
use crate::control::{Effect, Event, RequestError, Response, Snapshot};

#[test]
fn a_start_in_the_future_counts_from_its_first_report() {
    let mut fixture = Fixture::settled();
    let (instance, node) = fixture.instance();
    let mut status = fixture.status(&instance).unwrap().clone();
    status.run += 1;
    status.started_at = Some(fixture.at().after(Millis::secs(3600)));
    let reported_at = fixture.at();
    for _ in 0..2 {
        fixture.report(report(node.as_str(), vec![(instance.clone(), status.clone())], false));
        assert_eq!(fixture.status(&instance).unwrap().started_at, Some(reported_at));
        fixture.now += 5;
    }
}

#[test]
fn a_heartbeat_has_no_effect_except_its_reply() {
    let mut fixture = Fixture::settled();
    let report = report(NODES[0], Vec::new(), false);
    let mut effects = fixture.core.handle(Event::Report { ticket: 1, report }, fixture.at());
    effects.extend(fixture.core.handle(Event::Turn, fixture.at()));
    let is_free = |effect: &Effect| matches!(effect, Effect::Response { .. } | Effect::WakeAt(_));
    assert!(effects.iter().all(is_free), "{effects:?}");
}

#[test]
fn reports_of_unknown_nodes_are_rejected_and_not_observed() {
    let mut fixture = Fixture::settled();
    let report = report("unknown", Vec::new(), true);
    let (node, generation) = (node("unknown"), u64::MAX);
    let of_gateway = GatewayReport {
        node: node.clone(),
        generation,
        busy: [].into(),
        failed: Vec::new(),
        stuck: Default::default(),
    };
    let mut effects = fixture.core.handle(Event::Report { ticket: 1, report }, fixture.at());
    let event = Event::GatewayReport { ticket: 2, report: of_gateway };
    effects.extend(fixture.core.handle(event, fixture.at()));
    let is_rejected = |effect: &Effect| {
        matches!(
            effect,
            Effect::Response { response: Response::Report(Err(RequestError::Refused(_))), .. }
        )
    };
    assert!(effects.len() == 2 && effects.iter().all(is_rejected), "{effects:?}");
    assert!(!fixture.core.observed.agents.contains_key(&node));
    assert!(!fixture.core.observed.gateways.contains_key(&node));
}

#[test]
fn nothing_is_observed_of_a_node_that_was_removed() {
    let mut fixture = Fixture::settled();
    let node = node("g1");
    assert!(fixture.core.observed.gateways.contains_key(&node));
    fixture.request(Command::RemoveNode(node.clone()));
    fixture.store(true);
    assert!(!fixture.core.observed.gateways.contains_key(&node));
}

#[test]
fn a_stale_report_is_ignored() {
    let mut fixture = Fixture::settled();
    let (instance, node) = fixture.instance();
    let status = fixture.status(&instance).unwrap().clone();
    let mut send = |life: u64, number: u64, whole: bool, run: u32| {
        let instances: Vec<(InstanceId, Status)> =
            vec![(instance.clone(), Status { run, ..status.clone() })];
        let report = api::Report { life, number, ..report(node.as_str(), instances, whole) };
        let (ticket, at) = (fixture.ticket(), fixture.at());
        let mut effects = fixture.core.handle(Event::Report { ticket, report }, at);
        let Some(Effect::Response { response: Response::Report(Ok(reply)), .. }) = effects.pop()
        else {
            panic!("a report is answered last: {effects:?}");
        };
        (fixture.status(&instance).map(|status| status.run), reply.resync)
    };
    assert_eq!(send(7, 1, true, 5), (Some(5), false));
    assert_eq!(send(7, 3, false, 6), (Some(6), false));
    assert_eq!(send(7, 2, false, 5), (Some(6), false), "it is late");
    assert_eq!(send(7, 3, false, 5), (Some(6), false), "it is a duplicate");
    assert!(send(8, 1, false, 7).1, "a new incarnation must report everything");
    assert_eq!(send(8, 2, true, 7), (Some(7), false));
}

#[test]
fn a_second_agent_of_a_node_is_rejected_while_the_first_is_alive() {
    let mut fixture = Fixture::settled();
    let register = |fixture: &mut Fixture, id: &str| {
        let ticket = fixture.request(Command::Register(registration(NODES[0], Some(id))));
        while fixture.storing.is_some() {
            fixture.store(true);
        }
        fixture.outcomes.remove(&ticket).unwrap()
    };
    assert!(register(&mut fixture, "first").is_ok());
    let rejected = register(&mut fixture, "second");
    let Err(RequestError::Refused(Refusal::Conflict { message })) = rejected else {
        panic!("{rejected:?}")
    };
    assert!(message.starts_with("another agent is registered as"), "{message}");
    // The first may register again at any time.
    assert!(register(&mut fixture, "first").is_ok());
    fixture.now += SILENT_AFTER.0;
    assert!(register(&mut fixture, "second").is_ok(), "the first is silent");
}

#[test]
fn a_stuck_thread_of_a_gateway_is_an_event_once_and_so_is_its_recovery() {
    let mut fixture = Fixture::settled();
    let mut events_after = |stuck: &[(u32, &str)]| {
        let stuck: BTreeMap<u32, String> =
            stuck.iter().map(|(thread, task)| (*thread, (*task).into())).collect();
        let events = thread_events(&fixture.core.observed.gateways[&node("g1")].stuck, &stuck);
        let (busy, failed) = Default::default();
        let report = GatewayReport { node: node("g1"), generation: 1, busy, failed, stuck };
        fixture.handle(Event::GatewayReport { ticket: 1, report });
        events.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let stuck = [(1, "a connection of 10.0.0.9:5000")];
    let sentence = "thread 1 of its gateway is stuck in a connection of 10.0.0.9:5000";
    assert_eq!(events_after(&stuck), [sentence]);
    assert!(events_after(&stuck).is_empty(), "the server knows of it");
    assert_eq!(events_after(&[]), ["thread 1 of its gateway makes progress again"]);
}

/// A complete report of a node with instances that are not placed there, next to those that are.
fn reports_also(fixture: &mut Fixture, name: &str, also: &[&str]) {
    let placed = fixture.core.durable.node(&node(name)).unwrap().instances.clone();
    let also = also.iter().map(|id| id.parse().unwrap());
    let statuses = placed.iter().cloned().chain(also).map(|instance| {
        let status = fixture.status(&instance).cloned();
        (instance, status.unwrap_or_else(|| Status::new(model::Phase::Running, fixture.at())))
    });
    let report = report(name, statuses.collect(), true);
    fixture.report(report);
}

/// The instances that the agent of a node is ordered to stop.
fn ordered(fixture: &Fixture, name: &str) -> Vec<String> {
    let Snapshot { state, observed, .. } = fixture.core.snapshot();
    let node = &state.node(&node(name)).unwrap().node;
    observed.to_stop(node).map(ToString::to_string).collect()
}

#[test]
fn instances_that_were_never_placed_keep_running_until_an_operator_decides() {
    let mut fixture = Fixture::settled();
    let published = fixture.assignments.get(&node("n0")).copied();
    reports_also(&mut fixture, "n0", &["/other~0.1", "/a~0.9"]);
    assert_eq!(fixture.core.observed.unknown_on(&node("n0")), 2);
    assert_eq!(fixture.assignments.get(&node("n0")).copied(), published, "nothing is ordered");
    assert_eq!(ordered(&fixture, "n0"), [""; 0]);
    // Its free resources are unknown: it takes nothing, and the other nodes do.
    let on_n0 = |fixture: &Fixture| {
        let service = fixture.core.durable.service(&"/a".parse().unwrap()).unwrap();
        let on_n0 = service.placements.values().filter(|p| p.node == node("n0")).count();
        (service.placements.len(), on_n0)
    };
    let (_, before) = on_n0(&fixture);
    fixture.request(super::fixture::scale("/a", 6));
    fixture.store(true);
    assert_eq!(on_n0(&fixture), (6, before));
    let instances = ["/other~0.1".parse().unwrap()].into();
    fixture.request(Command::StopUnknown { node: node("n0"), instances });
    fixture.store(true);
    assert!(fixture.assignments.get(&node("n0")).copied() > published);
    assert_eq!(ordered(&fixture, "n0"), ["/other~0.1"]);
    reports_also(&mut fixture, "n0", &[]);
    assert_eq!(fixture.core.observed.unknown_on(&node("n0")), 0);
}

#[test]
fn instances_of_a_service_that_was_removed_meanwhile_are_stopped() {
    let mut fixture = Fixture::settled();
    let (instance, node) = fixture.instance();
    fixture.request(Command::RemoveGateway("public".parse().unwrap()));
    fixture.settle();
    fixture.request(Command::RemoveServices(vec![instance.service.clone()]));
    fixture.settle();
    assert!(fixture.core.durable.service(&instance.service).is_none());
    // The agent was away while the instance was removed.
    reports_also(&mut fixture, node.as_str(), &[&instance.to_string()]);
    assert_eq!(ordered(&fixture, node.as_str()), [instance.to_string()]);
    assert_eq!(fixture.core.observed.unknown_on(&node), 0);
}

#[test]
fn a_server_with_an_empty_store_orders_nothing_to_stop() {
    let mut fixture = Fixture::settled();
    let (instance, node) = fixture.instance();
    fixture.objects.clear();
    fixture.restart();
    while fixture.storing.is_some() {
        fixture.store(true);
    }
    reports_also(&mut fixture, node.as_str(), &[&instance.to_string()]);
    assert_eq!(ordered(&fixture, node.as_str()), [""; 0]);
    assert_eq!(fixture.core.observed.unknown_on(&node), 1);
}

#[test]
fn a_placed_instance_cannot_be_stopped_as_unknown() {
    let mut fixture = Fixture::settled();
    let (instance, node) = fixture.instance();
    let stop = Command::StopUnknown { node, instances: [instance].into() };
    let ticket = fixture.request(stop);
    fixture.settle();
    assert!(matches!(
        &fixture.outcomes[&ticket],
        Err(RequestError::Refused(Refusal::Conflict { .. }))
    ));
}

/// Nothing announced that a node was lost, and only its instances seemed to fail.
#[test]
fn the_loss_and_the_return_of_a_node_are_events() {
    let mut fixture = Fixture::settled();
    let lost = |effects: Vec<Effect>| -> Vec<String> {
        let events = effects.into_iter().filter_map(|effect| match effect {
            Effect::PublishEvent(event) => Some(event.event),
            _ => None,
        });
        let of_nodes = events.filter(|event| event.what.kind().starts_with("node-"));
        of_nodes.map(|event| format!("{} {}", event.what.kind(), event.about)).collect()
    };
    fixture.now += 20_000;
    for name in &NODES[1..] {
        fixture.report(report(name, Vec::new(), false));
    }
    fixture.now += 11_000;
    let effects = fixture.core.handle(Event::Turn, fixture.at());
    assert_eq!(lost(effects), ["node-lost n0"]);
    let stored = Event::Stored { revision: 1 };
    assert_eq!(lost(fixture.core.handle(stored, fixture.at())), [""; 0]);
    let report = report(NODES[0], Vec::new(), true);
    let mut effects = fixture.core.handle(Event::Report { ticket: 99, report }, fixture.at());
    effects.extend(fixture.core.handle(Event::Turn, fixture.at()));
    assert_eq!(lost(effects), ["node-returned n0"]);
}

/// After a start of the server every service used to be degraded until the agents had reported.
#[test]
fn a_service_whose_agents_have_not_reported_is_unknown() {
    let mut fixture = Fixture::settled();
    let state = |fixture: &Fixture| {
        let snapshot = fixture.core.snapshot();
        let service = snapshot.state.service(&service("/a")).unwrap().clone();
        crate::view::service(&snapshot, &service, fixture.at()).state
    };
    assert_eq!(state(&fixture), ServiceState::Running);
    fixture.restart();
    fixture.store(true);
    assert_eq!(state(&fixture), ServiceState::Unknown);
    fixture.now += 31_000;
    fixture.handle(Event::Turn);
    assert_eq!(state(&fixture), ServiceState::Degraded, "now the nodes are lost");
}
