//! The documents that users apply, after parsing. `validate` checks them against the state.

use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::ServiceId;
use crate::service::Source;
use crate::spec::Spec;

/// A document that users apply.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Document {
    Service(Box<Spec>),
    /// A service described by a document of another system.
    Foreign(Box<Spec>, Source),
    Gateway(Gateway),
    Group(Group),
    /// The removal of a service.
    NoService(ServiceId),
    /// The removal of a group. Its services stay.
    NoGroup(ServiceId),
}

impl Document {
    /// The spec, if the document describes a service.
    pub fn spec(&self) -> Option<&Spec> {
        match self {
            Document::Service(spec) | Document::Foreign(spec, _) => Some(spec),
            _ => None,
        }
    }

    /// The kind and the name of the object that the document describes or removes.
    pub(crate) fn subject(&self) -> (&'static str, &str) {
        match self {
            Document::Service(spec) | Document::Foreign(spec, _) => {
                ("service", spec.service.as_str())
            }
            Document::NoService(id) => ("service", id.as_str()),
            Document::Gateway(gateway) => ("gateway", gateway.gateway.as_str()),
            Document::Group(group) => ("group", group.group.as_str()),
            Document::NoGroup(path) => ("group", path.as_str()),
        }
    }
}
