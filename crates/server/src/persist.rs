//! The state in the store: one JSON object per key, readable with sqlite3 or etcdctl.

use std::sync::Arc;

use api::EventView;
use model::{Key, Object, Source, Spec, State};
use store::{Op, Store, Txn};

use crate::control::Batch;

const PREFIX: &str = "/muster/v1/";
const EVENTS: &str = "events/";
const PAGE: usize = 10_000;

/// Why the stored state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] store::Error),
    /// A stored object cannot be parsed.
    #[error("the store holds something that this version cannot read; nothing was changed")]
    Object(#[from] model::object::Error),
    /// A stored event cannot be parsed.
    #[error("the store holds an event that this version cannot read; nothing was changed")]
    Event(#[from] serde_json::Error),
}

/// The content of the store.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The durable state.
    pub state: State,
    /// The newest events, oldest first.
    pub events: Vec<EventView>,
    /// Objects that an earlier version stored under another key.
    pub renamed: Renamed,
    /// The revision of the store.
    pub revision: u64,
}

/// Objects that an earlier version stored under another key, which the first batch of a leader
/// changes to the present one.
#[derive(Debug, Default)]
pub struct Renamed(Vec<(String, Key)>);

impl Renamed {
    /// Adds the change of the keys to a batch.
    pub fn add_to(self, batch: &mut Batch, state: &State) {
        for (obsolete, key) in self.0 {
            let object = state.object(&key);
            batch.objects.push((key, object));
            batch.obsolete.push(obsolete);
        }
    }
}

/// Reads the content of the store page by page. `upgrade` completes services that an earlier version
/// translated from documents of other systems.
pub(crate) async fn load(
    store: &dyn Store,
    upgrade: &(dyn Fn(&mut Spec, &Source) + Sync),
) -> Result<Loaded, Error> {
    let mut reading = Reading::default();
    let mut after: Option<String> = None;
    loop {
        let page = store.range(PREFIX, after.as_deref(), PAGE).await?;
        for item in page.items {
            reading.take(&item.key, &item.value)?;
        }
        after = page.next;
        if after.is_none() {
            reading.upgrade(upgrade);
            return Ok(Loaded { revision: page.revision.0, ..reading.loaded() });
        }
    }
}

/// Collects the content of the store while it is read.
#[derive(Debug, Default)]
pub struct Reading {
    objects: Vec<(Key, Object)>,
    renamed: Renamed,
    events: Vec<EventView>,
}

impl Reading {
    /// Adds one key and its value. Keys must be added in ascending order; keys without Muster's
    /// prefix are ignored.
    pub fn take(&mut self, key: &str, value: &[u8]) -> Result<(), Error> {
        let Some(name) = key.strip_prefix(PREFIX) else { return Ok(()) };
        if name.starts_with(EVENTS) {
            self.events.push(serde_json::from_slice(value)?);
            return Ok(());
        }
        let key: Key = name.parse()?;
        let object = Object::read(&key, value)?;
        if key.to_string() != name {
            self.renamed.0.push((name.into(), key.clone()));
        }
        self.objects.push((key, object));
        Ok(())
    }

    fn upgrade(&mut self, upgrade: &dyn Fn(&mut Spec, &Source)) {
        for (_, object) in &mut self.objects {
            let Object::Revision(revision) = object else { continue };
            let Some(source) = revision.source.clone() else { continue };
            let spec = &mut revision.spec;
            upgrade(Arc::make_mut(spec), &source);
        }
    }

    /// Builds the state from the keys that were added.
    pub fn loaded(self) -> Loaded {
        let Reading { objects, events, renamed } = self;
        Loaded { state: State::load(objects), events, renamed, revision: 0 }
    }
}

/// The transaction that makes a batch durable.
pub fn txn(batch: Batch) -> Result<Txn, serde_json::Error> {
    let mut ops = Vec::with_capacity(batch.objects.len() + 2 * batch.events.len());
    for (key, object) in batch.objects {
        let key = format!("{PREFIX}{key}");
        ops.push(match object {
            Some(object) => Op::put(key, serde_json::to_vec(&object)?),
            None => Op::delete(key),
        });
    }
    ops.extend(batch.obsolete.into_iter().map(|name| Op::delete(format!("{PREFIX}{name}"))));
    let event_key = |number: u64| format!("{PREFIX}{EVENTS}{number:020}");
    ops.extend(batch.deleted_events.into_iter().map(|number| Op::delete(event_key(number))));
    for event in batch.events {
        ops.push(Op::put(event_key(event.number), serde_json::to_vec(&event)?));
    }
    Ok(Txn::of(ops))
}
