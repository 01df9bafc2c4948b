//! Muster's own documents: the types of the model are their shape.

use model::{Gateway, Spec};
use schemars::JsonSchema;
use serde::Serialize;

use crate::decode::decode;
use crate::fault::Faults;
use crate::tree::Node;

/// Keys of earlier versions, and their successors. The store still reads them; documents must not
/// use them.
const RENAMED: [(&str, &str, &str); 3] = [
    ("rollout", "max_over", "max_surge"),
    ("rollout", "settle", "min_ready"),
    ("", "surplus", "scale_down"),
];

pub(crate) fn service(mut tree: Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Spec> {
    let mut is_current = true;
    for (section, old, new) in RENAMED {
        let around = if section.is_empty() { Some(&tree) } else { tree.get(section) };
        let Some(entry) = around.and_then(|around| around.entry(old)) else { continue };
        let key = if section.is_empty() { old.into() } else { format!("{section}.{old}") };
        faults.add(entry.key_at, key, format!("`{old}` is now called `{new}`"));
        is_current = false;
    }
    is_current.then(|| decode(&mut tree, is_json, faults)).flatten()
}

pub(crate) fn gateway(mut tree: Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Gateway> {
    decode(&mut tree, is_json, faults)
}

/// A Muster document: a service, or a gateway.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(title = "Muster document")]
#[expect(dead_code, reason = "only its schema is used")]
enum Native {
    Service(Box<Spec>),
    Gateway(Gateway),
}

/// The JSON Schema of native documents, with descriptions, for editors and people.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Native).to_value()
}

/// Writes a document as native YAML, such as [`parse`](crate::parse) reads it.
pub fn to_yaml(document: &impl Serialize) -> String {
    serde_saphyr::to_string(document)
        .expect("documents consist of nothing but texts, numbers, lists and mappings")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{RENAMED, schema};

    /// Calls `visit` with each named property.
    fn properties(schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        match schema {
            Value::Object(keys) => {
                for (key, inner) in keys {
                    if let ("properties", Value::Object(named)) = (key.as_str(), inner) {
                        named.iter().for_each(|(name, property)| visit(name, property));
                    }
                    properties(inner, visit);
                }
            }
            Value::Array(items) => {
                items.iter().for_each(|item| properties(item, visit));
            }
            _ => {}
        }
    }

    #[test]
    fn the_schema_describes_every_key() {
        let schema = schema();
        let mut names = Vec::new();
        properties(&schema, &mut |name, property| {
            names.push(name.to_string());
            let is_variant = ["http", "tcp", "command"].contains(&name);
            assert!(is_variant || property.get("description").is_some(), "{name}: {property}");
        });
        for name in ["service", "gateway", "listen", "probe", "min_healthy", "depends_on"] {
            assert!(names.iter().any(|known| known == name), "{name} is missing");
        }
    }

    #[test]
    fn a_key_of_an_earlier_version_is_refused_with_its_successor() {
        for (section, old, new) in RENAMED {
            let (key, indent) = match section {
                "" => (format!("{old}: 1"), old.to_string()),
                _ => (format!("{section}: {{{old}: 1}}"), format!("{section}.{old}")),
            };
            let document = format!("service: /web\nprocess: {{command: x}}\n{key}\n");
            let faults = crate::parse("web.yaml", &document).unwrap_err();
            let expected = (3, indent, format!("`{old}` is now called `{new}`"));
            let found: Vec<_> =
                faults.into_iter().map(|fault| (fault.line, fault.key, fault.message)).collect();
            assert_eq!(found, [expected]);
        }
    }
}
