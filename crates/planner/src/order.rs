//! Services that depend on each other: started after, stopped before.

use model::{Service, ServiceId};

use crate::View;

/// The services that `service` must wait for before it moves: those it depends on that are on
/// their way themselves.
pub(crate) fn dependencies(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let moving = |id: &&ServiceId| {
        view.state.service(id).is_some_and(|dependency| dependency.deployment.is_some())
    };
    service.spec().depends_on.iter().filter(moving).cloned().collect()
}

/// The services that must have stopped before `service` may be removed: those being removed too
/// that depend on it. Nothing that stays depends on it: that was refused when it was asked for.
pub(crate) fn dependents(view: &View<'_>, service: &Service) -> Vec<ServiceId> {
    let going = view.state.services().filter(|other| other.removing);
    let depend = going.filter(|other| other.spec().depends_on.contains(&service.id));
    depend.map(|other| other.id.clone()).collect()
}
