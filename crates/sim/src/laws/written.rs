//! What users were told is done, is done: whatever has died since.

use model::State;

use crate::world::World;

impl World {
    /// What a server finds when it starts keeps the invariants, and what was promised.
    pub(crate) fn law_of_loading(&mut self, state: &State) {
        let violations = state.violations();
        if !violations.is_empty() {
            self.breach("invariants", format!("a server loads {violations:?}"));
        }
        let epoch = state.meta().epoch;
        if epoch < self.laws.epoch {
            self.breach("no acknowledged write is lost", format!("epoch {epoch} again"));
        }
        self.laws.epoch = epoch;
        self.law_of_promises(state);
    }

    /// Every change that was acknowledged is there, or has been overtaken by a later one.
    pub(crate) fn law_of_promises(&mut self, state: &State) {
        let mut broken = Vec::new();
        for (id, promised) in &self.users.promised.revisions {
            let newest = state.service(id).and_then(|service| service.revisions.keys().last());
            if newest.is_none_or(|newest| newest < promised) {
                broken.push(format!("revision {promised} of {id}: there is {newest:?}"));
            }
        }
        for (id, promised) in &self.users.promised.availability {
            let found = state.node(id).map(|node| node.node.availability);
            if found.is_some_and(|found| found != *promised) {
                broken.push(format!("{id} should be {promised:?} and is {found:?}"));
            }
        }
        if !broken.is_empty() {
            self.breach("no acknowledged write is lost", broken.join("; "));
        }
    }
}
