//! The terms of a cluster's store, and which instances its history has placed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::changeset::Changeset;
use crate::cluster::{Cluster, Position, Start, TERMS_KEPT, Term, TermStart};
use crate::event::{About, What};
use crate::id::InstanceId;
use crate::object::Key;
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    /// The identity of the cluster; `None` before a server has begun its first term.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The position of `revision`, the newest of the store.
    pub fn position(&self, revision: u64) -> Option<Position> {
        let cluster = self.cluster()?;
        Some(Position { cluster: cluster.id, term: cluster.current()?, revision })
    }

    /// Begins a term with the present epoch.
    pub(crate) fn begin_term(&mut self, start: Start) -> Changeset {
        let Start { cluster, nonce, after } = start;
        let mut next = match &self.cluster {
            Some(cluster) => Cluster::clone(cluster),
            None => Cluster { id: cluster, terms: Vec::new(), lost: BTreeSet::new() },
        };
        let term = Term { number: self.meta.epoch, nonce };
        next.terms.push(TermStart { term, after });
        let excess = next.terms.len().saturating_sub(TERMS_KEPT);
        next.terms.drain(..excess);
        self.cluster = Some(Arc::new(next));
        Changeset { changed: [Key::Cluster].into(), ..Changeset::default() }
    }

    /// Continues from this store although daemons know of `lost` terms: what was stored in them and
    /// is not in this store is lost. Generations and terms that follow are above the lost ones.
    pub(crate) fn accept_loss(
        &mut self,
        lost: BTreeSet<Term>,
        start: Start,
        at: Timestamp,
    ) -> Changeset {
        let newest = lost.iter().map(|term| term.number).max().unwrap_or(0);
        self.meta.epoch = self.meta.epoch.max(newest) + 1;
        let mut applied = self.begin_term(start);
        if let Some(cluster) = &mut self.cluster {
            Arc::make_mut(cluster).lost.extend(lost);
        }
        applied.changed.insert(Key::Meta);
        applied.event(at, About::Server, What::LossAccepted { epoch: self.meta.epoch });
        applied
    }

    /// Whether this history has placed an instance: it is placed now, or it was and has been
    /// removed. Attempts are never reused, so an instance that a node reports and that was not
    /// placed here is of another history.
    pub fn has_placed(&self, instance: &InstanceId) -> bool {
        let replica = instance.replica;
        let attempts = match self.services.get(&instance.service) {
            Some(service) => service.slot(replica.slot).attempts,
            None => self.meta.attempts,
        };
        replica.attempt <= attempts
    }
}
