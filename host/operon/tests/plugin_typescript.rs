//! `operon plugin` for an action in TypeScript, as an author runs it: from an empty folder to a component that a host
//! loads, and the errors on the way.

mod package;

use std::{fs, io::Read as _};

use anyhow::{Result, ensure};
use flate2::read::GzDecoder;
use package::{Folder, error};

#[test]
fn a_new_package_builds_into_a_component_that_a_host_loads_and_calls() -> Result<()> {
    let folder = Folder::with("mark-pod", "typescript")?;
    folder.use_installed("OPERON_NODE_MODULES", "mark-pod/node_modules")?;
    let report = folder.printed(&["build", "--path", "mark-pod"])?;
    let lines: Vec<_> = report.lines().collect();
    let [file, size, digest, gzipped, "", next] = lines.as_slice() else {
        anyhow::bail!("{report}");
    };
    assert_eq!(*file, "mark-pod/mark-pod.wasm");
    let fits = " gzipped; a ConfigMap holds it only gzipped";
    assert!(size.ends_with(fits), "{size}");
    let component = fs::read(folder.path(file))?;
    let expected = operon_plugin_registry::digest(&component);
    assert_eq!(digest.trim(), format!("digest  {expected}"));
    let expected = "gzipped mark-pod/mark-pod.wasm.gz, for a ConfigMap";
    assert_eq!(gzipped.trim(), expected);
    assert_eq!(*next, "Next: operon plugin inspect mark-pod/mark-pod.wasm");
    let small = fs::read(folder.path("mark-pod/mark-pod.wasm.gz"))?;
    assert!(small.len() < 600 << 10, "{} bytes", small.len());
    let mut unzipped = Vec::new();
    GzDecoder::new(small.as_slice()).read_to_end(&mut unzipped)?;
    assert_eq!(unzipped, component);

    let shown = folder.printed(&["inspect", file])?;
    for expected in [
        "\n  interface  operon:action/handler@0.2.0\n",
        "\n  watches    none\n",
        "\n  parameters {\"additionalProperties\":false,\"properties\":{\"value\":{\"type\":\"string\"}},\"type\":\"object\"}\n",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    let mut test = folder.command(&["test", "mark-pod.wasm", "--target", "pod.yaml"]);
    test.args(["--job", "job.yaml", "--settings", "plugin.yaml"]);
    let output = test.current_dir(folder.path("mark-pod")).output()?;
    let shown = String::from_utf8(output.stdout)?;
    assert_eq!(
        shown,
        "\
setup  reads only the pods of its targets

round 1
  foo  operate-target: 1 effect
    patch Pod foo
      + metadata.annotations[\"example.com/mark-pod\"]: \"true\"

round 2
  foo  operate-target: no effect
  foo  get-ops-progress: Succeeded
"
    );

    let mut all = folder.command(&["test", "mark-pod.wasm", "--target", "pod.yaml"]);
    all.args(["--job", "job.yaml", "--settings", "plugin.yaml"]);
    let output = all
        .arg("--conformance")
        .current_dir(folder.path("mark-pod"))
        .output()?;
    let shown = String::from_utf8(output.stdout)?;
    assert!(shown.ends_with(" scenarios, 0 failures\n"), "{shown}");

    // An error that the action throws is the failure of its target.
    let job = folder.path("mark-pod/job.yaml");
    let manifest = fs::read_to_string(&job)?;
    fs::write(&job, manifest.replace("- name: foo", "- name: bar"))?;
    let output = test.output()?;
    let shown = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{shown}");
    let expected = "  bar  operate-target: failed: PodNotFound: there is no pod \"bar\"\n";
    assert!(shown.contains(expected), "{shown}");

    // What the compiler finds is an error, and leaves the component as it was.
    let source = folder.path("mark-pod/src/action.ts");
    let code = fs::read_to_string(&source)?;
    fs::write(&source, code.replace("existingPod", "existingPot"))?;
    let error = error(&mut folder.command(&["build", "--path", "mark-pod"]))?;
    let expected = "operon: the component could not be built: npm run failed";
    assert!(error.contains(expected), "{error}");
    assert_eq!(fs::read(folder.path(file))?, component);
    Ok(())
}

#[test]
fn a_new_package_has_everything_and_says_what_is_next() -> Result<()> {
    let folder = Folder::empty()?;
    // A name that only Rust could not have.
    let printed = folder.printed(&["new", "move", "--language", "typescript"])?;
    assert!(
        printed.starts_with("Created move: the action Move\n"),
        "{printed}"
    );
    let read = |path: &str| fs::read_to_string(folder.path("move").join(path));
    assert!(read("plugin.yaml")?.contains("  action: Move\n"));
    assert!(read("job.yaml")?.contains("  action: Move\n"));
    assert!(read("package.json")?.contains("\"name\": \"move\""));
    assert!(read("src/action.ts")?.contains("\"example.com/move\""));
    assert_eq!(
        read("wit/action.wit")?,
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/action.wit"))?
    );
    let mut sdk = folder.command(&["new", "other", "--language", "typescript", "--sdk", "0.1"]);
    let error = error(&mut sdk)?;
    assert!(error.starts_with("operon: --sdk is for Rust: "), "{error}");
    Ok(())
}

#[test]
fn what_a_build_needs_is_said_with_the_way_to_get_it() -> Result<()> {
    let folder = Folder::with("mine", "typescript")?;
    let programs = folder.path("programs");
    let build = || {
        error(
            folder
                .command(&["build", "--path", "mine"])
                .env("PATH", &programs),
        )
    };
    assert_eq!(
        build()?,
        "operon: there is no Node.js: install version 20 or newer, with npm, from https://nodejs.org\n"
    );
    folder.script("node", "echo v18.20.4")?;
    assert_eq!(
        build()?,
        "operon: Node.js v18.20.4 is too old: install version 20 or newer from https://nodejs.org\n"
    );
    folder.script("node", "echo v20.1.0")?;
    assert!(build()?.contains("there is no npm: "));
    folder.script("npm", "exit 3")?;
    let failed = build()?;
    let expected = "operon: the packages could not be installed: npm ci failed (exit status: 3)";
    assert!(failed.starts_with(expected), "{failed}");
    folder.script("npm", "exit 0")?;
    assert!(build()?.contains("left no build/component.wasm"));
    let mut release = folder.command(&["build", "--path", "mine", "--profile", "dev"]);
    assert!(error(&mut release)?.contains("--profile is for Cargo"));
    Ok(())
}
