//! Parts of responses that Marathon's clients rely on: headers, keys they know and no others, and events as
//! they stand on the wire.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use muster_tests::http::{self, Response};
use muster_tests::{Adapter, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Fails unless an object has no other keys than those.
fn only(object: &Value, allowed: &str) {
    let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
    let unknown: Vec<_> =
        object.as_object().unwrap().keys().filter(|key| !allowed.contains(key.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} in {object}");
}

#[test]
fn every_response_has_the_headers_of_marathon() -> Result<()> {
    let adapter = Adapter::open()?;
    let created = r#"{"id": "/a", "cmd": "sleep 1000", "cpus": 9999}"#;
    let responses = [
        adapter.request("GET", "/v2/apps", "")?,
        adapter.request("POST", "/v2/apps", created)?,
        adapter.request("PUT", "/v2/apps/a", r#"{"instances": 2}"#)?,
        adapter.request("POST", "/v2/apps", "{")?,
        adapter.request("GET", "/v2/apps/none", "")?,
        adapter.request("GET", "/v2/none", "")?,
        adapter.request("GET", "/ping", "")?,
        adapter.request("DELETE", "/v2/queue/a/delay", "")?,
        http::Events::follow(adapter.cluster.port(), "/v2/events").map(|events| Response {
            status: events.head.status,
            headers: events.head.headers.clone(),
            body: Vec::new(),
        })?,
    ];
    let statuses = responses.iter().map(|response| response.status).collect::<Vec<_>>();
    assert_eq!(statuses, [200, 201, 409, 400, 404, 404, 200, 204, 200]);
    let address = format!("http://127.0.0.1:{}", adapter.cluster.port());
    for response in &responses {
        assert_eq!(response.header("x-marathon-leader"), Some(address.as_str()), "{response:?}");
        assert_eq!(response.header("x-frame-options"), Some("DENY"));
        assert!(response.header("x-xss-protection").is_some());
        let uncached = "no-cache, no-store, must-revalidate";
        assert_eq!(response.header("cache-control"), Some(uncached));
        assert_eq!(response.header("pragma"), Some("no-cache"));
        assert_eq!(response.header("expires"), Some("0"));
    }
    let created = &responses[1];
    let location = created.header("location").unwrap();
    assert!(location.ends_with("/v2/apps/a"), "{location}");
    let deployment = created.json()?["deployments"][0]["id"].as_str().unwrap().to_string();
    assert_eq!(created.header("marathon-deployment-id"), Some(deployment.as_str()));
    for response in &responses[3..6] {
        assert!(response.header("content-type").unwrap().starts_with("application/json"));
        assert!(response.json()?["message"].is_string());
    }
    let events = responses.last().unwrap();
    assert!(events.header("content-type").unwrap().starts_with("text/event-stream"));
    Ok(())
}

#[test]
fn responses_have_exactly_the_keys_of_marathon() -> Result<()> {
    let adapter = Adapter::open()?;
    let created = adapter.sleeper("/group/a", 2)?;
    assert_eq!(created["tasksRunning"], 0);
    adapter.stuck("/group/b")?;
    let embed = "embed=apps.tasks&embed=apps.counts&embed=apps.deployments&embed=apps.readiness\
                 &embed=apps.lastTaskFailure";
    let apps = adapter.json(&format!("/v2/apps?{embed}"))?["apps"].clone();
    assert_eq!(apps.as_array().unwrap().len(), 2);
    let app_keys = "acceptedResourceRoles args backoffFactor backoffSeconds cmd constraints \
        container cpus dependencies deployments disk env executor healthChecks id role instances \
        killSelection labels lastTaskFailure maxLaunchDelaySeconds mem ports requirePorts storeUrls \
        tasks tasksRunning tasksStaged tasksHealthy tasksUnhealthy taskKillGracePeriodSeconds \
        upgradeStrategy unreachableStrategy uris user version versionInfo ipAddress fetch \
        readinessChecks readinessCheckResults secrets portDefinitions residency gpus networks";
    for app in apps.as_array().unwrap() {
        only(app, app_keys);
        // The oldest command line looks these up in every app.
        for key in ["cmd", "args", "container", "healthChecks"] {
            assert!(app.get(key).is_some(), "{key} in {app}");
        }
        assert_eq!((&app["args"], &app["container"]), (&json!(null), &json!(null)));
        assert_eq!((&app["healthChecks"], &app["labels"]), (&json!([]), &json!({})));
        only(&app["versionInfo"], "lastScalingAt lastConfigChangeAt");
        let time = app["version"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        for task in app["tasks"].as_array().unwrap() {
            only(
                task,
                "appId healthCheckResults host id ports servicePorts slaveId stagedAt startedAt \
                 version ipAddresses state localVolumes region zone role",
            );
        }
    }
    let deployment = adapter.json("/v2/deployments")?[0].clone();
    only(
        &deployment,
        "id version affectedApps affectedPods steps currentActions currentStep totalSteps",
    );
    only(&deployment["currentActions"][0], "action app pod readinessCheckResults type");
    let item =
        wait_for("the queue", LIMIT, || Ok(adapter.json("/v2/queue")?["queue"].get(0).cloned()))?;
    only(&item, "app count delay since processedOffersSummary lastUnusedOffers");
    only(&item["delay"], "timeLeftSeconds overdue");
    let group = adapter.json("/v2/groups/group")?;
    only(&group, "id apps groups pods dependencies version");
    group["apps"].as_array().unwrap().iter().for_each(|app| only(app, app_keys));
    let info = adapter.json("/v2/info")?;
    only(
        &info,
        "name version buildref elected leader frameworkId marathon_config zookeeper_config \
         http_config event_subscriber",
    );
    let plain = [("accept", "text/plain")];
    let table = http::request(adapter.cluster.port(), "GET", "/v2/tasks", &plain, b"")?.text();
    let line = table.lines().find(|line| line.starts_with("group_a\t")).unwrap();
    assert_eq!(line.split('\t').filter(|cell| cell.contains(':')).count(), 2, "{table}");
    Ok(())
}

#[test]
fn events_have_the_wire_format_that_load_balancers_read() -> Result<()> {
    let adapter = Adapter::open()?;
    let port = adapter.cluster.port();
    let response = adapter.request("GET", "/v2/events", "")?;
    assert!(matches!(response.status, 405 | 406), "{response:?}");
    let all = http::Events::follow(port, "/v2/events")?;
    let light = http::Events::follow(
        port,
        "/v2/events?plan-format=light&event_type=deployment_info&event_type=api_post_event",
    )?;
    let attached = |events: &http::Events| Ok((!events.seen()?.is_empty()).then_some(()));
    wait_for("the first event", LIMIT, || attached(&all))?;
    assert_eq!(light.seen()?, [], "with a filter only what it names");
    adapter.sleeper("/a", 1)?;
    let info = |events: &http::Events| {
        let seen = events.seen()?;
        Ok(seen.into_iter().find(|(name, _)| name == "deployment_info").map(|(_, data)| data))
    };
    let (whole, short) =
        (wait_for("a plan", LIMIT, || info(&all))?, wait_for("a plan", LIMIT, || info(&light))?);
    assert_eq!(
        (&whole["plan"]["original"]["id"], &whole["plan"]["target"]["id"]),
        (&json!("/"), &json!("/"))
    );
    only(&short["plan"], "id version steps");
    let names: BTreeSet<_> = light.seen()?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["api_post_event", "deployment_info"].map(String::from).into());

    // Lines end as Jetty ends them, one line of data for each event comes after exactly `data: `,
    // and silence is broken.
    let text = all.text();
    assert!(!text.replace("\r\n", "").contains('\n'), "{text}");
    let lines = text.lines().filter(|line| line.starts_with("data"));
    assert!(lines.clone().all(|line| line.starts_with("data: {") && line.ends_with('}')), "{text}");
    assert_eq!(lines.count(), text.lines().filter(|line| line.starts_with("event: ")).count());
    let length = light.text().len();
    wait_for("a heartbeat", Duration::from_secs(20), || {
        let text = light.text();
        let beat = &text[length..];
        Ok((!beat.is_empty() && beat.chars().all(|c| "\r\n:".contains(c))).then_some(()))
    })
}
