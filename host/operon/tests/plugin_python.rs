//! `operon plugin` for an action in Python, as an author runs it: from an empty folder to a component that a host loads,
//! and the errors on the way.

mod package;

use std::fs;

use anyhow::{Result, ensure};
use package::{Folder, error};

#[test]
fn a_new_package_builds_into_a_component_that_a_host_loads_and_calls() -> Result<()> {
    let folder = Folder::with("mark-pod", "python")?;
    folder.use_installed("OPERON_PYTHON_VENV", "mark-pod/build/venv")?;
    // What it prints, and what it does not handle, are lines of the host's log.
    let source = folder.path("mark-pod/action.py");
    let code = fs::read_to_string(&source)?;
    let checked = "        pod = target.existing_pod()\n        key, value = annotation(job)\n        operation";
    ensure!(code.contains(checked), "{code}");
    let wrong = "        if target.name == \"wrong\":\n            print(\"trying\", 1)\n            print(\"and\", \"failing\", end=\"\")\n            raise ValueError(\"no such thing\")\n";
    fs::write(&source, code.replace(checked, &format!("{wrong}{checked}")))?;
    let report = folder.printed(&["build", "--path", "mark-pod"])?;
    let lines: Vec<_> = report.lines().collect();
    let [file, size, digest, needs, "", next] = lines.as_slice() else {
        anyhow::bail!("{report}");
    };
    assert_eq!(*file, "mark-pod/mark-pod.wasm");
    let fits = " gzipped; too large for a ConfigMap, even gzipped: only by OCI";
    assert!(size.ends_with(fits), "{size}");
    let component = fs::read(folder.path(file))?;
    let expected = operon_plugin_registry::digest(&component);
    assert_eq!(digest.trim(), format!("digest  {expected}"));
    assert!(
        needs.trim().starts_with("needs   components.maxSizeMiB="),
        "{needs}"
    );
    let expected = "Next: operon plugin push mark-pod/mark-pod.wasm REGISTRY/NAME:TAG";
    assert_eq!(*next, expected);

    let test = || {
        let mut test = folder.command(&["test", "mark-pod.wasm", "--target", "pod.yaml"]);
        test.args(["--job", "job.yaml", "--settings", "plugin.yaml"]);
        test.current_dir(folder.path("mark-pod"));
        test
    };
    let output = test().arg("--conformance").output()?;
    let (shown, errors) = (String::from_utf8(output.stdout)?, output.stderr);
    let errors = String::from_utf8(errors)?;
    assert!(
        shown.ends_with(" scenarios, 0 failures\n"),
        "{shown}{errors}"
    );

    let job = folder.path("mark-pod/job.yaml");
    let manifest = fs::read_to_string(&job)?;
    let targets = "- name: foo\n    - name: bar\n    - name: wrong";
    fs::write(&job, manifest.replace("- name: foo", targets))?;
    let output = test().output()?;
    let shown = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    for expected in [
        "  foo  operate-target: 1 effect\n",
        "      + metadata.annotations[\"example.com/mark-pod\"]: \"true\"\n",
        "  foo  get-ops-progress: Succeeded\n",
        "  bar  operate-target: failed: PodNotFound: there is no pod \"bar\"\n",
        "UncaughtError: ValueError: no such thing",
        // It has colours before it.
        " trying 1 ",
        " and failing ",
        " action.py:26 in operate_target ",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    Ok(())
}

#[test]
fn a_new_package_has_everything_and_says_what_is_next() -> Result<()> {
    let folder = Folder::empty()?;
    // A name that Python has another use for.
    let printed = folder.printed(&["new", "none", "--language", "python"])?;
    assert!(
        printed.starts_with("Created none: the action None\n"),
        "{printed}"
    );
    let read = |path: &str| fs::read_to_string(folder.path("none").join(path));
    assert!(read("plugin.yaml")?.contains("  action: None\n"));
    assert!(read("job.yaml")?.contains("  action: None\n"));
    assert!(read("pyproject.toml")?.contains("name = \"none\""));
    assert!(read("action.py")?.contains("\"example.com/none\""));
    assert_eq!(
        read("wit/action.wit")?,
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/action.wit"))?
    );
    let mut sdk = folder.command(&["new", "other", "--language", "python", "--sdk", "0.1"]);
    let error = error(&mut sdk)?;
    assert!(error.starts_with("operon: --sdk is for Rust: "), "{error}");
    Ok(())
}

#[test]
fn what_a_build_needs_is_said_with_the_way_to_get_it() -> Result<()> {
    let folder = Folder::with("mine", "python")?;
    let programs = folder.path("programs");
    let build = || {
        error(
            folder
                .command(&["build", "--path", "mine"])
                .env("PATH", &programs),
        )
    };
    let missing = build()?;
    let expected = "operon: there is no python3: install Python 3.11 or newer from ";
    assert!(missing.starts_with(expected), "{missing}");
    folder.script("python3", "echo 3.9")?;
    let old = build()?;
    let expected = "operon: Python 3.9 is too old: install 3.11 or newer";
    assert!(old.starts_with(expected), "{old}");

    // The first script asks for the version, the second for the name.
    let answers = "case \"$2\" in *version_info*) echo 3.12;; *tomllib*) NAME;; *) VENV;; esac";
    folder.script(
        "python3",
        &answers.replace("NAME", "echo no such file >&2; exit 1"),
    )?;
    let unreadable = build()?;
    let expected = "operon: mine/pyproject.toml can't be read: python3 failed (exit status: 1): no such file\n";
    assert_eq!(unreadable, expected);
    folder.script("python3", &answers.replace("NAME", "echo"))?;
    assert!(build()?.contains("mine/pyproject.toml has no name of a package"));
    // As `python3 -m venv --clear FOLDER`, which then fails.
    let cleared = "for folder; do :; done; /bin/rm -r \"$folder\"; exit 1";
    let named = answers.replace("NAME", "echo mine");
    folder.script("python3", &named.replace("VENV", cleared))?;
    let own = folder.path("mine/.venv/own");
    fs::create_dir_all(&own)?;
    let no_venv = build()?;
    assert!(own.is_dir(), "the author's environment was cleared");
    assert!(
        no_venv.contains("is the package python3-venv of Debian"),
        "{no_venv}"
    );
    let other = folder.path("mine/build/venv/other");
    fs::create_dir_all(&other)?;
    let refused = build()?;
    assert!(
        other.is_dir(),
        "a folder that is no environment was cleared"
    );
    let expected = "operon: mine/build/venv is not a virtual environment, because it has no pyvenv.cfg: remove or rename it";
    assert!(refused.starts_with(expected), "{refused}");
    let mut release = folder.command(&["build", "--path", "mine", "--profile", "dev"]);
    assert!(error(&mut release)?.contains("--profile is for Cargo"));
    Ok(())
}
