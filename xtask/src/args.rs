//! The command line of `cargo xtask`: which tasks exist, with their options, and the function that runs each.
//!
//! Options that belong to one task are defined in its file. The texts below are the help.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    bench, chaos, demo, docker, docs, fuzz, image, mutants, prove, shell::Top, step, test, tidy,
};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                    what continuous integration runs
  cargo xtask test --only unit        one step, with the steps that it needs
  cargo xtask tidy                    the rules of ARCHITECTURE.md
  cargo xtask sim --seeds 1000 --fresh
  cargo xtask bench --only planner --against HEAD~1";

/// The tasks of this repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Demo(demo::Args),
    /// Run every check that a change must pass; installs missing packages (Debian)
    Test {
        /// Run one step, with the steps that it needs
        #[arg(long, value_name = "STEP", value_parser = step::names(test::STEPS))]
        only: Option<String>,
        /// List the steps instead of running them
        #[arg(long, conflicts_with = "only")]
        list: bool,
    },
    /// Write the generated pages of the book
    Docs {
        /// Write nothing; fail if a page is stale, or a command, link or document in the documentation is wrong
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the house: R1 to R6, module cycles, form
    Tidy {
        /// Print the counters of private prose per 10,000 words of comments, for each crate
        #[arg(long)]
        prose: bool,
    },
    /// Build the container image of examples/simpleservice unless it exists
    Image,
    /// Install the Docker engine if it is missing, and start it if it does not respond
    Docker,
    Bench(bench::Args),
    Chaos(chaos::Args),
    Fuzz(fuzz::Args),
    Mutants(mutants::Args),
    /// Simulate whole clusters, one per seed, and check the invariants; `--help` after `--` lists the options
    #[command(disable_help_flag = true)]
    Sim {
        /// Options of the simulator, such as --seeds 1000 --fresh
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        options: Vec<String>,
    },
    Prove(prove::Args),
}

impl Cli {
    /// Runs the task.
    pub(crate) fn run(self, top: &Top) -> Result<()> {
        match self.task {
            Task::Demo(args) => demo::run(top, &args),
            Task::Test { list: true, .. } => {
                step::list(test::STEPS);
                Ok(())
            }
            Task::Test { only, .. } => test::check(top, only.as_deref()),
            Task::Docs { check: true } => docs::check(top),
            Task::Docs { check: false } => docs::write(top),
            Task::Tidy { prose: true } => tidy::prose(top),
            Task::Tidy { prose: false } => tidy::run(top),
            Task::Image => docker::ensure(top).and_then(|()| image::ensure(top)),
            Task::Docker => docker::ensure(top),
            Task::Bench(args) => bench::run(top, &args),
            Task::Chaos(args) => chaos::run(top, &args),
            Task::Fuzz(args) => fuzz::run(top, &args),
            Task::Mutants(args) => mutants::run(top, &args),
            Task::Sim { options } => prove::simulate(top, &options),
            Task::Prove(args) => prove::prove(top, &args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("xtask").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_task_and_option_is_explained() {
        for task in Cli::command().get_subcommands() {
            assert!(task.get_about().is_some(), "{}", task.get_name());
            for option in task.get_arguments().filter(|option| !option.is_hide_set()) {
                assert!(option.get_help().is_some(), "{} {}", task.get_name(), option.get_id());
            }
        }
    }

    #[test]
    fn command_lines_of_the_documentation_are_accepted() {
        for line in [
            "demo --exit",
            "test --only unit",
            "test --list",
            "docs --check",
            "tidy --prose",
            "bench --only planner --against HEAD~1",
            "bench --readme",
            "chaos --minutes 0.5 --seed 0x1f --only kill-server --only cable",
            "chaos --minutes 30 --hostile",
            "fuzz --minutes 10 --only word",
            "fuzz --list",
            "mutants --only model --shard 1/8 --minutes 5",
            "sim --seeds 1000 --fresh",
            "prove --cases 5000",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn usage_errors_are_rejected() {
        for line in [
            "",
            "frobnicate",
            "test --only nothing",
            "tidy --cycles",
            "chaos --only nothing",
            "chaos --seed z",
            "chaos --hostile --only cable",
            "fuzz",
            "fuzz --minutes 0",
            "fuzz --only word",
            "mutants --only server",
            "mutants --shard 8/8",
            "mutants --minutes 0",
            "bench --only nothing",
            "bench --list --readme",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
