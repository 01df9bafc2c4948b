//! `muster events`: past events, and new ones as they happen.

use std::time::{Duration, Instant};

use api::EventView;
use model::ServiceId;

use super::follow::is_passing;
use super::stream::Events;
use super::{Session, follow};
use crate::exit::Exit;
use crate::output::rows::event_tone;
use crate::output::screen::{Format, Screen};
use crate::output::tone::Tone;
use crate::output::{Failure, age};

const EXAMPLES: &str = "\
Examples:
  muster events                         what has happened
  muster events -f                      and what happens from now on
  muster events -f --service /shop/web  of one service
  muster events --after 1200 -o json    a JSON object a line, from a number on";

/// Show the events of the cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Continue with new events
    #[arg(short, long)]
    follow: bool,
    /// Only events that concern this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// Only events after the one with this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let service = args.service.as_ref();
    let mut events = Events::open(&session.client, args.after, service, args.follow).await?;
    loop {
        match events.next().await {
            Ok(Some(event)) => show(&session.screen, &event)?,
            Ok(None) if !args.follow => return Ok(Exit::Ok),
            // A server that restarts ends the stream; continue after the last number.
            Ok(None) => events = again(session, &events, service).await?,
            Err(failure) if args.follow && failure.exit == Exit::Unreachable => {
                events = again(session, &events, service).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn again(
    session: &Session,
    events: &Events,
    service: Option<&ServiceId>,
) -> Result<Events, Failure> {
    let since = Instant::now();
    loop {
        match Events::open(&session.client, events.last(), service, true).await {
            Ok(events) => return Ok(events),
            Err(error) if is_passing(&error) && since.elapsed() < follow::SILENCE_MAX => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn show(screen: &Screen, event: &EventView) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.line(serde_json::json!(event)),
        Format::Yaml => screen.line("---").and_then(|()| screen.document(event)),
        Format::Name => screen.line(event.number),
        Format::Table | Format::Wide => screen.line(line(screen, event)),
    }
}

/// Events arrive one by one, so columns have the usual width, and longer values exceed it.
fn line(screen: &Screen, event: &EventView) -> String {
    let model::Event { about, what, .. } = &event.event;
    let kind = screen.paint(event_tone(what), &format!("{:<20}", what.kind()));
    let when = match screen.format {
        Format::Wide => format!("{} #{}", event.event.at, event.number),
        _ if screen.is_terminal() => clock(event),
        _ => event.event.at.to_string(),
    };
    let when = screen.paint(Tone::Dim, &when);
    format!("{when}  {kind} {about:<24} {what}")
}

/// On a terminal, an age is clearer than a time of day in another time zone.
fn clock(event: &EventView) -> String {
    format!("{:>5} ago", age::since(event.event.at, age::now()))
}
