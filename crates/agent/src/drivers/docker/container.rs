//! The container configuration of a run, and the labels that identify it. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use model::{CommandLine, Container, Cpu, Network, Piece, Protocol, ResourceId, Signal, Volume};

use super::super::Launch;
use super::Settings;

/// The name of the node of the container.
const NODE: &str = "muster.node";
/// The agent of the container; see [`Settings::agent`].
const AGENT: &str = "muster.agent";
const INSTANCE: &str = "muster.instance";
/// Omitted by versions without stacks, whose containers are runs of the resource `main`.
const RESOURCE: &str = "muster.resource";
const RUN: &str = "muster.run";
const SERVICE: &str = "muster.service";
const REVISION: &str = "muster.revision";

/// The maximum size of one file of output; [`LOG_FILES_MAX`] files are kept.
const LOG_BYTES_MAX: &str = "10m";
const LOG_FILES_MAX: &str = "3";

/// The kernel's minimum.
const CPU_SHARES_MIN: i64 = 2;

/// The name of the container of a run. Names are for people; the driver uses ids and labels.
pub(super) fn name(key: &Piece) -> String {
    format!("muster-{}-r{}", key.of().slug(), key.run)
}

/// The name of the container of a run if another agent on the same daemon uses the default name.
pub(super) fn other_name(key: &Piece, settings: &Settings) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
    let agent: String = settings.agent.chars().filter(is_allowed).take(12).collect();
    format!("{}-{agent}", name(key))
}

/// The label filter for the containers of this agent and their events.
pub(super) fn of_agent(settings: &Settings) -> String {
    format!("{AGENT}={}", settings.agent)
}

/// The run of a container with these labels, if it belongs to this agent.
pub(super) fn key(labels: &HashMap<String, String>, settings: &Settings) -> Option<Piece> {
    if labels.get(AGENT)? != &settings.agent {
        return None;
    }
    let instance = labels.get(INSTANCE)?.parse().ok()?;
    let resource = match labels.get(RESOURCE) {
        Some(resource) => resource.parse().ok()?,
        None => ResourceId::main(),
    };
    let run = labels.get(RUN)?.parse().ok()?;
    Some(Piece { instance, resource, run })
}

/// The name by which Docker identifies a signal.
pub(super) fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Term => "SIGTERM",
        Signal::Int => "SIGINT",
        Signal::Quit => "SIGQUIT",
        Signal::Hup => "SIGHUP",
        Signal::Usr1 => "SIGUSR1",
        Signal::Usr2 => "SIGUSR2",
    }
}

/// The request to create the container of a launch.
pub(super) fn body(
    launch: &Launch,
    container: &Container,
    settings: &Settings,
) -> ContainerCreateBody {
    let (entrypoint, command) = program(container);
    let (exposed, bound) = ports(launch, container);
    ContainerCreateBody {
        image: Some(container.image.trim().to_string()),
        entrypoint,
        cmd: command,
        user: container.user.clone(),
        env: Some(launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels(launch, settings)),
        exposed_ports: Some(exposed).filter(|ports| !ports.is_empty()),
        stop_signal: Some(signal_name(launch.spec.stop.signal).into()),
        host_config: Some(host_config(launch, container, bound)),
        ..ContainerCreateBody::default()
    }
}

fn labels(launch: &Launch, settings: &Settings) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (NODE.to_string(), settings.node.to_string()),
        (AGENT.to_string(), settings.agent.clone()),
        (INSTANCE.to_string(), launch.piece.instance.to_string()),
        (RESOURCE.to_string(), launch.piece.resource.to_string()),
        (RUN.to_string(), launch.piece.run.to_string()),
        (SERVICE.to_string(), launch.piece.instance.service.to_string()),
    ]);
    if let Some((_, revision)) = launch.env.iter().find(|(name, _)| name == "MUSTER_REVISION") {
        labels.insert(REVISION.to_string(), revision.clone());
    }
    labels
}

/// The entrypoint and the command that replace those of the image; `None` keeps the image's.
///
/// A shell command line is run by the shell, whichever entrypoint the image has. A list of words is
/// passed to the entrypoint, as by `docker run`.
fn program(container: &Container) -> (Option<Vec<String>>, Option<Vec<String>>) {
    match (&container.entrypoint, &container.command) {
        (None, Some(CommandLine::Shell(line))) => {
            (Some(vec!["/bin/sh".into(), "-c".into()]), Some(vec![line.text().into()]))
        }
        (entrypoint, command) => {
            let entrypoint = entrypoint.as_ref();
            let entrypoint =
                entrypoint.map(|all| all.iter().map(|one| one.text().into()).collect());
            (entrypoint, command.as_ref().map(CommandLine::words))
        }
    }
}

type Bound = HashMap<String, Option<Vec<PortBinding>>>;

/// The exposed ports of a container on the bridge network, and the node's port mapped to each.
fn ports(launch: &Launch, container: &Container) -> (Vec<String>, Bound) {
    let mut bound: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    if container.network == Network::Bridge {
        for (wanted, given) in launch.spec.ports.iter().zip(&launch.ports) {
            let inner = if wanted.container == 0 { *given } else { wanted.container };
            let protocol = match wanted.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            let binding = PortBinding { host_ip: None, host_port: Some(given.to_string()) };
            bound.entry(format!("{inner}/{protocol}")).or_default().push(binding);
        }
    }
    let exposed = bound.keys().cloned().collect();
    (exposed, bound.into_iter().map(|(port, bindings)| (port, Some(bindings))).collect())
}

fn host_config(launch: &Launch, container: &Container, bound: Bound) -> HostConfig {
    let resources = &launch.spec.resources;
    let memory = i64::try_from(resources.memory.0).ok().filter(|bytes| *bytes > 0);
    let log_options = [("max-size", LOG_BYTES_MAX), ("max-file", LOG_FILES_MAX)];
    let network = match container.network {
        Network::Bridge => "bridge",
        Network::Host => "host",
    };
    let binds: Vec<_> = container.volumes.iter().map(bind).collect();
    HostConfig {
        network_mode: Some(network.into()),
        port_bindings: Some(bound).filter(|bound| !bound.is_empty()),
        memory,
        // The limit of memory and swap together; without it, Docker allows the same amount of swap
        // again.
        memory_swap: memory,
        cpu_shares: cpu_shares(resources.cpu),
        binds: Some(binds).filter(|binds| !binds.is_empty()),
        privileged: Some(container.privileged),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(log_options.map(|(key, value)| (key.into(), value.into())).into()),
        }),
        ..HostConfig::default()
    }
}

/// 1024 shares per core; `None` if no share is requested, which Docker treats as one core.
fn cpu_shares(cpu: Cpu) -> Option<i64> {
    (cpu.0 > 0).then(|| (i64::from(cpu.0) * 1024 / 1000).max(CPU_SHARES_MIN))
}

fn bind(volume: &Volume) -> String {
    let mode = if volume.read_only { ":ro" } else { "" };
    format!("{}:{}{mode}", volume.source.text(), volume.target)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn settings() -> Settings {
        Settings {
            node: "n1".parse().unwrap(),
            agent: "a/b4c5".into(),
            host: None,
            config_dir: None,
        }
    }

    fn made(document: serde_json::Value) -> serde_json::Value {
        let spec: model::Spec = serde_json::from_value(document).unwrap();
        let container = spec.container.clone().unwrap();
        let launch = Launch {
            piece: Piece {
                instance: "/shop/web~2.1".parse().unwrap(),
                resource: "cache".parse().unwrap(),
                run: 3,
            },
            spec: Arc::new(spec),
            ports: vec![20001, 20002],
            env: vec![("MUSTER_REVISION".into(), "7".into()), ("A".into(), "b=c".into())],
            dir: "/data".into(),
            files: Vec::new(),
        };
        serde_json::to_value(body(&launch, &container, &settings())).unwrap()
    }

    #[test]
    fn a_container_on_the_bridge_has_its_ports_mapped() {
        let body = made(serde_json::json!({
            "service": "/shop/web",
            "container": {"image": "web:1", "volumes": [
                {"source": "/a", "target": "/b", "read_only": true}, {"source": "/c", "target": "/d"},
            ]},
            "resources": {"cpu": 0.5, "memory": "32MiB"},
            "ports": [{"container": 80}, {"protocol": "udp"}],
            "stop": {"signal": "SIGINT"},
        }));
        let host = &body["HostConfig"];
        assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], "20001");
        assert_eq!(host["PortBindings"]["20002/udp"][0]["HostPort"], "20002");
        assert_eq!(body["ExposedPorts"], serde_json::json!({"80/tcp": {}, "20002/udp": {}}));
        assert_eq!(host["Memory"], 32 << 20);
        assert_eq!(host["MemorySwap"], 32 << 20);
        assert_eq!(host["CpuShares"], 512);
        assert_eq!(host["Binds"], serde_json::json!(["/a:/b:ro", "/c:/d"]));
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        assert_eq!(body["StopSignal"], "SIGINT");
        assert_eq!(body["Env"], serde_json::json!(["MUSTER_REVISION=7", "A=b=c"]));
        assert_eq!(body["Labels"]["muster.revision"], "7");
        assert_eq!(body["Labels"]["muster.instance"], "/shop/web~2.1");
        assert_eq!(body["Labels"]["muster.resource"], "cache");
        assert_eq!((&body["Cmd"], &body["Entrypoint"]), (&().into(), &().into()));
    }

    #[test]
    fn a_container_on_the_nodes_network_has_no_ports_of_its_own() {
        let body = made(serde_json::json!({
            "service": "/shop/web", "container": {"image": "web", "network": "host"},
            "resources": {"cpu": 0.001, "memory": "0B"}, "ports": [{}, {}],
        }));
        assert_eq!(body["HostConfig"]["NetworkMode"], "host");
        assert_eq!(body["HostConfig"]["PortBindings"], serde_json::Value::Null);
        assert_eq!(body["HostConfig"]["Memory"], serde_json::Value::Null);
        assert_eq!(body["HostConfig"]["CpuShares"], 2);
    }

    #[test]
    fn a_string_is_run_by_the_shell_and_a_list_by_the_entrypoint() {
        let check = |container: serde_json::Value, entrypoint: &[&str], command: &[&str]| {
            let container = serde_json::from_value(container).unwrap();
            let (given_entrypoint, given_command) = program(&container);
            assert_eq!(given_entrypoint.unwrap_or_default(), entrypoint);
            assert_eq!(given_command.unwrap_or_default(), command);
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        check(json(r#"{"image": "w"}"#), &[], &[]);
        check(json(r#"{"image": "w", "command": "a b"}"#), &["/bin/sh", "-c"], &["a b"]);
        check(json(r#"{"image": "w", "command": ["a", "b"]}"#), &[], &["a", "b"]);
        let both = r#"{"image": "w", "entrypoint": ["e"], "command": "a b"}"#;
        check(json(both), &["e"], &["/bin/sh", "-c", "a b"]);
    }

    #[test]
    fn a_container_is_identified_by_its_labels() {
        let instance = "/shop/web~2.1".parse().unwrap();
        let key = Piece { instance, resource: "cache".parse().unwrap(), run: 3 };
        assert_eq!(name(&key), "muster-shop_web-2.1_cache-r3");
        assert_eq!(other_name(&key, &settings()), "muster-shop_web-2.1_cache-r3-ab4c5");
        let body = made(serde_json::json!({"service": "/shop/web", "container": {"image": "w"}}));
        let labels: HashMap<String, String> =
            serde_json::from_value(body["Labels"].clone()).unwrap();
        assert_eq!(super::key(&labels, &settings()), Some(key));
        let other = Settings { agent: "other".into(), ..settings() };
        assert_eq!(super::key(&labels, &other), None);
    }

    #[test]
    fn a_container_of_a_version_without_stacks_is_a_run_of_main() {
        let labels = [(AGENT, "a/b4c5"), (INSTANCE, "/shop/web~2.1"), (RUN, "3"), (NODE, "n1")];
        let labels = labels.map(|(name, value)| (name.to_string(), value.to_string()));
        let run = super::key(&HashMap::from(labels), &settings()).unwrap();
        let instance = "/shop/web~2.1".parse().unwrap();
        assert_eq!(run, Piece { instance, resource: ResourceId::main(), run: 3 });
        assert_eq!(name(&run), "muster-shop_web-2.1-r3", "as that version named it");
    }
}
