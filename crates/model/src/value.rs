//! Values with references: templates whose references stand for facts of the instance.
//!
//! Documents write `${node.name}:${port.http}`. `$$` is a dollar sign, and a `$` before any other
//! character is literal, so that `$HOME` reaches the shell unchanged. The agent resolves
//! references, because only the agent knows the facts.
//!
//! Only documents are parsed for references. In the store and on the wire, a string is literal
//! whatever it contains, as earlier versions wrote and read it, and a value with references has the
//! explicit form `{"template": "${node.name}"}`. A literal string that a document would have to
//! escape therefore has two forms: stored plain, and shown to users in the explicit form (see
//! [`Spec::shown`](crate::Spec::shown)), so that they can apply what they see.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nearest::nearest;
use crate::spec::PortRef;

/// The name under which a value asks a deserializer for its content. A deserializer of documents
/// passes a string as bytes, which are parsed for references; others pass strings, which are not.
pub const VALUE: &str = "muster::Value";

/// The only key of the explicit form of a value.
const TEMPLATE: &str = "template";

/// A string, a reference, or several of both.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum Value {
    /// A literal string.
    Text(Arc<str>),
    /// The fact that a reference stands for.
    Ref(Ref),
    /// The concatenation of its parts.
    Join(Vec<Value>),
}

/// The fact that a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref {
    /// A fact of the instance itself, which its agent knows.
    Own(Own),
}

/// A fact of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// `node.name`: the name of its node.
    NodeName,
    /// `node.address`: the address of its node.
    NodeAddress,
    /// `service`: the path of its service.
    Service,
    /// `instance`: its id.
    Instance,
    /// `slot`: its replica number, from 0.
    Slot,
    /// `revision`: the revision it was placed at.
    Revision,
    /// `run`: its nth start in place, from 1.
    Run,
    /// `dir`: its own directory on the node.
    Dir,
    /// `port.NAME` or `port.INDEX`: a port that the resource listens on, as it sees it.
    Port(PortRef),
}

/// The references other than ports, and the facts they stand for.
const NAMED: [(&str, Own); 8] = [
    ("node.name", Own::NodeName),
    ("node.address", Own::NodeAddress),
    ("service", Own::Service),
    ("instance", Own::Instance),
    ("slot", Own::Slot),
    ("revision", Own::Revision),
    ("run", Own::Run),
    ("dir", Own::Dir),
];

/// Why a string is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A reference has no end.
    #[error("`${{` without a `}}` after it; `$${{` is a literal `${{`")]
    Open,
    /// There is no such reference.
    #[error("unknown reference `${{{name}}}`{}; `$${{{name}}}` is that text", suggestion(.nearest))]
    Unknown {
        /// The name in the braces.
        name: String,
        /// The most similar reference.
        nearest: Option<String>,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean `${{{nearest}}}`?"),
        None => {
            let known: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
            format!(": there are {} and port.NAME", known.join(", "))
        }
    }
}

impl Own {
    fn parse(name: &str) -> Result<Self, Error> {
        if let Some(port) = name.strip_prefix("port.").filter(|port| !port.is_empty()) {
            let port = match port.parse() {
                Ok(index) => PortRef::Index(index),
                Err(_) => PortRef::Name(port.into()),
            };
            return Ok(Own::Port(port));
        }
        let known = NAMED.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, own)| own).ok_or_else(|| Error::Unknown {
            name: name.into(),
            nearest: nearest(name, NAMED.iter().map(|(known, _)| *known)),
        })
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMED.iter().find(|(_, own)| own == self)) {
            (Own::Port(port), _) => write!(f, "port.{port}"),
            (_, Some((name, _))) => f.write_str(name),
            (_, None) => unreachable!("every fact but ports is named"),
        }
    }
}

impl Value {
    /// Parses a value in the form of documents.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            rest = if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                after
            } else if let Some(after) = after.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(Error::Open)?;
                if !literal.is_empty() {
                    parts.push(Value::from(std::mem::take(&mut literal)));
                }
                parts.push(Value::Ref(Ref::Own(Own::parse(name)?)));
                after
            } else {
                literal.push('$');
                after
            };
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(literal.into());
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Value::Join(parts),
        })
    }

    /// The string, if the value has no references.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Ref(_) | Value::Join(_) => None,
        }
    }

    /// Whether the value depends on facts of the instance.
    pub fn has_references(&self) -> bool {
        match self {
            Value::Text(_) => false,
            Value::Ref(_) => true,
            Value::Join(parts) => parts.iter().any(Value::has_references),
        }
    }

    /// The form that users are shown, if it is not that of the store: for a literal string that a
    /// document would read differently, a template without references.
    pub(crate) fn shown(&self) -> Option<Value> {
        match self {
            Value::Text(text) if **text != *self.to_string() => {
                Some(Value::Join(vec![self.clone()]))
            }
            _ => None,
        }
    }

    /// The references in the value, in order.
    pub fn refs(&self) -> Vec<&Ref> {
        match self {
            Value::Text(_) => Vec::new(),
            Value::Ref(one) => vec![one],
            Value::Join(parts) => parts.iter().flat_map(Value::refs).collect(),
        }
    }

    /// The string with all references replaced by `resolve`, or the first reference that it does
    /// not know.
    pub fn resolve(&self, resolve: &dyn Fn(&Ref) -> Option<String>) -> Result<String, &Ref> {
        match self {
            Value::Text(text) => Ok(text.as_ref().into()),
            Value::Ref(one) => resolve(one).ok_or(one),
            Value::Join(parts) => parts.iter().map(|part| part.resolve(resolve)).collect(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

/// Displays the form of documents.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write_escaped(f, text),
            Value::Ref(Ref::Own(own)) => write!(f, "${{{own}}}"),
            Value::Join(parts) => parts.iter().try_for_each(|part| part.fmt(f)),
        }
    }
}

/// Doubles each `$` that would otherwise begin a reference or an escape. A `$` at the end is
/// doubled too, because the next part may begin with a brace.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        f.write_str(&rest[..=at])?;
        rest = &rest[at + 1..];
        if rest.is_empty() || rest.starts_with(['$', '{']) {
            f.write_str("$")?;
        }
    }
    f.write_str(rest)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Ref(_) | Value::Join(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(TEMPLATE, &self.to_string())?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
                Ok(text.into())
            }
            fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<Value, E> {
                let text = std::str::from_utf8(text).map_err(E::custom)?;
                Value::parse(text).map_err(E::custom)
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Value, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                // An unknown key is more likely a misplaced mapping than a template.
                let text = match map.next_key::<String>()? {
                    Some(key) if key == TEMPLATE => map.next_value::<String>()?,
                    _ => return Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
                };
                if let Some(other) = map.next_key::<String>()? {
                    return Err(de::Error::unknown_field(&other, &[TEMPLATE]));
                }
                Value::parse(&text).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_newtype_struct(VALUE, ValueVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own(own: Own) -> Value {
        Value::Ref(Ref::Own(own))
    }

    #[test]
    fn documents_write_references_in_braces() {
        let port = |name: &str| own(Own::Port(PortRef::Name(name.into())));
        for (text, expected) in [
            ("", Value::from("")),
            ("plain", "plain".into()),
            ("${node.name}", own(Own::NodeName)),
            ("${port.0}", own(Own::Port(PortRef::Index(0)))),
            (
                "http://${node.address}:${port.http}/",
                Value::Join(vec![
                    "http://".into(),
                    own(Own::NodeAddress),
                    ":".into(),
                    port("http"),
                    "/".into(),
                ]),
            ),
            ("$HOME costs $5", "$HOME costs $5".into()),
            ("$${node.name} $$", "${node.name} $".into()),
            ("$", "$".into()),
        ] {
            assert_eq!(Value::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_fact_is_written_as_it_is_read() {
        for (name, own) in NAMED {
            assert_eq!(own.to_string(), name);
            assert_eq!(Own::parse(name), Ok(own));
        }
    }

    #[test]
    fn unknown_references_are_refused_with_the_nearest_one() {
        for (text, message) in [
            (
                "${node.nam}",
                "unknown reference `${node.nam}`: did you mean `${node.name}`?; \
                 `$${node.nam}` is that text",
            ),
            ("a ${slot", "`${` without a `}` after it; `$${` is a literal `${`"),
        ] {
            assert_eq!(Value::parse(text).unwrap_err().to_string(), message);
        }
        let unlike = Value::parse("${PORT0}").unwrap_err().to_string();
        assert!(unlike.contains("there are node.name, node.address, service"), "{unlike}");
        assert!(Value::parse("${port.}").is_err());
    }

    /// Agents of the first version know no other form of a string.
    #[test]
    fn a_literal_string_is_stored_as_it_is() {
        let text = r#""${node.name} $$""#;
        let literal: Value = serde_json::from_str(text).unwrap();
        assert_eq!(literal, "${node.name} $$".into());
        assert_eq!(serde_json::to_string(&literal).unwrap(), text);
        let value = Value::parse("${slot}$$").unwrap();
        let stored = serde_json::to_string(&value).unwrap();
        assert_eq!(stored, r#"{"template":"${slot}$$"}"#);
    }

    #[test]
    fn a_literal_string_that_a_document_would_escape_is_shown_in_the_explicit_form() {
        for (text, shown) in
            [("$HOME", r#""$HOME""#), ("${node.name} $$", r#"{"template":"$${node.name} $$$$"}"#)]
        {
            let literal = Value::from(text);
            let value = literal.shown().unwrap_or_else(|| literal.clone());
            assert_eq!(serde_json::to_string(&value).unwrap(), shown);
            assert_eq!(serde_json::from_str::<Value>(shown).unwrap(), literal);
        }
    }

    #[test]
    fn references_are_resolved_in_place() {
        let value = Value::parse("${slot}-${run}").unwrap();
        let known = |Ref::Own(own): &Ref| (*own == Own::Slot).then(|| "2".to_string());
        assert_eq!(value.resolve(&known), Err(&Ref::Own(Own::Run)));
        assert_eq!(value.resolve(&|_| Some("7".into())), Ok("7-7".into()));
        assert_eq!(value.refs().len(), 2);
    }

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["$", "{", "}", "a", "${slot}", "$$"]), 0..8)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in texts()) {
            let literal = Value::from(text.as_str());
            prop_assert_eq!(&Value::parse(&literal.to_string()).unwrap(), &literal);
            for form in [Some(literal.clone()), literal.shown()].into_iter().flatten() {
                let stored = serde_json::to_string(&form).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Value>(&stored).unwrap(), &literal);
            }
            if let Ok(value) = Value::parse(&text) {
                prop_assert_eq!(&Value::parse(&value.to_string()).unwrap(), &value);
                let stored = serde_json::to_string(&value).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), value);
            }
        }
    }
}
