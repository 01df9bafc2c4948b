//! A gateway document in full.

use api::{GatewayView, path};
use model::GatewayId;

use super::Session;
use crate::exit::Exit;
use crate::output::sheet::Sheet;
use crate::output::tone::Tone;
use crate::output::{Failure, table};
use crate::verbs::get;

pub(super) async fn show(session: &Session, id: &GatewayId) -> Result<Exit, Failure> {
    let all: Vec<GatewayView> = session.client.get(path::GATEWAYS).await?;
    let Some(view) = all.into_iter().find(|view| view.gateway.gateway == *id) else {
        return Err(get::not_found("gateway", id.as_str()));
    };
    if session.screen.is_for_programs() {
        session.screen.document(&view)?;
        return Ok(Exit::Ok);
    }
    let nodes: Vec<_> = view.followed_by.iter().map(|node| node.as_str()).collect();
    let mut sheet = Sheet::new(&session.screen, 11);
    sheet.line("Gateway", id).line("Listens on", view.gateway.listen);
    if !view.gateway.trust.is_empty() {
        let trust: Vec<_> = view.gateway.trust.iter().map(ToString::to_string).collect();
        sheet.line("Trusts", trust.join(", "));
    }
    match nodes.is_empty() {
        true => {
            sheet.toned("Followed by", Tone::Bad, "no gateway: start one with `muster gateway`")
        }
        false => sheet.line("Followed by", nodes.join(", ")),
    };
    for (node, reason) in &view.failed {
        sheet.toned("Failed", Tone::Bad, format!("{node}: {reason}"));
    }
    for (node, thread, task) in &view.stuck {
        let text = format!("{node}: thread {thread} is stuck in {task}");
        sheet.toned("Stuck", Tone::Bad, text);
    }
    for route in &view.routes {
        let hosts: Vec<_> = route.hosts.iter().map(String::as_str).collect();
        let hosts = if hosts.is_empty() { "every host".to_string() } else { hosts.join(", ") };
        let title = format!("{hosts}{} → {}", spaced(&route.path), route.service);
        let rows = route
            .backends
            .iter()
            .map(|backend| vec![table::plain(&backend.instance), table::plain(&backend.address)]);
        let body = match (&route.empty_because, route.backends.is_empty()) {
            (Some(reason), _) => format!("no backend: {reason}"),
            (None, true) => "no backend".into(),
            (None, false) => table::align(&["INSTANCE", "ADDRESS"], rows, false),
        };
        sheet.section(&title, &body);
    }
    session.screen.line(sheet.finish())?;
    Ok(Exit::Ok)
}

fn spaced(path: &str) -> String {
    if path == "/" { String::new() } else { format!(" {path}") }
}
