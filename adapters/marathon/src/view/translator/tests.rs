//! The sequence of events for upgrades, restarts and removals.

use model::{
    About, CheckResult, Ending, Exit, InstanceId, Origin, Phase, StopReason, Timestamp, What,
};
use serde_json::{Value, json};

use super::*;
use crate::view::cluster::TestCluster;
use crate::view::name;

/// A cluster, and the feed that translates its events.
struct World {
    cluster: TestCluster,
    translator: EventTranslator,
    seen: usize,
    emitted: Vec<Value>,
}

impl World {
    fn new() -> World {
        let cluster = TestCluster::new(&["n1", "n2"]);
        let translator = EventTranslator::new(&cluster.snapshot(), Apps::default());
        let seen = cluster.events.len();
        World { cluster, translator, seen, emitted: Vec::new() }
    }

    /// Translates the events since the last call.
    fn translate(&mut self) {
        let snapshot = self.cluster.snapshot();
        let events = self.cluster.events.split_off(self.seen);
        self.take(&events, &snapshot);
        self.cluster.events.extend(events);
        self.seen = self.cluster.events.len();
    }

    fn take(&mut self, events: &[EventView], snapshot: &Snapshot) {
        for event in self.translator.translate(events, snapshot) {
            let full = String::from_utf8(event.render(1).full.to_vec()).unwrap();
            let data = full.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            self.emitted.push(serde_json::from_str(data).unwrap());
        }
    }

    /// Reports the status of an instance.
    fn reported(&mut self, instance: &str, what: What) {
        let (healthy, phase) = match what {
            What::Exited { .. } => (None, Phase::Stopped),
            What::Healthy => (Some(true), Phase::Running),
            _ => (None, Phase::Running),
        };
        self.cluster.report(instance, phase, |status| {
            let passed =
                |_| CheckResult { last_success: Some(Timestamp(1)), ..CheckResult::default() };
            status.healthy = healthy;
            status.checks.extend(healthy.map(passed));
        });
        self.turn(instance, &[what]);
        self.translate();
    }

    /// The kinds of the events since the last call, each with its subject.
    fn words(&mut self) -> Vec<String> {
        let is_default = |event: &Value| {
            !crate::view::event::ON_REQUEST.contains(&event["eventType"].as_str().unwrap())
        };
        let word = |event: Value| {
            let kind = event["eventType"].as_str().unwrap().trim_end_matches("_event").to_string();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let about = match kind.as_str() {
                "status_update" => text(&event["taskStatus"]),
                "deployment_info" | "deployment_step_success" => {
                    text(&event["currentStep"]["actions"][0]["action"])
                }
                "group_change_success" => text(&event["groupId"]),
                "health_status_changed" => event["alive"].to_string(),
                _ => String::new(),
            };
            format!("{kind} {about}").trim_end().to_string()
        };
        std::mem::take(&mut self.emitted).into_iter().filter(is_default).map(word).collect()
    }
}

fn exited(how: Ending) -> What {
    What::Exited { run: 1, exit: Box::new(Exit { at: Timestamp(1), how }) }
}

fn code(code: i32) -> Ending {
    Ending::Code { code }
}

fn placed() -> What {
    What::Placed { node: "n1".parse().unwrap(), revision: 1 }
}

fn app(version: &str) -> Value {
    json!({
        "id": "/shop/web", "cmd": format!("serve {version}"), "instances": 1,
        "healthChecks": [{ "path": "/health" }],
        "upgradeStrategy": { "minimumHealthCapacity": 0, "maximumOverCapacity": 0 },
    })
}

#[test]
fn an_upgrade_emits_events_in_the_recorded_order() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.translate();
    world.reported("/shop/web~0.1", What::Running { run: 1 });
    world.reported("/shop/web~0.1", What::Healthy);
    assert_eq!(
        world.words(),
        [
            "deployment_info StartApplication",
            "add_health_check",
            "group_change_success /shop",
            "deployment_step_success StartApplication",
            "deployment_info ScaleApplication",
            "status_update TASK_STAGING",
            "status_update TASK_RUNNING",
            "health_status_changed true",
            "deployment_step_success ScaleApplication",
            "deployment_success",
        ]
    );
    world.cluster.app(&app("2"));
    world.translate();
    world.reported("/shop/web~0.1", exited(Ending::Signal { signal: 15 }));
    world.reported("/shop/web~0.2", What::Running { run: 1 });
    world.reported("/shop/web~0.2", What::Healthy);
    let mut words = world.words();
    // The new task may be placed before or after the old one is stopped.
    words[3..6].sort();
    assert_eq!(
        words,
        [
            "deployment_info RestartApplication",
            "add_health_check",
            "group_change_success /shop",
            "status_update TASK_KILLED",
            "status_update TASK_KILLING",
            "status_update TASK_STAGING",
            "status_update TASK_RUNNING",
            "health_status_changed true",
            "deployment_step_success RestartApplication",
            "deployment_success",
        ]
    );
}

#[test]
fn a_restart_in_place_is_a_new_task() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.translate();
    world.reported("/shop/web~0.1", What::Running { run: 1 });
    world.emitted.clear();
    world.turn("/shop/web~0.1", &[exited(code(3)), What::Running { run: 2 }]);
    let updates = world.emitted.iter().filter(|event| event["eventType"] == "status_update_event");
    let updates: Vec<_> = updates
        .map(|event| {
            let id = event["taskId"].as_str().unwrap().rsplit_once('.').unwrap().1.to_string();
            (event["taskStatus"].as_str().unwrap().to_string(), id)
        })
        .collect();
    let expected = [("TASK_FAILED", "1"), ("TASK_STAGING", "2"), ("TASK_RUNNING", "2")];
    assert_eq!(updates, expected.map(|(state, run)| (state.to_string(), run.to_string())));
}

#[test]
fn heavy_plans_are_sent_only_on_request() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    let snapshot = world.cluster.snapshot();
    let events = world.cluster.events.clone();
    let started = events
        .into_iter()
        .find(|e| matches!(e.event.what, What::DeploymentStarted { .. }))
        .unwrap();
    let info = world.translator.translate(&[started], &snapshot).remove(0).render(7);
    let read = |bytes: &bytes::Bytes| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("event: deployment_info\r\nid: 7\r\ndata: {"), "{text}");
        assert!(text.ends_with("}\r\n\r\n"));
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str::<Value>(data).unwrap()
    };
    let full = read(&info.full);
    assert_eq!(full["plan"]["target"]["groups"][0]["apps"][0]["id"], "/shop/web");
    assert_eq!(full["plan"]["original"]["apps"], json!([]));
    let light = read(&info.light);
    assert_eq!(light["plan"].get("original"), None);
    assert_eq!(light["plan"]["steps"], full["plan"]["steps"]);
}

#[test]
fn superseded_deployments_and_removed_apps_emit_events() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.cluster.app(&app("2"));
    world.translate();
    assert!(world.words().contains(&"deployment_failed".to_string()));
    let id: ServiceId = "/shop/web".parse().unwrap();
    world.cluster.command(model::Command::RemoveServices(vec![id]));
    world.translate();
    let service = world.cluster.state.services().next().cloned();
    for replica in service.iter().flat_map(|service| service.placements.keys()) {
        let id = format!("/shop/web~{}.{}", replica.slot, replica.attempt);
        world.reported(&id, exited(code(0)));
    }
    world.translate();
    let words = world.words();
    let terminated = words.iter().position(|word| word == "app_terminated");
    assert!(words.contains(&"remove_health_check".to_string()), "{words:?}");
    assert!(terminated.is_some(), "{words:?}");
}

#[test]
fn an_app_removed_within_one_turn_is_in_its_events() {
    let mut world = World::new();
    let mut none = app("1");
    none["instances"] = json!(0);
    world.cluster.app(&none);
    world.translate();
    world.emitted.clear();
    world.cluster.command(model::Command::RemoveServices(vec!["/shop/web".parse().unwrap()]));
    assert!(
        world.cluster.state.services().next().is_none(),
        "it is gone before any event is emitted"
    );
    world.translate();
    let plan = &world.emitted[0]["plan"];
    assert_eq!(plan["original"]["groups"][0]["apps"][0]["id"], "/shop/web");
    assert_eq!(plan["target"]["groups"], json!([]));
    assert_eq!(
        world.words(),
        [
            "deployment_info StopApplication",
            "remove_health_check",
            "group_change_success /shop",
            "app_terminated",
            "deployment_step_success StopApplication",
            "deployment_success",
        ]
    );
}

impl World {
    /// Translates events about one instance as one batch.
    fn turn(&mut self, instance: &str, events: &[What]) {
        let event = |what: &What| {
            let about = About::Instance(instance.parse().unwrap());
            let event = model::Event { at: self.cluster.now, about, by: None, what: what.clone() };
            EventView { number: 1, event }
        };
        let events: Vec<_> = events.iter().map(event).collect();
        let snapshot = self.cluster.snapshot();
        self.take(&events, &snapshot);
    }

    /// A service with one instance, without any published events.
    fn with_an_instance() -> World {
        let mut world = World::new();
        world.cluster.app(&app("1"));
        world.seen = world.cluster.events.len();
        world
    }
}

#[test]
fn a_terminated_task_emits_no_kill() {
    let mut world = World::with_an_instance();
    let ended = [
        placed(),
        What::Running { run: 1 },
        exited(code(3)),
        What::Stopping { why: StopReason::Unhealthy },
        What::Stopped { why: StopReason::Unhealthy },
    ];
    world.turn("/shop/web~0.1", &ended);
    let ended = ["TASK_STAGING", "TASK_RUNNING", "TASK_FAILED"];
    assert_eq!(world.words(), ended.map(|state| format!("status_update {state}")));
}

#[test]
fn changes_of_a_task_within_one_turn_are_emitted_in_order() {
    let mut world = World::with_an_instance();
    let id: InstanceId = "/shop/web~0.1".parse().unwrap();
    let kill = model::Command::Kill { instances: vec![id], scale: true };
    world.cluster.command(kill);
    let short = [
        placed(),
        What::Stopping { why: StopReason::Requested },
        exited(code(0)),
        What::Stopped { why: StopReason::Requested },
    ];
    world.turn("/shop/web~0.1", &short);
    let short = ["TASK_STAGING", "TASK_KILLING", "TASK_KILLED"];
    assert_eq!(world.words(), short.map(|state| format!("status_update {state}")));
}

#[test]
fn the_end_of_a_run_before_a_server_restart_is_not_emitted_again() {
    let mut world = World::with_an_instance();
    world.translator = EventTranslator::new(&world.cluster.snapshot(), Apps::default());
    world.cluster.report("/shop/web~0.1", Phase::Running, |status| status.run = 3);
    world.turn("/shop/web~0.1", &[exited(code(1)), What::Running { run: 3 }]);
    let emitted: Vec<_> =
        world.emitted.iter().filter(|emitted| emitted["taskStatus"].is_string()).collect();
    assert!(emitted.len() == 1 && emitted[0]["taskStatus"] == "TASK_RUNNING", "{emitted:?}");
    assert!(emitted[0]["taskId"].as_str().unwrap().ends_with(".3"), "{emitted:?}");
}

#[test]
fn only_created_or_changed_apps_emit_api_post_events() {
    let app: ServiceId = "/shop/web".parse().unwrap();
    for (uri, is_emitted) in [
        ("/v2/apps", true),
        ("/v2/apps/shop/web", true),
        ("/v2/apps/shop/web/restart", false),
        ("/v2/apps/shop/web/tasks", false),
        ("/v2/apps/shop", false),
        ("/v2/groups/shop", false),
        ("/v2/deployments/d", false),
    ] {
        let origin = Origin { client: "10.0.0.9".into(), uri: uri.into() };
        assert_eq!(is_created_or_updated(&origin, &app), is_emitted, "{uri}");
    }
}

#[test]
fn a_task_that_cannot_start_fails_and_the_next_one_is_staged() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.translate();
    world.emitted.clear();
    world.reported(
        "/shop/web~0.1",
        What::NotStarted { run: 1, detail: Some("no such image".into()) },
    );
    let about = |event: &Value| (event["taskStatus"].clone(), event["taskId"].clone());
    let updates = world.emitted.iter().filter(|event| event["eventType"] == "status_update_event");
    let emitted: Vec<_> = updates.map(about).collect();
    let task = |run| json!(name::task(&"/shop/web~0.1".parse().unwrap(), run));
    assert_eq!(emitted, [(json!("TASK_FAILED"), task(1)), (json!("TASK_STAGING"), task(2))]);
}

#[test]
fn a_cancelled_deployment_emits_a_failure() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.translate();
    world.emitted.clear();
    let deployment = DeploymentId(1);
    world.cluster.command(model::Command::Steer { deployment, how: model::Steer::Pause });
    world.translate();
    assert_eq!(world.words(), ["deployment_failed"]);
    world.cluster.command(model::Command::Steer { deployment, how: model::Steer::Resume });
    world.translate();
    assert_eq!(world.words(), ["deployment_info ScaleApplication"]);
    // The superseding deployment has the name that clients know.
    world.cluster.app(&app("2"));
    world.translate();
    let failed = world.emitted.iter().find(|event| event["eventType"] == "deployment_failed");
    let reason = format!("cancelled by deployment {}", name::deployment(DeploymentId(2)));
    assert_eq!(failed.unwrap()["reason"], *reason);
}

/// A load balancer takes a task out of rotation whose check fails once, and back when it passes,
/// although the task was healthy throughout: there is one event for each change of `alive`.
#[test]
fn each_change_of_a_checks_result_that_tasks_show_is_one_event() {
    let mut world = World::new();
    world.cluster.app(&app("1"));
    world.reported("/shop/web~0.1", What::Running { run: 1 });
    world.reported("/shop/web~0.1", What::Healthy);
    world.words();
    let mut report = |failures: u32, whats: &[What]| -> Vec<String> {
        world.cluster.report("/shop/web~0.1", Phase::Running, |status| {
            let consecutive_failures = failures;
            let last_success = Some(Timestamp(1));
            let check =
                CheckResult { consecutive_failures, last_success, ..CheckResult::default() };
            (status.healthy, status.checks) = (Some(failures < 3), vec![check]);
        });
        world.turn("/shop/web~0.1", whats);
        world.translate();
        let words = world.words();
        words.into_iter().filter(|word| word.starts_with("health_status")).collect()
    };
    let failed = |count| What::CheckFailed { check: 0, count, cause: None };
    assert_eq!(report(1, &[failed(1)]), ["health_status_changed false"]);
    assert_eq!(report(2, &[failed(2)]), [""; 0]);
    assert_eq!(report(0, &[What::CheckPassed { check: 0 }]), ["health_status_changed true"]);
    assert_eq!(report(1, &[failed(1)]), ["health_status_changed false"]);
    assert_eq!(report(3, &[What::Unhealthy { cause: None }, failed(3)]), [""; 0]);
    assert_eq!(
        report(0, &[What::Healthy, What::CheckPassed { check: 0 }]),
        ["health_status_changed true"]
    );
}
