//! The variables that Marathon sets in every task of an app, if their value is the same for all
//! tasks.
//!
//! The agent and `view::environment` set those that differ between tasks (HOST, PORT0, …).

use std::collections::BTreeMap;

use super::app::App;

/// Limit in bytes on the name and on the value of a label's variable. As in Marathon, a label that
/// reaches it is omitted.
const VARIABLE_LEN_MAX: usize = 512;
const LABEL: &str = "MARATHON_APP_LABEL_";

/// The variable with the requested disk in MiB.
pub(super) const DISK: &str = "MARATHON_APP_RESOURCE_DISK";

/// The environment of the tasks of an app. The app's own variables override Marathon's.
pub(super) fn environment(app: &App) -> BTreeMap<String, String> {
    let labels: BTreeMap<String, &String> = app
        .labels
        .iter()
        .filter(|(name, value)| {
            name.len() < VARIABLE_LEN_MAX - LABEL.len() && value.len() < VARIABLE_LEN_MAX
        })
        .map(|(name, value)| (variable(name), value))
        .collect();
    let names: Vec<&str> = labels.keys().map(String::as_str).collect();
    let mut env = BTreeMap::from([
        ("MARATHON_APP_ID".to_string(), app.id.to_string()),
        ("MARATHON_APP_LABELS".to_string(), names.join(" ")),
        // In the format of the JVM for floating-point numbers: 32 is 32.0.
        ("MARATHON_APP_RESOURCE_CPUS".to_string(), format!("{:?}", app.cpus.0)),
        ("MARATHON_APP_RESOURCE_MEM".to_string(), format!("{:?}", app.mem.0)),
        (DISK.to_string(), format!("{:?}", app.disk.0)),
        ("MARATHON_APP_RESOURCE_GPUS".to_string(), app.gpus.to_string()),
    ]);
    if let Some(docker) = app.container.as_ref().and_then(|container| container.docker.as_ref()) {
        env.insert("MARATHON_APP_DOCKER_IMAGE".into(), docker.image.clone());
    }
    env.extend(labels.into_iter().map(|(name, value)| (format!("{LABEL}{name}"), value.clone())));
    env.extend(app.env.clone());
    env
}

/// A label's name as part of the name of a variable: each run of other characters becomes one `_`.
fn variable(label: &str) -> String {
    let mut name = String::with_capacity(label.len());
    for c in label.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c.to_ascii_uppercase());
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name
}
