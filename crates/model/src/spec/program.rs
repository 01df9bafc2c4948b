//! The program of a resource: a container or a plain process, and the command that it runs.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::is_default;

/// A command: a string for `/bin/sh -c`, or a list of words that is run directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CommandLine {
    /// Run by `/bin/sh -c`.
    Shell(String),
    /// Run as it is; the first word is the program.
    Words(Vec<String>),
}

/// Implemented by hand, because an untagged enum loses the index of an invalid list item.
impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandVisitor;
        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = CommandLine;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a text for the shell, or a list of words")
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<CommandLine, E> {
                Ok(CommandLine::Shell(line.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CommandLine, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(CommandLine::Words(words))
            }
        }
        deserializer.deserialize_any(CommandVisitor)
    }
}

impl CommandLine {
    /// The words to execute.
    pub fn words(&self) -> Vec<String> {
        match self {
            CommandLine::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
            CommandLine::Words(words) => words.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(line) => line.trim().is_empty(),
            CommandLine::Words(words) => words.first().is_none_or(String::is_empty),
        }
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
    pub entrypoint: Option<Vec<String>>,
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
    pub source: String,
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
    pub workdir: Option<String>,
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
                CommandLine::Shell(line) => f.write_str(line),
                CommandLine::Words(words) => f.write_str(&words.join(" ")),
            },
        }
    }
}
