//! Validation of documents: each by itself, all of them together, and against the state.

mod resource;
mod spec;

use std::collections::BTreeMap;

use crate::document::Document;
use crate::gateway::Gateway;
use crate::graph;
use crate::group::Group;
use crate::id::ServiceId;
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::routed::still_routed;
use crate::spec::Spec;
use crate::state::State;

impl State {
    /// The violations of documents, by themselves and in this state, with the index of the
    /// document.
    pub(crate) fn document_problems(&self, documents: &[Document]) -> Vec<(usize, Problem)> {
        let mut problems = Vec::new();
        let mut specs: BTreeMap<&ServiceId, &Spec> =
            self.services().filter(|s| !s.removing).map(|s| (&s.id, s.spec().as_ref())).collect();
        let mut listens: BTreeMap<_, _> = self.gateways().map(|g| (&g.gateway, g.listen)).collect();
        let mut seen = BTreeMap::new();
        for (i, document) in documents.iter().enumerate() {
            let (own, key, name) = match document {
                Document::Service(spec) | Document::Foreign(spec, _) => {
                    specs.insert(&spec.service, spec);
                    (spec.problems(), "service", spec.service.as_str())
                }
                Document::Gateway(gateway) => {
                    listens.insert(&gateway.gateway, gateway.listen);
                    (gateway.problems(), "gateway", gateway.gateway.as_str())
                }
                Document::NoService(id) => {
                    specs.remove(id);
                    (Vec::new(), "service", id.as_str())
                }
                Document::Group(Group { group: path, .. }) | Document::NoGroup(path) => {
                    (Vec::new(), "group", path.as_str())
                }
            };
            problems.extend(own.into_iter().map(|problem| (i, problem)));
            if seen.insert((key, name), i).is_some() {
                problems.push((i, Problem::new(key, format!("`{name}` is described twice"))));
            }
        }
        // Documents of other systems may remove a dependency; the dependent service then no longer
        // waits.
        let is_own = |id: &ServiceId| {
            self.service(id).is_some_and(|service| service.target().source.is_none())
        };
        let known = || specs.keys().map(|id| id.as_str());
        let missing = |id: &ServiceId| match nearest(id.as_str(), known()) {
            Some(near) => format!("there is no service `{id}`; did you mean `{near}`?"),
            None => format!("there is no service `{id}`: apply it first, or in the same command"),
        };
        for (i, document) in documents.iter().enumerate() {
            match document {
                Document::Service(spec) | Document::Foreign(spec, _) => {
                    for id in spec.depends_on.iter().filter(|id| !specs.contains_key(id)) {
                        problems.push((i, Problem::new("depends_on", missing(id))));
                    }
                    // Another system's document is accepted: that system has no gateways.
                    if matches!(document, Document::Service(_)) {
                        let id = &spec.service;
                        let mut lost = self.routes_lost(id, self.wanted(id), Some(spec));
                        let described = |gateway: &Gateway| {
                            seen.contains_key(&("gateway", gateway.gateway.as_str()))
                        };
                        if let Some(lost) = lost.find(|(gateway, _)| !described(gateway)) {
                            problems.push((i, Problem::new("ports", still_routed(lost))));
                        }
                    }
                }
                Document::Gateway(gateway) => {
                    let clash = |other: &crate::gateway::Listen| {
                        let (a, b) = (other.0, gateway.listen.0);
                        let overlap =
                            a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
                        a.port() == b.port() && overlap
                    };
                    let mut others = listens.iter().filter(|(id, _)| **id != &gateway.gateway);
                    if let Some((other, listen)) = others.find(|(_, listen)| clash(listen)) {
                        let message = format!("gateway `{other}` listens on {listen} already");
                        problems.push((i, Problem::new("listen", message)));
                    }
                    for (r, route) in gateway.routes.iter().enumerate() {
                        let key = format!("routes.{r}.to");
                        match specs.get(&route.to.service) {
                            None => {
                                problems.push((i, Problem::new(key, missing(&route.to.service))))
                            }
                            Some(spec) if spec.port_index(&route.to.port).is_none() => {
                                let (service, port) = (&route.to.service, &route.to.port);
                                let names: Vec<_> =
                                    spec.all_ports().filter_map(|p| p.name.as_deref()).collect();
                                let names =
                                    if names.is_empty() { "none".into() } else { names.join(", ") };
                                let message = format!(
                                    "{service} has no port `{port}`; its named ports: {names}"
                                );
                                problems.push((i, Problem::new(key, message)));
                            }
                            Some(_) => {}
                        }
                    }
                }
                Document::NoService(id) => {
                    let needs = |(_, spec): &(&&ServiceId, &&Spec)| spec.depends_on.contains(id);
                    let mut others = specs.iter().filter(needs).map(|(other, _)| *other);
                    if let Some(other) = others.find(|other| is_own(other)) {
                        problems.push((i, Problem::new("service", still_needed(other, id))));
                    }
                }
                Document::Group(_) | Document::NoGroup(_) => {}
            }
        }
        let edges =
            specs.iter().map(|(id, spec)| (*id, spec.depends_on.iter().collect())).collect();
        if let Some(cycle) = graph::cycle(&edges) {
            let path: Vec<_> = cycle.iter().chain(cycle.first()).map(ServiceId::as_str).collect();
            let message =
                format!("services depend on each other in a circle: {}", path.join(" -> "));
            let in_cycle = |document: &Document| {
                document.spec().is_some_and(|spec| cycle.contains(&spec.service))
            };
            // A cycle that a rollback has created is not the fault of these documents.
            if let Some(i) = documents.iter().position(in_cycle) {
                problems.push((i, Problem::new("depends_on", message)));
            }
        }
        problems
    }
}

pub(crate) fn still_needed(by: &ServiceId, id: &ServiceId) -> String {
    format!("{by} depends on {id}: remove both, or change {by} first")
}
