//! A repeated request has the outcome of its first execution, whether the network or a client repeats
//! it, and whether the server was restarted in between.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use model::{Change, Refusal, RequestKey};

use crate::violation::Violation;

/// The first outcome of each request.
#[derive(Default)]
pub(crate) struct Outcomes(BTreeMap<RequestKey, Result<Vec<Change>, Refusal>>);

impl Outcomes {
    /// The server answers a request.
    pub(crate) fn answered(
        &mut self,
        key: RequestKey,
        outcome: Result<Vec<Change>, Refusal>,
    ) -> Option<Violation> {
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(outcome);
                None
            }
            Entry::Occupied(entry) if *entry.get() == outcome => None,
            Entry::Occupied(entry) => {
                let detail = format!("{}: first {:?}, then {outcome:?}", entry.key(), entry.get());
                Some(Violation::new("a repeated request has its first outcome", detail))
            }
        }
    }
}
