//! Services in a line: `/shop/web instances=2 health rollout.min_healthy=50%`.

use model::Spec;
use serde_json::{Map, Value, json};

use super::Error;

/// Reads a service from words. Keys are those of the document, with dots between them; `health`
/// and `ready` stand for a plain health and readiness check.
pub(super) fn service(words: &[&str]) -> Result<Spec, Error> {
    let (path, rest) = words.split_first().ok_or(Error::Missing("a service"))?;
    let read = |rest: &[&str]| -> Result<Result<Spec, serde_json::Error>, Error> {
        Ok(serde_json::from_value(written(path, rest)?))
    };
    read(rest)?.map_err(|error| {
        // The word without which all would be well is the one that is wrong.
        let is_wrong = |at: &usize| {
            let others = [&rest[..*at], &rest[at + 1..]].concat();
            read(&others).is_ok_and(|spec| spec.is_ok())
        };
        let word = (0..rest.len()).find(is_wrong).map_or(path, |at| &rest[at]);
        // Which keys there are would fill the screen.
        let message = error.to_string();
        let message = message.split(", expected one of").next().unwrap_or_default();
        Error::Value { word: word.to_string(), message: message.into() }
    })
}

fn written(path: &str, words: &[&str]) -> Result<Value, Error> {
    let mut document = json!({
        "service": path,
        "process": { "command": "serve" },
        "ports": [{}],
        "resources": { "cpu": 1, "memory": "1GiB" },
    });
    for word in words {
        match (*word, word.split_once('=')) {
            ("health", _) => document["health"] = json!([{ "probe": { "http": {} } }]),
            ("ready", _) => document["readiness"] = json!({ "probe": { "http": {} } }),
            (_, Some((key, text))) => {
                let is_text = key.starts_with("env.") || key.starts_with("labels.");
                let value = match serde_json::from_str(text) {
                    Ok(value) if !is_text => value,
                    _ => Value::from(text),
                };
                put(&mut document, key, value);
            }
            _ => return Err(Error::Word((*word).into())),
        }
    }
    Ok(document)
}

fn put(document: &mut Value, key: &str, value: Value) {
    let mut at = document;
    for part in key.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
}
