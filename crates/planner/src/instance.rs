//! Instances as a plan sees them: placed, and reported on.

use model::{Placement, Seat, Service, Status};

use crate::view::View;

/// An instance that is wanted, and what is known of it.
pub(crate) struct Instance<'a> {
    pub(crate) seat: Seat,
    pub(crate) placement: &'a Placement,
    pub(crate) status: Option<&'a Status>,
    /// It counts for the budget's floor.
    pub(crate) healthy: bool,
    /// It counts as having arrived.
    pub(crate) ready: bool,
}

/// The instances of a service with what is reported of them, by seat.
pub(crate) fn instances<'a>(
    view: &View<'a>,
    service: &'a Service,
) -> impl Iterator<Item = (Seat, &'a Placement, Option<&'a Status>)> {
    // Both are in the order of seats: one walk along both.
    let statuses = view.observed.instances.get(&service.id);
    let mut statuses = statuses.into_iter().flat_map(|statuses| statuses.iter()).peekable();
    service.placements.iter().map(move |(seat, placement)| {
        while statuses.next_if(|(other, _)| *other < seat).is_some() {}
        let status = statuses.next_if(|(other, _)| *other == seat);
        (*seat, placement, status.map(|(_, status)| status))
    })
}

/// Whether there is nothing to do for the service and nothing to wait for. That is so for nearly
/// all services nearly always, and costs next to nothing to see.
pub(crate) fn rests(view: &View<'_>, service: &Service) -> bool {
    if service.deployment.is_some() || service.placements.len() != service.wanted() as usize {
        return false;
    }
    let spec = service.spec();
    let away = |placement: &Placement| {
        view.lost.contains(&placement.node) || view.draining.contains(&placement.node)
    };
    let some_are_away = !view.lost.is_empty() || !view.draining.is_empty();
    let is_well = |status: &Status| status.ready_at(spec).is_some_and(|at| at <= view.now);
    instances(view, service).all(|(_, placement, status)| {
        placement.is_wanted()
            && (placement.revision == service.target || service.is_current(placement.revision))
            && status.is_some_and(is_well)
            && !(some_are_away && away(placement))
    })
}
