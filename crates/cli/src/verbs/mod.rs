//! The verbs, one file each. Each asks the server and shows the answer; none decides anything
//! about services.

pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod describe;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod lab;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod markdown;
pub(crate) mod node;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod stream;
pub(crate) mod version;

use api::Client;

use crate::args::{Global, Verb};
use crate::exit::Exit;
use crate::output::{Failure, Screen};
use crate::{daemon, demo};

/// A server to ask and a screen to show the answers on.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The server.
    pub(crate) client: Client,
    /// Standard output.
    pub(crate) screen: Screen,
}

/// Does what was asked for.
pub(crate) async fn run(verb: Verb, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    let session = || Client::new(&global.server).map(|client| Session { client, screen });
    match verb {
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
        Verb::Rm(args) => rm::run(args, &session()?).await,
        Verb::Rollout(args) => rollout::run(args, &session()?).await,
        Verb::Node(args) => node::run(args, &session()?).await,
        Verb::Lab(args) => lab::run(args, session, screen).await,
        Verb::Schema(args) => schema::run(args, screen),
        Verb::Completion(args) => completion::run(args, screen),
        Verb::Man(args) => man::run(args, screen),
        Verb::Version(args) => version::run(args, &session()?).await,
        Verb::HelpMarkdown(args) => markdown::run(args, screen),
    }
}
