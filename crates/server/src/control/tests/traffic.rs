//! Route tables, and gateways that must be waited for.

use model::{Command, Goal};

use super::fixture::{Fixture, GATEWAYS, NODES, registration, report, scale, service};

#[test]
fn routes_follow_observations_while_a_batch_is_being_stored() {
    let mut fixture = Fixture::settled();
    let generation = fixture.routes.as_ref().unwrap().generation;
    fixture.request(scale("/a", 3));
    assert!(fixture.storing.is_some());
    fixture.make_unhealthy();
    assert!(fixture.storing.is_some());
    assert!(fixture.routes.as_ref().unwrap().generation > generation);
}

#[test]
fn the_first_table_waits_for_the_reports_of_all_agents() {
    let mut fixture = Fixture::settled();
    fixture.restart();
    while fixture.storing.is_some() {
        fixture.store(true);
    }
    let (instance, node) = fixture.instance();
    let others = NODES.into_iter().filter(|name| *name != node.as_str());
    for name in others {
        fixture.report(report(name, Vec::new(), true));
    }
    assert_eq!(fixture.routes, None, "the agent with {instance} has not reported");
    fixture.settle();
    let table = fixture.routes.as_ref().unwrap();
    assert_eq!(table.listeners[0].routes[0].backends.len(), 2);
}

#[test]
fn a_second_epoch_changes_no_table_but_the_next_generation() {
    let mut fixture = Fixture::settled();
    let (table, epoch) = (fixture.routes.clone(), fixture.core.durable.meta().epoch);
    fixture.request(Command::BecomeLeader);
    fixture.store(true);
    assert_eq!(fixture.core.durable.meta().epoch, epoch + 1);
    assert_eq!(fixture.routes, table);
    fixture.request(scale("/a", 3));
    fixture.settle();
    assert_eq!(fixture.routes.as_ref().unwrap().generation >> 32, epoch + 1);
}

#[test]
fn a_newly_registered_gateway_is_awaited() {
    let goal_after_scaling_down = |registers: bool| {
        let mut fixture = Fixture::settled();
        // The gateway has been silent long enough that drains do not wait for it.
        for _ in 0..6 {
            fixture.now += 10_000;
            NODES.iter().for_each(|name| fixture.report(report(name, Vec::new(), false)));
            fixture.follow(GATEWAYS[1]);
        }
        if registers {
            fixture.request(Command::Register(registration(GATEWAYS[0], None)));
        }
        fixture.request(scale("/a", 1));
        for _ in 0..4 {
            while fixture.storing.is_some() {
                fixture.store(true);
            }
            fixture.follow(GATEWAYS[1]);
        }
        let service = fixture.core.durable.service(&service("/a")).unwrap();
        let mut goals = service.placements.values().map(|placement| placement.goal.clone());
        goals.find(|goal| *goal != Goal::Run).unwrap()
    };
    assert!(matches!(goal_after_scaling_down(true), Goal::Drain { .. }));
    assert!(matches!(goal_after_scaling_down(false), Goal::Stop { .. }));
}
