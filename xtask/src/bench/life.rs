//! How fast things come to life: processes and containers from accepted to running, a killed
//! process running again, a changed route in traffic.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::dev::{self, Dev, PATIENT, docker, request_each, wait_for};
use super::{Figure, Limit};
use crate::shell::Top;

/// Times are taken so often; the best one counts, since others only add noise.
const ROUNDS: usize = 5;

/// The image of the containers.
pub(super) const IMAGE: &str = "mhausenblas/simpleservice:0.4.0";

/// A service of the example service.
pub(super) fn document(name: &str, instances: usize, run: &str) -> String {
    format!(
        "service: /bench/{name}\ninstances: {instances}\n{run}\n\
         resources: {{ cpu: 0.001, memory: 64MiB }}\nports: [{{ name: http }}]\n\
         env: {{ LOG_REQUESTS: \"0\" }}\nstop: {{ grace: 1s, drain: 0s }}\n"
    )
}

fn process(top: &Top) -> String {
    format!("process: {{ command: [\"{}\"] }}", top.built("release/simpleservice").display())
}

/// The milliseconds from when a deployment was accepted until all its instances ran, by the
/// server's own clock.
pub(super) fn until_running(dev: &Dev, text: &str, instances: usize) -> Result<f64> {
    let before = dev.events(0)?.last().and_then(|event| event["number"].as_u64()).unwrap_or(0);
    dev.apply(text)?;
    request_each(PATIENT, "all instances to run", || {
        let events = dev.events(before)?;
        let at = |kind: &str| -> Vec<u64> {
            events.iter().filter(|event| event["kind"] == kind).filter_map(millis).collect()
        };
        let running = at("running");
        let started = at("deployment-started");
        let first = started.first().copied().zip(running.iter().max().copied());
        Ok(first.filter(|_| running.len() >= instances).map(|(from, to)| (to - from) as f64))
    })
}

/// When an event happened, in milliseconds of its day.
fn millis(event: &Value) -> Option<u64> {
    let time = event["at"].as_str()?.split_once('T')?.1.trim_end_matches('Z');
    let mut parts = time.splitn(3, ':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some((hours * 60 + minutes) * 60_000 + (seconds * 1000.0).round() as u64)
}

fn best(rounds: usize, mut measure: impl FnMut(usize) -> Result<f64>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for round in 0..rounds {
        best = best.min(measure(round)?);
    }
    Ok(best)
}

/// Processes from accepted to running.
pub(super) fn processes(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let dev = Dev::start(top)?;
    let mut figures = Vec::new();
    for (count, limit) in [(10, 60.0), (50, 250.0)] {
        let ours = best(ROUNDS, |round| {
            let name = format!("p{count}-{round}");
            let taken = until_running(&dev, &document(&name, count, &process(top)), count)?;
            dev.remove(&format!("/bench/{name}"))?;
            Ok(taken)
        })?;
        let what = format!("{count} processes, accepted to running");
        figures.push(Figure::new(&what, "ms", ours, Limit::Max(limit)));
    }
    Ok(figures)
}

/// Containers from accepted to running, compared with dockerd driven directly.
pub(super) fn containers(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    crate::docker::ensure(top)?;
    crate::image::ensure(top)?;
    let dev = Dev::start(top)?;
    let before = containers_of(IMAGE)?;
    let run = format!("container: {{ image: \"{IMAGE}\", network: host, pull: never }}");
    let mut figures = Vec::new();
    for count in [10, 50] {
        let (mut ours, mut bare) = (f64::INFINITY, f64::INFINITY);
        // Taken in turns, so that both see the same machine, each as often right after the other.
        for round in 0..4 {
            if round % 2 == 0 {
                bare = bare.min(bare_containers(IMAGE, count)?);
            }
            let name = format!("c{count}-{round}");
            ours = ours.min(until_running(&dev, &document(&name, count, &run), count)?);
            dev.remove(&format!("/bench/{name}"))?;
            // Swarm removes containers in the background.
            request_each(PATIENT, "the containers to be gone", || {
                Ok((containers_of(IMAGE)? <= before).then_some(()))
            })?;
            if round % 2 == 1 {
                bare = bare.min(bare_containers(IMAGE, count)?);
            }
        }
        let what = format!("{count} containers, accepted to running");
        let figure = Figure::new(&what, "ms", ours, Limit::RatioMax(1.1));
        figures.push(figure.with_peer("dockerd", bare));
    }
    Ok(figures)
}

/// How many containers of the image there are.
pub(super) fn containers_of(image: &str) -> Result<usize> {
    let filters = dev::encoded(&serde_json::json!({ "ancestor": [image] }).to_string());
    let listed = docker("GET", &format!("/containers/json?all=1&filters={filters}"), "")?;
    listed.as_array().map(Vec::len).context("dockerd lists containers")
}

/// The milliseconds that dockerd takes to create and start containers, four at a time.
fn bare_containers(image: &str, count: usize) -> Result<f64> {
    let began = Instant::now();
    let one = |i: usize| -> Result<String> {
        let port = 40_000 + i;
        let body = serde_json::json!({
            "Image": image,
            "Env": [format!("PORT0={port}"), "LOG_REQUESTS=0"],
            "HostConfig": { "NetworkMode": "host", "Memory": 64 << 20 },
        });
        let created = docker("POST", "/containers/create", &body.to_string())?;
        let id = created["Id"].as_str().context("a container has an id")?.to_string();
        docker("POST", &format!("/containers/{id}/start"), "")?;
        Ok(id)
    };
    let lane = |lane: usize| (lane..count).step_by(4).map(one).collect::<Result<Vec<_>>>();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..4).map(|n| scope.spawn(move || lane(n))).collect();
        let joined = lanes.into_iter().map(|handle| match handle.join() {
            Ok(ids) => ids,
            Err(_) => anyhow::bail!("a lane panicked"),
        });
        joined.collect::<Result<Vec<_>>>().map(|lanes| lanes.concat())
    })?;
    let taken = began.elapsed().as_secs_f64() * 1000.0;
    for id in ids {
        docker("DELETE", &format!("/containers/{id}?force=true"), "")?;
    }
    Ok(taken)
}

/// From the kill of a process until its next run is known to run.
pub(super) fn restart(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let dev = Dev::start(top)?;
    // Only the first restart in a row is immediate, so each round has a service of its own.
    let ours = best(ROUNDS, |round| {
        let name = format!("killed{round}");
        until_running(&dev, &document(&name, 1, &process(top)), 1)?;
        let instance = format!("/bench/{name}~0.1");
        until_again(&dev, &instance, || {
            kill(wait_for("its process", || Ok(find_instance(&instance)))?)
        })
    })?;
    Ok(vec![Figure::new("a killed process, running again", "ms", ours, Limit::Max(20.0))])
}

/// The milliseconds from before something kills an instance until its second run runs, by the
/// clock that the server has as well.
pub(super) fn until_again(
    dev: &Dev,
    instance: &str,
    kill: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let killed_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64 % 86_400_000;
    kill()?;
    wait_for("the second run", || {
        let events = dev.events(0)?;
        let mut runs = events.iter().filter(|event| {
            event["subject"] == instance && event["kind"] == "running" && event["run"] == 2
        });
        let again_at = runs.next().and_then(millis);
        Ok(again_at.map(|at| at.saturating_sub(killed_at) as f64))
    })
}

/// The milliseconds that the upgrade to a changed document takes, by the server's own clock.
pub(super) fn upgraded(dev: &Dev, text: &str) -> Result<f64> {
    let before = dev.events(0)?.last().and_then(|event| event["number"].as_u64()).unwrap_or(0);
    dev.apply(text)?;
    request_each(PATIENT, "the upgrade to succeed", || {
        let events = dev.events(before)?;
        let at = |kind: &str| events.iter().find(|event| event["kind"] == kind).and_then(millis);
        let both = at("deployment-started").zip(at("deployment-succeeded"));
        Ok(both.map(|(from, to)| to.saturating_sub(from) as f64))
    })
}

/// Upgrades of all instances of a service at once, each new one ready before an old one leaves.
pub(super) fn upgrades(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let dev = Dev::start(top)?;
    let mut figures = Vec::new();
    for (count, limit) in [(10, 500.0), (100, 3_000.0)] {
        let name = format!("upgraded{count}");
        let readiness = "readiness: { probe: { http: { path: /health } } }\n";
        let text = document(&name, count, &process(top)) + readiness;
        upgraded(&dev, &text)?;
        let ours = best(3, |round| {
            let changed = format!("ROUND: \"{round}\", LOG_REQUESTS");
            upgraded(&dev, &text.replace("LOG_REQUESTS", &changed))
        })?;
        dev.remove(&format!("/bench/{name}"))?;
        let what = format!("{count} processes upgraded, applied to done");
        figures.push(Figure::new(&what, "ms", ours, Limit::Max(limit)));
    }
    Ok(figures)
}

/// The process whose environment says that it is `instance`.
fn find_instance(instance: &str) -> Option<u32> {
    let wanted = format!("MUSTER_INSTANCE={instance}\0");
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains(&wanted)
    })
}

pub(super) fn kill(pid: u32) -> Result<()> {
    std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
    Ok(())
}

/// From the answer to a changed gateway document until a request gets the new route.
pub(super) fn route(top: &Top) -> Result<Vec<Figure>> {
    dev::build(top)?;
    let dev = Dev::start(top)?;
    let port = dev::free_port()?;
    let health = "\nreadiness: { probe: { http: { path: /health } } }";
    dev.apply(&(document("routed", 1, &process(top)) + health))?;
    let gateway = |path: &str| {
        format!(
            "gateway: bench\nlisten: 127.0.0.1:{port}\nroutes: [{{ path: {path}, to: /bench/routed }}]\n"
        )
    };
    let answers = |path: &str| {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        dev::request(stream, "GET", path, "")
    };
    dev.apply(&gateway("/"))?;
    wait_for("the gateway to answer", || Ok(answers("/info").ok()))?;
    let ours = best(20, |round| {
        // A route that answers 404 until the change is live, then reaches the service.
        let (there, other) = if round % 2 == 0 { ("/env", "/info") } else { ("/info", "/env") };
        dev.apply(&gateway(other))?;
        wait_for("the old route", || Ok(answers(there).is_err().then_some(())))?;
        dev.apply(&gateway(there))?;
        let began = Instant::now();
        while answers(there).is_err() {
            std::thread::yield_now();
        }
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    })?;
    Ok(vec![Figure::new("a changed route, committed to live", "ms", ours, Limit::Max(5.0))])
}
