//! From the model's keys back to Marathon's, so that what is found wrong with a service can be
//! shown where its app says it.

use formats::tree::{Node, Position};

/// The model's key (`#` for an index) and where Marathon has it; a rule covers all keys below
/// its own. Where several fit, one that the app has in full is meant, else the longest
/// beginning.
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
];

/// Where an app says what the model calls `key`, and its own key for it.
pub(crate) fn locate(tree: &Node, key: &str) -> (Position, String) {
    let translated = RULES.iter().filter_map(|(pattern, marathon)| apply(pattern, marathon, key));
    // Keys with one name in both, such as `instances`, are found as they are.
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

/// Where apps say what the model calls `key`, for one that is not at hand: the first place that
/// fits.
pub fn key_of(key: &str) -> String {
    let place = RULES.iter().find_map(|(pattern, marathon)| apply(pattern, marathon, key));
    place.unwrap_or_else(|| key.into())
}

/// The key that a rule makes of `key`, if it covers it.
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
