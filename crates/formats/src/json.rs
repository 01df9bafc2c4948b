//! JSON: validation with messages for the author of a document, and trees of request bodies.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::tree::{Entry, Node, Position, Value};

/// The reason why a string is not JSON.
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) message: String,
    /// Whether the error is after the end of the document.
    pub(crate) is_after_end: bool,
}

/// Checks that a string is JSON; `None` if it is. The memory used is at most one byte per level of
/// nesting.
pub(crate) fn syntax_error(text: &str) -> Option<SyntaxError> {
    let error = serde_json::from_str::<IgnoredAny>(text).err()?;
    // Line and column include the character at fault, and the column counts bytes.
    let line_begin = match error.line().checked_sub(2) {
        Some(breaks) => text.match_indices('\n').nth(breaks).map_or(text.len(), |(at, _)| at + 1),
        None => 0,
    };
    let end = (line_begin + error.column().saturating_sub(1)).min(text.len());
    let (before, rest) = text.split_at(text.floor_char_boundary(end));
    let column = before.get(line_begin..).unwrap_or_default().chars().count() + 1;
    let at = Position { line: error.line().max(1), column };
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let is_after_end = words == "trailing characters";
    let after_comma = rest.starts_with([']', '}']) && before.trim_end().ends_with(',');
    let message = match words {
        _ if after_comma => "JSON allows no comma before a closing bracket".into(),
        "key must be a string" => "a key must be a string in double quotes".into(),
        "trailing characters" => {
            "nothing may follow the end of a JSON document: put several into a list".into()
        }
        "expected value" => "expected a value: a string in double quotes, a number, true, false, \
                             null, `{` or `[`"
            .into(),
        words if words.starts_with("EOF") => {
            format!("the source ends too early{}", words.strip_prefix("EOF").unwrap_or_default())
        }
        words => format!("not valid JSON: {words}"),
    };
    Some(SyntaxError { at, message, is_after_end })
}

/// Converts JSON to YAML: escapes the few characters that JSON allows literally in strings and YAML
/// only as escapes. Columns after such a character on its line increase.
pub(crate) fn as_yaml(text: &str) -> Cow<'_, str> {
    let is_foreign = |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !text.contains(is_foreign) {
        return Cow::Borrowed(text);
    }
    let mut yaml = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_foreign(c) {
            // Writing to a `String` cannot fail.
            let _ = write!(yaml, "\\u{:04x}", u32::from(c));
        } else {
            yaml.push(c);
        }
    }
    Cow::Owned(yaml)
}

/// The maximum number of values in a body: each value takes memory, even if it has few bytes.
const VALUES_MAX: usize = 1_000_000;

/// Parses the body of a request. The nodes have no positions, which no program needs.
///
/// # Errors
///
/// The body is not JSON, or has more values than the limit.
pub fn tree(body: &[u8]) -> Result<Node, serde_json::Error> {
    let mut left = VALUES_MAX;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let tree = Seed { left: &mut left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(tree)
}

/// Builds a node, within the remaining number of values.
struct Seed<'a> {
    left: &'a mut usize,
}

fn node<E>(value: Value) -> Result<Node, E> {
    Ok(Node { at: Position::START, value })
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => *self.left = left,
            None => return Err(D::Error::custom(format!("more than {VALUES_MAX} values"))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        node(Value::Plain("null".into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        node(Value::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        node(Value::Plain(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        node(Value::Plain(number.to_string()))
    }

    /// JSON has one kind of number: 4.0 is accepted as a whole number.
    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        node(Value::Plain(match number.fract() == 0.0 && number.abs() < 1e15 {
            true => (number as i64).to_string(),
            false => format!("{number:?}"),
        }))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        node(Value::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        node(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed { left: &mut *self.left })? {
            items.push(item);
        }
        node(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            let node = map.next_value_seed(Seed { left: &mut *self.left })?;
            entries.push(Entry { key, key_at: Position::START, node });
        }
        node(Value::Map(entries))
    }
}
