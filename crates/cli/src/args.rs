//! The command line. Each verb's own arguments are in the verb's file; here is what all share.

use clap::{Parser, Subcommand};

use crate::daemon;
use crate::demo;
use crate::exit;
use crate::output::screen::{ColorWhen, Format};
use crate::verbs::{
    apply, completion, describe, events, get, lab, logs, man, markdown, node, plan, restart, rm,
    rollout, scale, schema, version,
};

/// Shown by `muster` alone.
pub(crate) const GETTING_STARTED: &str = "\
Muster gathers services together and lets nothing go live until it passes muster.

See it work (nothing to prepare, nothing left behind):
  muster demo

Run a cluster of one on this machine:
  muster dev

Then, in another terminal:
  muster apply -f web.yaml --wait     make services as the documents say
  muster get services                 what runs
  muster describe service /shop/web   one thing in full, and why it does not run
  muster logs -f /shop/web            what it prints
  muster rollout status /shop/web     follow an upgrade

A document, to begin with:
  service: /shop/web
  instances: 2
  process: { command: \"python3 -m http.server $PORT0\" }
  ports: [{ name: http }]
  readiness: { probe: { http: { path: / } } }

More: `muster --help` lists all verbs, `muster VERB --help` explains one with examples.";

/// Gathers services together and lets nothing go live until it passes muster.
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 100, after_help = exit::help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What every verb understands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The server to talk to; without it what MUSTER_SERVER says, if that is set
    #[arg(long, global = true, value_name = "URL", default_value_t = server())]
    pub(crate) server: String,
    /// How to show answers: table, wide (more columns), json or yaml (the documents of the API),
    /// name (one a line)
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORM"
    )]
    pub(crate) output: Format,
    /// When to use colour: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "WHEN"
    )]
    pub(crate) color: ColorWhen,
    /// Log more to standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The server that is talked to by default. Not left to clap, which would say of an option that
/// the environment has set that it must be given.
fn server() -> String {
    let named = std::env::var("MUSTER_SERVER").ok().filter(|url| !url.is_empty());
    named.unwrap_or_else(|| "http://127.0.0.1:4040".into())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Demo(demo::Args),
    Dev(daemon::dev::Args),
    Server(daemon::server::Args),
    Agent(daemon::agent::Args),
    Gateway(daemon::gateway::Args),
    Apply(apply::Args),
    Plan(plan::Args),
    Get(get::Args),
    Describe(describe::Args),
    Logs(logs::Args),
    Events(events::Args),
    Scale(scale::Args),
    Restart(restart::Args),
    Rm(rm::Args),
    Rollout(rollout::Args),
    Node(node::Args),
    Lab(lab::Args),
    Schema(schema::Args),
    Completion(completion::Args),
    Man(man::Args),
    Version(version::Args),
    #[command(hide = true)]
    HelpMarkdown(markdown::Args),
}

impl Verb {
    /// Whether it runs until it is told to stop, so that its log is worth showing.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self, Verb::Dev(_) | Verb::Server(_) | Verb::Agent(_) | Verb::Gateway(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What the environment says of a global option, clap takes for given; then it says of the
    /// option in its usage that it must be.
    #[test]
    fn no_global_option_is_left_to_the_environment() {
        assert!(Cli::command().get_arguments().all(|option| option.get_env().is_none()));
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", verb.get_name());
        }
    }

    #[test]
    fn command_lines_of_the_documentation_are_understood() {
        for line in [
            "muster",
            "muster demo --exit --requests 5000",
            "muster dev --ephemeral --listen 127.0.0.1:4041",
            "muster agent --server http://10.0.0.1:4040",
            "muster apply -f a.yaml -f b.yaml --wait --timeout 5m",
            "muster apply -f -",
            "muster plan -f dir -o json",
            "muster get services",
            "muster get instances /shop/web -o wide",
            "muster describe service /shop/web",
            "muster describe instance /shop/web~0.1",
            "muster logs -f --tail 10 /shop/web",
            "muster events -f --service /shop/web",
            "muster scale /shop/web 4 --wait",
            "muster rm /shop/web gateway/public",
            "muster rollout undo /shop/web --to 3",
            "muster rollout status d-7",
            "muster node drain n1 --wait",
            "muster lab",
            "muster lab --check a.txt b.txt",
            "muster lab --update a.txt",
            "muster lab --from-cluster -e lose_n1;run;show -o json",
            "muster lab --from-cluster -",
            "muster -vv get nodes --server http://x:1 --color never",
            "muster completion bash",
            "muster help-markdown",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "muster frobnicate",
            "muster apply",
            "muster scale /shop/web",
            "muster scale /shop/web many",
            "muster scale /Shop 1",
            "muster get wheels",
            "muster describe instance /shop/web",
            "muster rollout undo /shop/web --to x",
            "muster apply -f x --timeout 5parsecs",
            "muster rm",
            "muster lab --check",
            "muster lab --update -e run",
            "muster lab a.txt -e run",
            "muster lab --check --from-cluster a.txt",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
