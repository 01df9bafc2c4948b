//! `simpleservice`: a small HTTP service to try deployments with.
//!
//! It has the endpoints and the environment variables of the service of the same name that the zero-downtime lab
//! deploys, so that the lab's files run unchanged. It promises that a SIGTERM costs no client a request: it stops
//! accepting, answers whatever was already sent, closes its connections and exits 0, also as process 1 of a container.
//! It never writes to disk and keeps nothing between runs.
//!
//! Read [`settings`] for the environment variables, [`responder`] for the endpoints, [`serving`] for the way it stops.

mod delay;
mod responder;
mod serving;
mod settings;

use std::process::ExitCode;

use settings::Settings;

/// The environment says something that cannot be meant; the same code as for wrong arguments elsewhere.
const EXIT_BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let settings = match Settings::read(|name| std::env::var_os(name)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("simpleservice: {error}");
            return ExitCode::from(EXIT_BAD_SETTINGS);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serving::serve(settings)),
        Err(error) => Err(serving::Error::Runtime(error)),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simpleservice: {error}");
            ExitCode::FAILURE
        }
    }
}
