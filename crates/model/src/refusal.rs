//! The reasons why the state rejects a proposal.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::id::{DeploymentId, RequestKey, ServiceId};
use crate::principal::Principal;
use crate::problem::Problem;

/// Why a proposal is rejected. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The author of the proposal may not propose it. Never stored, as [`Refusal::is_final`] says.
    #[serde(skip)]
    #[error("{by} is not permitted to {operation}")]
    Forbidden {
        /// The author.
        by: Principal,
        /// The operation.
        #[serde(skip)]
        operation: &'static str,
    },
    /// The object does not exist.
    #[error("there is no {kind} `{name}`{}", hint(.nearest))]
    Unknown {
        /// The kind of the object.
        kind: Cow<'static, str>,
        /// The name that was given.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// Documents or a registration are invalid.
    #[error("{}", summary(.problems))]
    Invalid {
        /// The violations, each with the index of its document.
        problems: Vec<(usize, Problem)>,
    },
    /// A deployment is moving a service that the proposal requires to be settled.
    #[error("{service} is being moved by {}", named(.by))]
    Moving {
        /// The first such service.
        service: ServiceId,
        /// The deployments that move it and the other services of the same condition.
        by: Vec<DeploymentId>,
    },
    /// The command would act on a frozen service.
    #[error("{service} is frozen: thaw it first, or force the command")]
    Frozen {
        /// The first such service.
        service: ServiceId,
    },
    /// The target of a service has changed since the author read it.
    #[error("{service} has changed concurrently: reload it and retry")]
    Changed {
        /// The service.
        service: ServiceId,
    },
    /// Another request has used the same id.
    #[error(
        "the request id `{key}` belongs to another request: each request needs an id of its own"
    )]
    RequestReused {
        /// The key of both requests.
        key: RequestKey,
    },
    /// The command conflicts with the state.
    #[error("{message}")]
    Conflict {
        /// The cause and a fix.
        message: String,
    },
    /// An assumption of the planner no longer holds. Neither displayed nor stored: the planner
    /// plans again.
    #[serde(skip)]
    #[error("overtaken: {0}")]
    Stale(#[serde(skip)] &'static str),
}

impl Refusal {
    /// Whether a repetition of the request must be rejected as well. The other refusals are not
    /// verdicts on the command: its author may obtain the permission, or propose it again for a
    /// newer state.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Refusal::Forbidden { .. } | Refusal::Changed { .. } | Refusal::Stale(_))
    }
}

fn summary(problems: &[(usize, Problem)]) -> String {
    let mut lines =
        problems.iter().map(|(_, problem)| format!("{}: {}", problem.key, problem.message));
    lines.next().map_or_else(String::new, |first| match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}

fn named(ids: &[DeploymentId]) -> String {
    ids.iter().map(DeploymentId::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_state_the_remedy() {
        let unknown = |nearest: Option<&str>| {
            let nearest = nearest.map(String::from);
            Refusal::Unknown { kind: "service".into(), name: "/wev".into(), nearest }
        };
        let invalid = |count: usize| {
            let problem = Problem::new("instances", "at most 100000 instances");
            Refusal::Invalid { problems: vec![(0, problem); count] }
        };
        let service: ServiceId = "/web".parse().expect("a path");
        let by = vec![DeploymentId(2), DeploymentId(5)];
        for (refusal, expected) in [
            (unknown(None), "there is no service `/wev`"),
            (unknown(Some("/web")), "there is no service `/wev`; did you mean `/web`?"),
            (invalid(1), "instances: at most 100000 instances"),
            (invalid(3), "instances: at most 100000 instances (and 2 more)"),
            (Refusal::Moving { service, by }, "/web is being moved by d-2, d-5"),
        ] {
            assert_eq!(refusal.to_string(), expected);
        }
    }
}
