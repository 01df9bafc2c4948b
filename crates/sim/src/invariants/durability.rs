//! Acknowledged changes are durable, whichever processes and machines have failed since.

use std::collections::{BTreeMap, BTreeSet};

use model::{Key, Object, State};

use crate::users::Promised;
use crate::violation::Violation;

const NO_LOSS: &str = "no acknowledged write is lost";

/// A state that a server loads is consistent and contains all acknowledged changes.
pub(crate) fn loaded(promised: &Promised, state: &State) -> Vec<Violation> {
    let mut violations = promises(promised, state);
    let broken = state.violations();
    if !broken.is_empty() {
        let detail = format!("a server loads {broken:?}");
        violations.push(Violation::new("the state is consistent", detail));
    }
    violations
}

/// Every acknowledged change is in the state, or a later one has replaced it.
pub(crate) fn promises(promised: &Promised, state: &State) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (id, promised) in &promised.revisions {
        let newest = state.service(id).and_then(|service| service.revisions.keys().last());
        if newest.is_none_or(|newest| newest < promised) {
            let detail = format!("revision {promised} of {id}: the newest is {newest:?}");
            violations.push(Violation::new(NO_LOSS, detail));
        }
    }
    for (id, promised) in &promised.availability {
        let found = state.node(id).map(|node| node.node.availability);
        if found.is_some_and(|found| found != *promised) {
            let detail = format!("{id} should be {promised:?} and is {found:?}");
            violations.push(Violation::new(NO_LOSS, detail));
        }
    }
    violations
}

/// Events of a batch are published once it is durable.
pub(crate) fn event(number: u64, is_durable: bool) -> Option<Violation> {
    let detail = || format!("event {number} is published while its batch is written");
    (!is_durable).then(|| Violation::new("events are published once they are durable", detail()))
}

/// Readers see exactly what is stored.
pub(crate) fn published(state: &State, stored: &State) -> Option<Violation> {
    let published: BTreeMap<Key, Object> = state.objects().collect();
    let stored: BTreeMap<Key, Object> = stored.objects().collect();
    if published == stored {
        return None;
    }
    let keys = published.keys().chain(stored.keys());
    let differ = keys.filter(|key| published.get(key) != stored.get(key));
    let differ: BTreeSet<String> = differ.map(Key::to_string).collect();
    let detail = format!("these objects differ: {differ:?}");
    Some(Violation::new("readers see exactly what is stored", detail))
}
