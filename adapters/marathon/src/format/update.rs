//! What requests say of apps: one that is to be made, and changes of those there are.

use model::{ServiceId, Spec, Timestamp};
use serde_json::value::RawValue;

use formats::json;
use formats::tree::{Node, Position, Step, Value};

use super::app::App;
use super::names::Mode;
use super::read::{named, read, resolve};
use super::rejected::{Listener, Rejected};
use super::valid::Audience;
use super::{refused, service};

/// What an update makes of an app.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// This.
    App(Box<App>),
    /// What it was at this version.
    Version(Timestamp),
}

/// Reads a body that must be an object, without nulls.
fn object(body: &[u8]) -> Result<Node, Rejected> {
    let mut tree = json::tree(body).map_err(|error| Rejected::unreadable(&error))?;
    refused::drop_nulls(&mut tree);
    match tree.value {
        Value::Map(_) => Ok(tree),
        _ => Err(Rejected::type_at(&[], "error.expected.jsobject")),
    }
}

/// Reads an app that is to be made. Ids in it may be relative to the group `base`, if it is part
/// of one.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_app(body: &[u8], base: Option<&str>) -> Result<App, Rejected> {
    make(object(body)?, base, &[])
}

/// Makes an app of a tree, which stands at `within` in its body.
pub(super) fn make(mut tree: Node, base: Option<&str>, within: &[Step]) -> Result<App, Rejected> {
    refused::drop_nulls(&mut tree);
    refused::drop_reported(&mut tree);
    let mut listener = Listener::within(within);
    match read(tree, base, true, Audience::Client, &mut listener) {
        Ok((app, _)) => Ok(app),
        Err(problems) => Err(listener.rejected(problems)),
    }
}

/// Reads what an update of the app `id` makes of `current`: with `partial`, what is not spoken of
/// stays. An app that is not there is made.
///
/// # Errors
///
/// What is wrong with it.
pub fn update_app(
    current: Option<&App>,
    id: &ServiceId,
    body: &[u8],
    partial: bool,
) -> Result<Update, Rejected> {
    let mut update = object(body)?;
    if matches!(&update.get("networks").map(|n| &n.value), Some(Value::List(list)) if list.is_empty())
    {
        // No networks are as good as none spoken of.
        update.take("networks");
    }
    let version = update.take("version");
    refused::drop_reported(&mut update);
    // Whatever the body says, the path says which app is meant.
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
        // Said at the top as well: it is all that some clients show.
        return Err(Rejected { message: message.into(), ..Rejected::value_at(&[], message) });
    }
    timestamp(version).ok_or_else(|| not_a_time(&[]))
}

/// The time that a version is.
pub(super) fn timestamp(version: &Node) -> Option<Timestamp> {
    match &version.value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A version that is no time.
pub(super) fn not_a_time(within: &[Step]) -> Rejected {
    let at = [within, &[Step::Key("version".into())]].concat();
    Rejected::type_at(&at, "error.expected.date.isoformat")
}

/// The keys of `update` in place of those of `current`. Where keys contradict each other, what is
/// given now wins over what was there.
fn merge(current: &App, update: Node) -> Node {
    let mut base = current.clone();
    let gives = |key: &str| update.get(key).is_some();
    if gives("cmd") {
        base.args = None;
    }
    if gives("args") {
        base.cmd = None;
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

/// Whether an update asks for the network of the node, if it speaks of networks at all.
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

/// Takes an update of several apps apart: each app's id and its part.
///
/// # Errors
///
/// What is wrong with the list; its parts are not looked into.
pub fn update_apps(body: &[u8]) -> Result<Vec<(ServiceId, Vec<u8>)>, Rejected> {
    let unreadable = |error| Rejected::unreadable(&error);
    let Value::List(parts) = json::tree(body).map_err(unreadable)?.value else {
        return Err(Rejected::type_at(&[], "error.expected.jsarray"));
    };
    let bodies: Vec<&RawValue> = serde_json::from_slice(body).map_err(unreadable)?;
    let parts = parts.iter().zip(bodies).enumerate();
    parts.map(|(index, (part, body))| Ok((part_id(part, index)?, body.get().into()))).collect()
}

/// Which app a part of an update of several is about.
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
    /// The service that it is.
    ///
    /// # Errors
    ///
    /// What cannot be. An app that was read is a service.
    pub fn spec(&self) -> Result<Spec, Rejected> {
        let spec = service::translate(self);
        if spec.problems().is_empty() {
            return Ok(spec);
        }
        Err(Listener::default().rejected(named(&spec, &self.to_tree())))
    }

    /// What a body that says the same would be read as.
    fn to_tree(&self) -> Node {
        let tree = json::tree(self.to_source().as_bytes());
        let mut tree = tree.expect("an app is written as JSON, and not much of it");
        refused::drop_nulls(&mut tree);
        tree
    }
}
