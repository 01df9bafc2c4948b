//! `muster schema`: the JSON Schema of the documents, for editors.

use crate::exit::Exit;
use crate::output::{Failure, Screen};

const EXAMPLES: &str = "\
Examples:
  muster schema > muster.schema.json
  # yaml-language-server: $schema=./muster.schema.json   as a document's first line, and
  editors complete keys and mark mistakes";

/// Print the JSON Schema of the documents
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: Args, screen: Screen) -> Result<Exit, Failure> {
    screen.document(&formats::schema())?;
    Ok(Exit::Ok)
}
