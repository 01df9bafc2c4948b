//! Acceptance: the real binary, several processes, real engines. The tests are in `tests/`; here
//! is their shared part: a [`Cluster`] of real daemons in a directory of its own, a [`Load`] that
//! hammers a gateway and counts everything that is not a good answer, the published clients of
//! foreign APIs ([`Dcos`], [`python`], [`node`]), and plain [`http`].
//!
//! Nothing here sleeps to let something happen: tests wait for conditions, with a deadline that
//! is only reached when something is broken.

mod adapter;
mod clients;
mod cluster;
pub mod http;
mod load;
mod ports;

pub use adapter::Adapter;
pub use clients::{DCOS, Dcos, Following, Table, node, python};
pub use cluster::{Cluster, Daemon, Run, wait_for};
pub use load::{Load, Seen, get};
pub use ports::free_port;

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

/// An app of the zero-downtime lab, such as `base-health`, with a version of its service.
pub fn lab(name: &str, version: &str) -> Result<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/marathon");
    let text = std::fs::read_to_string(folder.join(name).with_extension("json"))?;
    let mut app: Value = serde_json::from_str(&text)?;
    app["env"]["SIMPLE_SERVICE_VERSION"] = version.into();
    Ok(app)
}

/// The example service as a document: a health check every 200 ms, a gateway on `port`.
pub fn documents(version: &str, instances: u32, port: u16, more: &str) -> Result<String> {
    let program = Cluster::simpleservice()?;
    let program = program.display();
    Ok(format!(
        "service: /shop/web\n\
         instances: {instances}\n\
         process: {{ command: [\"{program}\"] }}\n\
         resources: {{ cpu: 0.1, memory: 64MiB }}\n\
         ports: [{{ name: http }}]\n\
         env: {{ SIMPLE_SERVICE_VERSION: \"{version}\", LOG_REQUESTS: \"0\" }}\n\
         health:\n\
         - probe: {{ http: {{ path: /health, port: http }} }}\n  \
           interval: 200ms\n\
         {more}\n\
         ---\n\
         gateway: public\n\
         listen: 127.0.0.1:{port}\n\
         routes: [{{ to: \"/shop/web:http\" }}]\n"
    ))
}
