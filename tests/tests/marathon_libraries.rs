//! Marathon's API as its published libraries use it: marathon-python makes an object of every
//! answer and event and fails on any key or event it does not know; marathon-node takes every
//! answer that is not a success for an error.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use anyhow::Result;
use muster_tests::{Cluster, node, python};
use serde_json::json;

fn program() -> Result<String> {
    Ok(Cluster::simpleservice()?.display().to_string())
}

#[test]
fn marathon_python_runs_the_life_cycle_of_an_app() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = python(&cluster, "apps.py", &[&program()?])?;
    assert_eq!(printed["info"]["name"], "marathon");
    // Created, upgraded, scaled four times.
    assert_eq!(printed["versions"].as_array().unwrap().len(), 6, "{printed}");
    Ok(())
}

#[test]
fn marathon_python_makes_changes_and_removes_groups() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = python(&cluster, "groups.py", &[])?;
    assert_eq!(printed["apps"], json!(["/shop/back/db", "/shop/cron", "/shop/web"]));
    Ok(())
}

#[test]
fn marathon_python_sees_why_a_deployment_waits_and_cancels_it() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = python(&cluster, "deployments.py", &[])?;
    let reasons = printed["reasons"].as_array().unwrap();
    assert!(reasons.contains(&json!("InsufficientCpus")), "{printed}");
    Ok(())
}

#[test]
fn marathon_python_understands_every_event_of_an_app() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = python(&cluster, "events.py", &[&program()?])?;
    let names: Vec<_> =
        printed.as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(names[0], "event_stream_attached", "{names:?}");
    for expected in [
        "api_post_event",
        "group_change_success",
        "deployment_info",
        "status_update_event",
        "add_health_check_event",
        "health_status_changed_event",
        "deployment_step_success",
        "deployment_success",
        "remove_health_check_event",
        "app_terminated_event",
    ] {
        assert!(names.contains(&expected), "no {expected} in {names:?}");
    }
    Ok(())
}

#[test]
fn marathon_node_runs_the_life_cycle_of_an_app_and_a_group() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let printed = node(&cluster, "walk.js", &[&program()?])?;
    let events = json!(["deployment_success", "event_stream_attached", "status_update_event"]);
    assert_eq!(printed, json!({ "groups": ["/node", "/shop"], "events": events }));
    Ok(())
}
