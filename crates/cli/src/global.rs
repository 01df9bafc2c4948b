//! The options that every verb has.

use crate::output::screen::{ColorWhen, Format};

/// The options of every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The server to talk to; by default MUSTER_SERVER, if set
    #[arg(long, global = true, value_name = "URL", default_value_t = server())]
    pub(crate) server: String,
    /// The output format: table, wide (more columns), json or yaml (the documents of the API),
    /// name (one a line)
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORM"
    )]
    pub(crate) output: Format,
    /// When to use colour: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "WHEN"
    )]
    pub(crate) color: ColorWhen,
    /// Log more to standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The default server. Read here and not by clap, whose usage line would show an option that the
/// environment sets as a required one.
fn server() -> String {
    let named = std::env::var("MUSTER_SERVER").ok().filter(|url| !url.is_empty());
    named.unwrap_or_else(|| "http://127.0.0.1:4040".into())
}
