//! Executes the commands of a script.

use std::collections::BTreeSet;
use std::str::FromStr;

use model::{
    AgentRegistration, Availability, Bytes, Changeset, Command, Cpu, Document, Gateway, InstanceId,
    Millis, NodeId, Outcome, PORTS, Phase, Refusal, Resources, Route, Run, Scaling, Selection,
    ServiceId, Steer, What,
};

use super::{COMMANDS, Error, World, document, help, print};

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error: T::Err| Error::Value { word: text.into(), message: error.to_string() })
}

/// More rounds than any scenario needs to settle.
const ROUNDS_MAX: usize = 200;

/// Executes one line, without its `> `. Returns its output.
pub fn execute(world: &mut World, line: &str) -> Result<Vec<String>, Error> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, rest) = words.split_first().ok_or(Error::Missing("a command"))?;
    let first = || rest.first().copied().ok_or(Error::Missing("a name"));
    let outcome = match *verb {
        "node" => world.join(&parse(first()?)?, node(&rest[1..])?),
        "gateway" => world.join_gateway(&parse(first()?)?),
        "route" => world.apply(Command::Apply(vec![Document::Gateway(route(rest)?)])),
        "apply" if rest.first() == Some(&"-f") => {
            let documents = offered(world, rest)?;
            world.apply(Command::Apply(documents))
        }
        "apply" => {
            let specs = rest.split(|word| *word == ",").map(document::service);
            let documents = specs.map(|spec| Ok(Document::service(spec?)));
            let documents = documents.collect::<Result<_, Error>>()?;
            world.apply(Command::Apply(documents))
        }
        "scale" => {
            let count = rest.get(1).ok_or(Error::Missing("a number of instances"))?;
            let scaling: Scaling = parse(count)?;
            world.apply(scaling.command(parse(first()?)?))
        }
        "restart" => world.apply(Command::Restart { service: parse(first()?)? }),
        "retry" => world.apply(Command::ResetDelay { service: parse(first()?)? }),
        "undo" => {
            let to = rest.get(1).map(|number| parse(number)).transpose()?;
            world.apply(Command::Undo { service: parse(first()?)?, to })
        }
        "rm" => world.apply(Command::RemoveServices(services(rest)?)),
        "start" => run_goal(world, rest, Run::Started)?,
        "stop" => run_goal(world, rest, Run::Stopped)?,
        "force" => return world.forcing(|world| execute(world, &rest.join(" "))),
        "freeze" => frozen(world, rest, true)?,
        "thaw" => frozen(world, rest, false)?,
        "pause" if first()?.starts_with('/') => run_goal(world, rest, Run::Paused)?,
        "pause" => steer(world, first()?, Steer::Pause)?,
        "resume" => steer(world, first()?, Steer::Resume)?,
        "abort" => steer(world, first()?, Steer::Abort)?,
        "cordon" => availability(world, first()?, Availability::Cordoned)?,
        "drain" => availability(world, first()?, Availability::Draining)?,
        "uncordon" => availability(world, first()?, Availability::Active)?,
        "plan" => return Ok(print::plan(world)),
        "run" => return Ok(run(world)),
        "settle" => return Ok(settle(world)),
        "show" => return Ok(print::instances(world)),
        "report" => {
            report(world, first()?, &rest[1..])?;
            return Ok(Vec::new());
        }
        "sicken" => {
            let (service, revision) =
                first()?.split_once('@').ok_or(Error::Missing("a revision"))?;
            world.make_unhealthy(parse(service)?, parse(revision)?);
            return Ok(Vec::new());
        }
        "tick" => {
            world.tick(parse::<Millis>(first()?)?);
            return Ok(Vec::new());
        }
        "lose" => {
            world.lose(&daemons(world, first()?)?);
            return Ok(Vec::new());
        }
        "return" => {
            world.find(&daemons(world, first()?)?);
            return Ok(Vec::new());
        }
        "forget-all" => {
            world.drop_observations();
            return Ok(Vec::new());
        }
        "tell" => {
            world.report_all(&daemons(world, first()?)?);
            return Ok(Vec::new());
        }
        "help" => return Ok(help::lines()),
        _ => {
            let nearest = model::nearest(verb, COMMANDS.iter().map(|known| known.name));
            return Err(Error::Command { word: (*verb).into(), nearest });
        }
    };
    Ok(printed_outcome(outcome))
}

/// The files of `apply`: `apply -f web.yaml -f db.yaml`.
pub fn files_of(line: &str) -> Vec<&str> {
    let mut words = line.split_whitespace();
    let is_apply = words.next() == Some("apply");
    let words: Vec<&str> = words.filter(|_| is_apply).collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == "-f");
    pairs.map(|pair| pair[1]).collect()
}

fn offered(world: &World, words: &[&str]) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for pair in words.chunks(2) {
        match *pair {
            ["-f", file] => {
                let name = || Error::Unknown { kind: "file", name: file.into(), nearest: None };
                documents.extend_from_slice(world.offered(file).ok_or_else(name)?);
            }
            ["-f"] => return Err(Error::Missing("a file")),
            _ => return Err(Error::Word(pair[0].into())),
        }
    }
    Ok(documents)
}

/// An existing node: losing an unknown one would silently have no effect.
fn daemons(world: &World, name: &str) -> Result<NodeId, Error> {
    let node: NodeId = parse(name)?;
    if world.state.node(&node).is_some() {
        return Ok(node);
    }
    let nearest = model::nearest(name, world.state.nodes().map(|node| node.id.as_str()));
    Err(Error::Unknown { kind: "node", name: name.into(), nearest })
}

/// The result of a user's command.
fn printed_outcome(outcome: Outcome) -> Vec<String> {
    match outcome {
        Ok(applied) => {
            let mut lines: Vec<_> = applied.changes.iter().map(print::change).collect();
            lines.extend(news(&applied));
            lines
        }
        Err(Refusal::Invalid { problems }) => {
            let lines = problems.iter();
            lines
                .map(|(_, problem)| format!("refused: {}: {}", problem.key, problem.message))
                .collect()
        }
        Err(refusal) => vec![format!("refused: {refusal}")],
    }
}

/// The events of deployments, except that they began.
fn news(applied: &Changeset) -> impl Iterator<Item = String> {
    applied.events.iter().filter_map(|event| {
        let word = match event.what {
            What::DeploymentPaused => "paused",
            What::DeploymentResumed => "resumed",
            What::DeploymentHeld { .. } => "held",
            What::DeploymentRollingBack { .. } => "rolling-back",
            What::DeploymentRolledBack { .. } => "rolled-back",
            What::DeploymentRollbackFailed { .. } => "rollback-failed",
            What::DeploymentSucceeded => "succeeded",
            What::DeploymentSuperseded { .. } => "superseded",
            _ => return None,
        };
        Some(format!("! {} {word}: {}", event.about, event.what))
    })
}

fn steer(world: &mut World, deployment: &str, how: Steer) -> Result<Outcome, Error> {
    Ok(world.apply(Command::Steer { deployment: parse(deployment)?, how }))
}

fn run_goal(world: &mut World, words: &[&str], run: Run) -> Result<Outcome, Error> {
    Ok(world.apply(Command::SetRun { services: services(words)?, run }))
}

fn frozen(world: &mut World, words: &[&str], frozen: bool) -> Result<Outcome, Error> {
    let (names, services): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| !word.starts_with('/'));
    let names = names.into_iter().map(parse).collect::<Result<_, _>>()?;
    let resources = Selection { names, ..Selection::default() };
    let services = self::services(&services)?;
    Ok(world.apply(Command::SetFrozen { services, resources, frozen }))
}

fn services(words: &[&str]) -> Result<Vec<ServiceId>, Error> {
    words.iter().map(|id| parse(id)).collect()
}

fn availability(
    world: &mut World,
    node: &str,
    availability: Availability,
) -> Result<Outcome, Error> {
    Ok(world.apply(Command::SetAvailability { node: parse(node)?, availability }))
}

fn node(words: &[&str]) -> Result<AgentRegistration, Error> {
    let mut agent = AgentRegistration {
        id: String::new(),
        port: 4041,
        capacity: Resources { cpu: Cpu(8000), memory: Bytes::mib(8192) },
        labels: Default::default(),
        capabilities: Default::default(),
        ports: PORTS,
        software: model::Software::current(),
    };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| Error::Word((*word).into()))?;
        match (key, key.strip_prefix("label.")) {
            ("cpu", _) => agent.capacity.cpu = parse(value)?,
            ("memory", _) => agent.capacity.memory = parse(value)?,
            ("lacks", _) => {
                agent.software.features.retain(|known| value.split(',').all(|f| f != known))
            }
            ("has", _) => agent.capabilities = value.split(',').map(String::from).collect(),
            (_, Some(label)) => drop(agent.labels.insert(label.into(), value.into())),
            _ => return Err(Error::Word((*word).into())),
        }
    }
    Ok(agent)
}

fn route(words: &[&str]) -> Result<Gateway, Error> {
    let [listen, to] = words else { return Err(Error::Missing("a port and a service")) };
    let read = model::RouteTo::try_from(to.to_string());
    let to =
        read.map_err(|error| Error::Value { word: to.to_string(), message: error.to_string() })?;
    let routes = vec![Route { hosts: Default::default(), path: "/".into(), to }];
    Ok(Gateway {
        gateway: parse(&format!("on-{listen}"))?,
        listen: parse(listen)?,
        trust: Default::default(),
        routes,
    })
}

fn report(world: &mut World, instance: &str, words: &[&str]) -> Result<(), Error> {
    let instance: InstanceId = parse(instance)?;
    if world.state.placement(&instance).is_none() {
        let name = instance.to_string();
        return Err(Error::Unknown { kind: "instance", name, nearest: None });
    }
    let mut status = world.status(&instance);
    let before = status.phase;
    for word in words {
        match *word {
            "starting" => status.phase = Phase::Starting,
            "running" => status.phase = Phase::Running,
            "stopping" => status.phase = Phase::Stopping,
            "stopped" => status.phase = Phase::Stopped,
            "failed" => status.phase = Phase::Failed,
            "healthy" => status.healthy = Some(true),
            "unhealthy" => status.healthy = Some(false),
            "ready" => status.ready = true,
            "unready" => status.ready = false,
            _ => return Err(Error::Word((*word).into())),
        }
    }
    if status.phase != before {
        status.since = world.now;
        if status.phase == Phase::Running {
            status.started_at = Some(world.now);
            status.run += 1;
        }
    }
    world.report(&instance, status);
    Ok(())
}

/// Adopts plans until one has no steps.
fn run(world: &mut World) -> Vec<String> {
    let (mut lines, mut concerned) = adopt(world);
    let plan = world.plan();
    concerned.extend(plan.waits.iter().map(|(service, _)| service.clone()));
    lines.extend(print::waits(&plan, world.now));
    lines.extend(print::counts(world, &concerned));
    lines
}

/// The same, and returns the services concerned.
fn adopt(world: &mut World) -> (Vec<String>, BTreeSet<ServiceId>) {
    let mut lines = Vec::new();
    let mut concerned = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let plan = world.plan();
        if plan.steps.is_empty() {
            break;
        }
        for step in &plan.steps {
            lines.push(print::step(step, world.now));
            concerned.insert(step.service().clone());
            match world.apply(Command::Adopt(step.clone())) {
                Ok(applied) => lines.extend(news(&applied)),
                Err(refusal) => lines.push(format!("refused: {refusal}")),
            }
        }
        world.tick(Millis(0));
    }
    (lines, concerned)
}

/// Advances the cluster in steps of a second until nothing changes.
fn settle(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    // One second without changes is not the end: instances without checks become ready after a
    // delay.
    let mut idle = 0;
    for _ in 0..ROUNDS_MAX {
        let (steps, concerned) = adopt(world);
        let moved = !steps.is_empty();
        if moved {
            lines.extend(steps);
            lines.extend(print::counts(world, &concerned));
        }
        let moved = world.work() || moved;
        idle = if moved { 0 } else { idle + 1 };
        if idle == 2 {
            lines.extend(print::waits(&world.plan(), world.now));
            return lines;
        }
        world.tick(Millis::secs(1));
    }
    lines.push("it does not come to rest".into());
    lines
}
