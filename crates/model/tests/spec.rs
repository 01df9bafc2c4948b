//! Service documents: which fields are omitted, which take effect in place, and the waits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster_model::{CommandLine, Millis, PortRef, Resources, Restart, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(document: Value) -> Spec {
    serde_json::from_value(document).unwrap()
}

fn written(spec: &Spec) -> Value {
    serde_json::to_value(spec).unwrap()
}

/// `muster get services -o yaml` shows the applied document, without defaults.
#[test]
fn omitted_keys_are_not_written() {
    let document = json!({"service": "/a", "process": {"command": "serve"}});
    let spec = read(document.clone());
    let mut expected = document;
    expected["instances"] = json!(1);
    assert_eq!(written(&spec), expected);

    let document = json!({
        "service": "/a",
        "instances": 3,
        "container": {
            "image": "nginx",
            "command": ["nginx", "-g"],
            "entrypoint": [],
            "pull": "always",
            "network": "host",
            "volumes": [{"source": "/a", "target": "/b", "read_only": true}],
            "user": "www",
            "privileged": true,
        },
        "resources": {"cpu": 0.5, "memory": "1GiB"},
        "ports": [{"name": "http", "port": 80, "container": 8080, "protocol": "udp"}],
        "env": {"A": "b"},
        "requires": ["docker"],
        "roles": ["edge"],
        "scale_down": "oldest",
        "depends_on": ["/b"],
        "labels": {"a": "b"},
    });
    assert_eq!(written(&read(document.clone())), document);
}

#[test]
fn omitted_keys_have_defaults() {
    let spec = read(json!({
        "service": "/a",
        "process": {"command": "serve"},
        "resources": {"memory": "1GiB"},
        "health": [{"probe": {"http": {}}}],
        "readiness": {"probe": {"tcp": {}}},
    }));
    let document = written(&spec);
    assert_eq!(document["resources"], json!({"cpu": 0.1, "memory": "1GiB"}));
    assert_eq!(
        document["health"][0],
        json!({
            "probe": {"http": {"path": "/"}},
            "interval": "5s",
            "timeout": "5s",
            "failures": 3,
            "grace": "30s",
        })
    );
    assert_eq!(
        document["readiness"],
        json!({"probe": {"tcp": {}}, "interval": "1s", "timeout": "5s"})
    );
    let resources: Resources = serde_json::from_value(json!({"cpu": 2})).unwrap();
    assert_eq!(serde_json::to_value(resources).unwrap(), json!({"cpu": 2, "memory": "128MiB"}));
}

#[test]
fn a_command_is_a_string_for_the_shell_or_a_list_of_words() {
    let words = |document: &str| serde_json::from_str::<CommandLine>(document).map(|c| c.words());
    assert_eq!(words(r#""echo $A""#).unwrap(), ["/bin/sh", "-c", "echo $A"]);
    assert_eq!(words(r#"["echo", "$A"]"#).unwrap(), ["echo", "$A"]);
    assert_eq!(words("[]").unwrap(), [""; 0]);
    let refused = words("5").unwrap_err().to_string();
    assert!(refused.contains("a string for the shell, or a list of words"), "{refused}");
    assert!(words(r#"["echo", 5]"#).is_err());
}

#[test]
fn a_port_is_referenced_by_index_or_name() {
    let mut spec = read(json!({"service": "/a", "ports": [{"name": "http"}, {}, {"name": "rpc"}]}));
    let index = |spec: &Spec, port: Value| {
        let port: PortRef = serde_json::from_value(port).unwrap();
        spec.port_index(&port)
    };
    for (port, expected) in [
        (json!(0), Some(0)),
        (json!(1), Some(1)),
        (json!(2), Some(2)),
        (json!(3), None),
        (json!("http"), Some(0)),
        (json!("rpc"), Some(2)),
        (json!("web"), None),
    ] {
        assert_eq!(index(&spec, port.clone()), expected, "{port}");
    }
    spec.ports.clear();
    assert_eq!(index(&spec, json!(0)), None);
    assert_eq!(PortRef::Index(1).to_string(), "1");
    assert_eq!(PortRef::Name("http".into()).to_string(), "http");
}

/// A running instance keeps the fields that it was started with; other fields take effect in place.
#[test]
fn a_change_of_a_start_parameter_needs_a_restart() {
    let check = |field: &str, value: Value, restarts: bool| {
        let document = json!({"service": "/a", "process": {"command": "serve"}});
        let before = read(document.clone());
        let mut document = document;
        document[field] = value;
        let after = read(document);
        assert_ne!(before, after, "{field}");
        assert_eq!(after.needs_restart(&before), restarts, "{field}");
        assert_eq!(before.needs_restart(&after), restarts, "{field}, back again");
        assert!(!after.needs_restart(&after), "{field}");
    };
    for (field, value) in [
        ("container", json!({"image": "nginx"})),
        ("process", json!({"command": "serve --fast"})),
        ("resources", json!({"cpu": 1})),
        ("ports", json!([{}])),
        ("env", json!({"A": "b"})),
        ("files", json!([{"path": "a", "text": "b"}])),
        ("requires", json!(["docker"])),
        ("roles", json!(["edge"])),
        ("constraints", json!([["rack", "UNIQUE"]])),
    ] {
        check(field, value, true);
    }
    for (field, value) in [
        ("instances", json!(2)),
        ("health", json!([{"probe": {"command": "true"}}])),
        ("readiness", json!({"probe": {"command": "true"}})),
        ("rollout", json!({"max_surge": 1})),
        ("restart", json!({"first": "1s"})),
        ("stop", json!({"grace": "1s"})),
        ("lost", json!({"after": "1s"})),
        ("scale_down", json!("oldest")),
        ("depends_on", json!(["/b"])),
        ("labels", json!({"a": "b"})),
    ] {
        check(field, value, false);
    }
}

#[test]
fn a_change_of_content_alone_restarts_only_if_the_file_says_so() {
    let check = |before: serde_json::Value, after: serde_json::Value, restarts: bool| {
        let spec = |mut file: serde_json::Value| {
            file["path"] = json!("a");
            let process = json!({"command": "serve"});
            read(json!({"service": "/a", "process": process, "files": [file]}))
        };
        let (before, after) = (spec(before), spec(after));
        assert_eq!(after.needs_restart(&before), restarts, "{before:?} {after:?}");
        let stacked = |spec: &Spec| {
            let (files, process) = (&spec.files, &spec.process);
            let resource = json!({"name": "a", "process": process, "files": files});
            read(json!({"service": "/a", "stack": [resource]}))
        };
        assert_eq!(stacked(&after).needs_restart(&stacked(&before)), restarts, "in a stack");
    };
    let hup = json!({"signal": "SIGHUP"});
    let file =
        |text: &str, on_change: &serde_json::Value| json!({"text": text, "on_change": on_change});
    check(file("1", &hup), file("2", &hup), false);
    check(file("1", &json!("nothing")), file("2", &hup), false);
    check(file("1", &hup), json!({"base64": "AA==", "on_change": hup}), false);
    check(file("1", &json!("restart")), file("2", &json!("restart")), true);
    check(json!({"text": "1"}), file("1", &json!("restart")), false);
    // A revision that did not restart for its content must not pass for one that did.
    check(file("1", &json!("restart")), file("1", &hup), true);
    check(
        json!({"text": "1", "mode": "0600", "on_change": hup}),
        json!({"text": "1", "mode": "0640", "on_change": hup}),
        true,
    );
}

#[test]
fn the_delay_grows_with_consecutive_failures_up_to_the_maximum() {
    let restart = Restart {
        first: Millis(100),
        backoff: Millis::secs(1),
        factor: 3.0,
        max: Millis::secs(60),
        ..Restart::default()
    };
    let waits = [1, 2, 3, 4, 5, 6, u32::MAX].map(|failures| restart.delay(failures).0);
    assert_eq!(waits, [100, 1_000, 3_000, 9_000, 27_000, 60_000, 60_000]);
}

#[test]
fn a_backoff_of_zero_stays_zero() {
    let restart = Restart { backoff: Millis(0), ..Restart::default() };
    for failures in [1, 2, 10_000, u32::MAX] {
        assert_eq!(restart.delay(failures), Millis(0), "{failures}");
    }
}

proptest! {
    #[test]
    fn the_delay_never_shrinks(failures in 2u32..20_000, backoff in 0u64..10_000, factor in 1.0..9.0) {
        let restart = Restart { backoff: Millis(backoff), factor, ..Restart::default() };
        let (before, after) = (restart.delay(failures), restart.delay(failures + 1));
        prop_assert!(before <= after && after <= restart.max);
    }
}

/// Stored specs and assignments may come from a newer version. `formats` reads the documents of
/// users, and rejects unknown keys.
#[test]
fn unknown_keys_are_ignored() {
    let known = json!({
        "service": "/a",
        "container": {"image": "nginx", "volumes": [{"source": "/a", "target": "/b"}]},
        "health": [{"probe": {"http": {"port": "http"}}}],
        "ports": [{"name": "http"}],
        "files": [{"path": "/a", "text": "b"}],
        "rollout": {"max_surge": 1},
        "restart": {"first": "5s"},
    });
    let mut newer = known.clone();
    for pointer in ["", "/container", "/container/volumes/0", "/health/0", "/ports/0", "/files/0"] {
        newer.pointer_mut(pointer).unwrap()["priority"] = json!(5);
    }
    for pointer in ["/health/0/probe/http", "/rollout", "/restart"] {
        newer.pointer_mut(pointer).unwrap()["priority"] = json!({"of": ["another", "version"]});
    }
    assert_eq!(read(newer), read(known));
}
