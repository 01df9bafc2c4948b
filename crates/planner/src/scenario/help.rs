//! The help texts of the commands. `command` executes them.

/// A command of scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its first word.
    pub name: &'static str,
    /// Its syntax.
    pub usage: &'static str,
    /// Its effect.
    pub meaning: &'static str,
}

const fn known(name: &'static str, usage: &'static str, meaning: &'static str) -> Known {
    Known { name, usage, meaning }
}

/// All commands, the basic ones first.
pub const COMMANDS: &[Known] = &[
    known("show", "show", "prints the instances"),
    known("plan", "plan", "prints the next steps, and the reasons of what waits"),
    known("run", "run", "performs the steps that are possible now"),
    known("settle", "settle", "advances time by seconds until every service is settled"),
    known("tick", "tick 31s", "advances time"),
    known("lose", "lose n1", "a node becomes unreachable"),
    known("return", "return n1", "they report again"),
    known(
        "node",
        "node n1 cpu=4 memory=8GiB label.rack=a has=docker lacks=goals",
        "an agent registers",
    ),
    known("gateway", "gateway n1", "a gateway registers"),
    known("cordon", "cordon n1", "nothing more is placed on a node"),
    known("drain", "drain n1", "and its instances move to other nodes"),
    known("uncordon", "uncordon n1", "instances are placed on it again"),
    known("apply", "apply /web instances=2 health , /db", "services, with any keys of documents"),
    known("apply", "apply -f web.yaml", "the documents of a file"),
    known("route", "route 8080 /web", "a gateway document"),
    known("scale", "scale /web 3", "another number of instances; +2 adds two, -1 removes one"),
    known("restart", "restart /web", "restarts all instances"),
    known("retry", "retry /web", "ends the backoff after failures"),
    known("undo", "undo /web 1", "back to a revision, or without number to the one before"),
    known("rm", "rm /web", "stops and removes services"),
    known("stop", "stop /web /db", "terminates the instances and keeps the services"),
    known("pause", "pause /web /db", "suspends the instances, which keep their places"),
    known("start", "start /web /db", "their instances run again, at the same revision"),
    known("freeze", "freeze /web /db", "nothing is done to services automatically"),
    known("freeze", "freeze /web cache", "a resource of a stack is not restarted"),
    known("thaw", "thaw /web /db", "they are no longer frozen"),
    known("force", "force scale /web 3", "a command that also acts on frozen services"),
    known("pause", "pause d-1", "a deployment stays as it is"),
    known("resume", "resume d-1", "it continues"),
    known("abort", "abort d-1", "it rolls back"),
    known(
        "report",
        "report /web~0.1 running healthy ready",
        "the status that an agent reports; also unhealthy, failed",
    ),
    known("sicken", "sicken /web@2", "instances of a revision never become healthy"),
    known("forget-all", "forget-all", "restarts the server, which loses all observations"),
    known("tell", "tell n1", "the daemons of a node send full reports"),
    known("help", "help", "prints this"),
];

/// The output of `help`.
pub(super) fn lines() -> Vec<String> {
    let width = COMMANDS.iter().map(|known| known.usage.len()).max().unwrap_or_default();
    let line = |known: &Known| format!("{:width$}  {}", known.usage, known.meaning);
    COMMANDS.iter().map(line).collect()
}
