//! Nodes are not Muster's alone: other programs hold ports that instances might be given.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::net::TcpListener;

use anyhow::Result;
use muster_tests::Cluster;

/// A service of the example program that is ready once it answers on its port.
fn document(name: &str, instances: u32) -> Result<String> {
    let program = Cluster::simpleservice()?;
    Ok(format!(
        "service: {name}\ninstances: {instances}\nprocess: {{ command: [\"{}\"] }}\n\
         ports: [{{ name: http }}]\nresources: {{ cpu: 0.01, memory: 32MiB }}\n\
         readiness: {{ probe: {{ http: {{ path: /info }} }}, interval: 200ms }}\n",
        program.display()
    ))
}

fn ports(cluster: &Cluster, service: &str) -> Result<BTreeSet<u16>> {
    let instances = cluster.instances(service)?;
    let port = |instance: &serde_json::Value| instance["ports"][0].as_u64().unwrap() as u16;
    Ok(instances.iter().map(port).collect())
}

#[test]
fn ports_of_other_programs_are_skipped() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let apply = |name: &str, instances| {
        let file = cluster.write("service.yaml", &document(name, instances)?)?;
        cluster.ok(&["apply", "-f", &file, "--wait", "--timeout", "50s"])
    };
    apply("/shop/first", 1)?;
    let known = ports(&cluster, "/shop/first")?.into_iter().next().unwrap();
    // Other programs hold half of the node's port range.
    let block = known / 100 * 100;
    let held: Vec<TcpListener> = (block + 1..block + 100)
        .step_by(2)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .collect();
    assert!(held.len() > 40, "{} ports are held", held.len());
    apply("/shop/many", 8)?;
    let given = ports(&cluster, "/shop/many")?;
    let held: BTreeSet<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
    assert_eq!(given.len(), 8);
    assert!(given.is_disjoint(&held), "{given:?}");
    let events = cluster.ok(&["get", "events"])?;
    assert!(events.contains("is taken by another program on this node"), "{events}");
    Ok(())
}
