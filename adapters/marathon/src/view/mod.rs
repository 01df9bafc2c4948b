//! Marathon's view of the cluster: apps, tasks, groups, deployments, queue and events, computed
//! from a snapshot. Pure. The routes are in `crate::http`, the documents in `crate::format`.
//!
//! A service corresponds to an app, a run of an instance to a task, and a revision to a version,
//! which is identified by its time. Names are converted in both directions without a table, see
//! `name`.

pub(crate) mod app;
#[cfg(test)]
mod cluster;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod file;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod mesos;
pub(crate) mod name;
pub(crate) mod plan;
pub(crate) mod publisher;
pub(crate) mod queue;
pub(crate) mod task;
pub(crate) mod translator;
