//! The facts of a run that references stand for.

use crate::id::{InstanceId, NodeId, ResourceId, RevisionNumber};
use crate::reference::{Number, Own, Ref};
use crate::service::Given;
use crate::spec::Spec;
use crate::stack::ResourceRef;
use crate::unit::Timestamp;
use crate::value::Value;

/// The facts of one run of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The name of the node.
    pub node: &'a NodeId,
    /// The address of the node.
    pub address: &'a str,
    /// The instance.
    pub instance: &'a InstanceId,
    /// The resource of its stack.
    pub resource: &'a ResourceId,
    /// The revision that the instance was placed at.
    pub revision: RevisionNumber,
    /// When that revision was applied.
    pub revision_created_at: Timestamp,
    /// The number of the run. Only the agent knows it.
    pub run: Option<u32>,
    /// The directory of the instance on the node. Only the agent knows it.
    pub dir: Option<&'a str>,
    /// The spec of the whole service.
    pub spec: &'a Spec,
    /// The allocation of the node.
    pub given: &'a Given,
}

impl Facts<'_> {
    /// The string that a reference stands for; `None` if it is not known.
    pub fn get(&self, own: &Own) -> Option<String> {
        Some(match own {
            Own::NodeName => self.node.to_string(),
            Own::NodeAddress => self.address.into(),
            Own::Service => self.instance.service.to_string(),
            Own::Instance => self.instance.to_string(),
            Own::Resource => self.resource.to_string(),
            Own::Number(number, format) => format.apply(match number {
                Number::Slot => self.instance.replica.slot,
                Number::Attempt => self.instance.replica.attempt,
                Number::Revision => self.revision,
                Number::Run => self.run?,
            }),
            Own::RevisionCreatedAt => self.revision_created_at.to_string(),
            Own::Dir => self.dir?.into(),
            Own::Port(port) => self.port(self.spec.port_index(port)?)?.to_string(),
            Own::NodePort(port) => self.given.ports.get(self.spec.port_index(port)?)?.to_string(),
        })
    }

    /// A port of the instance by its index: for a port of the resource, the one that the resource
    /// listens on, which in a container on the bridge network is that inside the container; for
    /// others, the port of the node.
    pub fn port(&self, index: usize) -> Option<u16> {
        let given = *self.given.ports.get(index)?;
        let resource = self.spec.resource(self.resource);
        let own = resource.as_ref().and_then(|resource| own_port(resource, index));
        Some(own.unwrap_or(given))
    }

    /// The ports that the resource listens on, in the order of its document.
    pub fn own_ports(&self) -> Vec<u16> {
        let Some(resource) = self.spec.resource(self.resource) else { return Vec::new() };
        let indexes = resource.first_port..resource.first_port + resource.ports.len();
        indexes.filter_map(|index| self.port(index)).collect()
    }

    /// The value as a string. An unknown fact is empty: only a port can be unknown to an agent, and
    /// a document that refers to a port that it does not declare is rejected.
    pub fn resolve(&self, value: &Value) -> String {
        value.resolve(&|Ref::Own(own)| self.get(own)).unwrap_or_default()
    }
}

/// The port inside the container of a port that the resource has there.
fn own_port(resource: &ResourceRef<'_>, index: usize) -> Option<u16> {
    let port = resource.ports.get(index.checked_sub(resource.first_port)?)?;
    Some(port.container).filter(|inside| *inside != 0 && resource.is_on_bridge())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The value of `text` in the resource `resource`.
    fn check(document: serde_json::Value, resource: &str, text: &str, expected: &str) {
        let mut document = document;
        document["service"] = json!("/shop/web");
        let spec: Spec = serde_json::from_value(document).unwrap();
        let facts = Facts {
            node: &"n1".parse().unwrap(),
            address: "10.0.0.1",
            instance: &"/shop/web~2.5".parse().unwrap(),
            resource: &resource.parse().unwrap(),
            revision: 7,
            revision_created_at: Timestamp(1_000),
            run: Some(3),
            dir: Some("/data/x"),
            spec: &spec,
            given: &Given { ports: vec![20001, 20002] },
        };
        let value = Value::parse(text).unwrap();
        assert_eq!(facts.resolve(&value), expected, "{text}");
        if expected.contains("/data/x") {
            let at_the_server = Facts { dir: None, ..facts };
            assert_eq!(
                value.resolve(&|Ref::Own(own)| at_the_server.get(own)),
                Err(&Ref::Own(Own::Dir))
            );
        }
    }

    #[test]
    fn references_stand_for_facts_of_the_run() {
        let process = json!({"process": {"command": "x"}, "ports": [{"name": "http"}, {}]});
        for (text, expected) in [
            ("${node.name} ${node.address}", "n1 10.0.0.1"),
            ("${service} ${instance} ${resource}", "/shop/web /shop/web~2.5 main"),
            ("${slot} ${attempt} ${revision} ${run} ${slot:03} ${attempt:04x}", "2 5 7 3 002 0005"),
            ("${revision.created_at}", "1970-01-01T00:00:01.000Z"),
            ("${dir}/conf", "/data/x/conf"),
            ("${port.http} ${port.1} ${node.port.http}", "20001 20002 20001"),
        ] {
            check(process.clone(), "main", text, expected);
        }
    }

    #[test]
    fn a_container_on_the_bridge_sees_its_own_ports_inside() {
        let container = |network: &str| json!({"image": "web", "network": network});
        let ports = json!([{"container": 80}, {}]);
        let text = "${port.0} ${port.1} ${node.port.0}";
        for (network, expected) in [("bridge", "80 20002 20001"), ("host", "20001 20002 20001")] {
            let document = json!({"container": container(network), "ports": ports});
            check(document, "main", text, expected);
        }
        let stack = json!({"stack": [
            {"name": "web", "container": container("bridge"), "ports": [{"container": 80}]},
            {"name": "log", "process": {"command": "x"}, "ports": [{}]},
        ]});
        check(stack.clone(), "web", "${port.0} ${port.1}", "80 20002");
        check(stack, "log", "${port.0} ${port.1}", "20001 20002");
    }
}
