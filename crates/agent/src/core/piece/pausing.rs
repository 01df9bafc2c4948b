//! The pause of one resource: when its processes must be suspended or resumed, and what its instance
//! may report of it.

use model::{PauseReport, Timestamp};

use super::{PieceLife, Stage};
use crate::core::Effect;

impl PieceLife {
    /// Whether its processes are suspended, or none of them is. A resource without a run, or whose run
    /// ends, is both.
    pub(in crate::core) fn is_suspended(&self, suspended: bool) -> bool {
        match self.stage {
            Stage::Running => self.suspension.is(suspended),
            Stage::Waiting(_) | Stage::Over => true,
            Stage::Unknown | Stage::Starting | Stage::Stopping(_) => !suspended,
        }
    }

    /// Why its processes could not be suspended or resumed.
    pub(in crate::core) fn suspension_error(&self) -> Option<&str> {
        self.suspension.error().filter(|_| self.stage == Stage::Running)
    }

    /// Sets the report on the pause of its instance, which has no other status.
    pub(in crate::core) fn set_pause(&mut self, pause: Option<PauseReport>) {
        self.status.pause = pause;
    }

    /// Applies the outcome of a request to suspend or resume its processes. After a pause its checks
    /// begin anew, as for a new run.
    pub(in crate::core) fn suspended(
        &mut self,
        run: u32,
        suspend: bool,
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        if run != self.status.run || self.stage != Stage::Running {
            return;
        }
        let Some(desired) = &self.desired else { return };
        let restart = &desired.spec.restart;
        if self.suspension.done(suspend, outcome, restart, now) && !suspend {
            self.checks.begin(&desired.spec, now);
            self.copy_verdicts();
        }
    }

    /// Requests what is due for the desired suspension.
    pub(super) fn suspend_or_resume(
        &mut self,
        suspend: bool,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(suspend) = self.suspension.due(suspend, now) {
            let (piece, driver) = (self.piece(), self.driver);
            effects.push(Effect::Suspend { piece, driver, suspend });
            self.checks.end();
            self.copy_verdicts();
        }
    }
}
