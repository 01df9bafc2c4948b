//! Validation of documents: each by itself, all of them together, and against the state.

mod file;
mod resource;
mod spec;

use std::collections::BTreeMap;

use crate::document::{Document, Subject};
use crate::gateway::{Listen, Route};
use crate::graph;
use crate::id::{GatewayId, ServiceId};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::routed::still_routed;
use crate::spec::{Port, Protocol, Spec};
use crate::state::State;

/// The cluster as it would be after documents have been applied.
struct Review<'a> {
    state: &'a State,
    /// The first document about each object.
    first: BTreeMap<Subject, usize>,
    specs: BTreeMap<&'a ServiceId, &'a Spec>,
    listens: BTreeMap<&'a GatewayId, Listen>,
    /// A cycle of dependencies, and the first document about a service in it. A cycle without such
    /// a document was created by a rollback.
    cycle: Option<(Vec<ServiceId>, usize)>,
}

/// Adds the violations of one rule by a document, which is given with its index.
type Rule = fn(&Review<'_>, usize, &Document, &mut Vec<Problem>);

/// The rules, in the order in which a user reads about their violations.
const RULES: [Rule; 9] = [
    own_problems,
    missing_checksums,
    duplicates,
    missing_dependencies,
    dependency_cycle,
    broken_routes,
    dependents_of_removed,
    taken_listener,
    route_targets,
];

impl Document {
    /// The violations of the document by itself.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Document::Service { spec, .. } => spec.problems(),
            Document::Gateway(gateway) => gateway.problems(),
            Document::Bundle(_) | Document::Remove(_) => Vec::new(),
        }
    }
}

impl State {
    /// The violations of documents, by themselves and in this state, each with the index of its
    /// document.
    pub(crate) fn document_problems(&self, documents: &[Document]) -> Vec<(usize, Problem)> {
        let review = Review::new(self, documents);
        let mut all = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let mut problems = Vec::new();
            RULES.iter().for_each(|rule| rule(&review, index, document, &mut problems));
            all.extend(problems.into_iter().map(|problem| (index, problem)));
        }
        all
    }
}

impl<'a> Review<'a> {
    fn new(state: &'a State, documents: &'a [Document]) -> Self {
        let present = state.services().filter(|service| !service.removing);
        let mut specs: BTreeMap<_, &Spec> =
            present.map(|service| (&service.id, service.spec().as_ref())).collect();
        let mut listens: BTreeMap<_, _> =
            state.gateways().map(|gateway| (&gateway.gateway, gateway.listen)).collect();
        let mut first = BTreeMap::new();
        for (index, document) in documents.iter().enumerate() {
            first.entry(document.subject()).or_insert(index);
            match document {
                Document::Service { spec, .. } => {
                    specs.insert(&spec.service, spec);
                }
                Document::Remove(Subject::Service(id)) => {
                    specs.remove(id);
                }
                Document::Gateway(gateway) => {
                    listens.insert(&gateway.gateway, gateway.listen);
                }
                Document::Remove(Subject::Gateway(id)) => {
                    listens.remove(id);
                }
                Document::Bundle(_) | Document::Remove(Subject::Bundle(_)) => {}
            }
        }
        let edges =
            specs.iter().map(|(id, spec)| (*id, spec.depends_on.iter().collect())).collect();
        let cycle = graph::cycle(&edges).and_then(|cycle| {
            let is_in_cycle =
                |document: &Document| document.spec().is_some_and(|s| cycle.contains(&s.service));
            let index = documents.iter().position(is_in_cycle)?;
            Some((cycle, index))
        });
        Self { state, first, specs, listens, cycle }
    }

    /// Why a reference to the service is wrong, with a suggestion.
    fn missing(&self, id: &ServiceId) -> String {
        match nearest(id.as_str(), self.specs.keys().map(|id| id.as_str())) {
            Some(near) => format!("there is no service `{id}`; did you mean `{near}`?"),
            None => format!("there is no service `{id}`: apply it first, or in the same command"),
        }
    }
}

fn own_problems(_: &Review<'_>, _: usize, document: &Document, problems: &mut Vec<Problem>) {
    problems.extend(document.problems());
}

/// A document of another system is accepted: those systems have no checksums.
fn missing_checksums(_: &Review<'_>, _: usize, document: &Document, problems: &mut Vec<Problem>) {
    let Document::Service { spec, source: None } = document else { return };
    let stack = spec.stack.iter().enumerate();
    let stack = stack.map(|(i, resource)| (format!("stack.{i}."), &resource.files));
    for (prefix, files) in [(String::new(), &spec.files)].into_iter().chain(stack) {
        let missing = file::missing_checksums(files);
        problems.extend(
            missing.map(|(key, message)| Problem::new(format!("{prefix}files.{key}"), message)),
        );
    }
}

fn duplicates(review: &Review<'_>, index: usize, document: &Document, problems: &mut Vec<Problem>) {
    let subject = document.subject();
    if review.first[&subject] != index {
        let message = format!("`{}` is described twice", subject.name());
        problems.push(Problem::new(subject.kind(), message));
    }
}

fn missing_dependencies(
    review: &Review<'_>,
    _: usize,
    document: &Document,
    problems: &mut Vec<Problem>,
) {
    let Some(spec) = document.spec() else { return };
    for id in spec.depends_on.iter().filter(|id| !review.specs.contains_key(id)) {
        problems.push(Problem::new("depends_on", review.missing(id)));
    }
}

/// The first document of a cycle is reported, and no other.
fn dependency_cycle(review: &Review<'_>, index: usize, _: &Document, problems: &mut Vec<Problem>) {
    if let Some((cycle, first)) = &review.cycle
        && *first == index
    {
        let path: Vec<_> = cycle.iter().chain(cycle.first()).map(ServiceId::as_str).collect();
        let message = format!("services depend on each other in a cycle: {}", path.join(" -> "));
        problems.push(Problem::new("depends_on", message));
    }
}

/// A service must keep the ports that routes of gateways lead to, unless the gateways change too.
/// Documents of other systems may drop them: those systems do not know the gateways.
fn broken_routes(review: &Review<'_>, _: usize, document: &Document, problems: &mut Vec<Problem>) {
    let Document::Service { spec, source: None } = document else { return };
    let (state, id) = (review.state, &spec.service);
    let mut lost = state.routes_lost(id, state.wanted(id), Some(spec));
    let is_described =
        |id: &GatewayId| review.first.contains_key(&Subject::Gateway(GatewayId::clone(id)));
    if let Some(lost) = lost.find(|(gateway, _)| !is_described(&gateway.gateway)) {
        problems.push(Problem::new("ports", still_routed(lost)));
    }
}

/// Services described by documents of other systems do not count: after the removal of a
/// dependency they no longer wait for it.
fn dependents_of_removed(
    review: &Review<'_>,
    _: usize,
    document: &Document,
    problems: &mut Vec<Problem>,
) {
    let Document::Remove(Subject::Service(id)) = document else { return };
    let is_native = |id: &ServiceId| {
        review.state.service(id).is_some_and(|service| service.target().source.is_none())
    };
    let mut dependents = review.specs.iter().filter(|(_, spec)| spec.depends_on.contains(id));
    if let Some((dependent, _)) = dependents.find(|(other, _)| is_native(other)) {
        problems.push(Problem::new("service", still_needed(dependent, id)));
    }
}

fn taken_listener(review: &Review<'_>, _: usize, document: &Document, problems: &mut Vec<Problem>) {
    let Document::Gateway(gateway) = document else { return };
    let mut others = review.listens.iter().filter(|(id, _)| **id != &gateway.gateway);
    if let Some((other, listen)) = others.find(|(_, listen)| overlap(listen, &gateway.listen)) {
        let message = format!("gateway `{other}` listens on {listen} already");
        problems.push(Problem::new("listen", message));
    }
}

/// Whether two gateways cannot listen on these addresses at the same time.
fn overlap(Listen(a): &Listen, Listen(b): &Listen) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn route_targets(review: &Review<'_>, _: usize, document: &Document, problems: &mut Vec<Problem>) {
    let Document::Gateway(gateway) = document else { return };
    for (index, Route { to, .. }) in gateway.routes.iter().enumerate() {
        let port = |spec: &Spec| spec.all_ports().nth(spec.port_index(&to.port)?).cloned();
        let message = match review.specs.get(&to.service).map(|spec| (spec, port(spec))) {
            None => review.missing(&to.service),
            Some((spec, None)) => {
                let names: Vec<_> =
                    spec.all_ports().filter_map(|port| port.name.as_deref()).collect();
                let names = if names.is_empty() { "none".into() } else { names.join(", ") };
                format!("{} has no port `{}`; its named ports: {names}", to.service, to.port)
            }
            Some((_, Some(Port { protocol: Protocol::Udp, .. }))) => {
                format!("port `{}` of {} is a UDP port; HTTP needs TCP", to.port, to.service)
            }
            Some(_) => continue,
        };
        problems.push(Problem::new(format!("routes.{index}.to"), message));
    }
}

pub(crate) fn still_needed(by: &ServiceId, id: &ServiceId) -> String {
    format!("{by} depends on {id}: remove both, or change {by} first")
}
