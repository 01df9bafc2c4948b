//! The documents that users apply, after parsing. `validate` checks them against the state.

use crate::bundle::BundleSpec;
use crate::gateway::Gateway;
use crate::id::{GatewayId, ServiceId};
use crate::revision::Source;
use crate::spec::Spec;

/// A document that users apply.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Document {
    Service {
        spec: Box<Spec>,
        /// The document of another system from which the spec was translated, if any.
        source: Option<Source>,
    },
    Gateway(Gateway),
    Bundle(BundleSpec),
    /// The removal of an object. The services of a bundle stay.
    Remove(Subject),
}

/// The kind and the name of the object that a document is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is named after its content")]
pub enum Subject {
    Service(ServiceId),
    Gateway(GatewayId),
    Bundle(ServiceId),
}

impl Document {
    /// The description of a service.
    pub fn service(spec: Spec) -> Document {
        Document::Service { spec: Box::new(spec), source: None }
    }

    /// The description of a service by a document of another system.
    pub fn foreign(spec: Spec, source: Source) -> Document {
        Document::Service { spec: Box::new(spec), source: Some(source) }
    }

    /// The spec, if the document describes a service.
    pub fn spec(&self) -> Option<&Spec> {
        match self {
            Document::Service { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// The object that the document describes or removes.
    pub fn subject(&self) -> Subject {
        match self {
            Document::Service { spec, .. } => Subject::Service(spec.service.clone()),
            Document::Gateway(gateway) => Subject::Gateway(gateway.gateway.clone()),
            Document::Bundle(bundle) => Subject::Bundle(bundle.path.clone()),
            Document::Remove(subject) => subject.clone(),
        }
    }
}

impl Subject {
    /// The key that identifies such a document.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Subject::Service(_) => "service",
            Subject::Gateway(_) => "gateway",
            Subject::Bundle(_) => "bundle",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Subject::Service(path) | Subject::Bundle(path) => path.as_str(),
            Subject::Gateway(name) => name.as_str(),
        }
    }
}
