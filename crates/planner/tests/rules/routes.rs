//! The instances that get traffic, and when.

use model::{Listener, Millis};
use muster_planner::routes;
use muster_planner::scenario::World;

use super::world;

fn table(world: &World) -> Vec<Listener> {
    routes(&world.state, &world.observed, world.now)
}

/// The addresses behind the only route.
fn addresses(world: &World) -> Vec<String> {
    let listeners = table(world);
    listeners[0].routes[0].backends.iter().map(|backend| backend.address.to_string()).collect()
}

fn empty_because(world: &World) -> String {
    table(world)[0].routes[0].empty_because.clone().unwrap_or_default()
}

#[test]
fn an_instance_gets_traffic_once_it_is_ready() {
    let mut world = world(
        "> node n1\n> apply /web rollout.min_ready=5s ports=[{\"port\":80}]\n\
         > route 8080 /web\n> run\n> report /web~0.1 running ready\n",
    );
    world.tick(Millis(4_999));
    assert_eq!(addresses(&world), [""; 0]);
    assert_eq!(empty_because(&world), "/web~0.1: it has just started");
    world.tick(Millis(1));
    assert_eq!(addresses(&world), ["n1.example:80"]);
    assert_eq!(empty_because(&world), "");
}

#[test]
fn a_route_without_instances_has_a_reason() {
    let cases = [
        ("", "no instance of /web has been placed"),
        ("> node n1\n> run", "/web~0.1: its agent has not reported it yet"),
    ];
    for (happens, expected) in cases {
        let world = world(&format!("> apply /web\n> route 8080 /web\n{happens}"));
        assert_eq!(empty_because(&world), expected, "{happens}");
    }
}
