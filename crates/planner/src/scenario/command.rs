//! What the lines of a script do.

use std::collections::BTreeSet;
use std::str::FromStr;

use model::{
    AgentRegistration, Applied, Availability, Bytes, Command, Cpu, Document, Gateway, InstanceId,
    Millis, Outcome, PORTS, Phase, Refusal, Resources, Route, ServiceId, Steer,
};

use super::{World, document, print};

/// Why a line could not be carried out.
#[derive(Debug)]
pub enum Error {
    /// No such command.
    Command(String),
    /// A word is missing.
    Missing(&'static str),
    /// A word that means nothing here.
    Word(String),
    /// A name or quantity that does not read.
    Value(String),
    /// A document that does not read.
    Document(serde_json::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Command(word) => write!(f, "there is no command `{word}`"),
            Error::Missing(what) => write!(f, "{what} is missing"),
            Error::Word(word) => write!(f, "`{word}` means nothing here"),
            Error::Value(message) => f.write_str(message),
            Error::Document(_) => f.write_str("the document does not read"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Document(source) => Some(source),
            _ => None,
        }
    }
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| Error::Value(error.to_string()))
}

/// More rounds than any scenario needs before nothing moves.
const ROUNDS_MAX: usize = 200;

/// Carries out one line, without its `> `. Returns what it prints.
pub fn execute(world: &mut World, line: &str) -> Result<Vec<String>, Error> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, rest) = words.split_first().ok_or(Error::Missing("a command"))?;
    let first = || rest.first().copied().ok_or(Error::Missing("a name"));
    let outcome = match *verb {
        "node" => world.join(&parse(first()?)?, node(&rest[1..])?),
        "gateway" => world.join_gateway(&parse(first()?)?),
        "route" => world.apply(Command::Apply(vec![Document::Gateway(route(rest)?)])),
        "apply" => {
            let services = rest.split(|word| *word == ",").map(document::service);
            let documents = services.map(|spec| Ok(Document::Service(Box::new(spec?))));
            let documents = documents.collect::<Result<_, Error>>()?;
            world.apply(Command::Apply(documents))
        }
        "scale" => {
            let count = rest.get(1).ok_or(Error::Missing("a number of instances"))?;
            let (service, instances) = (parse(first()?)?, parse(count)?);
            world.apply(Command::Scale { service, instances })
        }
        "restart" => world.apply(Command::Restart { service: parse(first()?)? }),
        "retry" => world.apply(Command::ResetDelay { service: parse(first()?)? }),
        "undo" => {
            let to = rest.get(1).map(|number| parse(number)).transpose()?;
            world.apply(Command::Undo { service: parse(first()?)?, to })
        }
        "rm" => {
            let services = rest.iter().map(|id| parse(id)).collect::<Result<_, _>>()?;
            world.apply(Command::RemoveServices(services))
        }
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
            world.sicken(parse(service)?, parse(revision)?);
            return Ok(Vec::new());
        }
        "tick" => {
            world.tick(parse::<Millis>(first()?)?);
            return Ok(Vec::new());
        }
        "lose" => {
            world.lose(&parse(first()?)?);
            return Ok(Vec::new());
        }
        "return" => {
            world.find(&parse(first()?)?);
            return Ok(Vec::new());
        }
        "forget-all" => {
            world.forget_all();
            return Ok(Vec::new());
        }
        "tell" => {
            world.tell(&parse(first()?)?);
            return Ok(Vec::new());
        }
        _ => return Err(Error::Command((*verb).into())),
    };
    Ok(told(outcome))
}

/// What became of a user's command.
fn told(outcome: Outcome) -> Vec<String> {
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

/// What happened to deployments, beyond that they began.
fn news(applied: &Applied) -> impl Iterator<Item = String> {
    let events = applied.events.iter().filter(|event| {
        event.kind.starts_with("deployment-") && event.kind != "deployment-started"
    });
    events.map(|event| format!("! {} {}: {}", event.subject, &event.kind[11..], event.message))
}

fn steer(world: &mut World, deployment: &str, how: Steer) -> Result<Outcome, Error> {
    Ok(world.apply(Command::Steer { deployment: parse(deployment)?, how }))
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
        port: 4041,
        capacity: Resources { cpu: Cpu(8000), memory: Bytes::mib(8192) },
        labels: Default::default(),
        capabilities: Default::default(),
        ports: PORTS,
    };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| Error::Word((*word).into()))?;
        match (key, key.strip_prefix("label.")) {
            ("cpu", _) => agent.capacity.cpu = parse(value)?,
            ("memory", _) => agent.capacity.memory = parse(value)?,
            ("has", _) => agent.capabilities = value.split(',').map(String::from).collect(),
            (_, Some(label)) => drop(agent.labels.insert(label.into(), value.into())),
            _ => return Err(Error::Word((*word).into())),
        }
    }
    Ok(agent)
}

fn route(words: &[&str]) -> Result<Gateway, Error> {
    let [listen, to] = words else { return Err(Error::Missing("a port and a service")) };
    let to = model::RouteTo::try_from(to.to_string());
    let to = to.map_err(|error| Error::Value(error.to_string()))?;
    let routes = vec![Route { hosts: Default::default(), path: "/".into(), to }];
    Ok(Gateway { gateway: parse(&format!("on-{listen}"))?, listen: parse(listen)?, routes })
}

fn report(world: &mut World, instance: &str, words: &[&str]) -> Result<(), Error> {
    let instance: InstanceId = parse(instance)?;
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

/// Adopts plans until there is nothing more to do at once.
fn run(world: &mut World) -> Vec<String> {
    let (mut lines, mut concerned) = adopt(world);
    let plan = world.plan();
    concerned.extend(plan.waits.iter().map(|(service, _)| service.clone()));
    lines.extend(print::waits(&plan, world.now));
    lines.extend(print::counts(world, &concerned));
    lines
}

/// The same, with the services concerned.
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

/// Lets everything work, a second at a time, until nothing moves.
fn settle(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    // One idle second is not the end: instances without checks are ready after running a while.
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
