//! `chaos`: the real programs, under load and under change, while everything fails that can be made to fail.
//!
//! A run is a cluster of separate processes in namespaces of their own ([`nest`], [`cluster`]), clients that never
//! stop asking ([`load`]), users who never stop changing things ([`user`]), and faults that a seed chooses
//! ([`fault`]). Three laws hold all along: no request fails while a healthy backend can be reached, nothing that was
//! acknowledged is lost, and no daemon ends by itself without cause. When it is over, all faults are undone, and within
//! a minute or so everything is as asked and nothing else runs ([`verdict`]). A broken law is printed with the history
//! of the run; daemons' logs stay in `target/chaos`.
//!
//! The seed gives the same faults in the same order; what they meet is up to the machine.

mod cluster;
mod dice;
mod engine;
mod fault;
mod history;
mod load;
mod nest;
mod process;
mod run;
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
use dice::Dice;
use engine::Engine;
use fault::{FAULTS, Fault};
use history::History;
use load::Load;
use run::Run;
use user::{PORT, User};

/// What the users of a run may say.
struct Options {
    minutes: f64,
    seed: u64,
    only: Vec<&'static Fault>,
    /// We are inside already.
    inside: bool,
}

impl Options {
    fn read(arguments: &[&str]) -> Result<Options> {
        let seed = RandomState::new().hash_one(()) >> 32;
        let mut options = Options { minutes: 1.0, seed, only: Vec::new(), inside: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if *argument == "--inside" {
                options.inside = true;
                continue;
            }
            let value = rest.next().with_context(|| format!("{argument} wants a value"))?;
            match *argument {
                "--minutes" => options.minutes = value.parse().context("--minutes NUMBER")?,
                "--seed" => {
                    let digits = value.trim_start_matches("0x");
                    options.seed = u64::from_str_radix(digits, 16).context("--seed HEX")?;
                }
                "--only" => {
                    let named = |fault: &&Fault| fault.name == *value;
                    let fault = FAULTS.iter().find(named);
                    options.only.push(fault.with_context(|| {
                        format!("there is no fault `{value}`; `cargo xtask chaos --list` has all")
                    })?);
                }
                other => bail!("`{other}` is no option of chaos"),
            }
        }
        if options.only.is_empty() {
            options.only = FAULTS.iter().collect();
        }
        Ok(options)
    }

    /// The same for the program that runs inside.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["chaos".to_owned(), "--inside".to_owned()];
        arguments.extend(["--minutes".to_owned(), self.minutes.to_string()]);
        arguments.extend(["--seed".to_owned(), format!("{:x}", self.seed)]);
        for fault in &self.only {
            arguments.extend(["--only".to_owned(), fault.name.to_owned()]);
        }
        arguments
    }

    fn wants_engine(&self) -> bool {
        self.only.iter().any(|fault| fault.is_of_engine())
    }
}

/// Prints the faults.
pub(crate) fn list() {
    for fault in FAULTS {
        println!("{:<16} {}", fault.name, fault.what);
    }
}

/// Builds what is needed, enters the namespaces and makes a run.
pub(crate) fn run(top: &Top, arguments: &[&str]) -> Result<()> {
    let options = Options::read(arguments)?;
    if options.inside {
        return inside(top, &options);
    }
    // With its assertions on: a run is about what is right, not about how fast it is.
    shell::run(&mut top.cargo(&["build", "-p", "muster-cli", "-p", "simpleservice"]))?;
    if options.wants_engine() {
        image::program(top)?;
    }
    let arguments = options.arguments();
    nest::enter(top, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn inside(top: &Top, options: &Options) -> Result<()> {
    nest::prepare()?;
    let mut dice = Dice(options.seed);
    let programs = Programs::find(top)?;
    for name in cluster::AGENTS.iter().chain(&GATEWAYS) {
        nest::wire(name, cluster::address(name))?;
    }
    let engine = match options.wants_engine() {
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
    for user in &users {
        user.begin(&mut dice)?;
    }
    let gateways = GATEWAYS.map(cluster::address);
    wait_for(Duration::from_secs(30), "the gateways to answer", || {
        gateways.iter().try_for_each(|gateway| load::get((*gateway, PORT), "/endpoint0"))?;
        Ok(true)
    })?;

    let history = Arc::new(History::begin());
    let load = Load::start(&gateways, PORT, "/endpoint0");
    let stop = Arc::new(AtomicBool::new(false));
    let working: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(number, user)| {
            let (user, stop, history) = (Arc::clone(user), Arc::clone(&stop), Arc::clone(&history));
            let dice = Dice(options.seed ^ (number as u64 + 1));
            std::thread::spawn(move || user.work(dice, &stop, &history))
        })
        .collect();
    println!("chaos: {} min with seed {:#x}", options.minutes, options.seed);
    let mut run = Run::new(cluster, engine, load, users, history, dice);
    let done = run.go(&options.only, Duration::from_secs_f64(options.minutes * 60.0));
    run.history.note("all faults are undone");
    run.heal()?;
    done?;
    stop.store(true, Ordering::Relaxed);
    for user in working {
        user.join().map_err(|_| anyhow::anyhow!("a user panicked"))?;
    }
    verdict::settle(top, &mut run)?;
    let seen = run.load.finish()?;
    let breaches = verdict::report(&run, &seen, options.seed)?;
    let text = run.history.text();
    fs::write(&kept, &text).with_context(|| format!("write {}", kept.display()))?;
    if breaches.is_empty() {
        return Ok(());
    }
    println!("\n{text}");
    for breach in &breaches {
        println!("BROKEN  {breach}");
    }
    bail!("{} breaches; the logs are in {}", breaches.len(), kept.with_file_name("").display())
}
