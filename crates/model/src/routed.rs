//! Routes that lose their service. Muster's own documents and commands must not remove a service or
//! port that a route leads to: they are rejected. Documents of other systems, which have no
//! gateways, and rollbacks are applied, and an event reports the broken route.

use crate::changeset::Changeset;
use crate::event::{About, What};
use crate::gateway::{Gateway, Route};
use crate::id::ServiceId;
use crate::spec::Spec;
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    /// For each gateway, the first route that `before` of the service has a port for and `after`
    /// has not; `None` stands for a service that does not exist.
    pub(crate) fn routes_lost<'a>(
        &'a self,
        id: &'a ServiceId,
        before: Option<&'a Spec>,
        after: Option<&'a Spec>,
    ) -> impl Iterator<Item = (&'a Gateway, &'a Route)> {
        let leads = |spec: Option<&Spec>, route: &Route| {
            spec.is_some_and(|spec| spec.port_index(&route.to.port).is_some())
        };
        let lost = move |route: &&Route| {
            route.to.service == *id && leads(before, route) && !leads(after, route)
        };
        self.gateways().filter_map(move |gateway| {
            gateway.routes.iter().find(lost).map(|route| (gateway.as_ref(), route))
        })
    }

    /// The target spec of a service, as users see it: `None` while it is being removed.
    pub(crate) fn wanted(&self, id: &ServiceId) -> Option<&Spec> {
        self.service(id).filter(|service| !service.removing).map(|service| service.spec().as_ref())
    }

    /// Adds an event for each gateway with a route that the change from `before` broke.
    pub(crate) fn emit_lost_routes(
        &self,
        id: &ServiceId,
        before: Option<&Spec>,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        for (gateway, route) in self.routes_lost(id, before, self.wanted(id)) {
            let broken = What::RouteBroken { route: Box::new(route.clone()) };
            applied.event(at, About::Gateway(gateway.gateway.clone()), broken);
        }
    }
}

/// The error message for a change that would break a route.
pub(crate) fn still_routed((gateway, route): (&Gateway, &Route)) -> String {
    let (routed, name) = (routed(gateway, route), &gateway.gateway);
    format!(
        "{routed}: apply the gateway without that route, first or in the same command, or remove \
         it with `muster rm gateway/{name}`"
    )
}

fn routed(gateway: &Gateway, route: &Route) -> String {
    format!("gateway `{}` routes {route}", gateway.gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changeset::Outcome;
    use crate::document::{Document, Subject};
    use crate::proposal::{Command, Proposal};
    use crate::revision::Source;

    fn service(port: &str) -> Spec {
        let text = format!(
            r#"{{"service": "/shop/web", "instances": 0, "process": {{"command": "serve"}},
                "ports": [{{"name": "{port}"}}]}}"#
        );
        serde_json::from_str(&text).expect("a service")
    }

    fn gateway(routes: &str) -> Document {
        let text = format!(r#"{{"gateway": "public", "listen": 8080, "routes": [{routes}]}}"#);
        Document::Gateway(serde_json::from_str(&text).expect("a gateway"))
    }

    fn native(port: &str) -> Document {
        Document::service(service(port))
    }

    fn foreign(port: &str) -> Document {
        let source = Source { adapter: "old".into(), text: port.into() };
        Document::foreign(service(port), source)
    }

    fn apply(state: &mut State, documents: Vec<Document>) -> Outcome {
        state.apply(Proposal::operator(Command::Apply(documents)), Timestamp(1))
    }

    fn routed() -> State {
        let mut state = State::new();
        let route = gateway(r#"{"path": "/api", "to": "/shop/web:http"}"#);
        apply(&mut state, vec![native("http"), route]).expect("it is applied");
        state
    }

    fn broken(outcome: Outcome) -> Vec<String> {
        let events = outcome.expect("it goes through").events;
        let broken =
            events.into_iter().filter(|event| matches!(event.what, What::RouteBroken { .. }));
        broken.map(|event| format!("{}: {}", event.about, event.what)).collect()
    }

    fn web() -> ServiceId {
        "/shop/web".parse().expect("a path")
    }

    const REFUSED: &str = "gateway `public` routes /api to /shop/web:http: apply the gateway \
                           without that route, first or in the same command, or remove it with \
                           `muster rm gateway/public`";
    const BROKEN: &str = "public: routes /api to /shop/web:http, which no longer exists";

    #[test]
    fn removing_a_routed_port_is_rejected_or_reported() {
        let mut state = routed();
        let refusal = apply(&mut state, vec![native("www")]).expect_err("it is routed to");
        assert!(refusal.to_string().contains(REFUSED), "{refusal}");
        let both = vec![native("www"), gateway(r#"{"to": "/shop/web:www"}"#)];
        assert_eq!(broken(apply(&mut state, both)), [""; 0]);
        let back = Command::Undo { service: web(), to: Some(1) };
        assert!(
            state.apply(Proposal::usual(back), Timestamp(2)).is_err(),
            "the earlier port is not that routed to"
        );
    }

    #[test]
    fn removing_a_routed_service_is_rejected_or_reported() {
        let mut state = routed();
        let remove = || Command::RemoveServices(vec![web()]);
        let refusal =
            state.apply(Proposal::usual(remove()), Timestamp(2)).expect_err("it is routed to");
        assert_eq!(refusal.to_string(), REFUSED);
        let gateway = Command::RemoveGateway("public".parse().expect("a name"));
        state.apply(Proposal::usual(gateway), Timestamp(2)).expect("the route goes");
        assert_eq!(broken(state.apply(Proposal::usual(remove()), Timestamp(2))), [""; 0]);
    }

    #[test]
    fn adapters_may_break_routes_and_an_event_reports_it() {
        assert_eq!(
            broken(apply(&mut routed(), vec![Document::Remove(Subject::Service(web()))])),
            [BROKEN]
        );
        let mut state = routed();
        assert_eq!(broken(apply(&mut state, vec![foreign("www")])), [BROKEN]);
        assert_eq!(broken(apply(&mut state, vec![native("mmm")])), [""; 0], "it was broken before");
    }

    #[test]
    fn a_rollback_reports_the_routes_that_it_breaks() {
        let mut state = routed();
        let step = crate::Step::Arrive { service: web() };
        state.apply(Proposal::step(step), Timestamp(2)).expect("it arrives");
        let both = vec![native("www"), gateway(r#"{"path": "/api", "to": "/shop/web:www"}"#)];
        apply(&mut state, both).expect("it is applied");
        let abort = Command::Steer { deployment: crate::DeploymentId(2), how: crate::Steer::Abort };
        let emitted = broken(state.apply(Proposal::usual(abort), Timestamp(3)));
        assert_eq!(emitted, [BROKEN.replace("web:http", "web:www")]);
    }
}
