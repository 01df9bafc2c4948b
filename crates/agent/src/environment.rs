//! The environment of a resource of an instance, in one place:
//!
//! | variable | value |
//! |---|---|
//! | `MUSTER_SERVICE` | the path of the service |
//! | `MUSTER_INSTANCE` | the id of the instance |
//! | `MUSTER_SLOT` | its replica number, from 0 |
//! | `MUSTER_REVISION` | the revision it was placed at |
//! | `MUSTER_RESOURCE` | the name of the resource in the stack, `main` without one |
//! | `MUSTER_RUN` | the number of this start in place, from 1 |
//! | `MUSTER_NODE` | the name of its node |
//! | `MUSTER_DIR` | for processes: the directory of the instance, shared by its resources |
//! | `HOST` | the address of its node |
//! | `PORT0`, `PORT1`, … | the ports of the instance, in the order of its stack |
//! | `PORT` | the first port of this resource |
//! | `PORTS` | the ports of this resource, with commas between |
//! | `PORT_<NAME>` | the port of the instance of that name, in upper case, `-` as `_` |
//! | `PATH`, `HOME` | for processes: the usual directories of programs, the same as `MUSTER_DIR` |
//!
//! In a container on the bridge network its own ports are those inside the container. Variables
//! that the server adds for an instance win over these, and those of the document over all of
//! them. Nothing of the agent's own environment is passed.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use model::{FileSource, Network, NodeId, Own, Piece, Ref, Spec};

use crate::core::LaunchSpec;
use crate::drivers::LaunchFile;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The node and directory in which an instance runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The node.
    pub(crate) node: &'a NodeId,
    /// The address of the node.
    pub(crate) address: &'a str,
    /// The instance's directory on the node.
    pub(crate) dir: &'a Path,
}

/// The complete environment of a resource, ordered by name.
pub(crate) fn environment(launch: &LaunchSpec, place: Place<'_>) -> Vec<(String, String)> {
    let LaunchSpec { piece: Piece { instance, resource, run }, revision, spec, .. } = launch;
    let mut env = BTreeMap::new();
    let mut set = |name: String, value: String| env.insert(name, value);
    set("MUSTER_SERVICE".into(), instance.service.to_string());
    set("MUSTER_INSTANCE".into(), instance.to_string());
    set("MUSTER_SLOT".into(), instance.replica.slot.to_string());
    set("MUSTER_REVISION".into(), revision.to_string());
    set("MUSTER_RESOURCE".into(), resource.to_string());
    set("MUSTER_RUN".into(), run.to_string());
    set("MUSTER_NODE".into(), place.node.to_string());
    set("HOST".into(), place.address.into());
    if spec.process.is_some() {
        set("PATH".into(), PATH.into());
        set("MUSTER_DIR".into(), place.dir.display().to_string());
        set("HOME".into(), place.dir.display().to_string());
    }
    let inner = inner_ports(spec, launch.ports());
    let mut names = launch.instance.all_ports().map(|port| port.name.as_deref());
    for (index, port) in seen_ports(launch, &inner).into_iter().enumerate() {
        set(format!("PORT{index}"), port.to_string());
        if let Some(name) = names.next().flatten() {
            let name = name.to_ascii_uppercase().replace('-', "_");
            set(format!("PORT_{name}"), port.to_string());
        }
    }
    if let Some(first) = inner.first() {
        set("PORT".into(), first.to_string());
        let all: Vec<_> = inner.iter().map(u16::to_string).collect();
        set("PORTS".into(), all.join(","));
    }
    let own: Vec<_> =
        launch.env.iter().map(|(name, value)| (name.clone(), filled_in(value, &env))).collect();
    env.extend(own);
    let known = facts(launch, place);
    // Only a port can be unknown, and a document that refers to a port it does not declare is
    // rejected.
    let user = spec.env.iter();
    let user = user.map(|(name, value)| (name.clone(), value.resolve(&known).unwrap_or_default()));
    env.extend(user);
    env.into_iter().collect()
}

/// The content of the files of a resource, with all references resolved.
pub(crate) fn files(launch: &LaunchSpec, place: Place<'_>) -> Vec<LaunchFile> {
    let known = facts(launch, place);
    let files = launch.spec.files.iter().filter_map(|file| {
        let content = match file.source()? {
            FileSource::Text(text) => text.resolve(&known).unwrap_or_default().into(),
            FileSource::Bytes(bytes) => Bytes::from_owner(bytes.clone()),
        };
        let (path, mode, owner) = (file.path.clone(), file.permissions(), file.owner.clone());
        Some(LaunchFile { path, mode, owner, content })
    });
    files.collect()
}

/// Returns the facts of a launch that references stand for.
fn facts<'a>(launch: &'a LaunchSpec, place: Place<'a>) -> impl Fn(&Ref) -> Option<String> + 'a {
    let LaunchSpec { piece: Piece { instance, run, .. }, revision, spec, .. } = launch;
    let ports = seen_ports(launch, &inner_ports(spec, launch.ports()));
    move |Ref::Own(own): &Ref| match own {
        Own::NodeName => Some(place.node.to_string()),
        Own::NodeAddress => Some(place.address.into()),
        Own::Service => Some(instance.service.to_string()),
        Own::Instance => Some(instance.to_string()),
        Own::Slot => Some(instance.replica.slot.to_string()),
        Own::Revision => Some(revision.to_string()),
        Own::Run => Some(run.to_string()),
        Own::Dir => Some(place.dir.display().to_string()),
        Own::Port(port) => {
            launch.instance.port_index(port).and_then(|i| ports.get(i)).map(u16::to_string)
        }
    }
}

/// Replaces `${NAME}` in a value by the agent's variable of that name.
fn filled_in(value: &str, known: &BTreeMap<String, String>) -> String {
    let known = known.iter().filter(|_| value.contains("${"));
    known.fold(value.into(), |filled: String, (name, value)| {
        filled.replace(&format!("${{{name}}}"), value)
    })
}

/// The ports of the whole instance as one of its resources sees them: `inner` are its own.
fn seen_ports(launch: &LaunchSpec, inner: &[u16]) -> Vec<u16> {
    let mut ports = launch.given.ports.clone();
    for (port, inner) in ports.iter_mut().skip(launch.first_port).zip(inner) {
        *port = *inner;
    }
    ports
}

/// The ports as the resource itself sees them.
fn inner_ports(spec: &Spec, ports: &[u16]) -> Vec<u16> {
    let on_bridge = spec.container.as_ref().is_some_and(|c| c.network == Network::Bridge);
    let inner = |(index, port): (usize, &u16)| match spec.ports.get(index) {
        Some(wanted) if on_bridge && wanted.container != 0 => wanted.container,
        _ => *port,
    };
    ports.iter().enumerate().map(inner).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Given;

    use super::*;

    fn launch(document: serde_json::Value) -> LaunchSpec {
        let spec: Spec = serde_json::from_value(document).unwrap();
        let spec = Arc::new(spec);
        LaunchSpec {
            piece: Piece {
                instance: "/shop/web~2.1".parse().unwrap(),
                resource: model::ResourceId::main(),
                run: 3,
            },
            revision: 7,
            spec: spec.clone(),
            first_port: 0,
            instance: spec,
            given: Given { ports: vec![20001, 20002] },
            env: BTreeMap::from([
                ("TASK".to_string(), "web.${MUSTER_SLOT}.${MUSTER_RUN}".to_string()),
                ("SANDBOX".to_string(), "${MUSTER_DIR}/${NOTHING}".to_string()),
                ("PORT1".to_string(), "31002".to_string()),
                ("COLOR".to_string(), "blue".to_string()),
            ]),
        }
    }

    fn check(document: serde_json::Value, expected: &[(&str, Option<&str>)]) {
        let node = "n1".parse().unwrap();
        let place = Place { node: &node, address: "10.0.0.1", dir: Path::new("/data/x") };
        let env = environment(&launch(document), place);
        let env: BTreeMap<_, _> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        for (name, value) in expected {
            assert_eq!(env.get(name).copied(), *value, "{name}");
        }
    }

    #[test]
    fn a_process_sees_its_ports_and_who_it_is() {
        check(
            serde_json::json!({
                "service": "/shop/web", "process": {"command": "serve"},
                "ports": [{"name": "http"}, {"name": "admin-ui"}],
                "env": {
                    "HOME": "/srv/web", "COLOR": "red", "LITERAL": "${slot}",
                    "URL": {"template": "http://${node.address}:${port.admin-ui}/${slot}"},
                    "SELF": {"template": "${instance} ${service} ${revision} ${run} ${node.name} ${dir}"},
                },
            }),
            &[
                ("PORT", Some("20001")),
                ("PORT0", Some("20001")),
                ("MUSTER_RUN", Some("3")),
                ("TASK", Some("web.2.3")),
                ("SANDBOX", Some("/data/x/${NOTHING}")),
                ("MUSTER_DIR", Some("/data/x")),
                ("PORT1", Some("31002")),
                ("PORTS", Some("20001,20002")),
                ("PORT_HTTP", Some("20001")),
                ("PORT_ADMIN_UI", Some("20002")),
                ("HOST", Some("10.0.0.1")),
                ("HOME", Some("/srv/web")),
                ("COLOR", Some("red")),
                ("LITERAL", Some("${slot}")),
                ("URL", Some("http://10.0.0.1:20002/2")),
                ("SELF", Some("/shop/web~2.1 /shop/web 7 3 n1 /data/x")),
                ("PATH", Some(PATH)),
                ("MUSTER_SERVICE", Some("/shop/web")),
                ("MUSTER_INSTANCE", Some("/shop/web~2.1")),
                ("MUSTER_SLOT", Some("2")),
                ("MUSTER_REVISION", Some("7")),
                ("MUSTER_NODE", Some("n1")),
            ],
        );
    }

    #[test]
    fn files_have_their_references_resolved() {
        let document = serde_json::json!({
            "service": "/shop/web", "process": {"command": "serve"},
            "ports": [{"name": "http"}],
            "files": [
                {"path": "a", "text": {"template": "${node.name} ${port.http} $${x}"}, "owner": "web"},
                {"path": "b", "base64": "AP8=", "mode": "0600", "executable": true},
            ],
        });
        let node = "n1".parse().unwrap();
        let place = Place { node: &node, address: "10.0.0.1", dir: Path::new("/data/x") };
        let of = |path: &str, mode, owner: Option<&str>, content: &'static [u8]| LaunchFile {
            path: path.into(),
            mode,
            owner: owner.map(String::from),
            content: content.into(),
        };
        assert_eq!(
            files(&launch(document), place),
            [of("a", 0o644, Some("web"), b"n1 20001 ${x}"), of("b", 0o711, None, &[0, 255])]
        );
    }

    #[test]
    fn a_container_on_the_bridge_sees_the_ports_inside() {
        let document = |network: &str| {
            serde_json::json!({
                "service": "/shop/web", "container": {"image": "web", "network": network},
                "ports": [{"container": 80}, {}],
            })
        };
        check(document("bridge"), &[("PORT0", Some("80")), ("PORTS", Some("80,20002"))]);
        check(document("host"), &[("PORT0", Some("20001")), ("PATH", None), ("HOME", None)]);
    }
}
