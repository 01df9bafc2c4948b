//! The faults: the effect of each, its victim, and how it is undone.
//!
//! A fault claims the objects that it affects, and two faults with the same claim are never active together. This guarantees that
//! every request could be served: at any time at most one node is disconnected, at most one instance killed or stopped,
//! and at most one gateway down. The next node is affected only after the server has a report of the previous one, and
//! a cable is unplugged only while other nodes have enough backends.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::{
    cluster::{self, AGENTS, GATEWAYS, SERVER, data, faults},
    hostile::{self, Hostile},
    namespace::{self, Direction},
    process,
    random::Random,
    scene::Scene,
    user::PORT,
};

/// The claim of the faults of nodes.
const NODE: &str = "node";
/// Minimum number of backends on other nodes when a node is disconnected.
const BACKENDS_MIN: usize = 3;
/// Timeout of the request for the backends: without a response no cable is unplugged.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(200);

/// A kind of fault.
pub(super) struct Fault {
    /// The name for `--only` and in the table.
    pub(super) name: &'static str,
    /// Its effect.
    pub(super) what: &'static str,
    kind: Kind,
    /// The bounds of its duration, in milliseconds.
    lasts: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Server,
    Agent,
    Gateway,
    Instance,
    Keeper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill(Victim),
    Stop(Victim),
    Cable,
    Block(Direction),
    Full(Victim),
    Flush,
    Room,
    Clock(Victim),
    Engine(Engine),
    Hostile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Kill,
    End,
    Stop,
}

const fn fault(
    name: &'static str,
    what: &'static str,
    kind: Kind,
    first_ms: u64,
    last_ms: u64,
) -> Fault {
    Fault { name, what, kind, lasts: (first_ms, last_ms) }
}

/// All faults.
pub(super) const FAULTS: &[Fault] = &[
    fault("kill-server", "the server is killed", Kind::Kill(Victim::Server), 0, 2000),
    fault("kill-agent", "an agent is killed", Kind::Kill(Victim::Agent), 0, 4500),
    fault("kill-gateway", "a gateway is killed", Kind::Kill(Victim::Gateway), 0, 2000),
    fault("kill-instance", "an instance is killed", Kind::Kill(Victim::Instance), 500, 500),
    fault("kill-keeper", "the keeper of an agent is killed", Kind::Kill(Victim::Keeper), 500, 500),
    fault("stop-server", "the server is stopped (SIGSTOP)", Kind::Stop(Victim::Server), 100, 5000),
    fault("stop-agent", "an agent is stopped", Kind::Stop(Victim::Agent), 100, 5000),
    fault("stop-gateway", "a gateway is stopped", Kind::Stop(Victim::Gateway), 100, 5000),
    fault("stop-instance", "an instance is stopped", Kind::Stop(Victim::Instance), 100, 5000),
    fault("stop-keeper", "a keeper is stopped", Kind::Stop(Victim::Keeper), 100, 5000),
    fault("cable", "a node is disconnected", Kind::Cable, 100, 5000),
    fault(
        "deaf",
        "messages from the server to an agent are lost",
        Kind::Block(Direction::In),
        100,
        5000,
    ),
    fault(
        "mute",
        "messages from an agent to the server are lost",
        Kind::Block(Direction::Out),
        100,
        5000,
    ),
    fault("full-server", "the server's disk is full", Kind::Full(Victim::Server), 100, 3000),
    fault("full-agent", "an agent's disk is full", Kind::Full(Victim::Agent), 100, 3000),
    fault("flush", "the server's disk cannot be flushed", Kind::Flush, 50, 1000),
    fault("room", "the server's disk fills up within a write", Kind::Room, 100, 2000),
    fault("clock-server", "the server's clock is wrong", Kind::Clock(Victim::Server), 500, 5000),
    fault("clock-agent", "an agent's clock is wrong", Kind::Clock(Victim::Agent), 500, 5000),
    fault("kill-engine", "dockerd is killed", Kind::Engine(Engine::Kill), 0, 2000),
    fault("end-engine", "dockerd is terminated and restarted", Kind::Engine(Engine::End), 0, 2000),
    fault("hostile", "hostile clients of a gateway, slow backend", Kind::Hostile, 1000, 5000),
    fault("stop-engine", "dockerd is stopped", Kind::Engine(Engine::Stop), 100, 5000),
];

/// Accepts the names of the faults.
pub(super) fn names() -> PossibleValuesParser {
    FAULTS.iter().map(|fault| fault.name).collect::<Vec<_>>().into()
}

impl Fault {
    /// Whether it needs an engine.
    pub(super) fn is_of_engine(&self) -> bool {
        matches!(self.kind, Kind::Engine(_))
    }
}

/// An active fault.
pub(super) struct Active {
    pub(super) fault: &'static Fault,
    /// The name of the daemon or process.
    pub(super) victim: String,
    daemon: &'static str,
    pid: Option<u32>,
    pub(super) claim: String,
    pub(super) heal_at: Instant,
}

impl Active {
    /// The daemon that may exit because of it.
    pub(super) fn may_end(&self) -> Option<&'static str> {
        let may = matches!(self.fault.kind, Kind::Full(_) | Kind::Flush | Kind::Room);
        may.then_some(self.daemon)
    }
}

/// Injects the fault, unless every possible victim is claimed.
pub(super) fn inject(scene: &mut Scene, fault: &'static Fault) -> Result<Option<Active>> {
    let Some((daemon, pid, claim)) = choose(scene, fault) else { return Ok(None) };
    let lasts = scene.random.span(fault.lasts.0, fault.lasts.1);
    let victim = pid.map_or(daemon.to_owned(), |pid| format!("{daemon} {pid}").trim().to_owned());
    let mut note = format!("{} {victim} for {} ms", fault.name, lasts.as_millis());
    match fault.kind {
        Kind::Kill(Victim::Gateway) => {
            scene.load.excuse(gateway(daemon));
            scene.cluster.kill(daemon)?;
        }
        Kind::Kill(Victim::Server | Victim::Agent) => scene.cluster.kill(daemon)?,
        // The process may have exited meanwhile.
        Kind::Kill(_) => drop(pid.map(|pid| process::signal(pid, "KILL"))),
        Kind::Stop(Victim::Server | Victim::Agent | Victim::Gateway) => {
            scene.cluster.signal(daemon, "STOP")?;
        }
        Kind::Stop(_) => drop(pid.map(|pid| process::signal(pid, "STOP"))),
        Kind::Cable => namespace::set_link(daemon, false)?,
        Kind::Block(direction) => namespace::block(daemon, direction)?,
        Kind::Full(_) => fill(&filler(daemon))?,
        Kind::Flush => fs::write(faults().join("flush"), "")?,
        Kind::Room => {
            let log = data(SERVER).join("state.db-wal");
            let room =
                fs::metadata(log).map_or(0, |log| log.len()) + scene.random.number(0, 30_000);
            fs::write(faults().join("room"), room.to_string())?;
        }
        Kind::Clock(_) => {
            let ms = clock_offset_ms(&mut scene.random);
            note += &format!(", by {ms} ms");
            cluster::set_clock(daemon, ms)?;
        }
        Kind::Hostile => {
            hostile::signal_backend("STOP");
            scene.hostile = Some(Hostile::start((cluster::address(daemon), PORT)));
        }
        Kind::Engine(how) => {
            let engine = scene.engine.as_mut().context("there is an engine")?;
            match how {
                Engine::Kill => engine.kill()?,
                Engine::End => engine.end()?,
                Engine::Stop => engine.signal("STOP")?,
            }
        }
    }
    scene.history.note(note);
    scene.claims.insert(claim.clone());
    Ok(Some(Active { fault, victim, daemon, pid, claim, heal_at: Instant::now() + lasts }))
}

/// Undoes the fault. The scene watches processes that need time to recover.
pub(super) fn heal(scene: &mut Scene, active: &Active) -> Result<()> {
    scene.history.note(format!("  {} {} is over", active.fault.name, active.victim));
    match active.fault.kind {
        Kind::Kill(Victim::Server | Victim::Agent | Victim::Gateway) => {
            scene.cluster.launch(active.daemon)?;
            match active.fault.kind {
                Kind::Kill(Victim::Gateway) => scene.expect_gateway(gateway(active.daemon)),
                Kind::Kill(Victim::Server) => scene.expect_writes(),
                _ => {}
            }
        }
        Kind::Kill(_) => {}
        Kind::Stop(Victim::Server | Victim::Agent | Victim::Gateway) => {
            scene.cluster.signal(active.daemon, "CONT")?;
        }
        // The agent may have killed it meanwhile because it was unhealthy.
        Kind::Stop(_) => drop(active.pid.map(|pid| process::signal(pid, "CONT"))),
        Kind::Cable => namespace::set_link(active.daemon, true)?,
        Kind::Block(_) => namespace::unblock(active.daemon)?,
        Kind::Full(_) => remove(filler(active.daemon))?,
        Kind::Flush => remove(faults().join("flush"))?,
        Kind::Room => remove(faults().join("room"))?,
        Kind::Clock(_) => cluster::set_clock(active.daemon, 0)?,
        Kind::Hostile => {
            hostile::signal_backend("CONT");
            // The gateway may have been killed: large heads without an answer prove nothing here.
            scene.hostile.take().map(Hostile::finish).transpose()?;
        }
        Kind::Engine(how) => {
            let live = scene.random.number(0, 1) == 1;
            let engine = scene.engine.as_mut().context("there is an engine")?;
            match how {
                Engine::Kill | Engine::End => engine.launch(live)?,
                Engine::Stop => engine.signal("CONT")?,
            }
        }
    }
    if active.claim == NODE {
        scene.expect_node(active.daemon);
    }
    scene.claims.remove(&active.claim);
    Ok(())
}

/// The victim: a daemon, its process if it is not a daemon, and the claim.
fn choose(scene: &mut Scene, fault: &Fault) -> Option<(&'static str, Option<u32>, String)> {
    let victim = match fault.kind {
        Kind::Kill(victim) | Kind::Stop(victim) | Kind::Full(victim) | Kind::Clock(victim) => {
            victim
        }
        Kind::Cable | Kind::Block(_) => Victim::Agent,
        Kind::Flush | Kind::Room => Victim::Server,
        Kind::Hostile => Victim::Gateway,
        Kind::Engine(_) => {
            return scene.is_free("engine").then(|| ("dockerd", None, "engine".to_owned()));
        }
    };
    let daemon = match victim {
        Victim::Server => SERVER,
        Victim::Agent => *scene.random.pick(&AGENTS),
        Victim::Gateway => *scene.random.pick(&GATEWAYS),
        Victim::Instance => "instance",
        Victim::Keeper => "keeper",
    };
    let claim = match (fault.kind, victim) {
        // A wrong clock combines with every other fault.
        (Kind::Clock(_), _) => format!("clock of {daemon}"),
        (Kind::Hostile, _) => "hostile clients".to_owned(),
        (_, Victim::Gateway) => "gateway".to_owned(),
        (_, Victim::Agent) => NODE.to_owned(),
        _ => daemon.to_owned(),
    };
    if !scene.is_free(&claim) || fault.kind == Kind::Cable && !others_serve(daemon) {
        return None;
    }
    let pid = match victim {
        Victim::Instance => Some(pick(&mut scene.random, process::instances())?),
        Victim::Keeper => Some(pick(&mut scene.random, process::keepers())?),
        // It has exited and is about to be restarted.
        _ if !scene.cluster.runs(daemon) => return None,
        _ => None,
    };
    Some((daemon, pid, claim))
}

/// Whether other nodes have enough backends that one of them may fail too.
fn others_serve(node: &str) -> bool {
    let Ok(gateways) = cluster::send_within(REQUEST_TIMEOUT, "GET", "/v1/gateways", "") else {
        return false;
    };
    let backends = gateways[0]["routes"][0]["backends"].as_array().map_or(&[][..], Vec::as_slice);
    let here = format!("{}:", cluster::address(node));
    let elsewhere = |backend: &&Value| {
        backend["address"].as_str().is_some_and(|address| !address.starts_with(&here))
    };
    backends.iter().filter(elsewhere).count() >= BACKENDS_MIN
}

fn pick(random: &mut Random, mut of: Vec<process::Process>) -> Option<u32> {
    of.sort_by_key(|process| process.pid);
    (!of.is_empty()).then(|| random.pick(&of).pid)
}

fn gateway(name: &str) -> usize {
    GATEWAYS.iter().position(|known| *known == name).unwrap_or(0)
}

/// From a second to an hour, forwards or backwards.
fn clock_offset_ms(random: &mut Random) -> i64 {
    let seconds = *random.pick(&[1, 2, 10, 60, 3600]);
    let ms = seconds * 1000 + random.number(0, 999) as i64;
    if random.number(0, 1) == 0 { ms } else { -ms }
}

fn filler(daemon: &str) -> PathBuf {
    data(daemon).join("filler")
}

/// Writes until the disk is full.
fn fill(path: &PathBuf) -> Result<()> {
    let mut file = File::create(path)?;
    let mut size = 1 << 16;
    while size > 0 {
        match file.write_all(&vec![0; size]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
            Err(error) => return Err(error).context("fill a disk"),
        }
    }
    Ok(())
}

fn remove(path: PathBuf) -> Result<()> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The longest duration of a fault.
pub(super) const LASTS_MAX: Duration = Duration::from_secs(5);
