//! Health and readiness checks of an app as those of a service. The app is valid.

use model::{
    CommandLine, HealthCheck, HttpProbe, Millis, PortRef, Probe, ReadinessCheck, TcpProbe,
};

use super::app::App;
use super::check;
use super::names::Check;

/// The health checks of an app.
pub(super) fn health(app: &App) -> Vec<HealthCheck> {
    let check = |check: &check::HealthCheck| HealthCheck {
        probe: probe(app, check),
        interval: check.interval_seconds.0,
        timeout: check.timeout_seconds.0,
        // Marathon forgives so many failures and acts on the next; 0 never acts.
        failures: match check.max_consecutive_failures {
            0 => 0,
            forgiven => forgiven.saturating_add(1),
        },
        grace: grace(check),
    };
    app.health_checks.iter().map(check).collect()
}

/// For how long nothing is done about failures. A delay before the first check is as good as
/// that, and only Mesos has one.
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
            let line = check.command.as_ref().map(|command| command.value.clone());
            Probe::Command(CommandLine::Shell(line.unwrap_or_default()))
        }
        protocol if protocol.is_http() => {
            let path = check.path.clone().unwrap_or_else(|| "/".into());
            Probe::Http(HttpProbe { path, port, statuses: Default::default() })
        }
        _ => Probe::Tcp(TcpProbe { port }),
    }
}

/// The readiness check of an app.
pub(super) fn readiness(app: &App) -> Option<ReadinessCheck> {
    let check = app.readiness_checks.first()?;
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
