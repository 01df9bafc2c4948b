//! The one list of exit codes, for help text, errors and outcomes.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Refused by the cluster, or failed.
    Failure = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// The documents are wrong.
    Documents = 3,
    /// No server answers.
    Unreachable = 4,
    /// There is no such thing.
    NotFound = 5,
    /// A deployment failed, was rolled back or was taken over by another one.
    Deployment = 6,
    /// Not done within the time given.
    TimedOut = 7,
}

impl Exit {
    const ALL: [Exit; 8] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Documents,
        Exit::Unreachable,
        Exit::NotFound,
        Exit::Deployment,
        Exit::TimedOut,
    ];

    /// Its meaning, for the help text.
    fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "done",
            Exit::Failure => "failed, or refused by the cluster",
            Exit::Usage => "the command line cannot be meant",
            Exit::Documents => "the documents are wrong; nothing was changed",
            Exit::Unreachable => "no server answers",
            Exit::NotFound => "there is no such thing",
            Exit::Deployment => "the deployment failed, was rolled back or was superseded",
            Exit::TimedOut => "not done within the time given; it goes on",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The part of the help text about exit codes.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {}  {}", exit as u8, exit.meaning());
    }
    text.push_str("\n`muster` alone shows how to get started.");
    text
}
