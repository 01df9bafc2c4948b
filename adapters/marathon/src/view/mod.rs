//! What Marathon's clients are shown and told: apps, tasks, groups, deployments, queue and events,
//! made from one snapshot of the cluster. Pure; the routes are in `http::marathon`, the documents
//! in `crate::format`.
//!
//! A service is an app, an instance's run is a task, a revision is a version named by its time.
//! Each name of theirs leads back to ours without a table, see `name`.

pub(crate) mod app;
pub(crate) mod environment;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod feed;
pub(crate) mod file;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod mesos;
pub(crate) mod name;
pub(crate) mod plan;
pub(crate) mod queue;
#[cfg(test)]
mod rig;
pub(crate) mod task;
pub(crate) mod teller;
