//! What breaks, when, and for how long. Once it is calm, everything that was broken is mended:
//! machines have power, lines are whole, clocks are right, daemons run.

use model::NodeId;

use crate::network::Place;
use crate::server::Trouble;
use crate::world::{Happening, Process, World};

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process ends between two instructions.
    Kill,
    /// A process stands still.
    Suspend,
    /// A machine has no power for a while.
    Power,
    /// A machine comes back without its disk.
    Wipe,
    /// The server's disk is full, or fails.
    Disk,
    /// Nothing passes between two places, one way or both.
    Partition,
    /// Messages are slow, lost, or come twice.
    Network,
    /// A clock is set.
    Clock,
    /// An instance crashes or hangs.
    Instance,
    /// A Docker daemon goes away.
    Docker,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 10] = [
        Fault::Kill,
        Fault::Suspend,
        Fault::Power,
        Fault::Wipe,
        Fault::Disk,
        Fault::Partition,
        Fault::Network,
        Fault::Clock,
        Fault::Instance,
        Fault::Docker,
    ];
}

/// The end of a fault.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Wakes(Process),
    Powered(Option<NodeId>),
    DiskWorks,
    Mended(Place, Place),
    NetworkWorks,
    Unhangs(NodeId, model::InstanceId, u32),
    DockerAnswers(NodeId),
}

impl World {
    pub(crate) fn fault_begins(&mut self) {
        if self.calm {
            return;
        }
        let span = self.rng.u64(300..8_000);
        self.queue.after(span, Happening::FaultBegins);
        let kinds: Vec<Fault> = self.faults.iter().copied().collect();
        let Some(fault) = self.rng.choice(kinds) else { return };
        self.fault_count += 1;
        match fault {
            Fault::Kill => {
                let process = self.some_process();
                self.kill(process, "is killed");
            }
            Fault::Suspend => {
                let process = self.some_process();
                let longest = if self.chance(3) { 40_000 } else { 3_000 };
                let span = self.rng.u64(100..longest);
                self.note_fault(format_args!("{process:?} stands still for {span} ms"));
                self.suspend(process, span);
            }
            Fault::Power => self.power_fails(false),
            Fault::Wipe => self.power_fails(true),
            Fault::Disk => {
                let trouble = if self.rng.bool() { Trouble::Full } else { Trouble::Broken };
                self.note_fault(format_args!("the server's disk: {trouble:?}"));
                self.server.trouble = trouble;
                let span = self.rng.u64(100..8_000);
                self.queue.after(span, Happening::FaultEnds(Ending::DiskWorks));
            }
            Fault::Partition => self.partition(),
            Fault::Network => {
                self.network.slow_ms = self.rng.u64(0..2_000);
                self.network.loss = self.rng.u64(0..20);
                self.network.echo = self.rng.u64(0..10);
                self.note_fault("the network is bad");
                let span = self.rng.u64(500..10_000);
                self.queue.after(span, Happening::FaultEnds(Ending::NetworkWorks));
            }
            Fault::Clock => {
                let most = if self.rng.bool() { 5_000 } else { 4_000_000 };
                let by = self.rng.i64(-most..most);
                if self.rng.bool() {
                    self.note_fault(format_args!("the server's clock is set by {by} ms"));
                    self.server.clock.set(by);
                } else {
                    let node = self.any_node();
                    self.note_fault(format_args!("{node}: its clock is set by {by} ms"));
                    self.host(&node).clock.set(by);
                }
            }
            Fault::Instance => self.instance_fails(),
            Fault::Docker => {
                let node = self.any_node();
                self.note_fault(format_args!("{node}: Docker goes away"));
                self.docker_goes(&node, true);
                let span = self.rng.u64(100..10_000);
                self.queue.after(span, Happening::FaultEnds(Ending::DockerAnswers(node)));
            }
        }
    }

    fn note_fault(&mut self, what: impl std::fmt::Display) {
        self.history.note(self.now(), format_args!("fault: {what}"));
    }

    fn any_node(&mut self) -> NodeId {
        let nodes: Vec<_> = self.hosts.keys().cloned().collect();
        self.rng.choice(nodes).expect("there are nodes")
    }

    fn some_process(&mut self) -> Process {
        let node = self.any_node();
        match self.rng.u8(0..3) {
            0 => Process::Server,
            1 => Process::Agent(node),
            _ => Process::Gateway(node),
        }
    }

    fn kill(&mut self, process: Process, why: &str) {
        let span = self.rng.u64(50..10_000);
        let again = match &process {
            Process::Server => {
                self.server_dies(why);
                Happening::ServerStarts
            }
            Process::Agent(node) => {
                self.agent_dies(node, why);
                Happening::AgentStarts(node.clone())
            }
            Process::Gateway(node) => {
                self.gateway_dies(node, why);
                Happening::GatewayStarts(node.clone())
            }
        };
        self.queue.after(span, again);
    }

    fn power_fails(&mut self, wiped: bool) {
        let span = self.rng.u64(1_000..60_000);
        if !wiped && self.chance(3) {
            self.server_dies("loses power");
            self.server.disk.lose_power();
            self.queue.after(span, Happening::FaultEnds(Ending::Powered(None)));
            return;
        }
        let node = self.any_node();
        if !self.hosts[&node].powered {
            return;
        }
        let and = if wiped { " and its disk" } else { "" };
        self.note_fault(format_args!("{node} loses power{and}"));
        self.agent_dies(&node, "is gone");
        self.gateway_dies(&node, "is gone");
        let host = self.host(&node);
        host.powered = false;
        host.machine.lose_power();
        if wiped {
            host.disks += 1;
            host.memory = Default::default();
        }
        self.queue.after(span, Happening::FaultEnds(Ending::Powered(Some(node))));
    }

    fn partition(&mut self) {
        let a = Place::Node(self.any_node());
        let b = match self.rng.u8(0..4) {
            0 => Place::Node(self.any_node()),
            _ => Place::Server,
        };
        if a == b {
            return;
        }
        let span = if self.chance(3) { 60_000 } else { 8_000 };
        let span = self.rng.u64(200..span);
        let ways = self.rng.u8(0..3);
        let all = [(a.clone(), b.clone()), (b, a)];
        for (i, (from, to)) in all.into_iter().enumerate() {
            if usize::from(ways) == i {
                continue;
            }
            self.note_fault(format_args!("nothing passes from {from:?} to {to:?}"));
            self.network.cut(from.clone(), to.clone());
            self.queue.after(span, Happening::FaultEnds(Ending::Mended(from, to)));
        }
    }

    fn instance_fails(&mut self) {
        let all = self.hosts.iter().flat_map(|(node, host)| {
            let runs = host.machine.runs.iter().filter(|(_, run)| run.is_up());
            runs.map(|(instance, run)| (node.clone(), instance.clone(), run.number))
        });
        let all: Vec<_> = all.collect();
        let Some((node, instance, number)) = self.rng.choice(all) else { return };
        if self.rng.bool() {
            self.note_fault(format_args!("{node}: {instance} is killed"));
            self.run_ends(&node, &instance, number, None);
            return;
        }
        self.note_fault(format_args!("{node}: {instance} hangs"));
        if let Some(run) = self.run(&node, &instance, number) {
            run.hangs = true;
        }
        let span = self.rng.u64(500..30_000);
        self.queue.after(span, Happening::FaultEnds(Ending::Unhangs(node, instance, number)));
    }

    pub(crate) fn fault_ends(&mut self, ending: Ending) {
        match ending {
            Ending::Wakes(process) => {
                if self.asleep.get(&process).is_some_and(|until| *until <= self.now()) {
                    self.asleep.remove(&process);
                }
            }
            Ending::Powered(None) => self.server_starts(),
            Ending::Powered(Some(node)) => {
                self.host(&node).powered = true;
                self.agent_starts(&node);
                self.gateway_starts(&node);
            }
            Ending::DiskWorks => self.server.trouble = Trouble::None,
            Ending::Mended(from, to) => self.network.mend(&from, &to),
            Ending::NetworkWorks => {
                self.network.slow_ms = 0;
                self.network.loss = 0;
                self.network.echo = 0;
            }
            Ending::Unhangs(node, instance, number) => {
                if let Some(run) = self.run(&node, &instance, number) {
                    run.hangs = false;
                }
            }
            Ending::DockerAnswers(node) => self.docker_goes(&node, false),
        }
    }

    /// From now on nothing breaks, and what is broken is mended.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.history.note(self.now(), "it is calm");
        self.network.mend_all();
        self.server.trouble = Trouble::None;
        self.server.clock.set_right();
        self.asleep.clear();
        self.queue.after(1, Happening::ServerStarts);
        let nodes: Vec<_> = self.hosts.keys().cloned().collect();
        for node in nodes {
            let host = self.host(&node);
            host.powered = true;
            host.clock.set_right();
            for run in host.machine.runs.values_mut() {
                run.hangs = false;
            }
            if host.machine.docker_is_away {
                self.docker_goes(&node, false);
            }
            self.agent_starts(&node);
            self.gateway_starts(&node);
        }
        self.queue.after(1_000, Happening::Look);
    }
}
