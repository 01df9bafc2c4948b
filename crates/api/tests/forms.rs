//! The names of all fields that are stored or sent. Stores and daemons of earlier versions use the
//! names in `forms/known.jsonl`, so each value there must still be read, under its name of that
//! time, and be written again, under the same or another name.
//!
//! Lines of that file stay as they are; the first ones have names of the first version. Only the
//! fields of a feature that is removed on purpose are removed from its lines too. If a type
//! changes, its example in `forms/examples.rs` changes with it, and [`every_field_is_known`] prints
//! the line to append.
#![allow(clippy::unwrap_used)]

#[path = "forms/examples.rs"]
mod examples;

use std::collections::BTreeMap;

use model::object::{Key, Object};
use model::{Event, Registration, RouteTable};
use muster_api::{Assignments, GatewayReport, Report, ReportReply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const KNOWN: &str = include_str!("forms/known.jsonl");

/// The lines of the file: kinds and examples.
fn known() -> Vec<(String, Value)> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        (line["kind"].as_str().unwrap().to_owned(), line["example"].take())
    };
    KNOWN.lines().map(line).collect()
}

#[test]
fn every_field_is_known() {
    let known = known();
    let examples = examples::all().into_iter().map(|(kind, example)| (kind.to_owned(), example));
    let missing: Vec<_> = examples
        .filter(|example| !known.contains(example))
        .map(|(kind, example)| json!({"kind": kind, "example": example}).to_string())
        .collect();
    assert!(missing.is_empty(), "append to forms/known.jsonl:\n{}", missing.join("\n"));
}

#[test]
fn no_known_value_is_lost() {
    for (kind, example) in known() {
        let read = read_and_written(&kind, &example);
        assert_eq!(lost(&example, &read), [""; 0], "{kind}: {example} is read as {read}");
    }
}

#[test]
fn a_field_without_a_reader_is_detected() {
    let mut example = examples::all().into_iter().find(|(kind, _)| *kind == "revisions").unwrap().1;
    example["spec"]["rollout"]["former"] = json!("20%");
    let read = read_and_written("revisions", &example);
    assert_eq!(lost(&example, &read), [r#"spec.rollout.former = "20%""#]);
    let mut renamed = example.clone();
    let value = renamed["spec"]["rollout"].as_object_mut().unwrap().remove("former").unwrap();
    renamed["spec"]["rollout"]["successor"] = value;
    assert_eq!(lost(&example, &renamed), [""; 0]);
}

/// The example after this version has read and written it.
fn read_and_written(kind: &str, example: &Value) -> Value {
    fn again<T: Serialize + DeserializeOwned>(example: &Value) -> Value {
        // As text, because some types are read differently from a tree.
        let read: T = serde_json::from_str(&example.to_string()).unwrap();
        serde_json::to_value(read).unwrap()
    }
    match kind {
        "event" => again::<Event>(example),
        "registration" => again::<Registration>(example),
        "assignments" => again::<Assignments>(example),
        "report" => again::<Report>(example),
        "report-reply" => again::<ReportReply>(example),
        "gateway-report" => again::<GatewayReport>(example),
        "route-table" => again::<RouteTable>(example),
        stored => {
            let key: Key = examples::key(stored).parse().unwrap();
            let object = Object::read(&key, example.to_string().as_bytes()).unwrap();
            serde_json::to_value(object).unwrap()
        }
    }
}

/// The values of `before` that `after` has neither under the same name nor under a new one.
fn lost(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, String::new(), &mut old);
    leaves(after, String::new(), &mut new);
    let (same, changed): (Vec<_>, Vec<_>) =
        old.into_iter().partition(|(path, value)| new.get(path) == Some(value));
    for (path, _) in &same {
        new.remove(path);
    }
    let mut lost = Vec::new();
    for (path, value) in changed {
        match new.iter().find(|(_, other)| **other == value).map(|(path, _)| path.clone()) {
            Some(successor) => {
                new.remove(&successor);
            }
            None => lost.push(format!("{path} = {value}")),
        }
    }
    lost
}

/// The values that are neither lists nor objects, by their dotted paths.
fn leaves<'v>(value: &'v Value, path: String, found: &mut BTreeMap<String, &'v Value>) {
    let below = |name: &dyn std::fmt::Display| match path.is_empty() {
        true => name.to_string(),
        false => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, below(name), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| leaves(value, below(&i), found));
        }
        _ => {
            found.insert(path, value);
        }
    }
}
