//! What the agent and the keeper say to each other: JSON documents, a line each, over the
//! keeper's socket. A keeper may be older or newer than its agent, since it stays when the agent
//! is replaced: fields are only ever added, and unknown ones are ignored.

use std::path::PathBuf;

use model::{Bytes, Cpu, Exit, InstanceId, Millis, Signal, Timestamp};
use serde::{Deserialize, Serialize};

/// What the agent asks of the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub(super) enum Request {
    /// Begin a run. Answered by `Started` or `NotStarted`.
    Start(Box<Start>),
    /// Stop a run: signal, and kill after the grace. Answered by the `Ended` that follows.
    Stop { instance: InstanceId, run: u32, signal: Signal, grace: Millis },
    /// What is known of the instance's last run, which has ended, is no longer needed.
    Forget { instance: InstanceId },
}

/// A run to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) instance: InstanceId,
    pub(super) run: u32,
    /// The instance's directory, which its user gets.
    pub(super) dir: PathBuf,
    /// The directory of its streams, which its user does not get.
    pub(super) logs: PathBuf,
    pub(super) words: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: PathBuf,
    pub(super) user: Option<String>,
    pub(super) cpu: Cpu,
    pub(super) memory: Bytes,
    /// How it is stopped should the agent vanish and nothing be left behind.
    pub(super) stop: (Signal, Millis),
}

/// What the keeper tells the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "tell")]
pub(super) enum Tell {
    /// The last run of an instance, as it is; each connection begins with one for every instance.
    Held { instance: InstanceId, run: u32, started_at: Timestamp, exit: Option<Exit> },
    /// Everything that is held has been told; from here on, what happens.
    AllHeld,
    /// A run has begun.
    Started { instance: InstanceId, run: u32, at: Timestamp },
    /// A run could not begin.
    NotStarted { instance: InstanceId, run: u32, message: String },
    /// A run has ended, with all its children.
    Ended { instance: InstanceId, run: u32, exit: Exit },
    /// Something for the agent's log.
    Note { message: String },
}
