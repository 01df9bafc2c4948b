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

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::reference::{Error, Own, Ref};

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

    /// The string without references, or else the form of documents. The values of a resolved spec
    /// have no references.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Ref(_) | Value::Join(_) => Cow::Owned(self.to_string()),
        }
    }

    /// The literal beginning, up to the first reference.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Value::Text(text) => text,
            Value::Ref(_) => "",
            Value::Join(parts) => parts.first().map_or("", Value::prefix),
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
        deserialize_or_list(deserializer, "a string", None)
    }
}

/// Deserializes a value, or, if `list` is given, a list of values, from which it makes the result.
pub(crate) fn deserialize_or_list<'de, D: Deserializer<'de>, T: From<Value>>(
    deserializer: D,
    expected: &'static str,
    list: Option<fn(Vec<Value>) -> T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(VALUE, ValueVisitor { expected, list })
}

struct ValueVisitor<T> {
    expected: &'static str,
    list: Option<fn(Vec<Value>) -> T>,
}

impl<'de, T: From<Value>> Visitor<'de> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok(Value::from(text).into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<T, E> {
        Ok(Value::from(text).into())
    }

    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<T, E> {
        let text = std::str::from_utf8(text).map_err(E::custom)?;
        Value::parse(text).map(T::from).map_err(E::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        // An unknown key is more likely a misplaced mapping than a template.
        let text = match map.next_key::<String>()? {
            Some(key) if key == TEMPLATE => map.next_value::<String>()?,
            _ => return Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        };
        if let Some(other) = map.next_key::<String>()? {
            return Err(de::Error::unknown_field(&other, &[TEMPLATE]));
        }
        Value::parse(&text).map(T::from).map_err(de::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        let Some(list) = self.list else {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        };
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(list(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::PortRef;

    fn own(own: Own) -> Value {
        Value::Ref(Ref::Own(own))
    }

    #[test]
    fn references_are_written_in_braces_in_documents() {
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
    fn a_reference_needs_an_end_and_a_known_name() {
        let message = |text: &str| Value::parse(text).unwrap_err().to_string();
        assert_eq!(message("a ${slot"), "`${` without a `}` after it; `$${` is a literal `${`");
        assert!(message("a ${slott}").contains("did you mean `${slot}`?"));
    }

    /// Agents of the first version know no other form of a string.
    #[test]
    fn a_literal_string_is_stored_unchanged() {
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
        let (slot, run) = (Own::parse("slot").unwrap(), Own::parse("run").unwrap());
        let known = |Ref::Own(own): &Ref| (*own == slot).then(|| "2".to_string());
        assert_eq!(value.resolve(&known), Err(&Ref::Own(run)));
        assert_eq!(value.resolve(&|_| Some("7".into())), Ok("7-7".into()));
        assert_eq!(value.refs().len(), 2);
    }

    fn strings() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["$", "{", "}", "a", "${slot}", "${slot:08x}", "$$"]),
            0..8,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn written_values_read_back(text in strings()) {
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
