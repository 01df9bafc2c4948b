//! The progress of deployments: a bar for each service on a terminal, otherwise a line for each
//! change. Written to standard error, so that standard output has only results.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use api::{DeploymentView, MoveView};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::{DeploymentId, Laggard, Move, MoveState, NotServing, ServiceId, Stage, Wait};

use super::age;

/// Shows the progress of deployments.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Bars { all: MultiProgress, bars: BTreeMap<(DeploymentId, ServiceId), ProgressBar> },
    Lines { printed: BTreeMap<(DeploymentId, ServiceId), PrintedLines> },
    Nothing,
}

/// The lines printed for a service. A program that exits repeatedly cycles through the same few
/// states; each is printed once per step of progress.
#[derive(Debug, Default)]
struct PrintedLines {
    /// The last step of progress.
    step: String,
    /// The lines printed since then, without delays.
    texts: BTreeSet<String>,
}

impl PrintedLines {
    /// Whether the line is new in this step.
    fn is_new(&mut self, step: String, text: String) -> bool {
        if self.step != step {
            *self = PrintedLines { step, texts: BTreeSet::new() };
        }
        self.texts.insert(text)
    }
}

impl Progress {
    /// Bars on a terminal, lines elsewhere.
    pub(crate) fn new() -> Progress {
        let mode = match io::stderr().is_terminal() {
            true => Mode::Bars { all: MultiProgress::new(), bars: BTreeMap::new() },
            false => Mode::Lines { printed: BTreeMap::new() },
        };
        Progress { mode }
    }

    /// Shows nothing, for output that programs read.
    pub(crate) fn hidden() -> Progress {
        Progress { mode: Mode::Nothing }
    }

    /// Shows the present state.
    pub(crate) fn show(&mut self, view: &DeploymentView) {
        let deployment = &view.deployment;
        for (index, progress) in view.moves.iter().enumerate() {
            let key = (deployment.id, progress.service.clone());
            let one = deployment.moves.get(index);
            let state = one.map(|one| one.state);
            let text = words(progress, one, &deployment.stage);
            match &mut self.mode {
                Mode::Nothing => {}
                Mode::Lines { printed } => {
                    let MoveView { wanted, ready, outgoing, .. } = progress;
                    let stage = deployment.stage.word();
                    let step = format!("{stage} {state:?} {ready}/{wanted} {outgoing}");
                    let (id, service) = (key.0, key.1.clone());
                    // Delays grow from one start to the next, so they do not make a line new.
                    let gist = words(&without_delays(progress), one, &deployment.stage);
                    if printed.entry(key).or_default().is_new(step, gist) {
                        // Following continues without a terminal.
                        let _ = writeln!(io::stderr(), "{id} {service}: {text}");
                    }
                }
                Mode::Bars { all, bars } => {
                    let bar = bars.entry(key).or_insert_with(|| add_bar(all, progress));
                    bar.set_length(progress.wanted.max(1).into());
                    bar.set_position(position(progress).into());
                    let countdown = match deployment.stage {
                        Stage::Running => countdown(progress),
                        _ => String::new(),
                    };
                    bar.set_message(format!("{text}{countdown}"));
                }
            }
        }
    }

    /// Prints a line that concerns no single service, above the bars.
    pub(crate) fn print_line(&self, text: &str) {
        match &self.mode {
            Mode::Bars { all, .. } => drop(all.println(text)),
            Mode::Lines { .. } => drop(writeln!(io::stderr(), "{text}")),
            Mode::Nothing => {}
        }
    }

    /// Leaves the bars as they are; later output is printed below.
    pub(crate) fn finish(self) {
        if let Mode::Bars { bars, .. } = self.mode {
            bars.into_values().for_each(|bar| bar.abandon());
        }
    }
}

fn add_bar(all: &MultiProgress, progress: &MoveView) -> ProgressBar {
    let bar = all.add(ProgressBar::new(progress.wanted.into()));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {bar:24}  {msg}") {
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏░").tick_chars("⠁⠂⠄⡀⢀⠠⠐⠈ "));
    }
    bar.set_prefix(progress.service.to_string());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The filled part of a bar. A service that is being removed fills none until it is gone.
fn position(progress: &MoveView) -> u32 {
    match progress.wanted {
        0 => u32::from(progress.outgoing == 0),
        wanted => progress.ready.min(wanted),
    }
}

/// The last half minute before a rollback is announced. Only on bars: lines
/// are printed on changes, not each second.
fn countdown(progress: &MoveView) -> String {
    match progress.deadline_in.filter(|left| left.0 < 30_000) {
        Some(left) => format!(", fails in {}", age::span(left)),
        None => String::new(),
    }
}

fn without_delays(progress: &MoveView) -> MoveView {
    let mut progress = progress.clone();
    for wait in &mut progress.waits {
        if let Wait::Ready { next: Some(next), .. } = &mut wait.wait
            && let NotServing::NotRunning { retry_after, .. } = &mut next.why
        {
            *retry_after = None;
        }
    }
    progress
}

/// The progress of a move in one line.
fn words(progress: &MoveView, one: Option<&Move>, stage: &Stage) -> String {
    let tail = tail(progress, one, stage);
    match stage {
        Stage::Running => tail,
        _ => format!("{}: {tail}", stage.word()),
    }
}

fn tail(progress: &MoveView, one: Option<&Move>, stage: &Stage) -> String {
    let mut parts = vec![match progress.wanted {
        0 if one.is_none_or(|one| one.to.is_none()) => "removing".into(),
        0 => "stopping".into(),
        wanted => format!("{}/{wanted} ready", progress.ready),
    }];
    if progress.outgoing > 0 {
        parts.push(format!("{} old", progress.outgoing));
    }
    match one.map(|one| one.state) {
        Some(MoveState::Superseded) => parts.push("taken over by a newer deployment".into()),
        Some(MoveState::Done) => parts.push("done".into()),
        Some(MoveState::Abandoned) => parts.push("given up".into()),
        _ if stage.is_over() => {}
        _ => {
            parts.extend(progress.waits.iter().map(|wait| match &wait.wait {
                // The number of ready instances is already shown.
                Wait::Ready { next: Some(next), .. } => with_logs(next),
                _ => wait.message.clone(),
            }));
        }
    }
    parts.join(", ")
}

/// If an instance's program has exited, its output explains more: suggest `muster logs`.
fn with_logs(next: &Laggard) -> String {
    match next.why {
        NotServing::NotRunning { failures: 1.., .. } => {
            format!("{next}; see: muster logs {}", next.instance)
        }
        _ => next.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::WaitView;
    use model::{Millis, Phase};

    fn progress(wanted: u32, ready: u32, outgoing: u32) -> MoveView {
        let service: ServiceId = "/shop/web".parse().unwrap();
        let wait = Wait::Budget { live: 5, max: 5 };
        let waits = vec![WaitView { service: service.clone(), message: "no room".into(), wait }];
        MoveView { service, wanted, ready, outgoing, deadline_in: Some(Millis::secs(42)), waits }
    }

    #[test]
    fn a_move_is_described_in_one_line() {
        let check = |progress: MoveView, state, stage, expected: &str| {
            let from = Some(1);
            let one = Move {
                service: progress.service.clone(),
                from,
                aimed: from,
                to: from.filter(|_| progress.wanted > 0),
                run: None,
                state,
                ready: 0,
                progressed_at: None,
                failure: None,
            };
            assert_eq!(words(&progress, Some(&one), &stage), expected);
        };
        check(progress(4, 1, 4), MoveState::Moving, Stage::Running, "1/4 ready, 4 old, no room");
        check(progress(4, 4, 0), MoveState::Done, Stage::Running, "4/4 ready, done");
        check(
            progress(0, 0, 2),
            MoveState::Moving,
            Stage::Paused,
            "paused: removing, 2 old, no room",
        );
    }

    fn laggard(failures: u32, detail: Option<&str>, retry_after: Option<Millis>) -> Laggard {
        let detail = detail.map(String::from);
        let phase = Phase::Starting;
        let why = NotServing::NotRunning { phase, failures, detail, retry_after };
        Laggard { instance: "/web~0.1".parse().unwrap(), node: "n1".parse().unwrap(), why }
    }

    #[test]
    fn a_line_is_printed_once_for_each_step_of_progress() {
        let mut printed = PrintedLines::default();
        let mut is_new = |step: &str, text: &str| printed.is_new(step.into(), text.into());
        assert!(is_new("0/1", "it is starting"));
        assert!(is_new("0/1", "exit code 1"));
        assert!(!is_new("0/1", "it is starting"));
        assert!(is_new("1/1", "done"));
        assert!(is_new("0/1", "it is starting"), "it fell back");
    }

    #[test]
    fn a_longer_delay_alone_makes_no_line_new() {
        let waiting = |cause: &str, delay| {
            let next = Some(Box::new(laggard(1, Some(cause), Some(Millis::secs(delay)))));
            let mut view = progress(1, 0, 0);
            view.waits[0].wait = Wait::Ready { ready: 0, wanted: 1, next };
            view
        };
        let line = |view: &MoveView| words(view, None, &Stage::Running);
        let (first, second) = (waiting("exit code 1", 1), waiting("exit code 1", 2));
        assert_ne!(line(&first), line(&second));
        assert_eq!(line(&without_delays(&first)), line(&without_delays(&second)));
        let other = waiting("exit code 2", 2);
        assert_ne!(line(&without_delays(&second)), line(&without_delays(&other)));
    }

    #[test]
    fn a_failed_program_is_shown_with_its_log_command() {
        let starting = "/web~0.1 on n1: it is starting";
        assert_eq!(with_logs(&laggard(0, None, None)), starting);
        assert_eq!(
            with_logs(&laggard(1, None, None)),
            format!("{starting}; see: muster logs /web~0.1")
        );
    }

    #[test]
    fn a_removed_service_is_complete_once_its_instances_are_gone() {
        assert_eq!((position(&progress(0, 0, 2)), position(&progress(0, 0, 0))), (0, 1));
        assert_eq!(position(&progress(2, 4, 0)), 2);
    }
}
