//! Services that depend on each other: started after, stopped before.
//!
//! Circles are refused when documents are applied, but a rollback may leave one behind. Services
//! in a circle do not wait for each other: nothing would ever move them.

use std::collections::BTreeSet;

use model::{Service, ServiceId};

use crate::view::View;

/// The services that `service` must wait for before it moves: those it depends on that are on
/// their way themselves.
pub(crate) fn dependencies(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let moving = |id: &&ServiceId| {
        let dependency = view.state.service(id);
        dependency.is_some_and(|dependency| dependency.deployment.is_some() && !dependency.removing)
    };
    let waited_for = service.spec().depends_on.iter().filter(moving);
    waited_for.filter(|id| !depends_on(view, id, &service.id)).cloned().collect()
}

/// The services that must have stopped before `service` may be removed: those that depend on it
/// and go away as well. One that stays does without it.
pub(crate) fn dependents(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let waited_for = view.dependents(&service.id).iter();
    let waited_for = waited_for.filter(|id| !depends_on(view, &service.id, id));
    waited_for.cloned().collect()
}

/// Whether `service` depends on `other`, itself or through others.
fn depends_on(view: &View<'_>, service: &ServiceId, other: &ServiceId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![service];
    while let Some(id) = open.pop() {
        let Some(next) = view.state.service(id) else { continue };
        for dependency in &next.spec().depends_on {
            if dependency == other {
                return true;
            }
            if seen.insert(dependency) {
                open.push(dependency);
            }
        }
    }
    false
}
