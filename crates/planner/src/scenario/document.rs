//! Services on one line: `/shop/web instances=2 health rollout.min_healthy=50%`.

use model::Spec;
use serde_json::{Map, Value, json};

use super::Error;

/// Reads a service from words. Keys are those of the document, with dots between them; `health`
/// and `ready` stand for a plain health and readiness check.
pub(super) fn service(words: &[&str]) -> Result<Spec, Error> {
    let (path, rest) = words.split_first().ok_or(Error::Missing("a service"))?;
    let read =
        |words: &[&str]| -> Result<Result<Spec, String>, Error> { Ok(spec(written(path, words)?)) };
    read(rest)?.map_err(|message| {
        // The faulty word is the first one without which the others can be read.
        let is_at_fault = |at: &usize| {
            let others = [&rest[..*at], &rest[at + 1..]].concat();
            read(&others).is_ok_and(|spec| spec.is_ok())
        };
        let word = (0..rest.len()).find(is_at_fault).map_or(path, |at| &rest[at]);
        Error::Value { word: word.to_string(), message }
    })
}

/// Reads a spec. People write scripts, so unknown keys are rejected, which the types of the model
/// ignore.
fn spec(document: Value) -> Result<Spec, String> {
    let mut unknown = None;
    let spec = serde_ignored::deserialize(document, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    match (spec, unknown) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(_), Some(key)) => Err(format!("unknown key `{key}`")),
        (Ok(spec), None) => Ok(spec),
    }
}

fn written(path: &str, words: &[&str]) -> Result<Value, Error> {
    let mut document = match words.iter().any(|word| word.starts_with("stack=")) {
        // Its resources have the rest.
        true => json!({ "service": path }),
        false => json!({
            "service": path,
            "process": { "command": "serve" },
            "ports": [{}],
            "resources": { "cpu": 1, "memory": "1GiB" },
        }),
    };
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
