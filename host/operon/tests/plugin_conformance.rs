//! `operon plugin test --conformance` as an author runs it: on every action of ours, which must pass, and on careless
//! ones, which must not.

mod support;

use std::{fs, process::Command};

use anyhow::Result;
use support::{annotate, builtin, hostile};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: foo, namespace: team, labels: {tier: blue, old: x}, annotations: {old: x}}
spec:
  containers:
  - {name: app, image: 'app:1', resources: {requests: {cpu: 100m, memory: 64Mi}}}
  - {name: web, image: 'web:2', resources: {requests: {cpu: 100m, memory: 64Mi}}}
";

const REPLICA_SET: &str = "\
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  {name: web, namespace: team, uid: replicaset, labels: {app: web, pod-template-hash: '1'}, ownerReferences: [
    {apiVersion: apps/v1, kind: Deployment, name: web, uid: deployment, controller: true}]}
spec:
  replicas: 2
  selector: {matchLabels: {app: web, pod-template-hash: '1'}}
  template: {metadata: {labels: {app: web, pod-template-hash: '1'}}, spec: {containers: [{name: app, image: 'app:1'}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: team, uid: deployment}
spec: {replicas: 2}
";

/// A pod of the ReplicaSet.
fn member(name: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Pod
metadata:
  {{name: {name}, namespace: team, labels: {{app: web, pod-template-hash: '1'}}, ownerReferences: [
    {{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: replicaset, controller: true}}]}}
spec: {{containers: [{{name: app, image: 'app:1'}}]}}
"
    )
}

fn job(parameters: &str) -> String {
    format!(
        "\
apiVersion: apps.kusionstack.io/v1alpha1
kind: OperationJob
metadata: {{name: test}}
spec: {{action: Test, parameters: {parameters}, targets: [{{name: foo}}]}}
"
    )
}

/// Whether it succeeds, what is shown, and the error. A slow machine says in between how far it is.
fn conformance(
    component: &[u8],
    pods: &str,
    objects: &str,
    job: &str,
) -> Result<(bool, String, String)> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_operon"));
    command.current_dir(folder.path());
    command.args(["plugin", "test", "action.wasm", "--conformance"]);
    fs::write(folder.path().join("action.wasm"), component)?;
    // The finalizer of the careless action that keeps it.
    let plugin = "kind: ActionPlugin\nspec: {finalizers: [operon.example/kept]}\n";
    for (option, name, content) in [
        ("--settings", "plugin.yaml", plugin),
        ("--target", "pods.yaml", pods),
        ("--objects", "objects.yaml", objects),
        ("--job", "job.yaml", job),
    ] {
        if !content.is_empty() {
            fs::write(folder.path().join(name), content)?;
            command.args([option, name]);
        }
    }
    let output = command.output()?;
    let text = |bytes| String::from_utf8(bytes);
    Ok((
        output.status.success(),
        text(output.stdout)?,
        text(output.stderr)?,
    ))
}

/// What is found about the careless action of a name.
fn careless(name: &str) -> Result<(bool, String, String)> {
    let pod = POD.replace("name: foo", &format!("name: {name}"));
    conformance(hostile()?, &pod, "", "")
}

/// The action passes, and ends so if nothing goes wrong.
fn passes(component: &[u8], pods: &str, objects: &str, job: &str, end: &str) -> Result<()> {
    let (is_success, shown, error) = conformance(component, pods, objects, job)?;
    assert!(is_success, "{shown}{error}");
    assert!(shown.starts_with(&format!("plain run  {end}: ")), "{shown}");
    assert!(shown.contains(" scenarios, 0 failures\n"), "{shown}");
    Ok(())
}

#[test]
fn the_example_passes_and_the_table_is_complete() -> Result<()> {
    let (is_success, shown, error) = conformance(annotate()?, POD, "", "")?;
    assert!(is_success, "{shown}{error}");
    assert_eq!(shown, include_str!("conformance/annotate.txt"));
    Ok(())
}

#[test]
fn actions_that_change_a_pod_pass() -> Result<()> {
    for (action, parameters, end) in [
        ("restart", "{}", "foo: Succeeded"),
        (
            "label",
            "{set: {tier: green, new: x}, remove: [old]}",
            "foo: Succeeded",
        ),
        (
            "annotate",
            "{set: {new: x}, remove: [old]}",
            "foo: Succeeded",
        ),
        (
            "resize",
            "{resources: {requests: {cpu: 200m}}}",
            "foo: Succeeded",
        ),
        ("debug", "{image: 'tools:1'}", "foo: Succeeded"),
        (
            "check",
            "{label: {key: tier, value: blue}}",
            "foo: Succeeded",
        ),
    ] {
        let component = builtin(&format!("operon-action-{action}"))?;
        passes(&component, POD, "", &job(parameters), end)?;
    }
    Ok(())
}

#[test]
fn actions_that_remove_a_standalone_pod_pass() -> Result<()> {
    for action in ["evict", "replace"] {
        let component = builtin(&format!("operon-action-{action}"))?;
        passes(&component, POD, "", "", "foo: Succeeded")?;
    }
    Ok(())
}

#[test]
fn a_plain_run_without_an_effect_and_without_success_tests_nothing() -> Result<()> {
    let check = builtin("operon-action-check")?;
    let waits = job("{label: {key: tier, value: green}}");
    let idle = POD.replace("name: foo", "name: does-nothing");
    let recreate = builtin("operon-action-recreate")?;
    for (component, pod, job, end) in [
        (&*check, POD, &*waits, "foo: waiting (WaitingForLabel)"),
        (&*recreate, POD, "", "foo: Failed (NoController)"),
        (hostile()?, &*idle, "", "does-nothing: waiting (NotDone)"),
    ] {
        let (is_success, shown, error) = conformance(component, pod, "", job)?;
        assert!(!is_success, "{shown}{error}");
        let expected =
            format!("operon: nothing was tested: the plain run has no effect, and ends as {end}: ");
        assert!(error.starts_with(&expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_plain_run_that_does_not_rest_is_refused() -> Result<()> {
    for name in ["writes-always", "waits-long"] {
        let (is_success, shown, error) = careless(name)?;
        assert!(!is_success, "{shown}{error}");
        let expected = "operon: the plain run, in which nothing goes wrong, does not come to rest in 10 rounds: raise --rounds, ";
        assert!(error.starts_with(expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_plain_run_that_breaks_a_rule_is_refused() -> Result<()> {
    for (name, expected) in [
        (
            "is-always-refused",
            "is-always-refused: its effects are refused again and again: Conflict: ",
        ),
        (
            "gives-no-reason",
            "gives-no-reason has not finished, and nothing says why",
        ),
    ] {
        let (is_success, shown, error) = careless(name)?;
        assert!(!is_success, "{shown}{error}");
        let expected = format!("operon: the plain run, in which nothing goes wrong: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_run_in_which_something_goes_wrong_must_end_as_the_plain_one() -> Result<()> {
    let conflict = "conflict on each effect               failed  ";
    let touched = "objects changed by another client     failed  ";
    let released = "called after a killed operate-target  failed  ";
    for (name, scenario, expected) in [
        (
            "writes-after-a-conflict",
            conflict,
            "it does not come to rest in 15 rounds: the action writes in every round",
        ),
        (
            "ends-after-a-conflict",
            conflict,
            "the end is ends-after-a-conflict: Failed (GaveUp); in the plain run it is ends-after-a-conflict: Succeeded",
        ),
        (
            "marks-after-a-conflict",
            conflict,
            "Pod marks-after-a-conflict: metadata.labels.operated is \"2\"; in the plain run it is \"1\"",
        ),
        (
            "overwrites-others",
            touched,
            "Pod overwrites-others has lost other-client.example/touched from metadata.labels, which another client added",
        ),
        (
            "keeps-a-finalizer",
            released,
            "Pod keeps-a-finalizer is released and keeps the finalizer operon.example/kept, which the action added",
        ),
    ] {
        let (is_success, shown, error) = careless(name)?;
        assert!(!is_success, "{shown}{error}");
        assert!(
            shown.contains(&format!("  {scenario}{expected}")),
            "{shown}"
        );
    }
    Ok(())
}

#[test]
fn an_action_that_makes_its_objects_again_or_waits_in_its_own_words_passes() -> Result<()> {
    for (name, end) in [
        ("makes-two", "makes-two: Succeeded"),
        (
            "waits-in-its-words",
            "waits-in-its-words: waiting (NotFound)",
        ),
        ("waits-forever", "waits-forever: waiting (NotDone)"),
    ] {
        let pod = POD.replace("name: foo", &format!("name: {name}"));
        passes(hostile()?, &pod, "", "", end)?;
    }
    Ok(())
}

#[test]
fn actions_that_remove_pods_of_a_replica_set_pass() -> Result<()> {
    let (one, other) = (member("web-a"), member("web-b"));
    let two = format!("{one}---\n{other}");
    let rest = format!("{REPLICA_SET}---\n{other}");
    for action in ["evict", "replace", "recreate"] {
        let component = builtin(&format!("operon-action-{action}"))?;
        passes(&component, &one, &rest, "", "web-a: Succeeded")?;
        let end = "web-a: Succeeded, web-b: Succeeded";
        passes(&component, &two, REPLICA_SET, "", end)?;
    }
    Ok(())
}

#[test]
fn an_action_that_creates_a_second_object_when_called_again_fails() -> Result<()> {
    let pod = POD.replace("name: foo", "name: creates-twice");
    let (is_success, shown, error) = conformance(hostile()?, &pod, "", "")?;
    assert!(!is_success, "{shown}{error}");
    let operate = section(&shown, "operate-target");
    let expected = "  called twice                          failed  it has created ConfigMap made-";
    assert!(operate.contains(expected), "{shown}");
    let expected = "  host killed after its effects         failed  it has created ConfigMap made-";
    assert!(operate.contains(expected), "{shown}");
    assert!(
        shown.contains(
            "which it created before, still exists (call 1, operate-target of creates-twice)\n"
        ),
        "{shown}"
    );
    let left = section(&shown, "release-target");
    assert!(
        left.contains("failed  Pod creates-twice is released, and ConfigMap made-"),
        "{shown}"
    );
    assert!(shown.contains("\n24 scenarios, 3 failures\n"), "{shown}");
    assert!(
        error.ends_with("operon: 3 of 24 scenarios failed\n"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn an_action_that_changes_a_later_pod_of_the_name_fails() -> Result<()> {
    let pod = POD.replace("name: foo", "name: follows-the-name");
    let (is_success, shown, error) = conformance(hostile()?, &pod, "", "")?;
    assert!(!is_success, "{shown}{error}");
    let expected = "  pod recreated                         failed  operate-target changes Pod follows-the-name, which is another pod of that name: metadata.labels.operated was absent and is \"true\" (call 1, operate-target of follows-the-name)";
    assert!(
        section(&shown, "operate-target").contains(expected),
        "{shown}"
    );
    assert!(shown.contains("\n23 scenarios, 1 failure\n"), "{shown}");
    Ok(())
}

#[test]
fn an_action_that_breaks_a_rule_where_nothing_goes_wrong_is_refused() -> Result<()> {
    let pod = POD.replace("name: foo", "name: panic");
    let (is_success, shown, error) = conformance(hostile()?, &pod, "", "")?;
    assert!(!is_success, "{shown}{error}");
    let expected = "operon: the plain run, in which nothing goes wrong: operate-target: the component broke a rule: PluginTrapped: ";
    assert!(error.starts_with(expected), "{error}");
    Ok(())
}

/// The lines about a function.
fn section<'a>(shown: &'a str, function: &str) -> &'a str {
    let (_, rest) = shown
        .split_once(&format!("\n{function}\n"))
        .unwrap_or_default();
    let end = rest.find("\nget-ops-progress\n").unwrap_or(rest.len());
    &rest[..end]
}
