//! Steps that run if something is so, and what steps leave for others: by real containers, which write
//! their termination messages.

use operon_api::job_flow::FlowState;
use operon_e2e::{
    environment,
    job_flow::{Flow, Step, env, phases, said, step, step_said},
    prelude::*,
};

/// Two outputs, one of them no text, as a step's own words.
const MESSAGE: &str = r#"{"version": "1.2 $(HOME)", "changed": true, "more": 1}"#;

/// A step that fails, and others that ask about it.
fn asking(name: &str) -> Flow {
    let when = |name: &str, dependencies: &[&str], when: &str| {
        Step::of(name).after(dependencies).with("when", json!(when))
    };
    Flow::of(
        name,
        [
            Step::of("test").failing(),
            Step::of("deploy").after(&["test"]),
            when("repair", &["test"], "steps[\"test\"].phase == \"Failed\""),
            when("praise", &["test"], "steps.test.phase == 'Succeeded'"),
            when("always", &["deploy", "repair"], "true"),
            when("far", &["always"], "steps.test.phase != steps.repair.phase"),
            Step::of("then").after(&["far"]),
        ],
    )
}

#[tokio::test]
async fn steps_run_on_failure_in_any_case_or_not_at_all_as_their_when_says() {
    story(async |world: &World| {
        asking("stops").apply(world).await;
        asking("goes-on")
            .with("failurePolicy", json!("Continue"))
            .apply(world)
            .await;
        for (name, last) in [("stops", "Skipped"), ("goes-on", "Succeeded")] {
            let flow = world.flow_ends(name, FlowState::Failed).await;
            assert_eq!(
                phases(&flow),
                format!(
                    "test Failed, deploy Skipped, repair Succeeded, praise Skipped, always Succeeded, far Succeeded, then {last}"
                )
            );
            let why = step_said(&flow, "deploy");
            assert_eq!(
                why,
                "Skipped DependencyFailed: it depends on \"test\", which failed"
            );
            let why = step_said(&flow, "praise");
            assert_eq!(why, "Skipped WhenFalse: its when is false");
        }
        let jobs = world.jobs_of_flow("stops").await.expect("Jobs");
        assert_eq!(jobs.len(), 4, "test, repair, always, far");
    })
    .await;
}

#[tokio::test]
async fn a_step_that_is_skipped_by_its_when_is_no_failure() {
    story(async |world: &World| {
        Flow::of(
            "skip",
            [
                Step::of("test"),
                Step::of("repair")
                    .after(&["test"])
                    .with("when", json!("steps.test.phase == 'Failed'")),
                Step::of("after-repair").after(&["repair"]),
            ],
        )
        .apply(world)
        .await;
        let flow = world.flow_ends("skip", FlowState::Succeed).await;
        assert_eq!(
            phases(&flow),
            "test Succeeded, repair Skipped, after-repair Skipped"
        );
        let ready = said(&flow, "Ready");
        assert_eq!(ready, "True Succeed: 1 of 3 steps succeeded, 2 skipped");
        world.jobs_are_named(&["skip-test"]).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_container_leaves_reaches_the_environment_and_the_when_of_others() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let input =
            |env: &str, output: &str| json!({"env": env, "step": "build", "output": output});
        let check = "test \"$VERSION,$CHANGED\" = '1.2 $(HOME),true'";
        Flow::of(
            "hand",
            [
                Step::of("build")
                    .leaving(MESSAGE)
                    .with("outputs", json!(["version", "changed"])),
                Step::of("between").after(&["build"]),
                Step::of("deploy")
                    .after(&["between"])
                    .script(check)
                    .with(
                        "inputs",
                        json!([input("VERSION", "version"), input("CHANGED", "changed")]),
                    )
                    .with(
                        "when",
                        json!("steps.build.outputs['changed'] == 'true' && steps.between.phase == 'Succeeded'"),
                    ),
                Step::of("rest").after(&["build"]).with(
                    "when",
                    json!("steps.build.outputs['version'].startsWith('2')"),
                ),
            ],
        )
        .apply(world)
        .await;
        let flow = world.flow_ends("hand", FlowState::Succeed).await;
        assert_eq!(
            phases(&flow),
            "build Succeeded, between Succeeded, deploy Succeeded, rest Skipped"
        );
        let outputs: Vec<_> = step(&flow, "build").outputs.into_iter().collect();
        let wanted = [("changed", "true"), ("version", "1.2 $(HOME)")];
        assert_eq!(outputs, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
        let deploy = world.job_appears("hand-deploy").await;
        assert_eq!(env(&deploy, "CHANGED").as_deref(), Some("true"));
        assert_eq!(env(&deploy, "more"), None);
    })
    .await;
}

#[tokio::test]
async fn a_step_that_does_not_leave_what_it_declares_fails_and_says_what_it_left() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let leaving = |name: &str, message: &str| {
            Step::of(name)
                .leaving(message)
                .with("outputs", json!(["key"]))
        };
        Flow::of(
            "bad",
            [
                leaving("text", "done"),
                leaving("list", "[1]"),
                leaving("other", r#"{"kee": 1}"#),
                Step::of("silent").with("outputs", json!(["key"])),
                leaving("good", r#"{"key": ""}"#),
                Step::of("needs").after(&["text"]),
            ],
        )
        .with("failurePolicy", json!("Continue"))
        .apply(world)
        .await;
        let flow = world.flow_ends("bad", FlowState::Failed).await;
        let table = [
            ("text", "is not valid JSON: expected value at line 1 column 1"),
            ("list", "is an array, not a JSON object"),
            ("other", "has no key \"key\"; it has \"kee\""),
            (
                "silent",
                "wrote no termination message: the step must write a JSON object with \"key\" to /dev/termination-log",
            ),
        ];
        for (name, fault) in table {
            let why = step_said(&flow, name);
            assert!(
                why.starts_with("Failed OutputInvalid: ") && why.contains(fault),
                "{why}"
            );
        }
        assert!(step_said(&flow, "good").starts_with("Succeeded"));
        assert!(step_said(&flow, "needs").starts_with("Skipped DependencyFailed"));
    })
    .await;
}

#[tokio::test]
async fn a_when_that_has_no_answer_fails_its_step() {
    story(async |world: &World| {
        Flow::of(
            "no-answer",
            [
                Step::of("a"),
                Step::of("b")
                    .after(&["a"])
                    .with("when", json!("steps.a.phase")),
            ],
        )
        .apply(world)
        .await;
        let flow = world.flow_ends("no-answer", FlowState::Failed).await;
        assert_eq!(
            step_said(&flow, "b"),
            "Failed WhenInvalid: its when can't be evaluated: its type is string, not bool"
        );
    })
    .await;
}
