//! Documents from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use api::{Detail, Source};
use formats::Fault;

use crate::exit::Exit;
use crate::output::Failure;

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Where the documents are.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A file, a directory (its *.yaml, *.yml and *.json, in order of name, not those of
    /// directories in it), or - for standard input; may be given often
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
}

impl Files {
    /// Reads all of them, in the order given.
    pub(crate) fn read(&self) -> Result<Vec<Source>, Failure> {
        let mut sources = Vec::new();
        for path in &self.paths {
            if path.is_dir() {
                for file in directory(path)? {
                    sources.push(source(&file)?);
                }
            } else {
                sources.push(source(path)?);
            }
        }
        Ok(sources)
    }
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = path.display().to_string();
    let entries = std::fs::read_dir(path).map_err(|error| cannot_read(&name, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| cannot_read(&name, &error))?.path();
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if file.is_file() && ENDINGS.contains(&ending) {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = format!("no documents in {name}");
        return Err(Failure::new(Exit::Usage, message)
            .hint("files that end in .yaml, .yml or .json are read; directories in it are not"));
    }
    files.sort();
    Ok(files)
}

/// Reads one file, or standard input if it is called `-`.
pub(crate) fn source(path: &Path) -> Result<Source, Failure> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|error| cannot_read("standard input", &error))?;
        return Ok(Source { name: "-".into(), text });
    }
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| cannot_read(&name, &error))?;
    Ok(Source { name, text })
}

/// What is wrong with documents, as details of a failure.
pub(crate) fn details(faults: Vec<Fault>) -> Vec<Detail> {
    let details = faults.into_iter().map(|fault| Detail {
        source: Some(fault.source),
        line: Some(fault.line),
        column: Some(fault.column),
        key: Some(fault.key).filter(|key| !key.is_empty()),
        message: fault.message,
    });
    details.collect()
}

fn cannot_read(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("cannot read {name}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<String>, Failure> {
        let files = Files { paths: vec![path.into()] };
        Ok(files.read()?.into_iter().map(|source| source.text).collect())
    }

    #[test]
    fn directories_are_read_in_order_and_not_deeply() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), ("c.json", "c"), ("d.txt", "d")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::create_dir(dir.path().join("e.yaml")).unwrap();
        std::fs::write(dir.path().join("e.yaml/f.yaml"), "f").unwrap();
        assert_eq!(read(dir.path()).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn what_cannot_be_read_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("not-text.yaml"), [0xff, 0xfe]).unwrap();
        for path in [dir.path().join("missing.yaml"), dir.path().join("not-text.yaml")] {
            assert_eq!(read(&path).unwrap_err().exit, Exit::Usage);
        }
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(read(&dir.path().join("empty")).unwrap_err().exit, Exit::Usage);
    }
}
