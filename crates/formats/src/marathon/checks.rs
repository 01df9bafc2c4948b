//! Health and readiness checks of an app.

use model::{
    CommandLine, HealthCheck, HttpProbe, Port, PortRef, Probe, Problem, ReadinessCheck, TcpProbe,
};

use super::app::{self, App, CheckProtocol};

const HTTPS: &str = "HTTPS checks are not supported yet: use HTTP, TCP or COMMAND";

/// The health checks of an app with these ports.
pub(super) fn health(app: &App, ports: &[Port], problems: &mut Vec<Problem>) -> Vec<HealthCheck> {
    let checks = app.health_checks.iter().enumerate().filter_map(|(index, check)| {
        let key = format!("healthChecks.{index}");
        let probe = match probe(check, ports, &key) {
            Ok(probe) => probe,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        Some(HealthCheck {
            probe,
            interval: check.interval_seconds.0,
            timeout: check.timeout_seconds.0,
            // Marathon forgives so many failures and acts on the next; 0 never acts.
            failures: match check.max_consecutive_failures {
                0 => 0,
                forgiven => forgiven.saturating_add(1),
            },
            // A delay before the first check is as good as a grace: either way nothing is done
            // for that long.
            grace: match check.delay_seconds {
                Some(delay) => delay.0.max(check.grace_period_seconds.0),
                None => check.grace_period_seconds.0,
            },
        })
    });
    checks.collect()
}

fn probe(check: &app::HealthCheck, ports: &[Port], key: &str) -> Result<Probe, Problem> {
    if check.protocol != CheckProtocol::Command && check.command.is_some() {
        let message = "`command` is only for checks of protocol COMMAND";
        return Err(Problem::new(format!("{key}.command"), message));
    }
    match check.protocol {
        CheckProtocol::Https => Err(Problem::new(format!("{key}.protocol"), HTTPS)),
        CheckProtocol::Command => match &check.command {
            Some(command) => Ok(Probe::Command(CommandLine::Shell(command.value.clone()))),
            None => Err(Problem::new(key, "a check of protocol COMMAND needs a `command`")),
        },
        CheckProtocol::Http => Ok(Probe::Http(HttpProbe {
            path: check.path.clone().unwrap_or_else(|| "/".into()),
            port: port(check, ports, key)?,
            statuses: Default::default(),
        })),
        CheckProtocol::Tcp => match check.path {
            Some(_) => {
                let message = "`path` is only for checks of protocol HTTP";
                Err(Problem::new(format!("{key}.path"), message))
            }
            None => Ok(Probe::Tcp(TcpProbe { port: port(check, ports, key)? })),
        },
    }
}

/// The port of a check, which Marathon names by index or, if it is the same everywhere, by number.
fn port(check: &app::HealthCheck, ports: &[Port], key: &str) -> Result<PortRef, Problem> {
    if let Some(number) = check.port {
        let key = format!("{key}.port");
        if check.port_index.is_some() {
            return Err(Problem::new(key, "give either `port` or `portIndex`, not both"));
        }
        let index = ports.iter().position(|port| port.port == number && number != 0);
        return match index.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Ok(PortRef::Index(index)),
            None => {
                let message = format!("no port of the app is fixed to {number}: use `portIndex`");
                Err(Problem::new(key, message))
            }
        };
    }
    let index = check.port_index.unwrap_or(0);
    match ports.get(index as usize) {
        Some(_) => Ok(PortRef::Index(index)),
        None => Err(Problem::new(
            format!("{key}.portIndex"),
            "Health check port indices must address an element of the ports array or container \
             port mappings.",
        )),
    }
}

/// The readiness check of an app with these ports.
pub(super) fn readiness(
    app: &App,
    ports: &[Port],
    problems: &mut Vec<Problem>,
) -> Option<ReadinessCheck> {
    let check = app.readiness_checks.first()?;
    if app.readiness_checks.len() > 1 {
        problems.push(Problem::new("readinessChecks.1", "an app has at most one readiness check"));
    }
    match check.protocol {
        CheckProtocol::Http => {}
        CheckProtocol::Https => {
            problems.push(Problem::new("readinessChecks.0.protocol", HTTPS));
        }
        CheckProtocol::Tcp | CheckProtocol::Command => {
            problems.push(Problem::new("readinessChecks.0.protocol", "must be HTTP"));
        }
    }
    if !ports.iter().any(|port| port.name.as_deref() == Some(&check.port_name)) {
        let message = format!("No port definition reference for portName {}", check.port_name);
        problems.push(Problem::new("readinessChecks.0.portName", message));
    }
    if check.timeout_seconds.0 >= check.interval_seconds.0 {
        let message = "must be less than intervalSeconds";
        problems.push(Problem::new("readinessChecks.0.timeoutSeconds", message));
    }
    Some(ReadinessCheck {
        probe: Probe::Http(HttpProbe {
            path: check.path.clone(),
            port: PortRef::Name(check.port_name.clone()),
            statuses: check.http_status_codes_for_ready.iter().copied().collect(),
        }),
        interval: check.interval_seconds.0,
        timeout: check.timeout_seconds.0,
    })
}
