//! The reasons why the state rejects a proposal.

use crate::id::{DeploymentId, ServiceId};
use crate::principal::Principal;
use crate::problem::Problem;

/// Why a proposal is rejected. The state is unchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The author of the proposal may not propose it.
    #[error("{by} is not permitted to {operation}")]
    Forbidden {
        /// The author.
        by: Principal,
        /// The operation.
        operation: &'static str,
    },
    /// The object does not exist.
    #[error("there is no {kind} `{name}`{}", hint(.nearest))]
    Unknown {
        /// The kind of the object.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// Documents or a registration are invalid.
    #[error("{}", in_words(.problems))]
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
    /// The target of a service has changed since the author read it.
    #[error("{service} has changed meanwhile: look at it again")]
    Changed {
        /// The service.
        service: ServiceId,
    },
    /// The command conflicts with the state.
    #[error("{message}")]
    Conflict {
        /// The cause and a fix.
        message: String,
    },
    /// An assumption of the planner no longer holds. Never displayed: the planner plans again.
    #[error("overtaken: {0}")]
    Stale(&'static str),
}

fn in_words(problems: &[(usize, Problem)]) -> String {
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
    fn refusals_say_what_one_can_do_about_them() {
        let unknown = |nearest: Option<&str>| {
            let nearest = nearest.map(String::from);
            Refusal::Unknown { kind: "service", name: "/wev".into(), nearest }
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
