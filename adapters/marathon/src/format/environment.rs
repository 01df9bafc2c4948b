//! The variables that Marathon sets in every task of an app, as far as they are the same for all.
//!
//! Those that differ from task to task (HOST, PORT0, …) are set by the agent.

use std::collections::BTreeMap;

use super::app::App;

/// Marathon leaves out labels that make a variable longer than this.
const VARIABLE_LEN_MAX: usize = 512;
const LABEL: &str = "MARATHON_APP_LABEL_";

/// What tasks are told of the disk that their app asks for.
pub(super) const DISK: &str = "MARATHON_APP_RESOURCE_DISK";

/// The app's environment: what it sets itself wins over what Marathon would.
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
        // Written as a JVM writes floating-point numbers: 32 is 32.0.
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

/// A label's name as part of a variable's: runs of other characters become one `_`.
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
