//! `graph` as a user runs it: files, standard input, the cluster, and their errors.

mod refused;

use std::{io::Write as _, path::PathBuf, process::Stdio};

use serde_json::{Value, json};

use crate::server::{Server, texts};

/// The flow of job-deploy-operator's own documentation, without what its Jobs do.
const EXAMPLE: &str = "\
apiVersion: api.practice.com/v1alpha1
kind: JobFlow
metadata:
  name: jobflow-example
spec:
  globalParams:
    nodeName: minikube
  flows:
    - name: job1
      dependencies: []
      jobTemplate: &job
        template:
          spec:
            containers:
              - name: nginx
                image: busybox:1.28
                command: [sh, -c, sleep 10s]
    - name: job2
      dependencies: [job1]
      jobTemplate: *job
    - name: job3
      dependencies: [job1, job2]
      jobTemplate: *job
    - name: job4
      jobTemplate: *job
    - name: job5
      dependencies: [job4, job2]
      jobTemplate: *job
";

const DRAWN: &str = "\
JobFlow jobflow-example
5 steps in 3 layers

1  ●      job1
   │ ●    job4
2  ├─│─●  job2  ← job1
3  ●─│─┤  job3  ← job1, job2
     ●─╯  job5  ← job2, job4
";

/// Another flow, a template and something else, as one document each.
const OTHERS: &str = "\
---
apiVersion: api.practice.com/v1alpha1
kind: JobTemplate
metadata: {name: template}
spec: {jobTemplate: {template: {spec: {containers: []}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: jobflow-example}
---
apiVersion: api.practice.com/v1alpha1
kind: JobFlow
metadata: {name: other, namespace: ci}
spec: {flows: [{name: only, jobTemplateRef: template}]}
";

const OTHER_DRAWN: &str = "\
JobFlow ci/other
1 step in 1 layer

1  ●  only
";

/// The files of one test, and a cluster that must not be asked.
struct Files {
    folder: PathBuf,
    server: Server,
}

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("graph-{name}");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let server = Server::with(&name, Vec::new());
        Self { folder, server }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder.join(name), text).expect("a file");
    }

    fn run(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = self
            .server
            .command(&[&["graph"], arguments].concat())
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that reads no input may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let result = texts(&child.wait_with_output().expect("it ends"));
        assert_eq!(self.server.requests(), Vec::<String>::new());
        result
    }

    /// The picture, without errors and warnings.
    fn drawn(&self, arguments: &[&str], input: &str) -> String {
        let (code, out, err) = self.run(arguments, input);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        out
    }

    /// The errors, without a picture.
    fn error(&self, arguments: &[&str], input: &str) -> String {
        let (code, out, err) = self.run(arguments, input);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        err
    }
}

/// A flow of this many steps in layers of ten, each with two dependencies.
fn large(steps: usize) -> String {
    let steps: Vec<_> = (0..steps)
        .map(|step| {
            let dependencies: Vec<_> = match step {
                0..10 => Vec::new(),
                _ => vec![format!("s{}", step - 10), format!("s{}", (step - 10) / 10 * 10)],
            };
            let dependencies = dependencies.into_iter().collect::<std::collections::BTreeSet<_>>();
            json!({"name": format!("s{step}"), "dependencies": dependencies, "jobTemplate": {"template": {"spec": {"containers": []}}}})
        })
        .collect();
    json!({"apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow", "metadata": {"name": "large"}, "spec": {"flows": steps}})
        .to_string()
}

#[test]
fn a_flow_is_drawn_from_a_file_or_standard_input() {
    let files = Files::new("files");
    files.file("example.yaml", EXAMPLE);
    for file in ["example.yaml", "./example.yaml"] {
        assert_eq!(files.drawn(&["-f", file], ""), DRAWN, "{file}");
    }
    assert_eq!(files.drawn(&["--filename", "-"], EXAMPLE), DRAWN);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        serde_json::from_str::<Value>(&large(3)).expect("JSON"),
    ]});
    let drawn = files.drawn(&["-f", "-"], &list.to_string());
    assert!(
        drawn.starts_with("JobFlow large\n3 steps in 1 layer\n"),
        "{drawn}"
    );
}

#[test]
fn of_several_documents_all_flows_are_drawn_or_one() {
    let files = Files::new("documents");
    files.file("all.yaml", format!("{EXAMPLE}{OTHERS}"));
    let all = files.drawn(&["-f", "all.yaml"], "");
    assert_eq!(all, format!("{DRAWN}\n{OTHER_DRAWN}"));
    for object in [&["jf/other"][..], &["jobflow", "other"]] {
        let other = files.drawn(&[object, &["-f", "all.yaml"]].concat(), "");
        assert_eq!(other, OTHER_DRAWN);
    }
    let error = files.error(&["jf/template", "-f", "all.yaml"], "");
    assert_eq!(
        error,
        "error: all.yaml: there is no JobFlow \"template\" in it, only \"jobflow-example\", \"other\"\n"
    );
}

#[test]
fn each_format_is_written_whole() {
    let files = Files::new("formats");
    let svg = files.drawn(&["-f", "-", "-o", "svg"], EXAMPLE);
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    let mermaid = files.drawn(&["-f", "-", "-o", "mermaid"], EXAMPLE);
    assert!(
        mermaid.starts_with("flowchart LR\n") && mermaid.contains("f0s0 --> f0s1\n"),
        "{mermaid}"
    );
    let dot = files.drawn(&["-f", "-", "--output", "dot"], EXAMPLE);
    assert!(
        dot.starts_with("digraph {\n") && dot.contains("f0s0 -> f0s1\n"),
        "{dot}"
    );
    let json: Value =
        serde_json::from_str(&files.drawn(&["-f", "-", "-o", "json"], EXAMPLE)).expect("JSON");
    let layers = json!([["job1", "job4"], ["job2"], ["job3", "job5"]]);
    assert_eq!(json["flows"][0]["layers"], layers);
    let error = files.error(&["-f", "-", "-o", "png"], EXAMPLE);
    assert!(error.contains("text, svg, mermaid, dot, json"), "{error}");
}

#[test]
fn a_missing_template_is_a_warning_since_the_cluster_may_have_it() {
    let files = Files::new("templates");
    let flow = OTHERS.replace("name: template}", "name: another}");
    files.file(
        "flow.yaml",
        flow.replace(
            "only, jobTemplateRef: template}",
            "only, jobTemplateRef: template}, {name: b, jobTemplateRef: template}",
        ),
    );
    let (code, out, err) = files.run(&["-f", "flow.yaml"], "");
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("JobFlow ci/other\n2 steps in 1 layer\n"),
        "{out}"
    );
    assert_eq!(
        err,
        "warning: flow.yaml: JobFlow \"other\": spec.flows[0].jobTemplateRef: the file has no JobTemplate \"template\" \
         in namespace \"ci\"; step \"only\" and 1 more wait until it is applied\n"
    );
}

#[test]
fn a_flow_may_have_a_thousand_steps_but_no_more() {
    let files = Files::new("large");
    files.file("large.json", large(1000));
    for output in ["text", "svg"] {
        let drawn = files.drawn(&["-f", "large.json", "-o", output], "");
        assert!(drawn.contains("s999"), "{output}");
    }
    let error = files.error(&["-f", "-"], &large(1001));
    assert_eq!(
        error,
        "error: standard input: JobFlow \"large\" (object 1): line 1: spec.flows has 1001 items; at most 1000 are allowed\n"
    );
}

#[test]
fn what_could_control_a_terminal_or_a_page_is_escaped() {
    let files = Files::new("escapes");
    // In a file such a name is an error, which is printable.
    let named = EXAMPLE.replace("- name: job1", "- name: \"a\\e[2J\"");
    let error = files.error(&["-f", "-"], &named);
    assert!(
        error.contains("spec.flows[0].name is \"a\\u{1b}[2J\", but must match"),
        "{error}"
    );
    // A when is free text.
    let when = EXAMPLE.replace(
        "dependencies: []",
        "when: '\"</text><script>\\\" & \u{202e}\" != \"\"'",
    );
    for output in ["text", "svg", "mermaid", "dot", "json"] {
        let drawn = files.drawn(&["-f", "-", "-o", output], &when);
        let is_control = |letter: char| letter.is_control() && letter != '\n';
        assert!(
            !drawn.contains(is_control) && !drawn.contains('\u{202e}'),
            "{output}: {drawn:?}"
        );
        let has_tag = drawn.contains("<script>");
        assert_eq!(
            has_tag,
            matches!(output, "text" | "dot" | "json"),
            "{output}: {drawn}"
        );
        if output == "dot" {
            assert!(
                drawn.contains(r#"\"</text><script>\\\" &amp; \" != \"\""#),
                "{drawn}"
            );
        }
    }
}

#[test]
fn a_file_is_read_as_the_api_server_would_see_it() {
    let files = Files::new("read");
    // A merge key, null for absent, YAML 1.1's numbers and booleans.
    let merged = EXAMPLE
        .replace(
            "    - name: job2\n",
            "    - <<: {dependencies: [job1], when: null}\n      name: job2\n",
        )
        .replace(
            "      dependencies: [job1]\n      jobTemplate: *job\n",
            "      timeoutSeconds: 86_400\n      outputs: null\n      jobTemplate: *job\n",
        )
        .replace("  globalParams:", "  suspend: no\n  globalParams:");
    assert!(merged.contains("<<") && merged.contains("86_400"));
    assert_eq!(files.drawn(&["-f", "-"], &merged), DRAWN);
}

const FLOW: &str = "GET /apis/api.practice.com/v1alpha1/namespaces/shop/jobflows/release";

fn live() -> Value {
    let job = || json!({"template": {"spec": {"containers": []}}});
    json!({
        "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
        "metadata": {"name": "release", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5"},
        "spec": {"flows": [
            {"name": "build", "jobTemplate": job()},
            {"name": "deploy", "dependencies": ["build"], "jobTemplateRef": "gone"},
        ]},
        "status": {
            "state": "Running", "progress": "1/2", "startTime": "2026-01-01T00:00:00Z",
            "steps": [
                {"name": "build", "phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:05Z"},
                {"name": "deploy", "phase": "Blocked", "reason": "TemplateNotFound", "message": "no JobTemplate \"gone\" \u{1b}[2J"},
            ],
        },
    })
}

#[test]
fn a_flow_of_the_cluster_is_drawn_with_the_state_of_its_steps() {
    let server = Server::with("graph-live", vec![(FLOW, 200, live())]);
    for words in [
        &["graph", "jobflow/release"][..],
        &["graph", "jf", "release"],
    ] {
        let (code, out, err) = server.run(words);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(
            out.starts_with("JobFlow shop/release: Running · 1/2 · "),
            "{out}"
        );
        assert!(out.contains("✓  build   Succeeded  1m5s"), "{out}");
        assert!(
            out.contains("TemplateNotFound: no JobTemplate \"gone\" [2J"),
            "{out}"
        );
    }
    let (_, out, _) = server.run(&["graph", "jf/release", "-o", "json"]);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["flows"][0]["steps"][1]["reason"], "TemplateNotFound");
    assert_eq!(json["flows"][0]["state"], "Running");
}
