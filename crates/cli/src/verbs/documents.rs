//! Documents from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use api::{Detail, Source};
use formats::Diagnostic;

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
    /// Reads all sources, in the given order.
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

/// Reads one file, or standard input if the path is `-`.
pub(crate) fn source(path: &Path) -> Result<Source, Failure> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| cannot_read("standard input", &error))?;
        return text("-".into(), bytes);
    }
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| cannot_read(&name, &error))?;
    text(name, bytes)
}

/// Decodes the bytes of a source. Documents must be UTF-8.
fn text(name: String, bytes: Vec<u8>) -> Result<Source, Failure> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(Source { name, text }),
        Err(error) => error,
    };
    let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
    let line = good.matches('\n').count() + 1;
    let column = good.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let diagnostic = Detail {
        source: Some(name.clone()),
        line: Some(line),
        column: Some(column),
        key: None,
        message: "these bytes are not UTF-8: save the file as UTF-8 text".into(),
    };
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    Err(Failure::new(Exit::Documents, "the documents are invalid")
        .with_sources(&[Source { name, text }])
        .with_details(vec![diagnostic]))
}

/// The diagnostics of documents, as details of a failure.
pub(crate) fn details(diagnostics: Vec<Diagnostic>) -> Vec<Detail> {
    let details = diagnostics.into_iter().map(|diagnostic| Detail {
        source: Some(diagnostic.source),
        line: Some(diagnostic.line),
        column: Some(diagnostic.column),
        key: Some(diagnostic.key).filter(|key| !key.is_empty()),
        message: diagnostic.message,
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
    fn directories_are_read_in_order_without_subdirectories() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), ("c.json", "c"), ("d.txt", "d")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::create_dir(dir.path().join("e.yaml")).unwrap();
        std::fs::write(dir.path().join("e.yaml/f.yaml"), "f").unwrap();
        assert_eq!(read(dir.path()).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_unreadable_file_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("missing.yaml")).unwrap_err().exit, Exit::Usage);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(read(&dir.path().join("empty")).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn invalid_utf8_is_reported_at_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yaml");
        std::fs::write(&path, b"service: /a\nenv: { NAME: J\xfcrgen }\n").unwrap();
        let failure = read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Documents);
        let shown = failure.render(false, 80);
        assert!(shown.contains("web.yaml:2:15") && shown.contains("not UTF-8"), "{shown}");
    }
}
