//! The adapters of this program: the one place that names them.

use std::sync::Arc;

use formats::Dialect;
use marathon::Marathon;
use server::adapter::{Adapter, Adapters};

/// The documents that are read besides native ones.
pub(crate) const DIALECTS: &[&dyn Dialect] = &[&marathon::format::Apps];

/// The adapters that a server is started with.
pub(crate) fn all() -> Adapters {
    let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
    Adapters::from_iter([marathon])
}
