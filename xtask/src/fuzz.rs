//! `fuzz`: searches for inputs that violate an invariant of a parser or of a wire decoder.
//!
//! The invariants are functions in the package `fuzz`; `cargo xtask test` only replays its checked-in inputs. Here the same
//! functions run under libFuzzer, built by plain cargo: the passes of LLVM that count coverage are there in the stable
//! compiler too, so neither a nightly one nor `cargo fuzz` is needed. There is no address sanitizer, which requires
//! nightly: the code has no `unsafe`, and assertions and overflow checks are enabled.
//!
//! New inputs are kept in `target/fuzzing/TARGET/corpus`, where the next search starts; `--keep` copies the few inputs
//! with the largest coverage into the repository.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, Top, output};

/// The package with the laws, and the program that searches.
const PACKAGE: &str = "muster-fuzz";
const PROGRAM: &str = "search";
/// The checked-in inputs, a folder for each target.
const CORPUS: &str = "fuzz/corpus";
/// Count each edge, know each function, and trace the operands of comparisons.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longer inputs reach no further code.
const LEN_MAX: &str = "-max_len=2048";
/// No input of that length may take this long, or make a reader take this much memory.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];
/// Maximum number of kept inputs of a target, and of bytes of each.
const KEPT_MAX: usize = 40;
const KEPT_LEN_MAX: u64 = 512;
/// Maximum number of words in the dictionary of a target.
const WORDS_MAX: usize = 400;

const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz --list
  cargo xtask fuzz --minutes 10                 all targets, ten minutes in total
  cargo xtask fuzz --minutes 2 --only word --keep";

/// Search for inputs that break an invariant of a parser or of a wire decoder
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long to search, over all targets
    #[arg(long, value_name = "MINUTES", value_parser = minutes, required_unless_present_any = ["list", "keep"])]
    minutes: Option<f64>,
    /// Search in one target
    #[arg(long, value_name = "TARGET")]
    only: Option<String>,
    /// List the targets instead of searching
    #[arg(long)]
    list: bool,
    /// Copy the inputs that reach most of the code into fuzz/corpus
    #[arg(long)]
    keep: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|error| format!("{error}"))?;
    if minutes > 0.0 { Ok(minutes) } else { Err("must be greater than 0".to_owned()) }
}

/// The result of searching one target.
#[derive(Debug, Default, PartialEq)]
struct Row {
    target: String,
    executions: u64,
    per_second: u64,
    found_new: u64,
    findings: Vec<PathBuf>,
}

/// Lists the targets, or searches and keeps inputs.
pub(crate) fn run(top: &Top, args: &Args) -> Result<()> {
    let list = ["run", "--quiet", "--package", PACKAGE, "--", "--list"];
    let list = output(&mut top.cargo(&list))?;
    if args.list {
        println!("{list}");
        return Ok(());
    }
    let names = list.lines().filter_map(|line| line.split(' ').next());
    let names: Vec<&str> =
        names.filter(|name| args.only.as_deref().is_none_or(|only| only == *name)).collect();
    ensure!(!names.is_empty(), "there is no such target; --list names them");
    let program = build(top)?;
    let mut rows = Vec::new();
    if let Some(minutes) = args.minutes {
        let seconds = (minutes * 60.0 / names.len() as f64).ceil() as u64;
        for name in &names {
            println!("{name}: {seconds} s");
            rows.push(one(top, &program, name, seconds)?);
        }
        println!("\n{}", table(&rows));
    }
    if args.keep {
        names.iter().try_for_each(|name| keep_inputs(top, &program, name))?;
    }
    let findings: Vec<String> = rows
        .iter()
        .flat_map(|row| row.findings.iter().map(|finding| again(top, &row.target, finding)))
        .collect();
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} finding(s); to repeat them:\n{}", findings.join("\n")),
    }
}

/// The command that repeats a finding.
fn again(top: &Top, target: &str, input: &Path) -> String {
    let input = input.strip_prefix(top.path()).unwrap_or(input);
    format!("  cargo run -p {PACKAGE} -- {target} {}", input.display())
}

/// Builds the program that searches; it answers where that is.
fn build(top: &Top) -> Result<PathBuf> {
    let version = output(top.command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say which system it runs on")?;
    // With an explicit target, the flags do not apply to build scripts.
    let what = ["build", "--profile", "fuzz", "--package", PACKAGE, "--features", PROGRAM];
    let mut command = top.cargo(&what);
    command.args(["--bin", PROGRAM, "--target", host]).env("RUSTFLAGS", COVERAGE);
    shell::run(&mut command)?;
    Ok(top.built(host).join("fuzz").join(PROGRAM))
}

fn folder(top: &Top, target: &str) -> PathBuf {
    top.built("fuzzing").join(target)
}

/// The program that searches, to be started. libFuzzer does not ignore SIGPIPE as the runtime of Rust does: a target that
/// writes to a closed connection would end the search.
fn started(top: &Top, program: &Path) -> Command {
    let mut command = top.command("sh");
    command.args(["-c", r#"trap "" PIPE; exec "$0" "$@""#]).arg(program);
    command
}

/// Searches one target.
fn one(top: &Top, program: &Path, name: &str, seconds: u64) -> Result<Row> {
    let folder = folder(top, name);
    let (corpus, findings) = (folder.join("corpus"), folder.join("findings"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let known: BTreeSet<PathBuf> = files(&findings)?.into_iter().collect();
    let seeds = top.join(CORPUS).join(name);
    let words = folder.join("words");
    fs::write(&words, dictionary(&files(&seeds)?)?)?;
    let mut command = started(top, program);
    command
        .env("FUZZ_TARGET", name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(format!("-dict={}", words.display()))
        .args([LEN_MAX, "-print_final_stats=1", "-verbosity=0"])
        .args(LIMITS)
        .args([&corpus, &seeds]);
    let begun = Instant::now();
    let done = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    fs::write(folder.join("log"), &log)?;
    let mut row = Row { target: name.into(), ..read_stats(&log) };
    row.per_second = (row.executions as f64 / begun.elapsed().as_secs_f64()) as u64;
    row.findings = files(&findings)?.into_iter().filter(|file| !known.contains(file)).collect();
    if !done.status.success() {
        let panic = log.lines().skip_while(|line| !line.contains("panicked at"));
        panic.take(6).for_each(|line| println!("    {line}"));
        ensure!(!row.findings.is_empty(), "{name} ended with {}: {log}", done.status);
    }
    Ok(row)
}

/// Reads the final statistics of libFuzzer.
fn read_stats(log: &str) -> Row {
    let stat = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
    };
    Row {
        executions: stat("number_of_executed_units"),
        found_new: stat("new_units_added"),
        ..Row::default()
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["target", "executions", "exec/s", "new inputs", "findings"];
    let line = |cells: [&str; 5]| {
        let [target, executions, per_second, found_new, findings] = cells;
        format!("{target:<16} {executions:>11} {per_second:>8} {found_new:>11} {findings:>9}\n")
    };
    let mut text = line(head);
    for row in rows {
        let [executions, per_second, found_new, findings] =
            [row.executions, row.per_second, row.found_new, row.findings.len() as u64]
                .map(|number| number.to_string());
        text += &line([&row.target, &executions, &per_second, &found_new, &findings]);
    }
    text
}

/// The words of some inputs, as libFuzzer reads them: keys and values that no mutation would come upon by chance.
fn dictionary(inputs: &[PathBuf]) -> Result<String> {
    let mut words = BTreeSet::new();
    for input in inputs {
        let text = fs::read(input)?;
        let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        for word in
            text.split(|byte| !is_of_word(byte)).filter(|word| (2..24).contains(&word.len()))
        {
            words.insert(String::from_utf8_lossy(word).into_owned());
        }
    }
    Ok(words.iter().take(WORDS_MAX).map(|word| format!("\"{word}\"\n")).collect())
}

/// Takes those inputs into the repository that together reach most.
fn keep_inputs(top: &Top, program: &Path, name: &str) -> Result<()> {
    let folder = folder(top, name);
    let (corpus, seeds) = (folder.join("corpus"), top.join(CORPUS).join(name));
    let (merged, control) = (folder.join("merged"), folder.join("merge"));
    fs::create_dir_all(&corpus)?;
    for old in [&merged, &control] {
        if old.is_dir() {
            fs::remove_dir_all(old)?;
        } else if old.exists() {
            fs::remove_file(old)?;
        }
    }
    fs::create_dir_all(&merged)?;
    // Inputs with a name of their own were written by hand, and stay whatever they reach.
    let (by_hand, found): (Vec<_>, Vec<_>) = files(&seeds)?.into_iter().partition(|file| {
        !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOUND))
    });
    let mut command = started(top, program);
    command.env("FUZZ_TARGET", name).args(["-merge=1", "-verbosity=0"]);
    command.arg(format!("-merge_control_file={}", control.display()));
    // Inputs that break an invariant are left out; `one` reports findings.
    command.arg(format!("-artifact_prefix={}/left-out-", folder.display()));
    output(command.args(LIMITS).args([&merged, &corpus, &seeds]))?;
    let reached = read_merge(&fs::read_to_string(&control)?);
    let is_small = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() <= KEPT_LEN_MAX);
    let chosen = choose(&reached, |path| by_hand.contains(path), is_small);
    let chosen: Vec<Vec<u8>> = chosen.into_iter().map(fs::read).collect::<Result<_, _>>()?;
    for file in found {
        fs::remove_file(file)?;
    }
    for (index, input) in chosen.iter().enumerate() {
        fs::write(seeds.join(format!("{FOUND}{:02}", index + 1)), input)?;
    }
    println!("{name}: {} inputs by hand and {} found", by_hand.len(), chosen.len());
    Ok(())
}

/// The prefix of the names of found inputs.
const FOUND: &str = "found-";

/// Reads which file reaches which edges. The control file of a merge names the files, a line each, after two lines of
/// counts; then come lines such as `COV 3 17 29`: the fourth file reaches these.
fn read_merge(control: &str) -> Vec<(PathBuf, BTreeSet<u32>)> {
    let mut lines = control.lines();
    let count = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let mut reached: Vec<_> =
        lines.by_ref().skip(1).take(count).map(|path| (path.into(), BTreeSet::new())).collect();
    for line in lines {
        let mut words = line.split(' ');
        if words.next() == Some("COV")
            && let Some(index) = words.next().and_then(|index| index.parse::<usize>().ok())
            && let Some((_, edges)) = reached.get_mut(index)
        {
            edges.extend(words.filter_map(|edge| edge.parse::<u32>().ok()));
        }
    }
    reached
}

/// The few that reach most that those which are there anyway do not.
fn choose(
    reached: &[(PathBuf, BTreeSet<u32>)],
    is_there: impl Fn(&PathBuf) -> bool,
    is_small: impl Fn(&Path) -> bool,
) -> Vec<&Path> {
    // A merge notes edges only for the first file that reaches them, so every noted edge is new.
    let mut left: Vec<_> = reached
        .iter()
        .filter(|(path, edges)| !is_there(path) && !edges.is_empty() && is_small(path))
        .map(|(path, edges)| (edges.len(), path.as_path()))
        .collect();
    left.sort_by(|one, other| other.cmp(one));
    left.into_iter().take(KEPT_MAX).map(|(_, path)| path).collect()
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_libfuzzer_is_parsed() {
        let log =
            "INFO: x\nstat::number_of_executed_units: 1234\nstat::new_units_added:          7\n";
        let expected = Row { executions: 1234, found_new: 7, ..Row::default() };
        assert_eq!(read_stats(log), expected);
        assert_eq!(read_stats("killed"), Row::default());
    }

    #[test]
    fn the_inputs_with_the_most_coverage_are_kept() {
        let control = "3\n1\na\nb\nc\nSTARTED 0 2\nFT 0 1 2\nCOV 0 1\nCOV 1 2 3\nCOV 2 4 5 6\n";
        let reached = read_merge(control);
        assert_eq!(reached[2], ("c".into(), BTreeSet::from([4, 5, 6])));
        let is_there = |path: &PathBuf| path.ends_with("c");
        assert_eq!(choose(&reached, is_there, |_| true), [Path::new("b"), Path::new("a")]);
        let is_small = |path: &Path| path.ends_with("a");
        assert_eq!(choose(&reached, is_there, is_small), [Path::new("a")]);
    }
}
