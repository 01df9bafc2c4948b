//! What gateways are told, and that nothing is stopped under a request.

use model::{Goal, InstanceId, NodeId, Observed, ReplicaId, RouteTable, Service, Timestamp};

use crate::gateway::has;
use crate::world::World;

impl World {
    /// A table names only what has been ready and is to run.
    pub(crate) fn law_of_routes(&mut self, table: &RouteTable) {
        self.law_of_tables(table.generation);
        let Some(running) = &self.server.running else { return };
        let state = &running.snapshot.state;
        let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
        let mut broken = None;
        for backend in routes.flat_map(|route| &route.backends) {
            let id = &backend.instance;
            // What was decided with this table is durable, but not yet seen by readers.
            if state.placement(id).is_some_and(|placement| !placement.is_wanted()) {
                broken = Some(format!("{id} has been told to leave"));
            } else if !self.laws.ever_ready.contains(id) {
                broken = Some(format!("{id} was never ready"));
            }
        }
        if let Some(how) = broken {
            self.breach("routes name what is ready and stays", how);
        }
    }

    /// An instance is told to stop only once no gateway that answers sends it anything or has
    /// anything under way there, or the time for that is over.
    pub(crate) fn law_of_stopping(
        &mut self,
        observed: &Observed,
        was: &Service,
        service: &Service,
        now: Timestamp,
    ) {
        for (replica, placement) in &service.placements {
            let before = was.placements.get(replica);
            let stops = matches!(placement.goal, Goal::Stop { .. })
                && before.is_some_and(|before| !matches!(before.goal, Goal::Stop { .. }));
            if !stops || self.is_excused(observed, service, *replica, before.map(|b| &b.goal), now)
            {
                continue;
            }
            let instance = InstanceId { service: service.id.clone(), replica: *replica };
            if let Some(node) = self.gateway_that_uses(observed, &instance, now) {
                let how = format!("{instance} is told to stop while the gateway on {node} uses it");
                self.breach("nothing is stopped under a request", how);
            }
        }
    }

    /// Whether the time for its requests is over.
    fn is_excused(
        &self,
        observed: &Observed,
        service: &Service,
        replica: ReplicaId,
        before: Option<&Goal>,
        now: Timestamp,
    ) -> bool {
        let placement = &service.placements[&replica];
        let status = observed.status(&service.id, replica);
        let over = match before {
            Some(Goal::Drain { until, .. }) => *until <= now,
            _ => service.drain(placement.revision).0 == 0,
        };
        over || status.is_some_and(|status| status.phase.is_over())
    }

    fn gateway_that_uses(
        &self,
        observed: &Observed,
        instance: &InstanceId,
        now: Timestamp,
    ) -> Option<NodeId> {
        let users = self.hosts.iter().filter(|(node, host)| {
            let Some(gateway) = &host.gateway else { return false };
            // What a gateway does of which nobody has heard for so long, nobody waits for.
            let answers = observed.gateways.get(*node).is_some_and(|told| {
                now.since(told.seen_at).0 + 1_000 < model::GATEWAY_SILENCE_MAX.0
            });
            let tables = gateway.threads.iter().flatten();
            let mut requests = gateway.requests.values();
            answers
                && (tables.into_iter().any(|table| has(table, instance))
                    || requests.any(|request| request.instance == *instance))
        });
        users.map(|(node, _)| node.clone()).next()
    }
}
