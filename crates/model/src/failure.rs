//! Why a deployment failed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{RevisionNumber, ServiceId};
use crate::not_serving::Laggard;
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
                    Stall::Unplaced { placed, wanted } => write!(f, "{placed} of {wanted} placed"),
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
        let broken = || Failure::Other("it is broken".into());
        for (failure, sentence) in [
            (Failure::Aborted, "aborted"),
            (
                stalled(Stall::Unplaced { placed: 1, wanted: 3 }),
                "revision 2 of /web made no progress for 5s: 1 of 3 placed",
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
