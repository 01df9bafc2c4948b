//! A range of addresses, such as `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or a single address such as `10.0.0.7`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Subnet {
    /// The first address of the range.
    address: IpAddr,
    /// The number of leading bits that all its addresses have in common.
    prefix: u32,
}

/// Why a text is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has another form.
    #[error("`{0}` is not a subnet such as 10.0.0.0/8 or an address such as 10.0.0.7")]
    Form(String),
    /// The prefix is longer than an address.
    #[error("`{0}` has a prefix of more than {1} bits")]
    Prefix(String, u32),
    /// The address is not the first of the subnet, so it is unclear which of the two is meant.
    #[error("`{0}` is an address within {1}: give that subnet, or the address without its prefix")]
    Within(String, Subnet),
}

impl Subnet {
    /// Whether it has the address. An IPv4 address is in the same subnets when it is written as an
    /// IPv6 address (`::ffff:10.0.0.7`).
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.prefix) == self.address
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first address of the subnet of an address.
fn first(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl FromStr for Subnet {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let form = || Error::Form(text.into());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| form())?.to_canonical();
        let prefix_max = bits(address);
        let prefix = match prefix {
            None => prefix_max,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse().map_err(|_| form())?
            }
            Some(_) => return Err(form()),
        };
        if prefix > prefix_max {
            return Err(Error::Prefix(text.into(), prefix_max));
        }
        let subnet = Subnet { address: first(address, prefix), prefix };
        match subnet.address == address {
            true => Ok(subnet),
            false => Err(Error::Within(text.into(), subnet)),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix == bits(self.address) {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_the_addresses_with_its_prefix() {
        let check = |subnet: &str, inside: &[&str], outside: &[&str]| {
            let parsed: Subnet = subnet.parse().unwrap();
            assert_eq!(parsed.to_string(), subnet);
            for (addresses, expected) in [(inside, true), (outside, false)] {
                for address in addresses {
                    let contains = parsed.contains(address.parse().unwrap());
                    assert_eq!(contains, expected, "{address} in {subnet}");
                }
            }
        };
        check("10.0.0.0/8", &["10.0.0.0", "10.255.1.2", "::ffff:10.1.1.1"], &["11.0.0.0", "::"]);
        check("10.0.0.7", &["10.0.0.7"], &["10.0.0.6", "10.0.0.8"]);
        check("10.0.0.6/31", &["10.0.0.6", "10.0.0.7"], &["10.0.0.5", "10.0.0.8"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("fd00::/8", &["fd00::1", "fdff::"], &["fc00::1", "10.0.0.1"]);
        check("::1", &["::1"], &["::2"]);
        check("::/0", &["::", "ff::"], &["10.0.0.1"]);
    }

    #[test]
    fn other_texts_are_rejected_with_the_nearest_subnet() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Subnet>().unwrap_err().to_string(), expected);
        };
        for text in ["", "10.0.0", "example.com", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8"] {
            let form = "is not a subnet such as 10.0.0.0/8 or an address such as 10.0.0.7";
            check(text, &format!("`{text}` {form}"));
        }
        check("10.0.0.0/33", "`10.0.0.0/33` has a prefix of more than 32 bits");
        check("::/129", "`::/129` has a prefix of more than 128 bits");
        let remedy = "give that subnet, or the address without its prefix";
        check("10.0.0.7/8", &format!("`10.0.0.7/8` is an address within 10.0.0.0/8: {remedy}"));
    }
}
