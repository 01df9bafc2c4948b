//! The verbs, one file each. Each sends requests to the server and shows the responses; none makes
//! decisions about services.

pub(crate) mod apply;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod describe;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod follow;
pub(crate) mod get;
pub(crate) mod lab;
mod listening;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod markdown;
pub(crate) mod node;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rollout;
pub(crate) mod run;
pub(crate) mod scale;
pub(crate) mod schema;
pub(crate) mod stream;
pub(crate) mod version;

use api::Client;

use crate::output::Screen;

/// A server to send requests to, and a screen to show the responses on.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The server.
    pub(crate) client: Client,
    /// Standard output.
    pub(crate) screen: Screen,
}
