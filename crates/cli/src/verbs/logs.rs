//! `muster logs`: the output of instances.

use std::collections::BTreeSet;
use std::time::Duration;

use api::{Client, LogQuery, LogStream};
use bytes::Bytes;
use clap::ValueEnum;
use model::{InstanceId, ResourceId, ServiceId};
use tokio::sync::mpsc;

use super::{Session, get};
use crate::exit::Exit;
use crate::output::Failure;
use crate::output::screen::Screen;
use crate::output::tone::Tone;

const EXAMPLES: &str = "\
Examples:
  muster logs /shop/web                   of all its instances, each line with its instance
  muster logs -f --tail 20 /shop/web      the last lines, and what comes; new instances too
  muster logs /shop/web~0.1               of one instance
  muster logs --stream stderr /shop/web   only what goes to standard error
  muster logs --resource cache /shop/web  only of one resource of each instance's stack";

/// Show the output of instances
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// An instance such as /shop/web~0.1, or a service
    #[arg(value_name = "INSTANCE|SERVICE")]
    of: String,
    /// Only of this resource of the stack; by default of all, each line with its resource
    #[arg(long, value_name = "NAME")]
    resource: Option<ResourceId>,
    /// Continue with new output
    #[arg(short, long)]
    follow: bool,
    /// Only this number of the last lines of each instance
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Which of its outputs
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    stream: Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Stream {
    #[default]
    All,
    Stdout,
    Stderr,
}

impl Args {
    fn query(&self, instance: &InstanceId) -> LogQuery {
        LogQuery {
            instance: instance.clone(),
            resource: self.resource.clone(),
            stream: match self.stream {
                Stream::All => LogStream::All,
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            },
            tail: self.tail,
            follow: self.follow,
        }
    }
}

/// Runs the verb.
pub(crate) async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.of.contains('~') {
        let instance: InstanceId = args
            .of
            .parse()
            .map_err(|error: model::id::Error| Failure::new(Exit::Usage, error.to_string()))?;
        let mut lines = session.client.lines(&args.query(&instance).path()).await?;
        while let Some(line) = lines.next().await? {
            session.screen.bytes(&[&line, b"\n" as &[u8]].concat())?;
        }
        return Ok(Exit::Ok);
    }
    let service = get::parse_service(&args.of)?;
    match args.follow {
        true => follow(&args, &service, session).await,
        false => once(&args, &service, session).await,
    }
}

async fn once(args: &Args, service: &ServiceId, session: &Session) -> Result<Exit, Failure> {
    for view in get::instances_of(&session.client, service).await? {
        let mut lines = session.client.lines(&args.query(&view.instance).path()).await?;
        while let Some(line) = lines.next().await? {
            print(&session.screen, &view.instance, &line)?;
        }
    }
    Ok(Exit::Ok)
}

/// Follows all instances of a service, including later ones.
async fn follow(args: &Args, service: &ServiceId, session: &Session) -> Result<Exit, Failure> {
    const LOOK: Duration = Duration::from_secs(1);
    get::service(&session.client, service).await?;
    let (sender, mut lines) = mpsc::channel(256);
    let mut known: BTreeSet<InstanceId> = BTreeSet::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
                    _ = look.tick() => {
        // Output of agents is still printed while the server is unavailable.
                        let found = get::instances_of(&session.client, service).await.unwrap_or_default();
                        for view in found {
                            if known.insert(view.instance.clone()) {
                                let query = args.query(&view.instance);
                                tokio::spawn(relay(session.client.clone(), query, sender.clone()));
                            }
                        }
                    }
                    line = lines.recv() => match line {
                        Some(Line::Text(instance, line)) => print(&session.screen, &instance, &line)?,
                        // Look for it again: its agent may not have had it yet.
                        Some(Line::Lost(instance)) => drop(known.remove(&instance)),
                        None => return Ok(Exit::Ok),
                    }
                }
    }
}

enum Line {
    Text(InstanceId, Bytes),
    Lost(InstanceId),
}

async fn relay(client: Client, query: LogQuery, sender: mpsc::Sender<Line>) {
    let mut is_printed = false;
    if let Ok(mut lines) = client.lines(&query.path()).await {
        while let Ok(Some(line)) = lines.next().await {
            is_printed = true;
            if sender.send(Line::Text(query.instance.clone(), line)).await.is_err() {
                return;
            }
        }
    }
    if !is_printed {
        // Fails only if the receiver is dropped.
        let _ = sender.send(Line::Lost(query.instance)).await;
    }
}

fn print(screen: &Screen, instance: &InstanceId, line: &[u8]) -> Result<(), Failure> {
    const TONES: [Tone; 4] = [Tone::Good, Tone::Warn, Tone::Dim, Tone::Strong];
    let tone = TONES[instance.replica.slot as usize % TONES.len()];
    let name = format!("~{}.{} | ", instance.replica.slot, instance.replica.attempt);
    let name = screen.paint(tone, &name);
    screen.bytes(&[name.as_bytes(), line, b"\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_path() {
        let mut query = LogQuery {
            instance: "/shop/web~0.1".parse().unwrap(),
            resource: None,
            stream: LogStream::All,
            tail: None,
            follow: false,
        };
        assert_eq!(query.path(), "/v1/logs?instance=/shop/web~0.1");
        query.stream = LogStream::Stderr;
        query.tail = Some(5);
        query.follow = true;
        query.resource = Some("cache".parse().unwrap());
        assert_eq!(
            query.path(),
            "/v1/logs?instance=/shop/web~0.1&resource=cache&stream=stderr&tail=5&follow=true"
        );
    }
}
