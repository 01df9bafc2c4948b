//! The translation of the checks of a valid app into checks of a service.

use model::{
    CommandLine, HealthCheck, HttpProbe, Millis, PortRef, Probe, ReadinessCheck, TcpProbe,
};

use super::app::App;
use super::check;
use super::names::Check;

/// Translates the health checks of an app.
pub(super) fn health(app: &App) -> Vec<HealthCheck> {
    let check = |check: &check::HealthCheck| HealthCheck {
        probe: probe(app, check),
        interval: check.interval_seconds.0,
        timeout: check.timeout_seconds.0,
        // Marathon's number excludes the failure that kills the task, and 0 disables killing.
        failures: match check.max_consecutive_failures {
            0 => 0,
            forgiven => forgiven.saturating_add(1),
        },
        grace: grace(check),
    };
    app.health_checks.iter().map(check).collect()
}

/// The time for which failures are ignored. The initial delay, which only Mesos checks and commands
/// have, is equivalent to such a grace period.
fn grace(check: &check::HealthCheck) -> Millis {
    match check.protocol.is_of_mesos() || check.protocol == Check::Command {
        true => check.delay_seconds.0.max(check.grace_period_seconds.0),
        false => check.grace_period_seconds.0,
    }
}

fn probe(app: &App, check: &check::HealthCheck) -> Probe {
    let index = app.fixed_port(check).or(check.port_index).unwrap_or(0);
    let port = PortRef::Index(index);
    match check.protocol {
        Check::Command => {
            let line = check.command.as_ref().map(|command| command.value.as_str());
            Probe::Command(CommandLine::Shell(line.unwrap_or_default().into()))
        }
        protocol if protocol.is_http() => {
            let path = check.path.as_deref().unwrap_or("/").into();
            Probe::Http(HttpProbe { path, port, statuses: Default::default() })
        }
        _ => Probe::Tcp(TcpProbe { port }),
    }
}

/// Translates the readiness check of an app.
pub(super) fn readiness(app: &App) -> Option<ReadinessCheck> {
    let check = app.readiness_checks.first()?;
    Some(ReadinessCheck {
        probe: Probe::Http(HttpProbe {
            path: check.path.as_str().into(),
            port: PortRef::Name(check.port_name.clone()),
            statuses: check.http_status_codes_for_ready.iter().copied().collect(),
        }),
        interval: check.interval_seconds.0,
        timeout: check.timeout_seconds.0,
    })
}
