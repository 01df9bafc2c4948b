//! The documents of a source: native ones and those of foreign systems, distinguished by their
//! keys.

use model::{Document, Problem};

use crate::diagnostic::{Diagnostic, Diagnostics, hint, nearest};
use crate::dialect::Dialect;
use crate::native;
use crate::read::{self, Source};
use crate::tree::{Node, Position, Value};

/// The documents of one source, in their order.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The documents, each with the positions of its keys.
    pub documents: Vec<Located>,
}

/// A document and the positions of its keys in the source.
#[derive(Debug, Clone)]
pub struct Located {
    /// The document.
    pub document: Document,
    source: String,
    tree: Node,
    /// `None` for a native document.
    dialect: Option<&'static dyn Dialect>,
}

impl Located {
    /// The line and column of a key of the document, such as `health.0.probe.http.port`. If the
    /// source does not contain the key, those of the nearest key around it.
    pub fn locate(&self, key: &str) -> (usize, usize) {
        let (at, _) = self.find(key);
        (at.line, at.column)
    }

    /// Converts a problem of the document into a diagnostic of its source, with the position and
    /// with the key as the source names it.
    pub fn diagnostic(&self, problem: &Problem) -> Diagnostic {
        let (at, key) = self.find(&problem.key);
        let (source, message) = (self.source.clone(), problem.message.clone());
        Diagnostic { source, line: at.line, column: at.column, key, message }
    }

    /// Adds the violations of the document by itself.
    fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        for problem in self.document.problems() {
            let (at, key) = self.find(&problem.key);
            diagnostics.add(at, key, problem.message);
        }
    }

    fn find(&self, key: &str) -> (Position, String) {
        match self.dialect {
            None => (self.tree.locate(key).0, key.into()),
            Some(dialect) => dialect.locate(&self.tree, key),
        }
    }
}

/// Parses a source that must contain only native documents.
///
/// # Errors
///
/// As [`parse_with`].
pub fn parse(name: &str, text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse_with(name, text, &[])
}

/// Parses all documents of a source: native ones, and those of the foreign systems of `dialects`.
/// `name` is the name of the source in diagnostics.
///
/// # Errors
///
/// All diagnostics of the source, in the order of its lines; never an empty list.
pub fn parse_with(
    name: &str,
    text: &str,
    dialects: &[&'static dyn Dialect],
) -> Result<Parsed, Vec<Diagnostic>> {
    let mut diagnostics = Diagnostics::new(name);
    let Source { is_json, documents } = read::read(text, &mut diagnostics);
    // If a part could not be parsed, keys that seem to be missing may be in that part.
    let is_valid = diagnostics.len() == 0;
    let mut parsed = Vec::new();
    for tree in documents {
        // A list at the top level is equivalent to a stream.
        let items = match tree.value {
            Value::List(items) => items,
            _ => vec![tree],
        };
        for tree in items {
            let Some(located) = one(name, tree, is_json, dialects, &mut diagnostics) else {
                debug_assert!(diagnostics.len() > 0, "no document is dropped in silence");
                continue;
            };
            if is_valid {
                located.check(&mut diagnostics);
            }
            parsed.push(located);
        }
    }
    if parsed.is_empty() && diagnostics.len() == 0 {
        let message = "there is no document here: a service begins with `service: /path`";
        diagnostics.add(Position::START, "", message);
    }
    match diagnostics.into_list() {
        diagnostics if diagnostics.is_empty() => Ok(Parsed { documents: parsed }),
        diagnostics => Err(diagnostics),
    }
}

fn one(
    source: &str,
    tree: Node,
    is_json: bool,
    dialects: &[&'static dyn Dialect],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Located> {
    let has = |key| tree.get(key).is_some();
    let (dialect, document) = if has("service") {
        let spec = native::service(tree.clone(), is_json, diagnostics);
        (None, spec.map(Document::service))
    } else if has("gateway") {
        (None, native::gateway(tree.clone(), is_json, diagnostics).map(Document::Gateway))
    } else if let Some(dialect) = dialects.iter().find(|dialect| dialect.reads(&tree)) {
        (Some(*dialect), dialect.read(&tree, is_json, diagnostics))
    } else {
        unknown(&tree, dialects, diagnostics);
        return None;
    };
    Some(Located { document: document?, source: source.into(), tree, dialect })
}

/// Reports a document of an unknown kind, with the kind that was probably intended.
fn unknown(tree: &Node, dialects: &[&'static dyn Dialect], diagnostics: &mut Diagnostics<'_>) {
    let native = ["a service has the key `service`", "a gateway `gateway`"];
    let foreign = dialects.iter().map(|dialect| dialect.kinds());
    let kinds = native.into_iter().chain(foreign).collect::<Vec<_>>().join(", ");
    let Value::Map(entries) = &tree.value else {
        if !matches!(tree.value, Value::Refused) {
            diagnostics.add(tree.at, "", format!("expected a mapping: {kinds}"));
        }
        return;
    };
    let near = entries
        .iter()
        .find_map(|entry| nearest(&entry.key, ["service", "gateway"]).map(|near| (entry, near)));
    match near {
        Some((entry, near)) => {
            let message = format!("unknown key `{}`{}", entry.key, hint(Some(near)));
            diagnostics.add(entry.key_at, entry.key.clone(), message);
        }
        None => diagnostics.add(tree.at, "", format!("this is no document Muster knows: {kinds}")),
    }
}
