//! The variables that Marathon sets in a task and that depend on its instance: its identity, and
//! its ports on the node.
//!
//! The agent sets further ones. `crate::format` sets those that have the same value for all tasks
//! of an app.

use std::collections::BTreeMap;

use model::{InstanceId, Network, Placement, Service};

use super::app::{ADAPTER, Apps};
use super::name;

/// The variables of an instance, if its app was created by this adapter. They depend on the
/// revision of its placement only, so they are constant.
pub(crate) fn environment(
    apps: &Apps,
    service: &Service,
    id: &InstanceId,
    placement: &Placement,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(revision) = service.revisions.get(&placement.revision) else { return env };
    if revision.source.as_ref().is_none_or(|source| source.adapter != ADAPTER) {
        return env;
    }
    let spec = &revision.spec;
    let mut set = |name: String, value: String| env.insert(name, value);
    set("MARATHON_APP_VERSION".into(), revision.created_at.to_string());
    set("MESOS_TASK_ID".into(), format!("{}._app.${{MUSTER_RUN}}", name::instance(id)));
    if spec.process.is_some() {
        set("MESOS_SANDBOX".into(), "${MUSTER_DIR}".into());
    }
    let on_bridge = spec.container.as_ref().is_some_and(|c| c.network == Network::Bridge);
    let requested: Vec<u16> = match on_bridge {
        true => spec.ports.iter().map(|port| port.container).collect(),
        false => apps.of(service, revision).service_ports(),
    };
    for (requested, port) in requested.into_iter().zip(&placement.given.ports) {
        let requested = if requested == 0 { *port } else { requested };
        set(format!("PORT_{requested}"), port.to_string());
    }
    if on_bridge {
        // By default, a container gets its own ports. Marathon sets the ports of the node instead,
        // since an app knows its own ports, and has to announce those under which it is reachable.
        for (index, port) in placement.given.ports.iter().enumerate() {
            set(format!("PORT{index}"), port.to_string());
            if let Some(name) = spec.ports.get(index).and_then(|port| port.name.as_deref()) {
                let name = name.to_ascii_uppercase().replace('-', "_");
                set(format!("PORT_{name}"), port.to_string());
            }
        }
        if let Some(first) = placement.given.ports.first() {
            set("PORT".into(), first.to_string());
            let all: Vec<_> = placement.given.ports.iter().map(u16::to_string).collect();
            set("PORTS".into(), all.join(","));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use crate::format;
    use model::{Command, Document, Goal, Proposal, Source, State, Timestamp};
    use serde_json::json;

    use super::*;

    fn check(app: &serde_json::Value, adapter: Option<&str>, expected: &[(&str, &str)]) {
        let app = format::read_app(app.to_string().as_bytes(), None).unwrap();
        let spec = app.spec().unwrap();
        let document = match adapter {
            Some(adapter) => {
                let source = Source { adapter: adapter.into(), text: app.to_source() };
                Document::foreign(spec, source)
            }
            None => Document::service(spec),
        };
        let mut state = State::new();
        state.apply(Proposal::operator(Command::Apply(vec![document])), Timestamp(1_000)).unwrap();
        let service = state.service(&"/shop/web".parse().unwrap()).unwrap();
        let placement = Placement {
            revision: 1,
            node: "n1".parse().unwrap(),
            given: model::Given { ports: vec![31000, 31001] },
            goal: Goal::Run,
            placed_at: Timestamp(2_000),
        };
        let id = "/shop/web~2.5".parse().unwrap();
        let env = environment(&Apps::default(), service, &id, &placement);
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, expected);
    }

    const TASK: (&str, &str) = (
        "MESOS_TASK_ID",
        "shop_web.instance-00000002-0000-4000-8000-000000000005._app.${MUSTER_RUN}",
    );
    const VERSION: (&str, &str) = ("MARATHON_APP_VERSION", "1970-01-01T00:00:01.000Z");

    #[test]
    fn a_process_gets_variables_for_its_requested_ports() {
        let app = json!({
            "id": "/shop/web", "cmd": "run",
            "portDefinitions": [{ "port": 10080, "name": "http" }, { "port": 0 }],
        });
        let expected = [
            VERSION,
            ("MESOS_SANDBOX", "${MUSTER_DIR}"),
            TASK,
            ("PORT_10080", "31000"),
            ("PORT_31001", "31001"),
        ];
        check(&app, Some(ADAPTER), &expected);
        check(&app, Some("other"), &[]);
        check(&app, None, &[]);
    }

    #[test]
    fn a_container_on_the_bridge_gets_the_ports_of_its_node() {
        let app = json!({
            "id": "/shop/web",
            "container": {
                "type": "DOCKER",
                "docker": { "image": "web" },
                "portMappings": [{ "containerPort": 80, "name": "http-api" }, { "containerPort": 0 }],
            },
            "networks": [{ "mode": "container/bridge" }],
        });
        let expected = [
            VERSION,
            TASK,
            ("PORT", "31000"),
            ("PORT0", "31000"),
            ("PORT1", "31001"),
            ("PORTS", "31000,31001"),
            ("PORT_31001", "31001"),
            ("PORT_80", "31000"),
            ("PORT_HTTP_API", "31000"),
        ];
        check(&app, Some(ADAPTER), &expected);
    }
}
