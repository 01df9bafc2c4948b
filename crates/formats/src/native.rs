//! Native documents: their shape is given by the types of the model.

use model::{Gateway, Spec};
use schemars::JsonSchema;
use serde::Serialize;

use crate::decode::decode;
use crate::diagnostic::Diagnostics;
use crate::tree::Node;

pub(crate) fn service(
    mut tree: Node,
    is_json: bool,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Spec> {
    decode(&mut tree, is_json, diagnostics)
}

pub(crate) fn gateway(
    mut tree: Node,
    is_json: bool,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Gateway> {
    decode(&mut tree, is_json, diagnostics)
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

/// The JSON Schema of native documents, with descriptions, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Native).to_value()
}

/// Writes a document as native YAML, which [`parse`](crate::parse) accepts. A service is given as
/// it is shown ([`model::Spec::shown`]).
pub fn to_yaml(document: &impl Serialize) -> String {
    serde_saphyr::to_string(document)
        .expect("documents consist of strings, numbers, lists and mappings only")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::schema;
    use crate::decode::failure::RENAMED;

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
            let is_variant =
                ["http", "tcp", "command", "container", "process", "signal"].contains(&name);
            assert!(is_variant || property.get("description").is_some(), "{name}: {property}");
        });
        for name in ["service", "gateway", "listen", "probe", "min_healthy", "depends_on"] {
            assert!(names.iter().any(|known| known == name), "{name} is missing");
        }
    }

    /// Editors check documents against the schema: it must reject the keys that the reader rejects.
    #[test]
    fn the_schema_rejects_unknown_keys() {
        fn check(schema: &Value) {
            if schema.get("properties").is_some() {
                assert_eq!(schema.get("additionalProperties"), Some(&false.into()), "{schema}");
            }
            match schema {
                Value::Object(keys) => keys.values().for_each(check),
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(&schema());
    }

    #[test]
    fn a_key_of_an_earlier_version_is_rejected_with_its_successor() {
        for (key, old, new) in [
            ("rollout: {max_over: 1}", "rollout.max_over", "max_surge"),
            ("rollout: {settle: 5s}", "rollout.settle", "min_ready"),
            ("surplus: newest", "surplus", "scale_down"),
        ] {
            let document = format!("service: /web\nprocess: {{command: x}}\n{key}\n");
            let diagnostics = crate::parse("web.yaml", &document).unwrap_err();
            let name = old.rsplit('.').next().unwrap();
            assert!(RENAMED.contains(&(name, new)), "{name}");
            let expected = (3, old.to_string(), format!("`{name}` is now called `{new}`"));
            let found: Vec<_> = diagnostics
                .into_iter()
                .map(|diagnostic| (diagnostic.line, diagnostic.key, diagnostic.message))
                .collect();
            assert_eq!(found, [expected]);
        }
        assert_eq!(RENAMED.len(), 3, "each is shown above");
    }
}
