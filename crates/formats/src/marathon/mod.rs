//! Marathon's app definitions (v2 API, 1.11 and before) as services.
//!
//! An app becomes one service of one container, or of one process if it has no image. Defaults
//! are Marathon's where a key is one of Marathon's (an interval of 60 s, an upgrade that keeps
//! all and doubles), and Muster's where Marathon has no such thing (a rollout's deadline). What
//! an app asks for that Muster cannot do is refused by name.
//!
//! `app` is what people write, `refused` what cannot be done, `service` and its siblings the
//! translation, `key` the way back from the model's keys to Marathon's.
//!
//! Those who speak Marathon's API are shown apps again: `definition` holds an app as JSON in its
//! `normal` form, whose types `shape` checks, and becomes a service by the translation above, as
//! if it were a file. `group` and `selector` read what else is said of apps, `describe` makes an
//! app of a service that was none, and `rejected` says what is wrong in Marathon's words.

mod app;
mod checks;
mod definition;
mod describe;
mod environment;
mod group;
mod key;
mod normal;
mod ports;
mod refused;
mod rejected;
mod selector;
mod service;
mod shape;

use model::{Problem, Spec};

use crate::decode::decode;
use crate::fault::Faults;
use crate::tree::Node;

use app::App as Written;
pub use definition::{App, Update, read_app, update_app, update_apps};
pub use group::{GroupUpdate, read_group};
pub(crate) use key::locate;
pub use rejected::{Details, Rejected};
pub use selector::LabelSelector;

/// Reads an app as a service. What is wrong is added to `faults`.
pub(crate) fn app(tree: &Node, is_json: bool, faults: &mut Faults<'_>) -> Option<Spec> {
    for (key, what) in [
        ("apps", "groups are not supported yet: list the apps as documents of their own"),
        ("groups", "groups are not supported yet: list the apps as documents of their own"),
        ("containers", "pods are not supported yet"),
    ] {
        if tree.get(key).is_some() {
            faults.add(tree.locate(key).0, key, what);
            return None;
        }
    }
    let mut readable = tree.clone();
    let refused = refused::take_out(&mut readable);
    let app: Option<Written> = decode(&mut readable, is_json, faults);
    let problems = match app.map(|app| service::translate(&app)) {
        Some(Ok(spec)) if refused.is_empty() => return Some(spec),
        Some(Err(problems)) => problems,
        _ => Vec::new(),
    };
    // What is missing beside something refused may be missing because of it.
    let stands_alone =
        |problem: &Problem| !refused.iter().any(|refused| refused.key.starts_with(&problem.key));
    let problems: Vec<_> = problems.into_iter().filter(stands_alone).collect();
    for problem in refused.into_iter().chain(problems) {
        faults.add(tree.locate(&problem.key).0, problem.key, problem.message);
    }
    None
}
