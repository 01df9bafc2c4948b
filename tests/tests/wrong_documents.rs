//! Wrong documents and wrong names are refused with a place and a way out, and change nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use anyhow::Result;
use muster_tests::Cluster;

#[test]
fn invalid_documents_are_rejected_with_positions() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let good = "service: /shop/db\nprocess: { command: [sleep, \"1000\"] }\n\
                ports: [{ name: sql }]\n";
    let file = cluster.write("good.yaml", good)?;
    cluster.ok(&["apply", "-f", &file, "--wait"])?;
    let before = cluster.ok(&["get", "services", "-o", "json"])?;

    let deep = format!("service: /a\nenv: {}", "[".repeat(10 << 20));
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "an unknown key",
            "service: /a\nprocess: { command: run }\ninstnces: 3\n",
            &[":3:1", "instnces", "instances"],
        ),
        (
            "a wrong type",
            "service: /a\nprocess: { command: run }\nresources: { memory: lots }\n",
            &[":3:", "memory", "32MiB"],
        ),
        (
            "a bad constraint",
            "service: /a\nprocess: { command: run }\nconstraints:\n- [hostname, UNIQ]\n",
            &[":4:", "UNIQ", "UNIQUE"],
        ),
        (
            "a cycle of dependencies",
            "service: /a\nprocess: { command: run }\ndepends_on: [/b]\n---\n\
             service: /b\nprocess: { command: run }\ndepends_on: [/a]\n",
            &[":3:", "/a -> /b -> /a"],
        ),
        (
            "a dependency that is not there",
            "service: /a\nprocess: { command: run }\ndepends_on: [/shop/dbb]\n",
            &[":3:", "/shop/db"],
        ),
        (
            "a port twice",
            "service: /a\nprocess: { command: run }\nports: [{ port: 80 }, { port: 80 }]\n",
            &[":3:", "80", "twice"],
        ),
        (
            "two gateways on one port",
            "gateway: a\nlisten: 8080\nroutes: [{ to: /shop/db:sql }]\n---\n\
             gateway: b\nlisten: 127.0.0.1:8080\nroutes: [{ to: /shop/db:sql }]\n",
            &["listen", "8080"],
        ),
        (
            "a duplicate key",
            "service: /a\nprocess: { command: run }\ninstances: 1\ninstances: 2\n",
            &[":4:", "instances"],
        ),
        ("ten megabytes of nesting", &deep, &["wrong-"]),
        (
            "a Marathon app with cmd and args",
            "{\n  \"id\": \"/a\",\n  \"cmd\": \"run\",\n  \"args\": [\"run\"]\n}\n",
            &["cmd", "args"],
        ),
    ];
    for (i, (what, text, expected)) in cases.iter().enumerate() {
        let extension = if text.starts_with('{') { "json" } else { "yaml" };
        let file = cluster.write(&format!("wrong-{i}.{extension}"), text)?;
        for verb in ["apply", "plan"] {
            let run = cluster.muster(&[verb, "-f", &file])?;
            assert_eq!(run.code, 3, "{what}: {run:?}");
            let expected = expected.iter().chain([&"wrong-"]);
            for part in expected {
                assert!(run.stderr.contains(part), "{what}: `{part}` is not in\n{}", run.stderr);
            }
        }
        assert_eq!(cluster.ok(&["get", "services", "-o", "json"])?, before, "{what}");
    }
    Ok(())
}

#[test]
fn a_missing_file_and_an_unreachable_server_are_distinguished() -> Result<()> {
    let cluster = Cluster::start(1)?;
    assert_eq!(cluster.muster(&["apply", "-f", "nowhere.yaml"])?.code, 2);
    let file = cluster.write("a.yaml", "service: /a\nprocess: { command: run }\n")?;
    let run = cluster.muster(&["apply", "-f", &file, "--server", "http://127.0.0.1:9"])?;
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(cluster.muster(&["describe", "service", "/nobody"])?.code, 5);
    Ok(())
}

#[test]
fn naming_a_group_lists_its_services() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let file = cluster.write("a.yaml", "service: /shop/web\nprocess: { command: run }\n")?;
    cluster.ok(&["apply", "-f", &file])?;
    let verbs: &[&[&str]] = &[
        &["describe", "service", "/shop"],
        &["scale", "/shop", "2"],
        &["restart", "/shop"],
        &["rollout", "undo", "/shop"],
        &["rollout", "pause", "/shop"],
        &["rm", "/shop/web", "/shop"],
    ];
    for verb in verbs {
        let run = cluster.muster(verb)?;
        assert_eq!(run.code, 5, "{verb:?}: {run:?}");
        assert!(run.stderr.contains("a group of services: /shop/web"), "{verb:?}: {run:?}");
    }
    Ok(())
}
