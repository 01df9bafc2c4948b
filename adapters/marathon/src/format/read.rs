//! The decoding of an app and its translation into a service, shared by files and requests.

use model::{Problem, Spec};

use formats::decode::{DecodeError, DiagnosticSink, decode};
use formats::tree::{Node, Position, Step, Value, dotted};

use super::app::App;
use super::valid::{self, Audience};
use super::{key, normal, service, unsupported};

/// Reads an app. Relative ids in an app of a group are resolved from the group's path `base`.
/// Values of wrong types are reported to the listener.
///
/// # Errors
///
/// Returns all other problems. The list is empty if all of them were reported to the listener.
pub(super) fn read(
    mut tree: Node,
    base: Option<&str>,
    is_json: bool,
    audience: Audience,
    listener: &mut dyn DiagnosticSink,
) -> Result<(App, Spec), Vec<Problem>> {
    let mut problems = unsupported::remove_unsupported(&mut tree);
    resolve_ids(&mut tree, base, is_json);
    let written = tree.clone();
    let mut listener = SuppressMissing { listener, unsupported: &problems };
    let Some(mut app) = decode::<App>(&mut tree, is_json, &mut listener) else {
        return Err(problems);
    };
    let mut further = normal::normalise(&mut app);
    let spec = service::translate(&app);
    // An app with contradictory keys is incomplete in its normal form, so it is not validated.
    if further.is_empty() {
        further = valid::problems(&app, audience);
        for problem in named(&spec, &written) {
            let is_reported = |reported: &Problem| match reported.key.as_str() {
                "" => problem.key.is_empty(),
                key => problem.key.starts_with(key),
            };
            if !further.iter().any(is_reported) {
                further.push(problem);
            }
        }
    }
    // A required key may only be missing because a key next to it was removed as unsupported; that
    // is not reported. A command that is given twice always is.
    let twice = app.cmd.is_some() && app.args.is_some();
    further.retain(|problem| {
        let is_sibling =
            || problems.iter().any(|unsupported| unsupported.key.starts_with(&problem.key));
        ((problem.key.is_empty() || problem.key == "args") && twice) || !is_sibling()
    });
    problems.append(&mut further);
    match problems.is_empty() {
        true => Ok((app, spec)),
        false => Err(problems),
    }
}

/// The problems of a service, with the keys of its app.
pub(super) fn named(spec: &Spec, app: &Node) -> Vec<Problem> {
    let named = |problem: Problem| Problem::new(key::locate(app, &problem.key).1, problem.message);
    spec.problems().into_iter().map(named).collect()
}

/// Forwards all errors except those about a missing key next to one that was rejected.
struct SuppressMissing<'a> {
    listener: &'a mut dyn DiagnosticSink,
    unsupported: &'a [Problem],
}

impl DiagnosticSink for SuppressMissing<'_> {
    fn report(&mut self, at: Position, path: &[Step], error: &DecodeError) {
        let within = format!("{}.", dotted(path));
        let is_sibling =
            self.unsupported.iter().any(|unsupported| unsupported.key.starts_with(&within));
        if !(is_sibling && matches!(error, DecodeError::Missing(_))) {
            self.listener.report(at, path, error);
        }
    }

    fn is_full(&self) -> bool {
        self.listener.is_full()
    }
}

/// Makes the app's id and its dependencies absolute. In a group, both are relative to the group.
/// Otherwise dependencies are relative to the app itself, so that `../db` is its sibling.
fn resolve_ids(tree: &mut Node, base: Option<&str>, is_json: bool) {
    let absolute = |node: &mut Node, resolve: &dyn Fn(&str) -> String| match &node.value {
        Value::Plain(_) if is_json => {}
        Value::Text(path) | Value::Plain(path) => node.value = Value::Text(resolve(path)),
        _ => {}
    };
    let Value::Map(entries) = &mut tree.value else { return };
    let mut id = String::from("/");
    for entry in entries.iter_mut().filter(|entry| entry.key == "id") {
        absolute(&mut entry.node, &|path| resolve(base.unwrap_or("/"), path));
        id = entry.node.text().unwrap_or_default().into();
    }
    for entry in entries.iter_mut().filter(|entry| entry.key == "dependencies") {
        if let Value::List(items) = &mut entry.node.value {
            let within = |path: &str| resolve_within(base.unwrap_or(&id), path);
            items.iter_mut().for_each(|item| absolute(item, &within));
        }
    }
}

/// Resolves a path from `base`, where `../db` is a sibling of `base`. A path that leads out of the
/// root keeps its leading `..`, and is not a valid id.
pub(super) fn resolve(base: &str, path: &str) -> String {
    let mut resolved: Vec<&str> = match path.starts_with('/') {
        true => Vec::new(),
        false => base.split('/').filter(|segment| !segment.is_empty()).collect(),
    };
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if resolved.last().is_some_and(|last| *last != "..") => drop(resolved.pop()),
            segment => resolved.push(segment),
        }
    }
    format!("/{}", resolved.join("/"))
}

/// Resolves a path from `base`, where a path that leads out of the root resolves to the root.
pub(super) fn resolve_within(base: &str, path: &str) -> String {
    let resolved = resolve(base, path);
    match resolved.trim_start_matches("/..") {
        "" => "/".into(),
        inside => inside.into(),
    }
}
