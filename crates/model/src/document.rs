//! The documents that users apply, after parsing. `validate` checks them against the state.

use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::ServiceId;
use crate::service::Source;
use crate::spec::Spec;

/// A document that people apply.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Document {
    Service(Box<Spec>),
    /// A service that was described by another system's document.
    Foreign(Box<Spec>, Source),
    Gateway(Gateway),
    Group(Group),
    /// A service that shall not be there.
    NoService(ServiceId),
    /// A group that shall not be there; what is in it stays.
    NoGroup(ServiceId),
}

impl Document {
    /// The service it describes.
    pub fn spec(&self) -> Option<&Spec> {
        match self {
            Document::Service(spec) | Document::Foreign(spec, _) => Some(spec),
            _ => None,
        }
    }
}
