//! Names, quantities, constraints and the other words of specs.
//!
//! Each word that is accepted is written in one canonical form, which is accepted and written as
//! itself; and a document reads the same word as a person's typing does.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use model::object::Key;
use model::{
    Bytes, Constraint, Cpu, DeploymentId, GatewayId, InstanceId, Listen, Millis, Node, NodeId,
    RouteTo, ServiceId, Share, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    written::<ServiceId>(text);
    written::<NodeId>(text);
    written::<GatewayId>(text);
    written::<DeploymentId>(text);
    written::<InstanceId>(text);
    written::<Listen>(text);
    written::<Bytes>(text);
    written::<Millis>(text);
    written::<Share>(text);
    written::<Timestamp>(text);
    spoken::<Cpu>(text);
    spoken::<Key>(text);
    in_documents::<RouteTo>(Value::from(text));
    in_documents::<Constraint>(text.split(' ').collect());
    if let Ok(number) = serde_json::from_str::<serde_json::Number>(text) {
        in_documents::<Cpu>(Value::Number(number.clone()));
        in_documents::<Bytes>(Value::Number(number.clone()));
        in_documents::<Millis>(Value::Number(number.clone()));
        in_documents::<Share>(Value::Number(number.clone()));
        in_documents::<Listen>(Value::Number(number));
    }
    if let Ok(id) = text.parse::<InstanceId>() {
        let slug = id.slug();
        assert!(!slug.contains('/') && !slug.starts_with('.'), "a file's name: {slug}");
    }
    constraint(text);
}

/// Words of the command line.
fn spoken<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = match text.parse::<T>() {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "what is refused is refused in words");
            return None;
        }
    };
    let canonical = value.to_string();
    let again = canonical.parse::<T>().map_err(|error| error.to_string());
    assert_eq!(again.as_ref(), Ok(&value), "`{text}` is written `{canonical}`");
    assert_eq!(again.map(|again| again.to_string()), Ok(canonical), "canonical is canonical");
    Some(value)
}

/// Words of the command line that documents contain in the same form.
fn written<T>(text: &str)
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let typed = spoken::<T>(text);
    assert_eq!(in_documents::<T>(Value::from(text)), typed, "`{text}`");
    if let Some(value) = typed {
        let json = serde_json::to_value(&value).map_err(|error| error.to_string());
        assert_eq!(json, Ok(Value::from(value.to_string())), "documents have what people read");
    }
}

/// Words of documents.
fn in_documents<T: PartialEq + Debug + Serialize + DeserializeOwned>(value: Value) -> Option<T> {
    let read = serde_json::from_value::<T>(value.clone()).ok()?;
    let written = serde_json::to_value(&read).unwrap_or_else(|error| panic!("{error}"));
    let again = serde_json::from_value::<T>(written.clone()).map_err(|error| error.to_string());
    assert_eq!(again.as_ref(), Ok(&read), "{value} is written {written}");
    Some(read)
}

/// A constraint that is accepted can be asked about nodes, and its own value is one that it knows.
fn constraint(text: &str) {
    let words: Vec<String> = text.split(' ').map(String::from).collect();
    let Ok(constraint) = Constraint::try_from(words) else { return };
    let mut rule = constraint.compile();
    assert_eq!(rule.constraint(), &constraint);
    let Ok(name) = "n1".parse::<NodeId>() else { return };
    let mut node = Node::new(name);
    let _ = rule.allows(&node);
    let value = constraint.value.clone().unwrap_or_default();
    node.labels.insert(constraint.attribute.clone(), value);
    let before = rule.allows(&node);
    assert_eq!(before, rule.allows(&node), "asking changes nothing");
    rule.count(&node);
    if rule.allows(&node) && constraint.operator.counts() {
        assert!(before, "counting one more does not make room: {constraint}");
    }
}
