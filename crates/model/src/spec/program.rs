//! The program of a resource: a container or a plain process, and the command that it runs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::is_default;
use crate::value::{self, Value};

/// A command: a string for `/bin/sh -c`, or a list of words that is run directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CommandLine {
    /// Run by `/bin/sh -c`.
    Shell(Value),
    /// Run as it is; the first word is the program.
    Words(Vec<Value>),
}

impl From<Value> for CommandLine {
    fn from(line: Value) -> Self {
        CommandLine::Shell(line)
    }
}

/// Implemented by hand, because an untagged enum loses the index of an invalid list item.
impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a command: a string for the shell, or a list of words";
        value::deserialize_or_list(deserializer, EXPECTED, Some(CommandLine::Words))
    }
}

impl CommandLine {
    /// The words to execute. A word with references has the form of documents.
    pub fn words(&self) -> Vec<String> {
        let words = |words: &[Value]| words.iter().map(|word| word.text().into()).collect();
        match self {
            CommandLine::Shell(line) => words(&["/bin/sh".into(), "-c".into(), line.clone()]),
            CommandLine::Words(all) => words(all),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let first = match self {
            CommandLine::Shell(line) => Some(line),
            CommandLine::Words(words) => words.first(),
        };
        let is_shell = matches!(self, CommandLine::Shell(_));
        let text = first.map_or(Some(""), Value::as_text);
        text.is_some_and(|text| if is_shell { text.trim().is_empty() } else { text.is_empty() })
    }
}

/// A container of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Container {
    /// The image, as `docker pull` takes it.
    pub image: String,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<Value>>,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull: Pull,
    /// Which network the container joins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Directories of the node that the container sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// The user to run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Give the container all devices and rights of its node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub privileged: bool,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// If the node does not have it.
    #[default]
    Missing,
    /// Before every start.
    Always,
    /// Never: the node must have it.
    Never,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network of its own behind the node's bridge; its ports are mapped.
    #[default]
    Bridge,
    /// The node's network; the instance listens on the port it is given in `PORT0`.
    Host,
}

/// A directory of the node, seen in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Volume {
    /// An absolute path on the node.
    pub source: Value,
    /// An absolute path in the container.
    pub target: String,
    /// Whether the container may not write to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A plain process in its own session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Process {
    /// The command to run.
    pub command: CommandLine,
    /// The working directory; by default the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<Value>,
    /// The user to run as; by default the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// The program of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program<'a> {
    /// A container.
    Container(&'a Container),
    /// A plain process.
    Process(&'a Process),
}

impl fmt::Display for Program<'_> {
    /// The image, or the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Container(container) => f.write_str(&container.image),
            Program::Process(process) => match &process.command {
                CommandLine::Shell(line) => f.write_str(&line.text()),
                words => f.write_str(&words.words().join(" ")),
            },
        }
    }
}
