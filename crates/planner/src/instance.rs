//! Instances as a plan sees them: placed, and reported on.

use std::collections::BTreeMap;

use model::{Placement, ReplicaId, Service, Status};

use crate::view::View;

/// An instance that is wanted, and what is known of it.
pub(crate) struct Instance<'a> {
    pub(crate) replica: ReplicaId,
    pub(crate) placement: &'a Placement,
    pub(crate) status: Option<&'a Status>,
    /// It counts for the budget's floor.
    pub(crate) healthy: bool,
    /// It counts as having arrived.
    pub(crate) ready: bool,
}

/// What is reported of the instances of one service.
pub(crate) type Statuses = BTreeMap<ReplicaId, Status>;

/// A service and what is reported of its instances.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) service: &'a Service,
    pub(crate) statuses: Option<&'a Statuses>,
}

impl<'a> Subject<'a> {
    /// Its instances with what is reported of them, by replica.
    pub(crate) fn instances(
        self,
    ) -> impl Iterator<Item = (ReplicaId, &'a Placement, Option<&'a Status>)> {
        // Both are in the order of replicas: one walk along both.
        let mut statuses = self.statuses.into_iter().flatten().peekable();
        self.service.placements.iter().map(move |(replica, placement)| {
            while statuses.next_if(|(other, _)| *other < replica).is_some() {}
            let status = statuses.next_if(|(other, _)| *other == replica);
            (*replica, placement, status.map(|(_, status)| status))
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
        let is_away = |node| view.lost.contains(node) || view.draining.contains(node);
        let some_are_away = !view.lost.is_empty() || !view.draining.is_empty();
        let mut pairs = service.placements.iter().zip(statuses);
        pairs.all(|((replica, placement), (told_of, status))| {
            replica == told_of
                && placement.is_wanted()
                && (placement.revision == service.target || service.is_current(placement.revision))
                && status.ready_at(spec).is_some_and(|at| at <= view.now)
                && !(some_are_away && is_away(&placement.node))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{World, replay};

    const SETTLED: &str = "\
> node n1
> node n2
> apply /a instances=2 health restart.backoff=10s constraints=[[\"hostname\",\"IS\",\"n1\"]]
> settle
";

    /// Whether the service `/a` rests after what happens: two instances on the node `n1`.
    fn rests(happens: &str, then: impl Fn(&mut World)) -> bool {
        rests_after(&format!("{SETTLED}{happens}"), then)
    }

    /// Whether the service `/a` rests at the end of a script.
    fn rests_after(script: &str, then: impl Fn(&mut World)) -> bool {
        let mut world = World::new();
        for line in replay(&mut world, script) {
            line.printed.unwrap();
        }
        then(&mut world);
        let view = View::new(&world.state, &world.observed, world.now);
        let service = world.state.service(&"/a".parse().unwrap()).unwrap();
        let statuses = world.observed.instances.get(&service.id).map(AsRef::as_ref);
        Subject { service, statuses }.rests(&view)
    }

    #[test]
    fn a_service_rests_while_nothing_is_to_be_done_or_waited_for() {
        let cases = [
            ("", true),
            // What happens to others does not concern it.
            ("> lose n2\n> tick 31s", true),
            ("> drain n2", true),
            ("> apply /b", true),
            // Instances of an earlier revision that need not be started anew are as good.
            ("> scale /a 3\n> settle", true),
            ("> scale /a 0\n> settle", true),
            ("> restart /a", false),
            ("> restart /a\n> settle", true),
            ("> scale /a 0\n> settle\n> restart /a", false),
            ("> scale /a 1", false),
            ("> lose n1\n> tick 31s", false),
            ("> drain n1", false),
            ("> report /a~0.1 unhealthy", false),
            ("> report /a~0.1 failed", false),
            ("> forget-all", false),
            // The second failure is waited for: one is missing, or all are.
            ("> report /a~0.1 failed\n> run\n> report /a~0.2 failed\n> run", false),
            (
                "> report /a~0.1 failed\n> report /a~1.1 failed\n> run\n\
                 > report /a~0.2 failed\n> report /a~1.2 failed\n> run",
                false,
            ),
        ];
        for (happens, expected) in cases {
            assert_eq!(rests(happens, |_| {}), expected, "{happens}");
        }
    }

    #[test]
    fn a_service_that_could_not_go_back_with_others_does_not_rest_at_an_earlier_revision() {
        let script = "\
> node n1
> apply /b
> settle
> apply /a instances=2 health
> run
> report /a~0.1 running healthy ready
> report /a~1.1 running healthy ready
> apply /a instances=2 health env.VERSION=2 , /b env.VERSION=2
> abort d-3
";
        assert!(!rests_after(script, |_| {}));
    }

    #[test]
    fn a_service_does_not_rest_while_reports_are_missing_or_of_others() {
        let id = |text: &str| text.parse().unwrap();
        let mistake = |world: &mut World| {
            let known = world.status(&id("/a~1.1"));
            world.observed.remove_status(&id("/a~1.1"));
            world.observed.set_status(&id("/a~1.2"), known);
        };
        assert!(!rests("", |world| world.observed.remove_status(&id("/a~1.1"))));
        assert!(!rests("", mistake));
        let kill = |world: &mut World| {
            let instances = vec![id("/a~1.1")];
            world.apply(model::Command::Kill { instances, scale: false }).unwrap();
        };
        assert!(!rests("", kill));
    }
}
