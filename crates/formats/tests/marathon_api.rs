//! Apps as Marathon's API takes, shows and changes them.

use std::collections::BTreeSet;

use model::ServiceId;
use muster_formats::marathon::{
    App, GroupUpdate, Rejected, Update, read_app, read_group, update_app, update_apps,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn app(body: Value) -> App {
    let text = body.to_string();
    read_app(text.as_bytes(), None).unwrap_or_else(|rejected| panic!("{rejected:?}\n{text}"))
}

fn shown(app: &App) -> Value {
    serde_json::to_value(app).expect("apps are JSON")
}

fn rejected(body: &str) -> (u16, Value) {
    let rejected = read_app(body.as_bytes(), None).expect_err(body);
    (rejected.status, rejected.body())
}

fn updated(current: &App, body: Value, partial: bool) -> App {
    let update = update_app(Some(current), current.id(), body.to_string().as_bytes(), partial);
    match update.unwrap_or_else(|rejected| panic!("{rejected:?}")) {
        Update::App(app) => *app,
        Update::Version(version) => panic!("{version}"),
    }
}

#[test]
fn defaults_are_written_out() {
    let shown = shown(&app(json!({ "id": "shop/web", "cmd": "sleep 9" })));
    let expected = json!({
        "id": "/shop/web", "cmd": "sleep 9", "args": null, "container": null, "healthChecks": [],
        "instances": 1, "cpus": 1, "mem": 128, "disk": 0, "gpus": 0, "executor": "", "labels": {},
        "backoffSeconds": 1, "backoffFactor": 1.15, "maxLaunchDelaySeconds": 300,
        "killSelection": "YOUNGEST_FIRST", "requirePorts": false, "role": "*",
        "networks": [{ "mode": "host" }],
        "portDefinitions": [{ "port": 0, "protocol": "tcp", "name": "default", "labels": {} }],
        "upgradeStrategy": { "minimumHealthCapacity": 1, "maximumOverCapacity": 1 },
        "unreachableStrategy": { "inactiveAfterSeconds": 0, "expungeAfterSeconds": 0 },
    });
    assert_eq!(shown, expected);
}

/// What is written, and which part of it is shown how.
#[test]
fn older_forms_are_rewritten() {
    let image = |rest: Value| {
        let mut docker = json!({ "image": "x" });
        docker.as_object_mut().unwrap().append(&mut rest.as_object().unwrap().clone());
        json!({ "id": "/a", "container": { "docker": docker } })
    };
    let cases = [
        (image(json!({ "network": "HOST" })), "/networks", json!([{ "mode": "host" }])),
        (
            image(json!({ "network": "BRIDGE" })),
            "/container/portMappings",
            json!([{
                "containerPort": 0, "hostPort": 0, "servicePort": 0, "protocol": "tcp",
                "name": "default", "labels": {},
            }]),
        ),
        (
            image(json!({ "network": "BRIDGE", "portMappings": [{ "containerPort": 80 }] })),
            "/container/portMappings/0/containerPort",
            json!(80),
        ),
        (
            json!({ "id": "/a", "cmd": "xx", "ports": [8080, 0] }),
            "/portDefinitions/0",
            json!({ "port": 8080, "protocol": "tcp", "labels": {} }),
        ),
        (
            json!({ "id": "/a", "cmd": "xx", "healthChecks": [{ "path": "/h" }] }),
            "/healthChecks/0",
            json!({
                "protocol": "HTTP", "path": "/h", "portIndex": 0, "gracePeriodSeconds": 300,
                "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3,
                "ignoreHttp1xx": false, "delaySeconds": 15, "ipProtocol": "IPv4",
            }),
        ),
        (
            json!({
                "id": "/a", "cmd": "xx", "readinessChecks": [{ "portName": "default" }],
            }),
            "/readinessChecks/0",
            json!({
                "name": "readinessCheck", "protocol": "HTTP", "path": "/", "portName": "default",
                "intervalSeconds": 30, "timeoutSeconds": 10, "httpStatusCodesForReady": [200],
                "preserveLastResponse": false,
            }),
        ),
        (
            json!({ "id": "/a", "cmd": "xx", "upgradeStrategy": { "maximumOverCapacity": 0.25 } }),
            "/upgradeStrategy",
            json!({ "minimumHealthCapacity": 1, "maximumOverCapacity": 0.25 }),
        ),
        (
            json!({ "id": "/shop/a", "cmd": "xx", "dependencies": ["../db", "/x/y"] }),
            "/dependencies",
            json!(["/shop/db", "/x/y"]),
        ),
        (json!({ "id": "/a", "cmd": "xx", "env": null, "fetch": [] }), "/env", Value::Null),
    ];
    for (body, place, expected) in cases {
        let app = app(body.clone());
        let found = shown(&app).pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{place} of {body}");
        assert_eq!(self::app(shown(&app)), app, "normal forms stay as they are: {body}");
    }
}

#[test]
fn what_is_wrong_is_said_in_marathons_words() {
    let at = |path: &str, what: &str| json!([{ "path": path, "errors": [what] }]);
    let (status, body) = rejected("{\"id\":");
    assert_eq!((status, &body["message"]), (400, &json!("Invalid JSON")));
    for (body, details) in [
        ("[]", at("/", "error.expected.jsobject")),
        (r#"{"id": 7, "cmd": "xx"}"#, at("/id", "error.expected.jsstring")),
        (r#"{"cmd": "xx"}"#, at("/id", "error.path.missing")),
        (r#"{"id": "/a", "cmd": "xx", "instances": 1.5}"#, at("/instances", "error.expected.int")),
        (r#"{"id": "/a", "cmd": "xx", "cpus": "1"}"#, at("/cpus", "error.expected.jsnumber")),
        (
            r#"{"id": "/a", "cmd": "xx", "ports": ["x"]}"#,
            at("/ports(0)", "error.expected.jsnumber"),
        ),
        (
            r#"{"id": "/a", "cmd": "xx", "instnaces": 2}"#,
            at("/instnaces", "unknown field; did you mean `instances`?"),
        ),
    ] {
        let (status, said) = rejected(body);
        assert_eq!(status, 422, "{body}");
        assert_eq!(said, json!({ "message": "Invalid JSON", "details": details }), "{body}");
    }
    for (body, path) in [
        (r#"{"id": "/a"}"#, "/"),
        (r#"{"id": "/A b", "cmd": "xx"}"#, "/id"),
        (r#"{"id": "/", "cmd": "xx"}"#, "/id"),
        (r#"{"id": "/../../etc", "cmd": ""}"#, "/cmd"),
        (r#"{"id": "/a", "cmd": "xx", "args": ["y"]}"#, "/"),
        (r#"{"id": "/a", "cmd": "xx", "instances": -1}"#, "/instances"),
        (r#"{"id": "/a", "cmd": "xx", "gpus": 1}"#, "/gpus"),
        (r#"{"id": "/a", "cmd": "xx", "fetch": [{"uri": "http://x"}]}"#, "/fetch"),
        (r#"{"id": "/a", "cmd": "xx", "constraints": [["a", "NEAR"]]}"#, "/constraints(0)"),
        (
            r#"{"id": "/a", "cmd": "xx", "upgradeStrategy": {"minimumHealthCapacity": 2}}"#,
            "/upgradeStrategy/minimumHealthCapacity",
        ),
    ] {
        let (status, said) = rejected(body);
        assert_eq!((status, &said["message"]), (422, &json!("Object is not valid")), "{body}");
        assert_eq!(said["details"][0]["path"], path, "{body}: {said}");
    }
}

#[test]
fn updates_change_what_they_speak_of() {
    let web = app(json!({ "id": "/web", "cmd": "one", "env": { "A": "1" }, "instances": 3 }));
    let partly = updated(&web, json!({ "env": { "B": "2" }, "ports": null }), true);
    assert_eq!(shown(&partly)["env"], json!({ "B": "2" }));
    assert_eq!((partly.cmd(), partly.instances()), (Some("one"), 3));
    let wholly = updated(&web, json!({ "id": "/ignored", "cmd": "two" }), false);
    assert_eq!(wholly.id(), web.id());
    assert_eq!((wholly.cmd(), wholly.instances()), (Some("two"), 1));
    let words = updated(&web, json!({ "args": ["three"] }), true);
    assert_eq!((words.cmd(), &shown(&words)["args"]), (None, &json!(["three"])));
    assert_eq!(updated(&web, shown(&web), true), web, "what was shown may be sent back");
    let bridged = json!({
        "cmd": null,
        "container": { "docker": { "image": "x", "network": "BRIDGE" } },
    });
    let bridged = shown(&updated(&web, bridged, true));
    assert_eq!(bridged["networks"], json!([{ "mode": "container/bridge" }]));
    assert_eq!(bridged.get("portDefinitions"), None);
}

#[test]
fn a_version_stands_alone() {
    let web = app(json!({ "id": "/web", "cmd": "one" }));
    let update = |body: Value| update_app(Some(&web), web.id(), body.to_string().as_bytes(), true);
    let version = "2026-11-21T10:00:00.000Z";
    let alone = update(json!({ "id": "/web", "version": version }));
    assert!(matches!(alone, Ok(Update::Version(at)) if at.to_string() == version), "{alone:?}");
    let both = update(json!({ "cmd": "two", "version": version })).expect_err("both");
    let message = "The 'version' field may only be combined with the 'id' field.";
    assert_eq!(both.body()["details"], json!([{ "path": "/", "errors": [message] }]));
    assert_eq!(update(json!({ "version": "today" })).map_err(|r| r.status), Err(422));
}

#[test]
fn several_apps_are_taken_apart() {
    let body = br#"[{"id": "/a", "instances": 2}, {"id": "b/c"}]"#;
    let updates = update_apps(body).unwrap();
    let ids: Vec<&str> = updates.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["/a", "/b/c"]);
    let wrong = update_apps(br#"[{"id": "/a"}, {}]"#).expect_err("no id");
    assert_eq!(wrong.body()["details"][0]["path"], "(1)/id");
}

#[test]
fn service_ports_are_given_once() {
    let ports = |list: Value| app(json!({ "id": "/a", "cmd": "xx", "portDefinitions": list }));
    let zero = || json!([{ "port": 0, "name": "a" }, { "port": 0, "name": "b" }]);
    let mut first = ports(zero());
    first.assign_service_ports(None, &BTreeSet::from([10_000, 10_002])).unwrap();
    assert_eq!(first.service_ports(), [10_001, 10_003]);
    let mut next = ports(zero());
    next.assign_service_ports(Some(&first), &BTreeSet::new()).unwrap();
    assert_eq!(next.service_ports(), first.service_ports(), "as before");
    let mut fixed = ports(json!([{ "port": 10_003 }, { "port": 0 }]));
    fixed.assign_service_ports(Some(&first), &BTreeSet::new()).unwrap();
    assert_eq!(fixed.service_ports(), [10_003, 10_001]);
    let all: BTreeSet<u16> = (10_000..=20_000).collect();
    assert!(ports(zero()).assign_service_ports(None, &all).is_err());
}

#[test]
fn groups_are_read_with_all_that_is_in_them() {
    let body = json!({
        "id": "shop", "dependencies": ["../db"],
        "apps": [{ "id": "web", "cmd": "xx" }],
        "groups": [{ "id": "inner", "apps": [{ "id": "/shop/inner/x", "cmd": "xx" }] }],
    });
    let group = read_group(body.to_string().as_bytes(), "/").unwrap();
    let id = |text: &str| text.parse::<ServiceId>().unwrap();
    assert_eq!(group.id, "/shop");
    assert_eq!(group.dependencies, Some(BTreeSet::from([id("/db")])));
    assert_eq!(group.apps.as_ref().unwrap()[0].id(), &id("/shop/web"));
    let inner = &group.groups.as_ref().unwrap()[0];
    assert_eq!((inner.id.as_str(), inner.dependencies.as_ref()), ("/shop/inner", None));
    let nothing = |body: &[u8]| read_group(body, "/shop").unwrap();
    for body in [b"".as_slice(), b"{}", b"\"\"", b"null"] {
        let expected = GroupUpdate {
            id: "/shop".into(),
            apps: None,
            groups: None,
            dependencies: None,
            scale_by: None,
            version: None,
        };
        if body != b"null" {
            assert_eq!(nothing(body), expected);
        }
    }
    for (body, path) in [
        (r#"{"apps": [{"id": "a", "cmd": 1}]}"#, "/apps(0)/cmd"),
        (r#"{"groups": [{"id": "g", "apps": [{"id": "a"}]}]}"#, "/groups(0)/apps(0)"),
        (r#"{"scaleBy": "x"}"#, "/scaleBy"),
        (r#"{"pods": [{}]}"#, "/pods"),
        (r#"{"app": []}"#, "/app"),
    ] {
        let rejected: Rejected = read_group(body.as_bytes(), "/").expect_err(body);
        assert_eq!(rejected.body()["details"][0]["path"], path, "{body}");
    }
    assert!(read_group(br#"{"scaleBy": 2, "apps": []}"#, "/g").is_err());
}

#[test]
fn services_are_described_as_apps_that_are_valid() {
    let spec = json!({
        "service": "/shop/web", "instances": 4,
        "container": { "image": "web", "network": "bridge", "command": ["serve", "-v"] },
        "ports": [{ "name": "http", "container": 80 }],
        "health": [{ "probe": { "http": { "path": "/h", "port": "http" } } }],
        "readiness": { "probe": { "http": { "path": "/r" } } },
        "rollout": { "min_healthy": 2, "max_over": "25%" },
        "roles": ["public"], "surplus": "oldest", "lost": { "after": "60s" },
        "env": { "A": "1" }, "labels": { "b": "2" },
    });
    let spec: model::Spec = serde_json::from_value(spec).unwrap();
    let app = App::of(&spec);
    let back = app.spec().unwrap_or_else(|rejected| panic!("{rejected:?}"));
    assert_eq!(back.service, spec.service);
    assert_eq!(back.container, spec.container);
    assert_eq!(
        (back.instances, back.roles, back.surplus, back.lost),
        (4, spec.roles, spec.surplus, spec.lost)
    );
    assert_eq!(
        (back.rollout.min_healthy, back.rollout.max_over),
        ("50%".parse().unwrap(), spec.rollout.max_over)
    );
    assert_eq!(App::from_source(&app.to_source()), Some(app));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["/a", "HTTP", "HOST", "disabled", "..", "", "\u{0}", "é"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop::sample::select(vec!["docker", "image", "port", "labels", "mode", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.prop_map(String::from), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A good app with one key put wrong is taken, and then stays as it is, or is refused.
    #[test]
    fn any_value_in_any_place_is_taken_or_refused(
        key in prop::sample::select(vec![
            "id", "cmd", "args", "instances", "cpus", "env", "labels", "constraints", "container",
            "networks", "portDefinitions", "ports", "healthChecks", "readinessChecks",
            "upgradeStrategy", "unreachableStrategy", "dependencies", "version", "fetch", "other",
        ]),
        value in any_json(),
    ) {
        let mut body = json!({ "id": "/a", "cmd": "sleep 1" });
        body[key] = value;
        match read_app(body.to_string().as_bytes(), None) {
            Ok(app) => prop_assert_eq!(self::app(shown(&app)), app),
            Err(rejected) => prop_assert!([400, 422].contains(&rejected.status)),
        }
        let _ = read_group(body.to_string().as_bytes(), "/g");
        let _ = update_apps(body.to_string().as_bytes());
    }
}
