//! The data plane: follows a table of routes.
//!
//! [`run`] is the daemon: it registers with a server, follows its stream of `RouteTable`s and
//! reports which one every new request follows and which leaving instances still have requests
//! under way. [`Proxy`] is the same without a server: it is handed tables directly.
//!
//! Inside, `table`, `core` and `balance` decide and touch nothing; `backend` and `client` are the
//! two sides of a request; `forward` is its way from one to the other; `worker` is one thread with
//! all that belongs to it; `proxy` starts them; `follow` talks with the server. The path of a
//! request takes no lock and shares nothing between threads.

mod alarm;
mod answer;
mod backend;
mod balance;
mod client;
mod core;
mod count;
mod follow;
mod forward;
mod listen;
mod proxy;
mod settings;
mod table;
mod tunnel;
mod worker;

pub use crate::core::{Core, Effect, Event, Standing};
pub use crate::count::RouteCounts;
pub use crate::follow::{Error, Options, run};
pub use crate::proxy::{Error as StartError, Proxy};
pub use crate::settings::Settings;
pub use crate::table::{Compiled, CompiledListener, CompiledRoute, RouteName};
