//! `muster keeper`: the small process that keeps instances running when their agent ends. Only
//! agents start it. Its few arguments are parsed by hand: it lives as long as the instances, and
//! must not need the memory of a full command line parser.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::keeper::{self, Args};

use crate::exit::Exit;

/// Runs a keeper with the arguments that follow the verb.
pub(crate) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(args) = parse(words) else {
        eprintln!("usage: muster keeper --dir DIR [--ephemeral] (agents start it themselves)");
        return Exit::Usage.into();
    };
    match keeper::run(&args) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("{}", api::error_chain(&error));
            Exit::Failure.into()
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Args> {
    let (mut dir, mut ephemeral) = (None, false);
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--dir" => dir = Some(PathBuf::from(words.next()?)),
            "--ephemeral" => ephemeral = true,
            _ => return None,
        }
    }
    Some(Args { dir: dir?, ephemeral })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let check = |line: &str, expected: Option<(&str, bool)>| {
            let args = parse(line.split_whitespace().map(OsString::from));
            let expected = expected.map(|(dir, ephemeral)| Args { dir: dir.into(), ephemeral });
            assert_eq!(args, expected, "{line}");
        };
        check("--dir /x", Some(("/x", false)));
        check("--ephemeral --dir /x", Some(("/x", true)));
        check("--dir", None);
        check("", None);
        check("--dir /x --what", None);
    }
}
