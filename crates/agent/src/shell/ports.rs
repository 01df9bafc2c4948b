//! Whether the ports that an instance was assigned are free: the server knows which ports instances
//! hold, and nothing of other programs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use model::Protocol;

use crate::core::Seed;

/// The first assigned port of an instance that another program holds. Only asked before its first
/// run: later on it may be the instance's own, still held by what is left of the run before. Ports
/// that the spec fixes are not looked at, since the same ones would be chosen again.
pub(super) fn taken(seed: &Seed) -> Option<u16> {
    if seed.run > 1 {
        return None;
    }
    let assigned = seed.spec.ports.iter().zip(&seed.ports).filter(|(wanted, _)| wanted.port == 0);
    let mut taken = assigned.filter(|(wanted, port)| is_taken(wanted.protocol, **port));
    taken.next().map(|(_, port)| *port)
}

fn is_taken(protocol: Protocol, port: u16) -> bool {
    let address = (Ipv4Addr::UNSPECIFIED, port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    // Any other trouble is the instance's own to have, and to tell.
    bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn ports_that_others_hold_are_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let spec = |fixed: u16| {
            let ports = serde_json::json!([{ "port": fixed }]);
            let spec = serde_json::json!({
                "service": "/a", "process": { "command": "x" }, "ports": ports,
            });
            Arc::new(serde_json::from_value(spec).unwrap())
        };
        let mut seed = Seed {
            instance: "/a~0.1".parse().unwrap(),
            run: 1,
            revision: 1,
            spec: spec(0),
            ports: vec![port],
            env: BTreeMap::new(),
        };
        assert_eq!(taken(&seed), Some(port));
        seed.run = 2;
        assert_eq!(taken(&seed), None, "it may be its own");
        (seed.run, seed.spec) = (1, spec(port));
        assert_eq!(taken(&seed), None, "no other can be chosen");
        seed.spec = spec(0);
        drop(held);
        assert_eq!(taken(&seed), None);
    }
}
