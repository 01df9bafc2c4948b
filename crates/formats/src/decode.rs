//! Decodes trees into types with serde, and reports every fault with its position.
//!
//! Serde stops at the first error. Here a value that fails is marked as refused in the tree, and
//! the tree is decoded again without it until there is no new fault. The types need not cooperate,
//! and one run reports all faults of a document. A failure that only follows from a refused value
//! is not reported.
//!
//! In YAML the expected type decides the meaning of a plain scalar: where a string is expected,
//! `1.10` is the string `1.10`. In JSON a string must have quotes.
//!
//! Unknown keys are rejected here, by the names that `deserialize_struct` passes. The types
//! themselves ignore unknown keys, because daemons and the store read the same types and must
//! accept newer objects. A type with `#[serde(flatten)]` passes no names, so a document must not
//! use it.
//!
//! A fault is a [`Trouble`], which is passed to a [`Listen`]: [`Faults`] is the one for Muster's
//! own messages.

use std::fmt::{self, Display};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::fault::{Faults, hint, nearest};
use crate::tree::{Entry, Node, Plain, Position, Step, Value, dotted, plain};

/// Former names of keys and their successors. The types accept both, because stores contain both; a
/// document must use the successor.
pub(crate) const RENAMED: [(&str, &str); 3] =
    [("max_over", "max_surge"), ("settle", "min_ready"), ("surplus", "scale_down")];

/// The successor of a key, if the type with `fields` accepts the key only as a former name.
fn successor(key: &str, fields: &[&str]) -> Option<&'static str> {
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == key)?;
    fields.contains(new).then_some(*new)
}

/// The maximum number of nodes decoded to find all faults of a document. For a very large document
/// only the first faults are reported.
const WORK_MAX: usize = 2_000_000;

/// Receives the faults of a document.
pub trait Listen {
    /// Reports `trouble` at `path`, whose position is `at`. For a missing key, `path` and `at` are
    /// those of the mapping that lacks it.
    fn hear(&mut self, at: Position, path: &[Step], trouble: &Trouble);

    /// Whether further faults are of no use, so that decoding stops.
    fn is_full(&self) -> bool {
        false
    }
}

impl Listen for Faults<'_> {
    fn hear(&mut self, at: Position, path: &[Step], trouble: &Trouble) {
        self.add(at, dotted(path), trouble.to_string());
    }

    fn is_full(&self) -> bool {
        Faults::is_full(self)
    }
}

/// Decodes a document. Its faults are passed to `listener`, and the values at fault are marked as
/// refused in the tree.
pub fn decode<T: DeserializeOwned>(
    node: &mut Node,
    is_json: bool,
    listener: &mut dyn Listen,
) -> Option<T> {
    let mut is_sound = true;
    let mut passes_left = (WORK_MAX / node.size()).max(1);
    // Known keys for which an unknown key was probably a typing error: they are not missing.
    let mut meant: Vec<Vec<Step>> = Vec::new();
    loop {
        let failure = match T::deserialize(Reader { node, is_json }) {
            Ok(value) => return is_sound.then_some(value),
            Err(failure) => *failure.0,
        };
        let mut path: Vec<Step> = failure.path.into_iter().rev().collect();
        let Some(failed) = node.find_mut(&path) else {
            listener.hear(node.at, &path, &failure.trouble);
            return None;
        };
        if !failure.trouble.follows_from_refusals(failed) {
            let at = match failure.key_at {
                Some(at) => at,
                None if failed.is_collection() => node.locate(&dotted(&path)).0,
                None => failed.at,
            };
            let key_of = |path: &[Step], key: &str| [path, &[Step::Key(key.into())]].concat();
            let was_meant = match &failure.trouble {
                Trouble::Missing(field) => meant.contains(&key_of(&path, field)),
                _ => false,
            };
            if !was_meant {
                listener.hear(at, &path, &failure.trouble);
            }
            is_sound = false;
            if let Trouble::Unknown { nearest: Some(nearest), .. } = &failure.trouble {
                meant.push(key_of(&path[..path.len().saturating_sub(1)], nearest));
            }
        }
        passes_left -= 1;
        if passes_left == 0 || listener.is_full() {
            return None;
        }
        // A node that is already refused fails again where its type accepts no substitute: the
        // collection around it cannot be decoded either.
        loop {
            if path.is_empty() {
                return None;
            }
            let failed = node.find_mut(&path)?;
            if !matches!(failed.value, Value::Refused) {
                failed.value = Value::Refused;
                break;
            }
            path.pop();
        }
    }
}

/// Why a value cannot be decoded, and its path below the decoded node.
#[derive(Debug)]
pub struct Failure(Box<FailureParts>);

#[derive(Debug)]
struct FailureParts {
    trouble: Trouble,
    /// From the innermost step outwards.
    path: Vec<Step>,
    /// The position of the key, if the key is at fault and not its value.
    key_at: Option<Position>,
}

/// The kinds of faults of a value.
#[derive(Debug)]
pub enum Trouble {
    /// A required key is missing.
    Missing(&'static str),
    /// An unknown key, which is the last step of the path.
    Unknown {
        /// The message for users.
        message: String,
        /// The known key that was probably intended.
        nearest: Option<String>,
    },
    /// Another type than the expected one, or a number of another kind.
    Type {
        /// The expected type, as serde describes it.
        expected: String,
        /// Whether a number was found.
        is_number: bool,
        /// The message for users.
        message: String,
    },
    /// A string that is none of the allowed ones.
    Variant(String),
    /// The expected type with an invalid value.
    Other(String),
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Missing(field) => write!(f, "the key `{field}` is missing"),
            Trouble::Unknown { message, .. }
            | Trouble::Type { message, .. }
            | Trouble::Variant(message)
            | Trouble::Other(message) => f.write_str(message),
        }
    }
}

impl Trouble {
    /// Whether a node fails only because a part of it was refused and reported before.
    fn follows_from_refusals(&self, node: &Node) -> bool {
        let refused = |node: &Node| matches!(node.value, Value::Refused);
        match (self, &node.value) {
            (Trouble::Unknown { .. }, _) => false,
            (Trouble::Missing(field), _) => node.get(field).is_some_and(refused),
            (_, Value::List(items)) => items.iter().any(refused),
            (_, Value::Map(entries)) => entries.iter().any(|e| refused(&e.node)),
            _ => refused(node),
        }
    }
}

impl Failure {
    fn new(trouble: Trouble) -> Self {
        Failure(Box::new(FailureParts { trouble, path: Vec::new(), key_at: None }))
    }

    fn other(message: impl Into<String>) -> Self {
        Self::new(Trouble::Other(message.into()))
    }

    fn renamed(old: &str, new: &str) -> Self {
        let message = format!("`{old}` is now called `{new}`");
        Self::new(Trouble::Unknown { message, nearest: Some(new.into()) })
    }

    fn inside(mut self, step: Step) -> Self {
        self.0.path.push(step);
        self
    }

    fn at_key(mut self, key: &str, at: Position) -> Self {
        self.0.key_at = Some(at);
        self.inside(Step::Key(key.into()))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.trouble.fmt(f)
    }
}

impl std::error::Error for Failure {}

fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Self::other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let advice = match (&found, expected.as_str()) {
            (
                Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_),
                "a string",
            )
            | (Unexpected::Bool(_), "a string") => ": put it in quotes",
            (Unexpected::Str(text), "u8" | "u16" | "u32" | "u64" | "f64")
                if !matches!(plain(text), Plain::Text(_)) =>
            {
                ": leave the quotes out"
            }
            _ => "",
        };
        let is_number = matches!(found, Unexpected::Float(_));
        let message = format!("expected {}, found {}{advice}", ours(&expected), found_words(found));
        Self::new(Trouble::Type { expected, is_number, message })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        Self::other(format!("expected {}, found {}", ours(&expected), found_words(found)))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::other(format!("expected {expected}, found {len}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let nearest = nearest(variant, expected.iter().copied());
        let message = format!("`{variant}` is not {}{}", listed(expected), hint(nearest));
        Self::new(Trouble::Variant(message))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let names = expected.iter().copied().filter(|name| successor(name, expected).is_none());
        let nearest = nearest(field, names.clone());
        let message = match nearest {
            Some(_) => format!("unknown key `{field}`{}", hint(nearest)),
            None => {
                let names = listed(&names.collect::<Vec<_>>());
                format!("unknown key `{field}`: here may stand {names}")
            }
        };
        Self::new(Trouble::Unknown { message, nearest: nearest.map(String::from) })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Trouble::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::other(format!("the key `{field}` is given twice"))
    }
}

/// Serde's description of an expected type, in the terms of documents.
fn ours(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a string" => "a text".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "keys and values".into(),
        words if words.starts_with("struct ") => "keys and values".into(),
        words => words.into(),
    }
}

fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Str(text) => format!("the text `{}`", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "keys and values".into(),
        other => other.to_string(),
    }
}

/// The start of a string, long enough to recognize it.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(60).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// A deserializer over a node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    is_json: bool,
}

impl<'a> Reader<'a> {
    /// The entries of a mapping. If `fields` are given, other keys are rejected.
    fn entries(self, entries: &'a [Entry], fields: Fields) -> Entries<'a> {
        Entries { reader: self, entries: entries.iter(), fields, value: None }
    }

    fn of<'b>(&self, node: &'b Node) -> Reader<'b> {
        Reader { node, is_json: self.is_json }
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.node.value {
            Value::Plain(text) => match plain(text) {
                Plain::Null => Unexpected::Unit,
                Plain::Bool(value) => Unexpected::Bool(value),
                Plain::Unsigned(number) => Unexpected::Unsigned(number),
                Plain::Signed(number) => Unexpected::Signed(number),
                Plain::Float(number) => Unexpected::Float(number),
                Plain::Text(text) => Unexpected::Str(text),
            },
            Value::Text(text) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
            Value::Refused => Unexpected::Other("a refused value"),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Plain(text) => match plain(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Unsigned(number) => visitor.visit_u64(number),
                Plain::Signed(number) => visitor.visit_i64(number),
                Plain::Float(number) => visitor.visit_f64(number),
                Plain::Text(text) => visitor.visit_str(text),
            },
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => {
                visitor.visit_seq(Items { reader: self, items: items.iter().enumerate() })
            }
            Value::Map(entries) => visitor.visit_map(self.entries(entries, None)),
            Value::Refused => Err(Failure::other("refused before")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Plain(text) if !self.is_json && !self.node.is_null() => visitor.visit_str(text),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if name == model::VALUE {
            match &self.node.value {
                Value::Plain(text) if !self.is_json && !self.node.is_null() => {
                    return visitor.visit_bytes(text.as_bytes());
                }
                Value::Text(text) => return visitor.visit_bytes(text.as_bytes()),
                _ => {}
            }
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(self.entries(entries, Some(fields))),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A variant without content is a string; a variant with content is a mapping from its name to
    /// the content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Plain(name) if !self.node.is_null() => {
                visitor.visit_enum(Variant { name, content: None })
            }
            Value::Text(name) => visitor.visit_enum(Variant { name, content: None }),
            Value::Map(entries) => match entries.as_slice() {
                [entry] => {
                    let content = Some(self.of(&entry.node));
                    let value = visitor.visit_enum(Variant { name: &entry.key, content });
                    value.map_err(|failure| match failure.0.path.is_empty() {
                        true => failure.at_key(&entry.key, entry.key_at),
                        false => failure,
                    })
                }
                _ => Err(Failure::other(format!("give exactly one of {}", listed(variants)))),
            },
            _ => {
                let found = found_words(self.unexpected());
                Err(Failure::other(format!("expected {}, found {found}", listed(variants))))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        let kept = self.items.by_ref().find(|(_, item)| !matches!(item.value, Value::Refused));
        let Some((index, item)) = kept else { return Ok(None) };
        let element = seed.deserialize(self.reader.of(item));
        element.map(Some).map_err(|failure| failure.inside(Step::Index(index)))
    }
}

/// The keys that a mapping may have; `None` if it may have any.
type Fields = Option<&'static [&'static str]>;

struct Entries<'a> {
    reader: Reader<'a>,
    entries: std::slice::Iter<'a, Entry>,
    fields: Fields,
    /// The entry of the last key returned.
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let kept = self.entries.by_ref().find(|e| !matches!(e.node.value, Value::Refused));
        let Some(entry) = kept else { return Ok(None) };
        let key = entry.key.as_str();
        let rejection = self.fields.and_then(|fields| match successor(key, fields) {
            Some(new) => Some(Failure::renamed(key, new)),
            None if !fields.contains(&key) => Some(de::Error::unknown_field(key, fields)),
            None => None,
        });
        if let Some(failure) = rejection {
            return Err(failure.at_key(key, entry.key_at));
        }
        self.value = Some(entry);
        let key = seed.deserialize(IntoDeserializer::<Failure>::into_deserializer(&*entry.key));
        key.map(Some).map_err(|failure| failure.at_key(&entry.key, entry.key_at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let entry = self.value.take().expect("serde asks for a value after its key");
        let value = seed.deserialize(self.reader.of(&entry.node));
        value.map_err(|failure| failure.inside(Step::Key(entry.key.clone())))
    }
}

/// A variant by its name, with its content if it has any.
struct Variant<'a> {
    name: &'a str,
    content: Option<Reader<'a>>,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let name = seed.deserialize(IntoDeserializer::<Failure>::into_deserializer(self.name))?;
        Ok((name, self))
    }
}

impl Variant<'_> {
    /// Decodes the content, which is the value of the name.
    fn content<T>(
        &self,
        decode: impl FnOnce(Reader<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(reader) = self.content else {
            let message = format!("`{}` needs keys or a value of its own", self.name);
            return Err(Failure::other(message));
        };
        decode(reader).map_err(|failure| failure.inside(Step::Key(self.name.into())))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Failure::other(format!("`{}` stands alone", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        self.content(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.content(|reader| reader.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.content(|reader| reader.deserialize_struct("", fields, visitor))
    }
}
