//! A group: the prefix of service paths, with properties of all services below it.
//!
//! Most groups are mere prefixes and are not stored. A group is stored once it has a property that
//! no path shows: that it exists without services, or that its services depend on others.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::unit::Timestamp;

/// A group with properties of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The path of the group.
    pub group: ServiceId,
    /// Services or groups that all its services depend on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<ServiceId>,
    /// When these properties were last changed.
    pub changed_at: Timestamp,
}
