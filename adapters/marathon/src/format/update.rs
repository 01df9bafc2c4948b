//! Request bodies that create or update apps.

use model::{ServiceId, Spec, Timestamp};
use serde_json::value::RawValue;

use formats::json;
use formats::tree::{Node, Position, Step, Value};

use super::app::App;
use super::names::Mode;
use super::read::{named, read, resolve};
use super::rejected::{Listener, Rejected};
use super::valid::Audience;
use super::{service, unsupported};

/// The result of an update of an app.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The new definition of the app.
    App(Box<App>),
    /// A rollback to the app's definition at this version.
    Version(Timestamp),
}

/// Parses a body that must be a JSON object, and removes nulls.
fn object(body: &[u8]) -> Result<Node, Rejected> {
    let mut tree = json::tree(body).map_err(|error| Rejected::unreadable(&error))?;
    unsupported::drop_nulls(&mut tree);
    match tree.value {
        Value::Map(_) => Ok(tree),
        _ => Err(Rejected::type_at(&[], "error.expected.jsobject")),
    }
}

/// Reads the definition of a new app. Its ids may be relative to the group `base` if it is part of
/// one.
///
/// # Errors
///
/// Returns the response for a body that is not a valid app.
pub fn read_app(body: &[u8], base: Option<&str>) -> Result<App, Rejected> {
    make(object(body)?, base, &[])
}

/// Decodes an app from a tree that is located at `within` in its body.
pub(super) fn make(mut tree: Node, base: Option<&str>, within: &[Step]) -> Result<App, Rejected> {
    unsupported::drop_nulls(&mut tree);
    unsupported::drop_reported(&mut tree);
    let mut listener = Listener::within(within);
    match read(tree, base, true, Audience::Client, &mut listener) {
        Ok((app, _)) => Ok(app),
        Err(problems) => Err(listener.rejected(problems)),
    }
}

/// Applies an update of the app `id` to `current`. If `partial`, keys that are absent from the body
/// keep their current values. Without `current`, the update creates the app.
///
/// # Errors
///
/// Returns the response for a body that does not result in a valid app.
pub fn update_app(
    current: Option<&App>,
    id: &ServiceId,
    body: &[u8],
    partial: bool,
) -> Result<Update, Rejected> {
    let mut update = object(body)?;
    if matches!(&update.get("networks").map(|n| &n.value), Some(Value::List(list)) if list.is_empty())
    {
        // An empty list of networks is equivalent to an absent one.
        update.take("networks");
    }
    let version = update.take("version");
    unsupported::drop_reported(&mut update);
    // The id in the path overrides the id in the body.
    let text = Value::Text(id.as_str().into());
    update.put("id", Node { at: Position::START, value: text });
    if let Some(version) = version {
        return version_alone(&version, &update).map(Update::Version);
    }
    let tree = match current.filter(|_| partial) {
        Some(current) => merge(current, update),
        None => update,
    };
    make(tree, None, &[]).map(|app| Update::App(Box::new(app)))
}

fn version_alone(version: &Node, update: &Node) -> Result<Timestamp, Rejected> {
    if matches!(&update.value, Value::Map(entries) if entries.len() > 1) {
        let message = "The 'version' field may only be combined with the 'id' field.";
        // Repeated in the summary, because some clients show only that.
        return Err(Rejected { message: message.into(), ..Rejected::value_at(&[], message) });
    }
    timestamp(version).ok_or_else(|| not_a_time(&[]))
}

/// Parses a version, which is a timestamp.
pub(super) fn timestamp(version: &Node) -> Option<Timestamp> {
    match &version.value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// The error for a version that is not a timestamp.
pub(super) fn not_a_time(within: &[Step]) -> Rejected {
    let at = [within, &[Step::Key("version".into())]].concat();
    Rejected::type_at(&at, "error.expected.date.isoformat")
}

/// Merges `update` into `current`. Ports and networks in `update` override all keys of `current` that
/// contradict them. As in Marathon, `cmd` and `args` do not override each other.
fn merge(current: &App, update: Node) -> Node {
    let mut base = current.clone();
    let gives = |key: &str| update.get(key).is_some();
    if gives("uris") {
        base.fetch.clear();
    }
    if gives("ports") {
        base.port_definitions = None;
    }
    if let Some(is_host) = network_given(&update) {
        base.networks.clear();
        if is_host != current.is_on_host() {
            base.port_definitions = None;
            if let Some(container) = &mut base.container {
                container.port_mappings = None;
            }
        }
    }
    let mut merged = base.to_tree();
    if let Value::Map(entries) = update.value {
        entries.into_iter().for_each(|entry| merged.put(&entry.key, entry.node));
    }
    merged
}

/// Whether an update selects the host network; `None` if it does not mention networks.
fn network_given(update: &Node) -> Option<bool> {
    let newer = update.get("networks").and_then(|networks| match &networks.value {
        Value::List(networks) => networks.first()?.get("mode")?.text(),
        _ => None,
    });
    let docker = update.get("container").and_then(|container| container.get("docker"));
    let older = docker.and_then(|docker| docker.get("network")?.text());
    let is_host = |word: &str| word.eq_ignore_ascii_case(Mode::Host.word());
    newer.or(older).map(is_host)
}

/// Splits an update of several apps into pairs of an app's id and its body.
///
/// # Errors
///
/// Returns the response for a list that is malformed or lacks an id. The bodies are not validated.
pub fn update_apps(body: &[u8]) -> Result<Vec<(ServiceId, Vec<u8>)>, Rejected> {
    let unreadable = |error| Rejected::unreadable(&error);
    let Value::List(parts) = json::tree(body).map_err(unreadable)?.value else {
        return Err(Rejected::type_at(&[], "error.expected.jsarray"));
    };
    let bodies: Vec<&RawValue> = serde_json::from_slice(body).map_err(unreadable)?;
    let parts = parts.iter().zip(bodies).enumerate();
    parts.map(|(index, (part, body))| Ok((part_id(part, index)?, body.get().into()))).collect()
}

/// The id of the app that an item of an update refers to.
fn part_id(part: &Node, index: usize) -> Result<ServiceId, Rejected> {
    let at = [Step::Index(index), Step::Key("id".into())];
    if !matches!(part.value, Value::Map(_)) {
        return Err(Rejected::type_at(&at[..1], "error.expected.jsobject"));
    }
    let id = match part.get("id").filter(|id| !id.is_null()).map(|id| &id.value) {
        Some(Value::Text(id)) => resolve("/", id),
        Some(_) => return Err(Rejected::type_at(&at, "error.expected.jsstring")),
        None => return Err(Rejected::type_at(&at, "error.path.missing")),
    };
    id.parse().map_err(|error: model::id::Error| Rejected::value_at(&at, error.to_string()))
}

impl App {
    /// Translates the app into a service.
    ///
    /// # Errors
    ///
    /// Returns the problems of the service. There are none for an app that has been read.
    pub fn spec(&self) -> Result<Spec, Rejected> {
        let spec = service::translate(self);
        if spec.problems().is_empty() {
            return Ok(spec);
        }
        Err(Listener::default().rejected(named(&spec, &self.to_tree())))
    }

    /// The app as the tree of an equivalent request body.
    fn to_tree(&self) -> Node {
        let tree = json::tree(self.to_source().as_bytes());
        let mut tree = tree.expect("an app is written as JSON, and not much of it");
        unsupported::drop_nulls(&mut tree);
        tree
    }
}
