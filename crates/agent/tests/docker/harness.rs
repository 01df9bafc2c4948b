//! A driver with a record of its events, and launches for it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::drivers::docker::{Docker, Settings};
use agent::drivers::{CommandOutcome, Driver as _, DriverEvent, Found, Launch, OutputQuery};
use futures_util::StreamExt as _;
use model::{CommandLine, Exit, InstanceId, InstanceResource, ResourceId, Signal};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine::{Engine, IMAGE};

/// Longer than any step of these tests takes on a busy machine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Harness {
    pub(crate) engine: Engine,
    pub(crate) driver: Docker,
    settings: Settings,
    events: mpsc::UnboundedReceiver<DriverEvent>,
    skipped: VecDeque<DriverEvent>,
    name: String,
}

impl Harness {
    /// A driver with its own agent id on a daemon, which has adopted its containers (none).
    pub(crate) async fn new(engine: Engine) -> Harness {
        let mut harness = Harness::unadopted(engine, None);
        assert_eq!(harness.adopt().await.unwrap(), []);
        harness.events();
        harness
    }

    pub(crate) fn unadopted(engine: Engine, config_dir: Option<PathBuf>) -> Harness {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{count}", std::process::id());
        let settings = Settings {
            node: "n1".parse().unwrap(),
            agent: name.clone(),
            host: engine.host.clone(),
            config_dir,
        };
        let (sender, events) = mpsc::unbounded_channel();
        let driver = Docker::new(settings.clone(), sender);
        Harness { engine, driver, settings, events, skipped: VecDeque::new(), name }
    }

    /// Simulates that the agent is killed and started again.
    pub(crate) fn restart(&mut self) {
        let (sender, events) = mpsc::unbounded_channel();
        self.events = events;
        self.skipped.clear();
        self.driver = Docker::new(self.settings.clone(), sender);
    }

    pub(crate) async fn adopt(&self) -> Result<Vec<Found>, String> {
        timeout(WAIT_MAX, self.driver.adopt()).await.unwrap()
    }

    pub(crate) fn instance(&self, slot: u32) -> InstanceId {
        format!("/{}/web~{slot}.1", self.name).parse().unwrap()
    }

    /// A launch that runs `line`, on the host network unless `more` overrides it.
    pub(crate) fn launch(&self, slot: u32, run: u32, line: &str, more: Value) -> Launch {
        let mut document = json!({
            "service": format!("/{}/web", self.name),
            "container": {"image": IMAGE, "command": [line], "network": "host"},
            "resources": {"cpu": 0.1, "memory": "64MiB"},
        });
        merge(&mut document, more);
        let spec = serde_json::from_value(document).unwrap();
        Launch {
            piece: of(&self.instance(slot)).run(run),
            spec: Arc::new(spec),
            ports: vec![],
            env: vec![],
            dir: "/nonexistent".into(),
            files: vec![],
        }
    }

    pub(crate) fn start(&self, slot: u32, run: u32, line: &str) -> InstanceId {
        self.driver.start(self.launch(slot, run, line, json!({})));
        self.instance(slot)
    }

    /// Starts a run, and waits until it has started.
    pub(crate) async fn run(&mut self, slot: u32, run: u32, line: &str) -> InstanceId {
        let instance = self.start(slot, run, line);
        self.started(&instance, run).await;
        instance
    }

    pub(crate) fn stop(&self, instance: &InstanceId, run: u32, grace: Duration) {
        self.driver.stop(&of(instance).run(run), Signal::Term, grace);
    }

    /// Waits for the next event of a run other than `Preparing`.
    pub(crate) async fn event_of(&mut self, wanted: &InstanceId, wanted_run: u32) -> DriverEvent {
        let piece = of(wanted).run(wanted_run);
        let is_wanted = |event: &DriverEvent| {
            *event.piece() == piece && !matches!(event, DriverEvent::Preparing { .. })
        };
        if let Some(at) = self.skipped.iter().position(is_wanted) {
            return self.skipped.remove(at).unwrap();
        }
        loop {
            let event = timeout(WAIT_MAX, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("no event of {wanted}")).unwrap();
            if is_wanted(&event) {
                return event;
            }
            self.skipped.push_back(event);
        }
    }

    /// All events that have not been waited for.
    pub(crate) fn events(&mut self) -> Vec<DriverEvent> {
        while let Ok(event) = self.events.try_recv() {
            self.skipped.push_back(event);
        }
        self.skipped.drain(..).collect()
    }

    pub(crate) async fn started(&mut self, instance: &InstanceId, run: u32) {
        let event = self.event_of(instance, run).await;
        assert!(matches!(event, DriverEvent::Started { .. }), "{event:?}");
    }

    pub(crate) async fn exit(&mut self, instance: &InstanceId, run: u32) -> Exit {
        match self.event_of(instance, run).await {
            DriverEvent::Exited { exit, .. } => exit,
            event => panic!("{event:?}"),
        }
    }

    /// Stops the second run of an instance, and waits until it has ended.
    pub(crate) async fn exit_of_next(&mut self, instance: &InstanceId) {
        self.stop(instance, 2, WAIT_MAX);
        self.exit(instance, 2).await;
    }

    /// Waits for a failed start; returns its message, and whether the daemon is unreachable.
    pub(crate) async fn failure(&mut self, instance: &InstanceId, run: u32) -> (String, bool) {
        match self.event_of(instance, run).await {
            DriverEvent::NotStarted { message, driver_unavailable, .. } => {
                (message, driver_unavailable)
            }
            event => panic!("{event:?}"),
        }
    }

    pub(crate) async fn command(&self, slot: u32, run: u32, line: &str) -> CommandOutcome {
        let launch = self.launch(slot, run, "", json!({}));
        let command = CommandLine::Shell(line.into());
        self.driver.command(&launch, &command, Duration::from_secs(2)).await
    }

    /// The output of an instance.
    pub(crate) async fn output(&self, slot: u32, tail: Option<u32>) -> String {
        let query = OutputQuery { stream: api::LogStream::All, tail, follow: false };
        let output = self.driver.output(&of(&self.instance(slot)), query).await;
        let parts: Vec<_> = output.unwrap().collect().await;
        parts.into_iter().map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap()).collect()
    }

    /// The names and states of the containers of this agent, sorted, without their common prefix.
    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label=muster.agent={}", self.settings.agent);
        let format = "{{.Names}} {{.State}}";
        let names = self.engine.docker(&["ps", "-a", "--filter", &filter, "--format", format]);
        let prefix = format!("muster-{}_web-", self.name);
        let mut names: Vec<_> =
            names.lines().map(|name| name.trim_start_matches(&prefix).to_string()).collect();
        names.sort();
        names
    }

    /// Waits until the containers of this agent are the expected ones.
    pub(crate) async fn containers_are(&self, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        while self.containers() != expected {
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "{:?} instead of {expected:?}", self.containers());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn is_responding(&self, expected: bool) {
        let mut answers = self.driver.is_responding();
        timeout(WAIT_MAX, answers.wait_for(|answers| *answers == expected)).await.unwrap().unwrap();
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let filter = format!("label=muster.agent={}", self.settings.agent);
        let all = self.engine.try_docker(&["ps", "-aq", "--filter", &filter]).unwrap_or_default();
        if !all.is_empty() {
            let all: Vec<_> = ["rm", "-f"].into_iter().chain(all.split_whitespace()).collect();
            let _ = self.engine.try_docker(&all);
        }
    }
}

/// The only resource of an instance here.
pub(crate) fn of(instance: &InstanceId) -> InstanceResource {
    InstanceResource { instance: instance.clone(), resource: ResourceId::main() }
}

fn merge(document: &mut Value, more: Value) {
    match (document, more) {
        (Value::Object(document), Value::Object(more)) => {
            for (key, value) in more {
                merge(document.entry(key).or_insert(Value::Null), value);
            }
        }
        (document, more) => *document = more,
    }
}
