//! Checks whether the ports allocated to a run are free: the server knows which ports instances
//! hold, but not those of other programs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use model::Protocol;

use crate::core::LaunchSpec;

/// The first allocated port that another program holds. Checked only before the first run: later,
/// processes of the previous run may still hold the port. Ports that the spec fixes are not
/// checked, since the server would choose the same ones again.
pub(super) fn taken(launch: &LaunchSpec) -> Option<u16> {
    if launch.piece.run > 1 {
        return None;
    }
    let assigned =
        launch.spec.ports.iter().zip(launch.ports()).filter(|(wanted, _)| wanted.port == 0);
    let mut taken = assigned.filter(|(wanted, port)| is_taken(wanted.protocol, **port));
    taken.next().map(|(_, port)| *port)
}

fn is_taken(protocol: Protocol, port: u16) -> bool {
    let address = (Ipv4Addr::UNSPECIFIED, port);
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    // Any other error also occurs in the instance, which reports it.
    bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn ports_held_by_other_programs_are_detected() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let spec = |fixed: u16| {
            let ports = serde_json::json!([{ "port": fixed }]);
            let spec = serde_json::json!({
                "service": "/a", "process": { "command": "x" }, "ports": ports,
            });
            Arc::new(serde_json::from_value(spec).unwrap())
        };
        let mut launch = LaunchSpec {
            piece: model::Piece {
                instance: "/a~0.1".parse().unwrap(),
                resource: model::ResourceId::main(),
                run: 1,
            },
            revision: 1,
            revision_created_at: model::Timestamp(0),
            spec: spec(0),
            first_port: 0,
            instance: spec(0),
            given: model::Given { ports: vec![port] },
        };
        assert_eq!(taken(&launch), Some(port));
        launch.piece.run = 2;
        assert_eq!(taken(&launch), None, "it may be its own");
        (launch.piece.run, launch.spec) = (1, spec(port));
        assert_eq!(taken(&launch), None, "no other can be chosen");
        launch.spec = spec(0);
        drop(held);
        assert_eq!(taken(&launch), None);
    }
}
