//! Requests with an id are executed once.
//!
//! A client without a response does not know whether its request was executed, so it repeats the
//! request under the same id, and [`State::apply`] returns the first outcome. Outcomes are objects
//! of the state: they become durable together with the changes of their request, and survive
//! restarts of the server. `request` has their limits.

use std::collections::BTreeSet;

use crate::changeset::{Changeset, Outcome};
use crate::object::Key;
use crate::outcome::Change;
use crate::principal::Principal;
use crate::refusal::Refusal;
use crate::request::{ExecutedRequest, RequestId};
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    /// The outcome of a request that was executed before. `None` if the request is new.
    pub fn first_outcome(&self, id: &RequestId, by: &Principal) -> Option<Outcome> {
        let first = self.requests.get(&id.key)?;
        if first.digest != id.digest || first.by != *by {
            return Some(Err(Refusal::RequestReused { key: id.key.clone() }));
        }
        let changes = first.outcome.clone();
        Some(changes.map(|changes| Changeset { changes, ..Changeset::default() }))
    }

    /// Records that a proposal with this id was rejected, so that a repetition is rejected as well,
    /// even if the state would allow it by then. Returns the keys of the objects to store again or
    /// to delete.
    pub fn record_refusal(
        &mut self,
        id: RequestId,
        by: Principal,
        refusal: &Refusal,
        at: Timestamp,
    ) -> BTreeSet<Key> {
        match refusal.is_final() && self.requests.get(&id.key).is_none() {
            true => self.record_request(id, by, Err(refusal.clone()), at),
            false => BTreeSet::new(),
        }
    }

    pub(crate) fn record_request(
        &mut self,
        id: RequestId,
        by: Principal,
        outcome: Result<Vec<Change>, Refusal>,
        at: Timestamp,
    ) -> BTreeSet<Key> {
        let RequestId { key, digest } = id;
        let number = self.requests.next_number();
        self.requests.insert(key.clone(), ExecutedRequest { number, digest, by, at, outcome });
        let evicted = self.requests.evict(at);
        evicted.into_iter().chain([key]).map(Key::Request).collect()
    }
}
