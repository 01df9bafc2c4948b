//! The definition of an app in requests and responses: default and form of each key.

#![allow(clippy::unwrap_used)]

mod written;

use muster_adapter_marathon::format::{App, read_app};
use serde_json::{Value, json};
use written::{app, bridged, merge, shown, with};

#[test]
fn an_app_is_shown_with_exactly_its_defaults_added() {
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
    assert_eq!(shown(&app(&with(json!({ "id": "shop//web/" })))), expected);
}

/// Keys without effect, which some clients send.
#[test]
fn empty_unsupported_keys_have_no_effect() {
    let plain = app(&with(json!({})));
    for keys in [
        json!({ "args": null, "container": null, "ports": null, "dependencies": null, "env": null }),
        json!({ "args": [], "env": {}, "labels": {}, "constraints": [], "dependencies": [] }),
        json!({ "fetch": [], "uris": [], "storeUrls": [], "secrets": {}, "tty": false }),
        json!({ "disk": 0, "gpus": 0, "executor": "", "role": "*", "cpus": 1.0, "instances": 1.0 }),
        json!({ "ipAddress": null, "residency": null, "check": null, "taskRateLimit": 0 }),
        json!({ "upgradeStrategy": {}, "unreachableStrategy": {}, "networks": [] }),
        json!({ "healthChecks": [], "readinessChecks": [], "acceptedResourceRoles": null }),
        json!({ "version": "2026-11-21T10:00:00.000Z", "versionInfo": { "lastScalingAt": "x" } }),
        json!({ "tasks": [{ "id": 1 }], "tasksRunning": 4, "tasksStaged": 0, "tasksHealthy": 4 }),
        json!({ "tasksUnhealthy": 0, "deployments": [{ "id": "x" }], "lastTaskFailure": {} }),
        json!({ "readinessCheckResults": [], "taskStats": {}, "ports": [0], "portDefinitions": [
            { "name": "default" },
        ] }),
    ] {
        assert_eq!(app(&with(keys.clone())), plain, "{keys}");
    }
}

/// An app in a request, and the expected form of a part of it in responses.
#[test]
fn every_key_is_normalised() {
    let definition = |port: u16| json!({ "port": port, "protocol": "tcp", "labels": {} });
    let mapping = |container: u16, service: u16| {
        json!({
            "containerPort": container, "hostPort": 0, "servicePort": service, "protocol": "tcp",
            "labels": {},
        })
    };
    let mut default_mapping = mapping(0, 0);
    default_mapping["name"] = json!("default");
    let older = |docker: Value| {
        let mut whole = json!({ "image": "web:1" });
        merge(&mut whole, docker);
        json!({ "id": "/a", "container": { "docker": whole } })
    };
    let with_definitions = |count: usize| {
        let mut body = bridged(json!({}));
        body["portDefinitions"] = json!(vec![json!({ "port": 80, "name": "A_b" }); count]);
        body
    };
    let check = |keys: Value| with(json!({ "healthChecks": [keys] }));
    let cases = [
        // Older forms.
        (older(json!({ "network": "HOST" })), "/networks", json!([{ "mode": "host" }])),
        (older(json!({ "network": "bridge" })), "/networks/0/mode", json!("container/bridge")),
        (older(json!({ "network": "HOST" })), "/container/docker/network", Value::Null),
        (
            older(json!({ "network": "BRIDGE" })),
            "/container/portMappings",
            json!([default_mapping]),
        ),
        (
            older(json!({ "network": "BRIDGE", "portMappings": [{ "containerPort": 80 }] })),
            "/container/portMappings",
            json!([mapping(80, 0)]),
        ),
        (
            with(json!({ "ports": [8080, 0] })),
            "/portDefinitions",
            json!([definition(8080), definition(0)]),
        ),
        (with(json!({ "ports": [] })), "/portDefinitions", json!([])),
        (bridged(json!({ "portMappings": [] })), "/container/portMappings", json!([])),
        (
            {
                let mut body = bridged(json!({ "portMappings": [{ "containerPort": 80 }] }));
                body["ports"] = json!([10_001, 10_002]);
                body
            },
            "/container/portMappings",
            json!([mapping(80, 10_001), mapping(0, 10_002)]),
        ),
        // Marathon drops the ports of the other network before it validates them.
        (
            older(json!({ "network": "HOST", "portMappings": [{ "name": "A_b" }] })),
            "/container/portMappings",
            Value::Null,
        ),
        (
            with(json!({ "container": { "docker": { "image": "x" }, "portMappings": [{}] } })),
            "/portDefinitions/0/name",
            json!("default"),
        ),
        (with_definitions(1), "/portDefinitions", Value::Null),
        (with_definitions(1), "/container/portMappings", json!([default_mapping])),
        (with_definitions(2), "/container/portMappings", json!([default_mapping, mapping(0, 0)])),
        // Containers.
        (
            bridged(json!({})),
            "/container/docker",
            json!({ "image": "web:1", "forcePullImage": false, "privileged": false, "parameters": [] }),
        ),
        (bridged(json!({})), "/container/type", json!("DOCKER")),
        (bridged(json!({ "type": "mesos" })), "/container/type", json!("MESOS")),
        (bridged(json!({})), "/container/volumes", json!([])),
        (
            bridged(json!({ "volumes": [{ "containerPath": "/d", "hostPath": "/h" }] })),
            "/container/volumes/0",
            json!({ "containerPath": "/d", "hostPath": "/h", "mode": "RW" }),
        ),
        (bridged(json!({})), "/portDefinitions", Value::Null),
        (
            {
                let mut body = bridged(json!({}));
                body["requirePorts"] = json!(true);
                body
            },
            "/requirePorts",
            json!(false),
        ),
        // Checks.
        (
            check(json!({ "path": "/h" })),
            "/healthChecks/0",
            json!({
                "protocol": "HTTP", "path": "/h", "portIndex": 0, "gracePeriodSeconds": 300,
                "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3,
                "ignoreHttp1xx": false, "delaySeconds": 15, "ipProtocol": "IPv4",
            }),
        ),
        (check(json!({})), "/healthChecks/0/path", json!("/")),
        (
            check(json!({ "protocol": "TCP" })),
            "/healthChecks/0",
            json!({
                "protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 300,
                "intervalSeconds": 60, "timeoutSeconds": 20, "maxConsecutiveFailures": 3,
                "delaySeconds": 15, "ipProtocol": "IPv4",
            }),
        ),
        (
            check(json!({ "protocol": "COMMAND", "command": { "value": "ok" } })),
            "/healthChecks/0/portIndex",
            Value::Null,
        ),
        (
            with(json!({ "readinessChecks": [{ "portName": "default" }] })),
            "/readinessChecks/0",
            json!({
                "name": "readinessCheck", "protocol": "HTTP", "path": "/", "portName": "default",
                "intervalSeconds": 30, "timeoutSeconds": 10, "httpStatusCodesForReady": [200],
                "preserveLastResponse": false,
            }),
        ),
        // The rest.
        (
            with(json!({ "upgradeStrategy": { "maximumOverCapacity": 0.25 } })),
            "/upgradeStrategy",
            json!({ "minimumHealthCapacity": 1, "maximumOverCapacity": 0.25 }),
        ),
        (
            with(json!({ "labels": { "MARATHON_SINGLE_INSTANCE_APP": "true" } })),
            "/upgradeStrategy",
            json!({ "minimumHealthCapacity": 0, "maximumOverCapacity": 0 }),
        ),
        (
            with(json!({ "unreachableStrategy": "disabled" })),
            "/unreachableStrategy",
            json!("disabled"),
        ),
        (
            with(json!({ "dependencies": ["../db", "/x/y", "../db"] })),
            "/dependencies",
            json!(["/shop/db", "/x/y"]),
        ),
        (with(json!({ "killSelection": "oldest_first" })), "/killSelection", json!("OLDEST_FIRST")),
        (with(json!({ "executor": "//cmd" })), "/executor", json!("//cmd")),
        (with(json!({ "disk": 512.0 })), "/disk", json!(512)),
        (with(json!({ "cpus": 0.25 })), "/cpus", json!(0.25)),
        (with(json!({ "taskKillGracePeriodSeconds": 5 })), "/taskKillGracePeriodSeconds", json!(5)),
        (
            with(json!({ "acceptedResourceRoles": ["*", "public"] })),
            "/acceptedResourceRoles",
            json!(["*", "public"]),
        ),
        (
            with(json!({ "constraints": [["rack", "GROUP_BY", "3"]] })),
            "/constraints",
            json!([["rack", "GROUP_BY", "3"]]),
        ),
        (
            with(json!({ "portDefinitions": [{ "labels": { "a": "b" } }] })),
            "/portDefinitions/0/labels",
            json!({ "a": "b" }),
        ),
    ];
    for (body, place, expected) in cases {
        let read = app(&body);
        let found = shown(&read).pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{place} of {body}");
        assert_eq!(app(&shown(&read)), read, "the form stays as it is: {body}");
        assert_eq!(App::from_source(&read.to_source()).as_ref(), Some(&read), "{body}");
    }
}

#[test]
fn a_check_may_name_a_fixed_port_by_number() {
    let index = |body: Value| {
        let spec = app(&body).spec().unwrap();
        serde_json::to_value(&spec.health[0].probe).unwrap().pointer("/http/port").cloned()
    };
    let definitions = json!([{ "port": 8080 }, { "port": 9090 }]);
    let check = json!([{ "port": 9090 }]);
    let fixed =
        json!({ "requirePorts": true, "portDefinitions": definitions, "healthChecks": check });
    assert_eq!(index(with(fixed)), Some(json!(1)));
    let loose = with(json!({ "portDefinitions": definitions, "healthChecks": check }));
    assert!(read_app(loose.to_string().as_bytes(), None).is_err(), "it may be any port");
    let mut inside =
        bridged(json!({ "portMappings": [{ "containerPort": 1 }, { "containerPort": 80 }] }));
    inside["healthChecks"] = json!([{ "protocol": "MESOS_HTTP", "port": 80 }]);
    assert_eq!(index(inside), Some(json!(1)), "Mesos checks from inside of the container");
}
