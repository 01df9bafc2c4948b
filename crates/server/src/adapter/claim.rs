//! The routes that adapters claim, and the mounts at which they have them.
//!
//! A claim is made per route, not per prefix: two systems may share `/api` as long as no path
//! belongs to both. Paths are compared by their decoded segments without empty ones, since clients
//! of foreign systems write `//` in the middle of paths.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use percent_encoding::percent_decode_str;

/// Paths that several of the known foreign systems serve with different content, and that tools
/// request from any server. At the root, an adapter may claim one of them only for a media type.
const SHARED: [&str; 4] = ["/version", "/config", "/login", "/metrics"];

/// The first segment of the paths of the native API. No adapter can claim a path below it.
const NATIVE: &str = "v1";

/// A route of a foreign API, relative to the mounts of its adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    path: &'static str,
    accept: Option<&'static str>,
}

impl Claim {
    /// Claims a path. `*` stands for one segment; `**` at the end for any number of segments, also
    /// none.
    pub const fn new(path: &'static str) -> Claim {
        Claim { path, accept: None }
    }

    /// At the root, only requests whose header `Accept` names this media type.
    pub const fn accepting(mut self, media_type: &'static str) -> Claim {
        self.accept = Some(media_type);
        self
    }

    fn segments(&self) -> impl Iterator<Item = &'static str> + use<> {
        segments(self.path)
    }

    /// Whether a path belongs to the claim.
    fn has(&self, path: &[Cow<'_, [u8]>]) -> bool {
        let mut rest = path.iter();
        for segment in self.segments() {
            match (segment, rest.next()) {
                ("**", _) => return true,
                ("*", Some(_)) => {}
                (literal, Some(found)) if literal.as_bytes() == &**found => {}
                _ => return false,
            }
        }
        rest.next().is_none()
    }
}

/// Where the routes of an adapter are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Below a prefix on the server's own port; `/` stands for the original paths.
    Prefix(String),
    /// On a listener of its own, where every path belongs to the adapter.
    Listener(SocketAddr),
}

impl Mount {
    /// The original paths.
    pub fn root() -> Mount {
        Mount::Prefix("/".into())
    }

    /// The segments of the prefix; none for the original paths.
    fn prefix(&self) -> Option<Vec<&str>> {
        match self {
            Mount::Prefix(prefix) => Some(segments(prefix).collect()),
            Mount::Listener(_) => None,
        }
    }
}

/// A mount that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address with a port nor a path that begins with `/`")]
pub struct NoMount(String);

impl std::str::FromStr for Mount {
    type Err = NoMount;

    fn from_str(text: &str) -> Result<Mount, NoMount> {
        match text.parse() {
            Ok(address) => Ok(Mount::Listener(address)),
            Err(_) if text.starts_with('/') => Ok(Mount::Prefix(text.into())),
            Err(_) => Err(NoMount(text.into())),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mount::Prefix(prefix) => f.write_str(prefix),
            Mount::Listener(address) => address.fmt(f),
        }
    }
}

/// Why a set of adapters cannot serve together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A path would belong to two adapters.
    #[error("the adapters `{first}` and `{second}` both claim {route}")]
    Overlap {
        /// The adapter that comes first.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// A route of the second that has a path in common with one of the first.
        route: String,
    },
    /// A path that several systems have is claimed at the root without a media type.
    #[error("the adapter `{adapter}` claims {route} for itself, which other systems have as well")]
    Shared {
        /// The adapter.
        adapter: &'static str,
        /// The route.
        route: &'static str,
    },
    /// A path of the native API is claimed.
    #[error("the adapter `{adapter}` claims {route}, which belongs to the native API")]
    Native {
        /// The adapter.
        adapter: &'static str,
        /// The route.
        route: String,
    },
}

/// The claims of an adapter at its mounts.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    pub(super) adapter: &'static str,
    pub(super) claims: &'static [Claim],
    pub(super) mounts: Vec<Mount>,
}

/// How a path relates to the claims of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claimed {
    /// The path belongs to it; this is the path below its mount, not decoded.
    Below(String),
    /// Only requests that accept this media type belong to it.
    Accepting(&'static str),
}

impl Claims {
    /// Whether a request to `path` on the server's own port belongs to the adapter.
    pub(super) fn find(&self, path: &str, accept: &str) -> Option<Claimed> {
        let raw: Vec<&str> = segments(path).collect();
        let decoded: Vec<Cow<'_, [u8]>> =
            raw.iter().map(|segment| percent_decode_str(segment).into()).collect();
        let mut accepting = None;
        for prefix in self.mounts.iter().filter_map(Mount::prefix) {
            let prefixed = decoded.len() >= prefix.len()
                && prefix.iter().zip(&decoded).all(|(prefix, found)| prefix.as_bytes() == &**found);
            if !prefixed {
                continue;
            }
            let below = &decoded[prefix.len()..];
            for claim in self.claims.iter().filter(|claim| claim.has(below)) {
                match claim.accept.filter(|_| prefix.is_empty()) {
                    Some(media_type) if !accept.contains(media_type) => {
                        accepting = Some(Claimed::Accepting(media_type));
                    }
                    _ => {
                        let below = raw[prefix.len()..].join("/");
                        return Some(Claimed::Below(format!("/{below}")));
                    }
                }
            }
        }
        accepting
    }

    /// The prefixes at which the adapter has its routes besides the original paths.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|mount| match mount {
            Mount::Prefix(prefix) if segments(prefix).next().is_some() => Some(prefix.as_str()),
            _ => None,
        })
    }

    /// All routes on the server's own port: segments with placeholders, and the media type.
    fn routes(&self) -> impl Iterator<Item = (Vec<&str>, Option<&'static str>)> {
        let claims = self.claims;
        self.mounts.iter().filter_map(Mount::prefix).flat_map(move |prefix| {
            claims.iter().map(move |claim| {
                let accept = claim.accept.filter(|_| prefix.is_empty());
                let mut route = prefix.clone();
                claim.segments().for_each(|segment| route.push(segment));
                (route, accept)
            })
        })
    }

    /// Checks the routes of the adapter against shared paths and the native API.
    fn alone(&self) -> Result<(), Conflict> {
        let adapter = self.adapter;
        let at_root = self.mounts.iter().filter_map(Mount::prefix).any(|prefix| prefix.is_empty());
        let is_shared =
            |claim: &&Claim| at_root && claim.accept.is_none() && SHARED.contains(&claim.path);
        if let Some(claim) = self.claims.iter().find(is_shared) {
            return Err(Conflict::Shared { adapter, route: claim.path });
        }
        match self.routes().find(|(route, _)| overlap(route, &[NATIVE, "**"])) {
            Some((route, _)) => Err(Conflict::Native { adapter, route: written(&route) }),
            None => Ok(()),
        }
    }
}

/// Checks that each path on the server's own port belongs to one adapter at most.
pub(super) fn check(all: &[Claims]) -> Result<(), Conflict> {
    for (i, second) in all.iter().enumerate() {
        second.alone()?;
        for first in &all[..i] {
            for (route, accept) in second.routes() {
                let is_both = |(other, accepted): &(Vec<&str>, Option<&str>)| {
                    let by_type = accept.is_some() && accepted.is_some() && accept != *accepted;
                    !by_type && overlap(other, &route)
                };
                if first.routes().any(|other| is_both(&other)) {
                    let (first, second) = (first.adapter, second.adapter);
                    return Err(Conflict::Overlap { first, second, route: written(&route) });
                }
            }
        }
    }
    Ok(())
}

/// Whether a path fits both patterns.
fn overlap(one: &[&str], other: &[&str]) -> bool {
    match (one, other) {
        (["**"], _) | (_, ["**"]) => true,
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => {
            (a == b || *a == "*" || *b == "*") && overlap(one, other)
        }
        _ => false,
    }
}

fn written(route: &[&str]) -> String {
    format!("/{}", route.join("/"))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(adapter: &'static str, claims: &'static [Claim], mounts: &[&str]) -> Claims {
        let mounts = mounts.iter().map(|mount| mount.parse().unwrap()).collect();
        Claims { adapter, claims, mounts }
    }

    const OLD: &[Claim] = &[
        Claim::new("/v2/**"),
        Claim::new("/host/*/state"),
        Claim::new("/ping"),
        Claim::new("/metrics").accepting("application/json"),
    ];

    #[test]
    fn paths_are_found_below_each_mount() {
        let old = claims("old", OLD, &["/", "/service/old", "127.0.0.1:8080"]);
        let below = |path: &str| match old.find(path, "*/*")? {
            Claimed::Below(path) => Some(path),
            Claimed::Accepting(media_type) => Some(media_type.into()),
        };
        for (path, expected) in [
            ("/v2/apps//shop/web", Some("/v2/apps/shop/web")),
            ("//v2", Some("/v2")),
            ("/%762/apps/a%2Fb", Some("/%762/apps/a%2Fb")),
            ("/v2/%ff", Some("/v2/%ff")),
            ("/service//old/v2/apps", Some("/v2/apps")),
            ("/service/old/metrics", Some("/metrics")),
            ("/metrics", Some("application/json")),
            ("/host/n1/state", Some("/host/n1/state")),
            ("/host/n1/state/more", None),
            ("/host/n1", None),
            ("/ping/more", None),
            ("/service/old", None),
            ("/v3", None),
            ("/", None),
        ] {
            assert_eq!(below(path).as_deref(), expected, "{path}");
        }
        let json = old.find("/metrics", "text/html, application/json;q=0.9");
        assert_eq!(json, Some(Claimed::Below("/metrics".into())));
        assert_eq!(old.prefixes().collect::<Vec<_>>(), ["/service/old"]);
    }

    #[test]
    fn conflicting_claims_are_rejected_with_both_names() {
        const OTHER: &[Claim] = &[Claim::new("/api/*/gateways"), Claim::new("/v2/apps/*")];
        const APART: &[Claim] =
            &[Claim::new("/api/v1/services/**"), Claim::new("/metrics").accepting("text/plain")];
        const SHARING: &[Claim] = &[Claim::new("/version")];
        const GREEDY: &[Claim] = &[Claim::new("/*/services")];
        let old = || claims("old", OLD, &["/"]);
        let message = |all: &[Claims]| check(all).map_err(|conflict| conflict.to_string());
        let both = "the adapters `old` and `other` both claim /v2/apps/*";
        assert_eq!(message(&[old(), claims("other", OTHER, &["/"])]), Err(both.into()));
        assert_eq!(message(&[old(), claims("other", OTHER, &["/other"])]), Ok(()));
        assert_eq!(message(&[old(), claims("other", OTHER, &["127.0.0.1:1"])]), Ok(()));
        assert_eq!(message(&[old(), claims("apart", APART, &["/"])]), Ok(()));
        let twice = message(&[old(), claims("twice", OLD, &["/"])]);
        assert_eq!(twice, Err("the adapters `old` and `twice` both claim /v2/**".into()));
        let shared = message(&[claims("other", SHARING, &["/"])]).unwrap_err();
        assert!(shared.contains("`other` claims /version"), "{shared}");
        assert_eq!(message(&[claims("other", SHARING, &["/other"])]), Ok(()));
        let native = message(&[claims("greedy", GREEDY, &["/"])]).unwrap_err();
        assert!(native.contains("/*/services, which belongs to the native API"), "{native}");
    }

    #[test]
    fn mounts_are_addresses_or_paths() {
        for mount in ["/", "/service/old", "127.0.0.1:8080", "[::1]:80"] {
            assert_eq!(mount.parse::<Mount>().unwrap().to_string(), mount);
        }
        for wrong in ["", "8080", "localhost:8080", "old"] {
            assert_eq!(wrong.parse::<Mount>(), Err(NoMount(wrong.into())));
        }
    }
}
