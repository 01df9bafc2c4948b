//! The data plane: follows a `RouteTable` and forwards requests to backends.
//!
//! [`run`] is the daemon: it registers with a server, follows the server's stream of tables, and
//! reports which generation all new requests follow and which removed instances still have requests
//! in flight. [`Proxy`] is the same without a server: its owner passes tables to it.
//!
//! Read the modules in this order. `core`, `table`, `balance` and `retry` decide and do no IO.
//! `backend` is the side of the backends; `tables` holds a thread's table with the state of its
//! backends. `worker` combines that with the thread's `clients` and `listeners`. `forward` carries
//! one request from `client` to `backend`. `accept` takes connections, `thread` runs one worker,
//! `proxy` starts the threads and watches their `progress`, and `follow` connects the proxy with a
//! server. Requests take no lock and threads share no state.

mod accept;
mod backend;
mod balance;
mod client;
mod clients;
mod core;
mod error_response;
mod follow;
mod forward;
mod forwarded;
mod listeners;
mod ports;
mod progress;
mod proxy;
mod request;
mod retry;
mod settings;
mod table;
mod tables;
mod thread;
mod timer;
mod tunnel;
mod worker;

pub use crate::core::{Core, Effect, Event, GatewayState};
pub use crate::follow::{Error, Options, run};
pub use crate::proxy::{Error as StartError, Proxy};
pub use crate::settings::Settings;
pub use crate::table::{Compiled, CompiledListener, CompiledRoute};
