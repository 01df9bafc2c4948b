//! Helpers to read, write and show Marathon apps.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests, each of which uses what it needs")]

use muster_adapter_marathon::format::{App, read_app};
use serde_json::{Value, json};

/// Reads a valid app.
pub(crate) fn app(body: &Value) -> App {
    let text = body.to_string();
    read_app(text.as_bytes(), None).unwrap_or_else(|rejected| panic!("{rejected:?}\n{text}"))
}

/// The app as the API shows it.
pub(crate) fn shown(app: &App) -> Value {
    serde_json::to_value(app).expect("apps are JSON")
}

/// An app with a command and these keys.
pub(crate) fn with(keys: Value) -> Value {
    let mut body = json!({ "id": "/shop/web", "cmd": "sleep 9" });
    merge(&mut body, keys);
    body
}

/// An app with an image on a bridge; these keys are added to the container.
pub(crate) fn bridged(keys: Value) -> Value {
    let mut container = json!({ "docker": { "image": "web:1" } });
    merge(&mut container, keys);
    json!({ "id": "/shop/web", "container": container, "networks": [{ "mode": "container/bridge" }] })
}

/// Adds keys to an object.
pub(crate) fn merge(into: &mut Value, mut keys: Value) {
    into.as_object_mut().unwrap().append(keys.as_object_mut().unwrap());
}
