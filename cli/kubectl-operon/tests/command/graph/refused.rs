//! What is not drawn: each error names file, object and field, and says what to do.

use serde_json::json;

use super::{EXAMPLE, FLOW, Files, OTHERS, live};
use crate::server::Server;

#[test]
fn an_invalid_flow_is_not_drawn_and_each_error_names_file_flow_and_field() {
    let files = Files::new("invalid");
    let cycle = EXAMPLE.replace("dependencies: []", "dependencies: [job3]");
    files.file("cycle.yaml", &cycle);
    assert_eq!(
        files.error(&["-f", "cycle.yaml"], ""),
        "error: cycle.yaml: JobFlow jobflow-example: spec.flows[].dependencies: these steps wait for each other: \
         job1 → job3 → job1; remove one of these dependencies\n"
    );
    let unknown = EXAMPLE.replace("[job4, job2]", "[job4, jbo2]");
    for output in ["text", "svg", "mermaid", "dot", "json"] {
        assert_eq!(
            files.error(&["-f", "-", "-o", output], &unknown),
            "error: standard input: JobFlow jobflow-example: spec.flows[4].dependencies: step \"job5\": it depends on \"jbo2\", \
             which is not a step of this flow; did you mean \"job2\"?\n"
        );
    }
    let stranger = EXAMPLE.replace("[job4, job2]", "[job4, approval]");
    let error = files.error(&["-f", "-"], &stranger);
    assert!(
        error.ends_with("; add the step, or remove the dependency\n"),
        "{error}"
    );
    // Each of several is reported, in a line of its own.
    let both = files.error(&["-f", "-"], &format!("{cycle}{OTHERS}---\n{unknown}"));
    assert_eq!(both.lines().count(), 2, "{both}");
}

#[test]
fn a_file_without_a_flow_is_an_error_that_says_what_is_expected() {
    let files = Files::new("other");
    let expected = "pass a file with a JobFlow of api.practice.com/v1alpha1";
    let volcano = "apiVersion: flow.volcano.sh/v1alpha1\nkind: JobFlow\n";
    for (input, found) in [
        ("", "it is empty"),
        ("---\n---\n# only comments\n", "it is empty"),
        ("apiVersion: v1\nkind: Pod\n", "there is only v1 Pod in it"),
        (
            volcano,
            "there is only flow.volcano.sh/v1alpha1 JobFlow in it",
        ),
        ("just words", "there is no object in it"),
        ("- 1\n- 2\n", "there is no object in it"),
    ] {
        let error = files.error(&["-f", "-"], input);
        assert_eq!(
            error,
            format!("error: standard input: {found}; {expected}\n")
        );
    }
    files.file("not-text", [0xff, 0xfe, 0x00]);
    std::fs::create_dir_all(files.folder.join("folder")).expect("a folder");
    for (file, expected) in [
        ("missing.yaml", "failed to read missing.yaml: No such file"),
        ("folder", "failed to read folder: Is a directory"),
        (
            "not-text",
            "failed to read not-text: stream did not contain valid UTF-8",
        ),
    ] {
        let error = files.error(&["-f", file], "");
        assert!(error.contains(expected), "{error}");
    }
    let error = files.error(&["-f", "-"], "kind: [");
    assert!(
        error.starts_with("error: standard input: it is not valid YAML or JSON"),
        "{error}"
    );
}

#[test]
fn an_object_is_named_by_kind_and_name() {
    let files = Files::new("names");
    files.file("flow.yaml", EXAMPLE);
    for (arguments, expected) in [
        (
            &[][..],
            "write jf/NAME for a JobFlow of the cluster, or -f FILE",
        ),
        (
            &["flow.yaml"],
            "write jf/NAME for a JobFlow of the cluster, or -f FILE",
        ),
        (
            &["./flow.yaml"],
            "write jf/NAME for a JobFlow of the cluster, or -f FILE",
        ),
        (
            &["opj/web"],
            "only a JobFlow has a graph; `kubectl operon get opj/web` shows",
        ),
        (&["jobflwo/x"], "did you mean jobflow?"),
    ] {
        let error = files.error(arguments, "");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn what_the_api_server_would_refuse_is_reported_with_line_and_field() {
    let files = Files::new("refused");
    for (from, to, expected) in [
        (
            "      dependencies: [job4, job2]",
            "      dependancies: [job4, job2]",
            "line 27: spec.flows[4].dependancies is not a known field; did you mean \"dependencies\"?",
        ),
        (
            "image: busybox:1.28",
            "imagePolicy: Always",
            "line 16: spec.flows[0].jobTemplate.template.spec.containers[0].imagePolicy is not a known field; did you mean \"image\"?",
        ),
        (
            "dependencies: []",
            "dependencies: no",
            "line 10: spec.flows[0].dependencies must be of type array, not false",
        ),
        (
            "dependencies: []",
            "when: yes",
            "line 10: spec.flows[0].when must be of type string, not true: put it in quotes if it is meant as a string",
        ),
        (
            "dependencies: []",
            "name: again",
            "line 10: \"name\" is on line 9 already",
        ),
        (
            "dependencies: []",
            "when: \"\"",
            "line 10: spec.flows[0].when has 0 characters; at least 1 are required",
        ),
        (
            "dependencies: []",
            "retry: {limit: 101}",
            "line 10: spec.flows[0].retry.limit must be at most 100, not 101",
        ),
        (
            "dependencies: []",
            "retry: {backoffSeconds: 1}",
            "line 10: spec.flows[0].retry.limit is missing",
        ),
        (
            "dependencies: []",
            "outputs: [a, a]",
            "line 10: spec.flows[0].outputs has two items with \"a\"",
        ),
        (
            "dependencies: []",
            "inputs: [{env: A, step: b, output: c}, {env: A, step: b, output: c}]",
            "line 10: spec.flows[0].inputs has two items with env \"A\", step \"b\", output \"c\"",
        ),
        (
            "dependencies: []",
            "dependencies: [job1]",
            "line 9: spec.flows[0].dependencies: a step can't depend on itself",
        ),
        (
            "- name: job1",
            "- name: job_1",
            "line 9: spec.flows[0].name is \"job_1\", but must match ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        ),
        (
            "  globalParams:",
            "  failurePolicy: Ignore\n  globalParams:",
            "spec.failurePolicy is \"Ignore\", but must be one of \"StopScheduling\", \"Continue\", \"Cancel\"",
        ),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let error = files.error(&["-f", "-"], &text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_flow_that_the_cluster_does_not_have_or_that_is_invalid_is_an_error() {
    let mut cycle = live();
    cycle["spec"]["flows"][0]["dependencies"] = json!(["deploy"]);
    let server = Server::with("graph-cycle", vec![(FLOW, 200, cycle)]);
    let (code, out, err) = server.run(&["graph", "jf/release"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = "error: JobFlow shop/release: spec.flows[].dependencies: these steps wait for each other: build → deploy → build; ";
    assert!(err.starts_with(expected), "{err}");
    let (code, _, err) = server.run(&["graph", "jf/other"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("Operon's CRDs are not installed"), "{err}");
}
