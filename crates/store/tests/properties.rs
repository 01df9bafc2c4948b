//! The embedded store against a simple model: any transactions, listings and restarts give the same results as
//! a plain map.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use muster_store::{Compare, Embedded, Expect, KeyValue, Op, Revision, Store, Txn, TxnResult};
use proptest::collection::vec;
use proptest::prelude::*;

/// The model of a store, without durability.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, KeyValue>,
    revision: Revision,
}

impl Model {
    fn commit(&mut self, txn: &Txn) -> TxnResult {
        for Compare { key, expect } in &txn.compares {
            let holds = match (self.keys.get(key), expect) {
                (None, Expect::Absent) => true,
                (Some(found), Expect::Modified(revision)) => found.modified == *revision,
                _ => false,
            };
            if !holds {
                return TxnResult::Conflict { key: key.clone() };
            }
        }
        let revision = Revision(self.revision.0 + 1);
        for op in &txn.ops {
            match op {
                Op::Put { key, value } => {
                    let (key, value) = (key.clone(), value.clone());
                    self.keys.insert(key.clone(), KeyValue { key, value, modified: revision });
                }
                Op::Delete { key } if self.keys.remove(key).is_some() => {}
                Op::Delete { .. } => continue,
            }
            self.revision = revision;
        }
        TxnResult::Committed(self.revision)
    }

    fn range(&self, prefix: &str) -> Vec<KeyValue> {
        self.keys.values().filter(|item| item.key.starts_with(prefix)).cloned().collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Queued together, so that they may share a group.
    Commit(Vec<Txn>),
    List {
        prefix: String,
        limit: usize,
    },
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "/",
        "/a",
        "/a/b",
        "/a/c",
        "/ab",
        "/b",
        "/a\0",
        "/ä",
        "/\u{10ffff}",
        "/\u{10ffff}x",
    ])
    .prop_map(str::to_owned)
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), key()]
}

fn txn() -> impl Strategy<Value = Txn> {
    let expect = prop_oneof![
        Just(Expect::Absent),
        (0..20_u64).prop_map(|number| Expect::Modified(Revision(number)))
    ];
    let compare = (key(), expect).prop_map(|(key, expect)| Compare { key, expect });
    let value = prop_oneof![8 => vec(any::<u8>(), 0..20), 1 => Just(vec![7; 10_000])];
    let change = prop_oneof![3 => value.prop_map(Some), 1 => Just(None)];
    let ops = prop::collection::btree_map(key(), change, 0..5).prop_map(|changes| {
        let op = |(key, change): (String, Option<Vec<u8>>)| match change {
            Some(value) => Op::put(key, value),
            None => Op::delete(key),
        };
        changes.into_iter().map(op).collect::<Vec<_>>()
    });
    let shuffled = ops.prop_shuffle();
    (prop_oneof![3 => Just(Vec::new()), 1 => vec(compare, 1..3)], shuffled)
        .prop_map(|(compares, ops)| Txn { compares, ops })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(txn(), 1..6).prop_map(Step::Commit),
        2 => (prefix(), 1..5_usize).prop_map(|(prefix, limit)| Step::List { prefix, limit }),
        1 => Just(Step::Reopen),
    ]
}

async fn list(store: &dyn Store, prefix: &str, limit: usize) -> (Vec<KeyValue>, Revision) {
    let (mut items, mut start_after) = (Vec::new(), None);
    loop {
        let page = store.range(prefix, start_after.as_deref(), limit).await.unwrap();
        assert!(page.items.len() <= limit);
        items.extend(page.items);
        start_after = page.next;
        if start_after.is_none() {
            return (items, page.revision);
        }
    }
}

async fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Embedded::open(directory.path()).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(txns) => {
                let expected: Vec<_> = txns.iter().map(|txn| model.commit(txn)).collect();
                let pending: Vec<_> = txns.into_iter().map(|txn| store.commit(txn)).collect();
                for (pending, expected) in pending.into_iter().zip(expected) {
                    assert_eq!(pending.await.unwrap(), expected);
                }
            }
            Step::List { prefix, limit } => {
                assert_eq!(
                    list(&store, &prefix, limit).await,
                    (model.range(&prefix), model.revision)
                );
                let found = store.get("/a").await.unwrap();
                assert_eq!(found.as_ref(), model.keys.get("/a"));
            }
            Step::Reopen => {
                drop(store);
                store = Embedded::open(directory.path()).unwrap();
            }
        }
    }
    assert_eq!(list(&store, "", 3).await, (model.range(""), model.revision));
}

proptest! {
    // Each case flushes some dozens of times; PROPTEST_CASES still scales it.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_like_the_model(steps in vec(step(), 0..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}
