//! Computes the route table from the desired and the observed state.

use model::{
    Backend, InstanceId, Listener, NotServing, Observed, ReplicaId, Route, Service, State,
    TableRoute, Timestamp, endpoint, not_serving,
};

/// The listeners of the route table. It has the instances that are desired and ready.
pub fn routes(state: &State, observed: &Observed, now: Timestamp) -> Vec<Listener> {
    let listeners = state.gateways().map(|gateway| Listener {
        gateway: gateway.gateway.clone(),
        listen: gateway.listen,
        trust: gateway.trust.clone(),
        routes: gateway
            .routes
            .iter()
            .map(|route| table_route(state, observed, now, route))
            .collect(),
    });
    listeners.collect()
}

/// One route of the table.
pub fn table_route(
    state: &State,
    observed: &Observed,
    now: Timestamp,
    route: &Route,
) -> TableRoute {
    let id = &route.to.service;
    let mut backends = Vec::new();
    let mut empty_because = None;
    match state.service(id) {
        None => empty_because = Some(format!("there is no service {id}")),
        Some(service) => {
            let mut why = None;
            for replica in service.placements.keys() {
                match backend(state, observed, now, service, *replica, route) {
                    Ok(backend) => backends.push(backend),
                    Err(reason) => {
                        let instance = InstanceId { service: id.clone(), replica: *replica };
                        why.get_or_insert_with(|| format!("{instance}: {reason}"));
                    }
                }
            }
            if backends.is_empty() {
                let nothing = || format!("no instance of {id} has been placed");
                empty_because = Some(why.unwrap_or_else(nothing));
            }
        }
    }
    let hosts = route.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    TableRoute { hosts, path: route.path.clone(), service: id.clone(), backends, empty_because }
}

fn backend(
    state: &State,
    observed: &Observed,
    now: Timestamp,
    service: &Service,
    replica: ReplicaId,
    route: &Route,
) -> Result<Backend, NotServing> {
    let status = observed.status(&service.id, replica);
    if let Some(reason) = not_serving(service, replica, status) {
        return Err(reason);
    }
    let placement = &service.placements[&replica];
    let spec = service.running_spec(placement.revision);
    if status.and_then(|status| status.ready_at(spec)).is_none_or(|at| at > now) {
        return Err(NotServing::JustStarted);
    }
    // Its ports belong to the spec that it was placed with, which may not be the newest one.
    let port = spec.port_index(&route.to.port).and_then(|index| placement.given.ports.get(index));
    let node = state.node(&placement.node);
    match (port, node) {
        (Some(port), Some(node)) => Ok(Backend {
            instance: InstanceId { service: service.id.clone(), replica },
            address: endpoint(&node.node.address, *port),
        }),
        _ => Err(NotServing::NoPort { port: route.to.port.clone() }),
    }
}
