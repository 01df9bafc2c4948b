//! A document as it stands in its source: texts, lists and mappings, each with its position.
//!
//! Nothing is interpreted here beyond that: a plain scalar keeps its letters, so that `1.10` is
//! still `1.10` where a text is wanted. Positions survive everything, which is why every message
//! of this crate can point at a line. Read `read` for how a tree comes to be, `decode` for what
//! becomes of it.

use std::fmt::{self, Write};

/// Where something begins in its source, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The beginning of a source.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The position of its first character.
    pub at: Position,
    /// The value itself.
    pub value: Value,
}

/// What a document is made of.
#[derive(Debug, Clone)]
pub enum Value {
    /// A scalar without quotes, as it was written; its meaning depends on what is wanted.
    Plain(String),
    /// A scalar in quotes, or a block of text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the source. Keys may be duplicates only in a tree that was refused.
    Map(Vec<Entry>),
    /// Found wrong and reported; passed over from then on.
    Refused,
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The position of the key.
    pub key_at: Position,
    /// The value.
    pub node: Node,
}

/// One step from a node to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, from 0.
    Index(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => index.fmt(f),
        }
    }
}

/// `health.0.probe`, as problems name keys.
pub fn dotted<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in steps {
        let dot = if text.is_empty() { "" } else { "." };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{dot}{step}");
    }
    text
}

/// What a plain scalar means where any value may stand (the core schema of YAML 1.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plain<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, 0 or more.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// Any other number.
    Float(f64),
    /// Everything else.
    Text(&'a str),
}

/// Reads a plain scalar.
pub fn plain(text: &str) -> Plain<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let radix = |prefix, radix| {
        text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Plain::Unsigned(number);
    }
    // Rust also reads `inf`, `nan` and `infinity`, which are words in a document.
    let is_number = text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if !is_number {
        return Plain::Text(text);
    }
    if let Ok(number) = text.parse() {
        return Plain::Unsigned(number);
    }
    if let Ok(number) = text.parse() {
        return Plain::Signed(number);
    }
    text.parse().map_or(Plain::Text(text), Plain::Float)
}

impl Node {
    /// Whether this is a plain null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if plain(text) == Plain::Null)
    }

    /// Whether this is a list or a mapping.
    pub fn is_collection(&self) -> bool {
        matches!(self.value, Value::List(_) | Value::Map(_))
    }

    /// How many nodes there are in this one, with itself.
    pub fn size(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.size()).sum::<usize>(),
            _ => 1,
        }
    }

    /// The value of a key of this mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A key of this mapping, with its position and value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key)
    }

    /// Takes a key and its value out of this mapping.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(index).node)
    }

    /// Puts a value under a key of this mapping, in place of what is there.
    pub fn put(&mut self, key: &str, node: Node) {
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.node = node,
            None => entries.push(Entry { key: key.into(), key_at: node.at, node }),
        }
    }

    /// The text that this node is.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// The part of this node that a dotted key names, or the longest beginning of the key that
    /// there is: where it stands, and how many bytes of the key were found.
    ///
    /// A scalar found in full is pointed at itself, everything else at its key.
    pub fn locate(&self, key: &str) -> (Position, usize) {
        let mut node = self;
        let mut here = self.at;
        let mut found = 0;
        loop {
            let rest = key[found..].strip_prefix('.').unwrap_or(&key[found..]);
            let begin = key.len() - rest.len();
            if rest.is_empty() {
                let at = if node.is_collection() { here } else { node.at };
                return (at, found);
            }
            // A key of the document may hold dots itself: the longest that fits is meant.
            let next = match &node.value {
                Value::Map(entries) => entries
                    .iter()
                    .filter(|entry| begins(rest, &entry.key))
                    .max_by_key(|entry| entry.key.len())
                    .map(|entry| (&entry.node, entry.key_at, entry.key.len())),
                Value::List(items) => {
                    let word = rest.split('.').next().unwrap_or(rest);
                    let item = word.parse().ok().and_then(|index: usize| items.get(index));
                    item.map(|item| (item, item.at, word.len()))
                }
                _ => None,
            };
            let Some((inner, at, len)) = next else { return (here, found) };
            (node, here, found) = (inner, at, begin + len);
        }
    }

    /// The node at the end of a path.
    pub fn find_mut(&mut self, steps: &[Step]) -> Option<&mut Node> {
        steps.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (Step::Key(key), Value::Map(entries)) => {
                // The last of several equal keys is as good as any: duplicates are refused.
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Step::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// The dotted key of the part in which a position lies.
    pub fn key_at(&self, at: Position) -> String {
        let mut steps = Vec::new();
        let mut node = self;
        loop {
            let step = match &node.value {
                Value::Map(entries) => entries
                    .iter()
                    .rev()
                    .find(|entry| entry.key_at <= at)
                    .map(|entry| (Step::Key(entry.key.clone()), &entry.node)),
                Value::List(items) => (items.iter().enumerate().rev())
                    .find(|(_, item)| item.at <= at)
                    .map(|(index, item)| (Step::Index(index), item)),
                _ => None,
            };
            let Some((step, inner)) = step else { return dotted(&steps) };
            steps.push(step);
            node = inner;
        }
    }
}

/// Whether a dotted key begins with a key of a mapping, in whole steps.
fn begins(dotted: &str, key: &str) -> bool {
    dotted.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
