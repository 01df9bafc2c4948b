//! Names. Every name is checked once, when it is parsed; clones are cheap.
//!
//! The segments of a service path are labels joined by dots. Empty segments are dropped: `//shop//web`
//! is `/shop/web`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a name is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The path of a service has no segment.
    #[error("a service path must name a service, as in /shop/web")]
    Root,
    /// A segment has a character or form that is not allowed.
    #[error(
        "`{segment}` is not a valid name: lower-case letters, digits, hyphens inside, labels joined by dots"
    )]
    Segment {
        /// The rejected segment.
        segment: String,
    },
    /// A resource name with a character or form that is not allowed.
    #[error(
        "`{name}` is not a valid resource name: lower-case letters, digits, hyphens inside, at most {RESOURCE_LEN_MAX}"
    )]
    Resource {
        /// The rejected name.
        name: String,
    },
    /// A request id with a character that is not allowed, or too long or empty.
    #[error(
        "`{key}` is not a request id: 1 to {REQUEST_LEN_MAX} letters, digits, hyphens, underscores, dots or colons"
    )]
    Request {
        /// The rejected id.
        key: String,
    },
    /// The name is longer than the limit.
    #[error("a name may have at most {max} bytes, this one has {len}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// An instance id that does not have the form `<service>~<slot>.<attempt>`.
    #[error(
        "`{text}` is not an instance id: expected <service>~<slot>.<attempt>, as in /shop/web~0.1"
    )]
    Instance {
        /// The rejected string.
        text: String,
    },
}

const LEN_MAX: usize = 253;
/// The longest segment that can be a path by itself, with its slash.
pub(crate) const SEGMENT_LEN_MAX: usize = LEN_MAX - 1;
/// The maximum length of a DNS label.
const RESOURCE_LEN_MAX: usize = 63;

/// Enough for UUIDs with a prefix.
const REQUEST_LEN_MAX: usize = 128;

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

pub(crate) fn check_segment(segment: &str) -> Result<(), Error> {
    if segment.split('.').all(is_label) {
        Ok(())
    } else {
        Err(Error::Segment { segment: segment.into() })
    }
}

fn check_len(text: &str) -> Result<(), Error> {
    match text.len() {
        len if len > LEN_MAX => Err(Error::TooLong { len, max: LEN_MAX }),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[allow(clippy::derived_hash_with_manual_eq, reason = "equal names have equal texts")]
        #[derive(Clone, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(Arc<str>);

        // Most names that are compared are clones of each other, so compare pointers first.
        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }
        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                match Arc::ptr_eq(&self.0, &other.0) {
                    true => std::cmp::Ordering::Equal,
                    false => self.0.cmp(&other.0),
                }
            }
        }
        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The name as a string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let parse: fn(&str) -> Result<String, Error> = $parse;
                parse(text).map(|name| Self(name.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().into()
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The path of a service, such as `/shop/web`.
    ServiceId, |text| {
        let mut path = String::with_capacity(text.len() + 1);
        for segment in text.split('/').filter(|segment| !segment.is_empty()) {
            check_segment(segment)?;
            path.push('/');
            path.push_str(segment);
        }
        // The canonical form: with the leading slash, without empty segments.
        check_len(&path)?;
        if path.is_empty() { Err(Error::Root) } else { Ok(path) }
    }
}

name! {
    /// The name of a node, by default its host name.
    NodeId, |text| { check_len(text)?; check_segment(text)?; Ok(text.into()) }
}

name! {
    /// The name of a gateway document.
    GatewayId, |text| { check_len(text)?; check_segment(text)?; Ok(text.into()) }
}

name! {
    /// The name of a resource in an instance's stack.
    ResourceId, |text| match is_label(text) && text.len() <= RESOURCE_LEN_MAX {
        true => Ok(text.into()),
        false => Err(Error::Resource { name: text.into() }),
    }
}

name! {
    /// The key of a request, which its client chose, such as a UUID. It must be unique among the
    /// requests of all clients.
    RequestKey, |text| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        match (1..=REQUEST_LEN_MAX).contains(&text.len()) && text.bytes().all(is_allowed) {
            true => Ok(text.into()),
            false => Err(Error::Request { key: text.into() }),
        }
    }
}

impl ResourceId {
    /// The name of the only resource of a document with `container` or `process`, and of every
    /// resource that versions without stacks started.
    pub const MAIN: &str = "main";

    /// The resource [`Self::MAIN`].
    pub fn main() -> Self {
        static MAIN: LazyLock<ResourceId> = LazyLock::new(|| ResourceId(ResourceId::MAIN.into()));
        MAIN.clone()
    }

    /// Whether this is the resource [`Self::MAIN`].
    pub fn is_main(&self) -> bool {
        self.as_str() == Self::MAIN
    }
}

impl Default for ResourceId {
    fn default() -> Self {
        Self::main()
    }
}

impl ServiceId {
    /// Whether this service is at or below the path `group` (`/` contains all).
    pub fn is_in(&self, group: &str) -> bool {
        let group = group.trim_end_matches('/');
        self.0.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The nth version of a service's spec, counted from 1.
pub type RevisionNumber = u32;

/// The nth deployment of the cluster, counted from 1; written `d-17`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct DeploymentId(pub u64);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("d-{}", self.0))
    }
}

impl FromStr for DeploymentId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix("d-")
            .and_then(|number| number.parse().ok())
            .map(DeploymentId)
            .ok_or_else(|| Error::Segment { segment: text.into() })
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> String {
        id.to_string()
    }
}

/// A replica number and its nth placement: it identifies an instance within its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The replica number, from 0.
    pub slot: u32,
    /// The nth placement of that replica, from 1; never used twice in the life of a service.
    pub attempt: u32,
}

/// One placed replica. Ids are derived, never random: equal inputs give equal ids. Displays as
/// `/shop/web~2.1`: service, slot, attempt.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct InstanceId {
    /// The service it is a replica of.
    pub service: ServiceId,
    /// The replica and its placement.
    pub replica: ReplicaId,
}

impl InstanceId {
    /// The instance of `service` at `slot`, in its `attempt`th placement.
    pub fn new(service: ServiceId, slot: u32, attempt: u32) -> Self {
        Self { service, replica: ReplicaId { slot, attempt } }
    }

    /// A form without slashes for file and container names: `shop_web-2.1`.
    pub fn slug(&self) -> String {
        let path = self.service.as_str().trim_start_matches('/').replace('/', "_");
        format!("{path}-{}.{}", self.replica.slot, self.replica.attempt)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}~{}.{}", self.service, self.replica.slot, self.replica.attempt))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for InstanceId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (service, replica) = text.rsplit_once('~')?;
            let (slot, attempt) = replica.split_once('.')?;
            Some((service, slot.parse().ok()?, attempt.parse().ok()?))
        };
        let (service, slot, attempt) =
            parse().ok_or_else(|| Error::Instance { text: text.into() })?;
        Ok(Self::new(service.parse()?, slot, attempt))
    }
}

impl TryFrom<String> for InstanceId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_paths_are_normalised_and_checked() {
        let check = |text: &str, expected: Result<&str, ()>| {
            let parsed: Result<ServiceId, _> = text.parse();
            assert_eq!(parsed.as_ref().map(ServiceId::as_str).map_err(|_| ()), expected, "{text}");
        };
        check("/zdd/base", Ok("/zdd/base"));
        check("zdd//base/", Ok("/zdd/base"));
        check("/a.b/c-d", Ok("/a.b/c-d"));
        check("/0/a9/9a", Ok("/0/a9/9a"));
        check("/a/restart", Ok("/a/restart"));
        for wrong in [
            "", "/", "/Shop", "/a/../b", "/a/-b", "/a/b-", "/-", "/a_b", "/a b", "/a.", "/\u{e9}",
            "/a\u{0}",
        ] {
            check(wrong, Err(()));
        }
        check(&"a".repeat(300), Err(()));
    }

    #[test]
    fn nodes_and_gateways_have_names_of_one_segment() {
        for good in ["n1", "n1.example", &"n".repeat(LEN_MAX)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<GatewayId>().unwrap().as_str(), good);
        }
        for wrong in ["", "a/b", "/a", "A", "a-", &"n".repeat(LEN_MAX + 1)] {
            assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
            assert!(wrong.parse::<GatewayId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn resources_have_names_of_one_label() {
        for good in ["main", "log-shipper", "0", &"r".repeat(RESOURCE_LEN_MAX)] {
            assert_eq!(good.parse::<ResourceId>().unwrap().as_str(), good);
        }
        for wrong in ["", "a.b", "a_b", "a/b", "A", "-a", &"r".repeat(RESOURCE_LEN_MAX + 1)] {
            assert!(wrong.parse::<ResourceId>().is_err(), "{wrong}");
        }
        assert!(ResourceId::default().is_main());
        assert_eq!("main".parse(), Ok(ResourceId::main()));
    }

    #[test]
    fn request_keys_are_short_and_printable() {
        let longest = "K".repeat(REQUEST_LEN_MAX);
        for good in ["1", "8e03978e-40d5-43e8-bc93-6894a57f9324", "ci:build_7.retry", &longest] {
            assert_eq!(good.parse::<RequestKey>().unwrap().as_str(), good);
        }
        for wrong in ["", "a b", "a/b", "a@b", "\u{e9}", &"k".repeat(REQUEST_LEN_MAX + 1)] {
            assert!(wrong.parse::<RequestKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_strings_in_documents() {
        fn check<T>(text: &str)
        where
            T: Serialize + serde::de::DeserializeOwned + fmt::Display,
        {
            let name: T = serde_json::from_value(text.into()).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(serde_json::to_value(&name).unwrap(), text);
            assert!(serde_json::from_value::<T>("A/".into()).is_err());
        }
        check::<ServiceId>("/shop/web");
        check::<NodeId>("n1");
        check::<GatewayId>("public");
        check::<ResourceId>("cache");
        check::<InstanceId>("/shop/web~2.1");
        check::<DeploymentId>("d-17");
    }

    #[test]
    fn deployments_are_numbered() {
        assert_eq!("d-17".parse(), Ok(DeploymentId(17)));
        for wrong in ["17", "d-", "d--1", "d17", "e-17"] {
            assert!(wrong.parse::<DeploymentId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_length_limit_of_a_path_includes_its_leading_slash() {
        let longest = "a".repeat(LEN_MAX - 1);
        let path: ServiceId = longest.parse().unwrap();
        assert_eq!(path.as_str().parse(), Ok(path.clone()));
        let too_long = Err(Error::TooLong { len: LEN_MAX + 1, max: LEN_MAX });
        assert_eq!(format!("{longest}a").parse::<ServiceId>(), too_long);
    }

    #[test]
    fn a_group_contains_paths_by_whole_segments() {
        let id: ServiceId = "/shop/web".parse().unwrap();
        assert!(id.is_in("/") && id.is_in("/shop") && id.is_in("/shop/web/"));
        assert!(!id.is_in("/sho") && !id.is_in("/shop/web/x"));
    }

    #[test]
    fn instance_ids_read_back() {
        let id: InstanceId = "/shop/web~2.11".parse().unwrap();
        assert_eq!(id.replica, ReplicaId { slot: 2, attempt: 11 });
        assert_eq!(id.to_string(), "/shop/web~2.11");
        assert_eq!(id.slug(), "shop_web-2.11");
        for wrong in ["/shop/web~2", "/shop/web", "/shop/web~.1", "/Shop~2.1", "/~2.1"] {
            assert!(wrong.parse::<InstanceId>().is_err(), "{wrong}");
        }
    }
}
