//! The schedule of probes and the verdicts that follow from their outcomes.
//!
//! A health check is probed right after the start, and then `interval` after the end of each probe.
//! Until a health check has passed once, failures within `grace` of the start do not count. During
//! that time, and for a readiness check until it passes, probes are repeated at shorter intervals
//! than `interval` (50 ms, doubled each time), so that a service that starts fast becomes ready
//! fast. A probe that could not be run is neither a pass nor a failure.

use model::{CheckResult, Millis, Probe, Spec, Timestamp};

/// The first interval between probes of a check that has not passed yet; it doubles each time.
const EAGER: Millis = Millis(50);

/// One check of one run. The id becomes stale when the checks of the spec change or the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckId {
    edition: u32,
    kind: CheckKind,
}

/// The check of the spec that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckKind {
    /// The health check at this index of the spec.
    Health(usize),
    /// The readiness check.
    Readiness,
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The instance responded as expected.
    Pass,
    /// The instance did not respond as expected, with the cause.
    Fail(String),
    /// The probe could not be run, with the reason. It is no statement about the instance.
    CannotRun(String),
}

/// A probe to make now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) check: CheckId,
    pub(super) probe: Probe,
    pub(super) timeout: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Never,
    Due(Timestamp),
    UnderWay,
}

/// A health check of this run.
#[derive(Debug, Clone)]
struct Watch {
    result: CheckResult,
    verdict: Option<bool>,
    next: Next,
    /// The number of consecutive probes that did not pass, including those that do not count.
    misses: u32,
    /// Why the last probe could not be run; `None` if it ran.
    obstacle: Option<String>,
}

/// The checks of one run of an instance.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    edition: u32,
    health: Vec<Watch>,
    readiness: Next,
    readiness_misses: u32,
    /// Why the readiness check has not passed, from its last probe.
    unready: Option<String>,
    /// The start of the grace period: the start of the run, or a later change of the checks.
    begun_at: Timestamp,
    ready: bool,
}

impl Watch {
    fn new(now: Timestamp) -> Self {
        let next = Next::Due(now);
        Self { result: CheckResult::default(), verdict: None, next, misses: 0, obstacle: None }
    }

    /// A check that continues from an earlier result.
    fn resumed(result: CheckResult, failures: u32, now: Timestamp) -> Self {
        let verdict = match result.consecutive_failures {
            count if failures > 0 && count >= failures => Some(false),
            _ => result.first_success.map(|_| true),
        };
        Self { result, verdict, ..Self::new(now) }
    }
}

impl Checks {
    /// The state before any run: there is nothing to probe.
    pub(super) fn idle() -> Self {
        Self {
            edition: 0,
            health: Vec::new(),
            readiness: Next::Never,
            readiness_misses: 0,
            unready: None,
            begun_at: Timestamp(0),
            ready: false,
        }
    }

    /// Resets all checks for a run that has started.
    pub(super) fn begin(&mut self, spec: &Spec, now: Timestamp) {
        self.edition += 1;
        self.begun_at = now;
        self.health = spec.health.iter().map(|_| Watch::new(now)).collect();
        self.ready = spec.readiness.is_none();
        self.readiness = if self.ready { Next::Never } else { Next::Due(now) };
        self.readiness_misses = 0;
        self.unready = None;
    }

    /// Continues a run whose `results` and `ready` were known before.
    pub(super) fn resume(
        &mut self,
        spec: &Spec,
        started_at: Timestamp,
        results: &[CheckResult],
        ready: bool,
        now: Timestamp,
    ) {
        self.begin(spec, now);
        self.begun_at = started_at;
        if results.len() == spec.health.len() {
            let both = results.iter().zip(&spec.health);
            self.health = both
                .map(|(result, check)| Watch::resumed(result.clone(), check.failures, now))
                .collect();
        }
        if ready {
            self.ready = true;
            self.readiness = Next::Never;
        }
    }

    /// Stops all probes because the run is about to end. Results and verdicts are kept.
    pub(super) fn pause(&mut self) {
        self.edition += 1;
        self.readiness = Next::Never;
        for watch in &mut self.health {
            watch.next = Next::Never;
        }
    }

    /// Stops all probes and clears all results, since the run has ended.
    pub(super) fn end(&mut self) {
        self.pause();
        self.health.clear();
        self.ready = false;
        self.unready = None;
    }

    /// Applies changed checks to the current run. A check with the same probe keeps its results. An
    /// instance that was healthy or ready stays so until a new check fails.
    pub(super) fn change(&mut self, before: &Spec, spec: &Spec, now: Timestamp) {
        if before.health == spec.health && before.readiness == spec.readiness {
            return;
        }
        let was_healthy = before.health.is_empty() || self.healthy() == Some(true);
        self.edition += 1;
        let known = std::mem::take(&mut self.health);
        self.health = spec
            .health
            .iter()
            .map(|check| {
                let same = before.health.iter().position(|other| other.probe == check.probe);
                match same.and_then(|index| known.get(index)) {
                    Some(watch) => Watch::resumed(watch.result.clone(), check.failures, now),
                    None => Watch { verdict: was_healthy.then_some(true), ..Watch::new(now) },
                }
            })
            .collect();
        self.begun_at = if was_healthy { self.begun_at } else { now };
        self.ready |= spec.readiness.is_none();
        self.unready = None;
        self.readiness = if self.ready { Next::Never } else { Next::Due(now) };
    }

    /// Returns the probes that are due and marks them as in flight.
    pub(super) fn due(&mut self, spec: &Spec, now: Timestamp) -> Vec<Request> {
        let mut requests = Vec::new();
        let edition = self.edition;
        let mut take = |next: &mut Next, kind, probe: &Probe, timeout| {
            if matches!(next, Next::Due(at) if *at <= now) {
                *next = Next::UnderWay;
                let check = CheckId { edition, kind };
                requests.push(Request { check, probe: probe.clone(), timeout });
            }
        };
        for (index, (watch, check)) in self.health.iter_mut().zip(&spec.health).enumerate() {
            take(&mut watch.next, CheckKind::Health(index), &check.probe, check.timeout);
        }
        if let Some(check) = &spec.readiness {
            take(&mut self.readiness, CheckKind::Readiness, &check.probe, check.timeout);
        }
        requests
    }

    /// Records the outcome of a probe. Outcomes of stale checks are ignored.
    pub(super) fn probed(&mut self, check: CheckId, outcome: Outcome, spec: &Spec, now: Timestamp) {
        if check.edition != self.edition {
            return;
        }
        match check.kind {
            CheckKind::Health(index) => self.health_probed(index, outcome, spec, now),
            CheckKind::Readiness => self.readiness_probed(outcome, spec, now),
        }
    }

    fn readiness_probed(&mut self, outcome: Outcome, spec: &Spec, now: Timestamp) {
        let Some(check) = &spec.readiness else { return };
        self.unready = match outcome {
            Outcome::Pass => None,
            Outcome::Fail(cause) => Some(cause),
            Outcome::CannotRun(why) => Some(cannot_run("readiness", &why)),
        };
        if self.unready.is_none() {
            self.ready = true;
            self.readiness = Next::Never;
            return;
        }
        self.readiness = Next::Due(now.after(eager(self.readiness_misses).min(check.interval)));
        self.readiness_misses = self.readiness_misses.saturating_add(1);
    }

    fn health_probed(&mut self, index: usize, outcome: Outcome, spec: &Spec, now: Timestamp) {
        let (Some(watch), Some(check)) = (self.health.get_mut(index), spec.health.get(index))
        else {
            return;
        };
        let in_grace = watch.verdict.is_none() && now.since(self.begun_at).0 < check.grace.0;
        watch.next = Next::Due(now.after(match outcome {
            Outcome::Pass => check.interval,
            _ if in_grace => eager(watch.misses).min(check.interval),
            _ => check.interval,
        }));
        watch.obstacle = None;
        match outcome {
            Outcome::Pass => {
                watch.misses = 0;
                watch.verdict = Some(true);
                watch.result.consecutive_failures = 0;
                watch.result.first_success.get_or_insert(now);
                watch.result.last_success = Some(now);
            }
            Outcome::CannotRun(why) => {
                watch.misses = watch.misses.saturating_add(1);
                watch.obstacle = Some(why);
            }
            Outcome::Fail(cause) => {
                watch.misses = watch.misses.saturating_add(1);
                watch.result.last_failure = Some(now);
                watch.result.last_failure_cause = Some(cause);
                if in_grace {
                    return;
                }
                let count = watch.result.consecutive_failures.saturating_add(1);
                watch.result.consecutive_failures = count;
                if check.failures > 0 && count >= check.failures {
                    watch.verdict = Some(false);
                }
            }
        }
    }

    /// The time of the next probe; `None` if nothing is scheduled.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let all = self.health.iter().map(|watch| watch.next).chain([self.readiness]);
        all.filter_map(|next| match next {
            Next::Due(at) => Some(at),
            Next::Never | Next::UnderWay => None,
        })
        .min()
    }

    /// The verdict of all health checks together.
    pub(super) fn healthy(&self) -> Option<bool> {
        let verdicts = || self.health.iter().map(|watch| watch.verdict);
        if self.health.is_empty() {
            None
        } else if verdicts().any(|verdict| verdict == Some(false)) {
            Some(false)
        } else {
            verdicts().all(|verdict| verdict == Some(true)).then_some(true)
        }
    }

    /// Whether the readiness check has passed in this run, or there is none.
    pub(super) fn ready(&self) -> bool {
        self.ready
    }

    /// Why the instance is not ready, or why a health check cannot be run.
    pub(super) fn not_ready_cause(&self) -> Option<String> {
        let obstacle = || self.health.iter().find_map(|watch| watch.obstacle.as_deref());
        self.unready.clone().or_else(|| Some(cannot_run("health", obstacle()?)))
    }

    /// The results of the health checks, in the order of the spec.
    pub(super) fn results(&self) -> Vec<CheckResult> {
        self.health.iter().map(|watch| watch.result.clone()).collect()
    }
}

fn cannot_run(check: &str, why: &str) -> String {
    format!("its {check} check cannot run: {why}")
}

/// The interval after this number of consecutive probes that did not pass.
fn eager(misses: u32) -> Millis {
    Millis(EAGER.0 << misses.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(document: serde_json::Value) -> Spec {
        serde_json::from_value(document).unwrap()
    }

    fn with_health(checks: serde_json::Value) -> Spec {
        spec(serde_json::json!({
            "service": "/a", "process": {"command": "x"}, "ports": [{}], "health": checks,
        }))
    }

    /// Plays outcomes, `(check, ms since start, outcome)`, and prints the verdict after each:
    /// `+` healthy, `-` unhealthy, `?` unknown.
    fn check(checks: serde_json::Value, outcomes: &str, expected: &str) {
        let spec = with_health(checks);
        let mut checks = Checks::idle();
        checks.begin(&spec, Timestamp(0));
        let edition = checks.edition;
        let mut verdicts = String::new();
        for step in outcomes.split_whitespace() {
            let parts: Vec<_> = step.split(':').collect();
            let id = CheckId { edition, kind: CheckKind::Health(parts[0].parse().unwrap()) };
            let outcome = match parts[2] {
                "pass" => Outcome::Pass,
                "fail" => Outcome::Fail("no".into()),
                _ => Outcome::CannotRun("too many open files".into()),
            };
            checks.probed(id, outcome, &spec, Timestamp(parts[1].parse().unwrap()));
            verdicts.push(match checks.healthy() {
                Some(true) => '+',
                Some(false) => '-',
                None => '?',
            });
        }
        assert_eq!(verdicts, expected, "{outcomes}");
    }

    #[test]
    fn verdicts_follow_failures_grace_and_passes() {
        let one = serde_json::json!([{"probe": {"tcp": {}}, "failures": 2, "grace": "10s"}]);
        // A pass is enough; after it, grace is over.
        check(one.clone(), "0:1:pass 0:2:fail 0:3:fail 0:4:pass", "++-+");
        // Within grace failures do not count, from its end they do.
        check(one.clone(), "0:1:fail 0:2:fail 0:9999:fail 0:10000:fail 0:10001:fail", "????-");
        // A probe that could not be run never counts and does not interrupt consecutive failures.
        check(one, "0:1:pass 0:2:fail 0:3:cannot 0:4:cannot 0:5:fail", "++++-");
        let report = serde_json::json!([{"probe": {"tcp": {}}, "failures": 0, "grace": "0s"}]);
        check(report, "0:1:fail 0:2:fail 0:3:pass 0:4:fail 0:5:fail", "??+++");
    }

    #[test]
    fn all_checks_must_pass_and_one_is_enough_to_fail() {
        let two = serde_json::json!([
            {"probe": {"tcp": {}}, "failures": 1, "grace": "0s"},
            {"probe": {"command": "true"}, "failures": 2, "grace": "0s"},
        ]);
        check(two.clone(), "0:1:pass 1:1:pass 1:2:fail 1:3:fail 1:4:pass", "?++-+");
        check(two, "1:1:fail 0:1:fail 0:2:pass 1:2:pass", "?-?+");
    }

    #[test]
    fn probes_are_eager_until_the_first_pass_and_then_regular() {
        let spec = with_health(
            serde_json::json!([{"probe": {"tcp": {}}, "interval": "1s", "grace": "300ms"}]),
        );
        let mut checks = Checks::idle();
        checks.begin(&spec, Timestamp(0));
        let mut at = 0;
        let mut times = Vec::new();
        for n in 0..8 {
            assert_eq!(checks.wake_at(), Some(Timestamp(at)));
            let due = checks.due(&spec, Timestamp(at));
            assert_eq!((due.len(), checks.wake_at()), (1, None));
            let outcome = if n < 6 { Outcome::Fail("no".into()) } else { Outcome::Pass };
            checks.probed(due[0].check, outcome, &spec, Timestamp(at));
            times.push(at);
            at = checks.wake_at().unwrap().0;
        }
        assert_eq!(times, [0, 50, 150, 350, 1350, 2350, 3350, 4350]);
    }

    #[test]
    fn the_cause_is_reported_until_a_check_passes() {
        let spec = spec(serde_json::json!({
            "service": "/a", "process": {"command": "x"}, "ports": [{}],
            "health": [{"probe": {"command": "true"}}], "readiness": {"probe": {"tcp": {}}},
        }));
        let mut checks = Checks::idle();
        checks.begin(&spec, Timestamp(0));
        let edition = checks.edition;
        let health = CheckId { edition, kind: CheckKind::Health(0) };
        let readiness = CheckId { edition, kind: CheckKind::Readiness };
        let mut remark_after = |check, outcome| {
            checks.probed(check, outcome, &spec, Timestamp(1));
            checks.not_ready_cause()
        };
        let refused = || "127.0.0.1:31000: connection refused".to_string();
        let health_cannot = "its health check cannot run: too many open files";
        assert_eq!(remark_after(readiness, Outcome::Fail(refused())), Some(refused()));
        let cannot = || Outcome::CannotRun("too many open files".into());
        assert_eq!(remark_after(health, cannot()), Some(refused()), "readiness comes first");
        assert_eq!(remark_after(readiness, Outcome::Pass).as_deref(), Some(health_cannot));
        assert_eq!(remark_after(health, Outcome::Pass), None);
        let readiness_cannot = "its readiness check cannot run: too many open files";
        assert_eq!(remark_after(readiness, cannot()).as_deref(), Some(readiness_cannot));
    }

    #[test]
    fn changing_checks_in_place_keeps_an_instance_healthy() {
        let before = with_health(serde_json::json!([{"probe": {"tcp": {}}}]));
        let after = with_health(serde_json::json!([
            {"probe": {"http": {"path": "/new"}}, "failures": 1, "grace": "0s"},
            {"probe": {"tcp": {}}, "interval": "1s"},
        ]));
        let mut checks = Checks::idle();
        checks.begin(&before, Timestamp(0));
        let old = checks.due(&before, Timestamp(0))[0].check;
        checks.probed(old, Outcome::Pass, &before, Timestamp(1));
        let stale = checks.due(&before, Timestamp(5001))[0].check;
        checks.change(&before, &after, Timestamp(5002));
        assert_eq!(checks.healthy(), Some(true));
        checks.probed(stale, Outcome::Fail("old".into()), &after, Timestamp(5003));
        assert_eq!(checks.healthy(), Some(true), "an outcome of an old check says nothing");
        let due = checks.due(&after, Timestamp(5003));
        checks.probed(due[0].check, Outcome::Fail("404".into()), &after, Timestamp(5004));
        assert_eq!(checks.healthy(), Some(false));
    }
}
