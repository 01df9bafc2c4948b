//! The resources of a service that a command concerns.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::ResourceId;
use crate::nearest::nearest;
use crate::refusal::Refusal;
use crate::spec::Spec;

/// Selects resources of a stack: those with one of the names, and those with one of the tags.
/// Without names and tags, the service as a whole is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Names of resources. Each must exist in every service that the command concerns.
    pub names: BTreeSet<ResourceId>,
    /// Tags. Each must exist in every service that the command concerns.
    pub tags: BTreeSet<String>,
}

impl Selection {
    /// Whether the service as a whole is meant.
    pub fn is_whole(&self) -> bool {
        self.names.is_empty() && self.tags.is_empty()
    }

    /// The resources of `spec` that are meant.
    ///
    /// # Errors
    ///
    /// It has no resource of a name, or none with a tag. The refusal names the most similar one.
    pub(crate) fn of(&self, spec: &Spec) -> Result<BTreeSet<ResourceId>, Refusal> {
        let known: Vec<_> = spec.resources().map(|resource| resource.name).collect();
        let tags: BTreeSet<_> = spec.stack.iter().flat_map(|resource| &resource.tags).collect();
        if let Some(name) = self.names.iter().find(|name| !known.contains(name)) {
            let nearest = nearest(name.as_str(), known.iter().map(|known| known.as_str()));
            let kind = format!("resource of {} named", spec.service).into();
            return Err(Refusal::Unknown { kind, name: name.to_string(), nearest });
        }
        if let Some(tag) = self.tags.iter().find(|tag| !tags.contains(tag)) {
            let nearest = nearest(tag, tags.iter().map(|known| known.as_str()));
            let kind = format!("resource of {} with the tag", spec.service).into();
            return Err(Refusal::Unknown { kind, name: tag.clone(), nearest });
        }
        let tagged = spec.stack.iter().filter(|resource| !resource.tags.is_disjoint(&self.tags));
        Ok(self.names.iter().chain(tagged.map(|resource| &resource.name)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], tags: &[&str], expected: Result<&[&str], &str>) {
        let process = serde_json::json!({"command": "serve"});
        let stack = serde_json::json!([
            {"name": "db", "process": process, "tags": ["data"]},
            {"name": "cache", "process": process, "tags": ["data", "fast"]},
            {"name": "web", "process": process},
        ]);
        let spec = serde_json::json!({"service": "/shop", "stack": stack});
        let spec: Spec = serde_json::from_value(spec).expect("a spec");
        let names = names.iter().map(|name| name.parse().expect("a name")).collect();
        let tags = tags.iter().map(|tag| tag.to_string()).collect();
        let found = Selection { names, tags }.of(&spec).map_err(|refusal| refusal.to_string());
        let expected = expected.map(|names| {
            names.iter().map(|name| name.parse().expect("a name")).collect::<BTreeSet<ResourceId>>()
        });
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn resources_are_selected_by_name_and_by_tag() {
        check(&["web"], &[], Ok(&["web"]));
        check(&["web"], &["fast"], Ok(&["web", "cache"]));
        check(&[], &["data"], Ok(&["db", "cache"]));
    }

    #[test]
    fn an_unknown_name_or_tag_names_the_most_similar_one() {
        let expected = "there is no resource of /shop named `cachs`; did you mean `cache`?";
        check(&["cachs"], &["data"], Err(expected));
        let expected = "there is no resource of /shop with the tag `dato`; did you mean `data`?";
        check(&[], &["dato"], Err(expected));
    }
}
