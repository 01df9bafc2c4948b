//! What a failed deployment leaves behind: only the revision that failed is blocked.

use model::{Failure, State};

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
