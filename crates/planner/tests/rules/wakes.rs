//! The time of the next planning if nothing is observed until then.

use super::world;

#[test]
fn the_wake_time_of_a_plan_is_the_earliest_expected_change() {
    let cases = [
        ("without nodes nothing comes by itself", "", None),
        ("an agent may fall silent", "> node n1", Some(30_000)),
        ("the first of them", "> node n1\n> lose n1\n> tick 10s\n> node n2", Some(20_000)),
        (
            "what has just started settles",
            "> node n1\n> apply /a rollout.min_ready=5s\n> run\n> report /a~0.1 running ready",
            Some(5_000),
        ),
        (
            "a deployment fails",
            "> node n1\n> apply /a rollout.deadline=10s\n> run\n> tick 1s",
            Some(9_000),
        ),
        (
            "a slot may be placed again",
            "> node n1\n> apply /a restart.backoff=10s\n> settle\n> report /a~0.1 failed\n> run\n\
             > report /a~0.2 failed\n> run\n> tick 1s",
            Some(9_000),
        ),
        (
            "a lost instance is given up",
            "> node n1\n> apply /a lost.after=1m\n> settle\n> lose n1\n> tick 31s",
            Some(59_000),
        ),
        (
            "requests have had their time",
            "> node n1\n> gateway n2\n> apply /a stop.drain=7s\n> route 80 /a\n> settle\n\
             > lose n2\n> scale /a 0\n> run\n> tick 1s",
            Some(6_000),
        ),
        (
            "a gateway is silent for too long",
            "> node n1\n> gateway n2\n> apply /a stop.drain=1m\n> route 80 /a\n> settle\n\
             > lose n2\n> scale /a 0\n> run\n> tick 1s",
            Some(14_000),
        ),
        (
            "a server that knows nothing yet has waited for all",
            "> node n1\n> apply /a\n> settle\n> forget-all\n> lose n1\n> tick 20s",
            Some(10_000),
        ),
    ];
    for (why, script, expected) in cases {
        let world = world(script);
        let wake_at = world.plan().wake_at;
        assert_eq!(wake_at.map(|at| at.since(world.now).0), expected, "{why}");
    }
}
