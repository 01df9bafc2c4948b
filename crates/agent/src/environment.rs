//! The environment of a resource of an instance. The page `instances.md` of the book lists the
//! variables.
//!
//! In a container on the bridge network its own ports are those inside the container. Variables of
//! the document win over these. Nothing of the agent's own environment is passed.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Facts, FileSource, Spec, Value};

use crate::drivers::files::{Download, PlannedFile, Source};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables whose value is one fact, in the form of documents.
const FACTS: [(&str, &str); 8] = [
    ("MUSTER_SERVICE", "${service}"),
    ("MUSTER_INSTANCE", "${instance}"),
    ("MUSTER_SLOT", "${slot}"),
    ("MUSTER_REVISION", "${revision}"),
    ("MUSTER_RESOURCE", "${resource}"),
    ("MUSTER_RUN", "${run}"),
    ("MUSTER_NODE", "${node.name}"),
    ("HOST", "${node.address}"),
];

/// Those of processes. A container has directories of its own.
const FACTS_OF_PROCESSES: [(&str, &str); 3] =
    [("PATH", PATH), ("MUSTER_DIR", "${dir}"), ("HOME", "${dir}")];

/// The complete environment of a resource, ordered by name. `spec` is that of the resource, without
/// references.
pub(crate) fn environment(spec: &Spec, facts: &Facts<'_>) -> Vec<(String, String)> {
    let mut env = BTreeMap::new();
    let mut set = |name: String, value: String| env.insert(name, value);
    let of_processes = FACTS_OF_PROCESSES.iter().filter(|_| spec.process.is_some());
    for (name, value) in FACTS.iter().chain(of_processes) {
        let value = Value::parse(value).expect("the table has known references only");
        set((*name).into(), facts.resolve(&value));
    }
    for (index, port) in facts.spec.all_ports().enumerate() {
        let Some(number) = facts.port(index) else { break };
        set(format!("PORT{index}"), number.to_string());
        if let Some(name) = &port.name {
            let name = name.to_ascii_uppercase().replace('-', "_");
            set(format!("PORT_{name}"), number.to_string());
        }
    }
    let own = facts.own_ports();
    if let Some(first) = own.first() {
        set("PORT".into(), first.to_string());
        let all: Vec<_> = own.iter().map(u16::to_string).collect();
        set("PORTS".into(), all.join(","));
    }
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.text().into())));
    env.into_iter().collect()
}

/// The files of a resource, whose spec has no references.
pub(crate) fn files(spec: &Spec) -> Vec<PlannedFile> {
    let files = spec.files.iter().filter_map(|file| {
        let source = match file.source()? {
            FileSource::Text(text) => Source::Bytes(text.text().into_owned().into()),
            FileSource::Bytes(bytes) => Source::Bytes(Bytes::from_owner(bytes.clone())),
            FileSource::Url { url, sha256 } => {
                let (url, sha256) = (url.to_string(), sha256.copied());
                let download = Download { url, sha256, cache: file.cache };
                Source::Url { download, extract: file.extract }
            }
        };
        let (path, mode, owner) = (file.path.clone(), file.permissions(), file.owner.clone());
        Some(PlannedFile { path, mode, owner, source })
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Given, ResourceId, Timestamp};

    use super::*;

    /// Calls `read` with the resolved spec of a run and with its facts.
    fn with_facts<T>(document: serde_json::Value, read: impl FnOnce(&Spec, &Facts<'_>) -> T) -> T {
        let spec: Spec = serde_json::from_value(document).unwrap();
        let spec = Arc::new(spec);
        let facts = Facts {
            node: &"n1".parse().unwrap(),
            address: "10.0.0.1",
            instance: &"/shop/web~2.1".parse().unwrap(),
            resource: &ResourceId::main(),
            revision: 7,
            revision_created_at: Timestamp(0),
            run: Some(3),
            dir: Some("/data/x"),
            spec: &spec,
            given: &Given { ports: vec![20001, 20002] },
        };
        read(&spec.resolved(&facts), &facts)
    }

    fn environment_of(document: serde_json::Value) -> BTreeMap<String, String> {
        with_facts(document, environment).into_iter().collect()
    }

    fn check(document: serde_json::Value, expected: &[(&str, Option<&str>)]) {
        let env = environment_of(document);
        for (name, value) in expected {
            assert_eq!(env.get(*name).map(String::as_str), *value, "{name}");
        }
    }

    /// The page of the book lists the variables that the agent sets, and no others.
    #[test]
    fn the_book_lists_every_variable() {
        let page = include_str!("../../../docs/src/instances.md");
        let (_, table) = page.split_once("| variable |").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let listed: std::collections::BTreeSet<_> =
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(String::from).collect();
        let env = environment_of(serde_json::json!({
            "service": "/shop/web", "process": {"command": "x"}, "ports": [{"name": "http"}, {}],
        }));
        assert_eq!(env.into_keys().collect::<std::collections::BTreeSet<_>>(), listed);
    }

    #[test]
    fn a_process_gets_its_ports_and_identity() {
        check(
            serde_json::json!({
                "service": "/shop/web", "process": {"command": "serve"},
                "ports": [{"name": "http"}, {"name": "admin-ui"}],
                "env": {
                    "PORT1": "31002", "HOME": "/srv/web", "COLOR": "red", "LITERAL": "${slot}",
                    "URL": {"template": "http://${node.address}:${port.admin-ui}/${slot}"},
                    "SELF": {"template": "${instance} ${service} ${revision} ${run} ${node.name} ${dir}"},
                },
            }),
            &[
                ("PORT", Some("20001")),
                ("PORT0", Some("20001")),
                ("MUSTER_RUN", Some("3")),
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
        let of = |path: &str, mode, owner: Option<&str>, content: &'static [u8]| PlannedFile {
            path: path.into(),
            mode,
            owner: owner.map(String::from),
            source: Source::Bytes(content.into()),
        };
        assert_eq!(
            with_facts(document, |spec, _| files(spec)),
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
