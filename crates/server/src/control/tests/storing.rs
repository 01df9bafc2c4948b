//! Batches, their consequences, and stores that fail.

use model::{Document, Goal, Millis, Stage, Steer};

use super::fixture::{Fixture, apply, scale, service, spec};
use crate::control::{Effect, Event, RequestError};

#[test]
fn a_request_that_cannot_be_stored_has_no_effect() {
    let mut fixture = Fixture::settled();
    let (stored, newest) = (fixture.objects.clone(), fixture.core.newest_event());
    let first = fixture.request(scale("/a", 5));
    let second = fixture.request(scale("/a", 6));
    assert!(!fixture.outcomes.contains_key(&first) && !fixture.outcomes.contains_key(&second));
    fixture.store(false);
    // The request that arrived during the write is in the next batch.
    assert!(matches!(fixture.outcomes[&first], Err(RequestError::Storage(_))));
    assert!(!fixture.outcomes.contains_key(&second));
    fixture.store(false);
    assert!(matches!(fixture.outcomes[&second], Err(RequestError::Storage(_))));
    assert_eq!((stored, newest), (fixture.objects.clone(), fixture.core.newest_event()));

    let third = fixture.request(scale("/a", 7));
    fixture.settle();
    assert!(fixture.outcomes[&third].is_ok());
    assert_eq!(fixture.core.durable.service(&service("/a")).unwrap().placements.len(), 7);
}

#[test]
fn a_stored_batch_is_published_before_its_requests_are_answered() {
    let mut fixture = Fixture::settled();
    fixture.request(scale("/a", 3));
    fixture.storing.take().unwrap();
    let effects = fixture.core.handle(Event::Stored { revision: 1 }, fixture.at());
    let position = |is: fn(&Effect) -> bool| effects.iter().position(is).unwrap();
    let answered = position(|effect| matches!(effect, Effect::Response { .. }));
    assert!(position(|effect| matches!(effect, Effect::Publish(_))) < answered);
    assert!(position(|effect| matches!(effect, Effect::Assignments { .. })) < answered);
    assert!(position(|effect| matches!(effect, Effect::PublishEvent(_))) < answered);
}

#[test]
fn a_full_disk_is_retried_once_a_second() {
    let mut fixture = Fixture::settled();
    fixture.make_unhealthy();
    let mut attempts = 0;
    for _ in 0..40 {
        attempts += usize::from(fixture.storing.is_some());
        fixture.store(false);
        fixture.now += 100;
        fixture.handle(Event::Turn);
    }
    assert!((3..=5).contains(&attempts), "{attempts} attempts in four seconds");
}

#[test]
fn time_without_a_running_server_counts_towards_no_deadline() {
    for is_suspended in [true, false] {
        let mut fixture = Fixture::settled();
        fixture.request(apply(spec("/a", 2, 2)));
        fixture.store(true);
        fixture.now += 600_000;
        match is_suspended {
            true => fixture.handle(Event::Stalled { span: Millis::secs(600) }),
            false => fixture.restart(),
        }
        fixture.settle();
        let stage = &fixture.newest_deployment().stage;
        assert!(matches!(stage, Stage::Succeeded { .. }), "suspended: {is_suspended}: {stage:?}");
    }
}

#[test]
fn a_server_that_was_suspended_treats_no_node_as_lost() {
    let mut fixture = Fixture::settled();
    let placed = fixture.placed();
    for span in [60_000, 3_600_000] {
        fixture.now += span;
        fixture.handle(Event::Stalled { span: Millis(span) });
        fixture.settle();
        assert_eq!(placed, fixture.placed());
    }
}

#[test]
fn changed_checks_reach_agents_when_a_rollout_is_rolled_back() {
    let mut fixture = Fixture::settled();
    let mut changed = spec("/a", 3, 1);
    changed.health.clear();
    fixture.request(model::Command::Apply(vec![Document::service(changed)]));
    fixture.store(true);
    let before = fixture.assignments.clone();
    let deployment = fixture.newest_deployment().id;
    fixture.request(model::Command::Steer { deployment, how: Steer::Abort });
    fixture.store(true);
    let service = fixture.core.durable.service(&service("/a")).unwrap();
    assert_eq!(service.spec().health.len(), 1);
    let placements = service.placements.values().filter(|p| p.goal == Goal::Run);
    for placement in placements {
        assert!(fixture.assignments[&placement.node] > before[&placement.node]);
    }
}
