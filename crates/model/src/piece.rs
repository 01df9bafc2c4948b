//! The running form of one resource of an instance: agents start, stop, observe and report it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, ResourceId};

/// One run of one resource of an instance. Ordered by instance, then resource, then run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// The instance.
    pub instance: InstanceId,
    /// The resource of its stack. Not written for [`ResourceId::MAIN`]: that is the form in which
    /// versions without stacks wrote, and read, a run of an instance.
    #[serde(default, skip_serializing_if = "ResourceId::is_main")]
    pub resource: ResourceId,
    /// The number of starts in place, from 1. Never reused for a resource of an instance.
    pub run: u32,
}

/// A resource of an instance, across all its runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceResource {
    /// The instance.
    pub instance: InstanceId,
    /// The resource of its stack; not written for [`ResourceId::MAIN`], as in [`Piece`].
    #[serde(default, skip_serializing_if = "ResourceId::is_main")]
    pub resource: ResourceId,
}

impl Piece {
    /// The resource that this is a run of.
    pub fn of(&self) -> InstanceResource {
        InstanceResource { instance: self.instance.clone(), resource: self.resource.clone() }
    }
}

impl InstanceResource {
    /// The run of that number.
    pub fn run(&self, run: u32) -> Piece {
        Piece { instance: self.instance.clone(), resource: self.resource.clone(), run }
    }

    /// A form for file, container and control group names: `shop_web-2.1` for the resource `main`,
    /// as versions without stacks named them, `shop_web-2.1_cache` for the resource `cache`.
    /// No two resources share one: a resource name has neither `_` nor `.`, and the slug of an
    /// instance has a `.` after its last `_`.
    pub fn slug(&self) -> String {
        match self.resource.is_main() {
            true => self.instance.slug(),
            false => format!("{}_{}", self.instance.slug(), self.resource),
        }
    }
}

impl fmt::Display for InstanceResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource.is_main() {
            true => self.instance.fmt(f),
            false => write!(f, "{} of {}", self.resource, self.instance),
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} of {}", self.run, self.of())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(instance: &str, resource: &str) -> Piece {
        let (instance, resource) = (instance.parse().unwrap(), resource.parse().unwrap());
        Piece { instance, resource, run: 3 }
    }

    #[test]
    fn a_piece_of_a_version_without_stacks_is_one_of_main() {
        let old = serde_json::json!({"instance": "/shop/web~2.1", "run": 3});
        let main = piece("/shop/web~2.1", "main");
        assert_eq!(serde_json::from_value::<Piece>(old.clone()).unwrap(), main);
        assert_eq!(serde_json::to_value(&main).unwrap(), old);
        let cache = piece("/shop/web~2.1", "cache");
        let text = serde_json::to_string(&cache).unwrap();
        assert_eq!(serde_json::from_str::<Piece>(&text).unwrap(), cache);
    }

    #[test]
    fn no_two_resources_share_a_slug() {
        assert_eq!(piece("/shop/web~2.1", "main").of().slug(), "shop_web-2.1");
        assert_eq!(piece("/shop/web~2.1", "cache").of().slug(), "shop_web-2.1_cache");
        let nested = piece("/shop/web-2.1/cache~0.1", "main").of().slug();
        assert_ne!(piece("/shop/web~2.1", "cache-0").of().slug(), nested);
        assert_ne!(piece("/shop/web~2.1", "cache").of().slug(), nested);
    }

    #[test]
    fn only_a_resource_of_a_larger_stack_is_named() {
        assert_eq!(piece("/web~0.1", "main").to_string(), "run 3 of /web~0.1");
        assert_eq!(piece("/web~0.1", "cache").to_string(), "run 3 of cache of /web~0.1");
    }
}
