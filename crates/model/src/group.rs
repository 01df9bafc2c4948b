//! A group: a path that services are below, with what is said of all of them together.
//!
//! Most groups are nothing but the beginnings of paths and are not stored. One is stored once
//! something was said of it that no path tells: that it is there without services, or that what
//! is in it depends on others.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::unit::Timestamp;

/// A group that something was said of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its path.
    pub group: ServiceId,
    /// Services or groups that all its services depend on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<ServiceId>,
    /// When this was said.
    pub changed_at: Timestamp,
}
