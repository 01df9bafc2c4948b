//! Why something could not be done.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, NodeId, ServiceId};
use crate::not_serving::Laggard;
use crate::unit::{Bytes, Cpu, Timestamp};

/// Why a node cannot take one more instance of a service. The first that applies is reported; they
/// are ordered from the most to the least permanent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// No agent has ever registered from it.
    NoAgent,
    /// Its agent is unreachable.
    Silent,
    /// It takes no new instances.
    Cordoned,
    /// It is being drained.
    Draining,
    /// Its agent does not have a feature that the service uses.
    AgentTooOld {
        /// The feature.
        needs: String,
        /// The version of the agent; empty if it does not report one.
        version: String,
    },
    /// It lacks a capability.
    Capability {
        /// The capability.
        missing: String,
    },
    /// Its role is not one that the service accepts.
    Role {
        /// The node's role; `*` if it has none.
        role: String,
    },
    /// A constraint of the service does not allow it.
    Constraint {
        /// The constraint, as in the document.
        constraint: String,
    },
    /// Too few cores are free.
    Cpu {
        /// The free cores.
        free: Cpu,
        /// The cores that are needed.
        needed: Cpu,
    },
    /// Too little memory is free.
    Memory {
        /// The free memory.
        free: Bytes,
        /// The memory that is needed.
        needed: Bytes,
    },
    /// A fixed port is in use.
    Port {
        /// The port.
        port: u16,
        /// The instance that uses it, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<InstanceId>,
    },
    /// All ports of the range are in use.
    Ports,
    /// Its agent has not reported to this server yet: whether the node runs is unknown.
    Unreported,
    /// It runs instances that this server did not place, so its free resources are unknown.
    UnknownInstances {
        /// Their number.
        count: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoAgent => f.write_str("no agent runs on it"),
            Reason::Silent => f.write_str("its agent is silent"),
            Reason::Cordoned => f.write_str("cordoned"),
            Reason::Draining => f.write_str("being drained"),
            Reason::AgentTooOld { needs, version } if version.is_empty() => {
                write!(f, "its agent is too old for `{needs}`")
            }
            Reason::AgentTooOld { needs, version } => {
                write!(f, "its agent (version {version}) is too old for `{needs}`")
            }
            Reason::Capability { missing } => write!(f, "lacks the capability {missing}"),
            Reason::Role { role } => write!(f, "its role {role} is not accepted"),
            Reason::Constraint { constraint } => write!(f, "constraint {constraint}"),
            Reason::Cpu { free, needed } => write!(f, "cpu: {needed} needed, {free} free"),
            Reason::Memory { free, needed } => write!(f, "memory: {needed} needed, {free} free"),
            Reason::Port { port, holder: None } => write!(f, "port {port} is taken"),
            Reason::Port { port, holder: Some(by) } => write!(f, "port {port} is taken by {by}"),
            Reason::Ports => f.write_str("no port left to assign"),
            Reason::UnknownInstances { count } => {
                write!(f, "runs unknown instances ({count}): see `muster cluster`")
            }
            Reason::Unreported => f.write_str("its agent has not reported to this server yet"),
        }
    }
}

/// Why a service waits, which holds for all its open slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "wait")]
pub enum Wait {
    /// No node can take it.
    NoNode {
        /// The nodes, each with its reason.
        nodes: Arc<[(NodeId, Reason)]>,
    },
    /// Services that it depends on are not ready.
    Dependencies {
        /// The services that it waits for.
        on: Vec<ServiceId>,
    },
    /// Services that depend on it have not stopped.
    Dependents {
        /// The services that it waits for.
        on: Vec<ServiceId>,
    },
    /// Its rollout is paused or held.
    Still {
        /// `paused`, or the reason why it is held.
        why: String,
    },
    /// The number of instances has reached the maximum of the rollout.
    Budget {
        /// Instances that have not ended.
        live: u32,
        /// The maximum.
        max: u32,
    },
    /// The number of healthy instances has reached the minimum of the rollout.
    Health {
        /// Healthy instances.
        healthy: u32,
        /// The minimum.
        min: u32,
    },
    /// The last placements failed; the next one is delayed.
    BackOff {
        /// When the delay ends.
        until: Timestamp,
    },
    /// New instances are not ready yet.
    Ready {
        /// The number of ready instances.
        ready: u32,
        /// The number that the service needs.
        wanted: u32,
        /// The first one that is not ready.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Box<Laggard>>,
    },
    /// The service is frozen, and nothing is done until it is thawed.
    Frozen {
        /// Instances that would be placed.
        missing: u32,
        /// Instances that have ended or are lost and would be removed.
        ended: u32,
        /// Instances that would be replaced or stopped.
        outgoing: u32,
    },
    /// Instances are being suspended, or cannot be.
    Pausing {
        /// Instances that are not suspended yet.
        count: u32,
        /// The first one whose agent cannot suspend it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<Box<Laggard>>,
    },
    /// The service is paused, and nothing else is done until it is started.
    Paused {
        /// Instances that would be placed.
        missing: u32,
        /// Instances that would be replaced.
        outgoing: u32,
    },
    /// The agents of some instances lack a feature that a goal of the service needs.
    Unsupported {
        /// Their nodes, each with its reason.
        nodes: Arc<[(NodeId, Reason)]>,
    },
    /// Gateways still finish requests of terminating instances, or instances are stopping.
    Leaving {
        /// The number of such instances.
        count: u32,
    },
}

/// Writes why `count` nodes cannot take an instance, with the reasons of the first three.
pub(crate) fn write_rejections(
    f: &mut fmt::Formatter<'_>,
    nodes: &[(NodeId, Reason)],
    count: usize,
) -> fmt::Result {
    write!(f, "no node of {count} can take it")?;
    let shown = nodes.len().min(3);
    for (node, reason) in &nodes[..shown] {
        write!(f, "; {node}: {reason}")?;
    }
    if count > shown { write!(f, "; and {} more", count - shown) } else { Ok(()) }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |ids: &[ServiceId]| ids.iter().map(ServiceId::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Wait::NoNode { nodes } if nodes.is_empty() => {
                f.write_str("the cluster has no nodes: start one with `muster agent`")
            }
            Wait::NoNode { nodes } => write_rejections(f, nodes, nodes.len()),
            Wait::Dependencies { on } => write!(f, "waits for {}", list(on)),
            Wait::Dependents { on } => write!(f, "waits for {} to stop", list(on)),
            Wait::Still { why } => f.write_str(why),
            Wait::Budget { live, max } => write!(f, "{live} live of at most {max}"),
            Wait::Health { healthy, min } => {
                write!(f, "{healthy} healthy, at least {min} must stay")
            }
            Wait::BackOff { until } => write!(f, "repeated failures: next placement at {until}"),
            Wait::Ready { ready, wanted, next } => {
                write!(f, "{ready} of {wanted} ready")?;
                next.as_ref().map_or(Ok(()), |next| write!(f, "; the next one: {next}"))
            }
            Wait::Frozen { missing, ended, outgoing } => {
                f.write_str("frozen; once it is thawed")?;
                let parts = counts(&[
                    (*missing, "to be placed"),
                    (*ended, "ended or lost"),
                    (*outgoing, "to be replaced or stopped"),
                ]);
                match parts.is_empty() {
                    true => f.write_str(", its deployment continues"),
                    false => write!(f, ": {parts}"),
                }
            }
            Wait::Pausing { count, failed: None } => {
                let are = if *count == 1 { "instance is" } else { "instances are" };
                write!(f, "{count} {are} being suspended")
            }
            Wait::Pausing { count, failed: Some(failed) } => {
                write!(f, "{count} not suspended yet; the first one: {failed}")
            }
            Wait::Paused { missing, outgoing } => {
                let parts = counts(&[(*missing, "to be placed"), (*outgoing, "to be replaced")]);
                write!(f, "paused; once it is started: {parts}")
            }
            Wait::Unsupported { nodes } => {
                let parts: Vec<_> =
                    nodes.iter().map(|(node, reason)| format!("{node}: {reason}")).collect();
                f.write_str(&parts.join("; "))
            }
            Wait::Leaving { count: 1 } => f.write_str("1 instance is terminating"),
            Wait::Leaving { count } => write!(f, "{count} instances are terminating"),
        }
    }
}

/// The counts that are not zero, each with its meaning.
fn counts(of: &[(u32, &str)]) -> String {
    let parts = of.iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unplaceable_service_names_some_nodes_and_counts_the_rest() {
        let check = |count: usize, expected: &str| {
            let name = |i: usize| format!("n{i}").parse().unwrap();
            let nodes = (0..count).map(|i| (name(i), Reason::Cordoned)).collect();
            assert_eq!(Wait::NoNode { nodes }.to_string(), expected);
        };
        check(0, "the cluster has no nodes: start one with `muster agent`");
        check(1, "no node of 1 can take it; n0: cordoned");
        let three = "can take it; n0: cordoned; n1: cordoned; n2: cordoned";
        check(3, &format!("no node of 3 {three}"));
        check(5, &format!("no node of 5 {three}; and 2 more"));
    }

    #[test]
    fn a_reason_states_the_missing_resource() {
        let check = |reason: Reason, expected: &str| assert_eq!(reason.to_string(), expected);
        check(Reason::Cpu { free: Cpu(250), needed: Cpu(1000) }, "cpu: 1 needed, 0.25 free");
        let (free, needed) = (Bytes::mib(32), Bytes::mib(1024));
        check(Reason::Memory { free, needed }, "memory: 1GiB needed, 32MiB free");
        check(Reason::Port { port: 80, holder: None }, "port 80 is taken");
        let holder = "/a~0.1".parse().ok();
        check(Reason::Port { port: 80, holder }, "port 80 is taken by /a~0.1");
    }

    /// The first reason that applies is reported, and nodes are compared by it.
    #[test]
    fn reasons_are_ordered_from_lasting_to_temporary() {
        let (free, needed) = (Cpu(0), Cpu(1));
        let cpu = Reason::Cpu { free, needed };
        let order = [Reason::NoAgent, Reason::Cordoned, cpu, Reason::Ports, Reason::Unreported];
        assert!(order.is_sorted());
    }
}
