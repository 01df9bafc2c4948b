//! The version of an agent, and the features that not every agent has.
//!
//! Agents ignore unknown keys, so an older agent would run a newer document without its new keys. A
//! feature that the agent must support therefore has a name here: a service that uses it requires
//! it of nodes, and an agent that does not report it is too old for the service. To add a feature,
//! add its name to [`FEATURES`] and its condition to [`Spec::features`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::Spec;

/// Several resources in an instance, in order.
const STACK: &str = "stack";

/// Variables with references to facts of the instance, which older agents cannot read.
const VALUES: &str = "values";

/// The features of this version.
const FEATURES: [&str; 2] = [STACK, VALUES];

/// The software of an agent. Agents of the first version do not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    /// The version of the agent; empty if it is not reported.
    #[serde(default)]
    pub version: String,
    /// The features that it supports. A newer agent may report names that this version does not
    /// know.
    #[serde(default)]
    pub features: BTreeSet<String>,
}

impl Software {
    /// The software of this version.
    pub fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            features: FEATURES.map(String::from).into(),
        }
    }

    /// Whether nothing is reported.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl Spec {
    /// The features that an agent must have to run the service.
    pub fn features(&self) -> Vec<&'static str> {
        let used = [(STACK, !self.stack.is_empty()), (VALUES, self.has_explicit_values())];
        used.into_iter().filter(|(_, is_used)| *is_used).map(|(feature, _)| feature).collect()
    }

    /// Whether a variable needs another form than a plain string.
    fn has_explicit_values(&self) -> bool {
        let envs = self.stack.iter().map(|resource| &resource.env);
        envs.chain([&self.env]).flat_map(|env| env.values()).any(|value| !value.is_plain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (r#"{"template": "${slot}"}"#, &[VALUES]),
            // A string in the explicit form, because a document would have to escape it.
            (r#""${slot}""#, &[VALUES]),
        ] {
            let env = format!(r#"{{"A": {value}}}"#);
            let plain = r#"{"service": "/a", "process": {"command": "serve"}"#;
            assert_eq!(features(&format!(r#"{plain}, "env": {env}}}"#)), expected, "{value}");
        }
        assert!(features(stack).iter().all(|feature| FEATURES.contains(feature)));
    }

    #[test]
    fn an_agent_that_reports_nothing_has_no_features() {
        let unknown: Software = serde_json::from_str("{}").unwrap();
        assert!(unknown.is_unknown() && !Software::current().is_unknown());
    }
}
