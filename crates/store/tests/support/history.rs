//! Writers whose every commit can be identified, and the checks after a fault: every acknowledged commit is present,
//! each commit is atomic, and none is present without those before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_store::{Embedded, Op, Store, Txn, TxnResult};

const WRITERS: usize = 8;
/// The keys of one commit, in the order of its ops.
const PREFIXES: [&str; 3] = ["/first/", "/second/", "/last/"];

/// The acknowledged commits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged {
    /// The revision of each commit, by writer and number.
    commits: BTreeMap<(usize, u64), u64>,
    /// The newest revision that a store had when it was opened: it must not be lost either.
    shown: u64,
}

impl Acknowledged {
    /// Parses a line that [`write`] has printed; returns false for any other line.
    pub(crate) fn parse_line(&mut self, line: &str) -> bool {
        let mut words = line.split(' ');
        let kind = words.next();
        let numbers: Vec<u64> = words.filter_map(|number| number.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            (Some("ack"), &[writer, number, revision]) => {
                self.commits.insert((writer as usize, number), revision);
            }
            (Some("shown"), &[revision]) => self.shown = self.shown.max(revision),
            _ => return false,
        }
        true
    }

    /// The newest revision that was acknowledged or shown.
    #[allow(dead_code, reason = "not every test that includes this file compares it")]
    pub(crate) fn newest(&self) -> u64 {
        self.commits.values().copied().fold(self.shown, u64::max)
    }

    /// The number of acknowledged commits.
    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }
}

/// Runs all writers concurrently, with `commits` commits each, and passes each acknowledgement to `say`.
pub(crate) async fn write(
    store: &Arc<Embedded>,
    commits: u64,
    say: impl Fn(String) + Clone + Send + 'static,
) {
    let shown = store.range("/last/", None, 1).await.unwrap().revision;
    say(format!("shown {shown}"));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_as(writer, Arc::clone(store), commits, say.clone())))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write_as(writer: usize, store: Arc<Embedded>, commits: u64, say: impl Fn(String)) {
    let last = store.get(&format!("/last/{writer}")).await.unwrap();
    let last: u64 = last.map_or(0, |last| String::from_utf8(last.value).unwrap().parse().unwrap());
    for number in last + 1..=last.saturating_add(commits) {
        let key = format!("{writer}/{number:06}");
        let value = value(&key, number);
        let txn = Txn::of(vec![
            Op::put(format!("/first/{key}"), value.as_str()),
            Op::put(format!("/second/{key}"), value),
            Op::put(format!("/last/{writer}"), number.to_string()),
        ]);
        let Ok(TxnResult::Committed(revision)) = store.commit(txn).await else { panic!("refused") };
        say(format!("ack {writer} {number} {revision}"));
    }
}

fn value(key: &str, number: u64) -> String {
    key.repeat(number as usize % 300)
}

/// Checks the store, and returns its revision; the error describes the violation.
pub(crate) async fn check(store: &Embedded, acknowledged: &Acknowledged) -> Result<u64, String> {
    let list = async |prefix: &str| -> Result<_, String> {
        let page =
            store.range(prefix, None, usize::MAX).await.map_err(|error| error.to_string())?;
        let items = page.items.into_iter();
        let found = items.map(|item| {
            let key = item.key.strip_prefix(prefix).unwrap_or_default().to_owned();
            (key, (String::from_utf8_lossy(&item.value).into_owned(), item.modified.0))
        });
        Ok((found.collect::<BTreeMap<_, _>>(), page.revision.0))
    };
    let [(first, revision), (second, _), (last, _)] =
        [list(PREFIXES[0]).await?, list(PREFIXES[1]).await?, list(PREFIXES[2]).await?];
    let ensure = |holds: bool, otherwise: &dyn Fn() -> String| match holds {
        true => Ok(()),
        false => Err(otherwise()),
    };

    ensure(first == second, &|| "a commit is half there".to_owned())?;
    ensure(revision >= acknowledged.shown, &|| {
        format!("revision {revision}, after {} was shown", acknowledged.shown)
    })?;
    for ((writer, number), revision) in &acknowledged.commits {
        let found = first.get(&format!("{writer}/{number:06}")).map(|(_, modified)| modified);
        ensure(found == Some(revision), &|| {
            format!("commit {number} of writer {writer} is lost, acknowledged as {revision}")
        })?;
    }
    for writer in 0..WRITERS {
        let last = last.get(&writer.to_string()).map_or("0", |(number, _)| number.as_str());
        let of_writer = first.range(format!("{writer}/")..format!("{writer}0"));
        let mut count = 0;
        for (key, (found, _)) in of_writer {
            count += 1;
            ensure(*key == format!("{writer}/{count:06}"), &|| format!("nothing before {key}"))?;
            ensure(*found == value(key, count), &|| format!("{key} is not what was written"))?;
        }
        ensure(count.to_string() == last, &|| format!("{count} of {writer}, the last is {last}"))?;
    }
    Ok(revision)
}
