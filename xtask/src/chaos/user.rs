//! Users who change services, and record which of their writes were acknowledged.
//!
//! A write is acknowledged by a successful response. Each acknowledged write made a revision, which the server must
//! still have with its content. A request without a response may have been applied or not.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{cluster::send_request, history::History, random::Random};

/// The port on which gateways listen.
pub(super) const PORT: u16 = 8080;
/// The service that hostile uploads go to, its path (a GET is answered), and the argument by which its process is found.
const SLOW_SERVICE: &str = "/chaos/slow";
pub(super) const SLOW_PATH: &str = "/info";
pub(super) const SLOW_ARGUMENT: &str = "slow";
/// How many instances a service has: more than two concurrent faults can affect.
const INSTANCES: (u64, u64) = (6, 9);
/// The same for services that receive no requests.
const INSTANCES_OF_OTHERS: (u64, u64) = (1, 3);

/// The content of an acknowledged write; `None` for an unchanged field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    version: Option<u64>,
    instances: Option<u64>,
}

#[derive(Debug, Default)]
struct Record {
    writes: BTreeMap<u64, Written>,
    unanswered: u64,
}

/// An acknowledged write that the server does not have.
#[derive(Debug)]
pub(super) struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LOST: {}", self.0)
    }
}

impl std::error::Error for Lost {}

/// A user of one service.
pub(super) struct User {
    pub(super) service: &'static str,
    /// The part of the document with the process or container, as JSON.
    runs: Value,
    /// The bounds of its number of instances.
    instances: (u64, u64),
    record: Mutex<Record>,
}

impl User {
    /// The user of a service of plain processes behind the gateways.
    pub(super) fn of_processes(program: &Path) -> User {
        User {
            service: "/chaos/web",
            runs: json!({ "process": { "command": [program] }, "health": [health()] }),
            instances: INSTANCES,
            record: Mutex::default(),
        }
    }

    /// The user of a service of processes without health checks or requests.
    pub(super) fn of_the_unchecked(program: &Path) -> User {
        User {
            service: "/chaos/bare",
            runs: json!({ "process": { "command": [program] } }),
            instances: INSTANCES_OF_OTHERS,
            record: Mutex::default(),
        }
    }

    /// The user of a service of containers.
    pub(super) fn of_containers(image: &str) -> User {
        User {
            service: "/chaos/box",
            runs: json!({
                "container": { "image": image, "network": "host", "pull": "never" },
                "health": [health()],
            }),
            instances: INSTANCES_OF_OTHERS,
            record: Mutex::default(),
        }
    }

    fn instances(&self, random: &mut Random) -> u64 {
        random.number(self.instances.0, self.instances.1)
    }

    /// Applies the first version, and lets gateways send requests to it.
    pub(super) fn begin(&self, random: &mut Random) -> Result<()> {
        self.apply(1, self.instances(random))?;
        if self.instances == INSTANCES {
            apply(&json!({
                "gateway": "public",
                "listen": format!("0.0.0.0:{PORT}"),
                "routes": [
                    { "to": format!("{}:http", self.service) },
                    { "path": SLOW_PATH, "to": format!("{}:http", SLOW_SERVICE) },
                ],
            }))?;
        }
        Ok(())
    }

    /// Changes the service until `stop` is true.
    pub(super) fn work(&self, mut random: Random, stop: &AtomicBool, history: &History) {
        let mut version = 1;
        while !stop.load(Ordering::Relaxed) {
            let pause = random.span(500, 2500);
            std::thread::sleep(pause);
            let instances = self.instances(&mut random);
            let (what, done) = match random.number(0, 9) {
                0..=5 => {
                    version += 1;
                    (format!("apply version {version}"), self.apply(version, instances))
                }
                6..=8 => (format!("scale to {instances}"), self.scale(instances)),
                _ => ("restart".to_owned(), self.restart()),
            };
            if let Err(error) = done {
                history.note(format!("{}: {what} was not acknowledged: {error:#}", self.service));
                self.record().unanswered += 1;
            }
        }
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes were acknowledged, and how many were not.
    pub(super) fn writes(&self) -> (usize, u64) {
        let record = self.record();
        (record.writes.len(), record.unanswered)
    }

    fn apply(&self, version: u64, instances: u64) -> Result<()> {
        let mut document = json!({
            "service": self.service,
            "instances": instances,
            "resources": { "cpu": 0.1, "memory": "64MiB" },
            "ports": [{ "name": "http" }],
            "env": { "SIMPLE_SERVICE_VERSION": version.to_string(), "LOG_REQUESTS": "0" },
        });
        for (key, value) in self.runs.as_object().into_iter().flatten() {
            document[key] = value.clone();
        }
        let reply = apply(&document)?;
        self.acknowledged(&reply, Written { version: Some(version), instances: Some(instances) })
    }

    fn scale(&self, instances: u64) -> Result<()> {
        let body = json!({ "service": self.service, "instances": instances });
        let reply = send_request("POST", "/v1/scale", &body.to_string())?;
        self.acknowledged(&reply, Written { version: None, instances: Some(instances) })
    }

    fn restart(&self) -> Result<()> {
        let body = json!({ "service": self.service });
        let reply = send_request("POST", "/v1/restart", &body.to_string())?;
        self.acknowledged(&reply, Written { version: None, instances: None })
    }

    fn acknowledged(&self, reply: &Value, written: Written) -> Result<()> {
        let changes = reply["changes"].as_array().context("a reply has changes")?;
        let change = changes.iter().find(|change| change["name"] == self.service);
        let change =
            change.with_context(|| format!("the response does not name the service: {reply}"))?;
        let revision = change["revision"].as_u64().context("a revision")?;
        if change["verdict"] != "unchanged" {
            self.record().writes.insert(revision, written);
        }
        Ok(())
    }

    /// Checks that the server has every acknowledged write; fails with [`Lost`] if not.
    pub(super) fn check(&self) -> Result<()> {
        // Taken before the request: the response need not contain later writes.
        let writes = self.record().writes.clone();
        let view = send_request("GET", &format!("/v1/services{}", self.service), "")?;
        let revisions = view["revisions"].as_array().context("its revisions")?;
        let number = |revision: &Value| revision["number"].as_u64().unwrap_or(0);
        // Older revisions are kept only while an instance runs them.
        let mut numbers: Vec<_> = revisions.iter().map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let oldest =
            *numbers.iter().take(REVISIONS_KEPT).next_back().context("it has revisions")?;
        let newest = view["revision"].as_u64().context("its revision")?;
        for (revision, written) in writes.range(oldest..) {
            let found = revisions.iter().find(|found| number(found) == *revision);
            let Some(found) = found else {
                bail!(Lost(format!("revision {revision} of {}; it is at {newest}", self.service)));
            };
            let version = found["spec"]["env"]["SIMPLE_SERVICE_VERSION"].as_str();
            let version = version.and_then(|version| version.parse().ok());
            let instances = found["spec"]["instances"].as_u64();
            let same = |wanted: Option<u64>, found| wanted.is_none() || wanted == found;
            if !same(written.version, version) || !same(written.instances, instances) {
                bail!(Lost(format!(
                    "revision {revision} of {} was {written:?}: {found}",
                    self.service
                )));
            }
        }
        match writes.last_key_value() {
            Some((last, _)) if newest < *last => {
                bail!(Lost(format!("{} is at {newest}, was at {last}", self.service)))
            }
            _ => Ok(()),
        }
    }
}

/// Number of a service's newest revisions that are always kept.
const REVISIONS_KEPT: usize = 10;

fn health() -> Value {
    json!({ "probe": { "http": { "path": "/health", "port": "http" } }, "interval": "500ms" })
}

/// Applies the service of hostile uploads. It must be there before a gateway routes to it.
pub(super) fn begin_slow(program: &Path) -> Result<()> {
    let document = json!({
        "service": SLOW_SERVICE,
        "resources": { "cpu": 0.1, "memory": "64MiB" },
        "ports": [{ "name": "http" }],
        "env": { "LOG_REQUESTS": "0" },
        "process": { "command": [program, SLOW_ARGUMENT] },
    });
    apply(&document).map(drop)
}

fn apply(document: &Value) -> Result<Value> {
    let source = json!({ "name": "chaos", "text": document.to_string() });
    send_request("POST", "/v1/apply", &json!({ "sources": [source] }).to_string())
}

/// Checks the acknowledged writes of all users.
pub(super) fn check_all(users: &[Arc<User>]) -> Result<()> {
    users.iter().try_for_each(|user| user.check())
}
