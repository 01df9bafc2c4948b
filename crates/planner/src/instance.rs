//! The instances of a service with their reported statuses.

use std::collections::BTreeMap;

use model::{Placement, ReplicaId, Service, Status};

use crate::view::View;

/// A desired instance with its reported status.
pub(crate) struct Instance<'a> {
    pub(crate) replica: ReplicaId,
    pub(crate) placement: &'a Placement,
    pub(crate) status: Option<&'a Status>,
    /// Whether it counts towards the minimum of healthy instances.
    pub(crate) healthy: bool,
    /// Whether it counts as arrived at the target.
    pub(crate) ready: bool,
}

/// The reported statuses of the instances of one service.
pub(crate) type Statuses = BTreeMap<ReplicaId, Status>;

/// A service with the reported statuses of its instances.
#[derive(Clone, Copy)]
pub(crate) struct ServiceView<'a> {
    pub(crate) service: &'a Service,
    pub(crate) statuses: Option<&'a Statuses>,
}

impl<'a> ServiceView<'a> {
    /// Its instances with their statuses, by replica.
    pub(crate) fn instances(
        self,
    ) -> impl Iterator<Item = (ReplicaId, &'a Placement, Option<&'a Status>)> {
        // Both are in the order of replicas: one pass over both.
        let mut statuses = self.statuses.into_iter().flatten().peekable();
        self.service.placements.iter().map(move |(replica, placement)| {
            while statuses.next_if(|(other, _)| *other < replica).is_some() {}
            let status = statuses.next_if(|(other, _)| *other == replica);
            (*replica, placement, status.map(|(_, status)| status))
        })
    }

    /// Whether the service has no steps and waits for nothing. This holds for almost all services
    /// at almost all times, so the check must be cheap.
    pub(crate) fn is_settled(self, view: &View<'_>) -> bool {
        let (service, Some(statuses)) = (self.service, self.statuses) else {
            return self.service.deployment.is_none()
                && self.service.placements.is_empty()
                && self.service.wanted() == 0;
        };
        let count = service.placements.len();
        if service.deployment.is_some()
            || service.frozen
            || !service.frozen_resources.is_empty()
            || service.is_paused()
            || count != service.wanted() as usize
            || count != statuses.len()
        {
            return false;
        }
        let spec = service.spec();
        let is_unavailable = |node| view.lost.contains(node) || view.draining.contains(node);
        let any_unavailable = !view.lost.is_empty() || !view.draining.is_empty();
        let mut pairs = service.placements.iter().zip(statuses);
        pairs.all(|((replica, placement), (reported, status))| {
            replica == reported
                && placement.may_serve()
                && (placement.revision == service.target || service.is_current(placement.revision))
                && status.ready_at(spec).is_some_and(|at| at <= view.now)
                && !(any_unavailable && is_unavailable(&placement.node))
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

    /// Whether the service `/a` with two instances on the node `n1` is settled after a script.
    fn is_settled(script: &str, then: impl Fn(&mut World)) -> bool {
        is_settled_after(&format!("{SETTLED}{script}"), then)
    }

    /// Whether the service `/a` is settled at the end of a script.
    fn is_settled_after(script: &str, then: impl Fn(&mut World)) -> bool {
        let mut world = World::new();
        for line in replay(&mut world, script) {
            line.printed.unwrap();
        }
        then(&mut world);
        let view = View::new(&world.state, &world.observed, world.now);
        let service = world.state.service(&"/a".parse().unwrap()).unwrap();
        let statuses = world.observed.instances.get(&service.id).map(AsRef::as_ref);
        ServiceView { service, statuses }.is_settled(&view)
    }

    #[test]
    fn a_service_without_steps_and_waits_is_settled() {
        let cases = [
            ("", true),
            // Changes of other services and nodes.
            ("> lose n2\n> tick 31s", true),
            ("> drain n2", true),
            ("> apply /b", true),
            // Instances of an earlier revision with the same template need no restart.
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
            // The back-off after a second failure: one instance is missing, or all are.
            ("> report /a~0.1 failed\n> run\n> report /a~0.2 failed\n> run", false),
            (
                "> report /a~0.1 failed\n> report /a~1.1 failed\n> run\n\
                 > report /a~0.2 failed\n> report /a~1.2 failed\n> run",
                false,
            ),
        ];
        for (script, expected) in cases {
            assert_eq!(is_settled(script, |_| {}), expected, "{script}");
        }
    }

    #[test]
    fn a_service_that_could_not_roll_back_with_others_is_not_settled() {
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
        assert!(!is_settled_after(script, |_| {}));
    }

    #[test]
    fn a_service_with_missing_or_foreign_reports_is_not_settled() {
        let id = |text: &str| text.parse().unwrap();
        let mistake = |world: &mut World| {
            let known = world.status(&id("/a~1.1"));
            world.observed.remove_status(&id("/a~1.1"));
            world.observed.set_status(&id("/a~1.2"), known);
        };
        assert!(!is_settled("", |world| world.observed.remove_status(&id("/a~1.1"))));
        assert!(!is_settled("", mistake));
        let kill = |world: &mut World| {
            let instances = vec![id("/a~1.1")];
            world.apply(model::Command::Kill { instances, scale: false }).unwrap();
        };
        assert!(!is_settled("", kill));
    }
}
