//! Events in Marathon's format, with its kinds and fields.

use bytes::Bytes;
use model::{InstanceId, Timestamp};
use serde_json::{Map, Value};

use server::event_log::Numbered;

/// Kinds of events that are sent only to clients that request them by name, since older clients do
/// not expect them.
pub(crate) const ON_REQUEST: [&str; 2] =
    ["instance_changed_event", "instance_health_changed_event"];

/// An event that has no number yet.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The kind, such as `status_update_event`.
    pub(crate) kind: &'static str,
    fields: Map<String, Value>,
    /// Fields of `plan` that are omitted for clients that request light plans.
    heavy: Option<Map<String, Value>>,
}

impl Event {
    /// Creates an event with these fields, in addition to its kind and time.
    pub(crate) fn new(kind: &'static str, at: Timestamp, fields: Value) -> Event {
        let mut fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        fields.insert("eventType".into(), kind.into());
        fields.insert("timestamp".into(), at.to_string().into());
        Event { kind, fields, heavy: None }
    }

    /// Adds fields to `plan` that clients with light plans do not receive.
    pub(crate) fn with_heavy_plan(mut self, heavy: Map<String, Value>) -> Event {
        self.heavy = Some(heavy);
        self
    }

    /// Serializes the event once for all clients.
    pub(crate) fn render(mut self, number: u64) -> Rendered {
        let light = write(self.kind, number, &self.fields);
        let Some(mut heavy) = self.heavy.take() else {
            return Rendered { number, kind: self.kind, full: light.clone(), light };
        };
        if let Some(Value::Object(plan)) = self.fields.get_mut("plan") {
            plan.append(&mut heavy);
        }
        Rendered { number, kind: self.kind, full: write(self.kind, number, &self.fields), light }
    }

    /// The equivalent event about the instance, if this one is about the status of its task.
    pub(crate) fn as_instance(&self, id: &InstanceId) -> Option<Event> {
        let state = self.fields.get("taskStatus")?.as_str()?;
        let condition = match state.trim_start_matches("TASK_") {
            "STAGING" => "Staging",
            "RUNNING" => "Running",
            "KILLING" => "Killing",
            "KILLED" => "Killed",
            "FINISHED" => "Finished",
            "UNREACHABLE" => "Unreachable",
            _ => "Failed",
        };
        let field = |name: &str| self.fields.get(name).cloned().unwrap_or_default();
        let mut event = Event {
            kind: "instance_changed_event",
            fields: Map::from_iter([
                ("instanceId".to_string(), super::name::instance(id).into()),
                ("condition".to_string(), condition.into()),
                ("runSpecId".to_string(), field("appId")),
                ("agentId".to_string(), field("slaveId")),
                ("host".to_string(), field("host")),
                ("runSpecVersion".to_string(), field("version")),
                ("timestamp".to_string(), field("timestamp")),
            ]),
            heavy: None,
        };
        event.fields.insert("eventType".into(), event.kind.into());
        Some(event)
    }
}

fn write(kind: &str, number: u64, fields: &Map<String, Value>) -> Bytes {
    let data = serde_json::to_string(fields).unwrap_or_default();
    let text = format!("event: {kind}\r\nid: {number}\r\ndata: {data}\r\n\r\n");
    // Boxed to release spare capacity, because thousands of events are kept.
    text.into_bytes().into_boxed_slice().into()
}

/// A serialized event, in a version with full and one with light plans.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    number: u64,
    pub(crate) kind: &'static str,
    pub(crate) full: Bytes,
    pub(crate) light: Bytes,
}

impl Numbered for Rendered {
    fn number(&self) -> u64 {
        self.number
    }

    fn bytes(&self) -> usize {
        // Both are the same bytes if the event has no plan.
        let is_shared = self.full.as_ptr() == self.light.as_ptr();
        self.full.len() + if is_shared { 0 } else { self.light.len() }
    }
}
