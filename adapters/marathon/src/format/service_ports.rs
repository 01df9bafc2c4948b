//! The ports of an app, wherever they are listed, and the ports at which load balancers serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::app::App;
use super::check::HealthCheck;
use super::names::Protocol;
use super::rejected::Rejected;

/// Service ports that are not asked for are taken from these.
const SERVICE_PORTS: RangeInclusive<u16> = 10_000..=20_000;

/// A port of an app.
pub(super) struct AppPort<'a> {
    pub(super) name: Option<&'a String>,
    /// The port of the node that is asked for; 0 if any will do.
    pub(super) number: u16,
    pub(super) protocol: Protocol,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl App {
    /// Its ports, in order: definitions on the node's network, mappings on a bridge.
    pub(super) fn listed_ports(&self) -> Vec<AppPort<'_>> {
        if self.is_on_host() {
            let definitions = self.port_definitions.iter().flatten().map(|port| AppPort {
                name: port.name.as_ref(),
                number: port.port,
                protocol: port.protocol,
                labels: &port.labels,
            });
            return definitions.collect();
        }
        let mappings = self.container.iter().flat_map(|container| container.mappings());
        let ports = mappings.map(|port| AppPort {
            name: port.name.as_ref(),
            number: port.host_port.unwrap_or(0),
            protocol: port.protocol,
            labels: &port.labels,
        });
        ports.collect()
    }

    /// The index of the port that a check names by a number which is the same everywhere. Mesos
    /// checks from inside of a container, so that there it is the container's.
    pub(super) fn fixed_port(&self, check: &HealthCheck) -> Option<u32> {
        let number = check.port.filter(|number| *number != 0)?;
        let index = if self.is_on_host() {
            let is_fixed = |port: &AppPort<'_>| self.require_ports && port.number == number;
            self.listed_ports().iter().position(is_fixed)
        } else {
            let container = self.container.as_ref()?;
            container.mappings().iter().position(|mapping| match check.protocol.is_of_mesos() {
                true => mapping.container_port == number,
                false => mapping.host_port == Some(number),
            })
        };
        u32::try_from(index?).ok()
    }

    fn service_ports_mut(&mut self) -> Vec<&mut u16> {
        if self.is_on_host() {
            let definitions = self.port_definitions.iter_mut().flatten();
            return definitions.map(|port| &mut port.port).collect();
        }
        let mappings = self.container.iter_mut().filter_map(|c| c.port_mappings.as_mut());
        mappings.flatten().map(|port| &mut port.service_port).collect()
    }

    /// The port of each of its ports at which a load balancer should serve it; 0 where none has
    /// been assigned yet.
    pub fn service_ports(&self) -> Vec<u16> {
        if self.is_on_host() {
            return self.port_definitions.iter().flatten().map(|port| port.port).collect();
        }
        let mappings = self.container.iter().flat_map(|container| container.mappings());
        mappings.map(|port| port.service_port).collect()
    }

    /// Gives each service port that is 0 a number of its own: the one it had before, or one that
    /// is not `taken` by other apps.
    ///
    /// # Errors
    ///
    /// There is none left.
    pub fn assign_service_ports(
        &mut self,
        previous: Option<&App>,
        taken: &BTreeSet<u16>,
    ) -> Result<(), Rejected> {
        let own: BTreeSet<u16> = self.service_ports().into_iter().collect();
        let before = previous.map(App::service_ports).unwrap_or_default();
        let before = before.into_iter().filter(|port| SERVICE_PORTS.contains(port));
        let fresh = SERVICE_PORTS.filter(|port| !taken.contains(port));
        let mut given = BTreeSet::new();
        let mut free =
            before.chain(fresh).filter(|port| !own.contains(port) && given.insert(*port));
        for port in self.service_ports_mut() {
            if *port == 0 {
                let (first, last) = SERVICE_PORTS.into_inner();
                *port = free.next().ok_or_else(|| {
                    Rejected::refused(format!("no service port from {first} to {last} is left"))
                })?;
            }
        }
        Ok(())
    }
}
