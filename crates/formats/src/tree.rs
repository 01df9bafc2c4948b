//! The syntax tree of a document: scalars, lists and mappings, each with its position.
//!
//! Scalars are not interpreted: a plain scalar keeps its characters, so that `1.10` remains `1.10`
//! where a string is expected. Every node keeps its position, so that every message of this crate
//! has a line. `read` builds trees, `decode` converts them.

use std::fmt::{self, Write};

/// The start of an element in its source. Both numbers count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The start of a source.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// A value and its position.
#[derive(Debug, Clone)]
pub struct Node {
    /// The position of its first character.
    pub at: Position,
    /// The value itself.
    pub value: Value,
}

/// The kinds of values in a document.
#[derive(Debug, Clone)]
pub enum Value {
    /// A scalar without quotes, as written; its meaning depends on the expected type.
    Plain(String),
    /// A scalar in quotes, or a block scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the source. Duplicate keys occur only in a refused tree.
    Map(Vec<Entry>),
    /// A value at fault that has been reported and is skipped from then on.
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

/// The path in the form of problem keys: `health.0.probe`.
pub fn dotted<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    for step in steps {
        let dot = if text.is_empty() { "" } else { "." };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{dot}{step}");
    }
    text
}

/// The value of a plain scalar where any type is accepted (the core schema of YAML 1.2).
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

/// Interprets a plain scalar.
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
    // Rust also parses `inf`, `nan` and `infinity`, which are strings in a document.
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

    /// The number of nodes in this tree, including this one.
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

    /// Removes a key from this mapping and returns its value.
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(index).node)
    }

    /// Sets the value of a key of this mapping.
    pub fn put(&mut self, key: &str, node: Node) {
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.node = node,
            None => entries.push(Entry { key: key.into(), key_at: node.at, node }),
        }
    }

    /// The string, if this node is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// Finds the part of this node that a dotted key names, or that the longest existing prefix of
    /// the key names. Returns its position and the length of the found prefix in bytes.
    ///
    /// For a scalar found in full, the position is its own; otherwise it is that of its key.
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
            // A key of the document may contain dots: the longest match wins.
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
                // Of duplicate keys any will do, because they are rejected.
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Step::Index(index), Value::List(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// The dotted key of the part that contains a position.
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

/// Whether a dotted key starts with a key of a mapping, in whole steps.
fn begins(dotted: &str, key: &str) -> bool {
    dotted.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
