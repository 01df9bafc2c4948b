//! Marathon's apps, updates and groups, as requests have them.
//!
//! An accepted app is shown and stored, reads back as itself, and is a valid service. An accepted
//! update changes nothing when it is repeated; neither does an empty update, nor one with the shown
//! app. The paths of a group's apps begin with its own. A rejected request has a message in one of
//! the two forms that Marathon's clients know.

use formats::parse_with;
use marathon::format::{
    App, Apps, GroupUpdate, Rejected, Update, read_app, read_group, update_app, update_apps,
};
use model::{Document, ServiceId};

/// An app, read as a request and as a file.
pub(crate) fn app(input: &[u8]) {
    let app = match read_app(input, None) {
        Ok(app) => app,
        Err(rejected) => return refused(&rejected),
    };
    sound(&app);
    stays_as_it_is(&app);
    let shown = app.to_source();
    let spec = app.spec().unwrap_or_else(|rejected| panic!("{rejected:?}"));
    let file = parse_with("shown", &shown, &[&Apps]).map(|parsed| {
        parsed.documents.into_iter().map(|located| located.document).collect::<Vec<_>>()
    });
    let document = Document::foreign(spec, app.source());
    assert_eq!(file, Ok(vec![document]), "a file says the same: {shown}");
    let _ = read_app(input, Some("/in/a/group")).map_err(|rejected| refused(&rejected));
}

/// An app in the first line, and a request body for it in the rest.
pub(crate) fn update(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (Some(first), Some(body)) = (parts.next(), parts.next()) else { return };
    match update_apps(body) {
        Ok(parts) => {
            for (id, part) in parts {
                let _ = update_app(None, &id, &part, true).map_err(|rejected| refused(&rejected));
            }
        }
        Err(rejected) => refused(&rejected),
    }
    let Ok(current) = read_app(first, None) else { return };
    let id = current.id();
    match update_app(Some(&current), id, body, true) {
        Ok(Update::App(once)) => {
            assert_eq!(once.id(), id, "the path says which app is meant");
            sound(&once);
            let twice = update_app(Some(&once), id, body, true);
            assert_eq!(twice, Ok(Update::App(once)), "twice is once");
        }
        Ok(Update::Version(_)) => {}
        Err(rejected) => refused(&rejected),
    }
    let whole = update_app(Some(&current), id, body, false);
    assert_eq!(whole, update_app(None, id, body, false), "what was there is forgotten");
    match whole {
        Ok(Update::App(app)) => sound(&app),
        Ok(Update::Version(_)) => {}
        Err(rejected) => refused(&rejected),
    }
}

/// A group, at the top and below.
pub(crate) fn group(input: &[u8]) {
    for path in ["/", "/shop"] {
        match read_group(input, path) {
            Ok(group) => holds_its_own(&group),
            Err(rejected) => refused(&rejected),
        }
    }
}

fn holds_its_own(group: &GroupUpdate) {
    for app in group.apps.iter().flatten() {
        assert!(app.id().is_in(&group.id), "{} in {}", app.id(), group.id);
        sound(app);
    }
    for inner in group.groups.iter().flatten() {
        let path: ServiceId = inner.id.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(path.is_in(&group.id), "{path} in {}", group.id);
        holds_its_own(inner);
    }
    let says = [
        group.apps.is_some() || group.groups.is_some() || group.dependencies.is_some(),
        group.scale_by.is_some(),
        group.version.is_some(),
    ];
    assert!(says.iter().filter(|said| **said).count() <= 1, "one thing at a time: {group:?}");
}

/// It is shown, stored and read back as itself, and is a service.
fn sound(app: &App) {
    let shown = app.to_source();
    assert_eq!(read_app(shown.as_bytes(), None).as_ref(), Ok(app), "{shown}");
    assert_eq!(App::from_source(&shown).as_ref(), Some(app), "{shown}");
    let problems = app.spec().map(|spec| spec.problems());
    assert_eq!(problems, Ok(Vec::new()), "{shown}");
}

fn stays_as_it_is(app: &App) {
    for body in [app.to_source().as_str(), "{}"] {
        let same = update_app(Some(app), app.id(), body.as_bytes(), true);
        assert_eq!(same, Ok(Update::App(Box::new(app.clone()))), "{body}");
    }
}

fn refused(rejected: &Rejected) {
    assert!([400, 422].contains(&rejected.status), "{rejected:?}");
    let body = rejected.body();
    assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}
