//! The events that are kept.

use std::collections::BTreeSet;

use model::{Timestamp, json_bytes};

use crate::control::event_buffer::EventBuffer;
use crate::control::{EVENTS_KEPT, Effect};

#[test]
fn only_the_oldest_events_are_dropped() {
    let mut event_buffer = EventBuffer::new([]);
    let mut stored = BTreeSet::new();
    let event = || model::Event {
        at: Timestamp(0),
        about: model::About::Instance("/a~0.1".parse().unwrap()),
        by: None,
        what: model::What::Running { run: 1 },
    };
    let mut effects = Vec::new();
    for round in 0..30 {
        // While the store fails, no more events are published than a restart reserves numbers for.
        (0..2_000).for_each(|_| event_buffer.publish_observed(event(), Timestamp(0), &mut effects));
        assert!(event_buffer.last_published() - stored.last().copied().unwrap_or(0) <= 1_000);
        let (events, batched, dropped) = event_buffer.store((0..100).map(|_| event()).collect());
        event_buffer.publish_observed(event(), Timestamp(0), &mut effects);
        if round % 3 == 0 {
            event_buffer.not_stored(Timestamp(0), &mut effects);
            continue;
        }
        for number in &dropped {
            assert!(stored.remove(number), "{number} is dropped twice");
        }
        stored.extend(batched.iter().map(|event| event.number));
        event_buffer.stored(events, Timestamp(0), &mut effects);
    }
    let published = effects.iter().map(|effect| match effect {
        Effect::PublishEvent(event) => event.number,
        other => panic!("{other:?}"),
    });
    assert!(published.is_sorted_by(|a, b| a < b));
    assert!(event_buffer.last_published() > EVENTS_KEPT.count as u64 + 1_000);
    assert_eq!(stored.len(), EVENTS_KEPT.count);
}

#[test]
fn stored_events_are_limited_by_bytes() {
    let mut event_buffer = EventBuffer::new([]);
    let large = || model::Event {
        at: Timestamp(0),
        about: model::About::Instance("/a~0.1".parse().unwrap()),
        by: None,
        what: model::What::Failed { detail: Some("x".repeat(1 << 20)) },
    };
    let (mut effects, mut stored) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let (events, batched, dropped) = event_buffer.store(vec![large()]);
        stored.extend(batched.iter().map(|event| event.number));
        stored.retain(|number| !dropped.contains(number));
        event_buffer.stored(events, Timestamp(0), &mut effects);
    }
    let size = json_bytes(&large());
    assert_eq!(stored.len(), EVENTS_KEPT.bytes / size);
    assert_eq!(stored.last(), Some(&10));
    // While the store fails, too.
    effects.clear();
    (0..4).for_each(|_| event_buffer.publish_observed(large(), Timestamp(0), &mut effects));
    assert_eq!(effects.len(), (4 << 20) / size);
}
