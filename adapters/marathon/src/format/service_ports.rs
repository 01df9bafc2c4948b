//! The ports of an app in either form, and its service ports, on which load balancers listen.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::app::App;
use super::check::HealthCheck;
use super::names::Protocol;
use super::rejected::Rejected;

/// The range for the automatic assignment of service ports.
const SERVICE_PORTS: RangeInclusive<u16> = 10_000..=20_000;

/// A port of an app, independent of the network mode.
pub(super) struct AppPort<'a> {
    pub(super) name: Option<&'a String>,
    /// The requested port of the node; 0 for any port.
    pub(super) number: u16,
    pub(super) protocol: Protocol,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl App {
    /// The ports in order: definitions on the host network, mappings on a bridge.
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

    /// The index of the port to which the fixed `port` of a check refers. Mesos checks run inside
    /// the container, so there `port` is a port of the container.
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

    /// The service ports, one for each port of the app; 0 if none has been assigned.
    pub fn service_ports(&self) -> Vec<u16> {
        if self.is_on_host() {
            return self.port_definitions.iter().flatten().map(|port| port.port).collect();
        }
        let mappings = self.container.iter().flat_map(|container| container.mappings());
        mappings.map(|port| port.service_port).collect()
    }

    /// The numbers that name the ports to its tasks: service ports on the host network, ports of the
    /// container on a bridge.
    pub(super) fn requested_ports(&self) -> Vec<u16> {
        if self.is_on_host() {
            return self.service_ports();
        }
        let mappings = self.container.iter().flat_map(|container| container.mappings());
        mappings.map(|port| port.container_port).collect()
    }

    /// Assigns a number to each service port that is 0: the previous one, or a free one that is not
    /// in `taken`.
    ///
    /// # Errors
    ///
    /// Returns a response if the range has no free port.
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
                    Rejected::with_message(format!(
                        "no service port from {first} to {last} is left"
                    ))
                })?;
            }
        }
        Ok(())
    }
}
