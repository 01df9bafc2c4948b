//! Instances as a plan sees them: placed, and reported on.

use std::collections::BTreeMap;

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

/// What is reported of the instances of one service.
pub(crate) type Statuses = BTreeMap<Seat, Status>;

/// A service and what is reported of its instances.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) service: &'a Service,
    pub(crate) statuses: Option<&'a Statuses>,
}

impl<'a> Subject<'a> {
    /// Its instances with what is reported of them, by seat.
    pub(crate) fn instances(
        self,
    ) -> impl Iterator<Item = (Seat, &'a Placement, Option<&'a Status>)> {
        // Both are in the order of seats: one walk along both.
        let mut statuses = self.statuses.into_iter().flatten().peekable();
        self.service.placements.iter().map(move |(seat, placement)| {
            while statuses.next_if(|(other, _)| *other < seat).is_some() {}
            let status = statuses.next_if(|(other, _)| *other == seat);
            (*seat, placement, status.map(|(_, status)| status))
        })
    }

    /// Whether there is nothing to do for the service and nothing to wait for. That is so for
    /// nearly all services nearly always, and costs next to nothing to see.
    pub(crate) fn rests(self, view: &View<'_>) -> bool {
        let (service, Some(statuses)) = (self.service, self.statuses) else {
            return self.service.deployment.is_none()
                && self.service.placements.is_empty()
                && self.service.wanted() == 0;
        };
        let count = service.placements.len();
        if service.deployment.is_some()
            || count != service.wanted() as usize
            || count != statuses.len()
        {
            return false;
        }
        let spec = service.spec();
        let away = |placement: &Placement| {
            view.lost.contains(&placement.node) || view.draining.contains(&placement.node)
        };
        let some_are_away = !view.lost.is_empty() || !view.draining.is_empty();
        let mut pairs = service.placements.iter().zip(statuses);
        pairs.all(|((seat, placement), (told_of, status))| {
            seat == told_of
                && placement.is_wanted()
                && (placement.revision == service.target || service.is_current(placement.revision))
                && status.ready_at(spec).is_some_and(|at| at <= view.now)
                && !(some_are_away && away(placement))
        })
    }
}
