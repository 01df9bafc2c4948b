//! Lookups in the compiled table agree with a literal implementation of the documented rule.
#![allow(clippy::unwrap_used, reason = "an error here fails the test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use model::{Listen, Listener, RouteTable, TableRoute};
use muster_gateway::Compiled;
use proptest::prelude::*;

/// "The most specific host, then the longest path, wins", among the routes that match; the first
/// of equals.
fn by_the_rule(routes: &[TableRoute], host: &str, path: &str) -> Option<usize> {
    let host = host.to_ascii_lowercase();
    let host = host.split(':').next().unwrap_or_default();
    // An exact host above all, then a wildcard by its length, then none.
    let host_rank = |pattern: &String| match pattern.strip_prefix('*') {
        Some(parent) if host.ends_with(parent) && host.len() > parent.len() => Some(parent.len()),
        None if pattern == host => Some(usize::MAX),
        _ => None,
    };
    let rank = |route: &TableRoute| {
        let host_rank = match route.hosts.is_empty() {
            true => Some(0),
            false => route.hosts.iter().filter_map(host_rank).max(),
        };
        let prefix = route.path.trim_end_matches('/');
        let rest = path.strip_prefix(prefix)?;
        let whole = prefix.is_empty() || rest.is_empty() || rest.starts_with('/');
        whole.then_some((host_rank?, prefix.len()))
    };
    let ranked = routes.iter().enumerate().filter_map(|(i, route)| Some((rank(route)?, i)));
    ranked.max_by_key(|(rank, index)| (*rank, std::cmp::Reverse(*index))).map(|(_, index)| index)
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(values).prop_map(String::from)
}

fn segments() -> impl Strategy<Value = String> {
    proptest::collection::vec(one_of(&["a", "b", "ab", ""]), 0..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn pattern() -> impl Strategy<Value = String> {
    one_of(&["x.com", "a.x.com", "b.a.x.com", "*.x.com", "*.a.x.com", "y.com"])
}

fn routes() -> impl Strategy<Value = Vec<TableRoute>> {
    let route = (proptest::collection::btree_set(pattern(), 0..3), segments()).prop_map(
        |(hosts, path): (BTreeSet<String>, String)| TableRoute {
            hosts,
            path,
            service: "/shop/web".parse().unwrap(),
            backends: Vec::new(),
            empty_because: None,
        },
    );
    proptest::collection::vec(route, 0..12)
}

proptest! {
    #[test]
    fn the_compiled_table_selects_the_most_specific_route(
        routes in routes(),
        host in one_of(&["x.com", "A.x.com", "b.a.x.com:80", "c.b.a.x.com", "z.com", "com", ""]),
        path in segments(),
    ) {
        let listen = SocketAddr::from(([127, 0, 0, 1], 80));
        let gateway = "shop".parse().unwrap();
        let listener = Listener {
            gateway,
            listen: Listen(listen),
            trust: Default::default(),
            routes: routes.clone(),
        };
        let compiled = Compiled::new(&RouteTable { generation: 1, listeners: vec![listener] }, 1);
        let listener = compiled.listener(listen).unwrap();
        let expected = by_the_rule(&routes, &host, &path);
        prop_assert_eq!(compiled.route(listener, &host, &path), expected, "{} {}", host, path);
    }
}
