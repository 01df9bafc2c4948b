//! Named, timed steps that stop at the first failure.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::shell::Top;

/// One thing to check.
pub(crate) struct Step {
    /// The name for `--only`.
    pub(crate) name: &'static str,
    /// The condition that it checks, for the log.
    pub(crate) what: &'static str,
    /// The steps without which it cannot run alone.
    pub(crate) needs: &'static [&'static str],
    /// Does it.
    pub(crate) run: fn(&Top) -> Result<()>,
}

/// Accepts the names of the steps.
pub(crate) fn names(steps: &'static [Step]) -> PossibleValuesParser {
    steps.iter().map(|step| step.name).collect::<Vec<_>>().into()
}

/// Prints the steps.
pub(crate) fn list(steps: &[Step]) {
    for step in steps {
        println!("{:<12} {}", step.name, step.what);
    }
}

/// Runs all steps in order, or one of them with the steps that it needs.
///
/// The error of a failing step ends with the command that repeats just this step.
pub(crate) fn run(top: &Top, verb: &str, steps: &[Step], only: Option<&str>) -> Result<()> {
    let chosen: Vec<&Step> = match only {
        None => steps.iter().collect(),
        Some(name) => with_needs(steps, name)?,
    };
    let begun = Instant::now();
    let mut times = Vec::new();
    for step in chosen {
        println!("\n== {}: {}", step.name, step.what);
        let begun = Instant::now();
        let done = (step.run)(top);
        let took = begun.elapsed();
        times.push((step.name, took));
        if let Err(error) = done {
            println!("== {}: FAILED after {}", step.name, seconds(took));
            let again = format!(
                "step `{0}` failed; to repeat it alone: cargo xtask {verb} --only {0}",
                step.name
            );
            return Err(error).context(again);
        }
        println!("== {}: ok after {}", step.name, seconds(took));
    }
    println!();
    for (name, took) in &times {
        println!("   {name:<12} {:>9}", seconds(*took));
    }
    println!("== {verb}: {} step(s) ok after {}", times.len(), seconds(begun.elapsed()));
    Ok(())
}

fn with_needs<'a>(steps: &'a [Step], name: &str) -> Result<Vec<&'a Step>> {
    let Some(wanted) = steps.iter().find(|step| step.name == name) else {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        bail!("there is no step `{name}`; there are {}", names.join(", "));
    };
    Ok(steps.iter().filter(|step| step.name == name || wanted.needs.contains(&step.name)).collect())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step { name: "build", what: "", needs: &[], run: |_| Ok(()) },
        Step { name: "lint", what: "", needs: &[], run: |_| bail!("one warning") },
        Step { name: "acceptance", what: "", needs: &["build"], run: |_| Ok(()) },
    ];

    #[test]
    fn a_step_runs_after_its_prerequisites() {
        let names = |name| {
            with_needs(STEPS, name).map(|steps| steps.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names("acceptance").unwrap(), ["build", "acceptance"]);
        assert_eq!(names("lint").unwrap(), ["lint"]);
        assert_eq!(
            names("all").unwrap_err().to_string(),
            "there is no step `all`; there are build, lint, acceptance"
        );
    }

    #[test]
    fn a_failure_prints_the_command_that_repeats_it() {
        let error = run(&Top::find(), "test", STEPS, None).unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(
            text,
            "step `lint` failed; to repeat it alone: cargo xtask test --only lint: one warning"
        );
    }
}
