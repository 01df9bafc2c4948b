//! The reference of documents, from their JSON Schema: a table of keys for each kind of object, in the order in which
//! they are met from the top.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use serde_json::{Map, Value};

const HEADER: &str = "\
# Documents reference

This page is generated from `muster schema`, by `cargo xtask docs`.

A document is a service if it has the key `service`, and a gateway if it has the key `gateway`. A file may hold several,
as YAML documents separated by `---` or as a list. JSON is as good as YAML. Unknown keys are refused. A key that is left
out has its default; where the table shows none, nothing, and of several choices the first.
";

/// Names of types in the schema, and their names for readers.
const NAMES: &[(&str, &str)] = &[
    ("Bytes", "Size"),
    ("CommandLine", "Command"),
    ("Cpu", "Cores"),
    ("GatewayId", "Gateway name"),
    ("HttpProbe", "HTTP probe"),
    ("Listen", "Listen address"),
    ("Millis", "Duration"),
    ("PortRef", "Port reference"),
    ("RouteTo", "Route target"),
    ("ServiceId", "Service path"),
    ("Spec", "Service"),
    ("TcpProbe", "TCP probe"),
];

/// The page.
pub(super) fn page(schema: &Value) -> String {
    let mut text = String::from(HEADER);
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    let mut waiting = VecDeque::from(["Spec".to_owned(), "Gateway".to_owned()]);
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    while let Some(name) = waiting.pop_front() {
        let Some(definition) = definitions.get(&name) else { continue };
        section(&mut text, &name, definition);
        let mut met = Vec::new();
        references(definition, &mut met);
        for name in met {
            if seen.insert(name.clone()) {
                waiting.push_back(name);
            }
        }
    }
    text
}

fn section(text: &mut String, name: &str, definition: &Value) {
    let _ = write!(text, "\n## {}\n\n{}\n", title(name), described(definition));
    let variants = ["oneOf", "anyOf"].iter().find_map(|key| definition[*key].as_array());
    if let Some(properties) = definition["properties"].as_object() {
        keys(text, properties, definition);
    } else if let Some(variants) = variants {
        text.push('\n');
        for variant in variants {
            let _ = writeln!(text, "- {}: {}", form(variant), described(variant));
        }
    }
}

fn keys(text: &mut String, properties: &Map<String, Value>, definition: &Value) {
    let required: BTreeSet<&str> =
        items(&definition["required"]).filter_map(Value::as_str).collect();
    let _ = write!(text, "\n| key | value | default | |\n|---|---|---|---|\n");
    let (first, rest): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(key, _)| required.contains(key.as_str()));
    for (key, value) in first.into_iter().chain(rest) {
        let default = match (required.contains(key.as_str()), value.get("default")) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => shown(default),
            (false, None) => "–".to_owned(),
        };
        let (form, meaning) = (form(value), described(value));
        let _ = writeln!(text, "| `{key}` | {form} | {default} | {meaning} |");
    }
}

/// A default, as one would write it in YAML; a whole object is described where it is.
fn shown(default: &Value) -> String {
    match default {
        Value::Object(_) => "see there".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if items.is_empty() => "–".to_owned(),
        other => format!("`{other}`"),
    }
}

/// The type of a value, for readers.
fn form(value: &Value) -> String {
    if let Some(name) = reference(value) {
        let title = title(name);
        return format!("[{title}](#{})", title.to_lowercase().replace(' ', "-"));
    }
    if let Some(constant) = value["const"].as_str() {
        return format!("`{constant}`");
    }
    if let Some(properties) = value["properties"].as_object() {
        let pair = |(key, value): (&String, &Value)| format!("`{key}` and {}", form(value));
        return properties.iter().map(pair).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = value["anyOf"].as_array() {
        let forms = choices.iter().filter(|choice| choice["type"] != "null").map(form);
        return forms.collect::<Vec<_>>().join(" or ");
    }
    let kinds = match &value["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect::<Vec<_>>(),
    };
    let word = |kind: &str| match kind {
        "string" => "text".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list: {}", form(&value["items"])),
        "object" => format!("mapping of names to {}", form(&value["additionalProperties"])),
        kind => kind.to_owned(),
    };
    let words = kinds.into_iter().filter(|kind| *kind != "null").map(word);
    words.collect::<Vec<_>>().join(" or ")
}

/// The first paragraph of a description, as it fits into a cell.
fn described(value: &Value) -> String {
    let text = value["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn title(name: &str) -> String {
    if let Some((_, title)) = NAMES.iter().find(|(known, _)| *known == name) {
        return (*title).to_owned();
    }
    // `HealthCheck` is a health check.
    let mut title = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            title.push(' ');
            title.extend(c.to_lowercase());
        } else {
            title.push(c);
        }
    }
    title
}

fn reference(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// All references below a value, in its order.
fn references(value: &Value, found: &mut Vec<String>) {
    found.extend(reference(value).map(str::to_owned));
    match value {
        Value::Object(entries) => entries.values().for_each(|value| references(value, found)),
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_rows_and_references_sections() {
        let schema = serde_json::json!({"$defs": {
            "Spec": {
                "description": "A service.", "required": ["service"],
                "properties": {
                    "instances": {"type": "integer", "default": 1, "description": "How\nmany."},
                    "health": {"type": "array", "items": {"$ref": "#/$defs/HealthCheck"}},
                    "service": {"$ref": "#/$defs/ServiceId"},
                },
            },
            "ServiceId": {"type": "string", "description": "A path."},
            "HealthCheck": {"oneOf": [
                {"const": "tcp", "description": "A connection."},
                {"properties": {"http": {"type": "string"}}, "description": "A request."},
            ]},
        }});
        let page = page(&schema);
        for line in [
            "| `service` | [Service path](#service-path) | required |  |",
            "| `instances` | whole number | `1` | How many. |",
            "| `health` | list: [Health check](#health-check) | – |  |",
            "## Service path",
            "- `tcp`: A connection.",
            "- `http` and text: A request.",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
