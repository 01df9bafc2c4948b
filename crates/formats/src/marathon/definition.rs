//! An app in full: as Marathon's API takes it, shows it and changes it.

use std::collections::{BTreeMap, BTreeSet};

use model::{Document, ServiceId, Spec, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::rejected::Rejected;
use super::service::resolve;
use super::{describe, normal, shape};

/// Service ports that are not asked for are taken from these.
const SERVICE_PORTS: std::ops::RangeInclusive<u16> = 10_000..=20_000;

/// An app, whole, valid and in its normal form. It is written as Marathon shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    id: ServiceId,
    labels: BTreeMap<String, String>,
    instances: u32,
    body: Map<String, Value>,
}

impl Serialize for App {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}

/// What an update makes of an app.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// This.
    App(Box<App>),
    /// What it was at this version.
    Version(Timestamp),
}

fn parse(body: &[u8]) -> Result<Value, Rejected> {
    let mut value: Value = serde_json::from_slice(body).map_err(|e| Rejected::unreadable(&e))?;
    normal::drop_nulls(&mut value);
    Ok(value)
}

fn object(value: Value) -> Result<Map<String, Value>, Rejected> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Rejected::mistyped(vec![(String::new(), "error.expected.jsobject".into())])),
    }
}

fn array(value: Value) -> Result<Vec<Value>, Rejected> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Rejected::mistyped(vec![(String::new(), "error.expected.jsarray".into())])),
    }
}

fn check_shape(map: &Map<String, Value>) -> Result<(), Rejected> {
    let wrong = shape::check(&Value::Object(map.clone()));
    if wrong.is_empty() { Ok(()) } else { Err(Rejected::mistyped(wrong)) }
}

fn parse_id(id: &str, base: &str) -> Result<ServiceId, Rejected> {
    let path = if id.starts_with('/') { id.to_string() } else { format!("{base}/{id}") };
    let is_dotted = path.split('/').any(|segment| segment == "." || segment == "..");
    let path = if is_dotted { resolve("/", &path) } else { path };
    path.parse().map_err(|error: model::id::Error| {
        Rejected::invalid(vec![("id".into(), error.to_string())])
    })
}

/// Reads an app that is to be made. Its id may be relative to the group `base`.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_app(body: &[u8], base: Option<&str>) -> Result<App, Rejected> {
    make(object(parse(body)?)?, base.unwrap_or_default())
}

/// Makes an app of JSON without nulls.
pub(super) fn make(mut map: Map<String, Value>, base: &str) -> Result<App, Rejected> {
    normal::drop_reported(&mut map);
    check_shape(&map)?;
    let Some(id) = map.get("id").and_then(Value::as_str) else {
        return Err(Rejected::mistyped(vec![("id".into(), "error.path.missing".into())]));
    };
    let id = parse_id(id, base.trim_end_matches('/'))?;
    App::new(map, id)
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
    let mut map = object(parse(body)?)?;
    let version = normal::drop_reported(&mut map);
    check_shape(&map)?;
    map.remove("id");
    if let Some(version) = version {
        if !map.is_empty() {
            let message = "The 'version' field may only be combined with the 'id' field.";
            return Err(Rejected::refused(message));
        }
        let parsed = version.as_str().and_then(|text| text.parse().ok());
        return parsed.map(Update::Version).ok_or_else(|| {
            let what = "error.expected.date.isoformat".to_string();
            Rejected::mistyped(vec![("version".into(), what)])
        });
    }
    if let Some(current) = current.filter(|_| partial) {
        map = merge(current, map);
    }
    App::new(map, id.clone()).map(|app| Update::App(Box::new(app)))
}

/// The keys of `update` in place of those of `current`. Where keys contradict each other, what is
/// given now wins over what was there.
fn merge(current: &App, mut update: Map<String, Value>) -> Map<String, Value> {
    let mut merged = current.body.clone();
    let mut as_value = Value::Object(std::mem::take(&mut merged));
    normal::drop_nulls(&mut as_value);
    if let Value::Object(map) = as_value {
        merged = map;
    }
    let docker = |key: &str| {
        let docker = update.get("container").and_then(|container| container.get("docker"));
        docker.is_some_and(|docker| docker.get(key).is_some())
    };
    let mut replaced: Vec<&str> = Vec::new();
    if docker("network") && !update.contains_key("networks") {
        replaced.push("networks");
    }
    if update.contains_key("ports") && !update.contains_key("portDefinitions") {
        replaced.push("portDefinitions");
    }
    let maps_ports = update.get("container").is_some_and(|c| c.get("portMappings").is_some())
        || docker("portMappings");
    if (maps_ports || update.contains_key("networks") || docker("network"))
        && !update.contains_key("portDefinitions")
    {
        replaced.push("portDefinitions");
    }
    if update.contains_key("cmd") {
        replaced.push("args");
    }
    if update.contains_key("args") {
        replaced.push("cmd");
    }
    for key in replaced {
        merged.remove(key);
    }
    merged.append(&mut update);
    merged
}

/// Takes an update of several apps apart: each app's id and its part.
///
/// # Errors
///
/// What is wrong with the list; its parts are not looked into.
pub fn update_apps(body: &[u8]) -> Result<Vec<(ServiceId, Vec<u8>)>, Rejected> {
    let part = |(index, item): (usize, Value)| {
        let within = |rejected: Rejected| rejected.within(&index.to_string());
        let item = object(item).map_err(within)?;
        let Some(id) = item.get("id").and_then(Value::as_str) else {
            let missing = vec![("id".into(), "error.path.missing".into())];
            return Err(within(Rejected::mistyped(missing)));
        };
        let id = parse_id(id, "").map_err(within)?;
        Ok((id, Value::Object(item).to_string().into_bytes()))
    };
    array(parse(body)?)?.into_iter().enumerate().map(part).collect()
}

impl App {
    fn new(mut map: Map<String, Value>, id: ServiceId) -> Result<App, Rejected> {
        normal::normalise(&mut map, &id);
        let labels = map.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels =
            labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
        let instances = map.get("instances").and_then(Value::as_f64).unwrap_or(1.0);
        if !(0.0..=f64::from(u32::MAX)).contains(&instances) {
            let message = format!("got {instances}, expected 0 or more");
            return Err(Rejected::invalid(vec![("instances".into(), message)]));
        }
        let app = App { id, labels: labels.collect(), instances: instances as u32, body: map };
        app.spec().map(|_| app)
    }

    /// The app that describes a service best.
    pub fn of(spec: &Spec) -> App {
        let body = describe::body(spec);
        let (id, labels) = (spec.service.clone(), spec.labels.clone());
        App { id, labels, instances: spec.instances, body }
    }

    /// Its path.
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// How many instances it should have.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// The same app with so many instances.
    pub fn scaled(mut self, instances: u32) -> App {
        self.instances = instances;
        self.body.insert("instances".into(), instances.into());
        self
    }

    /// What its shell runs.
    pub fn cmd(&self) -> Option<&str> {
        self.body.get("cmd").and_then(Value::as_str)
    }

    /// Its health checks, as they are shown.
    pub fn health_checks(&self) -> &[Value] {
        self.body.get("healthChecks").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Where its service ports stand: the list of its ports and the key in each of them.
    fn ports(&self) -> (Option<&Vec<Value>>, &'static str) {
        let mappings = self.body.get("container").and_then(|c| c.get("portMappings"));
        match mappings.and_then(Value::as_array) {
            Some(mappings) => (Some(mappings), "servicePort"),
            None => (self.body.get("portDefinitions").and_then(Value::as_array), "port"),
        }
    }

    /// The port of each of its ports at which a load balancer should serve it; 0 where none has
    /// been assigned yet.
    pub fn service_ports(&self) -> Vec<u16> {
        let (ports, key) = self.ports();
        let number = |port: &Value| u16::try_from(port.get(key)?.as_u64()?).ok();
        ports.into_iter().flatten().map(|port| number(port).unwrap_or(0)).collect()
    }

    /// Gives each service port that is 0 a number of its own: the one it had before, or one that
    /// is not `taken`.
    ///
    /// # Errors
    ///
    /// There is none left.
    pub fn assign_service_ports(
        &mut self,
        previous: Option<&App>,
        taken: &BTreeSet<u16>,
    ) -> Result<(), Rejected> {
        let present = self.service_ports();
        let own: BTreeSet<u16> = present.iter().copied().filter(|port| *port != 0).collect();
        let before = previous.map(App::service_ports).unwrap_or_default();
        let before = before.into_iter().filter(|p| SERVICE_PORTS.contains(p) && !own.contains(p));
        let fresh = SERVICE_PORTS.filter(|port| !taken.contains(port) && !own.contains(port));
        let mut given = BTreeSet::new();
        let mut candidates = before.chain(fresh).filter(|port| given.insert(*port));
        let mut assigned = Vec::with_capacity(present.len());
        for port in present {
            let port = if port == 0 { candidates.next() } else { Some(port) };
            assigned.push(port.ok_or_else(|| {
                let (first, last) = SERVICE_PORTS.into_inner();
                Rejected::refused(format!("no service port from {first} to {last} is left"))
            })?);
        }
        let mappings = self.body.get_mut("container").and_then(|c| c.get_mut("portMappings"));
        let (list, key) = match mappings {
            Some(mappings) => (Some(mappings), "servicePort"),
            None => (self.body.get_mut("portDefinitions"), "port"),
        };
        let list = list.and_then(Value::as_array_mut).into_iter().flatten();
        for (port, number) in list.filter_map(Value::as_object_mut).zip(assigned) {
            port.insert(key.into(), json!(number));
        }
        Ok(())
    }

    /// The service that it is.
    ///
    /// # Errors
    ///
    /// What cannot be, and what Muster cannot do.
    pub fn spec(&self) -> Result<Spec, Rejected> {
        let given = self.body.iter().filter(|(_, value)| !value.is_null());
        let given: Map<String, Value> = given.map(|(k, v)| (k.clone(), v.clone())).collect();
        let text = Value::Object(given).to_string();
        let parsed = crate::parse("app", &text).map_err(Rejected::faults)?;
        let mut specs = parsed.documents.into_iter().filter_map(|located| match located.document {
            Document::Service(spec) => Some(*spec),
            _ => None,
        });
        specs.next().ok_or_else(|| Rejected::refused("the app describes no service"))
    }

    /// What is stored of it.
    pub fn to_source(&self) -> String {
        Value::Object(self.body.clone()).to_string()
    }

    /// Reads back what was stored.
    pub fn from_source(text: &str) -> Option<App> {
        let body: Map<String, Value> = serde_json::from_str(text).ok()?;
        let id = body.get("id")?.as_str()?.parse().ok()?;
        let labels = body.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels =
            labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
        let (labels, instances) = (labels.collect(), body.get("instances")?.as_f64()? as u32);
        Some(App { id, labels, instances, body })
    }
}
