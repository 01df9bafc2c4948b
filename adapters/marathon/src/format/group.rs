//! Groups of apps in request bodies.

use std::collections::BTreeSet;

use model::{ServiceId, Source, Timestamp};
use serde::{Deserialize, Serialize};

use formats::json;
use formats::tree::{Node, Step, Value};

use super::ADAPTER;
use super::app::App;
use super::read::{resolve, resolve_within};
use super::rejected::Rejected;
use super::unsupported::drop_nulls;
use super::update::{make, not_a_time, timestamp};
use super::valid;

/// An update of a group. A field that is `None` leaves the group's value unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupUpdate {
    /// The path of the group.
    pub id: String,
    /// The complete list of apps directly in the group.
    pub apps: Option<Vec<App>>,
    /// The complete list of direct subgroups.
    pub groups: Option<Vec<GroupUpdate>>,
    /// Apps and groups on which all apps in the group depend.
    pub dependencies: Option<BTreeSet<ServiceId>>,
    /// The factor by which to multiply the number of instances of all apps in the group.
    pub scale_by: Option<f64>,
    /// The version to which to roll back.
    pub version: Option<Timestamp>,
}

/// The apps of a group and its subgroups, as the source of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSource {
    /// The path of the group.
    pub id: ServiceId,
    /// The complete apps.
    pub apps: Vec<App>,
}

impl GroupSource {
    /// The group as the source of a bundle.
    pub fn source(&self) -> Source {
        let text = serde_json::to_string(self).expect("a group consists of nothing but JSON");
        Source { adapter: ADAPTER.into(), text }
    }

    /// Reads the source of a bundle. Returns `None` if it is that of another adapter, or not in the
    /// form of [`GroupSource::source`].
    pub fn read(source: &Source) -> Option<GroupSource> {
        let source = Some(source).filter(|source| source.adapter == ADAPTER)?;
        serde_json::from_str(&source.text).ok()
    }
}

/// Reads an update of the group at `path`, or of the group that the body names by `id`. An empty
/// body creates the group or leaves it unchanged.
///
/// # Errors
///
/// Returns the response for a body that is not a valid update.
pub fn read_group(body: &[u8], path: &str) -> Result<GroupUpdate, Rejected> {
    // Some clients send an empty string instead of no body.
    let is_empty = matches!(body.trim_ascii(), b"" | b"\"\"");
    let body = if is_empty { b"{}" } else { body };
    let mut tree = json::tree(body).map_err(|error| Rejected::unreadable(&error))?;
    drop_nulls(&mut tree);
    group(tree, path, &mut Vec::new())
}

/// Decodes the list under `key` item by item, and passes the location of each to `item`.
fn list<T>(
    tree: &mut Node,
    key: &str,
    at: &mut Vec<Step>,
    mut item: impl FnMut(Node, &mut Vec<Step>) -> Result<T, Rejected>,
) -> Result<Option<Vec<T>>, Rejected> {
    let Some(list) = tree.take(key) else { return Ok(None) };
    at.push(Step::Key(key.into()));
    let Value::List(items) = list.value else {
        return Err(Rejected::type_at(at, "error.expected.jsarray"));
    };
    let mut read = Vec::with_capacity(items.len());
    for (index, node) in items.into_iter().enumerate() {
        at.push(Step::Index(index));
        read.push(item(node, at)?);
        at.pop();
    }
    at.pop();
    Ok(Some(read))
}

/// The recursion is bounded by the maximum depth of JSON that the parser accepts.
fn group(mut tree: Node, base: &str, at: &mut Vec<Step>) -> Result<GroupUpdate, Rejected> {
    if !matches!(tree.value, Value::Map(_)) {
        return Err(Rejected::type_at(at, "error.expected.jsobject"));
    }
    let within = |at: &[Step], key: &str| [at, &[Step::Key(key.into())]].concat();
    let id = match tree.take("id").map(|id| id.value) {
        None if at.is_empty() => base.to_string(),
        None => return Err(Rejected::type_at(&within(at, "id"), "error.path.missing")),
        Some(Value::Text(id)) => resolve(base, &id),
        Some(_) => return Err(Rejected::type_at(&within(at, "id"), "error.expected.jsstring")),
    };
    let invalid = |message: String| Err(Rejected::value_at(&within(at, "id"), message));
    if id != "/"
        && let Err(error) = id.parse::<ServiceId>()
    {
        return invalid(error.to_string());
    }
    if let Some(message) = valid::reserved(&id) {
        return invalid(message);
    }
    if !at.is_empty() {
        is_child(&id, base, at)?;
    }
    let apps = list(&mut tree, "apps", at, |app, at| {
        if !matches!(app.value, Value::Map(_)) {
            return Err(Rejected::type_at(at, "error.expected.jsobject"));
        }
        let app = make(app, Some(&id), at)?;
        is_child(app.id.as_str(), &id, at).map(|()| app)
    })?;
    let groups = list(&mut tree, "groups", at, |inner, at| group(inner, &id, at))?;
    let dependencies = list(&mut tree, "dependencies", at, |dependency, at| {
        let Value::Text(path) = dependency.value else {
            return Err(Rejected::type_at(at, "error.expected.jsstring"));
        };
        let path = resolve_within(&id, &path).parse();
        path.map_err(|error: model::id::Error| Rejected::value_at(at, error.to_string()))
    })?;
    let scale_by = scale(tree.take("scaleBy"), &within(at, "scaleBy"))?;
    let version = match tree.take("version") {
        None => None,
        Some(version) => Some(timestamp(&version).ok_or_else(|| not_a_time(at))?),
    };
    refuse_the_rest(tree, at)?;
    let says_what = apps.is_some() || groups.is_some() || dependencies.is_some();
    for (key, is_alone) in [
        ("scaleBy", scale_by.is_none() || !(says_what || version.is_some())),
        ("version", version.is_none() || !(says_what || scale_by.is_some())),
    ] {
        if !is_alone {
            let message = "not allowed in conjunction with other properties.";
            return Err(Rejected::value_at(&within(at, key), message));
        }
    }
    let dependencies = dependencies.map(BTreeSet::from_iter);
    Ok(GroupUpdate { id, apps, groups, dependencies, scale_by, version })
}

/// Rejects an app or a subgroup whose path is not directly below the group.
fn is_child(id: &str, group: &str, at: &[Step]) -> Result<(), Rejected> {
    let parent = id.rsplit_once('/').map(|(parent, _)| parent);
    if parent == Some(group.trim_end_matches('/')) {
        return Ok(());
    }
    let message = format!("Identifier is not child of {group}. Hint: use relative paths.");
    Err(Rejected::value_at(&[at, &[Step::Key("id".into())]].concat(), message))
}

fn scale(factor: Option<Node>, at: &[Step]) -> Result<Option<f64>, Rejected> {
    let Some(factor) = factor else { return Ok(None) };
    let number = match &factor.value {
        Value::Plain(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    match number {
        Some(number) if number >= 0.0 => Ok(Some(number)),
        Some(number) => Err(Rejected::value_at(at, format!("got {number}, expected 0 or more"))),
        None => Err(Rejected::type_at(at, "error.expected.jsnumber")),
    }
}

/// Rejects unknown keys. `pods` and `enforceRole` are accepted if they are empty or false.
fn refuse_the_rest(mut tree: Node, at: &[Step]) -> Result<(), Rejected> {
    let is_nothing = |value: &Value| match value {
        Value::List(items) => items.is_empty(),
        Value::Plain(text) => text == "false",
        _ => false,
    };
    let within = |key: &str| [at, &[Step::Key(key.into())]].concat();
    for (key, why) in [
        ("pods", "pods are not supported: describe their containers as apps"),
        ("enforceRole", "is not supported: Muster has no roles of groups"),
    ] {
        if tree.take(key).is_some_and(|node| !is_nothing(&node.value)) {
            return Err(Rejected::value_at(&within(key), why));
        }
    }
    match &tree.value {
        Value::Map(entries) => match entries.first() {
            Some(entry) => Err(Rejected::type_at(&within(&entry.key), "unknown field")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
