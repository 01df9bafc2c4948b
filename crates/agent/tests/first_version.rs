//! The memory of an agent of the first version (0.1.0), written by it while five instances ran, and
//! the assignments that a server of that version sent it. The files in `fixtures/first-version`
//! are never changed.

#![allow(clippy::unwrap_used)]

use std::fs;

use api::Assignments;
use model::{Piece, ResourceId, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory};
use muster_agent::drivers::{Found, Kind};

fn fixture(name: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/first-version");
    fs::read_to_string(format!("{directory}/{name}")).unwrap()
}

#[test]
fn instances_of_the_first_version_go_on() {
    let memory: Memory = serde_json::from_str(&fixture("agent.json")).unwrap();
    let assignments: Assignments = serde_json::from_str(&fixture("assignments.json")).unwrap();
    assert_eq!(memory.assignments.len(), 5);
    assert_eq!(
        (&memory.assignments, memory.generation),
        (&assignments.set, assignments.generation)
    );
    let found = memory.statuses.iter().map(|(instance, status)| Found {
        piece: Piece {
            instance: instance.clone(),
            resource: ResourceId::default(),
            run: status.run,
        },
        started_at: status.started_at.unwrap(),
        exit: None,
    });
    let found = found.collect();
    let now = Timestamp(1_795_767_700_000);
    let mut core = Core::new("n1".parse().unwrap(), memory, now);
    let newer = Assignments { generation: assignments.generation + 1, ..assignments };
    let mut effects = Vec::new();
    for event in [
        Event::Adopted { driver: Kind::Process, found },
        Event::Adopted { driver: Kind::Docker, found: vec![] },
        Event::Connected,
        Event::Assignments(newer),
    ] {
        effects.extend(core.handle(event, now));
    }
    let is_change = |effect: &&Effect| {
        matches!(effect, Effect::Start { .. } | Effect::Stop { .. } | Effect::Forget { .. })
    };
    assert_eq!(effects.iter().filter(is_change).collect::<Vec<_>>(), [] as [&Effect; 0]);
    let mut reported = effects.iter().filter_map(|effect| match effect {
        Effect::Report(report) => Some(report),
        _ => None,
    });
    let last = reported.next_back().unwrap();
    assert!(last.instances.iter().all(|(_, status)| status.phase == model::Phase::Running));
    assert_eq!(last.instances.len(), 5);
}
