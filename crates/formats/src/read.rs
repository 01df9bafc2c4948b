//! Parses strings into trees: YAML streams and JSON, with one event parser.
//!
//! JSON is a subset of YAML, so one reader serves both; `json` afterwards rejects constructs that
//! only YAML allows (a trailing comma, a comment). Work is bounded: at most [`SIZE_MAX`] bytes are
//! read, at most [`DEPTH_MAX`] collections are open at a time, and aliases may repeat at most
//! [`REPEATED_MAX`] bytes, so that no source needs more memory than a small multiple of its length.
//! A syntax error ends its document but not the source: the documents after it are still checked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag, options,
};

use crate::diagnostic::Diagnostics;
use crate::json::{self, SyntaxError};
use crate::tree::{Entry, Node, Position, Step, Value, dotted};

/// The maximum length of a source, in bytes.
pub(crate) const SIZE_MAX: usize = 4 << 20;
/// The maximum depth of nested collections.
pub(crate) const DEPTH_MAX: usize = 64;
/// The maximum number of bytes that aliases may add to a source, with an overhead for each node.
const REPEATED_MAX: usize = 16 << 20;

/// The parsed content of a source.
pub(crate) struct Source {
    /// Whether it is JSON, in which exactly the strings have quotes.
    pub(crate) is_json: bool,
    /// The documents that could be parsed.
    pub(crate) documents: Vec<Node>,
}

/// Parses all documents of a source. Diagnostics are added to `diagnostics`; the result is complete
/// only if there are none.
pub(crate) fn read(text: &str, diagnostics: &mut Diagnostics<'_>) -> Source {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = text.trim_start().starts_with(['{', '[']);
    if text.len() > SIZE_MAX {
        let message = format!(
            "the source has {} bytes; at most {SIZE_MAX} are read: split it into several files",
            text.len()
        );
        diagnostics.add(Position::START, "", message);
        return Source { is_json, documents: Vec::new() };
    }
    let options = options! {
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
        emit_comments: false,
        emit_unresolved_aliases: true,
    };
    // A JSON parser explains invalid JSON better. Keep the diagnostics of this parser apart until
    // it is known whether the source is JSON.
    let mut found = diagnostics.empty_copy();
    let mut builder = Builder::new(&mut found);
    let yaml = if is_json { json::as_yaml(text) } else { Cow::Borrowed(text) };
    let mut parser = Parser::new_from_str_with_options(&yaml, options);
    builder.follow(&mut parser, is_json);
    let Builder { documents, too_much, .. } = builder;
    let syntax_error = if is_json && !too_much { json::syntax_error(text) } else { None };
    match syntax_error {
        Some(SyntaxError { at, message, is_after_end }) => {
            let document = documents.last().filter(|_| !is_after_end);
            let key = document.map(|document| document.key_at(at)).unwrap_or_default();
            diagnostics.add(at, key, message);
            return Source { is_json, documents: Vec::new() };
        }
        None => diagnostics.append(found),
    }
    Source { is_json, documents }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// A collection whose end has not been reached.
struct Open {
    at: Position,
    anchor: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The position of each key's first occurrence.
        seen: BTreeMap<String, Position>,
        /// A key whose value has not been reached; `None` inside for a refused key.
        key: Option<(Option<String>, Position)>,
    },
}

/// Builds trees from events. It has an explicit stack instead of recursion, because the input
/// decides the depth.
struct Builder<'f, 's> {
    diagnostics: &'f mut Diagnostics<'s>,
    documents: Vec<Node>,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    repeated: usize,
    /// A limit was exceeded: the rest of the source is not read.
    too_much: bool,
}

impl<'f, 's> Builder<'f, 's> {
    fn new(diagnostics: &'f mut Diagnostics<'s>) -> Self {
        Self {
            diagnostics,
            documents: Vec::new(),
            stack: Vec::new(),
            anchors: BTreeMap::new(),
            repeated: 0,
            too_much: false,
        }
    }

    fn follow<'a>(&mut self, parser: &mut Parser<'a, StrInput<'a>>, is_json: bool) {
        while !self.too_much && !self.diagnostics.is_full() {
            match parser.next_event() {
                None => return,
                Some(Ok((event, span))) => self.event(event, position(span.start)),
                Some(Err(error)) => {
                    self.syntax(&error);
                    self.stack.clear();
                    self.anchors.clear();
                    let continues_here = parser.proceed_next_document();
                    if is_json || self.too_much || !matches!(continues_here, Ok(true)) {
                        return;
                    }
                }
            }
        }
    }

    fn event(&mut self, event: Event<'_>, at: Position) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                if !is_text {
                    self.refuse_tag(tag.as_deref(), at);
                }
                let value = match style {
                    ScalarStyle::Plain if !is_text => Value::Plain(text.into_owned()),
                    _ => Value::Text(text.into_owned()),
                };
                self.place(Node { at, value }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                self.open(Open { at, anchor, parts: Parts::List(Vec::new()) });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                let parts = Parts::Map { entries: Vec::new(), seen: BTreeMap::new(), key: None };
                self.open(Open { at, anchor, parts });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { at, anchor, parts }) = self.stack.pop() {
                    let value = match parts {
                        Parts::List(items) => Value::List(items),
                        Parts::Map { entries, .. } => Value::Map(entries),
                    };
                    self.place(Node { at, value }, anchor);
                }
            }
            Event::Alias(anchor) => self.repeat(anchor, at),
            Event::UnresolvedAlias(name) => {
                self.add_diagnostic(at, format!("nothing above is anchored as `&{name}`"));
                self.place(Node { at, value: Value::Refused }, 0);
            }
            Event::DocumentEnd => self.anchors.clear(),
            _ => {}
        }
    }

    fn open(&mut self, open: Open) {
        // A list or mapping must not be a key; it is still parsed, to find its end.
        if self.stack.len() >= DEPTH_MAX {
            return self.too_deep(open.at);
        }
        self.stack.push(open);
    }

    /// Adds a complete node to its parent.
    fn place(&mut self, node: Node, anchor: usize) {
        if anchor != 0 && self.spend(&node, node.at) {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(Open { parts, .. }) = self.stack.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return;
        };
        match parts {
            Parts::List(items) => items.push(node),
            Parts::Map { entries, key, .. } => match key.take() {
                Some((Some(key), key_at)) => entries.push(Entry { key, key_at, node }),
                Some((None, _)) => {}
                None => self.key(node),
            },
        }
    }

    /// Makes a node the key of the innermost mapping.
    fn key(&mut self, node: Node) {
        let at = node.at;
        let Some(Open { parts: Parts::Map { seen, key, .. }, .. }) = self.stack.last_mut() else {
            return;
        };
        let name = match node.value {
            Value::Plain(name) if name == "<<" => {
                Err("`<<` is not part of YAML 1.2: write the keys out".into())
            }
            Value::Plain(name) | Value::Text(name) => match seen.get(&name) {
                Some(first) => Err(format!(
                    "the key `{name}` is given twice, first at line {}, column {}",
                    first.line, first.column
                )),
                None => Ok(name),
            },
            _ => Err("a key must be a string".to_string()),
        };
        match name {
            Ok(name) => {
                seen.insert(name.clone(), at);
                *key = Some((Some(name), at));
            }
            Err(problem) => {
                *key = Some((None, at));
                self.add_diagnostic(at, problem);
            }
        }
    }

    fn repeat(&mut self, anchor: usize, at: Position) {
        let Some(node) = self.anchors.get(&anchor) else {
            self.add_diagnostic(at, "an alias cannot be inside the node that it repeats");
            return self.place(Node { at, value: Value::Refused }, 0);
        };
        let node = node.clone();
        if self.stack.len() + height(&node) > DEPTH_MAX {
            return self.too_deep(at);
        }
        if self.spend(&node, at) {
            self.place(node, 0);
        }
    }

    /// Counts a copy of a node; returns false if that exceeds the limit for aliases.
    fn spend(&mut self, node: &Node, at: Position) -> bool {
        self.repeated = self.repeated.saturating_add(weight(node));
        if self.repeated > REPEATED_MAX {
            self.too_much = true;
            self.add_diagnostic(
                at,
                "the expansion of the aliases is too large: write the values out",
            );
        }
        !self.too_much
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Position) {
        if let Some(tag) = tag {
            let message =
                format!("tags such as `{}` are not used here: leave it out", tag.original());
            self.add_diagnostic(at, message);
        }
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = position(*error.marker());
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            return self.too_deep(at);
        }
        let message = explain(error.kind());
        self.add_diagnostic(at, message);
    }

    fn too_deep(&mut self, at: Position) {
        self.too_much = true;
        self.add_diagnostic(
            at,
            format!("more than {DEPTH_MAX} lists and mappings inside each other"),
        );
    }

    fn add_diagnostic(&mut self, at: Position, message: impl Into<String>) {
        // A key that is deeply nested is recognizable by its first steps.
        const STEPS_MAX: usize = 16;
        let steps = self.stack.iter().take(STEPS_MAX).filter_map(|open| match &open.parts {
            Parts::List(items) => Some(Step::Index(items.len())),
            Parts::Map { key: Some((Some(key), _)), .. } => Some(Step::Key(key.clone())),
            Parts::Map { .. } => None,
        });
        let key = dotted(&steps.collect::<Vec<_>>());
        self.diagnostics.add(at, key, message);
    }
}

/// The depth of nested collections in a node.
fn height(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| height(&e.node)).max().unwrap_or(0),
        _ => 0,
    }
}

/// The approximate amount of memory that a copy of a node takes.
fn weight(node: &Node) -> usize {
    const NODE: usize = size_of::<Node>();
    match &node.value {
        Value::Plain(text) | Value::Text(text) => NODE + text.len(),
        Value::List(items) => NODE + items.iter().map(weight).sum::<usize>(),
        Value::Map(entries) => {
            NODE + entries.iter().map(|e| NODE + e.key.len() + weight(&e.node)).sum::<usize>()
        }
        Value::Refused => NODE,
    }
}

/// A message for the common syntax errors; the parser's own message for the others.
fn explain(kind: &ErrorKind) -> String {
    let words = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "a tab cannot indent YAML: use spaces",
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed => {
            "this line does not line up with those above it: indent it as they are"
        }
        ErrorKind::MappingValueNotAllowed => {
            "a `:` is not expected here: indent the line as those above it, or put the string in quotes"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "a `:` and a value are missing after this key, or it is not indented as those above it"
        }
        ErrorKind::UnclosedQuotedScalar => "this quote is never closed",
        ErrorKind::InvalidQuotedScalarIndent => {
            "the quoted string above continues here without indentation: is its closing quote missing?"
        }
        ErrorKind::InvalidColonPlacement => {
            "a `:` is not expected here: is a closing bracket missing above?"
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            return format!("the `{open}` is never closed");
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            return format!("`{close}` cannot close the `{open}`");
        }
        ErrorKind::ExpectedFlowMappingSeparator => "expected `,` or `}`",
        ErrorKind::ExpectedFlowSequenceSeparator => "expected `,` or `]`",
        ErrorKind::UnknownQuotedScalarEscape => {
            "there is no such escape: write `\\\\` for a backslash, or use single quotes"
        }
        ErrorKind::UnexpectedCharacter { character } if character.is_control() => {
            let character = character.escape_default();
            return format!("the character `{character}` must be written as an escape in quotes");
        }
        ErrorKind::UnexpectedCharacter { character } => {
            return format!("a value cannot begin with `{character}`: put it in quotes");
        }
        other => return format!("not valid YAML: {other}"),
    };
    words.into()
}
