//! Properties of all apps and all bodies: an app that is shown is read as the same app, a stored
//! app is restored, and no body has a worse effect than being rejected.

#![allow(clippy::unwrap_used)]

#[path = "../../../crates/formats/tests/generate/mod.rs"]
mod generate;
mod written;

use muster_adapter_marathon::format::{
    App, LabelSelector, Rejected, Update, read_app, read_group, update_app, update_apps,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use written::shown;

fn read(body: &Value) -> Result<App, Rejected> {
    read_app(body.to_string().as_bytes(), None)
}

fn seconds() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1u32..4000).prop_map(Value::from),
        (1u32..400).prop_map(|n| json!(f64::from(n) / 8.0))
    ]
}

fn share() -> impl Strategy<Value = Value> {
    (0u32..=100).prop_map(|percent| json!(f64::from(percent) / 100.0))
}

fn words() -> impl Strategy<Value = Value> {
    btree_map("[A-Za-z][A-Za-z0-9_.]{0,6}", "\\PC{0,12}", 0..4).prop_map(|words| json!(words))
}

/// An object with some of these keys.
fn some(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let keys = keys.into_iter().map(|(key, value)| {
        option::of(value).prop_map(move |value| value.map(|value| (key.to_string(), value))).boxed()
    });
    keys.collect::<Vec<_>>()
        .prop_map(|keys| Value::Object(keys.into_iter().flatten().collect()))
        .boxed()
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(words).prop_map(Value::from).boxed()
}

fn check() -> BoxedStrategy<Value> {
    let timing = some(vec![
        ("gracePeriodSeconds", seconds().boxed()),
        ("intervalSeconds", seconds().boxed()),
        ("timeoutSeconds", seconds().boxed()),
        ("maxConsecutiveFailures", (0u32..9).prop_map(Value::from).boxed()),
        ("delaySeconds", seconds().boxed()),
        ("portIndex", Just(json!(0)).boxed()),
    ]);
    let kind = prop_oneof![
        "/[a-z]{0,5}"
            .prop_map(|path| json!({ "protocol": "HTTP", "path": path, "ignoreHttp1xx": true })),
        Just(json!({ "protocol": "TCP" })),
        Just(json!({ "protocol": "tcp" })),
        Just(json!({})),
    ];
    (timing, kind).prop_map(|(timing, kind)| join([timing, kind])).boxed()
}

fn join(parts: impl IntoIterator<Item = Value>) -> Value {
    let parts = parts.into_iter().filter_map(|part| match part {
        Value::Object(part) => Some(part),
        _ => None,
    });
    Value::Object(parts.flatten().collect::<Map<_, _>>())
}

/// Ports in all supported forms, with an image where it is required.
fn ports() -> BoxedStrategy<Value> {
    let labels = words();
    let definition = (any::<u8>(), option::of(labels)).prop_map(|(port, labels)| {
        json!({ "port": u16::from(port) * 100, "labels": labels, "protocol": "udp" })
    });
    let definitions = vec(definition, 1..4).prop_map(|mut list| {
        list.iter_mut().enumerate().for_each(|(n, port)| {
            port["name"] = json!(format!("port-{n}"));
            if port["port"] != 0 {
                port["port"] = json!(port["port"].as_u64().unwrap() + n as u64);
            }
        });
        json!(list)
    });
    let mapping = (any::<u16>(), any::<u16>()).prop_map(
        |(container, service)| json!({ "containerPort": container, "servicePort": service }),
    );
    let mappings = vec(mapping, 1..3);
    let docker = |rest: Value| join([json!({ "image": "web:1" }), rest]);
    prop_oneof![
        Just(json!({ "cmd": "run it" })),
        Just(json!({ "args": ["run", "it"], "ports": [80, 0, 443] })),
        definitions.prop_map(|list| json!({ "cmd": "run it", "portDefinitions": list })),
        Just(
            json!({ "container": { "docker": docker(json!({ "network": "HOST" })) }, "ports": [1] })
        ),
        mappings.clone().prop_map(move |list| json!({
            "container": { "docker": docker(json!({ "network": "BRIDGE", "portMappings": list })) },
        })),
        (mappings, any::<bool>()).prop_map(|(list, command)| json!({
            "cmd": command.then_some("run it"), "networks": [{ "mode": "container/bridge" }],
            "container": {
                "type": "MESOS", "docker": { "image": "web:1", "forcePullImage": true },
                "portMappings": list,
                "volumes": [{ "hostPath": "/a", "containerPath": "/b", "mode": "RO" }],
            },
        })),
    ]
    .boxed()
}

/// A valid app in a variety of forms.
fn any_app() -> BoxedStrategy<Value> {
    let keys = some(vec![
        ("instances", (0u32..1000).prop_map(Value::from).boxed()),
        ("cpus", (1u32..9000).prop_map(|n| json!(f64::from(n) / 1000.0)).boxed()),
        ("mem", (0u32..9000).prop_map(|n| json!(f64::from(n) / 4.0)).boxed()),
        ("disk", (0u32..9000).prop_map(Value::from).boxed()),
        ("executor", one_of(&["", "//cmd"])),
        ("user", one_of(&["root", "www"])),
        ("env", words().boxed()),
        ("labels", words().boxed()),
        ("healthChecks", vec(check(), 0..3).prop_map(Value::from).boxed()),
        ("backoffSeconds", seconds().boxed()),
        ("backoffFactor", (8u32..99).prop_map(|n| json!(f64::from(n) / 8.0)).boxed()),
        ("maxLaunchDelaySeconds", seconds().boxed()),
        ("taskKillGracePeriodSeconds", seconds().boxed()),
        ("killSelection", one_of(&["YOUNGEST_FIRST", "OLDEST_FIRST"])),
        ("acceptedResourceRoles", Just(json!(["*", "public"])).boxed()),
        ("dependencies", Just(json!(["../db-1", "/x-1/y", "x"])).boxed()),
        ("constraints", Just(json!([["hostname", "UNIQUE"], ["rack", "IS", "a"]])).boxed()),
        ("requirePorts", any::<bool>().prop_map(Value::from).boxed()),
        ("fetch", Just(json!([])).boxed()),
        ("tasks", Just(json!([{}])).boxed()),
    ]);
    let strategies = some(vec![
        (
            "upgradeStrategy",
            some(vec![
                ("minimumHealthCapacity", share().boxed()),
                ("maximumOverCapacity", share().boxed()),
            ]),
        ),
        (
            "unreachableStrategy",
            prop_oneof![
                Just(json!("disabled")),
                (seconds())
                    .prop_map(|s| json!({ "inactiveAfterSeconds": 1, "expungeAfterSeconds": s })),
            ]
            .prop_filter("in order", |s| {
                s.get("expungeAfterSeconds").is_none_or(|s| s.as_f64() >= Some(1.0))
            })
            .boxed(),
        ),
    ]);
    let id = vec("[a-z][a-z0-9]{0,4}", 1..4).prop_map(|path| json!({ "id": path.join("/") }));
    (id, ports(), keys, strategies)
        .prop_map(|(id, ports, keys, strategies)| join([id, keys, strategies, ports]))
        .prop_filter("no reserved word", |app| {
            let id = app["id"].as_str().unwrap();
            !["restart", "tasks", "versions"].iter().any(|word| id.ends_with(word))
        })
        .boxed()
}

/// JSON composed of the keys and values of apps.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec!["/a", "HTTP", "HOST", "disabled", "..", "", "\u{0}", "é"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = select(vec!["docker", "image", "port", "labels", "mode", "x", "portMappings"]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.prop_map(String::from), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// The nth value in a tree in preorder.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(entries) => entries.values_mut().find_map(|item| nth(item, left)),
        _ => None,
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// Asserts that an error has a form that clients understand.
fn is_well_formed(rejected: &Rejected) -> bool {
    let body = rejected.body();
    [400, 422].contains(&rejected.status) && body["message"].as_str().is_some_and(|m| !m.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shown_app_reads_back_as_the_same_app(body in any_app()) {
        let app = read(&body).unwrap_or_else(|rejected| panic!("{rejected:?}\n{body}"));
        prop_assert_eq!(&read(&shown(&app)).unwrap(), &app, "{}", body);
        prop_assert_eq!(App::from_source(&app.to_source()), Some(app.clone()));
        prop_assert!(app.spec().unwrap().problems().is_empty());
        let again = update_app(Some(&app), app.id(), shown(&app).to_string().as_bytes(), true);
        prop_assert_eq!(again.unwrap(), Update::App(Box::new(app.clone())));
        let nothing = update_app(Some(&app), app.id(), b"{}", true);
        prop_assert_eq!(nothing.unwrap(), Update::App(Box::new(app)));
    }

    #[test]
    fn every_service_is_described_by_a_valid_app(spec in generate::spec()) {
        let app = App::of(&spec);
        let again = read(&shown(&app)).unwrap_or_else(|rejected| panic!("{rejected:?}\n{spec:?}"));
        prop_assert_eq!(&again, &app);
        let back = app.spec().unwrap();
        prop_assert_eq!(
            (&back.service, back.instances, back.resources, &back.labels, &back.depends_on),
            (&spec.service, spec.instances, spec.resources, &spec.labels, &spec.depends_on)
        );
    }

    #[test]
    fn an_app_is_described_by_its_own_document(body in any_app()) {
        let app = read(&body).unwrap();
        let spec = app.spec().unwrap();
        let described = App::of(&spec);
        let (ours, theirs) = (shown(&described), shown(&app));
        for key in ["id", "cmd", "args", "instances", "cpus", "mem", "env", "labels", "networks", "user"] {
            prop_assert_eq!(&ours[key], &theirs[key], "{}", key);
        }
        let back = described.spec().unwrap();
        prop_assert_eq!(&back.env, &spec.env);
        prop_assert_eq!(&back.ports, &spec.ports);
        prop_assert_eq!(&back.container, &spec.container);
    }

    /// A valid app with any part replaced is either rejected, or accepted with a stable normal
    /// form.
    #[test]
    fn any_value_at_any_key_is_accepted_or_rejected(mut body in any_app(), at in any::<Index>(), value in any_json()) {
        let mut left = at.index(count(&body));
        *nth(&mut body, &mut left).unwrap() = value;
        match read(&body) {
            Ok(app) => prop_assert_eq!(read(&shown(&app)).unwrap(), app),
            Err(rejected) => prop_assert!(is_well_formed(&rejected), "{:?}", rejected),
        }
        let group = json!({ "apps": [body], "groups": body.get("container"), "version": body.get("id") });
        if let Err(rejected) = read_group(group.to_string().as_bytes(), "/g") {
            prop_assert!(is_well_formed(&rejected), "{:?}", rejected);
        }
    }

    #[test]
    fn arbitrary_bytes_are_rejected(bytes in vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:a0-9.e-]{0,40}", cut in any::<Index>()) {
        let good = json!({ "id": "/a", "cmd": "xx" }).to_string();
        let cut = &good.as_bytes()[..cut.index(good.len())];
        for body in [bytes.as_slice(), text.as_bytes(), cut] {
            prop_assert!(read_app(body, None).is_err_and(|rejected| is_well_formed(&rejected)));
            let _ = update_apps(body);
            let _ = read_group(body, "/");
            let _ = update_app(None, &"/a".parse().unwrap(), body, true);
        }
        let _ = LabelSelector::parse(&text);
    }
}

#[test]
fn huge_or_deep_documents_are_rejected_cheaply() {
    let deep = |open: &str, count: usize| open.repeat(count);
    let wide = format!("[{}0]", "0,".repeat(2_000_000));
    let long =
        format!(r#"{{"id": "/a", "cmd": "xx", "labels": {{"a": "{}"}}}}"#, "x".repeat(8 << 20));
    for body in [
        deep("[", 1 << 20),
        deep(r#"{"groups":[{"id":"a","#, 1 << 16),
        deep(r#"{"a":"#, 1 << 20),
        wide,
    ] {
        assert!(read_app(body.as_bytes(), None).is_err_and(|rejected| is_well_formed(&rejected)));
        assert!(update_apps(body.as_bytes()).is_err_and(|rejected| is_well_formed(&rejected)));
        assert!(read_group(body.as_bytes(), "/").is_err_and(|rejected| is_well_formed(&rejected)));
    }
    assert!(read_app(long.as_bytes(), None).is_ok(), "a long text is only long");
    let mut nested = json!({ "id": "g" });
    for _ in 0..40 {
        nested = json!({ "id": "g", "groups": [nested] });
    }
    assert!(read_group(nested.to_string().as_bytes(), "/").is_ok());
}
