//! Has Cargo build the component of a crate.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, ErrorKind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::Built;

/// What Rust makes components for.
const TARGET: &str = "wasm32-wasip2";

/// Cargo's own output goes to standard error.
///
/// # Errors
/// What is missing and the command that installs it, or what Cargo could not build.
pub(super) fn build(folder: &Path, profile: &str, more: &[OsString]) -> anyhow::Result<Built> {
    check_target(folder)?;
    cargo(folder, profile, more)
}

/// The toolchain of the folder can build components; the error says how it learns to.
fn check_target(folder: &Path) -> anyhow::Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no Rust compiler: install rustup from https://rustup.rs, then run `rustup target add {TARGET}`"
        ),
        other => other.context("failed to run rustc")?,
    };
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "rustc can't build for {TARGET}: {}; `rustup update` installs a newer Rust",
            error.trim()
        );
    }
    let library = String::from_utf8_lossy(&output.stdout);
    ensure!(
        Path::new(library.trim()).is_dir(),
        "the Rust toolchain has no target {TARGET} yet: run `rustup target add {TARGET}`{}",
        if folder == Path::new(".") {
            String::new()
        } else {
            format!(" in {}", folder.display())
        }
    );
    Ok(())
}

fn cargo(folder: &Path, profile: &str, more: &[OsString]) -> anyhow::Result<Built> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(program)
        .args(["build", "--profile", profile, "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .args(more)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut built = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("failed to read the output of cargo")?;
        built.extend(component(&line));
    }
    let status = child.wait().context("failed to run cargo")?;
    ensure!(status.success(), "cargo could not build the component");
    let mut built = built.into_iter();
    let first = built.next().with_context(|| {
        let manifest = folder.join("Cargo.toml");
        format!(
            "{} builds no component: add crate-type = [\"cdylib\", \"rlib\"] to its section [lib]",
            manifest.display()
        )
    })?;
    if let Some(second) = built.next() {
        bail!(
            "the workspace builds several components, such as {} and {}: name the package after `--`, as in `operon plugin build -- --package NAME`",
            first.file_name,
            second.file_name
        );
    }
    Ok(first)
}

/// The component that a message of Cargo is about, if it is.
fn component(message: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let kinds = target["kind"].as_array()?;
    if message["reason"] != "compiler-artifact" || !kinds.contains(&"cdylib".into()) {
        return None;
    }
    let files = message["filenames"].as_array()?.iter();
    let path = files
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"))?;
    let name = target["name"].as_str()?.replace('_', "-");
    Some(Built {
        path,
        file_name: format!("{name}.wasm"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_messages_of_cargo_only_a_component_counts() {
        let artifact = |kind: &str, file: &str| {
            serde_json::json!({"reason": "compiler-artifact", "filenames": [file],
                "target": {"kind": [kind, "rlib"], "name": "mark_pod"}})
        };
        let built = component(&artifact("cdylib", "/t/mark_pod.wasm").to_string());
        let built = built.expect("a component");
        assert_eq!(built.file_name, "mark-pod.wasm");
        assert_eq!(built.path, Path::new("/t/mark_pod.wasm"));
        for other in [
            artifact("rlib", "/t/libserde.rlib").to_string(),
            artifact("cdylib", "/t/libmark_pod.so").to_string(),
            serde_json::json!({"reason": "build-finished"}).to_string(),
            "Compiling".to_owned(),
        ] {
            assert!(component(&other).is_none(), "{other}");
        }
    }
}
