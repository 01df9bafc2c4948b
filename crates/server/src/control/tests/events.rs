//! The events that are kept.

use std::collections::BTreeSet;

use model::Timestamp;

use crate::control::record::Record;
use crate::control::{EVENTS_KEPT, Effect};

#[test]
fn only_the_oldest_events_are_dropped() {
    let mut record = Record::new([]);
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
        (0..2_000).for_each(|_| record.notice(event(), Timestamp(0), &mut effects));
        assert!(record.told() - stored.last().copied().unwrap_or(0) <= 1_000);
        let (events, batched, dropped) = record.store((0..100).map(|_| event()).collect());
        record.notice(event(), Timestamp(0), &mut effects);
        if round % 3 == 0 {
            record.not_stored(Timestamp(0), &mut effects);
            continue;
        }
        for number in &dropped {
            assert!(stored.remove(number), "{number} is dropped twice");
        }
        stored.extend(batched.iter().map(|event| event.number));
        record.stored(events, Timestamp(0), &mut effects);
    }
    let published = effects.iter().map(|effect| match effect {
        Effect::Tell(event) => event.number,
        other => panic!("{other:?}"),
    });
    assert!(published.is_sorted_by(|a, b| a < b));
    assert!(record.told() > EVENTS_KEPT as u64 + 1_000);
    assert_eq!(stored.len(), EVENTS_KEPT);
}
