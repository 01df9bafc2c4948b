//! The differences between two versions of a document, by the paths of their keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The path of the key, such as `env.VERSION` or `files[/etc/app.conf].text`. An entry of a list
    /// is named by its `name` or `path`.
    pub key: String,
    /// The earlier value; `None` if the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The later value; `None` if the key is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// The keys in which two documents differ, in the order of their paths.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(key: String, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<Difference>) {
    if from == to {
        return;
    }
    match (from, to) {
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            compare_entries(&fields(&key, from), &fields(&key, to), found);
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            match (named(&key, from), named(&key, to)) {
                (Some(from), Some(to)) => compare_entries(&from, &to, found),
                _ => {
                    found.push(difference(key, Some(from.clone().into()), Some(to.clone().into())))
                }
            }
        }
        _ => found.push(difference(key, from.cloned(), to.cloned())),
    }
}

fn difference(key: String, from: Option<Value>, to: Option<Value>) -> Difference {
    Difference { key, from, to }
}

type Entries<'a> = BTreeMap<String, &'a Value>;

fn compare_entries(from: &Entries<'_>, to: &Entries<'_>, found: &mut Vec<Difference>) {
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    for key in keys {
        compare(key.clone(), from.get(key).copied(), to.get(key).copied(), found);
    }
}

fn fields<'a>(of: &str, object: &'a Map<String, Value>) -> Entries<'a> {
    let path = |key: &str| if of.is_empty() { key.into() } else { format!("{of}.{key}") };
    object.iter().map(|(key, value)| (path(key), value)).collect()
}

/// The entries of a list whose names are distinct; `None` if some have no name.
fn named<'a>(of: &str, list: &'a [Value]) -> Option<Entries<'a>> {
    let name = |entry: &Value| {
        let name = entry.get("name").or_else(|| entry.get("path"))?.as_str()?;
        Some(format!("{of}[{name}]"))
    };
    let entries: Entries<'_> =
        list.iter().map(|entry| Some((name(entry)?, entry))).collect::<Option<_>>()?;
    (entries.len() == list.len()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: Value, after: Value, expected: &[(&str, Value, Value)]) {
        let found = differences(&before, &after);
        let found: Vec<_> = found
            .into_iter()
            .map(|one| (one.key, one.from.unwrap_or_default(), one.to.unwrap_or_default()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, from, to)| (key.to_string(), from.clone(), to.clone()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn differing_keys_are_named_by_their_paths() {
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(
            json!({"instances": 1, "env": {"A": "1", "B": "2"}, "labels": {"x": "y"}}),
            json!({"instances": 3, "env": {"A": "1", "C": "4"}, "labels": {"x": "y"}}),
            &[
                ("env.B", json!("2"), json!(null)),
                ("env.C", json!(null), json!("4")),
                ("instances", json!(1), json!(3)),
            ],
        );
    }

    #[test]
    fn entries_of_lists_are_named_by_their_name_or_path() {
        let file = |path: &str, content: &str| json!({"path": path, "text": content});
        check(
            json!({"files": [file("/a", "1"), file("/b", "1")], "ports": [{"name": "http", "port": 1}]}),
            json!({"files": [file("/b", "2"), file("/a", "1")], "ports": [{"name": "http", "port": 2}]}),
            &[("files[/b].text", json!("1"), json!("2")), ("ports[http].port", json!(1), json!(2))],
        );
        check(
            json!({"files": [], "constraints": [["hostname", "UNIQUE"]]}),
            json!({"files": [file("/a", "1")], "constraints": []}),
            &[
                ("constraints", json!([["hostname", "UNIQUE"]]), json!([])),
                ("files[/a]", json!(null), file("/a", "1")),
            ],
        );
    }
}
