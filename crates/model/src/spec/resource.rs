//! The resources of a stack, as documents describe them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::capacity::Resources;
use super::check::{HealthCheck, ReadinessCheck};
use super::file::FileSpec;
use super::is_default;
use super::lifecycle::{Restart, StopSignal};
use super::port::Port;
use super::program::{Container, Process, Program};
use crate::id::ResourceId;
use crate::value::Value;

/// One resource of a stack. Exactly one of `container`, `process` and `task` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resource {
    /// Its name, unique in the stack.
    pub name: ResourceId,
    /// Run a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Run a plain process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Run a container or process once: exit code 0 completes it, and the following resources of
    /// the stack start only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// How often a task that fails is run again before the instance fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: u32,
    /// Whether the instance does without this resource if it does not start or run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// Whether the instance fails, and is replaced, as soon as this resource ends by itself: it is
    /// not restarted in place. A task fails for good after its retries in any case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub monitor: bool,
    /// Names by which people and tools group resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tags: BTreeSet<String>,
    /// Whether the resource is left out as if it were not in the stack.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disabled: bool,
    /// Consecutive resources of the same subset start and stop at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// The resources of the node that it needs; an instance needs the sum.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// The ports it listens on. Numbered over the whole instance, in the order of the stack.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<Port>,
    /// Environment variables. They override those of the service.
    #[serde(default, skip_serializing_if = "is_default")]
    pub env: BTreeMap<String, Value>,
    /// Files that are written before each start of the resource.
    #[serde(default, skip_serializing_if = "is_default")]
    pub files: Vec<FileSpec>,
    /// Health checks: an instance with a resource that fails one is replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Vec<HealthCheck>,
    /// The readiness check: the following resources of the stack start once it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ReadinessCheck>,
    /// When the resource is started again after it exited; by default as the service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// How the resource is stopped; by default as the service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopSignal>,
}

/// The program of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum Task {
    /// A container.
    Container(Container),
    /// A plain process.
    Process(Process),
}

impl Resource {
    /// The program, and whether it runs once; `None` unless exactly one program is given.
    pub(crate) fn program(&self) -> Option<(Program<'_>, bool)> {
        match (&self.container, &self.process, &self.task) {
            (Some(container), None, None) => Some((Program::Container(container), false)),
            (None, Some(process), None) => Some((Program::Process(process), false)),
            (None, None, Some(Task::Container(container))) => {
                Some((Program::Container(container), true))
            }
            (None, None, Some(Task::Process(process))) => Some((Program::Process(process), true)),
            _ => None,
        }
    }

    /// This resource without the fields that take effect in place.
    pub(super) fn template(&self) -> Resource {
        Resource {
            files: self.files.iter().map(FileSpec::template).collect(),
            health: Vec::new(),
            readiness: None,
            restart: None,
            stop: None,
            optional: false,
            monitor: false,
            tags: BTreeSet::new(),
            retries: 0,
            ..self.clone()
        }
    }
}
