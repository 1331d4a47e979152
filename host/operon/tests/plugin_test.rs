//! `operon plugin test` as an author runs it: a component, manifests, and what it shows of them.

mod support;

use std::{fs, process::Command};

use anyhow::Result;
use support::{annotate, builtin, hostile};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: foo, namespace: team}
spec: {containers: [{name: app, image: 'app:1'}]}
";

const JOB: &str = "\
apiVersion: apps.kusionstack.io/v1alpha1
kind: OperationJob
metadata: {name: test}
spec: {action: Annotate, targets: [{name: foo}]}
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        folder.file("pod.yaml", POD)?;
        Ok(folder)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.0.path().join(name), content)?)
    }

    /// The exit code, standard output and standard error.
    fn test(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let output = Command::new(env!("CARGO_BIN_EXE_operon"))
            .args(["plugin", "test"])
            .args(arguments)
            .current_dir(self.0.path())
            .output()?;
        let text = |bytes| String::from_utf8(bytes);
        Ok((
            output.status.code(),
            text(output.stdout)?,
            text(output.stderr)?,
        ))
    }
}

#[test]
fn every_call_and_every_change_is_shown_until_the_target_has_finished() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("annotate.wasm", annotate()?)?;
    folder.file("settings.yaml", "key: example.com/seen\nvalue: 'yes'\n")?;
    let (code, shown, error) = folder.test(&[
        "annotate.wasm",
        "--target",
        "pod.yaml",
        "--settings",
        "settings.yaml",
    ])?;
    assert_eq!(
        shown,
        "\
setup  reads only the pods of its targets

round 1
  foo  operate-target: 1 effect
    patch Pod foo
      + metadata.annotations[\"example.com/seen\"]: \"yes\"

round 2
  foo  operate-target: no effect
  foo  get-ops-progress: Succeeded
",
        "{error}"
    );
    assert_eq!((code, error.as_str()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_removed_pod_is_gone_in_the_next_round() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("evict.wasm", builtin("operon-action-evict")?)?;
    let arguments = ["evict.wasm", "--target", "pod.yaml", "--color", "always"];
    let (code, shown, error) = folder.test(&arguments)?;
    assert_eq!(code, Some(0), "{shown}{error}");
    assert!(
        shown.contains("    evict Pod foo\n      \u{1b}[32m+ metadata.deletionTimestamp: "),
        "{shown}"
    );
    assert!(
        shown.contains("get-ops-progress: \u{1b}[32mSucceeded\u{1b}[0m\n"),
        "{shown}"
    );

    let budget = "\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: budget}
spec: {selector: {matchLabels: {}}}
status: {disruptionsAllowed: 0}
";
    folder.file("budget.yaml", budget)?;
    let (code, shown, error) = folder.test(&[
        "evict.wasm",
        "--target",
        "pod.yaml",
        "--objects",
        "budget.yaml",
    ])?;
    assert_eq!(code, Some(1));
    assert!(shown.contains("    refused: DisruptionBudget: "), "{shown}");
    assert!(shown.ends_with("\nNothing changes any more.\n"), "{shown}");
    assert_eq!(
        error,
        "operon: 1 of 1 targets did not succeed: target \"foo\" has not finished\n"
    );
    Ok(())
}

#[test]
fn a_job_gives_targets_and_parameters() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("annotate.wasm", annotate()?)?;
    let with = |job: &str| -> Result<_> {
        folder.file("job.yaml", job)?;
        folder.test(&["annotate.wasm", "--target", "pod.yaml", "--job", "job.yaml"])
    };
    let (code, shown, error) =
        with(&JOB.replace("targets:", "parameters: {value: by hand}, targets:"))?;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        shown.contains("+ metadata.annotations[\"operon.dev/annotated\"]: \"by hand\"\n"),
        "{shown}"
    );
    let (code, shown, error) = with(&JOB.replace("targets:", "parameters: {valeu: x}, targets:"))?;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(
        error.starts_with("operon: BadParameters: spec.parameters: Additional properties"),
        "{error}"
    );
    let (code, shown, error) = with(&JOB.replace("{name: foo}", "{name: bar}"))?;
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("  bar  operate-target: failed: PodNotFound: there is no pod \"bar\"\n"),
        "{shown}"
    );
    assert!(
        shown.contains("  bar  release-target: no effect\n"),
        "{shown}"
    );
    assert!(error.contains("target \"bar\" has failed"), "{error}");
    Ok(())
}

#[test]
fn a_component_that_breaks_a_rule_is_shown_as_the_host_sees_it() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("hostile.wasm", hostile()?)?;
    folder.file("panic.yaml", POD.replace("foo", "panic"))?;
    let (code, shown, error) =
        folder.test(&["hostile.wasm", "--target", "panic.yaml", "--rounds", "1"])?;
    assert_eq!(code, Some(1));
    assert!(
        shown.contains("  panic  operate-target: the component broke a rule: PluginTrapped: "),
        "{shown}{error}"
    );
    assert!(shown.contains("boom on purpose"), "{shown}");
    Ok(())
}

#[test]
fn manifests_that_can_not_be_used_are_named() -> Result<()> {
    let folder = Folder::new()?;
    folder.file("annotate.wasm", annotate()?)?;
    folder.file("empty.yaml", "")?;
    folder.file("job.yaml", JOB)?;
    folder.file("nameless.yaml", "apiVersion: v1\nkind: ConfigMap\n")?;
    for (arguments, expected) in [
        (
            &["--target", "empty.yaml"][..],
            "operon: empty.yaml has no object\n",
        ),
        (
            &["--target", "job.yaml"],
            "is not a pod: give it by --objects\n",
        ),
        (
            &["--target", "pod.yaml", "--job", "pod.yaml"],
            "operon: pod.yaml must have one OperationJob; it has 0\n",
        ),
        (
            &["--target", "pod.yaml", "--objects", "nameless.yaml"],
            "an object must have apiVersion, kind and metadata.name",
        ),
    ] {
        let (code, shown, error) = folder.test(&[&["annotate.wasm"], arguments].concat())?;
        assert_eq!((code, shown.as_str()), (Some(1), ""));
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}
