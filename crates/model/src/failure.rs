//! Why a deployment failed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, RevisionNumber, ServiceId};
use crate::not_serving::Laggard;
use crate::reason::{Reason, write_rejections};
use crate::unit::Millis;

/// Why a deployment failed. Displays as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Failure {
    /// A user aborted it.
    Aborted,
    /// One of its services made no progress within the deadline of its rollout.
    Stalled {
        /// The service.
        service: ServiceId,
        /// The revision that it could not reach.
        revision: RevisionNumber,
        /// The deadline that passed.
        deadline: Millis,
        /// The cause as far as it is known.
        cause: Stall,
    },
    /// It failed and none of its services has an earlier revision to return to.
    Irreversible {
        /// Why it failed.
        failure: Arc<Failure>,
    },
    /// The sentence of another version of this program.
    #[serde(untagged)]
    Other(String),
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Why a service made no progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stall")]
pub enum Stall {
    /// Too few instances could be placed.
    Unplaced {
        /// Instances at the revision.
        placed: u32,
        /// Instances that should be there.
        wanted: u32,
        /// Why nodes did not accept the next one: the first of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        nodes: Vec<(NodeId, Reason)>,
        /// The number of nodes that did not accept it.
        #[serde(default, skip_serializing_if = "is_zero")]
        node_count: usize,
        /// Consecutive placements of one slot that were given up as unhealthy.
        #[serde(default, skip_serializing_if = "is_zero")]
        failures: usize,
    },
    /// This instance, the first of those, did not become ready.
    NotReady(Laggard),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Aborted => f.write_str("aborted"),
            Failure::Stalled { service, revision, deadline, cause } => {
                write!(f, "revision {revision} of {service} made no progress for {deadline}: ")?;
                match cause {
                    Stall::Unplaced { placed, wanted, nodes, node_count, failures } => {
                        write!(f, "{placed} of {wanted} placed")?;
                        if *failures > 0 {
                            write!(f, "; the last {failures} of one slot failed")?;
                        }
                        if *node_count > 0 {
                            f.write_str("; ")?;
                            write_rejections(f, nodes, *node_count)?;
                        }
                        Ok(())
                    }
                    Stall::NotReady(laggard) => write!(f, "{laggard}"),
                }
            }
            Failure::Irreversible { failure } => {
                write!(f, "{failure}; there is no earlier revision to go back to")
            }
            Failure::Other(message) => f.write_str(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::not_serving::NotServing;

    #[test]
    fn each_failure_has_a_message_and_reads_back() {
        let stalled = |cause: Stall| Failure::Stalled {
            service: "/web".parse().expect("a path"),
            revision: 2,
            deadline: Millis::secs(5),
            cause,
        };
        let not_ready = Stall::NotReady(Laggard {
            instance: "/web~0.2".parse().expect("an instance"),
            node: "n1".parse().expect("a name"),
            why: NotServing::Unhealthy { cause: Some("503".into()) },
        });
        let unplaced = |failures: usize, nodes: Vec<(NodeId, Reason)>| {
            let node_count = if nodes.is_empty() { 0 } else { 9 };
            stalled(Stall::Unplaced { placed: 1, wanted: 3, nodes, node_count, failures })
        };
        let broken = || Failure::Other("it is broken".into());
        for (failure, sentence) in [
            (Failure::Aborted, "aborted"),
            (unplaced(0, vec![]), "revision 2 of /web made no progress for 5s: 1 of 3 placed"),
            (
                unplaced(4, vec![("n1".parse().expect("a name"), Reason::Cordoned)]),
                "revision 2 of /web made no progress for 5s: 1 of 3 placed; the last 4 of one slot \
                 failed; no node of 9 can take it; n1: cordoned; and 8 more",
            ),
            (
                stalled(not_ready),
                "revision 2 of /web made no progress for 5s: /web~0.2 on n1: it is unhealthy: 503",
            ),
            (
                Failure::Irreversible { failure: Arc::new(broken()) },
                "it is broken; there is no earlier revision to go back to",
            ),
            (broken(), "it is broken"),
        ] {
            assert_eq!(failure.to_string(), sentence);
            let written = serde_json::to_string(&failure).expect("it is written");
            let read: Failure = serde_json::from_str(&written).expect("it is read");
            assert_eq!(read, failure, "{written}");
        }
        let earlier: Failure = serde_json::from_str(r#""it is broken""#).expect("it is read");
        assert_eq!(earlier, broken(), "earlier versions stored the sentence alone");
    }
}
