//! `operon flow graph` as a user runs it: files, standard input, and their errors.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};

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

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Runs the program in this folder, where no cluster is to be found.
    fn run(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_operon"))
            .args(["flow", "graph"])
            .args(arguments)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env_remove("KUBECONFIG")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// The picture, if there is one.
    fn drawn(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run(arguments, input)?;
        let error = String::from_utf8(output.stderr)?;
        anyhow::ensure!(output.status.success(), error);
        assert_eq!(error, "");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The error, if nothing is drawn.
    fn error(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.run(arguments, input)?;
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stdout)?, "");
        Ok(String::from_utf8(output.stderr)?)
    }
}

#[test]
fn a_flow_is_drawn_from_a_file_of_any_name() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("example.yaml", EXAMPLE)?;
    folder.file("jobflow-example", EXAMPLE)?;
    for name in ["example.yaml", "./example.yaml", "jobflow-example"] {
        assert_eq!(folder.drawn(&[name], "")?, DRAWN, "{name}");
    }
    Ok(())
}

#[test]
fn a_flow_is_drawn_from_standard_input() -> Result<()> {
    let folder = Folder::new()?;
    assert_eq!(folder.drawn(&["-"], EXAMPLE)?, DRAWN);
    let json: serde_json::Value = serde_yaml_ng::from_str(EXAMPLE)?;
    let json = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [json]});
    assert_eq!(folder.drawn(&["-"], &json.to_string())?, DRAWN);
    Ok(())
}

#[test]
fn of_several_documents_all_flows_are_drawn_or_one() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("all.yaml", &format!("{EXAMPLE}{OTHERS}"))?;
    let all = folder.drawn(&["all.yaml"], "")?;
    assert_eq!(all, format!("{DRAWN}\n{OTHER_DRAWN}"));
    let other = folder.drawn(&["all.yaml", "--name", "other"], "")?;
    assert_eq!(other, OTHER_DRAWN);
    let error = folder.error(&["all.yaml", "--name", "template"], "")?;
    assert_eq!(
        error,
        "operon: all.yaml: there is no JobFlow \"template\" in it, only \"jobflow-example\", \"other\"\n"
    );
    Ok(())
}

#[test]
fn a_flow_that_makes_no_sense_is_not_drawn() -> Result<()> {
    let folder = Folder::new()?;
    let cycle = EXAMPLE.replace("dependencies: []", "dependencies: [job3]");
    let error = folder.error(&["-"], &cycle)?;
    assert_eq!(
        error,
        "operon: JobFlow jobflow-example: these steps wait for each other: job1 → job3 → job1\n"
    );
    let unknown = EXAMPLE.replace("[job4, job2]", "[job4, jbo2]");
    for output in ["text", "svg"] {
        let error = folder.error(&["-", "--output", output], &unknown)?;
        assert_eq!(
            error,
            "operon: JobFlow jobflow-example: step \"job5\": it depends on \"jbo2\", \
             which is not a step of this flow; did you mean \"job2\"?\n"
        );
    }
    // One of several is enough, and each is reported.
    let both = folder.error(&["-"], &format!("{cycle}{OTHERS}---\n{unknown}"))?;
    assert_eq!(both.lines().count(), 2, "{both}");
    Ok(())
}

#[test]
fn what_is_no_flow_is_said() -> Result<()> {
    let folder = Folder::new()?;
    for (input, expected) in [
        (
            "",
            "there is no JobFlow of api.practice.com/v1alpha1 in it\n",
        ),
        ("kind: [", "it is not valid YAML or JSON"),
        (
            "apiVersion: v1\nkind: Pod\n",
            "there is no JobFlow of api.practice.com/v1alpha1 in it, only v1 Pod\n",
        ),
        (
            "apiVersion: api.practice.com/v1alpha1\nkind: JobFlow\nmetadata: {name: x}\nspec: {flows: {}}\n",
            "object 1 is not a valid JobFlow: line 4: spec.flows must be of type array, not an object\n",
        ),
    ] {
        let error = folder.error(&["-"], input)?;
        assert!(error.starts_with("operon: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let error = folder.error(&["missing.yaml"], "")?;
    assert!(
        error.contains("failed to read missing.yaml: No such file"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_file_is_read_as_the_api_server_would_see_it() -> Result<()> {
    let folder = Folder::new()?;
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
    assert_eq!(folder.drawn(&["-"], &merged)?, DRAWN);
    Ok(())
}

#[test]
fn what_the_api_server_would_refuse_is_reported_with_line_and_field() -> Result<()> {
    let folder = Folder::new()?;
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
        let error = folder.error(&["-"], &text)?;
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_name_is_looked_for_in_a_cluster() -> Result<()> {
    let folder = Folder::new()?;
    let error = folder.error(&["jobflow-example"], "")?;
    assert!(
        error.contains("\"jobflow-example\" is not a file, and no cluster was found"),
        "{error}"
    );
    Ok(())
}

#[test]
fn an_image_is_written_whole() -> Result<()> {
    let folder = Folder::new()?;
    let image = folder.drawn(&["-", "-o", "svg"], EXAMPLE)?;
    assert!(
        image.starts_with("<svg ") && image.ends_with("</svg>\n"),
        "{image}"
    );
    for name in ["job1", "job2", "job3", "job4", "job5"] {
        assert!(image.contains(&format!("● {name}</text>")), "{name}");
    }
    Ok(())
}

#[test]
fn colours_are_only_where_they_are_wanted() -> Result<()> {
    let folder = Folder::new()?;
    let has_color = |arguments: &[&str]| -> Result<bool> {
        Ok(folder.drawn(arguments, EXAMPLE)?.contains('\u{1b}'))
    };
    assert!(!has_color(&["-"])?, "no terminal");
    assert!(!has_color(&["-", "--color", "never"])?);
    assert!(has_color(&["-", "--color", "always"])?);
    assert!(!has_color(&["-", "--color", "always", "-o", "svg"])?);
    Ok(())
}
