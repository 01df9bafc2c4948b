//! A dry run predicts the steps of a cluster in which everything works.

use model::{Millis, Step, Timestamp};
use muster_planner::scenario::World;
use muster_planner::{DryRun, dry_run};

use super::world;

fn dry_run_of(world: &World) -> DryRun {
    dry_run(world.state.clone(), world.observed.clone(), world.now)
}

/// The steps that a user sees, without their times.
fn seen(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let seen = steps.into_iter().filter(|step| !matches!(step, Step::Progress { .. }));
    let timeless = seen.map(|step| match step {
        Step::Drain { instance, why, .. } => Step::Drain { instance, until: Timestamp(0), why },
        step => step,
    });
    timeless.collect()
}

/// The steps of a minute in which everything works.
fn done(world: &mut World) -> Vec<Step> {
    let mut done = Vec::new();
    for _ in 0..60 {
        loop {
            let plan = world.plan();
            if plan.steps.is_empty() {
                break;
            }
            assert_eq!(world.adopt(&plan), []);
            done.extend(plan.steps);
        }
        world.work();
        world.tick(Millis::secs(1));
    }
    seen(done)
}

const WEB: &str = r#"
> node n1
> node n2
> gateway n1
> apply /web instances=2 health stop.drain=20s rollout.max_surge=0 rollout.min_healthy=50%
> route 8080 /web
> settle
"#;

#[test]
fn a_dry_run_predicts_the_actual_steps() {
    let cases = [
        ("nothing", ""),
        ("a rollout", "> restart /web"),
        ("one that has begun", "> restart /web\n> run"),
        ("one after another", "> apply /a , /b depends_on=[\"/a\"]"),
        ("one that is removed", "> apply /a\n> settle\n> rm /a"),
        ("one that is waited for", "> lose n1\n> restart /web\n> run\n> return n1"),
        (
            "one that leaves while a gateway is silent",
            "> gateway n3\n> lose n3\n> apply /web instances=0\n> run",
        ),
        ("a node that is drained", "> drain n2"),
        ("a node that is lost", "> lose n2\n> tick 30s"),
        (
            "lost ones that are not replaced",
            "> apply /a instances=4 lost.replace=false\n\
            > settle\n> lose n2\n> tick 30s",
        ),
        ("an unhealthy one", "> report /web~0.1 unhealthy"),
        (
            "one that waits after failures",
            "> apply /job restart.backoff=10s\n> settle\n\
            > report /job~0.1 failed\n> run\n> report /job~0.2 running\n> report /job~0.2 failed",
        ),
    ];
    for (what, happens) in cases {
        let mut world = world(&format!("{WEB}{happens}\n"));
        let dry_run = dry_run_of(&world);
        let waves = dry_run.waves.into_iter().flatten();
        assert_eq!(seen(waves), done(&mut world), "{what}");
        assert_eq!(dry_run.waits, world.plan().waits, "{what}");
    }
}

#[test]
fn a_dry_run_assumes_that_a_silent_node_returns() {
    let world = world(&format!("{WEB}> lose n2\n> tick 29s\n"));
    assert_eq!(dry_run_of(&world), DryRun::default());
}

/// Right after a server has started, a dry run must not be empty for lack of reports.
#[test]
fn a_dry_run_assumes_unreported_instances_to_be_healthy() {
    let world = world(&format!("{WEB}> forget-all\n> restart /web\n"));
    assert_eq!(world.plan().steps, []);
    let dry_run = dry_run_of(&world);
    let arrived = Step::Arrive { service: "/web".parse().unwrap() };
    assert_eq!(dry_run.waves.last(), Some(&vec![arrived]));
    assert_eq!(dry_run.waits, []);
}
