//! Runs inputs through a target: `cargo run -p muster-fuzz -- TARGET FILE...`. With `--list`, names the targets.
//!
//! It repeats a finding of `cargo xtask fuzz`, with a backtrace where one is asked for.

use std::process::ExitCode;

use muster_fuzz::{TARGETS, target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [list] if list == "--list" => {
            TARGETS.iter().for_each(|target| println!("{:<16} {}", target.name, target.what));
            ExitCode::SUCCESS
        }
        [name, files @ ..] if !files.is_empty() => {
            let Some(target) = target(name) else {
                eprintln!("error: there is no target `{name}`; `--list` names them");
                return ExitCode::FAILURE;
            };
            for file in files {
                match std::fs::read(file) {
                    Ok(input) => (target.run)(&input),
                    Err(error) => {
                        eprintln!("error: cannot read {file}: {error}");
                        return ExitCode::FAILURE;
                    }
                }
                println!("{file}: every law holds");
            }
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "Usage: cargo run -p muster-fuzz -- TARGET FILE...\n       cargo run -p muster-fuzz -- --list"
            );
            ExitCode::from(2)
        }
    }
}
