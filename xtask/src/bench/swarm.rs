//! Containers compared with Docker Swarm: the same image on the same engine, started, killed and upgraded.
//!
//! The engine becomes a swarm of one for as long as this runs, and is left as it was found, whatever
//! happens. An engine that is in a swarm already is not touched.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::dev::{self, Dev, PATIENT, docker, request_each};
use super::life::{IMAGE, containers_of, document, kill, until_again, until_running, upgraded};
use super::server::millis;
use super::{Figure, Limit};
use crate::shell::Top;

const COUNT: usize = 10;
const NAME: &str = "muster-bench";
const BRIDGE: &str = "docker_gwbridge";

/// Ours and Swarm's containers: started, killed, upgraded.
pub(super) fn containers(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    crate::docker::ensure(top)?;
    crate::image::ensure(top)?;
    let (started, restarted, moved) = ours(top)?;
    let swarm = Swarm::init()?;
    // The same without a wait before something is started again, and as it is by default.
    let (peer_started, peer_restarted, peer_moved) = {
        let peer = swarm.run(Some(0))?;
        (peer.started_ms, peer.restarted()?, peer.upgraded()?)
    };
    let again = swarm.run(None)?.restarted()?;
    let with_peer = |what: &str, ours, limit, peer| {
        Figure::new(what, "ms", ours, limit).with_peer("Swarm", peer)
    };
    Ok(vec![
        with_peer("10 containers, applied to running", started, Limit::RatioMax(1.0), peer_started),
        with_peer(
            "a killed container, running again",
            restarted,
            Limit::RatioMax(1.0),
            peer_restarted,
        ),
        with_peer("the same, as Swarm is by default", restarted, Limit::RatioMax(1.0), again),
        with_peer("10 containers upgraded at once", moved, Limit::RatioMax(1.0), peer_moved),
    ])
}

/// The milliseconds that ours take to start, to be started again and to be upgraded.
fn ours(top: &Top) -> Result<(f64, f64, f64)> {
    let dev = Dev::start(top)?;
    let before = containers_of(IMAGE)?;
    let run = format!("container: {{ image: \"{IMAGE}\", network: host, pull: never }}");
    // Swarm counts a started task as running: so do we.
    let text = document("swarm", COUNT, &run) + "rollout: { min_ready: 0s }\n";
    let started = until_running(&dev, &text, COUNT)?;
    let restarted = until_again(&dev, "/bench/swarm~0.1", || {
        let containers = listed("label", "muster.instance=/bench/swarm~0.1")?;
        kill(pid(containers.first().context("its container is there")?)?)
    })?;
    let moved = upgraded(&dev, &text.replace("LOG_REQUESTS", "ROUND: two, LOG_REQUESTS"))?;
    dev.remove("/bench/swarm")?;
    // Swarm removes tasks in the background.
    request_each(PATIENT, "the containers to be gone", || {
        Ok((containers_of(IMAGE)? <= before).then_some(()))
    })?;
    Ok((started, restarted, moved))
}

/// The containers that a filter finds, whether they run or not.
fn listed(filter: &str, value: &str) -> Result<Vec<String>> {
    let filters = dev::encoded(&json!({ filter: [value] }).to_string());
    let listed = docker("GET", &format!("/containers/json?all=1&filters={filters}"), "")?;
    let ids = listed.as_array().context("dockerd lists containers")?.iter();
    Ok(ids.filter_map(|container| container["Id"].as_str().map(str::to_owned)).collect())
}

/// The containers of our service of the swarm.
fn tasks() -> Result<Vec<String>> {
    listed("label", &format!("com.docker.swarm.service.name={NAME}"))
}

/// How many of these run.
fn running_tasks() -> Result<usize> {
    let running = |id: &String| {
        let inspected = docker("GET", &format!("/containers/{id}/json"), "");
        inspected.is_ok_and(|container| container["State"]["Running"] == true)
    };
    Ok(tasks()?.iter().filter(|id| running(id)).count())
}

/// The first process of a container.
fn pid(container: &str) -> Result<u32> {
    let inspected = docker("GET", &format!("/containers/{container}/json"), "")?;
    let pid = inspected["State"]["Pid"].as_u64().context("a container runs")?;
    Ok(u32::try_from(pid)?)
}

/// The engine as a swarm of one.
struct Swarm {
    had_bridge: bool,
}

impl Swarm {
    fn init() -> Result<Swarm> {
        let state = docker("GET", "/info", "")?["Swarm"]["LocalNodeState"].clone();
        ensure!(state == "inactive", "the engine is in a swarm already ({state}): leave it first");
        let swarm = Swarm { had_bridge: docker("GET", &format!("/networks/{BRIDGE}"), "").is_ok() };
        let listen = json!({ "ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1:2377" });
        docker("POST", "/swarm/init", &listen.to_string())?;
        Ok(swarm)
    }

    /// A service of it, all running; `delay` is its restart delay.
    fn run(&self, delay: Option<u64>) -> Result<Service<'_>> {
        let mut task = task("410");
        if let Some(delay) = delay {
            task["RestartPolicy"] = json!({ "Condition": "any", "Delay": delay });
        }
        let spec = json!({
            "Name": NAME, "TaskTemplate": task,
            "Mode": { "Replicated": { "Replicas": COUNT } },
            "UpdateConfig": { "Parallelism": 0, "Order": "start-first", "Monitor": 1_000_000 },
        });
        let began = Instant::now();
        let created = docker("POST", "/services/create", &spec.to_string())?;
        let id = created["ID"].as_str().context("a service has an id")?.to_owned();
        let mut service = Service { _swarm: self, id, spec, started_ms: 0.0 };
        request_each(PATIENT, "the tasks to run", || {
            Ok((service.running()?.len() == COUNT).then_some(()))
        })?;
        service.started_ms = millis(began);
        Ok(service)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        let _ = docker("POST", "/swarm/leave?force=1", "");
        for container in tasks().unwrap_or_default() {
            let _ = docker("DELETE", &format!("/containers/{container}?force=1"), "");
        }
        if !self.had_bridge {
            // It goes once the last container that used it has gone.
            let _ = request_each(PATIENT, "the swarm's network to be gone", || {
                Ok(docker("DELETE", &format!("/networks/{BRIDGE}"), "").ok())
            });
        }
    }
}

/// The command of a task; its port is these digits and its slot, since all share the host's network.
fn task(port: &str) -> Value {
    let port = format!("PORT0={port}{{{{.Task.Slot}}}}");
    json!({
        "ContainerSpec": {
            "Image": IMAGE, "Env": [port, "LOG_REQUESTS=0"], "StopGracePeriod": 1_000_000_000,
        },
        "Resources": { "Limits": { "MemoryBytes": 64 << 20 } },
        "Networks": [{ "Target": "host" }],
    })
}

/// A service of the swarm. Dropping it removes it and waits until its containers are gone.
struct Service<'a> {
    _swarm: &'a Swarm,
    id: String,
    spec: Value,
    started_ms: f64,
}

impl Service<'_> {
    /// The tasks that run, with their containers.
    fn running(&self) -> Result<Vec<(String, String)>> {
        let filters = dev::encoded(&json!({ "service": [NAME] }).to_string());
        let tasks = docker("GET", &format!("/tasks?filters={filters}"), "")?;
        let tasks = tasks.as_array().context("dockerd lists tasks")?.iter();
        let running = tasks.filter(|task| task["Status"]["State"] == "running");
        let wanted = running.filter(|task| task["DesiredState"] == "running");
        let ids = wanted.filter_map(|task| {
            let container = task["Status"]["ContainerStatus"]["ContainerID"].as_str()?;
            Some((task["ID"].as_str()?.to_owned(), container.to_owned()))
        });
        Ok(ids.collect())
    }

    /// From the kill of a container until another one runs in its place.
    fn restarted(&self) -> Result<f64> {
        let before = self.running()?;
        let (_, container) = before.first().context("something runs")?;
        let began = Instant::now();
        kill(pid(container)?)?;
        request_each(PATIENT, "another task in its place", || {
            let now = self.running()?;
            let is_new = now.iter().any(|task| !before.contains(task));
            Ok((is_new && now.len() == COUNT).then_some(()))
        })?;
        Ok(millis(began))
    }

    /// From the change of all tasks until all are new.
    fn upgraded(&self) -> Result<f64> {
        let path = format!("/services/{}", self.id);
        let version = docker("GET", &path, "")?["Version"]["Index"].clone();
        let mut spec = self.spec.clone();
        spec["TaskTemplate"]["ContainerSpec"] = task("420")["ContainerSpec"].clone();
        let began = Instant::now();
        docker("POST", &format!("{path}/update?version={version}"), &spec.to_string())?;
        // An update is complete before the replaced tasks are removed; ours waits for the removal as well.
        request_each(PATIENT, "the update to be complete", || {
            let service = docker("GET", &path, "")?;
            let is_complete = service["UpdateStatus"]["State"] == "completed";
            Ok((is_complete && running_tasks()? == COUNT).then_some(()))
        })?;
        Ok(millis(began))
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = docker("DELETE", &format!("/services/{}", self.id), "");
        let _ = request_each(PATIENT, "the service's containers to be gone", || {
            Ok(tasks()?.is_empty().then_some(()))
        });
    }
}
