//! Dependencies between services: a service starts after its dependencies and stops before them.
//!
//! Documents with cycles are rejected, but a rollback may restore one. Services in a cycle do not
//! wait for each other: otherwise none of them would ever move.

use std::collections::BTreeSet;

use model::{Service, ServiceId};

use crate::view::View;

/// The dependencies of `service` that are moving themselves: it must wait for them.
pub(crate) fn dependencies(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let is_moving = |id: &&ServiceId| {
        let dependency = view.state.service(id);
        dependency.is_some_and(|dependency| dependency.deployment.is_some() && !dependency.removing)
    };
    let moving = service.spec().depends_on.iter().filter(is_moving);
    moving.filter(|id| !depends_on(view, id, &service.id)).cloned().collect()
}

/// The services whose instances must terminate before those of `service`: those that depend on it
/// and are being removed, stopped or paused as well. A service that stays does not delay its dependency.
pub(crate) fn dependents(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let dependents = view.dependents(&service.id).iter();
    dependents.filter(|id| !depends_on(view, &service.id, id)).cloned().collect()
}

/// Whether `service` depends on `other`, directly or transitively.
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
