//! Marathon apps as they are written, read and shown.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests, each of which uses what it needs")]

use muster_adapter_marathon::format::{App, read_app};
use serde_json::{Value, json};

/// Reads an app that is good.
pub(crate) fn app(body: &Value) -> App {
    let text = body.to_string();
    read_app(text.as_bytes(), None).unwrap_or_else(|rejected| panic!("{rejected:?}\n{text}"))
}

/// An app as it is shown.
pub(crate) fn shown(app: &App) -> Value {
    serde_json::to_value(app).expect("apps are JSON")
}

/// An app that runs a command, and these keys besides.
pub(crate) fn with(keys: Value) -> Value {
    let mut body = json!({ "id": "/shop/web", "cmd": "sleep 9" });
    merge(&mut body, keys);
    body
}

/// An app of an image on a bridge, with these keys of its container besides.
pub(crate) fn bridged(keys: Value) -> Value {
    let mut container = json!({ "docker": { "image": "web:1" } });
    merge(&mut container, keys);
    json!({ "id": "/shop/web", "container": container, "networks": [{ "mode": "container/bridge" }] })
}

/// Adds keys to an object.
pub(crate) fn merge(into: &mut Value, mut keys: Value) {
    into.as_object_mut().unwrap().append(keys.as_object_mut().unwrap());
}
