//! Dependencies between services.

use std::collections::BTreeMap;

use crate::id::ServiceId;

/// A cycle of dependencies, if there is one: each service depends on the next, the last on the
/// first. `edges` maps each service to its dependencies.
pub fn cycle(edges: &BTreeMap<&ServiceId, Vec<&ServiceId>>) -> Option<Vec<ServiceId>> {
    /// `Some(false)` while the search is below a service, `Some(true)` once its subtree is done.
    type Seen<'a> = BTreeMap<&'a ServiceId, bool>;
    let mut seen = Seen::new();
    for start in edges.keys() {
        // An explicit stack, because a chain of services may be longer than a thread's stack is
        // deep.
        let mut path: Vec<(&ServiceId, usize)> = vec![(start, 0)];
        if seen.contains_key(start) {
            continue;
        }
        seen.insert(start, false);
        while let Some((service, next)) = path.last_mut() {
            let Some(dependency) = edges.get(service).and_then(|list| list.get(*next)).copied()
            else {
                seen.insert(service, true);
                path.pop();
                continue;
            };
            *next += 1;
            match seen.get(dependency) {
                None => {
                    seen.insert(dependency, false);
                    path.push((dependency, 0));
                }
                Some(true) => {}
                Some(false) => {
                    let from = path.iter().position(|(service, _)| *service == dependency);
                    let cycle = path[from.unwrap_or(0)..].iter();
                    return Some(cycle.map(|(service, _)| (*service).clone()).collect());
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edges: &[(&str, &str)], expected: Option<&[&str]>) {
        let ids: BTreeMap<&str, ServiceId> =
            edges.iter().flat_map(|(a, b)| [*a, *b]).map(|s| (s, s.parse().unwrap())).collect();
        let mut graph = BTreeMap::<&ServiceId, Vec<&ServiceId>>::new();
        for (from, to) in edges {
            graph.entry(&ids[from]).or_default().push(&ids[to]);
        }
        let found = cycle(&graph);
        let found: Option<Vec<_>> =
            found.as_ref().map(|cycle| cycle.iter().map(ServiceId::as_str).collect());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn cycles_are_found_with_their_path() {
        check(&[("/a", "/b"), ("/b", "/c")], None);
        check(&[("/a", "/b"), ("/a", "/c"), ("/b", "/c")], None);
        check(&[("/a", "/b"), ("/b", "/c"), ("/c", "/b")], Some(&["/b", "/c"]));
        check(&[("/a", "/a")], Some(&["/a"]));
    }
}
