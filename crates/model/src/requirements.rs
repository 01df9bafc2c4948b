//! The requirements of one more instance of a service, which a node must meet.

use std::sync::Arc;

use crate::constraint::Rule;
use crate::software::{FILES, MONITOR, REFERENCES, STACK};
use crate::spec::{Protocol, Resources, Spec};

/// The requirements of one more instance: the input of `NodeUsage::rejection`.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Processor time and memory.
    pub resources: Resources,
    /// The fixed ports.
    pub fixed: Vec<(u16, Protocol)>,
    /// The number of ports to be assigned.
    pub assigned: usize,
    /// Features that the agent must have.
    pub features: Vec<&'static str>,
    /// Capabilities that the node must have.
    pub requires: Vec<String>,
    /// Roles of which the node must have one; any role fits if there are none.
    pub roles: Vec<String>,
    /// Constraints, with the existing instances counted.
    pub rules: Arc<Vec<Rule>>,
}

impl Requirements {
    /// The requirements of an instance of `spec`, except constraints.
    pub fn of(spec: &Spec) -> Requirements {
        let fixed = spec.all_ports().filter(|port| port.port != 0);
        let docker = spec.has_container().then(|| "docker".to_string());
        Requirements {
            resources: spec.total_resources(),
            fixed: fixed.map(|port| (port.port, port.protocol)).collect(),
            assigned: spec.all_ports().filter(|port| port.port == 0).count(),
            features: spec.features(),
            requires: docker.into_iter().chain(spec.requires.iter().cloned()).collect(),
            roles: spec.roles.iter().cloned().collect(),
            rules: Arc::default(),
        }
    }
}

impl Spec {
    /// The features that an agent must have to run the service.
    pub fn features(&self) -> Vec<&'static str> {
        let used = [
            (STACK, !self.stack.is_empty()),
            (REFERENCES, self.needs_references()),
            (MONITOR, self.resources().any(|resource| resource.monitor)),
            (FILES, self.resources().any(|resource| !resource.files.is_empty())),
        ];
        used.into_iter().filter(|(_, is_used)| *is_used).map(|(feature, _)| feature).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::FEATURES;

    fn features(document: &str) -> Vec<&'static str> {
        serde_json::from_str::<Spec>(document).unwrap().features()
    }

    #[test]
    fn features_follow_from_the_keys_of_a_document() {
        let plain = r#"{"service": "/a", "process": {"command": "serve"}}"#;
        assert_eq!(features(plain), [""; 0], "every agent can run it");
        let stack = r#"{"service": "/a", "stack": [{"name": "a", "process": {"command": "b"}}]}"#;
        assert_eq!(features(stack), [STACK]);
        for (value, expected) in [
            (r#""plain $5""#, &[][..]),
            (r#"{"template": "${slot}"}"#, &[]),
            (r#"{"template": "${run:03}"}"#, &[REFERENCES]),
            (r#""${slot}""#, &[]),
        ] {
            let env = format!(r#"{{"A": {value}}}"#);
            let plain = r#"{"service": "/a", "process": {"command": "serve"}"#;
            assert_eq!(features(&format!(r#"{plain}, "env": {env}}}"#)), expected, "{value}");
        }
        let file = r#"{"path": "a", "text": "b"}"#;
        let process = r#""process": {"command": "b"}"#;
        let files = format!(r#"{{"service": "/a", {process}, "files": [{file}]}}"#);
        assert_eq!(features(&files), [FILES]);
        assert!(features(stack).iter().all(|feature| FEATURES.contains(feature)));
    }
}
