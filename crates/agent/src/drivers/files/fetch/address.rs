//! The addresses from which a node does not fetch. A document must not make the agent, which runs
//! inside the network of the cluster, read from services that only the node itself can reach, such
//! as the metadata of a cloud, which may contain credentials. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The range of a forbidden address, as a word for messages; `None` for an address that is allowed.
///
/// Private addresses are allowed: that is where clusters keep their artifacts.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(inner) => forbidden_v4(inner),
            None => forbidden_v6(address),
        },
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    // Alibaba Cloud's metadata are not at a link-local address.
    const METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match address {
        METADATA => Some("metadata"),
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_link_local() => Some("link-local"),
        // All of 0.0.0.0/8 is this host (RFC 1122 §3.2.1.3).
        _ if address.octets()[0] == 0 => Some("unspecified"),
        _ if address.is_multicast() => Some("multicast"),
        _ if address.is_broadcast() => Some("broadcast"),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    // The metadata of Amazon EC2.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        METADATA => Some("metadata"),
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_unicast_link_local() => Some("link-local"),
        _ if address.is_multicast() => Some("multicast"),
        _ => None,
    }
}

/// The IPv4 address to which a packet to `address` may be delivered: mapped (RFC 4291 §2.5.5.2) and
/// compatible ones, and those translated by NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_the_node_can_reach_are_forbidden() {
        for (address, range) in [
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("169.254.169.254", "link-local"),
            ("100.100.100.200", "metadata"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::1", "loopback"),
            ("::", "unspecified"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fd00:ec2::254", "metadata"),
            ("ff02::1", "multicast"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::127.0.0.1", "loopback"),
            ("64:ff9b::a9fe:a9fe", "link-local"),
            ("2002:7f00:1::", "loopback"),
        ] {
            assert_eq!(forbidden(address.parse().unwrap()), Some(range), "{address}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "100.64.0.1",
            "2606:4700:4700::1111",
            "fd12:3456::1",
            "::ffff:10.0.0.1",
            "64:ff9b::101:101",
        ] {
            assert_eq!(forbidden(address.parse().unwrap()), None, "{address}");
        }
    }
}
