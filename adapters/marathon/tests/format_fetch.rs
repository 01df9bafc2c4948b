//! Files that are fetched into the sandbox of a task.

#![allow(clippy::unwrap_used)]

mod written;

use muster_adapter_marathon::format::read_app;
use serde_json::{Value, json};
use written::{app, merge, shown, with};

/// The files of the service of an app with these keys.
fn files(keys: Value) -> Value {
    let spec = app(&with(keys)).spec().unwrap();
    serde_json::to_value(spec.files).unwrap()
}

#[test]
fn files_are_fetched_into_the_directory_of_a_process() {
    let artifacts = json!([
        { "uri": "https://x/a.tar.gz?v=1" },
        { "uri": "http://x/run.sh", "executable": true, "cache": true },
        { "uri": "http://x/b.tgz", "extract": false, "destPath": "lib/b" },
        { "uri": "http://x/c.conf" },
    ]);
    let expected = json!([
        { "path": ".", "url": "https://x/a.tar.gz?v=1", "extract": true, "cache": false },
        { "path": "run.sh", "url": "http://x/run.sh", "executable": true },
        { "path": "lib/b", "url": "http://x/b.tgz", "cache": false },
        { "path": "c.conf", "url": "http://x/c.conf", "cache": false },
    ]);
    assert_eq!(files(json!({ "fetch": artifacts })), expected);
    let older = json!(["http://x/a.tgz", "http://x/c.conf"]);
    let shown = shown(&app(&with(json!({ "uris": older }))));
    let expected = json!([
        { "uri": "http://x/a.tgz", "extract": true, "executable": false, "cache": false },
        { "uri": "http://x/c.conf", "extract": false, "executable": false, "cache": false },
    ]);
    assert_eq!((&shown["fetch"], &shown["uris"]), (&expected, &Value::Null));
}

#[test]
fn files_of_a_container_are_where_mesos_mounts_the_sandbox() {
    let container = json!({
        "id": "/a", "container": { "docker": { "image": "x" } },
        "fetch": [{ "uri": "http://x/a.tar" }, { "uri": "http://x/b" }],
    });
    let spec = app(&container).spec().unwrap();
    let paths: Vec<_> = spec.files.iter().map(|file| (file.path.as_str(), file.extract)).collect();
    assert_eq!(paths, [("/mnt/mesos/sandbox", true), ("/mnt/mesos/sandbox/b", false)]);
    assert_eq!(spec.env["MESOS_SANDBOX"], "/mnt/mesos/sandbox".into());
    assert_eq!(spec.features(), ["files"], "an agent that cannot fetch does not run it");
}

#[test]
fn what_cannot_be_fetched_is_rejected() {
    let image = json!({ "container": { "docker": { "image": "x" } } });
    let both = json!({ "uris": ["http://x/a"], "fetch": [{ "uri": "http://x/b" }] });
    for (keys, path, what) in [
        (
            json!({ "fetch": [{ "uri": "hdfs://x/a" }] }),
            "/fetch(0)/uri",
            "`hdfs://x/a` is not supported",
        ),
        (json!({ "uris": ["file:///etc/x"] }), "/fetch(0)/uri", "`file:///etc/x` is not supported"),
        (
            json!({ "fetch": [{ "uri": "http://x/a.zip" }] }),
            "/fetch(0)/extract",
            "only tar and tar.gz",
        ),
        (both, "/uris", "cannot specify both uris and fetch fields"),
        (
            json!({ "fetch": [{ "uri": "http://x/b", "destPath": "../b" }] }),
            "/fetch(0)/destPath",
            "`../b` must be the path of a file",
        ),
        (
            json!({ "fetch": [{ "uri": "http://x/b" }, { "uri": "http://y/b" }] }),
            "/fetch(1)",
            "two files are written to `b`",
        ),
    ] {
        let body = with(keys).to_string();
        let rejected = read_app(body.as_bytes(), None).expect_err(&body).body();
        let detail = &rejected["details"][0];
        let message = detail["errors"][0].as_str().unwrap();
        assert!(detail["path"] == path && message.starts_with(what), "{body}: {rejected}");
    }
    let mut body = with(json!({ "uris": ["http://x/docker.tar.gz"] }));
    merge(&mut body, image);
    let rejected = read_app(body.to_string().as_bytes(), None).expect_err("credentials").body();
    let message = rejected["details"][0]["errors"][0].as_str().unwrap();
    assert!(message.starts_with("credentials of registries"), "{rejected}");
}
