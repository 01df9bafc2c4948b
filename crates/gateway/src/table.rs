//! A [`RouteTable`] compiled for fast lookups. Pure.
//!
//! The most specific host wins, then the longest path, independent of the order of routes; of two
//! routes that are equal in both, the first. A lookup allocates nothing unless the host has
//! upper-case letters. Backends are selected by `balance`, not here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use model::{Backend, InstanceId, RouteTable, ServiceId, Subnet};

/// A compiled table of routes.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The generation of the table.
    pub generation: u64,
    /// The number of the switch to it: several may have the same generation but other listeners.
    pub switch: u64,
    /// The listeners, by address.
    pub listeners: Vec<CompiledListener>,
    /// All routes of all listeners.
    pub routes: Vec<CompiledRoute>,
    /// The backends of all routes, without duplicates.
    pub backends: Vec<Backend>,
}

/// An address, and the routes of the requests that arrive there.
#[derive(Debug)]
pub struct CompiledListener {
    /// The address that it accepts connections on.
    pub listen: SocketAddr,
    /// The proxies in front of it that are trusted.
    pub trust: Vec<Subnet>,
    exact: HashMap<Box<str>, Paths>,
    /// Wildcard hosts, by the part after `*.`.
    below: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// A route and the indexes of its backends in [`Compiled::backends`].
#[derive(Debug)]
pub struct CompiledRoute {
    /// The service that its backends belong to.
    pub service: ServiceId,
    /// Indexes of its backends, without duplicates.
    pub backends: Vec<usize>,
    /// Why it has no backend, if it has none.
    pub empty_because: Option<String>,
}

/// Routes by path prefix.
#[derive(Debug, Default)]
struct Paths {
    /// The route of the empty prefix.
    root: Option<usize>,
    /// The routes of other prefixes, without a final slash.
    longer: HashMap<Box<[u8]>, usize>,
    /// The length of the longest of them.
    longest: usize,
}

impl Paths {
    fn add(&mut self, path: &str, route: usize) {
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            self.root.get_or_insert(route);
        } else {
            self.longest = self.longest.max(path.len());
            self.longer.entry(path.as_bytes().into()).or_insert(route);
        }
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        // Bytes, not strings: a prefix may end in the middle of a character.
        let mut end = path.len();
        if end > self.longest {
            // A prefix matches whole segments only: it ends at a slash or at the end of the path.
            end = path.iter().take(self.longest + 1).rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        while end > 0 {
            if let Some(route) = self.longer.get(&path[..end]) {
                return Some(*route);
            }
            end = path[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        self.root
    }
}

impl Compiled {
    /// Compiles a table for a switch. Listeners of several documents at one address are merged.
    pub fn new(table: &RouteTable, switch: u64) -> Self {
        let mut compiled = Compiled { generation: table.generation, switch, ..Compiled::default() };
        let mut known: BTreeMap<&Backend, usize> = BTreeMap::new();
        for listener in &table.listeners {
            let listen = listener.listen.0;
            let place = compiled.listener(listen).unwrap_or_else(|| {
                compiled.listeners.push(CompiledListener::new(listen));
                compiled.listeners.len() - 1
            });
            compiled.listeners[place].trust.extend(&listener.trust);
            for route in &listener.routes {
                let mut backends = Vec::with_capacity(route.backends.len());
                for backend in &route.backends {
                    let index = *known.entry(backend).or_insert_with(|| {
                        compiled.backends.push(backend.clone());
                        compiled.backends.len() - 1
                    });
                    if !backends.contains(&index) {
                        backends.push(index);
                    }
                }
                let index = compiled.routes.len();
                compiled.routes.push(CompiledRoute {
                    service: route.service.clone(),
                    backends,
                    empty_because: route.empty_because.clone(),
                });
                compiled.listeners[place].add(&route.hosts, &route.path, index);
            }
        }
        compiled
    }

    /// The index of the listener at an address.
    pub fn listener(&self, listen: SocketAddr) -> Option<usize> {
        self.listeners.iter().position(|listener| listener.listen == listen)
    }

    /// The index of the route of a request. `host` is as the client wrote it, `path` is without the
    /// query.
    pub fn route(&self, listener: usize, host: &str, path: &str) -> Option<usize> {
        self.listeners[listener].find(host, path.as_bytes())
    }

    /// The instances that requests may be sent to.
    pub fn instances(&self) -> BTreeSet<&InstanceId> {
        self.backends.iter().map(|backend| &backend.instance).collect()
    }
}

impl CompiledListener {
    fn new(listen: SocketAddr) -> Self {
        let (trust, exact, below, any) = Default::default();
        Self { listen, trust, exact, below, any }
    }

    fn add(&mut self, hosts: &BTreeSet<String>, path: &str, route: usize) {
        if hosts.is_empty() {
            self.any.add(path, route);
        }
        for host in hosts {
            let host = bare_host(host);
            let paths = match host.strip_prefix("*.") {
                Some(parent) => self.below.entry(parent.into()).or_default(),
                None => self.exact.entry(host.as_ref().into()).or_default(),
            };
            paths.add(path, route);
        }
    }

    fn find(&self, host: &str, path: &[u8]) -> Option<usize> {
        if !(self.exact.is_empty() && self.below.is_empty()) {
            let host = bare_host(host);
            let exact = self.exact.get(host.as_ref()).and_then(|paths| paths.find(path));
            if exact.is_some() {
                return exact;
            }
            let mut rest = host.as_ref();
            while let Some((_, parent)) = rest.split_once('.') {
                let found = self.below.get(parent).and_then(|paths| paths.find(path));
                if found.is_some() {
                    return found;
                }
                rest = parent;
            }
        }
        self.any.find(path)
    }
}

/// A host without its port and final dot, in lower case.
fn bare_host(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_normalised() {
        let check = |host: &str, expected: &str| assert_eq!(bare_host(host), expected, "{host}");
        check("Shop.Example.com:8080", "shop.example.com");
        check("shop.example.com.", "shop.example.com");
        check("[::1]:80", "[::1]");
        check("[::1]", "[::1]");
        check("", "");
    }

    #[test]
    fn only_whole_segments_match() {
        let mut paths = Paths::default();
        paths.add("/api", 1);
        paths.add("/api/v2/", 2);
        let find = |paths: &Paths, path: &str| paths.find(path.as_bytes());
        let check = |path: &str, expected| assert_eq!(find(&paths, path), expected, "{path}");
        check("/api", Some(1));
        check("/api/", Some(1));
        check("/api/v2", Some(2));
        check("/api/v2/things/and/more", Some(2));
        check("/api/v20", Some(1));
        check("/apis", None);
        check("/", None);
        check("*", None);
        paths.add("/", 0);
        for path in ["/apis", "*", "/ap\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}"] {
            assert_eq!(find(&paths, path), Some(0), "{path}");
        }
    }
}
