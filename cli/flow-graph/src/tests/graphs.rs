//! The pictures that other programs draw: Mermaid, DOT and JSON.

use serde_json::Value;

use super::*;
use crate::{Format, draw};

fn other(flows: &[JobFlow], format: Format) -> String {
    let pictures: Vec<_> = flows.iter().map(picture).collect();
    draw(&pictures, format)
}

#[test]
fn a_flow_is_a_mermaid_flowchart() {
    let expected = "\
flowchart LR
  subgraph f0[\"JobFlow ci/example#58; Failed · 1/5 · 4m5s\"]
    f0s0[\"✓ build<br>Succeeded · 1m\"]
    f0s1[\"✗ test<br>Failed · 3m5s · ×2<br>BackoffLimitExceeded\"]
    f0s2[\"↷ deploy<br>Skipped<br>DependencyFailed\"]
    f0s3[\"◐ report<br>Running · 1m30s<br>when steps#91;#34;test#34;#93;.phase #61;#61; #34;Failed#34;\"]
    f0s4([\"○ clean-up<br>Waiting<br>on exit\"])
    f0s0 --> f0s1
    f0s1 --> f0s2
    f0s1 -.-> f0s3
    f0s2 ~~~ f0s4
  end
  classDef Failed stroke:#cf222e,stroke-width:2px
  class f0s1 Failed
  classDef Running stroke:#0969da,stroke-width:2px
  class f0s3 Running
  classDef Succeeded stroke:#1a7f37,stroke-width:2px
  class f0s0 Succeeded
  classDef Skipped stroke:#8c959f,stroke-width:2px,stroke-dasharray:4 3
  class f0s2 Skipped
  classDef Waiting stroke:#8c959f,stroke-width:2px
  class f0s4 Waiting
";
    assert_eq!(other(&[failed()], Format::Mermaid), expected);
}

#[test]
fn a_flow_is_a_graph_for_graphviz() {
    let expected = r##"digraph {
  rankdir=LR
  node [shape=box, style=rounded]
  subgraph cluster_0 {
    label="JobFlow ci/example: Failed · 1/5 · 4m5s"
    f0s0 [label="✓ build\nSucceeded · 1m", color="#1a7f37"]
    f0s1 [label="✗ test\nFailed · 3m5s · ×2\nBackoffLimitExceeded", color="#cf222e"]
    f0s2 [label="↷ deploy\nSkipped\nDependencyFailed", color="#8c959f"]
    f0s3 [label="◐ report\nRunning · 1m30s\nwhen steps[\"test\"].phase == \"Failed\"", color="#0969da"]
    f0s4 [label="○ clean-up\nWaiting\non exit", color="#8c959f", peripheries=2]
    f0s0 -> f0s1
    f0s1 -> f0s2
    f0s1 -> f0s3 [style=dashed]
    f0s2 -> f0s4 [style=invis]
  }
}
"##;
    assert_eq!(other(&[failed()], Format::Dot), expected);
}

#[test]
fn a_flow_is_json_without_what_is_not_known() {
    let text = other(&[failed(), flow(&[("a", &[])])], Format::Json);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let expected = json!({"flows": [
        {
            "namespace": "ci", "name": "example", "state": "Failed", "progress": "1/5", "duration": "4m5s",
            "message": "step \"test\" failed",
            "layers": [["build"], ["test"], ["deploy", "report"]],
            "onExit": "clean-up",
            "steps": [
                {"name": "build", "dependencies": [], "phase": "Succeeded", "duration": "1m"},
                {"name": "test", "dependencies": ["build"], "phase": "Failed", "reason": "BackoffLimitExceeded",
                 "message": "Job \"example-test-2\" failed: [31mexit 1", "attempts": 2, "duration": "3m5s"},
                {"name": "deploy", "dependencies": ["test"], "phase": "Skipped", "reason": "DependencyFailed",
                 "message": "step \"test\" failed"},
                {"name": "report", "dependencies": ["test"], "when": "steps[\"test\"].phase == \"Failed\"",
                 "phase": "Running", "duration": "1m30s"},
                {"name": "clean-up", "dependencies": [], "phase": "Waiting"},
            ],
        },
        {"name": "example", "layers": [["a"]], "steps": [{"name": "a", "dependencies": []}]},
    ]});
    assert_eq!(json, expected);
}

#[test]
fn every_step_and_every_dependency_is_in_each_graph() {
    for flow in any_flows() {
        let dependencies: usize = flow.spec.flows.iter().map(|s| s.dependencies.len()).sum();
        let mermaid = other(std::slice::from_ref(&flow), Format::Mermaid);
        let dot = other(std::slice::from_ref(&flow), Format::Dot);
        for step in &flow.spec.flows {
            let node = format!("\"● {}", step.name);
            assert!(mermaid.contains(&node) && dot.contains(&node), "{node}");
        }
        assert_eq!(mermaid.matches("-> f0s").count(), dependencies, "{mermaid}");
        let hidden = dot.matches("[style=invis]").count();
        assert_eq!(
            dot.matches(" -> f0s").count(),
            dependencies + hidden,
            "{dot}"
        );
    }
}

#[test]
fn a_flow_of_nothing_but_a_last_step_is_drawn() {
    let mut only = flow(&[("a", &[])]);
    only.spec.on_exit = Some("a".to_owned());
    let flows = [only];
    assert!(other(&flows, Format::Mermaid).contains("f0s0([\"● a<br>on exit\"])\n  end"));
    assert!(
        other(&flows, Format::Dot).contains("f0s0 [label=\"● a\\non exit\", peripheries=2]\n  }")
    );
}

#[test]
fn no_text_is_read_as_syntax() {
    let name = "a\"];\n\u{1b}#`<b>&lt;\\N{}\\";
    let mut flow = flow(&[("a", &[]), ("b", &["a"])]);
    flow.spec.flows[0].name = name.to_owned();
    flow.spec.flows[1].dependencies = vec![name.to_owned()];
    flow.metadata.name = Some(name.to_owned());
    let flows = [flow];
    let mermaid = other(&flows, Format::Mermaid);
    let expected = "f0s0[\"● a#34;#93;#59; #35;#96;#60;b#62;#38;lt#59;#92;N#123;#125;#92;\"]\n";
    assert!(mermaid.contains(expected), "{mermaid}");
    let dot = other(&flows, Format::Dot);
    let expected = r#"f0s0 [label="● a\"]; #`<b>&amp;lt;\\N{}\\"]"#;
    assert!(dot.contains(expected), "{dot}");
    for graph in [mermaid, dot] {
        assert!(
            !graph.contains(|c: char| c.is_control() && c != '\n'),
            "{graph:?}"
        );
    }
}
