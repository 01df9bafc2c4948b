//! The adapters of this program: the one place that names them.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use formats::Dialect;
use marathon::Marathon;
use server::adapter::{Adapter, Adapters, Mount, NoMount};

use crate::exit::Exit;
use crate::output::Failure;

/// The formats of foreign documents.
pub(crate) const DIALECTS: &[&dyn Dialect] = &[&marathon::format::Apps];

/// The options of adapters.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Mounts {
    /// Where to mount an adapter instead of its defaults: an address and port of its own
    /// (marathon=127.0.0.1:8080) or a path (marathon=/marathon; / for its original paths); may be
    /// repeated
    #[arg(long = "adapter", value_name = "NAME=PLACE")]
    adapters: Vec<At>,
}

/// An adapter and one of its mounts.
#[derive(Debug, Clone)]
struct At {
    adapter: String,
    mount: Mount,
}

/// Why the value of `--adapter` is rejected.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("expected NAME=PLACE, such as marathon=127.0.0.1:8080")]
    NoPlace,
    #[error(transparent)]
    Mount(#[from] NoMount),
}

impl FromStr for At {
    type Err = Error;

    fn from_str(text: &str) -> Result<At, Error> {
        let (adapter, mount) = text.split_once('=').ok_or(Error::NoPlace)?;
        Ok(At { adapter: adapter.into(), mount: mount.parse()? })
    }
}

impl Mounts {
    /// All adapters, at these mounts.
    pub(crate) fn adapters(self) -> Result<Adapters, Failure> {
        let marathon: Arc<dyn Adapter> = Arc::new(Marathon::default());
        let all = [marathon];
        let mut mounts: BTreeMap<String, Vec<Mount>> = BTreeMap::new();
        for At { adapter, mount } in self.adapters {
            if !all.iter().any(|known| known.name() == adapter) {
                let known: Vec<_> = all.iter().map(|known| known.name()).collect();
                let message = format!("there is no adapter `{adapter}`");
                let hint = format!("known adapters: {}", known.join(", "));
                return Err(Failure::new(Exit::Usage, message).hint(hint));
            }
            mounts.entry(adapter).or_default().push(mount);
        }
        let mounted = all.map(|adapter| {
            let mounts = mounts.remove(adapter.name()).unwrap_or_default();
            (adapter, mounts)
        });
        Adapters::new(mounted).map_err(|conflict| {
            Failure::new(Exit::Usage, "the adapters cannot serve together").because(&conflict)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_mounted_where_the_options_say() {
        let mounts = |options: &[&str]| {
            let adapters = options.iter().map(|option| option.parse()).collect::<Result<_, _>>();
            Mounts { adapters: adapters.unwrap() }
        };
        assert!(mounts(&[]).adapters().is_ok());
        assert!(mounts(&["marathon=127.0.0.1:8080", "marathon=/"]).adapters().is_ok());
        let failure = mounts(&["maraton=/"]).adapters().err().unwrap();
        assert!(format!("{failure:?}").contains("there is no adapter `maraton`"), "{failure:?}");
        let failure = mounts(&["marathon=/v1"]).adapters().err().unwrap();
        assert!(format!("{failure:?}").contains("belongs to the native API"), "{failure:?}");
        for wrong in ["marathon", "marathon=", "marathon=8080"] {
            assert!(wrong.parse::<At>().is_err(), "{wrong}");
        }
    }
}
