//! The messages for invalid apps, which are Marathon's where it has the same rule.

#![allow(clippy::unwrap_used)]

mod written;

use muster_adapter_marathon::format::{Rejected, read_app};
use serde_json::{Value, json};
use written::{bridged, merge, with};

fn rejected(body: &str) -> Rejected {
    read_app(body.as_bytes(), None).expect_err(body)
}

#[test]
fn invalid_json_is_reported_by_the_parser() {
    for body in ["", "{\"id\":", "{'id': 1}", "{} {}", "nope", "[", "\u{0}"] {
        let rejected = rejected(body);
        assert_eq!(
            (rejected.status, rejected.body()["message"].as_str()),
            (400, Some("Invalid JSON"))
        );
        assert!(rejected.body()["details"].is_string(), "{rejected:?}");
    }
}

/// Values of wrong types, with the messages of play-json.
#[test]
fn invalid_types_have_error_codes() {
    for (body, path, code) in [
        (json!([]), "/", "error.expected.jsobject"),
        (json!("app"), "/", "error.expected.jsobject"),
        (json!({ "cmd": "xx" }), "/id", "error.path.missing"),
        (json!({ "id": null, "cmd": "xx" }), "/id", "error.path.missing"),
        (with(json!({ "id": 7 })), "/id", "error.expected.jsstring"),
        (with(json!({ "cmd": ["sleep"] })), "/cmd", "error.expected.jsstring"),
        (with(json!({ "args": "sleep" })), "/args", "error.expected.jsarray"),
        (with(json!({ "args": [1] })), "/args(0)", "error.expected.jsstring"),
        (with(json!({ "instances": "2" })), "/instances", "error.expected.jsnumber"),
        (with(json!({ "instances": 1.5 })), "/instances", "error.expected.int"),
        (with(json!({ "cpus": "1" })), "/cpus", "error.expected.jsnumber"),
        (with(json!({ "requirePorts": "yes" })), "/requirePorts", "error.expected.jsboolean"),
        (with(json!({ "env": [] })), "/env", "error.expected.jsobject"),
        (with(json!({ "env": { "A": 1 } })), "/env/A", "error.expected.jsstring"),
        (with(json!({ "labels": { "a.b": true } })), "/labels/a.b", "error.expected.jsstring"),
        (with(json!({ "ports": ["x"] })), "/ports(0)", "error.expected.jsnumber"),
        (with(json!({ "constraints": ["x"] })), "/constraints(0)", "error.expected.jsarray"),
        (with(json!({ "container": "x" })), "/container", "error.expected.jsobject"),
        (
            with(json!({ "container": { "docker": {} } })),
            "/container/docker/image",
            "error.path.missing",
        ),
        (
            with(json!({ "container": { "type": "LXC" } })),
            "/container/type",
            "error.unknown.enum.literal",
        ),
        (
            with(json!({ "networks": [{ "mode": 3 }] })),
            "/networks(0)/mode",
            "error.unknown.enum.literal",
        ),
        (with(json!({ "killSelection": "FIRST" })), "/killSelection", "error.unknown.enum.literal"),
        (
            with(json!({ "healthChecks": [{ "protocol": "GRPC" }] })),
            "/healthChecks(0)/protocol",
            "error.unknown.enum.literal",
        ),
        (
            with(json!({ "unreachableStrategy": { "inactiveAfterSeconds": "1" } })),
            "/unreachableStrategy/inactiveAfterSeconds",
            "error.expected.jsnumber",
        ),
        (with(json!({ "instnaces": 2 })), "/instnaces", "unknown field; did you mean `instances`?"),
        (with(json!({ "frobnicate": 2 })), "/frobnicate", "unknown field"),
        (
            with(json!({ "healthChecks": [{ "pth": "/" }] })),
            "/healthChecks(0)/pth",
            "unknown field; did you mean `path`?",
        ),
    ] {
        let rejected = rejected(&body.to_string());
        assert_eq!(rejected.status, 422, "{body}");
        let details = json!([{ "path": path, "errors": [code] }]);
        assert_eq!(
            rejected.body(),
            json!({ "message": "Invalid JSON", "details": details }),
            "{body}"
        );
    }
    let several = rejected(r#"{"id": "/a", "cmd": 1, "cpus": "x", "mem": -1}"#).body();
    let paths: Vec<_> = several["details"].as_array().unwrap().iter().map(|d| &d["path"]).collect();
    assert_eq!(paths, ["/cmd", "/cpus"], "all are reported at once, without consequences");
}

const NO_COMMAND: &str =
    "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";
const NO_PORT: &str = "Health check port indices must address an element of the ports array or \
                       container port mappings.";
const MANY_NETWORKS: &str = "May specify a single host network, single bridge network, or else \
                             1-to-n container networks";
const NAME: &str = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";

/// All rules of Marathon for apps, with the messages for violations.
fn rules() -> Vec<(Value, &'static str, &'static str)> {
    let single = |keys: Value| {
        let mut body = with(json!({ "labels": { "MARATHON_SINGLE_INSTANCE_APP": "true" } }));
        merge(&mut body, keys);
        body
    };
    let checks = |checks: Value| with(json!({ "healthChecks": checks }));
    let ready = |keys: Value| {
        let mut check = json!({ "portName": "default" });
        merge(&mut check, keys);
        with(json!({ "readinessChecks": [check] }))
    };
    let upgrade = |key: &str, share: f64| with(json!({ "upgradeStrategy": { key: share } }));
    vec![
        (json!({ "id": "/a" }), "/", NO_COMMAND),
        (with(json!({ "args": ["x"] })), "/", NO_COMMAND),
        (json!({ "id": "/a", "container": { "type": "MESOS" } }), "/", NO_COMMAND),
        (with(json!({ "cmd": "w" })), "/cmd", "must not be an empty string"),
        (with(json!({ "cmd": "" })), "/cmd", "must not be an empty string"),
        (with(json!({ "id": "/" })), "/id", "a service path must name a service, as in /shop/web"),
        (
            with(json!({ "id": "/a/tasks" })),
            "/id",
            "`tasks` is reserved and cannot end a service path",
        ),
        (
            with(json!({ "instances": -1 })),
            "/instances",
            "expected a whole number, 0 or more, found -1",
        ),
        (with(json!({ "instances": 200_000 })), "/instances", "at most 100000 instances"),
        (
            single(json!({ "instances": 2 })),
            "/instances",
            "Single instance app may only have one instance",
        ),
        (
            single(json!({ "upgradeStrategy": { "maximumOverCapacity": 0 } })),
            "/upgradeStrategy/minimumHealthCapacity",
            "got 1, expected 0 for an app of a single instance",
        ),
        (with(json!({ "cpus": -1 })), "/cpus", "got -1, expected 0 or more"),
        (with(json!({ "cpus": 0.0001 })), "/cpus", "got 0.0001, expected 0.001 or more"),
        (with(json!({ "mem": -0.5 })), "/mem", "got -0.5, expected 0 or more"),
        (with(json!({ "disk": -3 })), "/disk", "got -3, expected 0 or more"),
        (with(json!({ "env": { "": "x" } })), "/env", "`` cannot be the name of a variable"),
        (
            with(json!({ "constraints": [["a"]] })),
            "/constraints(0)",
            "a constraint is [attribute, OPERATOR] or [attribute, OPERATOR, value], not 1 parts",
        ),
        (
            with(json!({ "constraints": [["a", "NEAR"]] })),
            "/constraints(0)",
            "`NEAR` is not an operator: use UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER or IS",
        ),
        (
            with(json!({ "constraints": [["a", "UNIQUE", "x"]] })),
            "/constraints(0)",
            "UNIQUE takes no value",
        ),
        (
            with(json!({ "constraints": [["a", "MAX_PER", "x"]] })),
            "/constraints(0)",
            "MAX_PER needs a whole number",
        ),
        (
            with(json!({ "constraints": [["a", "GROUP_BY", "x"]] })),
            "/constraints(0)",
            "GROUP_BY needs a whole number of groups, or no value",
        ),
        (
            with(json!({ "constraints": [["a", "LIKE"]] })),
            "/constraints(0)",
            "LIKE needs a regular expression",
        ),
        (
            with(json!({ "constraints": [["a", "IS", "a*"]] })),
            "/constraints(0)",
            "IS needs a value of letters, digits and _ / . -",
        ),
        (
            with(json!({ "acceptedResourceRoles": [] })),
            "/acceptedResourceRoles",
            "must not be empty",
        ),
        (with(json!({ "backoffSeconds": -1 })), "/backoffSeconds", "got -1, expected 0 or more"),
        (with(json!({ "backoffFactor": 0.9 })), "/backoffFactor", "got 0.9, expected 1 or more"),
        (
            with(json!({ "maxLaunchDelaySeconds": -1 })),
            "/maxLaunchDelaySeconds",
            "got -1, expected 0 or more",
        ),
        (
            with(json!({ "taskKillGracePeriodSeconds": -1 })),
            "/taskKillGracePeriodSeconds",
            "got -1, expected 0 or more",
        ),
        (
            with(json!({ "dependencies": ["/A"] })),
            "/dependencies(0)",
            "`A` is not a valid name: lower-case letters, digits, hyphens inside, labels joined by dots",
        ),
        (with(json!({ "dependencies": ["."] })), "/dependencies", "/shop/web depends on itself"),
        (
            upgrade("minimumHealthCapacity", 1.5),
            "/upgradeStrategy/minimumHealthCapacity",
            "got 1.5, expected between 0.0 and 1.0",
        ),
        (
            upgrade("maximumOverCapacity", -0.1),
            "/upgradeStrategy/maximumOverCapacity",
            "got -0.1, expected between 0.0 and 1.0",
        ),
        (
            with(
                json!({ "unreachableStrategy": { "inactiveAfterSeconds": 9, "expungeAfterSeconds": 8 } }),
            ),
            "/unreachableStrategy",
            "inactiveAfterSeconds must be at most expungeAfterSeconds",
        ),
        // Ports and networks.
        (
            with(json!({ "portDefinitions": [{ "port": 80 }, { "port": 80 }] })),
            "/portDefinitions",
            "Ports must be unique.",
        ),
        (with(json!({ "ports": [80, 80] })), "/portDefinitions", "Ports must be unique."),
        (
            with(json!({ "portDefinitions": [{ "name": "a" }, { "name": "a" }] })),
            "/portDefinitions",
            "Port names must be unique.",
        ),
        (with(json!({ "portDefinitions": [{ "name": "A_b" }] })), "/portDefinitions(0)/name", NAME),
        (
            with(json!({ "portDefinitions": [{ "port": 70000 }] })),
            "/portDefinitions(0)/port",
            "expected a whole number from 0 to 65535, found 70000",
        ),
        (
            with(json!({ "ports": [1], "portDefinitions": [{ "port": 2 }] })),
            "/ports",
            "cannot specify both ports and port definitions",
        ),
        (
            bridged(json!({ "portMappings": [{ "name": "a" }, { "name": "a" }] })),
            "/container/portMappings",
            "Port names must be unique.",
        ),
        (
            bridged(json!({ "docker": { "image": "x", "network": "HOST" } })),
            "/networks",
            "must not specify both container.docker.network and networks",
        ),
        (
            bridged(
                json!({ "docker": { "image": "x", "portMappings": [{}] }, "portMappings": [{}] }),
            ),
            "/container/docker/portMappings",
            "cannot specify both portMappings and docker.portMappings",
        ),
        (
            with(json!({ "networks": [{ "mode": "host", "name": "x" }] })),
            "/networks(0)",
            "Host networks may not have names or labels",
        ),
        (
            {
                let mut body = bridged(json!({}));
                body["networks"] = json!([{ "mode": "container/bridge", "name": "x" }]);
                body
            },
            "/networks(0)",
            "Bridge networks may not have names",
        ),
        (
            with(json!({ "networks": [{ "mode": "host" }, { "mode": "host" }] })),
            "/networks",
            "Duplicate networks are not allowed",
        ),
        (
            {
                let mut body = bridged(json!({}));
                body["networks"] = json!([{ "mode": "container/bridge" }, { "mode": "host" }]);
                body
            },
            "/networks",
            MANY_NETWORKS,
        ),
        // Containers.
        (with(json!({ "container": {} })), "/container/docker", "not defined"),
        (
            with(json!({ "container": { "docker": { "image": "" } } })),
            "/container/docker/image",
            "must not be empty",
        ),
        (
            bridged(json!({ "volumes": [{ "containerPath": "", "hostPath": "/h" }] })),
            "/container/volumes(0)/containerPath",
            "must not be empty",
        ),
        (
            bridged(json!({ "volumes": [{ "containerPath": "/d", "hostPath": "h" }] })),
            "/container/volumes(0)/hostPath",
            "`h` must be an absolute path",
        ),
        // Checks.
        (checks(json!([{ "portIndex": 1 }])), "/healthChecks(0)", NO_PORT),
        (with(json!({ "ports": [], "healthChecks": [{}] })), "/healthChecks(0)", NO_PORT),
        (checks(json!([{}, { "protocol": "COMMAND" }])), "/healthChecks(1)/command", "not defined"),
        (
            checks(json!([{ "protocol": "MESOS_TCP" }, { "protocol": "MESOS_HTTP" }])),
            "/healthChecks",
            "AppDefinition can contain at most one Mesos health check",
        ),
        (
            checks(json!([{ "timeoutSeconds": -1 }])),
            "/healthChecks(0)/timeoutSeconds",
            "got -1, expected 0 or more",
        ),
        (
            with(json!({ "readinessChecks": [{ "portName": "default", "name": "" }] })),
            "/readinessChecks(0)/name",
            "must not be empty",
        ),
        (
            ready(json!({ "portName": "main" })),
            "/readinessChecks(0)/portName",
            "No port definition reference for portName main",
        ),
        (
            ready(json!({ "timeoutSeconds": 30 })),
            "/readinessChecks(0)/timeoutSeconds",
            "got 30, expected less than 30",
        ),
        (
            with(
                json!({ "readinessChecks": [{ "portName": "default" }, { "portName": "default" }] }),
            ),
            "/readinessChecks",
            "got 2, expected 1 or less",
        ),
        (
            ready(json!({ "protocol": "TCP" })),
            "/readinessChecks(0)/protocol",
            "must be HTTP or HTTPS",
        ),
    ]
}

#[test]
fn every_violated_rule_is_reported_at_its_key() {
    for (body, path, message) in rules() {
        let rejected = rejected(&body.to_string());
        assert_eq!(
            (rejected.status, rejected.message.as_str()),
            (422, "Object is not valid"),
            "{body}"
        );
        let details = rejected.body()["details"].clone();
        let found = details.as_array().unwrap().iter().find(|detail| detail["path"] == path);
        let errors = found.map(|detail| detail["errors"].as_array().unwrap().clone());
        assert!(errors.is_some_and(|errors| errors.contains(&json!(message))), "{body}: {details}");
    }
}

/// Features of Marathon that Muster does not support are rejected by name.
#[test]
fn unsupported_features_are_rejected_by_name() {
    for (body, path) in [
        (with(json!({ "gpus": 1 })), "/gpus"),
        (with(json!({ "storeUrls": ["http://x/y"] })), "/storeUrls"),
        (with(json!({ "secrets": { "a": { "source": "b" } } })), "/secrets"),
        (with(json!({ "env": { "A": { "secret": "a" } } })), "/env/A/secret"),
        (with(json!({ "executor": "/opt/run" })), "/executor"),
        (with(json!({ "check": { "tcp": {} } })), "/check"),
        (with(json!({ "tty": true })), "/tty"),
        (with(json!({ "role": "prod" })), "/role"),
        (with(json!({ "residency": { "taskLostBehavior": "WAIT_FOREVER" } })), "/residency"),
        (with(json!({ "ipAddress": { "networkName": "x" } })), "/ipAddress"),
        (with(json!({ "resourceLimits": { "cpus": 2 } })), "/resourceLimits"),
        (with(json!({ "executorResources": { "cpus": 1 } })), "/executorResources"),
        (with(json!({ "taskRateLimit": 1.0 })), "/taskRateLimit"),
        (with(json!({ "networks": [{ "mode": "container", "name": "x" }] })), "/networks(0)/mode"),
        (with(json!({ "networks": [{ "mode": "container/bridge" }] })), "/networks"),
        (
            with(json!({ "portDefinitions": [{ "labels": { "VIP_0": "/a:80" } }] })),
            "/portDefinitions(0)/labels/VIP_0",
        ),
        (
            with(json!({ "portDefinitions": [{ "protocol": "udp,tcp" }] })),
            "/portDefinitions(0)/protocol",
        ),
        (
            bridged(json!({ "docker": { "image": "x", "network": "USER" } })),
            "/container/docker/network",
        ),
        (
            bridged(
                json!({ "docker": { "image": "x", "parameters": [{ "key": "a", "value": "b" }] } }),
            ),
            "/container/docker/parameters",
        ),
        (
            bridged(json!({ "docker": { "image": "x", "pullConfig": { "secret": "s" } } })),
            "/container/docker/pullConfig",
        ),
        (
            bridged(json!({ "linuxInfo": { "seccomp": { "unconfined": true } } })),
            "/container/linuxInfo",
        ),
        (
            bridged(json!({ "portMappings": [{ "networkNames": ["x"] }] })),
            "/container/portMappings(0)/networkNames",
        ),
        (
            bridged(json!({ "volumes": [{ "containerPath": "d", "persistent": { "size": 9 } }] })),
            "/container/volumes(0)/persistent",
        ),
        (
            bridged(json!({ "volumes": [{ "containerPath": "/d", "external": { "name": "v" } }] })),
            "/container/volumes(0)/external",
        ),
        (
            bridged(json!({ "volumes": [{ "containerPath": "/d", "secret": "s" }] })),
            "/container/volumes(0)/secret",
        ),
        (with(json!({ "healthChecks": [{ "protocol": "HTTPS" }] })), "/healthChecks(0)/protocol"),
        (
            with(json!({ "healthChecks": [{ "protocol": "MESOS_HTTPS" }] })),
            "/healthChecks(0)/protocol",
        ),
        (
            with(json!({ "healthChecks": [{ "ipProtocol": "IPv6" }] })),
            "/healthChecks(0)/ipProtocol",
        ),
        (
            with(json!({ "readinessChecks": [{ "portName": "default", "protocol": "HTTPS" }] })),
            "/readinessChecks(0)/protocol",
        ),
    ] {
        let response = rejected(&body.to_string()).body();
        assert_eq!(response["message"], "Object is not valid", "{body}: {response}");
        let details = response["details"].as_array().unwrap();
        let paths: Vec<&Value> = details.iter().map(|detail| &detail["path"]).collect();
        assert_eq!(paths, [path], "{body}: {response}");
        assert!(details[0]["errors"][0].as_str().unwrap().contains("not supported"), "{response}");
    }
}
