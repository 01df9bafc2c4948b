//! A bundle: services below one path that one document describes together.
//!
//! Each change of a bundle is a revision with the source document of that time. The document can be
//! shown, and applied again, after services of it have been removed together with their own
//! revisions. Most prefixes of service paths are no bundles. A bundle without a source only has
//! properties that no service has: that it exists without services, and what its services depend on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{RevisionNumber, ServiceId};
use crate::revision::Source;
use crate::unit::Timestamp;

/// A revision of a bundle. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its number, from 1. Versions that called bundles groups kept no earlier ones.
    #[serde(default = "first")]
    pub revision: RevisionNumber,
    /// When it was applied; distinct among the revisions of a bundle.
    #[serde(alias = "changed_at")]
    pub created_at: Timestamp,
    /// The description. Its fields are stored as fields of the bundle.
    #[serde(flatten)]
    pub spec: BundleSpec,
}

/// The description of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleSpec {
    /// The prefix of the paths of its services.
    #[serde(alias = "group")]
    pub path: ServiceId,
    /// Services or bundles that all its services depend on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<ServiceId>,
    /// The services that the source describes. Later changes of single services are not recorded.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub members: BTreeSet<ServiceId>,
    /// The document, if it was another system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl BundleSpec {
    /// A bundle with a path and no other properties.
    pub fn new(path: &ServiceId) -> BundleSpec {
        let path = path.clone();
        BundleSpec { path, depends_on: BTreeSet::new(), members: BTreeSet::new(), source: None }
    }
}

fn first() -> RevisionNumber {
    1
}
