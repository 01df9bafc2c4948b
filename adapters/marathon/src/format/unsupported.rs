//! Marathon's keys that Muster does not support yet. They are rejected by name, never ignored.
//!
//! A value without effect (null, empty, 0, false, Marathon's default, or composed of only such
//! values) is removed from the tree, so that complete definitions with all defaults are accepted.

use model::Problem;

use formats::tree::{Node, Plain, Step, Value, dotted, plain};

/// A key (`*` for every item or key), its values without effect in addition to the general ones,
/// and the message for all other values.
type Rule = (&'static str, &'static [&'static str], &'static str);

const NOT_YET: &str = "is not supported yet";
const NETWORKS: &str = "is not supported yet: networks are host and bridge";

const RULES: &[Rule] = &[
    ("gpus", &[], NOT_YET),
    ("secrets", &[], NOT_YET),
    ("storeUrls", &[], NOT_YET),
    ("check", &[], NOT_YET),
    ("tty", &[], NOT_YET),
    ("role", &["*"], "is not supported: services have no roles, only nodes have"),
    ("residency", &[], NOT_YET),
    ("ipAddress", &[], NETWORKS),
    ("resourceLimits", &[], NOT_YET),
    ("executorResources", &[], "is not supported: Muster has no executors"),
    ("taskRateLimit", &[], NOT_YET),
    ("env.*.secret", &[], "is not supported yet: environment variables are strings"),
    ("container.appc", &[], "is not supported: images are Docker's"),
    ("container.linuxInfo", &[], NOT_YET),
    ("container.portMappings.*.networkNames", &[], NETWORKS),
    ("container.docker.portMappings.*.networkNames", &[], NETWORKS),
    ("container.docker.parameters", &[], NOT_YET),
    ("container.docker.pullConfig", &[], "is not supported yet: log the nodes in to the registry"),
    ("container.docker.credential", &[], "is not supported yet: log the nodes in to the registry"),
    ("container.volumes.*.persistent", &[], "is not supported yet: volumes are host paths"),
    ("container.volumes.*.external", &[], "is not supported yet: volumes are host paths"),
    ("container.volumes.*.secret", &[], "is not supported yet: volumes are host paths"),
    ("healthChecks.*.ipProtocol", &["IPv4"], "is not supported yet: checks use IPv4"),
    ("readinessChecks.*.preserveLastResponse", &[], NOT_YET),
];

/// Keys that Marathon adds to the apps in its responses, and that are not part of a definition.
const REPORTED: [&str; 12] = [
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "taskStats",
    "tasksStats",
];

/// Removes the keys in [`REPORTED`], since clients send back apps as they were shown.
pub(super) fn drop_reported(app: &mut Node) {
    REPORTED.iter().for_each(|key| drop(app.take(key)));
}

/// Removes the keys in [`REPORTED`] with a problem for each: in a file, they are a mistake.
pub(super) fn reported(app: &mut Node) -> Vec<Problem> {
    let problem = |key: &&str| {
        app.take(key).filter(|reported| !has_no_effect(reported, &[]))?;
        let message =
            format!("`{key}` is what Marathon reports of an app, not part of it: leave it out");
        Some(Problem::new(*key, message))
    };
    REPORTED.iter().filter_map(problem).collect()
}

/// Removes all nulls, and all values without effect of the keys in [`RULES`]. Other values of these
/// keys are reported, and replaced by [`Value::Refused`].
pub(super) fn remove_unsupported(app: &mut Node) -> Vec<Problem> {
    drop_nulls(app);
    let mut problems = Vec::new();
    for (pattern, harmless, why) in RULES {
        let steps: Vec<&str> = pattern.split('.').collect();
        visit(app, &steps, &mut Vec::new(), &mut |path, node| {
            let asks = !has_no_effect(node, harmless);
            if asks {
                let name = path.last().map(Step::to_string).unwrap_or_default();
                problems.push(Problem::new(dotted(path), format!("`{name}` {why}")));
                node.value = Value::Refused;
            }
            asks
        });
    }
    problems
}

/// Visits each value that matches a pattern. An entry of a mapping is removed if the visitor
/// returns `false`.
fn visit(
    node: &mut Node,
    pattern: &[&str],
    path: &mut Vec<Step>,
    stays: &mut dyn FnMut(&[Step], &mut Node) -> bool,
) {
    let Some((step, rest)) = pattern.split_first() else { return };
    let mut inside = |step: Step, inner: &mut Node| {
        path.push(step);
        let stays = if rest.is_empty() {
            stays(path, inner)
        } else {
            visit(inner, rest, path, stays);
            true
        };
        path.pop();
        stays
    };
    match &mut node.value {
        Value::List(items) if *step == "*" => {
            for (index, item) in items.iter_mut().enumerate() {
                inside(Step::Index(index), item);
            }
        }
        Value::Map(entries) => entries.retain_mut(|entry| {
            let is_match = *step == "*" || entry.key == *step;
            !is_match || inside(Step::Key(entry.key.clone()), &mut entry.node)
        }),
        _ => {}
    }
}

fn has_no_effect(node: &Node, harmless: &[&str]) -> bool {
    // An empty mapping inside another one is significant because of its key: `check: {tcp: {}}`.
    let nothing = |part: &Node| !part.is_collection() && has_no_effect(part, harmless);
    match &node.value {
        Value::Refused => true,
        Value::List(items) => items.iter().all(nothing),
        Value::Map(entries) => entries.iter().all(|entry| nothing(&entry.node)),
        Value::Text(text) => text.is_empty() || harmless.contains(&text.as_str()),
        Value::Plain(text) => match plain(text) {
            Plain::Null | Plain::Bool(false) => true,
            Plain::Unsigned(number) => number == 0,
            Plain::Float(number) => number == 0.0,
            _ => harmless.contains(&text.as_str()),
        },
    }
}

/// Removes nulls at all depths. In Marathon, null is equivalent to an absent value.
pub(super) fn drop_nulls(node: &mut Node) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(drop_nulls),
        Value::Map(entries) => {
            entries.retain(|entry| !entry.node.is_null());
            entries.iter_mut().for_each(|entry| drop_nulls(&mut entry.node));
        }
        _ => {}
    }
}
