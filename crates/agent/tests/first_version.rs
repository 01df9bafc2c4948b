//! The memory of agents of the first version (0.1.0). In `fixtures/first-version`, five instances
//! ran, and the assignments are those that a server of that version sent. In
//! `fixtures/first-version-leaving`, one instance was draining and another stopping; its records of
//! the keeper are read in `drivers/process/keeper`. The files were written by that version and are
//! never changed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use api::Assignments;
use model::{Piece, ResourceId, Timestamp};
use muster_agent::core::{Core, Effect, Event, Memory};
use muster_agent::drivers::{Found, Kind};

fn fixture(path: &str) -> String {
    fs::read_to_string(format!("{}/tests/fixtures/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The runs that the drivers still have, one for each instance that has started.
fn found(memory: &Memory) -> Vec<Found> {
    let started = memory.statuses.iter().filter_map(|(instance, status)| {
        let started_at = status.started_at?;
        let (instance, resource, run) = (instance.clone(), ResourceId::default(), status.run);
        Some(Found {
            piece: Piece { instance, resource, run },
            started_at,
            exit: None,
            suspended: false,
        })
    });
    started.collect()
}

#[test]
fn instances_of_the_first_version_keep_running() {
    let memory: Memory = serde_json::from_str(&fixture("first-version/agent.json")).unwrap();
    let assignments: Assignments =
        serde_json::from_str(&fixture("first-version/assignments.json")).unwrap();
    assert_eq!(memory.assignments.len(), 5);
    assert_eq!(
        (&memory.assignments, memory.generation),
        (&assignments.set, assignments.generation)
    );
    let found = found(&memory);
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

#[test]
fn an_instance_that_was_stopping_is_stopped_and_the_others_go_on() {
    let memory: Memory =
        serde_json::from_str(&fixture("first-version-leaving/agent.json")).unwrap();
    let found = found(&memory);
    let running: Vec<_> = found.iter().map(|found| found.piece.instance.to_string()).collect();
    assert_eq!(running, ["/shop/stubborn~0.1", "/shop/web~0.1", "/shop/web~1.1"]);
    let now = Timestamp(1_795_776_520_000);
    let mut core = Core::new("n1".parse().unwrap(), memory, now);
    let mut effects = core.handle(Event::Adopted { driver: Kind::Process, found }, now);
    effects.extend(core.handle(Event::Adopted { driver: Kind::Docker, found: vec![] }, now));
    // The fourth instance was waiting for its next run, which begins now.
    let changed = effects.iter().filter_map(|effect| match effect {
        Effect::Start(launch) => Some(format!("start {}", launch.piece.instance)),
        Effect::Stop { piece, .. } => Some(format!("stop {}", piece.instance)),
        Effect::Forget { .. } => Some("forget".into()),
        _ => None,
    });
    let changed: BTreeSet<_> = changed.collect();
    let expected = ["start /shop/broken~0.1", "stop /shop/stubborn~0.1"];
    assert_eq!(changed, expected.map(String::from).into());
}
