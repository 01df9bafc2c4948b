//! Events: facts about changes and observations.

use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::unit::Timestamp;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What, in one word: `placed`, `healthy`, `deployment-succeeded`.
    pub kind: String,
    /// What it is about: the name of a service, instance, node, deployment or gateway.
    pub subject: String,
    /// The service concerned, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// Said in words.
    pub message: String,
}
