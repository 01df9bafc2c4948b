//! What can go wrong, on whom, and how it is undone.
//!
//! A fault claims what it touches, and no two that claim the same are there at once. That is what makes it certain, by
//! construction, that requests could always be answered: at most one node is cut off, at most one instance killed or
//! stopped and at most one gateway away at any time; the next node has its turn only when the last one is heard of
//! again; and a cable is pulled only while other nodes have enough backends.

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
    dice::Dice,
    nest::{self, Way},
    process,
    run::Run,
};

/// What faults of nodes claim.
const NODE: &str = "node";
/// So many backends must be left when a node is cut off.
const BACKENDS_MIN: usize = 3;
/// A server that does not answer within this time is not asked.
const ASK_MAX: Duration = Duration::from_millis(200);

/// Something that can go wrong.
pub(super) struct Fault {
    /// What `--only` takes, and the table prints.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) what: &'static str,
    kind: Kind,
    /// For how long, in milliseconds.
    lasts: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Server,
    Agent,
    Gateway,
    Instance,
    Keeper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill(Whom),
    Stop(Whom),
    Cable,
    Block(Way),
    Full(Whom),
    Flush,
    Room,
    Clock(Whom),
    Engine(Engine),
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

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    fault("kill-server", "the server is killed", Kind::Kill(Whom::Server), 0, 2000),
    fault("kill-agent", "an agent is killed", Kind::Kill(Whom::Agent), 0, 4500),
    fault("kill-gateway", "a gateway is killed", Kind::Kill(Whom::Gateway), 0, 2000),
    fault("kill-instance", "an instance is killed", Kind::Kill(Whom::Instance), 500, 500),
    fault("kill-keeper", "the keeper of an agent is killed", Kind::Kill(Whom::Keeper), 500, 500),
    fault("stop-server", "the server stands still", Kind::Stop(Whom::Server), 100, 5000),
    fault("stop-agent", "an agent stands still", Kind::Stop(Whom::Agent), 100, 5000),
    fault("stop-gateway", "a gateway stands still", Kind::Stop(Whom::Gateway), 100, 5000),
    fault("stop-instance", "an instance stands still", Kind::Stop(Whom::Instance), 100, 5000),
    fault("stop-keeper", "a keeper stands still", Kind::Stop(Whom::Keeper), 100, 5000),
    fault("cable", "a node's cable is pulled", Kind::Cable, 100, 5000),
    fault("deaf", "what the server sends to an agent is lost", Kind::Block(Way::In), 100, 5000),
    fault("mute", "what an agent sends to the server is lost", Kind::Block(Way::Out), 100, 5000),
    fault("full-server", "the server's disk is full", Kind::Full(Whom::Server), 100, 3000),
    fault("full-agent", "an agent's disk is full", Kind::Full(Whom::Agent), 100, 3000),
    fault("flush", "the server's disk cannot be flushed", Kind::Flush, 50, 1000),
    fault("room", "the server's disk fills up within a write", Kind::Room, 100, 2000),
    fault("clock-server", "the server's clock is set", Kind::Clock(Whom::Server), 500, 5000),
    fault("clock-agent", "an agent's clock is set", Kind::Clock(Whom::Agent), 500, 5000),
    fault("kill-engine", "dockerd is killed", Kind::Engine(Engine::Kill), 0, 2000),
    fault("end-engine", "dockerd is ended and started", Kind::Engine(Engine::End), 0, 2000),
    fault("stop-engine", "dockerd stands still", Kind::Engine(Engine::Stop), 100, 5000),
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

/// A fault that is there.
pub(super) struct Active {
    pub(super) fault: &'static Fault,
    /// Who has it: the name of a daemon, or a process.
    pub(super) whom: String,
    daemon: &'static str,
    pid: Option<u32>,
    pub(super) claim: String,
    pub(super) heal_at: Instant,
}

impl Active {
    /// The daemon that may end by itself because of it.
    pub(super) fn may_end(&self) -> Option<&'static str> {
        let may = matches!(self.fault.kind, Kind::Full(_) | Kind::Flush | Kind::Room);
        may.then_some(self.daemon)
    }
}

/// Lets it happen to somebody, unless all who could have it are taken.
pub(super) fn inject(run: &mut Run, fault: &'static Fault) -> Result<Option<Active>> {
    let Some((daemon, pid, claim)) = choose(run, fault) else { return Ok(None) };
    let lasts = run.dice.span(fault.lasts.0, fault.lasts.1);
    let whom = pid.map_or(daemon.to_owned(), |pid| format!("{daemon} {pid}").trim().to_owned());
    let mut note = format!("{} {whom} for {} ms", fault.name, lasts.as_millis());
    match fault.kind {
        Kind::Kill(Whom::Gateway) => {
            run.load.excuse(gateway(daemon));
            run.cluster.kill(daemon)?;
        }
        Kind::Kill(Whom::Server | Whom::Agent) => run.cluster.kill(daemon)?,
        // It may just have ended by itself.
        Kind::Kill(_) => drop(pid.map(|pid| process::signal(pid, "KILL"))),
        Kind::Stop(Whom::Server | Whom::Agent | Whom::Gateway) => {
            run.cluster.signal(daemon, "STOP")?;
        }
        Kind::Stop(_) => drop(pid.map(|pid| process::signal(pid, "STOP"))),
        Kind::Cable => nest::plug(daemon, false)?,
        Kind::Block(way) => nest::block(daemon, way)?,
        Kind::Full(_) => fill(&filler(daemon))?,
        Kind::Flush => fs::write(faults().join("flush"), "")?,
        Kind::Room => {
            let log = data(SERVER).join("state.db-wal");
            let room = fs::metadata(log).map_or(0, |log| log.len()) + run.dice.number(0, 30_000);
            fs::write(faults().join("room"), room.to_string())?;
        }
        Kind::Clock(_) => {
            let ms = some_step(&mut run.dice);
            note += &format!(", by {ms} ms");
            cluster::set_clock(daemon, ms)?;
        }
        Kind::Engine(how) => {
            let engine = run.engine.as_mut().context("there is an engine")?;
            match how {
                Engine::Kill => engine.kill()?,
                Engine::End => engine.end()?,
                Engine::Stop => engine.signal("STOP")?,
            }
        }
    }
    run.history.note(note);
    Ok(Some(Active { fault, whom, daemon, pid, claim, heal_at: Instant::now() + lasts }))
}

/// Undoes it. What takes time to come back is watched by the run.
pub(super) fn heal(run: &mut Run, active: &Active) -> Result<()> {
    run.history.note(format!("  {} {} is over", active.fault.name, active.whom));
    match active.fault.kind {
        Kind::Kill(Whom::Server | Whom::Agent | Whom::Gateway) => {
            run.cluster.launch(active.daemon)?;
            match active.fault.kind {
                Kind::Kill(Whom::Gateway) => run.expect_gateway(gateway(active.daemon)),
                Kind::Kill(Whom::Server) => run.expect_writes(),
                _ => {}
            }
        }
        Kind::Kill(_) => {}
        Kind::Stop(Whom::Server | Whom::Agent | Whom::Gateway) => {
            run.cluster.signal(active.daemon, "CONT")?;
        }
        // It may have been killed meanwhile, as one that is not healthy.
        Kind::Stop(_) => drop(active.pid.map(|pid| process::signal(pid, "CONT"))),
        Kind::Cable => nest::plug(active.daemon, true)?,
        Kind::Block(_) => nest::unblock(active.daemon)?,
        Kind::Full(_) => remove(filler(active.daemon))?,
        Kind::Flush => remove(faults().join("flush"))?,
        Kind::Room => remove(faults().join("room"))?,
        Kind::Clock(_) => cluster::set_clock(active.daemon, 0)?,
        Kind::Engine(how) => {
            let live = run.dice.number(0, 1) == 1;
            let engine = run.engine.as_mut().context("there is an engine")?;
            match how {
                Engine::Kill | Engine::End => engine.launch(live)?,
                Engine::Stop => engine.signal("CONT")?,
            }
        }
    }
    if active.claim == NODE {
        run.expect_node(active.daemon);
    }
    Ok(())
}

/// Whom it shall happen to: a daemon, a process, what it claims.
fn choose(run: &mut Run, fault: &Fault) -> Option<(&'static str, Option<u32>, String)> {
    let whom = match fault.kind {
        Kind::Kill(whom) | Kind::Stop(whom) | Kind::Full(whom) | Kind::Clock(whom) => whom,
        Kind::Cable | Kind::Block(_) => Whom::Agent,
        Kind::Flush | Kind::Room => Whom::Server,
        Kind::Engine(_) => {
            return run.is_free("engine").then(|| ("dockerd", None, "engine".to_owned()));
        }
    };
    let daemon = match whom {
        Whom::Server => SERVER,
        Whom::Agent => *run.dice.pick(&AGENTS),
        Whom::Gateway => *run.dice.pick(&GATEWAYS),
        Whom::Instance => "instance",
        Whom::Keeper => "keeper",
    };
    let claim = match (fault.kind, whom) {
        // A clock can be wrong while other things happen.
        (Kind::Clock(_), _) => format!("clock of {daemon}"),
        (_, Whom::Gateway) => "gateway".to_owned(),
        (_, Whom::Agent) => NODE.to_owned(),
        _ => daemon.to_owned(),
    };
    if !run.is_free(&claim) || fault.kind == Kind::Cable && !others_serve(daemon) {
        return None;
    }
    let pid = match whom {
        Whom::Instance => Some(pick(&mut run.dice, process::instances())?),
        Whom::Keeper => Some(pick(&mut run.dice, process::keepers())?),
        // One that has ended by itself and is about to be started again.
        _ if !run.cluster.runs(daemon) => return None,
        _ => None,
    };
    Some((daemon, pid, claim))
}

/// Whether enough instances on other nodes are sent requests, so that one more may fail.
fn others_serve(node: &str) -> bool {
    let Ok(gateways) = cluster::ask_within(ASK_MAX, "GET", "/v1/gateways", "") else {
        return false;
    };
    let backends = gateways[0]["routes"][0]["backends"].as_array().map_or(&[][..], Vec::as_slice);
    let here = format!("{}:", cluster::address(node));
    let elsewhere = |backend: &&Value| {
        backend["address"].as_str().is_some_and(|address| !address.starts_with(&here))
    };
    backends.iter().filter(elsewhere).count() >= BACKENDS_MIN
}

fn pick(dice: &mut Dice, mut of: Vec<process::Process>) -> Option<u32> {
    of.sort_by_key(|process| process.pid);
    (!of.is_empty()).then(|| dice.pick(&of).pid)
}

fn gateway(name: &str) -> usize {
    GATEWAYS.iter().position(|known| *known == name).unwrap_or(0)
}

/// From a second to an hour, forward or back.
fn some_step(dice: &mut Dice) -> i64 {
    let seconds = *dice.pick(&[1, 2, 10, 60, 3600]);
    let ms = seconds * 1000 + dice.number(0, 999) as i64;
    if dice.number(0, 1) == 0 { ms } else { -ms }
}

fn filler(daemon: &str) -> PathBuf {
    data(daemon).join("filler")
}

/// Writes until there is no room.
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

/// The longest that any of them lasts.
pub(super) const LONGEST: Duration = Duration::from_secs(5);
