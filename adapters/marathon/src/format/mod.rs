//! The conversion of Marathon's app definitions (v2 API, up to 1.11) into services, and back.
//!
//! An app becomes a service of one container, or of one process if it has no image. Keys of
//! Marathon have Marathon's defaults (an interval of 60 s, an upgrade that keeps all instances and
//! may double them); settings that Marathon does not have, such as the deadline of a rollout, have
//! Muster's. A request for an unsupported feature is rejected with the name of the key.
//!
//! Files and requests share one pipeline. `read` takes a syntax tree; `unsupported` removes
//! unsupported keys and reports them; the rest is decoded into an [`App`] (`app`, `container`,
//! `check`), normalized (`normal`), validated (`valid`) and translated into a service (`service`,
//! `probes`, `environment`). Problems in a file are reported with their lines, where `key` maps
//! keys of the model back to keys of the app. Problems in a request are reported in Marathon's
//! format (`rejected`).
//!
//! Requests have further parts: updates of apps (`update`), groups (`group`) and label selectors
//! (`selector`). `service_ports` assigns ports for load balancers. `describe` converts a native
//! service into an app, and `merge` applies a change of that app to the service.

mod app;
mod check;
mod container;
mod describe;
mod environment;
mod fetch;
mod group;
mod key;
mod merge;
mod names;
mod normal;
mod number;
mod probes;
mod read;
mod rejected;
mod selector;
mod service;
mod service_ports;
mod unsupported;
mod update;
mod valid;

use model::Document;

use valid::Audience;

use formats::Dialect;
use formats::diagnostic::Diagnostics;
use formats::tree::{Node, Position};

pub use app::App;
pub use check::HealthCheck;
pub use group::{GroupSource, GroupUpdate, read_group};
pub use key::key_of;
pub use rejected::{Details, Rejected};
pub use selector::LabelSelector;
pub use update::{Update, read_app, update_app, update_apps};
pub use valid::reserved;

/// The name of the adapter in the sources of revisions.
pub const ADAPTER: &str = "marathon";

/// The dialect for app definitions in files.
#[derive(Debug, Clone, Copy)]
pub struct Apps;

impl Dialect for Apps {
    fn kinds(&self) -> &'static str {
        "a Marathon app `id`"
    }

    fn reads(&self, tree: &Node) -> bool {
        tree.get("id").is_some()
    }

    fn read(
        &self,
        tree: &Node,
        is_json: bool,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Option<Document> {
        app(tree, is_json, diagnostics)
    }

    fn locate(&self, tree: &Node, key: &str) -> (Position, String) {
        key::locate(tree, key)
    }
}

/// Reads the app of a file as a service with the app as its source. Problems are added to
/// `diagnostics`.
fn app(tree: &Node, is_json: bool, diagnostics: &mut Diagnostics<'_>) -> Option<Document> {
    for (key, what) in [
        ("apps", "a file holds apps, not groups: list them as documents of their own"),
        ("groups", "a file holds apps, not groups: list them as documents of their own"),
        ("containers", "pods are not supported yet"),
    ] {
        if tree.get(key).is_some() {
            diagnostics.add(tree.locate(key).0, key, what);
            return None;
        }
    }
    let mut readable = tree.clone();
    let reported = unsupported::reported(&mut readable);
    let (read, problems) = match read::read(readable, None, is_json, Audience::Author, diagnostics)
    {
        Ok(read) => (Some(read), Vec::new()),
        Err(problems) => (None, problems),
    };
    let read = read.filter(|_| reported.is_empty());
    for problem in reported.into_iter().chain(problems) {
        diagnostics.add(tree.locate(&problem.key).0, problem.key, problem.message);
    }
    let (app, spec) = read?;
    Some(Document::foreign(spec, app.source()))
}
