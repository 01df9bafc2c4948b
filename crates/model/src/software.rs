//! The version of an agent, and the features that not every agent has.
//!
//! Agents ignore unknown keys, so an older agent would run a newer document without its new keys. A
//! feature that the agent must support therefore has a name here: a service that uses it requires
//! it of nodes, and an agent that does not report it is too old for the service. To add a feature,
//! add its name to [`FEATURES`] and its condition to `Spec::features`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Several resources in an instance, in order.
pub(crate) const STACK: &str = "stack";

/// References to facts of the instance, which older agents cannot read.
pub(crate) const REFERENCES: &str = "references";

/// Files that are written before a start.
pub(crate) const FILES: &str = "files";

/// Resources whose end fails their instance.
pub(crate) const MONITOR: &str = "monitor";

/// Goals of an assignment other than to run and to stop. No document needs it: the planner asks for
/// it when a service is frozen or paused.
pub const GOALS: &str = "goals";

/// The features of this version.
pub(crate) const FEATURES: [&str; 5] = [STACK, REFERENCES, FILES, MONITOR, GOALS];

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

    /// Why the agent is too old for a feature, if it is.
    pub fn lacks(&self, feature: &str) -> Option<Reason> {
        let (needs, version) = (feature.to_string(), self.version.clone());
        (!self.features.contains(feature)).then_some(Reason::AgentTooOld { needs, version })
    }

    /// Whether nothing is reported.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_reports_nothing_has_no_features() {
        let unknown: Software = serde_json::from_str("{}").unwrap();
        assert!(unknown.is_unknown() && !Software::current().is_unknown());
    }
}
