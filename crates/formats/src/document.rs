//! The documents of a source: native ones and those of foreign systems, distinguished by their
//! keys.

use model::{Document, Problem};

use crate::dialect::Dialect;
use crate::fault::{Fault, Faults, hint, nearest};
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

    /// Converts a problem of the document into a fault of its source, with the position and with
    /// the key as the source names it.
    pub fn fault(&self, problem: &Problem) -> Fault {
        let (at, key) = self.find(&problem.key);
        let (source, message) = (self.source.clone(), problem.message.clone());
        Fault { source, line: at.line, column: at.column, key, message }
    }

    /// Adds the violations of the document by itself.
    fn check(&self, faults: &mut Faults<'_>) {
        for problem in self.document.problems() {
            let (at, key) = self.find(&problem.key);
            faults.add(at, key, problem.message);
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
pub fn parse(name: &str, text: &str) -> Result<Parsed, Vec<Fault>> {
    parse_with(name, text, &[])
}

/// Parses all documents of a source: native ones, and those of the foreign systems of `dialects`.
/// `name` is the name of the source in faults.
///
/// # Errors
///
/// All faults of the source, in the order of its lines; never an empty list.
pub fn parse_with(
    name: &str,
    text: &str,
    dialects: &[&'static dyn Dialect],
) -> Result<Parsed, Vec<Fault>> {
    let mut faults = Faults::new(name);
    let Source { is_json, documents } = read::read(text, &mut faults);
    // If a part could not be parsed, keys that seem to be missing may be in that part.
    let is_sound = faults.len() == 0;
    let mut parsed = Vec::new();
    for tree in documents {
        // A list at the top level is equivalent to a stream.
        let items = match tree.value {
            Value::List(items) => items,
            _ => vec![tree],
        };
        for tree in items {
            let Some(located) = one(name, tree, is_json, dialects, &mut faults) else {
                debug_assert!(faults.len() > 0, "no document is dropped in silence");
                continue;
            };
            if is_sound {
                located.check(&mut faults);
            }
            parsed.push(located);
        }
    }
    if parsed.is_empty() && faults.len() == 0 {
        let message = "there is no document here: a service begins with `service: /path`";
        faults.add(Position::START, "", message);
    }
    match faults.into_list() {
        faults if faults.is_empty() => Ok(Parsed { documents: parsed }),
        faults => Err(faults),
    }
}

fn one(
    source: &str,
    tree: Node,
    is_json: bool,
    dialects: &[&'static dyn Dialect],
    faults: &mut Faults<'_>,
) -> Option<Located> {
    let has = |key| tree.get(key).is_some();
    let (dialect, document) = if has("service") {
        let spec = native::service(tree.clone(), is_json, faults);
        (None, spec.map(Document::service))
    } else if has("gateway") {
        (None, native::gateway(tree.clone(), is_json, faults).map(Document::Gateway))
    } else if let Some(dialect) = dialects.iter().find(|dialect| dialect.reads(&tree)) {
        (Some(*dialect), dialect.read(&tree, is_json, faults))
    } else {
        unknown(&tree, dialects, faults);
        return None;
    };
    Some(Located { document: document?, source: source.into(), tree, dialect })
}

/// Reports a document of an unknown kind, with the kind that was probably intended.
fn unknown(tree: &Node, dialects: &[&'static dyn Dialect], faults: &mut Faults<'_>) {
    let native = ["a service has the key `service`", "a gateway `gateway`"];
    let foreign = dialects.iter().map(|dialect| dialect.kinds());
    let kinds = native.into_iter().chain(foreign).collect::<Vec<_>>().join(", ");
    let Value::Map(entries) = &tree.value else {
        if !matches!(tree.value, Value::Refused) {
            faults.add(tree.at, "", format!("expected keys and values: {kinds}"));
        }
        return;
    };
    let near = entries
        .iter()
        .find_map(|entry| nearest(&entry.key, ["service", "gateway"]).map(|near| (entry, near)));
    match near {
        Some((entry, near)) => {
            let message = format!("unknown key `{}`{}", entry.key, hint(Some(near)));
            faults.add(entry.key_at, entry.key.clone(), message);
        }
        None => faults.add(tree.at, "", format!("this is no document Muster knows: {kinds}")),
    }
}
