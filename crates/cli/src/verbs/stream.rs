//! The stream of events: the server-sent events of the API, one document each.

use api::{Client, EventView, Lines, path};
use model::ServiceId;

use crate::exit::Exit;
use crate::output::Failure;

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    lines: Lines,
    last: Option<u64>,
}

impl Events {
    /// Opens a stream of events after a number, of one service if given. It continues with new
    /// events.
    pub(crate) async fn open(
        client: &Client,
        after: Option<u64>,
        service: Option<&ServiceId>,
        follow: bool,
    ) -> Result<Events, api::Error> {
        let after_pair = after.map(|after| ("after", after.to_string()));
        let service = service.map(|service| ("service", service.to_string()));
        let follow = follow.then(|| ("follow", "true".to_string()));
        let pairs = after_pair.into_iter().chain(service).chain(follow);
        let lines = client.follow(&path::query(path::EVENTS, pairs)).await?;
        Ok(Events { lines, last: after })
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<EventView>, Failure> {
        while let Some(line) = self.lines.next().await? {
            if let Some(event) = parse(&line)? {
                self.last = Some(event.number);
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The number of the last event, from which to continue after a broken connection.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }
}

/// Parses the event of a line. Other lines contain names, numbers and keep-alives.
fn parse(line: &[u8]) -> Result<Option<EventView>, Failure> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(data) = line.strip_prefix(b"data:") else { return Ok(None) };
    serde_json::from_slice(data).map(Some).map_err(|error| {
        Failure::new(Exit::Failure, "the server sent an event that this version cannot read")
            .because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_lines_are_events() {
        let data = br#"data: {"number":3,"at":"2026-11-21T10:00:00Z","kind":"placed","subject":"/a~0.1","message":"on n1"}"#;
        assert_eq!(parse(data).unwrap().unwrap().number, 3);
        assert!(parse(b": alive\r").unwrap().is_none());
        assert!(parse(b"id: 3").unwrap().is_none());
        assert!(parse(b"data: {").is_err());
    }
}
