//! The cluster: the server, the nodes with their processes, and the users.

use std::collections::{BTreeMap, BTreeSet};

use model::{Bytes, Cpu, InstanceId, NodeId, Resources, State};

use crate::agent::Agent;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::environment::Environment;
use crate::event::{AgentEvent, GatewayEvent, MachineEvent};
use crate::fault::Outage;
use crate::gateway::Gateway;
use crate::machine::{Machine, Reported};
use crate::message::{Call, Caller, Line, Reply};
use crate::network::{Location, Network};
use crate::process::{Conn, Incarnation, Process, Rpc};
use crate::server::Server;
use crate::settings::Settings;
use crate::transport::Delivery;
use crate::users::{Users, View};

/// A node: its hardware, and the processes on it.
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) agent: Agent,
    pub(crate) gateway: Option<Gateway>,
    /// Once the fault phase is over: the node stays broken in this way.
    pub(crate) outage: Option<Outage>,
}

/// Everything that runs.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    /// A server with the wrong store, while it has taken the place of the other.
    pub(crate) wrong_server: Option<Server>,
    /// The state of the cluster's newest store meanwhile.
    pub(crate) state_aside: Option<State>,
    /// A copy of the store from an earlier time.
    pub(crate) backup: Disk,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) users: Users,
}

impl Cluster {
    /// A cluster in which nothing runs yet.
    pub(crate) fn new(settings: &Settings, rng: &mut fastrand::Rng) -> Cluster {
        let hosts = (1..=settings.nodes).map(|number| {
            let node = node_id(number);
            let rack = if rng.bool() { "a" } else { "b" };
            let labels = BTreeMap::from([("rack".into(), rack.into())]);
            let clock = Clock::drifting(rng.i64(-200..200));
            let cpu = Cpu(rng.u32(2..9) * 1000);
            let capacity = Resources { cpu, memory: Bytes::mib(4096) };
            let has_gateway = number <= settings.gateways;
            let host = Host {
                machine: Machine::new(node.clone(), clock, capacity),
                agent: Agent::new(node.clone(), labels),
                gateway: has_gateway.then(|| Gateway::new(node.clone())),
                outage: None,
            };
            (node, host)
        });
        Cluster {
            hosts: hosts.collect(),
            server: Server::new(),
            wrong_server: None,
            state_aside: None,
            backup: Disk::default(),
            users: Users::new(settings.services, settings.command_interval_ms),
        }
    }

    /// Draws a node.
    pub(crate) fn any_node(&self, rng: &mut fastrand::Rng) -> NodeId {
        rng.choice(self.hosts.keys()).expect("there are nodes").clone()
    }

    pub(crate) fn host(&mut self, node: &NodeId) -> &mut Host {
        self.hosts.get_mut(node).expect("hosts are never removed")
    }

    /// Starts a process, unless it runs or cannot run.
    pub(crate) fn start(&mut self, env: &mut Environment, process: &Process) {
        match process {
            Process::Server => self.present_server().start(env),
            Process::Agent(node) => {
                let host = self.host(node);
                if host.outage != Some(Outage::Agent) {
                    host.agent.start(env, &host.machine);
                }
            }
            Process::Gateway(node) => {
                let host = self.host(node);
                if let Some(gateway) = host.gateway.as_mut().filter(|_| host.machine.powered) {
                    gateway.start(env);
                }
            }
        }
    }

    /// Ends a process between two instructions.
    pub(crate) fn stop(&mut self, env: &mut Environment, process: &Process, why: &str) {
        match process {
            Process::Server => self.present_server().stop(env, why),
            Process::Agent(node) => self.host(node).agent.stop(env, why),
            Process::Gateway(node) => {
                if let Some(gateway) = &mut self.host(node).gateway {
                    gateway.stop(env, why);
                }
            }
        }
    }

    pub(crate) fn request(&mut self, env: &mut Environment, from: Location, rpc: Rpc, call: Call) {
        // Users notice the wrong server before they change anything there.
        match &self.wrong_server {
            Some(_) if matches!(call, Call::Command { .. }) => env.reply(&from, rpc, Reply::Failed),
            _ => self.present_server().receive(env, from, rpc, call),
        }
    }

    /// Whether every daemon knows more than a store has, so that it can tell that it is the wrong
    /// one.
    pub(crate) fn is_recognised_as_wrong(&self, disk: &Disk) -> bool {
        let agents = self.hosts.values().map(|host| &host.agent.membership);
        let gateways = self.hosts.values().filter_map(|host| host.gateway.as_ref());
        let mut all = agents.chain(gateways.map(|gateway| &gateway.membership));
        all.all(|known| known.position().is_some_and(|known| known.revision > disk.revision()))
    }

    /// The server that daemons reach.
    pub(crate) fn present_server(&mut self) -> &mut Server {
        self.wrong_server.as_mut().unwrap_or(&mut self.server)
    }

    /// Starts a server with the wrong store in the place of the cluster's.
    pub(crate) fn replace_server(&mut self, env: &mut Environment, disk: Disk) {
        self.stop(env, &Process::Server, "is replaced by one with another store");
        if self.wrong_server.is_none() {
            let stored = self.server.disk.load().expect("a server can read what it stored");
            self.state_aside = Some(stored.state);
        }
        self.wrong_server = Some(Server::wrong(disk));
        self.start(env, &Process::Server);
    }

    /// Starts the cluster's server again.
    pub(crate) fn return_server(&mut self, env: &mut Environment) {
        if self.wrong_server.is_none() {
            return;
        }
        self.stop(env, &Process::Server, "is replaced by the one with the newest store");
        (self.wrong_server, self.state_aside) = (None, None);
        self.backup = self.server.disk.clone();
        self.start(env, &Process::Server);
    }

    /// What the cluster wants: the state of its server, or of its newest store.
    pub(crate) fn wanted(&self) -> Option<&State> {
        let running = self.server.running.as_ref().map(|running| &running.snapshot.state);
        self.state_aside.as_ref().or(running)
    }

    pub(crate) fn response(&mut self, env: &mut Environment, caller: Caller, reply: Reply) {
        match caller {
            Caller::User(number) => self.users.response(number, reply),
            Caller::Agent(node, incarnation, purpose) => {
                let Host { agent, machine, .. } = self.host(&node);
                agent.response(env, machine, incarnation, purpose, reply);
            }
            Caller::Gateway(node, incarnation, purpose) => {
                if let Some(gateway) = &mut self.host(&node).gateway {
                    gateway.response(env, incarnation, purpose, reply);
                }
            }
        }
    }

    pub(crate) fn line(&mut self, env: &mut Environment, conn: Conn, delivery: Delivery) {
        let Delivery { to, reader, line } = delivery;
        match to {
            Process::Agent(node) => {
                let Host { agent, machine, .. } = self.host(&node);
                agent.line(env, machine, reader, conn, line);
            }
            Process::Gateway(node) => {
                if let Some(gateway) = &mut self.host(&node).gateway {
                    gateway.line(env, reader, conn, line);
                }
            }
            Process::Server => debug_assert!(matches!(line, Line::End), "servers follow nothing"),
        }
    }

    pub(crate) fn agent(
        &mut self,
        env: &mut Environment,
        node: &NodeId,
        incarnation: Incarnation,
        event: AgentEvent,
    ) {
        let Host { agent, machine, .. } = self.host(node);
        agent.handle(env, machine, incarnation, event);
    }

    pub(crate) fn machine(&mut self, env: &mut Environment, node: &NodeId, event: MachineEvent) {
        let event = self.host(node).machine.handle(env, event);
        self.driver_event(env, node, event);
    }

    /// Passes a report of a driver to its agent.
    pub(crate) fn driver_event(
        &mut self,
        env: &mut Environment,
        node: &NodeId,
        event: Option<Reported>,
    ) {
        let Host { agent, machine, .. } = self.host(node);
        if let Some(event) = event {
            agent.driver_event(env, machine, event);
        }
    }

    pub(crate) fn gateway(
        &mut self,
        env: &mut Environment,
        node: &NodeId,
        incarnation: Incarnation,
        event: GatewayEvent,
    ) {
        let accepts = match event {
            GatewayEvent::RequestArrives => self.accepting(&env.transport.network, node),
            _ => BTreeSet::new(),
        };
        if let Some(gateway) = &mut self.host(node).gateway {
            gateway.handle(env, incarnation, event, &accepts);
        }
    }

    /// The instances that accept a request from a node.
    fn accepting(&self, network: &Network, from: &NodeId) -> BTreeSet<InstanceId> {
        let from = Location::Node(from.clone());
        let reachable = self
            .hosts
            .iter()
            .filter(|(to, _)| !network.is_cut(&from, &Location::Node((*to).clone())));
        let runs = reachable.flat_map(|(_, host)| &host.machine.runs);
        let accepting = runs.filter(|(_, run)| run.accepts());
        accepting.map(|(of, _)| of.instance.clone()).collect()
    }

    pub(crate) fn user_acts(&mut self, env: &mut Environment) {
        let state = self.server.running.as_ref().map(|running| &running.snapshot.state);
        let view = View {
            nodes: self.hosts.keys().cloned().collect(),
            services: state.into_iter().flat_map(State::services).map(|s| s.id.clone()).collect(),
            newest_deployment: state.and_then(|s| s.deployments().last()).cloned(),
        };
        self.users.act(env, &view);
    }
}

/// The id of the nth node.
pub(crate) fn node_id(number: u32) -> NodeId {
    format!("n{number}").parse().expect("a name")
}
