//! The mapping from keys of the model to keys of an app, so that a problem of a service is reported
//! at the location in the app that causes it.

use formats::tree::{Node, Position};

/// Pairs of a key of the model (`#` stands for an index) and its key in an app. A rule covers all
/// keys below its own. If several rules match, the key that is completely present in the app takes
/// precedence, then the one with the longest prefix in the app.
const RULES: &[(&str, &str)] = &[
    ("service", "id"),
    ("container.image", "container.docker.image"),
    ("container.command", "cmd"),
    ("container.command", "args"),
    ("container.entrypoint", "cmd"),
    ("container.pull", "container.docker.forcePullImage"),
    ("container.network", "networks"),
    ("container.network", "container.docker.network"),
    ("container.volumes.#", "container.volumes.#"),
    ("container.volumes.#.source", "container.volumes.#.hostPath"),
    ("container.volumes.#.target", "container.volumes.#.containerPath"),
    ("container.volumes.#.read_only", "container.volumes.#.mode"),
    ("container.user", "user"),
    ("container.privileged", "container.docker.privileged"),
    ("process", "cmd"),
    ("process", "args"),
    ("process.user", "user"),
    ("resources.cpu", "cpus"),
    ("resources.memory", "mem"),
    ("ports", "ports"),
    ("ports.#.port", "ports.#"),
    ("ports", "portDefinitions"),
    ("ports", "container.portMappings"),
    ("ports.#.port", "container.portMappings.#.hostPort"),
    ("ports.#.container", "container.portMappings.#.containerPort"),
    ("ports", "container.docker.portMappings"),
    ("ports.#.port", "container.docker.portMappings.#.hostPort"),
    ("ports.#.container", "container.docker.portMappings.#.containerPort"),
    ("health", "healthChecks"),
    ("health.#.probe.http.path", "healthChecks.#.path"),
    ("health.#.probe.http.port", "healthChecks.#.portIndex"),
    ("health.#.probe.http.port", "healthChecks.#.port"),
    ("health.#.probe.tcp.port", "healthChecks.#.portIndex"),
    ("health.#.probe.tcp.port", "healthChecks.#.port"),
    ("health.#.probe.command", "healthChecks.#.command.value"),
    ("health.#.interval", "healthChecks.#.intervalSeconds"),
    ("health.#.timeout", "healthChecks.#.timeoutSeconds"),
    ("health.#.failures", "healthChecks.#.maxConsecutiveFailures"),
    ("health.#.grace", "healthChecks.#.gracePeriodSeconds"),
    ("readiness", "readinessChecks.0"),
    ("readiness.probe.http.path", "readinessChecks.0.path"),
    ("readiness.probe.http.port", "readinessChecks.0.portName"),
    ("readiness.probe.http.statuses", "readinessChecks.0.httpStatusCodesForReady"),
    ("readiness.interval", "readinessChecks.0.intervalSeconds"),
    ("readiness.timeout", "readinessChecks.0.timeoutSeconds"),
    ("rollout", "upgradeStrategy"),
    ("rollout.min_healthy", "upgradeStrategy.minimumHealthCapacity"),
    ("rollout.max_surge", "upgradeStrategy.maximumOverCapacity"),
    ("restart.first", "backoffSeconds"),
    ("restart.backoff", "backoffSeconds"),
    ("restart.factor", "backoffFactor"),
    ("restart.max", "maxLaunchDelaySeconds"),
    ("stop.grace", "taskKillGracePeriodSeconds"),
    ("depends_on", "dependencies"),
    ("files", "fetch"),
    ("files", "uris"),
    ("files.#", "uris.#"),
    ("files.#.path", "fetch.#.destPath"),
    ("files.#.url", "fetch.#.uri"),
];

/// The position in an app of the setting with the model's `key`, and its key in the app.
pub(crate) fn locate(tree: &Node, key: &str) -> (Position, String) {
    let translated = RULES.iter().filter_map(|(pattern, marathon)| apply(pattern, marathon, key));
    // Keys with the same name in both, such as `instances`, need no rule.
    let found = translated.chain([key.to_string()]).map(|candidate| {
        let (at, len) = tree.locate(&candidate);
        (len, at, candidate)
    });
    let best = found.max_by_key(|(len, _, candidate)| (*len == candidate.len(), *len));
    match best {
        Some((len, at, candidate)) if len > 0 => (at, candidate[..len].into()),
        _ => (tree.at, String::new()),
    }
}

/// The key in an app of the model's `key`, if the app is not available: that of the first rule that
/// matches.
pub fn key_of(key: &str) -> String {
    let place = RULES.iter().find_map(|(pattern, marathon)| apply(pattern, marathon, key));
    place.unwrap_or_else(|| key.into())
}

/// Applies a rule to `key`. Returns `None` if the rule does not cover it.
fn apply(pattern: &str, marathon: &str, key: &str) -> Option<String> {
    let mut rest = key.split('.');
    let mut index = "0";
    for step in pattern.split('.') {
        match (step, rest.next()?) {
            ("#", word) if word.parse::<usize>().is_ok() => index = word,
            (step, word) if step == word => {}
            _ => return None,
        }
    }
    let tail: String = rest.map(|word| format!(".{word}")).collect();
    Some(marathon.replace('#', index) + &tail)
}
