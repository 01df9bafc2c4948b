//! The deserializer over a tree. It rejects keys that a struct does not have.

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::failure::{Failure, describe_found, listed, successor};
use crate::tree::{Entry, Node, Plain, Step, Value, plain};

/// A deserializer over a node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) is_json: bool,
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
                let found = describe_found(self.unexpected());
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
            let message = format!("`{}` needs a value", self.name);
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
            Some(_) => Err(Failure::other(format!("`{}` takes no value", self.name))),
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
