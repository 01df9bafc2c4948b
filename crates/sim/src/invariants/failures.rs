//! What a failed deployment leaves behind: only the revision that failed is blocked, and no undo
//! returns to it.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cause, Failure, RevisionNumber, Service, ServiceId, State, Timestamp};

use crate::violation::Violation;

/// A blocked revision is the one that its failure names.
pub(crate) fn blocked(state: &State) -> Option<Violation> {
    state.services().find_map(|service| {
        let failed = service.failed.as_ref()?;
        let Failure::Stalled { service: failing, revision, .. } = first_cause(&failed.reason)
        else {
            return None;
        };
        let is_its_own = *failing == service.id && *revision == failed.revision;
        (!is_its_own).then(|| {
            let detail = format!(
                "{} blocks revision {}, because revision {revision} of {failing} failed",
                service.id, failed.revision
            );
            Violation::new("only the revision that failed is blocked", detail)
        })
    })
}

fn first_cause(failure: &Failure) -> &Failure {
    match failure {
        Failure::Irreversible { failure } => first_cause(failure),
        cause => cause,
    }
}

/// The templates of a service that are known to work, and those that failed, by the times at which
/// they were applied: a new service of a removed one's path has the same numbers.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    succeeded: BTreeSet<Timestamp>,
    failed: BTreeSet<Timestamp>,
}

/// The outcomes of templates, recorded independently of those that the server stores.
#[derive(Debug, Default)]
pub(crate) struct History {
    services: BTreeMap<ServiceId, Templates>,
}

fn template(service: &Service, number: RevisionNumber) -> Option<Timestamp> {
    let template = service.revisions.get(&number)?.template;
    service.revisions.get(&template).map(|revision| revision.created_at)
}

impl History {
    /// Records what a durable state shows.
    pub(crate) fn published(&mut self, state: &State) {
        for service in state.services() {
            let known = self.services.entry(service.id.clone()).or_default();
            known.succeeded.extend(service.settled.and_then(|number| template(service, number)));
            let failed = service.failed.as_ref().map(|failed| failed.revision);
            known.failed.extend(failed.and_then(|number| template(service, number)));
        }
    }

    /// An undo without a revision does not return to one that has only failed.
    pub(crate) fn undone(&self, before: &State, after: &State) -> Option<Violation> {
        let is_new = |id| before.deployment(id).is_none();
        let undone =
            after.deployments().filter(|one| matches!(one.cause, Cause::Undo) && is_new(one.id));
        undone.flat_map(|deployment| &deployment.moves).find_map(|m| {
            let to = m.to?;
            let to = template(after.service(&m.service)?, to)?;
            let known = self.services.get(&m.service)?;
            let has_only_failed = known.failed.contains(&to) && !known.succeeded.contains(&to);
            has_only_failed.then(|| {
                let detail = format!("{} returns to the template of {to}", m.service);
                Violation::new("an undo returns to a revision that succeeded", detail)
            })
        })
    }
}
