//! Updates of apps, groups, service ports, and services presented as apps.

#![allow(clippy::unwrap_used)]

mod written;

use std::collections::BTreeSet;

use model::{ServiceId, Spec};
use muster_adapter_marathon::format::{
    self, App, Details, GroupUpdate, Rejected, Update, read_group, update_app, update_apps,
};
use serde_json::{Value, json};
use written::shown;

fn app(body: Value) -> App {
    written::app(&body)
}

fn updated(current: &App, body: &Value, partial: bool) -> Result<App, Rejected> {
    let update = update_app(Some(current), current.id(), body.to_string().as_bytes(), partial);
    update.map(|update| match update {
        Update::App(app) => *app,
        Update::Version(version) => panic!("{version}"),
    })
}

fn id(text: &str) -> ServiceId {
    text.parse().unwrap()
}

/// A partial update changes the keys that it contains, and keeps the others.
#[test]
fn updates_change_only_the_keys_they_contain() {
    let line = || {
        app(json!({
            "id": "/web", "cmd": "one", "env": { "A": "1" }, "instances": 3,
            "labels": { "a": "b" }, "ports": [8080],
        }))
    };
    let bridged = || {
        app(json!({
            "id": "/web", "networks": [{ "mode": "container/bridge" }],
            "container": { "docker": { "image": "x" }, "portMappings": [{ "containerPort": 80 }] },
        }))
    };
    let bridge = json!([{ "mode": "container/bridge" }]);
    for (current, update, place, expected) in [
        (line(), json!({ "env": { "B": "2" } }), "/env", json!({ "B": "2" })),
        (line(), json!({ "env": { "B": "2" } }), "/labels", json!({ "a": "b" })),
        (line(), json!({ "env": null, "ports": null }), "/env", json!({ "A": "1" })),
        (line(), json!({ "env": {} }), "/env", Value::Null),
        (line(), json!({ "instances": 5 }), "/cmd", json!("one")),
        (line(), json!({ "id": "/other" }), "/id", json!("/web")),
        (line(), json!({ "ports": [1, 2] }), "/portDefinitions/1/port", json!(2)),
        (line(), json!({ "tasksRunning": 3, "deployments": [] }), "/cmd", json!("one")),
        (
            line(),
            json!({ "container": { "docker": { "image": "x", "network": "BRIDGE" } } }),
            "/networks",
            bridge.clone(),
        ),
        (
            line(),
            json!({ "container": { "docker": { "image": "x" } }, "networks": bridge }),
            "/portDefinitions",
            Value::Null,
        ),
        (
            bridged(),
            json!({ "networks": [{ "mode": "host" }] }),
            "/container/portMappings",
            Value::Null,
        ),
        (
            bridged(),
            json!({ "networks": [{ "mode": "host" }] }),
            "/portDefinitions/0/name",
            json!("default"),
        ),
        (bridged(), json!({ "networks": [] }), "/networks", bridge.clone()),
        (
            bridged(),
            json!({ "networks": bridge }),
            "/container/portMappings/0/containerPort",
            json!(80),
        ),
        (
            bridged(),
            json!({ "container": { "docker": { "image": "y" } } }),
            "/container/portMappings/0/name",
            json!("default"),
        ),
    ] {
        let app = updated(&current, &update, true).unwrap_or_else(|r| panic!("{update}: {r:?}"));
        let found = shown(&app).pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{place} after {update}");
    }
    let wholly = updated(&line(), &json!({ "cmd": "two" }), false).unwrap();
    assert_eq!((wholly.cmd(), wholly.instances(), wholly.labels().len()), (Some("two"), 1, 0));
    for current in [line(), bridged()] {
        assert_eq!(
            updated(&current, &shown(&current), true).unwrap(),
            current,
            "put as it was got"
        );
        assert_eq!(updated(&current, &shown(&current), false).unwrap(), current);
    }
    // As in Marathon, the other one has to be removed, which takes a complete definition.
    let both = "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";
    let args = json!({ "args": ["two"] });
    let refused = updated(&line(), &args, true).expect_err("both").body();
    assert_eq!(refused["details"], json!([{ "path": "/", "errors": [both] }]));
    assert_eq!(shown(&updated(&line(), &args, false).unwrap())["args"], args["args"]);
    let missing = update_app(None, &id("/new"), br#"{"instances": 2}"#, true);
    assert_eq!(missing.expect_err("no command").body()["details"][0]["path"], "/");
    let wrong = updated(&line(), &json!({ "cpus": -1 }), true).expect_err("wrong");
    assert_eq!(wrong.body()["details"][0]["path"], "/cpus");
}

#[test]
fn an_update_to_a_version_allows_no_other_key() {
    let web = app(json!({ "id": "/web", "cmd": "one" }));
    let update = |body: Value| update_app(Some(&web), web.id(), body.to_string().as_bytes(), true);
    let version = "2026-11-21T10:00:00.000Z";
    for body in
        [json!({ "version": version }), json!({ "id": "/web", "version": version, "cmd": null })]
    {
        let alone = update(body);
        assert!(matches!(alone, Ok(Update::Version(at)) if at.to_string() == version), "{alone:?}");
    }
    let both = update(json!({ "cmd": "two", "version": version })).expect_err("both");
    let message = "The 'version' field may only be combined with the 'id' field.";
    assert_eq!((both.status, both.message.as_str()), (422, message));
    assert_eq!(both.body()["details"], json!([{ "path": "/", "errors": [message] }]));
    let never = update(json!({ "version": "today" })).expect_err("no time");
    assert_eq!(
        (never.status, never.body()["details"][0]["path"].as_str()),
        (422, Some("/version"))
    );
}

#[test]
fn an_array_of_apps_is_split_into_updates() {
    let body = br#" [{"id": "/a", "instances": 2}, {"id": "b//c", "cmd": null}] "#;
    let updates = update_apps(body).unwrap();
    let updates: Vec<(&str, &str)> = (updates.iter())
        .map(|(id, body)| (id.as_str(), std::str::from_utf8(body).unwrap()))
        .collect();
    assert_eq!(
        updates,
        [("/a", r#"{"id": "/a", "instances": 2}"#), ("/b/c", r#"{"id": "b//c", "cmd": null}"#)]
    );
    for (body, status, path) in [
        (r#"[{"id": "/a"}, {}]"#, 422, Some("(1)/id")),
        (r#"[{"id": "/a"}, 3]"#, 422, Some("(1)")),
        (r#"[{"id": "/A"}]"#, 422, Some("(0)/id")),
        (r#"{"id": "/a"}"#, 422, Some("/")),
        ("[", 400, None),
        ("", 400, None),
    ] {
        let rejected = update_apps(body.as_bytes()).expect_err(body);
        let document = rejected.body();
        assert_eq!(
            (rejected.status, document["details"][0]["path"].as_str()),
            (status, path),
            "{body}"
        );
    }
}

#[test]
fn each_service_port_is_assigned_once() {
    let ports = |list: Value| app(json!({ "id": "/a", "cmd": "xx", "portDefinitions": list }));
    let zero = || json!([{ "port": 0, "name": "a" }, { "port": 0, "name": "b" }]);
    let mut first = ports(zero());
    first.assign_service_ports(None, &BTreeSet::from([10_000, 10_002])).unwrap();
    assert_eq!(first.service_ports(), [10_001, 10_003]);
    let mut next = ports(zero());
    next.assign_service_ports(Some(&first), &BTreeSet::new()).unwrap();
    assert_eq!(next.service_ports(), first.service_ports(), "as before");
    let mut more = ports(json!([{ "port": 0 }, { "port": 0 }, { "port": 0 }]));
    more.assign_service_ports(Some(&first), &BTreeSet::from([10_000])).unwrap();
    assert_eq!(more.service_ports(), [10_001, 10_003, 10_002], "as before, then the next");
    let mut fixed = ports(json!([{ "port": 10_003 }, { "port": 0 }]));
    fixed.assign_service_ports(Some(&first), &BTreeSet::new()).unwrap();
    assert_eq!(fixed.service_ports(), [10_003, 10_001]);
    let mut bridged = app(json!({
        "id": "/a", "container": { "docker": { "image": "x", "network": "BRIDGE" } },
    }));
    bridged.assign_service_ports(Some(&first), &BTreeSet::new()).unwrap();
    assert_eq!(shown(&bridged)["container"]["portMappings"][0]["servicePort"], 10_001);
    assert_eq!(bridged.spec().unwrap().ports[0].port, 0, "it is no port of the node");
    let all: BTreeSet<u16> = (10_000..=20_000).collect();
    let none = ports(zero()).assign_service_ports(None, &all).expect_err("none is left");
    assert_eq!(none.status, 422);
}

#[test]
fn groups_are_read_with_their_apps_and_subgroups() {
    let body = json!({
        "id": "shop", "dependencies": ["../db"],
        "pods": [], "enforceRole": false,
        "apps": [{ "id": "web", "cmd": "xx", "dependencies": ["inner/x", "/db"], "tasksRunning": 1 }],
        "groups": [{ "id": "inner", "apps": [{ "id": "/shop/inner/x", "cmd": "xx" }] }],
    });
    let group = read_group(body.to_string().as_bytes(), "/").unwrap();
    assert_eq!((group.id.as_str(), group.version), ("/shop", None));
    assert_eq!(group.dependencies, Some(BTreeSet::from([id("/db")])));
    let web = &group.apps.as_ref().unwrap()[0];
    assert_eq!(web.id(), &id("/shop/web"));
    assert_eq!(shown(web)["dependencies"], json!(["/shop/inner/x", "/db"]), "seen from the group");
    let inner = &group.groups.as_ref().unwrap()[0];
    assert_eq!((inner.id.as_str(), inner.dependencies.as_ref()), ("/shop/inner", None));
    assert_eq!(inner.apps.as_ref().unwrap()[0].id(), &id("/shop/inner/x"));
}

/// The resolution of relative dependencies, as in Marathon: `AppDefinition.withCanonizedIds`
/// resolves from the app's own id, `UpdateGroupStructureOp` from the group that contains the app.
#[test]
fn relative_dependencies_resolve_from_the_app_or_its_group() {
    for (dependency, of_app, of_group) in [
        ("/db", "/db", "/db"),
        ("db", "/shop/eu/web/db", "/shop/eu/db"),
        ("./db", "/shop/eu/web/db", "/shop/eu/db"),
        ("../db", "/shop/eu/db", "/shop/db"),
        ("../../db", "/shop/db", "/db"),
        ("../..", "/shop", "/"),
        ("../../../../../db", "/db", "/db"),
        ("/shop/../db", "/db", "/db"),
        ("a/b", "/shop/eu/web/a/b", "/shop/eu/a/b"),
    ] {
        let body = |id: &str| json!({ "id": id, "cmd": "xx", "dependencies": [dependency] });
        let alone = app(body("/shop/eu/web"));
        assert_eq!(shown(&alone)["dependencies"], json!([of_app]), "{dependency}");
        for id in ["web", "/shop/eu/web"] {
            let inner = json!({ "id": "eu", "apps": [body(id)] });
            let group = json!({ "id": "/shop", "groups": [inner] });
            match read_group(group.to_string().as_bytes(), "/") {
                Ok(group) => {
                    let inner = &group.groups.unwrap()[0];
                    let app = &inner.apps.as_ref().unwrap()[0];
                    assert_eq!(shown(app)["dependencies"], json!([of_group]), "{dependency}");
                }
                Err(rejected) => assert_eq!(of_group, "/", "{rejected:?}: nothing is above all"),
            }
        }
    }
}

fn nothing_of(path: &str) -> GroupUpdate {
    GroupUpdate {
        id: path.into(),
        apps: None,
        groups: None,
        dependencies: None,
        scale_by: None,
        version: None,
    }
}

#[test]
fn groups_with_few_keys_are_read() {
    for body in ["", " \n", "{}", "\"\"", r#"{"apps": null}"#, r#"{"pods": []}"#] {
        assert_eq!(read_group(body.as_bytes(), "/shop").unwrap(), nothing_of("/shop"), "{body}");
    }
    let scaled = GroupUpdate { scale_by: Some(1.5), ..nothing_of("/shop") };
    assert_eq!(read_group(br#"{"scaleBy": 1.5}"#, "/shop").unwrap(), scaled);
    let version = "2026-11-21T10:00:00.000Z";
    let back = GroupUpdate { version: version.parse().ok(), ..nothing_of("/shop") };
    let body = json!({ "id": "/shop", "version": version }).to_string();
    assert_eq!(read_group(body.as_bytes(), "/").unwrap(), back);
    let emptied = GroupUpdate { apps: Some(Vec::new()), ..nothing_of("/shop") };
    assert_eq!(read_group(br#"{"apps": []}"#, "/shop").unwrap(), emptied, "all of them go");
}

#[test]
fn problems_of_groups_are_reported_at_their_keys() {
    const ALONE: &str = "not allowed in conjunction with other properties.";
    for (body, path, what) in [
        ("[]", "/", "error.expected.jsobject"),
        ("null", "/", "error.expected.jsobject"),
        (r#"{"id": 3}"#, "/id", "error.expected.jsstring"),
        (r#"{"apps": {}}"#, "/apps", "error.expected.jsarray"),
        (r#"{"apps": [3]}"#, "/apps(0)", "error.expected.jsobject"),
        (r#"{"apps": [{"id": "a", "cmd": 1}]}"#, "/apps(0)/cmd", "error.expected.jsstring"),
        (
            r#"{"groups": [{"id": "g", "apps": [{"id": "a", "cmd": "xx", "gpus": 1}]}]}"#,
            "/groups(0)/apps(0)/gpus",
            "`gpus` is not supported yet",
        ),
        (r#"{"groups": [{}]}"#, "/groups(0)/id", "error.path.missing"),
        (
            r#"{"groups": [{"id": "/other"}]}"#,
            "/groups(0)/id",
            "Identifier is not child of /g. Hint: use relative paths.",
        ),
        (
            r#"{"apps": [{"id": "/x", "cmd": "xx"}]}"#,
            "/apps(0)/id",
            "Identifier is not child of /g. Hint: use relative paths.",
        ),
        (r#"{"dependencies": [1]}"#, "/dependencies(0)", "error.expected.jsstring"),
        (r#"{"scaleBy": "x"}"#, "/scaleBy", "error.expected.jsnumber"),
        (r#"{"scaleBy": -1}"#, "/scaleBy", "got -1, expected 0 or more"),
        (r#"{"scaleBy": 2, "apps": []}"#, "/scaleBy", ALONE),
        (r#"{"version": "2026-11-21T10:00:00.000Z", "dependencies": []}"#, "/version", ALONE),
        (r#"{"version": "2026-11-21T10:00:00.000Z", "apps": []}"#, "/version", ALONE),
        (r#"{"version": "2026-11-21T10:00:00.000Z", "groups": []}"#, "/version", ALONE),
        (r#"{"version": "soon"}"#, "/version", "error.expected.date.isoformat"),
        (r#"{"pods": [{}]}"#, "/pods", "pods are not supported: describe their containers as apps"),
        (
            r#"{"enforceRole": true}"#,
            "/enforceRole",
            "is not supported: Muster has no roles of groups",
        ),
        (r#"{"app": []}"#, "/app", "unknown field"),
    ] {
        let rejected: Rejected = read_group(body.as_bytes(), "/g").expect_err(body);
        let details = json!([{ "path": path, "errors": [what] }]);
        assert_eq!((rejected.status, &rejected.body()["details"]), (422, &details), "{body}");
    }
    assert_eq!(read_group(b"{", "/g").map_err(|rejected| rejected.status), Err(400));
}

#[test]
fn services_are_described_by_the_closest_app() {
    let spec = json!({
        "service": "/shop/web", "instances": 3,
        "container": { "image": "web", "network": "bridge", "command": ["serve", "-v"] },
        "ports": [{ "name": "Http_api", "container": 80 }, { "container": 81 }],
        "health": [
            { "probe": { "http": { "path": "/h", "port": "Http_api" } }, "failures": 1 },
            { "probe": { "command": ["test", "-f", "it's"] }, "failures": 5, "interval": "500ms" },
        ],
        "readiness": { "probe": { "http": { "path": "/r", "port": 1 } } },
        "rollout": { "min_healthy": 2, "max_surge": 2 },
        "roles": ["public"], "scale_down": "oldest", "lost": { "after": "60s" },
        "env": { "A": "1", "MARATHON_APP_ID": "/shop/web" }, "labels": { "b": "2" },
    });
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let app = App::of(&spec);
    let document = shown(&app);
    for (place, expected) in [
        ("/args", json!(["serve", "-v"])),
        ("/env", json!({ "A": "1" })),
        ("/container/portMappings/0/name", json!("http-api")),
        ("/container/portMappings/1/name", json!("port1")),
        ("/healthChecks/0/portIndex", json!(0)),
        ("/healthChecks/0/maxConsecutiveFailures", json!(1)),
        ("/healthChecks/1/command/value", json!(r"test -f 'it'\''s'")),
        ("/healthChecks/1/intervalSeconds", json!(1)),
        ("/healthChecks/1/maxConsecutiveFailures", json!(4)),
        ("/readinessChecks/0/portName", json!("port1")),
        ("/readinessChecks/0/timeoutSeconds", json!(5)),
        ("/readinessChecks/0/intervalSeconds", json!(6)),
        ("/acceptedResourceRoles", json!(["public"])),
        ("/killSelection", json!("OLDEST_FIRST")),
        ("/unreachableStrategy/inactiveAfterSeconds", json!(60)),
    ] {
        assert_eq!(document.pointer(place), Some(&expected), "{place} of {document}");
    }
    let back = app.spec().unwrap_or_else(|rejected| panic!("{rejected:?}"));
    assert_eq!((&back.container, &back.service), (&spec.container, &spec.service));
    assert_eq!((back.lost, back.scale_down, back.roles), (spec.lost, spec.scale_down, spec.roles));
    let (least, most) = (back.rollout.min_healthy.ceil_of(3), back.rollout.max_surge.added_to(3));
    assert_eq!((least, most), (2, 5), "counts come back as they were");
    assert_eq!(self::app(document), app, "it is valid");
}

/// A change of an app preserves settings of its service that an app cannot express.
#[test]
fn an_update_keeps_spec_keys_that_apps_lack() {
    let spec = json!({
        "service": "/shop/web", "instances": 3,
        "process": { "command": ["run", "it"], "workdir": "/srv", "user": "www" },
        "ports": [{ "name": "Http" }], "env": { "A": "1" }, "stop": { "drain": "5s", "grace": "20s" },
        "readiness": { "probe": { "tcp": { "port": "Http" } } },
        "health": [{ "probe": { "http": { "port": "Http", "statuses": [204] } } }],
    });
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let before = App::of(&spec);
    let changed = |update: Value| {
        updated(&before, &update, true).unwrap().spec_merged_into(&before, &spec).unwrap()
    };
    assert_eq!(changed(json!({})), spec);
    assert_eq!(changed(json!({ "instances": 5 })), Spec { instances: 5, ..spec.clone() });
    assert!(!changed(json!({ "instances": 5 })).needs_restart(&spec), "scaled, not started anew");
    let mut env = spec.clone();
    env.env.insert("B".into(), "2".into());
    assert_eq!(changed(json!({ "env": { "A": "1", "B": "2" } })), env);
    let line = changed(json!({ "args": ["run", "that", "once"] })).process.unwrap();
    assert_eq!(
        (line.workdir.as_ref().and_then(model::Value::as_text), line.command.words().len()),
        (Some("/srv"), 3)
    );
    assert_eq!(changed(json!({ "healthChecks": [] })), Spec { health: vec![], ..spec.clone() });
    let ported = changed(json!({ "portDefinitions": [{ "name": "other" }] }));
    assert_eq!(ported.ports[0].name.as_deref(), Some("other"));
    assert!(ported.problems().is_empty(), "nothing is left that means the port by its former name");
    let image = changed(json!({ "container": { "docker": { "image": "x" } } }));
    assert_eq!((image.process, image.container.unwrap().image.as_str()), (None, "x"));
}

#[test]
fn reserved_words_cannot_end_a_path() {
    for word in ["restart", "tasks", "versions"] {
        let message = format!("`{word}` is reserved and cannot end a service path");
        assert_eq!(format::reserved(&format!("/shop/{word}")), Some(message.clone()));
        let group = json!({ "id": format!("/shop/{word}") }).to_string();
        let rejected = read_group(group.as_bytes(), "/").unwrap_err();
        let expected = Details::Paths(vec![("/id".into(), message)]);
        assert_eq!((rejected.status, rejected.details), (422, expected));
        assert_eq!(format::reserved(&format!("/{word}/web")), None);
        assert_eq!(format::reserved(&format!("/shop/my-{word}")), None);
    }
}
