//! Processor time and memory: what an instance needs, or what a node has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::{Bytes, Cpu};

/// The resources that an instance needs, or that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resources {
    /// Cores: a share under contention, not a ceiling.
    #[serde(default = "Resources::default_cpu")]
    pub cpu: Cpu,
    /// Memory: a hard limit.
    #[serde(default = "Resources::default_memory")]
    pub memory: Bytes,
}

impl Resources {
    /// Nothing at all.
    pub const NONE: Resources = Resources { cpu: Cpu(0), memory: Bytes(0) };

    fn default_cpu() -> Cpu {
        Cpu(100)
    }

    fn default_memory() -> Bytes {
        Bytes::mib(128)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: Self::default_cpu(), memory: Self::default_memory() }
    }
}
