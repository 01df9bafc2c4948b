//! Marathon's app definitions (v2 API, 1.11 and before) as services, and services as apps.
//!
//! An app becomes one service of one container, or of one process if it has no image. Defaults
//! are Marathon's where a key is one of Marathon's (an interval of 60 s, an upgrade that keeps
//! all and doubles), and Muster's where Marathon has no such thing (a rollout's deadline). What
//! an app asks for that Muster cannot do is refused by name.
//!
//! There is one way in, for files and for requests: `read` takes a tree, has `refused` take out
//! what cannot be done, decodes an [`App`] (`app` with its parts `container` and `check`), brings
//! it into its one form (`normal`), judges it (`valid`) and makes a service of it (`service`,
//! `probes`, `environment`). A file is told what is wrong at its lines, with `key` leading from
//! the model's keys back to Marathon's; a request is told in Marathon's words by `rejected`.
//!
//! Requests say more than apps: `update` reads changes of them, `group` groups, `selector` which
//! apps are meant. `service_ports` numbers their ports for load balancers, and `describe` makes an
//! app of a service that was none, whose changes `over` carries over to it.

mod app;
mod check;
mod container;
mod describe;
mod environment;
mod group;
mod key;
mod names;
mod normal;
mod number;
mod over;
mod probes;
mod read;
mod refused;
mod rejected;
mod selector;
mod service;
mod service_ports;
mod update;
mod valid;

use model::Document;

use valid::Audience;

use formats::Dialect;
use formats::fault::Faults;
use formats::tree::{Node, Position};

pub use app::App;
pub use check::HealthCheck;
pub use group::{GroupUpdate, read_group};
pub use key::key_of;
pub use rejected::{Details, Rejected};
pub use selector::LabelSelector;
pub use update::{Update, read_app, update_app, update_apps};
pub use valid::reserved;

/// What the sources of apps are kept under.
pub const ADAPTER: &str = "marathon";

/// App definitions in files.
#[derive(Debug, Clone, Copy)]
pub struct Apps;

impl Dialect for Apps {
    fn kinds(&self) -> &'static str {
        "a Marathon app `id`"
    }

    fn reads(&self, tree: &Node) -> bool {
        tree.get("id").is_some()
    }

    fn read(&self, tree: &Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Document> {
        app(tree, is_json, faults)
    }

    fn locate(&self, tree: &Node, key: &str) -> (Position, String) {
        key::locate(tree, key)
    }
}

/// Reads an app of a file as a service that is described by it. What is wrong is added to `faults`.
fn app(tree: &Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Document> {
    for (key, what) in [
        ("apps", "a file holds apps, not groups: list them as documents of their own"),
        ("groups", "a file holds apps, not groups: list them as documents of their own"),
        ("containers", "pods are not supported yet"),
    ] {
        if tree.get(key).is_some() {
            faults.add(tree.locate(key).0, key, what);
            return None;
        }
    }
    let mut readable = tree.clone();
    let reported = refused::reported(&mut readable);
    let (read, problems) = match read::read(readable, None, is_json, Audience::Author, faults) {
        Ok(read) => (Some(read), Vec::new()),
        Err(problems) => (None, problems),
    };
    let read = read.filter(|_| reported.is_empty());
    for problem in reported.into_iter().chain(problems) {
        faults.add(tree.locate(&problem.key).0, problem.key, problem.message);
    }
    let (app, spec) = read?;
    Some(Document::Foreign(Box::new(spec), app.source()))
}
