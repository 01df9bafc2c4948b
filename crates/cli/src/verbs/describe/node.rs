//! A node in full.

use api::{InstanceView, NodeView, path};
use model::NodeId;

use super::Session;
use crate::exit::Exit;
use crate::output::rows::{node_roles, node_state};
use crate::output::sheet::Sheet;
use crate::output::{Failure, age};
use crate::verbs::get;

pub(super) async fn show(session: &Session, id: &NodeId) -> Result<Exit, Failure> {
    let nodes: Vec<NodeView> = session.client.get(path::NODES).await?;
    let Some(view) = nodes.into_iter().find(|view| view.node.id == *id) else {
        return Err(get::not_found("node", id.as_str()));
    };
    if session.screen.is_for_programs() {
        session.screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let all: Vec<InstanceView> = session.client.get(path::INSTANCES).await?;
    let own: Vec<_> = all.into_iter().filter(|instance| instance.node == *id).collect();
    let node = &view.node;
    let (state, tone) = node_state(&view);
    let mut sheet = Sheet::new(&session.screen, 12);
    sheet.line("Node", id).toned("State", tone, state).line("Roles", node_roles(&view));
    if let Some(seen) = view.seen_at {
        sheet.line("Seen", format!("{} ago", age::since(seen, age::now())));
    }
    sheet.line("Address", &node.address);
    if let Some(capacity) = node.capacity {
        let (used, all) = (view.used, capacity);
        sheet
            .line("CPU", format!("{} of {} cores given out", used.cpu, all.cpu))
            .line("Memory", format!("{} of {} given out", used.memory, all.memory))
            .line("Ports", format!("{} to {}", node.ports.0, node.ports.1));
    }
    if !node.software.version.is_empty() {
        sheet.line("Agent", &node.software.version);
    }
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let capabilities: Vec<_> = node.capabilities.iter().cloned().collect();
    sheet.line("Capabilities", capabilities.join(", ")).line("Labels", labels.join(", "));
    match own.is_empty() {
        true => sheet.section("Instances", "none"),
        false => sheet.section("Instances", &session.screen.table(&own)),
    };
    session.screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}
