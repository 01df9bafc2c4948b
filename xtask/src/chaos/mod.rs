//! `chaos`: the real programs under load and change, with fault injection.
//!
//! A run is a cluster of separate processes in namespaces of their own ([`namespace`], [`cluster`]), clients that send
//! requests continuously ([`load`]), users who change services continuously ([`user`]), and faults chosen by a seed
//! ([`fault`]). Three invariants hold throughout: no request fails while a healthy backend is reachable, no acknowledged
//! write is lost, and no daemon exits without cause. At the end all faults are undone, and within about a minute every
//! service must be as specified and nothing else may run ([`verdict`]). A violation is printed with the history of the
//! run; the logs of the daemons stay in `target/chaos`.
//!
//! `--hostile` sends hostile and normal requests instead of injecting faults ([`lane`]).
//!
//! A seed determines the faults and their order; the timing depends on the machine.

mod cluster;
mod engine;
mod fault;
mod frames;
mod history;
mod hostile;
mod lane;
mod load;
mod namespace;
mod process;
mod random;
mod run;
mod scene;
mod user;
mod verdict;

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    image,
    shell::{self, Top},
};
use cluster::{Cluster, GATEWAYS, Programs, wait_for};
use engine::Engine;
use fault::{FAULTS, Fault};
use history::History;
use load::Load;
use random::Random;
use run::Run;
use scene::Scene;
use user::{PORT, User};

const EXAMPLES: &str = "\
Examples:
  cargo xtask chaos --minutes 5
  cargo xtask chaos --seed 0x1f2e               the faults of an earlier run
  cargo xtask chaos --only kill-server --only cable
  cargo xtask chaos --hostile --minutes 30      no faults, but hostile clients
  cargo xtask chaos --list";

/// Run the real programs under load while everything fails that can; needs root, affects nothing outside its namespaces
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long to inject faults
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The seed of an earlier run, in hexadecimal; by default a random one
    #[arg(long, value_name = "HEX", value_parser = seed)]
    seed: Option<u64>,
    /// Inject only this fault; may be repeated
    #[arg(long, value_name = "FAULT", value_parser = fault::names())]
    only: Vec<String>,
    /// Send hostile and normal requests instead of injecting faults
    #[arg(long, conflicts_with_all = ["seed", "only"])]
    hostile: bool,
    /// List the faults instead of running
    #[arg(long)]
    list: bool,
    /// We are inside the namespaces already
    #[arg(long, hide = true)]
    inside: bool,
}

fn seed(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16)
}

/// A run: the arguments with their defaults.
struct Options {
    minutes: f64,
    seed: u64,
    faults: Vec<&'static Fault>,
    hostile: bool,
}

impl Options {
    fn new(args: &Args) -> Options {
        let is_chosen = |fault: &&Fault| match args.only.is_empty() {
            true => !args.hostile,
            false => args.only.iter().any(|name| name == fault.name),
        };
        Options {
            minutes: args.minutes,
            seed: args.seed.unwrap_or_else(|| RandomState::new().hash_one(()) >> 32),
            faults: FAULTS.iter().filter(is_chosen).collect(),
            hostile: args.hostile,
        }
    }

    /// The same as arguments of the program that runs inside.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["chaos".to_owned(), "--inside".to_owned()];
        arguments.extend(["--minutes".to_owned(), self.minutes.to_string()]);
        if self.hostile {
            arguments.push("--hostile".to_owned());
            return arguments;
        }
        arguments.extend(["--seed".to_owned(), format!("{:x}", self.seed)]);
        for fault in &self.faults {
            arguments.extend(["--only".to_owned(), fault.name.to_owned()]);
        }
        arguments
    }

    fn needs_engine(&self) -> bool {
        self.faults.iter().any(|fault| fault.is_of_engine())
    }
}

fn list() {
    for fault in FAULTS {
        println!("{:<16} {}", fault.name, fault.what);
    }
}

/// Lists the faults, or builds the programs, enters the namespaces and makes a run.
pub(crate) fn run(top: &Top, args: &Args) -> Result<()> {
    if args.list {
        list();
        return Ok(());
    }
    let options = Options::new(args);
    if args.inside {
        return inside(top, &options);
    }
    // A debug build: its assertions are part of the test, its speed is not. Of the whole workspace,
    // so that dependencies keep the features of the tests.
    shell::run(&mut top.cargo(&["build", "--workspace", "--bins"]))?;
    if options.needs_engine() {
        image::program(top)?;
    }
    let arguments = options.arguments();
    namespace::enter(top, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn inside(top: &Top, options: &Options) -> Result<()> {
    namespace::prepare()?;
    let mut random = Random::new(options.seed);
    let programs = Programs::find(top)?;
    for name in cluster::AGENTS.iter().chain(&GATEWAYS) {
        namespace::add_node(name, cluster::address(name))?;
    }
    let engine = match options.needs_engine() {
        true => Some(Engine::start(top, &image::program(top)?, &programs)?),
        false => None,
    };
    let program = &programs.simpleservice;
    let mut users =
        vec![Arc::new(User::of_processes(program)), Arc::new(User::of_the_unchecked(program))];
    if engine.is_some() {
        users.push(Arc::new(User::of_containers(Engine::image())));
    }
    let kept = programs.kept.join("history.txt");
    let cluster = Cluster::start(programs, engine.is_some().then(Engine::address))?;
    user::begin_slow(&cluster.programs.simpleservice)?;
    for user in &users {
        user.begin(&mut random)?;
    }
    let gateways = GATEWAYS.map(cluster::address);
    wait_for(Duration::from_secs(30), "the gateways to answer", || {
        for path in ["/endpoint0", user::SLOW_PATH] {
            gateways.iter().try_for_each(|gateway| load::get((*gateway, PORT), path))?;
        }
        Ok(true)
    })?;
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    if options.hostile {
        return lane::run(cluster, time);
    }

    let history = Arc::new(History::begin());
    let load = Load::start(&gateways, PORT, "/endpoint0");
    let stop = Arc::new(AtomicBool::new(false));
    let working: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(number, user)| {
            let (user, stop, history) = (Arc::clone(user), Arc::clone(&stop), Arc::clone(&history));
            let random = Random::new(options.seed ^ (number as u64 + 1));
            std::thread::spawn(move || user.work(random, &stop, &history))
        })
        .collect();
    println!("chaos: {} min with seed {:#x}", options.minutes, options.seed);
    let mut run = Run::new(Scene::new(cluster, engine, load, users, history, random));
    let done = run.inject_faults(&options.faults, time);
    run.scene.history.note("all faults are undone");
    run.heal()?;
    done?;
    stop.store(true, Ordering::Relaxed);
    for user in working {
        user.join().map_err(|_| anyhow::anyhow!("a user panicked"))?;
    }
    verdict::settle(top, &mut run)?;
    let seen = run.scene.load.finish()?;
    let violations = verdict::report(&run, &seen, options.seed)?;
    let text = run.scene.history.text();
    fs::write(&kept, &text).with_context(|| format!("write {}", kept.display()))?;
    if violations.is_empty() {
        return Ok(());
    }
    println!("\n{text}");
    for violation in &violations {
        println!("VIOLATED  {violation:#}");
    }
    bail!("{} violations; the logs are in {}", violations.len(), kept.with_file_name("").display())
}
