//! `operon plugin` as an author runs it: from an empty folder to a component, and its errors.

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use support::{annotate, hostile};

/// The folder of this repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_operon"));
        command.arg("plugin").args(arguments);
        command.current_dir(self.0.path());
        command
    }

    /// What the program prints, if it succeeds.
    fn printed(&self, arguments: &[&str]) -> Result<String> {
        printed(&mut self.command(arguments))
    }

    /// The error, if it fails.
    fn error(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(1), "{printed}");
        ensure!(printed.is_empty(), "{printed}");
        Ok(String::from_utf8(output.stderr)?)
    }
}

fn printed(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    let (stdout, stderr) = (String::from_utf8(stdout)?, String::from_utf8(stderr)?);
    ensure!(status.success(), "{command:?}\n{stdout}\n{stderr}");
    Ok(stdout)
}

/// A new crate as an author would have it, but with the versions of this repository's dependencies, and with its
/// target folder, so that nothing is downloaded.
fn crate_of_an_author(folder: &Folder, name: &str) -> Result<PathBuf> {
    folder.printed(&["new", name])?;
    let path = folder.path(name);
    fs::copy(
        Path::new(REPOSITORY).join("Cargo.lock"),
        path.join("Cargo.lock"),
    )?;
    Ok(path)
}

fn target() -> Result<&'static Path> {
    let program = Path::new(env!("CARGO_BIN_EXE_operon"));
    program
        .ancestors()
        .nth(2)
        .context("the program is not in a target folder")
}

/// A command as this test was started: with its toolchain, and with its target folder.
fn cargo(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).current_dir(folder);
    command.env("CARGO_TARGET_DIR", target()?);
    Ok(command)
}

#[test]
fn a_new_crate_passes_its_own_test_outside_of_this_workspace() -> Result<()> {
    let folder = Folder::new()?;
    let path = crate_of_an_author(&folder, "mark-pod")?;
    let tested = printed(&mut cargo(&path, &["test", "--offline", "--quiet"])?)?;
    assert!(tested.contains("4 passed"), "{tested}");
    Ok(())
}

#[test]
fn a_new_crate_builds_into_a_component_that_fits_a_config_map() -> Result<()> {
    let folder = Folder::new()?;
    let path = crate_of_an_author(&folder, "mark-pod")?;
    let mut build = folder.command(&["build", "--path", "mark-pod", "--", "--offline", "--quiet"]);
    let report = printed(build.env("CARGO_TARGET_DIR", target()?))?;
    let lines: Vec<_> = report.lines().collect();
    let [file, size, digest, "", next] = lines.as_slice() else {
        anyhow::bail!("{report}");
    };
    assert_eq!(*file, "mark-pod/mark-pod.wasm");
    assert!(
        size.ends_with(" gzipped; a ConfigMap holds it as it is"),
        "{size}"
    );
    let bytes = fs::read(path.join("mark-pod.wasm"))?;
    assert_eq!(
        digest.trim(),
        format!("digest  {}", operon_plugin_registry::digest(&bytes))
    );
    assert_eq!(*next, "Next: operon plugin inspect mark-pod/mark-pod.wasm");
    assert!(bytes.len() < 300 << 10, "{} bytes", bytes.len());
    let mut test = folder.command(&["test", "mark-pod.wasm", "--target", "pod.yaml"]);
    test.args(["--job", "job.yaml", "--settings", "plugin.yaml"]);
    let shown = printed(test.current_dir(&path))?;
    assert!(
        shown.contains("+ metadata.annotations[\"example.com/mark-pod\"]: \"true\"\n"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn what_a_build_needs_is_said_as_a_command() -> Result<()> {
    let folder = Folder::new()?;
    let error = folder.error(&["build"])?;
    assert!(error.contains("operon plugin new NAME"), "{error}");
    assert!(
        error.contains("no Cargo.toml, no package.json and no pyproject.toml"),
        "{error}"
    );
    folder.printed(&["new", "mine"])?;
    let build = |path: &Path| -> Result<String> {
        let mut build = folder.command(&["build", "--path", "mine"]);
        let output = build.env("PATH", path).output()?;
        assert_eq!(output.status.code(), Some(1));
        Ok(String::from_utf8(output.stderr)?)
    };
    let programs = folder.path("programs");
    fs::create_dir(&programs)?;
    let error = build(&programs)?;
    assert!(
        error.contains("there is no Rust compiler: install rustup"),
        "{error}"
    );
    for (script, expected) in [
        (
            "echo /nowhere",
            "operon: the Rust toolchain has no target wasm32-wasip2 yet: run `rustup target add wasm32-wasip2` in mine\n",
        ),
        (
            "echo 'error: no such target' >&2; exit 1",
            "operon: rustc can't build for wasm32-wasip2: error: no such target; `rustup update` installs a newer Rust\n",
        ),
    ] {
        let rustc = programs.join("rustc");
        fs::write(&rustc, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
        assert_eq!(build(&programs)?, expected);
    }
    Ok(())
}

#[test]
fn a_crate_without_a_component_and_code_that_does_not_compile_are_errors() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir_all(folder.path("src"))?;
    fs::write(
        folder.path("Cargo.toml"),
        "[package]\nname = \"plain\"\n[workspace]\n",
    )?;
    for (source, expected) in [
        (
            "",
            "Cargo.toml builds no component: add crate-type = [\"cdylib\", \"rlib\"]",
        ),
        ("fn", "operon: cargo could not build the component"),
    ] {
        fs::write(folder.path("src/lib.rs"), source)?;
        let error = folder.error(&["build", "--", "--offline"])?;
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_component_is_inspected_as_the_host_would_load_it() -> Result<()> {
    let folder = Folder::new()?;
    fs::write(folder.path("annotate.wasm"), annotate()?)?;
    let shown = folder.printed(&["inspect", "annotate.wasm"])?;
    let digest = operon_plugin_registry::digest(annotate()?);
    for expected in [
        "annotate.wasm\n  size       ",
        " gzipped; a ConfigMap holds it as it is\n",
        &format!("\n  digest     {digest}\n"),
        "\n  interface  operon:action/handler@0.2.0\n",
        "interfaces of WASI, which are empty here\n",
        "wit-bindgen-rust 0.",
        "\n  watches    none\n",
        "\n  traits     none\n",
        "\n  parameters {\"additionalProperties\":false,\"properties\":{\"value\":{\"type\":\"string\"}},\"type\":\"object\"}\n",
        "\n  name: action-annotate\n",
        "\nrules: []\n",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    Ok(())
}

#[test]
fn the_rights_for_what_an_action_reads_are_printed_as_a_manifest() -> Result<()> {
    let folder = Folder::new()?;
    fs::write(folder.path("hostile_guest.wasm"), hostile()?)?;
    fs::write(folder.path("settings.yaml"), "gadgets: true\n")?;
    let inspect = [
        "inspect",
        "hostile_guest.wasm",
        "--settings",
        "settings.yaml",
    ];
    let shown = folder.printed(&inspect)?;
    assert!(shown.contains("operon.example/v1 Gadget"), "{shown}");
    let manifest = folder.printed(&[&inspect[..], &["--rbac", "--namespace", "ops"]].concat())?;
    assert!(shown.ends_with(&manifest.replace("namespace: ops", "namespace: operon-system")));
    let rules = "\
- apiGroups: [operon.example]
  resources: [gadgets]    # derived from the kind: compare with `kubectl api-resources`
  verbs: [list, watch]
---
";
    assert!(manifest.contains(rules), "{manifest}");
    assert!(
        manifest.contains("  name: action-hostile-guest\n  namespace: ops\n"),
        "{manifest}"
    );
    Ok(())
}

#[test]
fn a_component_that_no_host_loads_is_refused_with_the_reason_of_its_plugin() -> Result<()> {
    let folder = Folder::new()?;
    fs::write(folder.path("annotate.wasm"), annotate()?)?;
    fs::write(folder.path("core.wasm"), wat::parse_str("(module)")?)?;
    fs::write(folder.path("hostile.wasm"), hostile()?)?;
    fs::write(folder.path("twice.yaml"), "twice: true\n")?;
    fs::write(folder.path("wrong.yaml"), "kee: x\n")?;
    fs::write(folder.path("broken.yaml"), "key: [")?;
    fs::write(folder.path("list.yaml"), "- key\n")?;
    let plugin = "kind: ActionPlugin\nspec: {settings: {value: 7}}\n---\nkind: ServiceAccount\n";
    fs::write(folder.path("plugin.yaml"), plugin)?;
    for (arguments, expected) in [
        (
            &["core.wasm"][..],
            "operon: core.wasm: CoreModule: this is a core WebAssembly module",
        ),
        (
            &["plugin.yaml"],
            "operon: plugin.yaml: NotWasm: this is not WebAssembly",
        ),
        (
            &["missing.wasm"],
            "operon: failed to read missing.wasm: No such file",
        ),
        (
            &["annotate.wasm", "--settings", "wrong.yaml"],
            "operon: annotate.wasm: SetupFailed: setup failed: the settings do not fit: unknown field `kee`",
        ),
        (
            &["annotate.wasm", "--settings", "plugin.yaml"],
            "operon: annotate.wasm: SetupFailed: setup failed: the settings do not fit: invalid type: integer `7`",
        ),
        (
            &["hostile.wasm", "--settings", "twice.yaml"],
            "operon: hostile.wasm: BadRegistration: setup of action \"hostile\" declares v1 ConfigMap more than once",
        ),
        (
            &["annotate.wasm", "--settings", "broken.yaml"],
            "operon: broken.yaml is not valid YAML or JSON: ",
        ),
        (
            &["annotate.wasm", "--settings", "list.yaml"],
            "operon: list.yaml: it must be one object with the settings",
        ),
    ] {
        let error = folder.error(&[&["inspect"], arguments].concat())?;
        assert!(error.starts_with(expected), "{error}");
    }
    Ok(())
}

#[test]
fn a_new_crate_has_everything_and_says_what_is_next() -> Result<()> {
    let folder = Folder::new()?;
    let printed = folder.printed(&["new", "mark-pod"])?;
    assert!(
        printed.starts_with("Created mark-pod: the action MarkPod\n"),
        "{printed}"
    );
    let read = |path: &str| fs::read_to_string(folder.path("mark-pod").join(path));
    let plugin = read("plugin.yaml")?;
    for line in [
        "  action: MarkPod\n",
        "      name: action-mark-pod\n",
        "    key: example.com/mark-pod\n",
        "    verbs: [patch]\n",
    ] {
        assert!(plugin.contains(line), "{line}{plugin}");
    }
    assert!(read("job.yaml")?.contains("  action: MarkPod\n"));
    assert!(read("src/lib.rs")?.contains("operon_sdk::register!(MarkPod);"));
    assert!(read("Cargo.toml")?.contains("operon-sdk = { path = \"sdk\" }"));
    for file in [
        "README.md",
        ".gitignore",
        "sdk/Cargo.toml",
        "sdk/wit/action.wit",
        "sdk/LICENSE",
    ] {
        assert!(!read(file).context(file)?.is_empty());
    }
    Ok(())
}

#[test]
fn another_sdk_replaces_the_folder() -> Result<()> {
    let folder = Folder::new()?;
    let sdk = Path::new(REPOSITORY).canonicalize()?.join("plugin-sdk");
    let sdk = sdk.to_str().context("UTF-8")?;
    folder.printed(&["new", "other", "--sdk", sdk, "--path", "deep/inside"])?;
    let manifest = fs::read_to_string(folder.path("deep/inside/Cargo.toml"))?;
    assert!(
        manifest.contains(&format!("operon-sdk = {{ path = {sdk:?} }}")),
        "{manifest}"
    );
    assert!(!folder.path("deep/inside/sdk").exists());
    Ok(())
}

#[test]
fn nothing_that_exists_is_overwritten() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir(folder.path("mine"))?;
    fs::write(folder.path("mine/notes"), "")?;
    let error = folder.error(&["new", "mine"])?;
    assert_eq!(
        error,
        "operon: mine exists and is not empty: name another folder with --path\n"
    );
    let error = folder.error(&["new", "Mine"])?;
    assert!(error.contains("for example \"mine\""), "{error}");
    let error = folder.error(&["new", "other", "--sdk", "nowhere"])?;
    assert!(
        error.contains("--sdk nowhere: there is no crate operon-sdk"),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.0.path())?.count(), 1);
    Ok(())
}
