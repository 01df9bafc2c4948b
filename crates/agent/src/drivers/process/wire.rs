//! The protocol between agent and keeper: JSON documents, one per line, over the keeper's socket. A
//! keeper may be older or newer than its agent, since it keeps running when the agent is replaced:
//! fields may only be added, and unknown fields are ignored. A run of the resource `main` has the
//! same form as a run of an instance in versions without stacks.

use std::path::PathBuf;

use model::{Bytes, Cpu, Exit, InstanceResource, Millis, Piece, Signal, Timestamp};
use serde::{Deserialize, Serialize};

/// A request of the agent to the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub(super) enum Request {
    /// Start a run. The response is `Started` or `NotStarted`.
    Start(Box<Start>),
    /// Stop a run: send the signal, and kill it after the grace period. The response is the `Ended`
    /// that follows.
    Stop {
        #[serde(flatten)]
        piece: Piece,
        signal: Signal,
        grace: Millis,
    },
    /// Send a signal to the process of a run that goes on running. There is no response. Only a
    /// keeper that announces `signals` knows this request.
    Signal {
        #[serde(flatten)]
        piece: Piece,
        signal: Signal,
    },
    /// Suspend or resume all processes of a run. The response is `Suspended`. Only a keeper that
    /// announces `suspends` knows this request.
    Suspend {
        #[serde(flatten)]
        piece: Piece,
        suspend: bool,
    },
    /// Drop the record of the resource's last run, which has ended.
    Forget {
        #[serde(flatten)]
        of: InstanceResource,
    },
}

/// A run to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    #[serde(flatten)]
    pub(super) piece: Piece,
    /// The instance's directory; its owner becomes `user`.
    pub(super) dir: PathBuf,
    /// The directory of its output streams; its owner remains the agent's user.
    pub(super) logs: PathBuf,
    pub(super) words: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: PathBuf,
    pub(super) user: Option<String>,
    pub(super) cpu: Cpu,
    pub(super) memory: Bytes,
    /// The signal and grace period with which an ephemeral keeper stops it after the agent has
    /// gone.
    pub(super) stop: (Signal, Millis),
}

/// A report of the keeper to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "tell")]
pub(super) enum KeeperEvent {
    /// The last run of a resource. Each connection begins with one for every resource.
    Held {
        #[serde(flatten)]
        piece: Piece,
        started_at: Timestamp,
        exit: Option<Exit>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        suspended: bool,
    },
    /// The end of the `Held` reports; later reports are new events.
    AllHeld {
        /// Whether this keeper distinguishes the resources of an instance. A keeper of a version
        /// without stacks omits it, and must not be asked to start any resource but `main`.
        #[serde(default)]
        stacks: bool,
        /// Whether this keeper knows [`Request::Signal`].
        #[serde(default)]
        signals: bool,
        /// Whether this keeper knows [`Request::Suspend`].
        #[serde(default)]
        suspends: bool,
    },
    /// A run has started.
    Started {
        #[serde(flatten)]
        piece: Piece,
        at: Timestamp,
    },
    /// A run could not start.
    NotStarted {
        #[serde(flatten)]
        piece: Piece,
        message: String,
    },
    /// The processes of a run have been suspended or resumed, or not.
    Suspended {
        #[serde(flatten)]
        piece: Piece,
        suspend: bool,
        error: Option<String>,
    },
    /// A run has ended, with all its children.
    Ended {
        #[serde(flatten)]
        piece: Piece,
        exit: Exit,
    },
    /// A line for the agent's log.
    Note { message: String },
}

#[cfg(test)]
mod tests {
    use model::Ending;

    use super::*;

    fn piece(resource: &str) -> Piece {
        let instance = "/shop/web~0.1".parse().unwrap();
        Piece { instance, resource: resource.parse().unwrap(), run: 2 }
    }

    #[test]
    fn a_keeper_of_a_version_without_stacks_is_understood() {
        let check = |line: &str, expected: KeeperEvent| {
            assert_eq!(serde_json::from_str::<KeeperEvent>(line).unwrap(), expected, "{line}");
        };
        let how = Ending::Other { code: Some(3), signal: None, message: "m".into() };
        let exit = Exit { at: Timestamp(9), how };
        check(
            r#"{"tell":"held","instance":"/shop/web~0.1","run":2,"started_at":"1970-01-01T00:00:00.007Z","exit":null}"#,
            KeeperEvent::Held {
                piece: piece("main"),
                started_at: Timestamp(7),
                exit: None,
                suspended: false,
            },
        );
        check(
            r#"{"tell":"all-held"}"#,
            KeeperEvent::AllHeld { stacks: false, signals: false, suspends: false },
        );
        check(
            r#"{"tell":"started","instance":"/shop/web~0.1","run":2,"at":"1970-01-01T00:00:00.007Z"}"#,
            KeeperEvent::Started { piece: piece("main"), at: Timestamp(7) },
        );
        check(
            r#"{"tell":"ended","instance":"/shop/web~0.1","run":2,"exit":
                {"at":"1970-01-01T00:00:00.009Z","code":3,"message":"m"}}"#,
            KeeperEvent::Ended { piece: piece("main"), exit },
        );
    }

    #[test]
    fn requests_about_main_are_those_of_versions_without_stacks() {
        let (signal, grace) = (Signal::Term, Millis(5));
        let stop = Request::Stop { piece: piece("main"), signal, grace };
        let old =
            r#"{"ask":"stop","instance":"/shop/web~0.1","run":2,"signal":"SIGTERM","grace":"5ms"}"#;
        let old: serde_json::Value = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_value(&stop).unwrap(), old);
        assert_eq!(serde_json::from_value::<Request>(old).unwrap(), stop);
        let forget = Request::Forget { of: piece("cache").of() };
        let line = serde_json::to_string(&forget).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), forget);
    }
}
