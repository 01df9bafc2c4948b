//! The command line: which verbs exist, and which code runs each. The arguments of a verb are in
//! its file.

use api::Client;
use clap::{CommandFactory, Parser, Subcommand};

use crate::daemon;
use crate::demo;
use crate::exit::{self, Exit};
use crate::global::Global;
use crate::logging::LogFormat;
use crate::output::{Failure, Screen};
use crate::verbs::{
    Session, apply, cluster, completion, describe, events, get, lab, logs, man, markdown, node,
    plan, restart, rm, rollout, run, scale, schema, version,
};

/// The output of `muster` without arguments.
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

/// A verb with its arguments.
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
    Start(run::Start),
    Pause(run::Pause),
    Stop(run::Stop),
    Freeze(run::Freeze),
    Thaw(run::Thaw),
    Rm(rm::Args),
    Rollout(rollout::Args),
    Node(node::Args),
    Cluster(cluster::Args),
    Lab(lab::Args),
    Schema(schema::Args),
    Completion(completion::Args),
    Man(man::Args),
    Version(version::Args),
    #[command(hide = true)]
    HelpMarkdown(markdown::Args),
}

impl Verb {
    /// The log format of a daemon; `None` for verbs that are not daemons.
    pub(crate) fn daemon_log(&self) -> Option<LogFormat> {
        let log = match self {
            Verb::Dev(args) => &args.log,
            Verb::Server(args) => &args.log,
            Verb::Agent(args) => &args.log,
            Verb::Gateway(args) => &args.log,
            _ => return None,
        };
        Some(log.log_format)
    }

    /// Runs the verb.
    pub(crate) async fn run(self, global: &Global, screen: Screen) -> Result<Exit, Failure> {
        let session = || Client::new(&global.server).map(|client| Session { client, screen });
        match self {
            Verb::Demo(args) => Box::pin(demo::run(args, screen)).await,
            Verb::Dev(args) => Box::pin(daemon::dev::run(args, screen)).await,
            Verb::Server(args) => Box::pin(daemon::server::run(args)).await,
            Verb::Agent(args) => Box::pin(daemon::agent::run(args, &global.server)).await,
            Verb::Gateway(args) => Box::pin(daemon::gateway::run(args, &global.server)).await,
            Verb::Apply(args) => apply::run(args, &session()?).await,
            Verb::Plan(args) => plan::run(args, &session()?).await,
            Verb::Get(args) => get::run(args, &session()?).await,
            Verb::Describe(args) => describe::run(args, &session()?).await,
            Verb::Logs(args) => logs::run(args, &session()?).await,
            Verb::Events(args) => events::run(args, &session()?).await,
            Verb::Scale(args) => scale::run(args, &session()?).await,
            Verb::Restart(args) => restart::run(args, &session()?).await,
            Verb::Start(args) => run::start(args, &session()?).await,
            Verb::Pause(args) => run::pause(args, &session()?).await,
            Verb::Stop(args) => run::stop(args, &session()?).await,
            Verb::Freeze(args) => run::freeze(args, &session()?).await,
            Verb::Thaw(args) => run::thaw(args, &session()?).await,
            Verb::Rm(args) => rm::run(args, &session()?).await,
            Verb::Rollout(args) => rollout::run(args, &session()?).await,
            Verb::Node(args) => node::run(args, &session()?).await,
            Verb::Cluster(args) => cluster::run(args, &session()?).await,
            Verb::Lab(args) => lab::run(args, session, screen).await,
            Verb::Schema(args) => schema::run(args, screen),
            Verb::Completion(args) => completion::run(args, Cli::command(), screen),
            Verb::Man(args) => man::run(args, Cli::command(), screen),
            Verb::Version(args) => version::run(args, &session()?).await,
            Verb::HelpMarkdown(args) => markdown::run(args, Cli::command(), screen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Clap shows an option that is set by the environment as required in the usage line.
    #[test]
    fn no_global_option_is_read_from_the_environment() {
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
    fn command_lines_of_the_documentation_are_accepted() {
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
            "muster stop /shop/web /shop/db --wait",
            "muster start shop/web",
            "muster pause /shop/web /shop/db --wait --force",
            "muster freeze /shop/web",
            "muster freeze /shop/web --resource db --tag cache",
            "muster thaw /shop/web",
            "muster scale /shop/web 3 --force",
            "muster rm /shop/web gateway/public",
            "muster rollout undo /shop/web --to 3",
            "muster rollout status d-7",
            "muster node drain n1 --wait",
            "muster cluster",
            "muster cluster accept-loss 3f1a90c2d4e5b687",
            "muster cluster stop-unknown n1",
            "muster agent --adopt-cluster 3f1a90c2d4e5b687",
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
    fn usage_errors_are_rejected() {
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
            "muster stop",
            "muster lab --check",
            "muster lab --update -e run",
            "muster lab a.txt -e run",
            "muster lab --check --from-cluster a.txt",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
