//! The files of a running resource that no longer have the content that is desired. Only files whose
//! `on_change` is not `restart` change while their resource runs.
//!
//! A changed file stays stale until it has been written *and* its signal has been sent, also across
//! restarts of the agent. A signal is therefore sent at least once.

use std::collections::BTreeSet;

use model::{FileSpec, Restart, Timestamp};

/// The state of the files of one resource.
#[derive(Debug, Clone, Default)]
pub(super) struct StaleFiles {
    /// The paths of files that must be written.
    stale: BTreeSet<String>,
    /// The paths of files that are being written.
    updating: BTreeSet<String>,
    /// The number of consecutive failures, and when the next attempt is due.
    failures: u32,
    retry_at: Timestamp,
    /// Why the last attempt failed.
    error: Option<String>,
}

impl StaleFiles {
    /// The state that an earlier agent has stored.
    pub(super) fn restored(paths: BTreeSet<String>) -> Self {
        Self { stale: paths, ..Self::default() }
    }

    /// Records that the desired files have changed.
    pub(super) fn change(&mut self, before: &[FileSpec], after: &[FileSpec]) {
        let changed = after.iter().filter(|file| !before.contains(file));
        self.stale.extend(changed.map(|file| file.path.clone()));
        self.failures = 0;
        self.retry_at = Timestamp(0);
    }

    /// The paths of the files to write now, if any. They count as being written until
    /// [`Self::done`].
    pub(super) fn due(&mut self, now: Timestamp) -> Option<BTreeSet<String>> {
        let is_due = self.updating.is_empty() && !self.stale.is_empty() && now >= self.retry_at;
        is_due.then(|| {
            self.updating = std::mem::take(&mut self.stale);
            self.updating.clone()
        })
    }

    /// Records the outcome of an attempt.
    pub(super) fn done(&mut self, outcome: Result<(), String>, restart: &Restart, now: Timestamp) {
        let paths = std::mem::take(&mut self.updating);
        self.error = outcome.err();
        if self.error.is_some() {
            self.stale.extend(paths);
            self.failures = self.failures.saturating_add(1);
            // The first restart of a program is immediate, but repeating an update at once would
            // meet the same error.
            self.retry_at = now.after(restart.delay(self.failures.saturating_add(1)));
        } else {
            self.failures = 0;
        }
    }

    /// When the next attempt is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        (self.updating.is_empty() && !self.stale.is_empty()).then_some(self.retry_at)
    }

    /// Why files could not be written.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The paths of all files that have not been written and signalled, for the next agent.
    pub(super) fn unfinished(&self) -> BTreeSet<String> {
        self.stale.union(&self.updating).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[(&str, &str)]) -> Vec<FileSpec> {
        let file = |(path, text): &(&str, &str)| FileSpec {
            path: (*path).into(),
            text: Some((*text).into()),
            ..FileSpec::default()
        };
        contents.iter().map(file).collect()
    }

    fn paths(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).into()).collect()
    }

    #[test]
    fn only_changed_files_are_written_and_once() {
        let mut stale = StaleFiles::default();
        stale.change(&files(&[("a", "1"), ("b", "1")]), &files(&[("a", "1"), ("b", "2")]));
        assert_eq!(stale.due(Timestamp(5)), Some(paths(&["b"])));
        assert_eq!((stale.due(Timestamp(5)), stale.wake_at()), (None, None));
        assert_eq!(stale.unfinished(), paths(&["b"]), "until its signal has been sent");
        stale.done(Ok(()), &Restart::default(), Timestamp(6));
        assert_eq!((stale.due(Timestamp(9)), stale.unfinished()), (None, paths(&[])));
    }

    #[test]
    fn a_change_during_an_update_is_written_after_it() {
        let mut stale = StaleFiles::default();
        stale.change(&files(&[("a", "1")]), &files(&[("a", "2")]));
        stale.due(Timestamp(5));
        stale.change(&files(&[("a", "2")]), &files(&[("a", "3")]));
        assert_eq!(stale.due(Timestamp(5)), None);
        stale.done(Ok(()), &Restart::default(), Timestamp(6));
        assert_eq!(stale.due(Timestamp(6)), Some(paths(&["a"])));
    }

    #[test]
    fn a_failed_update_is_repeated_with_growing_delays() {
        let mut stale = StaleFiles::restored(paths(&["a"]));
        let restart = Restart::default();
        let mut delays = Vec::new();
        let mut now = Timestamp(1_000);
        for _ in 0..3 {
            assert!(stale.due(now).is_some());
            stale.done(Err("disk full".into()), &restart, now);
            assert_eq!(stale.due(now), None);
            assert_eq!(stale.error(), Some("disk full"));
            let at = stale.wake_at().unwrap();
            delays.push(at.since(now).0);
            now = at;
        }
        assert!(delays[0] >= 1_000 && delays.is_sorted() && delays[0] < delays[2], "{delays:?}");
        stale.due(now);
        stale.done(Ok(()), &restart, now);
        assert_eq!(stale.error(), None);
    }
}
