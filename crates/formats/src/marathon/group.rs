//! Groups of apps as they are written.

use std::collections::BTreeSet;

use model::{ServiceId, Timestamp};
use serde_json::{Map, Value};

use super::definition::{App, make};
use super::normal::drop_nulls;
use super::rejected::Rejected;
use super::service::resolve;

/// What is said of a group. What is not spoken of stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupUpdate {
    /// Its path.
    pub id: String,
    /// All the apps that it should have itself.
    pub apps: Option<Vec<App>>,
    /// All the groups that it should have.
    pub groups: Option<Vec<GroupUpdate>>,
    /// Apps and groups that all its apps depend on.
    pub dependencies: Option<BTreeSet<ServiceId>>,
    /// By how much to multiply the instances of all its apps.
    pub scale_by: Option<f64>,
    /// The version to go back to.
    pub version: Option<Timestamp>,
}

/// Groups inside each other, at most: each costs a call.
const DEPTH_MAX: usize = 32;

/// Reads what is said of the group at `path`, or of one that the body names. Nothing at all says
/// only that it is there.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_group(body: &[u8], path: &str) -> Result<GroupUpdate, Rejected> {
    let is_empty = body.iter().all(u8::is_ascii_whitespace) || body == b"\"\"";
    let body = if is_empty { b"{}".as_slice() } else { body };
    let mut value: Value = serde_json::from_slice(body).map_err(|e| Rejected::unreadable(&e))?;
    drop_nulls(&mut value);
    group(value, path, DEPTH_MAX)
}

fn mistyped(key: &str, what: &str) -> Rejected {
    Rejected::mistyped(vec![(key.into(), what.into())])
}

fn list(map: &mut Map<String, Value>, key: &str) -> Result<Option<Vec<Value>>, Rejected> {
    match map.remove(key) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(mistyped(key, "error.expected.jsarray")),
    }
}

fn group(value: Value, base: &str, depth: usize) -> Result<GroupUpdate, Rejected> {
    let Value::Object(mut map) = value else { return Err(mistyped("", "error.expected.jsobject")) };
    if depth == 0 {
        return Err(Rejected::refused(format!("groups are more than {DEPTH_MAX} deep")));
    }
    let id = match map.remove("id") {
        None => base.to_string(),
        Some(Value::String(id)) => resolve(base, &id),
        Some(_) => return Err(mistyped("id", "error.expected.jsstring")),
    };
    if id != "/"
        && let Err(error) = id.parse::<ServiceId>()
    {
        return Err(Rejected::invalid(vec![("id".into(), error.to_string())]));
    }
    let apps = list(&mut map, "apps")?.map(|apps| {
        let app = |(index, app): (usize, Value)| {
            let within = |rejected: Rejected| rejected.within(&format!("apps.{index}"));
            let Value::Object(app) = app else {
                return Err(within(mistyped("", "error.expected.jsobject")));
            };
            make(app, &id).map_err(within)
        };
        apps.into_iter().enumerate().map(app).collect::<Result<Vec<_>, _>>()
    });
    let groups = list(&mut map, "groups")?.map(|groups| {
        let inner = |(index, inner)| {
            let within = |rejected: Rejected| rejected.within(&format!("groups.{index}"));
            group(inner, &id, depth - 1).map_err(within)
        };
        groups.into_iter().enumerate().map(inner).collect::<Result<Vec<_>, _>>()
    });
    let dependencies = list(&mut map, "dependencies")?.map(|dependencies| {
        let dependency = |(index, dependency): (usize, Value)| {
            let key = format!("dependencies.{index}");
            let Some(path) = dependency.as_str() else {
                return Err(mistyped(&key, "error.expected.jsstring"));
            };
            let path = resolve(&id, path).parse();
            path.map_err(|error: model::id::Error| {
                Rejected::invalid(vec![(key, error.to_string())])
            })
        };
        dependencies.into_iter().enumerate().map(dependency).collect::<Result<_, _>>()
    });
    let scale_by = match map.remove("scaleBy") {
        None => None,
        Some(factor) => match factor.as_f64() {
            Some(factor) if factor >= 0.0 => Some(factor),
            Some(_) => {
                let message = "must be 0 or more".to_string();
                return Err(Rejected::invalid(vec![("scaleBy".into(), message)]));
            }
            None => return Err(mistyped("scaleBy", "error.expected.jsnumber")),
        },
    };
    let version = map.remove("version").filter(|_| apps.is_none() && groups.is_none());
    let version = match version {
        None => None,
        Some(version) => match version.as_str().and_then(|text| text.parse().ok()) {
            Some(version) => Some(version),
            None => return Err(mistyped("version", "error.expected.date.isoformat")),
        },
    };
    refuse_the_rest(map)?;
    let (apps, groups) = (apps.transpose()?, groups.transpose()?);
    let dependencies = dependencies.transpose()?;
    let says_what = apps.is_some() || groups.is_some() || dependencies.is_some();
    if [says_what, scale_by.is_some(), version.is_some()].iter().filter(|said| **said).count() > 1 {
        let message = "`scaleBy` and `version` stand alone: nothing else may be said with them";
        return Err(Rejected::refused(message));
    }
    Ok(GroupUpdate { id, apps, groups, dependencies, scale_by, version })
}

/// Groups without pods or roles of their own may say so; everything else is not known.
fn refuse_the_rest(mut map: Map<String, Value>) -> Result<(), Rejected> {
    let is_nothing = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        other => *other == Value::Bool(false),
    };
    for (key, why) in [
        ("pods", "pods are not supported: describe their containers as apps"),
        ("enforceRole", "is not supported: Muster has no roles of groups"),
    ] {
        if map.remove(key).is_some_and(|value| !is_nothing(&value)) {
            return Err(Rejected::invalid(vec![(key.into(), why.into())]));
        }
    }
    let unknown: Vec<_> = map.keys().map(|key| (key.clone(), "unknown field".into())).collect();
    if unknown.is_empty() { Ok(()) } else { Err(Rejected::mistyped(unknown)) }
}
