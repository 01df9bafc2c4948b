//! Documents between daemons and clients: the kind in the first line, then JSON.
//!
//! A message that one side accepts is written so that the other side reads it equal.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The messages between the agent and its keeper. The module belongs to the agent.
#[path = "../../crates/agent/src/drivers/process/wire.rs"]
mod keeper;

/// Reads a document.
type Read = fn(&[u8]);

const KINDS: &[(&str, Read)] = &[
    ("assignments", same::<api::Assignments>),
    ("report", same::<api::Report>),
    ("report-reply", same::<api::ReportReply>),
    ("gateway-report", same::<api::GatewayReport>),
    ("route-table", same::<model::RouteTable>),
    ("registration", same::<model::Registration>),
    ("availability", same::<model::Availability>),
    ("apply-request", same::<api::ApplyRequest>),
    ("apply-reply", same::<api::ApplyReply>),
    ("scale-request", same::<api::ScaleRequest>),
    ("undo-request", same::<api::UndoRequest>),
    ("rollout-request", same::<api::RolloutRequest>),
    ("log-query", same::<api::LogQuery>),
    ("health", same::<api::Health>),
    ("service", same::<api::ServiceView>),
    ("instance", same::<api::InstanceView>),
    ("node", same::<api::NodeView>),
    ("deployment", same::<api::DeploymentView>),
    ("gateway", same::<api::GatewayView>),
    ("event", same::<api::EventView>),
    ("error", same::<api::ErrorBody>),
    ("keeper-request", same::<keeper::Request>),
    ("keeper-tell", same::<keeper::KeeperEvent>),
];

pub(crate) fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (Some(kind), Some(document)) = (parts.next(), parts.next()) else { return };
    if let Some((_, read)) = KINDS.iter().find(|(name, _)| name.as_bytes() == kind) {
        read(document);
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&document).unwrap_or_else(|error| panic!("{error}"));
    let again = serde_json::from_slice::<T>(&written).map_err(|error| error.to_string());
    assert_eq!(again.as_ref(), Ok(&document), "{}", String::from_utf8_lossy(&written));
    assert!(!written.contains(&b'\n'), "streams have a line each");
}
