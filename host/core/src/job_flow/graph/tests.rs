use operon_api::job_flow::{Input, Step};

use super::*;

fn steps(steps: &[(&str, &[&str])]) -> JobFlowSpec {
    JobFlowSpec {
        flows: steps
            .iter()
            .map(|(name, dependencies)| Step {
                name: (*name).to_owned(),
                dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
                ..Step::default()
            })
            .collect(),
        ..JobFlowSpec::default()
    }
}

fn refused(spec: &JobFlowSpec) -> String {
    FlowGraph::new(spec)
        .expect_err("it makes no sense")
        .to_string()
}

fn readme() -> JobFlowSpec {
    steps(&[
        ("job1", &[]),
        ("job2", &["job1"]),
        ("job3", &["job1", "job2"]),
        ("job4", &[]),
        ("job5", &["job4", "job2"]),
    ])
}

#[test]
fn the_graph_of_the_readme() {
    let graph = FlowGraph::new(&readme()).expect("it makes sense");
    assert_eq!(graph.len(), 5);
    assert_eq!(graph.name(4), "job5");
    assert_eq!(graph.step("job3"), Some(2));
    assert_eq!(graph.dependencies(4), [1, 3]);
    assert_eq!(graph.ancestors(4), [0, 1, 3]);
    assert_eq!(graph.layers(), [vec![0, 3], vec![1], vec![2, 4]]);
    assert_eq!((graph.name(9), graph.dependencies(9).len()), ("", 0));
}

#[test]
fn a_thousand_steps_in_twenty_layers_are_quick() {
    let name = |layer: usize, place: usize| format!("step-{layer}-{place}");
    let mut spec = JobFlowSpec::default();
    for layer in 0..20_usize {
        for place in 0..50 {
            let dependencies = match layer.checked_sub(1) {
                Some(before) => (0..50).map(|other| name(before, other)).collect(),
                None => Vec::new(),
            };
            spec.flows.push(Step {
                name: name(layer, place),
                dependencies,
                ..Step::default()
            });
        }
    }
    let graph = FlowGraph::new(&spec).expect("it makes sense");
    let layers = graph.layers();
    assert_eq!(layers.len(), 20);
    assert!(layers.iter().all(|layer| layer.len() == 50));
    assert_eq!(graph.ancestors(999).len(), 950);
    spec.flows.push(Step::default());
    assert_eq!(
        refused(&spec),
        "the flow has 1001 steps; at most 1000 are allowed"
    );
}

#[test]
fn a_cycle_of_three_is_found_among_two_hundred_steps() {
    let name = |place: usize| format!("s{place}");
    let mut spec = JobFlowSpec::default();
    for place in 0..200_usize {
        let before = place.checked_sub(1).map(name);
        spec.flows.push(Step {
            name: name(place),
            dependencies: before.into_iter().collect(),
            ..Step::default()
        });
    }
    // s150 waits for s152, which waits for s151, which waits for s150. And a longer one around it.
    spec.flows[150].dependencies.push(name(152));
    spec.flows[100].dependencies.push(name(199));
    assert_eq!(
        refused(&spec),
        "these steps wait for each other: s150 → s152 → s151 → s150"
    );
}

#[test]
fn a_long_cycle_is_told_without_its_middle() {
    let name = |place: usize| format!("s{place}");
    let mut spec = JobFlowSpec::default();
    for place in 0..100 {
        spec.flows.push(Step {
            name: name(place),
            dependencies: vec![name((place + 1) % 100)],
            ..Step::default()
        });
    }
    assert_eq!(
        refused(&spec),
        "these steps wait for each other: s0 → s1 → s2 → s3 → s4 → s5 → s6 → s7 → s8 → s9 → … → s99 → s0"
    );
}

#[test]
fn what_makes_no_sense_is_told() {
    let on_exit = |name: &str, spec: JobFlowSpec| JobFlowSpec {
        on_exit: Some(name.to_owned()),
        ..spec
    };
    let input = |step: &str, output: &str, mut spec: JobFlowSpec| {
        spec.flows[0].outputs = vec!["digest".to_owned()];
        spec.flows[1].inputs = vec![Input {
            env: "X".to_owned(),
            step: step.to_owned(),
            output: output.to_owned(),
        }];
        spec
    };
    let when = |text: &str| {
        let mut spec = steps(&[("a", &[]), ("b", &["a"]), ("c", &[])]);
        spec.flows[0].outputs = vec!["digest".to_owned()];
        spec.flows[1].when = Some(text.to_owned());
        spec
    };
    let pair = || steps(&[("a", &[]), ("b", &["a"])]);
    for (spec, message) in [
        (
            steps(&[]),
            "spec.flows is empty: a flow needs at least one step",
        ),
        (
            steps(&[("a", &[]), ("a", &[])]),
            "two steps have the name \"a\": rename one of them",
        ),
        (steps(&[("a", &["a"])]), "step \"a\" depends on itself"),
        (
            on_exit("tydi", steps(&[("a", &[]), ("tidy", &[])])),
            "onExit names \"tydi\", which is not a step of this flow; did you mean \"tidy\"?",
        ),
        (
            on_exit("b", pair()),
            "step \"b\" is onExit and must not have dependencies: it runs after all others",
        ),
        (
            on_exit("a", pair()),
            "step \"b\" depends on \"a\", which is onExit and runs after all others",
        ),
        (
            input(
                "c",
                "digest",
                steps(&[("a", &[]), ("b", &["a"]), ("c", &[])]),
            ),
            "input \"X\" of step \"b\" is an output of \"c\", which the step does not depend on",
        ),
        (
            input("a", "digset", pair()),
            "input \"X\" of step \"b\" is the output \"digset\" of step \"a\", which does not declare it; did you mean \"digest\"?",
        ),
        (
            when("steps.a.phase == "),
            "the when of step \"b\" can't be evaluated: Syntax error: mismatched input '<EOF>' expecting expression (at character 18)",
        ),
        (
            when("steps.c.phase == 'Failed'"),
            "the when of step \"b\" refers to step \"c\", which the step does not depend on",
        ),
        (
            when("steps[\"a\"].outputs[\"digets\"] == ''"),
            "the when of step \"b\" refers to the output \"digets\" of step \"a\", which does not declare it; did you mean \"digest\"?",
        ),
        (
            when("steps.exists(s, steps[s].outputs.digets == '')"),
            "the when of step \"b\" refers to the output \"digets\", which none of its dependencies declares; did you mean \"digest\"?",
        ),
    ] {
        assert_eq!(refused(&spec), message);
    }
}

#[test]
fn an_unknown_dependency_is_a_fact_of_its_step_and_not_an_error_of_the_flow() {
    for (name, said) in [
        (
            "biuld",
            "it depends on \"biuld\", which is not a step of this flow; did you mean \"build\"?",
        ),
        (
            "deploy",
            "it depends on \"deploy\", which is not a step of this flow",
        ),
    ] {
        let mut spec = steps(&[
            ("build", &[]),
            ("test", &["build", name]),
            ("last", &["test"]),
        ]);
        spec.flows[1].when = Some(format!("steps.{name}.outputs.x == '1'"));
        spec.flows[1].inputs = vec![Input {
            env: "X".to_owned(),
            step: name.to_owned(),
            output: "x".to_owned(),
        }];
        let graph = FlowGraph::new(&spec).expect("the other steps make sense");
        let unknown = |step| graph.unknown(step).map(ToString::to_string);
        assert_eq!((unknown(0), unknown(2), unknown(3)), (None, None, None));
        assert_eq!(unknown(1).as_deref(), Some(said));
        assert_eq!(graph.dependencies(1), [0]);
        spec.flows[2].when = Some(format!("steps.{name}.phase == 'Failed'"));
        assert!(refused(&spec).contains("which the step does not depend on"));
    }
}

#[test]
fn inputs_and_when_may_ask_about_what_is_before_at_any_distance() {
    let mut spec = readme();
    spec.flows[0].outputs = vec!["x".to_owned()];
    spec.flows[4].when = Some("steps.job1.outputs.x == '1'".to_owned());
    spec.flows[4].inputs = vec![Input {
        env: "X".to_owned(),
        step: "job1".to_owned(),
        output: "x".to_owned(),
    }];
    FlowGraph::new(&spec).expect("job5 waits for job2, which waits for job1");
}

#[test]
fn what_runs_last_has_a_layer_of_its_own() {
    let mut spec = steps(&[("tidy", &[]), ("a", &[]), ("b", &["a"])]);
    spec.on_exit = Some("tidy".to_owned());
    let graph = FlowGraph::new(&spec).expect("it makes sense");
    assert_eq!(graph.layers(), [vec![1], vec![2], vec![0]]);
    assert_eq!(graph.on_exit(), Some(0));
}

#[test]
fn all_the_when_of_a_flow_have_a_price() {
    let mut spec = JobFlowSpec::default();
    for place in 0..1000_usize {
        let before = place.checked_sub(1).map(|before| format!("s{before}"));
        spec.flows.push(Step {
            name: format!("s{place}"),
            dependencies: before.into_iter().collect(),
            when: Some("steps.all(s, steps[s].phase != 'Failed' && s != 'x')".to_owned()),
            ..Step::default()
        });
    }
    assert!(refused(&spec).contains("take too long to evaluate, and that of step \"s999\""));
    for (place, step) in spec.flows.iter_mut().enumerate() {
        let before = place.checked_sub(1);
        step.when = before.map(|before| format!("steps.s{before}.phase == 'Succeeded'"));
    }
    FlowGraph::new(&spec).expect("asking for one is cheap");
}
