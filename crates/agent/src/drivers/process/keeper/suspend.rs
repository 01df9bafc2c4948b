//! Suspending and resuming runs. Both can block, so they happen in other tasks: one at a time for each
//! run, in the order of the requests.

use std::io;

use model::Piece;

use super::super::wire::KeeperEvent;
use super::{Event, Keeper};

impl Keeper {
    pub(super) fn suspend(&mut self, piece: &Piece, suspend: bool) {
        let held = self.held_run(piece).filter(|held| held.process.is_some());
        let Some(held) = held else {
            return self.respond(piece, suspend, Some("it does not run".into()));
        };
        if suspend && !held.record.suspended {
            held.record.suspended = true;
            let record = held.record.clone();
            if let Err(error) = self.records.write(&record) {
                // Without the record, the next keeper would not know of it.
                let error = format!("its suspension cannot be recorded: {error}");
                return self.respond(piece, suspend, Some(error));
            }
        }
        self.begin_suspend(piece, suspend);
    }

    /// Suspends or resumes a run in another task, which ends with [`Event::Suspended`].
    pub(super) fn begin_suspend(&mut self, piece: &Piece, suspend: bool) {
        let (events, piece) = (self.events.clone(), piece.clone());
        let Some(held) = self.held_run(&piece) else { return };
        let Some(process) = held.process.clone() else { return };
        if let Some(next) = &mut held.suspending {
            *next = Some(suspend);
            return;
        }
        held.suspending = Some(None);
        tokio::task::spawn_blocking(move || {
            let outcome = process.suspend(suspend);
            let _ = events.send(Event::Suspended { piece, suspend, outcome });
        });
    }

    pub(super) fn suspended(&mut self, piece: &Piece, suspend: bool, outcome: io::Result<()>) {
        let Some(held) = self.held_run(piece) else { return };
        let next = held.suspending.take().flatten();
        if !suspend && outcome.is_ok() {
            held.record.suspended = false;
            let record = held.record.clone();
            // Without the record, the next keeper would suspend it again, and its agent resume it.
            let _ = self.records.write(&record);
        }
        // A stop may have resumed it before the last of its processes was suspended.
        let is_stopping = self.held_run(piece).is_some_and(|held| held.stopping.is_some());
        match next.or((suspend && is_stopping).then_some(false)) {
            Some(next) => self.begin_suspend(piece, next),
            None => self.respond(piece, suspend, outcome.err().map(|error| error.to_string())),
        }
    }

    fn respond(&mut self, piece: &Piece, suspend: bool, error: Option<String>) {
        self.send_event(KeeperEvent::Suspended { piece: piece.clone(), suspend, error });
    }
}
