//! The adapter for Marathon's clients of a [`Cluster`], asked without any client.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_for};
use crate::http::{self, Response};

const LIMIT: Duration = Duration::from_secs(60);

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A cluster and its adapter.
pub struct Adapter {
    /// The cluster.
    pub cluster: Cluster,
}

impl Adapter {
    /// A cluster with one agent.
    pub fn open() -> Result<Adapter> {
        Ok(Adapter { cluster: Cluster::start(1)? })
    }

    /// A request as clients send it: with a body of JSON, unless it is empty.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        http::request(self.cluster.port(), method, path, &headers, body.as_bytes())
    }

    /// The response to a request that must succeed.
    pub fn json(&self, path: &str) -> Result<Value> {
        let response = self.request("GET", path, "")?;
        ensure!(response.status == 200, "{path}: {response:?}");
        response.json()
    }

    /// A change that must be accepted; waits until its deployment is over.
    pub fn done(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let response = self.request(method, path, &body.to_string())?;
        ensure!(matches!(response.status, 200 | 201), "{method} {path}: {response:?}");
        let deployment = response.header("marathon-deployment-id");
        let deployment = deployment.context("a change has a deployment")?.to_string();
        wait_for("the end of the deployment", LIMIT, || {
            let listed = self.json("/v2/deployments")?;
            let is_over = |item: &Value| item["id"] != deployment.as_str();
            Ok(list(&listed).iter().all(is_over).then_some(()))
        })?;
        response.json()
    }

    /// Creates an app that only sleeps, waits until it runs, and returns the response.
    pub fn sleeper(&self, id: &str, instances: u32) -> Result<Value> {
        let app = json!({
            "id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": instances,
        });
        let app = self.done("POST", "/v2/apps", app)?;
        self.running(id, instances as usize)?;
        Ok(app)
    }

    /// Waits until an app has this number of tasks, all running.
    pub fn running(&self, id: &str, count: usize) -> Result<Vec<Value>> {
        wait_for("tasks", LIMIT, || {
            let tasks = self.json(&format!("/v2/apps{id}/tasks"))?;
            let tasks = list(&tasks["tasks"]).to_vec();
            let all = tasks.iter().all(|task| task["state"] == "TASK_RUNNING");
            Ok((all && tasks.len() == count).then_some(tasks))
        })
    }

    /// Creates an app with a deployment that will not end; the name of that.
    pub fn stuck(&self, id: &str) -> Result<String> {
        self.sleeper(id, 1)?;
        let path = format!("/v2/apps{id}");
        let reply = self.request("PUT", &path, r#"{"cpus": 9999}"#)?.json()?;
        Ok(reply["deploymentId"].as_str().context("a change has a deployment")?.to_string())
    }
}
