//! `muster demo`: the main job, on this machine, without preparation: a service of four instances
//! behind a gateway is upgraded under load, and no client notices.
//!
//! This module shows the story and runs it with the same verbs that a user would type. `load` sends
//! requests, `report` counts them. Only the load decides the result: one failed request fails the
//! demo.

mod load;
mod report;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use api::{ApplyRequest, Client, NodeState, NodeView, Source, path};
use model::Millis;

use crate::adapters::Mounts;
use crate::daemon::cluster::{Cluster, Setup};
use crate::daemon::node::{Identity, Supply};
use crate::daemon::{stop_signal, stopped};
use crate::exit::Exit;
use crate::output::tone::Tone;
use crate::output::{Failure, Screen};
use crate::verbs::follow::Wait;
use crate::verbs::{Session, apply, outcome};

const EXAMPLES: &str = "\
Examples:
  muster demo                         then look around, until Ctrl-C
  muster demo --exit                  come back when it is over; exit code 0 if no request failed
  muster demo --exit --requests 50000";

const SERVICE: &str = "/demo/simple";
/// The number of consecutive ports: the gateway's, then those for instances.
const PORTS: u16 = 64;
/// The timeout for a step of the demonstration; only a problem of the machine exceeds it.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Upgrade a service under load without a failed request: all of Muster in half a minute
///
/// Everything is real: a server, an agent and a gateway, four processes of a small example
/// service, and clients whose every request must be answered with 200. It needs no Docker and
/// leaves nothing behind.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// End when it is over instead of staying up to be explored
    #[arg(long)]
    exit: bool,
    /// Minimum number of requests to send
    #[arg(long, value_name = "NUMBER", default_value_t = 6000)]
    requests: u64,
    /// The example service; by default the `simpleservice` next to this program
    #[arg(long, value_name = "PROGRAM", env = "MUSTER_SIMPLESERVICE", hide_env_values = true)]
    simpleservice: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, screen: Screen) -> Result<Exit, Failure> {
    let program = simpleservice(args.simpleservice)?;
    let stop = stop_signal()?;
    let first_port = free_ports()?;
    let supply = Supply {
        // The demo must not touch containers of another agent on this machine, in particular not
        // when it cleans up.
        no_docker: true,
        ports: Some((first_port + 1, first_port + PORTS - 1)),
        ..Supply::default()
    };
    let mut cluster = Cluster::start(Setup {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data_dir: None,
        identity: Identity::default(),
        supply,
        host_names: Vec::new(),
        adapters: Mounts::default().adapters()?,
    })
    .await?;
    let session = Session { client: Client::new(&cluster.url)?, screen };
    let demo = Demo { session, program, listen: (Ipv4Addr::LOCALHOST, first_port).into() };
    let played = tokio::select! {
        played = Box::pin(demo.play(args.requests)) => played,
        failure = cluster.failed() => Err(failure),
        () = stopped(stop.clone()) => {
            Err(Failure::new(Exit::Failure, "stopped before the demo was over"))
        }
    };
    if played.is_ok() && !args.exit {
        demo.leave_open(&cluster.url)?;
        tokio::select! {
            failure = cluster.failed() => return Err(failure),
            () = stopped(stop) => {}
        }
    }
    let cleared = cluster.stop().await;
    let exit = played?;
    cleared.map(|()| exit)
}

/// The path of the program that runs as the service.
fn simpleservice(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let sibling = || std::env::current_exe().ok().map(|own| own.with_file_name("simpleservice"));
    let program = given.or_else(sibling).unwrap_or_default();
    // The agent runs it from another directory, so the path must be absolute.
    std::fs::canonicalize(&program).map_err(|error| {
        let message = format!("the example service is missing: {}", program.display());
        Failure::new(Exit::Usage, message).because(&error).hint(
            "build both with `cargo build --bin muster --bin simpleservice`, or name it with \
             --simpleservice or MUSTER_SIMPLESERVICE",
        )
    })
}

/// The first of consecutive free ports. Instances get fixed ports, because another program, such as
/// a second demo, may use the default range.
fn free_ports() -> Result<u16, Failure> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let rows = 180;
    let begin = std::process::id() % rows;
    (0..rows)
        .map(|index| 20_000 + u16::try_from((begin + index) % rows).unwrap_or(0) * PORTS)
        .find(|first| (*first..first + PORTS).all(free))
        .ok_or_else(|| Failure::new(Exit::Failure, "no free ports between 20000 and 31999"))
}

/// The state of the demonstration.
struct Demo {
    session: Session,
    program: PathBuf,
    listen: SocketAddr,
}

impl Demo {
    async fn play(&self, requests: u64) -> Result<Exit, Failure> {
        let screen = &self.session.screen;
        self.node_is_ready().await?;
        self.title("A service in a file: four instances of version 0.9, behind a gateway")?;
        for line in self.document("0.9").lines() {
            screen.line(screen.paint(Tone::Dim, &format!("  {line}")))?;
        }
        self.command("muster apply -f demo.yaml --wait")?;
        if self.apply("0.9").await? != Exit::Ok {
            return Err(self.not_up());
        }
        self.gateway_responds().await?;

        self.title("Clients: some keep their connection, some open one for each request")?;
        let load = load::Load::start(self.listen, load::Clients { keeping: 6, opening: 4 });
        load.reach(requests / 4, Duration::from_millis(1500)).await;
        screen.line(format!("{} responses so far", load.count()))?;

        self.title("The upgrade to 1.0, under load")?;
        screen.line(self.difference())?;
        self.command("muster apply -f demo.yaml --wait")?;
        load.mark("upgrade begins");
        let upgraded = self.apply("1.0").await?;
        load.mark("upgrade ends");
        load.reach(requests, Duration::from_millis(1500)).await;
        let tally = load.stop().await;

        self.title("What the clients saw")?;
        screen.line(report::render(screen, &tally))?;
        let is_good = upgraded == Exit::Ok && tally.failed() == 0 && tally.has_responses("1.0");
        Ok(if is_good { Exit::Ok } else { Exit::Failure })
    }

    fn title(&self, text: &str) -> Result<(), Failure> {
        let screen = &self.session.screen;
        screen.line(format!("\n{}\n", screen.paint(Tone::Strong, &format!("== {text}"))))
    }

    fn command(&self, text: &str) -> Result<(), Failure> {
        let screen = &self.session.screen;
        screen.line(format!("\n{}", screen.paint(Tone::Good, &format!("$ {text}"))))
    }

    fn document(&self, version: &str) -> String {
        let program = serde_json::json!([self.program]);
        let listen = self.listen;
        format!(
            "\
service: {SERVICE}
instances: 4
process:
  command: {program}
env:
  SIMPLE_SERVICE_VERSION: \"{version}\"
  HEALTH_MIN: \"400\"   # its check takes so many milliseconds: it is slow to become ready
resources: {{ cpu: 0.05, memory: 64MiB }}
ports:
  - name: http
health:
  - probe: {{ http: {{ path: /health, port: http }} }}
    interval: 1s
readiness:
  probe: {{ http: {{ path: /health, port: http }} }}
  interval: 100ms
rollout:
  min_healthy: 100%   # never fewer than four
  max_surge: 25%       # never more than five
  deadline: 1m        # without progress for so long, it goes back by itself
---
gateway: demo
listen: {listen}
routes:
  - to: {SERVICE}:http
"
        )
    }

    /// The two lines that differ in an upgrade.
    fn difference(&self) -> String {
        let screen = &self.session.screen;
        let (before, after) = (self.document("0.9"), self.document("1.0"));
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        let lines = changed.flat_map(|(before, after)| {
            [
                screen.paint(Tone::Bad, &format!("- {before}")),
                screen.paint(Tone::Good, &format!("+ {after}")),
            ]
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    async fn apply(&self, version: &str) -> Result<Exit, Failure> {
        let source = Source { name: "demo.yaml".into(), text: self.document(version) };
        let request = ApplyRequest { sources: vec![source], plan: false, retry: false };
        let reply = apply::send(&self.session.client, &request).await?;
        let deployments: Vec<_> = reply.deployment.into_iter().collect();
        let wait = Wait::until(Some(Millis(WAIT_MAX.as_millis() as u64)));
        outcome::show(&self.session, &reply, &deployments, &wait).await
    }

    /// Waits until the agent and the gateway have registered.
    async fn node_is_ready(&self) -> Result<(), Failure> {
        let called = until(|| async {
            let nodes: Vec<NodeView> = self.session.client.get(path::NODES).await.ok()?;
            let ready = |view: &NodeView| {
                view.state == NodeState::Ready && view.node.capacity.is_some() && view.node.gateway
            };
            nodes.iter().any(ready).then_some(())
        });
        called.await.ok_or_else(|| {
            Failure::new(Exit::Failure, "agent and gateway did not call at the server")
                .hint("run it again with -v to see what they say")
        })
    }

    /// Waits until the gateway sends requests to the service. It learns the route shortly after the
    /// deployment has ended; earlier requests may fail.
    async fn gateway_responds(&self) -> Result<(), Failure> {
        let answered = until(|| async { load::probe(self.listen).await.then_some(()) }).await;
        answered.ok_or_else(|| {
            Failure::new(Exit::Failure, format!("the gateway does not respond at {}", self.listen))
        })
    }

    fn not_up(&self) -> Failure {
        Failure::new(Exit::Failure, "version 0.9 did not come up")
            .hint("run it again with -v to see what the agent says")
    }

    /// Suggested next commands.
    fn leave_open(&self, url: &str) -> Result<(), Failure> {
        self.title("It stays up until Ctrl-C. In another terminal:")?;
        self.session.screen.line(format!(
            "export MUSTER_SERVER={url}\n\
             curl http://{listen}/endpoint0\n\
             muster get instances -o wide\n\
             muster describe service {SERVICE}\n\
             muster logs -f {SERVICE}\n\
             muster events -f\n\
             muster scale {SERVICE} 6 --wait\n\
             muster restart {SERVICE} --wait\n\
             muster rollout undo {SERVICE} --wait\n\
             kill -9 one of the simpleservice processes, and see it come back",
            listen = self.listen
        ))
    }
}

/// Polls `ask` until it returns a value or the timeout passes.
async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> Option<T> {
    let answered = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, answered).await.ok()
}
