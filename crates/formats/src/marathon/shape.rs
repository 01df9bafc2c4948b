//! Which keys an app may have, and of which type each value is: what a JSON reader checks before
//! anything is made of it, with the words of the reader that Marathon uses.

use serde_json::Value;

use crate::fault::{hint, nearest};

/// The type of a value.
enum Shape {
    Text,
    Number,
    Whole,
    Truth,
    /// A list of such.
    List(&'static Shape),
    /// Free keys with such values.
    Map(&'static Shape),
    /// These keys.
    Keys(&'static [(&'static str, Shape)]),
    /// Whatever it is, others judge it.
    Any,
}

use Shape::{Any, Keys, List, Map, Number, Text, Truth, Whole};

const PORT: Shape =
    Keys(&[("port", Whole), ("protocol", Text), ("name", Text), ("labels", Map(&Text))]);

const MAPPING: Shape = Keys(&[
    ("containerPort", Whole),
    ("hostPort", Whole),
    ("servicePort", Whole),
    ("protocol", Text),
    ("name", Text),
    ("labels", Map(&Text)),
    ("networkNames", List(&Text)),
]);

const CHECK: Shape = Keys(&[
    ("protocol", Text),
    ("path", Text),
    ("port", Whole),
    ("portIndex", Whole),
    ("command", Keys(&[("value", Text)])),
    ("gracePeriodSeconds", Number),
    ("intervalSeconds", Number),
    ("timeoutSeconds", Number),
    ("maxConsecutiveFailures", Whole),
    ("ignoreHttp1xx", Truth),
    ("delaySeconds", Number),
    ("ipProtocol", Text),
]);

const READINESS: Shape = Keys(&[
    ("name", Text),
    ("protocol", Text),
    ("path", Text),
    ("portName", Text),
    ("intervalSeconds", Number),
    ("timeoutSeconds", Number),
    ("httpStatusCodesForReady", List(&Whole)),
    ("preserveLastResponse", Truth),
]);

const CONTAINER: Shape = Keys(&[
    ("type", Text),
    (
        "docker",
        Keys(&[
            ("image", Text),
            ("network", Text),
            ("portMappings", List(&MAPPING)),
            ("forcePullImage", Truth),
            ("privileged", Truth),
            ("parameters", List(&Keys(&[("key", Text), ("value", Text)]))),
            ("pullConfig", Any),
            ("credential", Any),
        ]),
    ),
    ("volumes", List(&Any)),
    ("portMappings", List(&MAPPING)),
    ("linuxInfo", Any),
]);

const APP: Shape = Keys(&[
    ("id", Text),
    ("cmd", Text),
    ("args", List(&Text)),
    ("instances", Whole),
    ("cpus", Number),
    ("mem", Number),
    ("disk", Number),
    ("gpus", Whole),
    ("user", Text),
    ("executor", Text),
    ("env", Map(&Any)),
    ("secrets", Map(&Any)),
    ("labels", Map(&Text)),
    ("constraints", List(&List(&Text))),
    ("acceptedResourceRoles", List(&Text)),
    ("fetch", List(&Any)),
    ("uris", List(&Text)),
    ("storeUrls", List(&Text)),
    ("backoffSeconds", Number),
    ("backoffFactor", Number),
    ("maxLaunchDelaySeconds", Number),
    ("taskKillGracePeriodSeconds", Number),
    ("dependencies", List(&Text)),
    (
        "upgradeStrategy",
        Keys(&[("minimumHealthCapacity", Number), ("maximumOverCapacity", Number)]),
    ),
    ("unreachableStrategy", Any),
    ("killSelection", Text),
    ("portDefinitions", List(&PORT)),
    ("ports", List(&Whole)),
    ("requirePorts", Truth),
    ("networks", List(&Keys(&[("mode", Text), ("name", Text), ("labels", Map(&Text))]))),
    ("container", CONTAINER),
    ("healthChecks", List(&CHECK)),
    ("check", Any),
    ("readinessChecks", List(&READINESS)),
    ("residency", Any),
    ("ipAddress", Any),
    ("resourceLimits", Any),
    ("executorResources", Any),
    ("taskRateLimit", Any),
    ("tty", Truth),
    ("role", Text),
]);

/// What is wrong with the types and keys of an app, without nulls: where, and what.
pub(super) fn check(app: &Value) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    visit(app, &APP, &mut String::new(), &mut wrong);
    wrong
}

fn visit(value: &Value, shape: &Shape, key: &mut String, wrong: &mut Vec<(String, String)>) {
    let mut refuse = |what: &str| wrong.push((key.clone(), what.to_string()));
    match (shape, value) {
        (Any, _)
        | (Text, Value::String(_))
        | (Number, Value::Number(_))
        | (Truth, Value::Bool(_)) => {}
        (Whole, Value::Number(number)) => {
            let is_whole = number.as_f64().is_some_and(|number| number.fract() == 0.0);
            if !is_whole {
                refuse("error.expected.int");
            }
        }
        (List(shape), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                within(key, &index.to_string(), |key| visit(item, shape, key, wrong));
            }
        }
        (Map(shape), Value::Object(entries)) => {
            for (name, value) in entries {
                within(key, name, |key| visit(value, shape, key, wrong));
            }
        }
        (Keys(known), Value::Object(entries)) => {
            for (name, value) in entries {
                let found = known.iter().find(|(known, _)| known == name);
                within(key, name, |key| match found {
                    Some((_, shape)) => visit(value, shape, key, wrong),
                    None => {
                        let near = nearest(name, known.iter().map(|(name, _)| *name));
                        wrong.push((key.clone(), format!("unknown field{}", hint(near))));
                    }
                });
            }
        }
        (Text, _) => refuse("error.expected.jsstring"),
        (Number | Whole, _) => refuse("error.expected.jsnumber"),
        (Truth, _) => refuse("error.expected.jsboolean"),
        (List(_), _) => refuse("error.expected.jsarray"),
        (Map(_) | Keys(_), _) => refuse("error.expected.jsobject"),
    }
}

fn within(key: &mut String, step: &str, visit: impl FnOnce(&mut String)) {
    let len = key.len();
    if len > 0 {
        key.push('.');
    }
    key.push_str(step);
    visit(key);
    key.truncate(len);
}
