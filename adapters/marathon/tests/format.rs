//! Marathon apps in files: the resulting services, and the messages for invalid apps.

use formats::{Diagnostic, Located, Parsed, parse_with, to_yaml};
use model::{Document, Problem, Spec};
use muster_adapter_marathon::format::Apps;

/// Reads a file with apps.
fn parse(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse_with("app.json", text, &[&Apps])
}

fn one(text: &str) -> Located {
    let mut parsed = parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}\n{text}"));
    assert_eq!(parsed.documents.len(), 1);
    parsed.documents.remove(0)
}

fn spec(text: &str) -> Spec {
    match one(text).document {
        Document::Service { spec, source: Some(source) } if source.adapter == "marathon" => *spec,
        other => panic!("an app is a service that an app describes, not {other:?}"),
    }
}

fn check(name: &str, output: String) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("marathon__{name}"), output);
    });
}

/// The apps with the resulting services.
fn check_services(name: &str, apps: &[&str]) {
    let mut output = String::new();
    for app in apps {
        output += &format!("{app}\n>>>\n{}\n", to_yaml(&spec(app)));
    }
    check(name, output);
}

/// The apps with the resulting messages.
fn check_diagnostics(name: &str, apps: &[&str]) {
    let mut output = String::new();
    for app in apps {
        output += &format!("{app}\n>>>\n");
        for diagnostic in parse(app).expect_err(app) {
            output += &format!("{diagnostic}\n");
        }
        output += "\n";
    }
    check(name, output);
}

/// An app with an image on the host network, and the keys in `rest`.
fn app(rest: &str) -> String {
    let comma = if rest.is_empty() { "" } else { "," };
    format!(
        r#"{{
  "id": "/shop/web", "instances": 4, "cpus": 0.1, "mem": 32,
  "container": {{"type": "DOCKER", "docker": {{"image": "shop/web:1.0", "network": "HOST"}}}},
  "env": {{"HEALTH_MIN": "1000", "VERSION": "0.9"}}{comma}
  {rest}
}}"#
    )
}

const HEALTH: &str = r#""healthChecks": [{
    "protocol": "HTTP", "path": "/health", "gracePeriodSeconds": 300, "intervalSeconds": 60,
    "timeoutSeconds": 20, "maxConsecutiveFailures": 3, "ignoreHttp1xx": false
  }]"#;

#[test]
fn apps_become_services() {
    check_services(
        "apps_become_services",
        &[
            &app(""),
            &app(HEALTH),
            &app(r#""portDefinitions": [{"protocol": "tcp", "name": "main-api", "port": 0}],
  "readinessChecks": [{
    "protocol": "HTTP", "path": "/health", "portName": "main-api", "intervalSeconds": 30,
    "timeoutSeconds": 10, "httpStatusCodesForReady": [200]
  }]"#),
            &app(&format!(
                r#"{HEALTH},
  "upgradeStrategy": {{"minimumHealthCapacity": 0.25, "maximumOverCapacity": 0.25}}"#
            )),
            r#"{"id": "batch", "cmd": "sleep 100"}"#,
        ],
    );
}

#[test]
fn every_key_of_an_app_is_translated() {
    check_services(
        "every_key_of_an_app_is_translated",
        &[
            r#"{
  "id": "shop/api", "args": ["--listen", "8080"], "user": "www",
  "container": {
    "docker": {"image": "api", "forcePullImage": true, "privileged": true},
    "volumes": [{"containerPath": "/data", "hostPath": "/srv/data", "mode": "RO"}],
    "portMappings": [
      {"containerPort": 8080, "hostPort": 0, "servicePort": 10080, "name": "http"},
      {"containerPort": 53, "hostPort": 53, "protocol": "udp"}
    ]
  },
  "networks": [{"mode": "container/bridge"}],
  "healthChecks": [
    {"protocol": "MESOS_HTTP", "portIndex": 0, "maxConsecutiveFailures": 0, "delaySeconds": 400},
    {"protocol": "TCP", "port": 53, "intervalSeconds": 2.5},
    {"protocol": "COMMAND", "command": {"value": "test -f /ok"}}
  ],
  "constraints": [["hostname", "UNIQUE"], ["rack", "GROUP_BY", "3"]],
  "dependencies": ["/db", "../cache", "../../mail/out"],
  "backoffSeconds": 2, "backoffFactor": 1.5, "maxLaunchDelaySeconds": 60,
  "taskKillGracePeriodSeconds": 20,
  "labels": {"team": "shop", "a.b-c": "1"}
}"#,
            r#"{
  "id": "/shop/tool", "cmd": "exec tool", "requirePorts": true, "ports": [8000, 0],
  "container": {"type": "DOCKER", "docker": {"image": "tool"}},
  "acceptedResourceRoles": ["*", "slave_public"], "killSelection": "OLDEST_FIRST",
  "unreachableStrategy": {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 300}
}"#,
            r#"{"id": "/a", "cmd": "xx", "unreachableStrategy": "disabled"}"#,
        ],
    );
}

#[test]
fn empty_unsupported_keys_are_accepted() {
    let plain = spec(r#"{"id": "/a", "cmd": "sleep 100"}"#);
    let full = spec(
        r#"{
  "id": "/a", "cmd": "sleep 100", "args": null, "instances": 1, "cpus": 1, "mem": 128, "disk": 0,
  "gpus": 0, "executor": "", "user": null, "constraints": [], "fetch": [], "uris": [],
  "storeUrls": [], "backoffFactor": 1.15, "maxLaunchDelaySeconds": 300, "container": null,
  "healthChecks": [], "readinessChecks": [], "dependencies": [], "labels": {}, "env": {},
  "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}, "secrets": {},
  "acceptedResourceRoles": null, "killSelection": "YOUNGEST_FIRST", "requirePorts": false,
  "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}, "tty": false,
  "networks": [{"mode": "host"}], "ipAddress": null, "residency": null, "role": "*",
  "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "default", "labels": {}}]
}"#,
    );
    assert_eq!(plain, full);
    assert_eq!(plain, spec("id: /a\ncmd: sleep 100\n"), "apps may be written in YAML as well");
}

#[test]
fn invalid_apps() {
    check_diagnostics(
        "invalid_apps",
        &[
            r#"{"id": "/a", "cmd": "sleep 1", "args": ["sleep", "1"]}"#,
            r#"{"id": "/a"}"#,
            r#"{"id": "/", "cmd": "xx"}"#,
            r#"{"id": "/a", "cmd": "xx", "instnces": 2, "healthchecks": [], "foo": 1}"#,
            r#"{"id": "/a", "cmd": "xx", "instances": "2", "env": {"A": 1}, "cpus": -1, "ports": ["x"]}"#,
            r#"{"id": "/a", "cmd": "xx", "mem": -1, "cpus": 0.0001,
  "upgradeStrategy": {"minimumHealthCapacity": 1.5, "maximumOverCapacity": 1}, "backoffSeconds": -3}"#,
            r#"{"id": "/a", "cmd": "xx", "constraints": [["hostname", "UNIQUE", "x"], ["rack", "NEAR"]]}"#,
            r#"{"id": "/a", "cmd": "xx", "dependencies": ["..", "/a", "b c"]}"#,
            r#"{"id": "/a", "cmd": "xx", "backoffFactor": 0.5, "dependencies": ["/a"], "env": {"A=B": ""},
  "healthChecks": [{"path": "health", "intervalSeconds": 0}]}"#,
            r#"{"id": "/a", "cmd": "xx", "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}, "instances": 2}"#,
            r#"{"id": "/a", "container": {"docker": {"network": "HOST"}}}"#,
            r#"{"id": "/a", "container": {"type": "DOCKER"}, "cmd": "xx"}"#,
            r#"{"id": "/a", "container": {"type": "LXC", "docker": {"image": "x"}}}"#,
        ],
    );
}

#[test]
fn invalid_ports_and_checks() {
    check_diagnostics(
        "invalid_ports_and_checks",
        &[
            &app(r#""ports": [], "healthChecks": [{"path": "/"}, {"portIndex": 3}, {"port": 80}]"#),
            &app(
                r#""healthChecks": [{"protocol": "HTTPS"}, {"protocol": "GRPC"}, {"protocol": "COMMAND"},
    {"protocol": "TCP", "path": "/"}, {"port": 0, "portIndex": 0}, {"command": {"value": "x"}}]"#,
            ),
            &app(r#""readinessChecks": [{"timeoutSeconds": 30}, {"protocol": "HTTPS"}]"#),
            &app(
                r#""portDefinitions": [{"protocol": "udp,tcp"}, {"name": "a"}, {"name": "a"}], "ports": [1]"#,
            ),
            r#"{"id": "/a", "container": {"docker": {"image": "x", "network": "BRIDGE"}},
  "networks": [{"mode": "host"}], "portDefinitions": [{"port": 80}]}"#,
            r#"{"id": "/a", "container": {"docker": {"image": "x", "network": "USER"}}}"#,
            r#"{"id": "/a", "container": {"docker": {"image": "x"}},
  "networks": [{"mode": "container", "name": "dcos"}]}"#,
            r#"{"id": "/a", "cmd": "xx", "networks": [{"mode": "container/bridge"}]}"#,
        ],
    );
}

#[test]
fn unsupported_keys() {
    check_diagnostics(
        "unsupported_keys",
        &[
            r#"{
  "id": "/a", "cmd": "xx",
  "disk": 100, "gpus": 1,
  "secrets": {"pass": {"source": "db/pass"}},
  "env": {"PASSWORD": {"secret": "pass"}},
  "fetch": [{"uri": "hdfs://a/b.tgz"}], "uris": [],
  "executor": "/run", "check": {"tcp": {}}, "tty": true, "role": "slave_public",
  "residency": {"taskLostBehavior": "WAIT_FOREVER"},
  "ipAddress": {"networkName": "x"}, "resourceLimits": {"cpus": 2}, "taskRateLimit": 1,
  "unreachableStrategy": {"inactiveAfterSeconds": 300},
  "portDefinitions": [{"port": 0, "labels": {"VIP_0": "/a:80"}}]
}"#,
            r#"{
  "id": "/a", "container": {
    "docker": {"image": "x", "parameters": [{"key": "cpus", "value": "1"}], "pullConfig": {"secret": "s"}},
    "linuxInfo": {"ipcInfo": {"mode": "PRIVATE"}},
    "volumes": [
      {"containerPath": "data", "mode": "RW", "persistent": {"size": 10}},
      {"containerPath": "/x", "external": {"name": "x", "provider": "dvdi"}},
      {"containerPath": "/y"}
    ]
  },
  "healthChecks": [{"ipProtocol": "IPv6"}], "readinessChecks": [{"preserveLastResponse": true}]
}"#,
            r#"{"id": "/a", "cmd": "xx", "version": "2016-10-13T13:36:22.000Z", "tasksRunning": 4, "tasks": []}"#,
            r#"{"id": "/shop", "apps": [{"id": "web", "cmd": "xx"}]}"#,
            r#"{"id": "/shop", "groups": []}"#,
            r#"{"id": "/pod", "containers": [{"name": "a"}]}"#,
        ],
    );
}

#[test]
fn problems_found_by_the_model_point_into_the_app() {
    let text = app(&format!(
        r#"{HEALTH},
  "portDefinitions": [{{"port": 0}}],
  "dependencies": ["/db"], "constraints": [["hostname", "UNIQUE"]]"#
    ));
    let located = one(&text);
    let mut output = format!("{text}\n>>>\n");
    for key in [
        "service",
        "instances",
        "container.image",
        "container.volumes.0.source",
        "resources.cpu",
        "resources.memory",
        "ports.0.port",
        "ports.0.name",
        "env.HEALTH_MIN",
        "env.MARATHON_APP_ID",
        "health.0.probe.http.path",
        "health.0.probe.http.port",
        "health.0.failures",
        "rollout.deadline",
        "depends_on",
        "constraints.0",
        "no.such.key",
    ] {
        let diagnostic = located.diagnostic(&Problem::new(key, ""));
        assert_eq!(located.locate(key), (diagnostic.line, diagnostic.column));
        output +=
            &format!("{key} -> {}:{} {}\n", diagnostic.line, diagnostic.column, diagnostic.key);
    }
    check("problems_found_by_the_model_point_into_the_app", output);
}

#[test]
fn conflicting_programs_are_reported_with_rejected_keys() {
    let app = r#"{"id": "/a", "cmd": "xx", "args": ["x"], "uris": ["http://x/y"], "gpus": 1}"#;
    let diagnostics = parse(app).expect_err(app);
    let keys: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.key.as_str()).collect();
    assert!(keys.contains(&"args") && keys.len() > 1, "{diagnostics:?}");
    let short = parse(r#"{"id": "/a", "cmd": "x"}"#).expect_err("it is too short");
    assert_eq!(short[0].message, "must have 2 characters or more");
}

/// The maximum depth of a source through the recursive decoders, with a quarter of the default
/// stack.
#[test]
fn a_deeply_nested_app_needs_little_stack() {
    let parse_deepest = || {
        let deepest = format!("{}{}", "[".repeat(62), "]".repeat(62));
        parse(&format!("id: a\ncmd: x\nsecrets: {deepest}\nlabels: {deepest}\n")).unwrap_err();
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(parse_deepest);
    thread.unwrap().join().unwrap();
}
