//! What the commands have in common: finding programs, running them, and building components.
//!
//! Nothing here decides what a command does; it only finds or sets up what the command needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Lock, Progress, cache_dir, find_program, output_of};

/// What WebAssembly components are compiled for.
const WASM_TARGET: &str = "wasm32-wasip2";

/// The packages of the fallback, where rustup cannot fetch the target's standard library.
const DEBIAN_PACKAGES: [&str; 5] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-llvm",
    "wasi-libc",
];

/// The root of the checkout.
pub(crate) fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace_dir().join(folder),
        None => workspace_dir().join("target"),
    }
}

/// A cargo command in the root of the checkout, as if it were typed in a shell.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_dir());
    remove_package_variables(&mut command);
    command
}

/// Removes the variables with which `cargo run` describes this package to this program. Build scripts of
/// dependencies watch variables of the same names, so a cargo that inherits them builds these
/// dependencies again, and so does the next cargo that does not.
fn remove_package_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
}

/// Whether cargo sets this variable for a package that it builds or runs; those with which a person
/// configures cargo are others.
fn describes_a_package(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
    ];
    NAMES.contains(&name) || name.starts_with("CARGO_PKG_")
}

/// The kubectl that people type, if there is one.
pub(crate) fn kubectl_in_path() -> Option<PathBuf> {
    find_program("kubectl")
}

/// Runs `command` with its output in sight; a line every ten seconds says that it still runs.
pub(crate) fn run(progress: &Progress, what: &str, command: &mut Command) -> Result<()> {
    progress.say(what);
    let status = progress.run(what, command)?;
    if !status.success() {
        bail!("{what} failed ({status}): {}", typed(command));
    }
    Ok(())
}

/// How many words of a command an error shows: some name hundreds of stories.
const WORDS: usize = 20;

/// A command as it would be typed, or its beginning, without the variables that it is given or not given.
fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let shown = words.iter().take(WORDS).map(std::convert::AsRef::as_ref);
    let shown = shown.collect::<Vec<_>>().join(" ");
    match words.len().saturating_sub(WORDS) {
        0 => shown,
        more => format!("{shown} … ({more} more words)"),
    }
}

/// A Rust program in this version; installed into our cache if it is not there yet.
pub(crate) fn cargo_tool(progress: &Progress, name: &str, version: &str) -> Result<PathBuf> {
    let tools = cache_dir()?.join("cargo-tools");
    let root = tools.join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    let _lock = Lock::acquire(&tools.join("install.lock"), || {
        progress.say("another installation of a tool is running; waiting for it");
    })?;
    if program.is_file() {
        return Ok(program);
    }
    progress.say(format!(
        "{name} {version} is built once, which takes minutes"
    ));
    let mut install = cargo();
    install
        .args(["install", "--quiet", "--locked", name, "--version", version])
        .arg("--root")
        .arg(&root)
        // What it is compiled to is of no use to the next build here.
        .env_remove("CARGO_TARGET_DIR");
    run(
        progress,
        &format!("installing {name} {version}"),
        &mut install,
    )?;
    Ok(program)
}

/// How components are compiled on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WasmToolchain {
    /// The workspace's own toolchain, with the target's standard library from rustup.
    Rustup,
    /// Debian's compiler and sources of the standard library.
    Debian,
}

/// Makes sure that components can be compiled; says how where that is not the ordinary way.
pub(crate) fn ensure_wasm_target(progress: &Progress) -> Result<WasmToolchain> {
    if has_wasm_target() {
        return Ok(WasmToolchain::Rustup);
    }
    progress.say(format!("adding the target {WASM_TARGET} with rustup"));
    let mut add = Command::new("rustup");
    add.args(["target", "add", WASM_TARGET])
        .current_dir(workspace_dir());
    let failure = match output_of(&mut add) {
        Ok(_) if has_wasm_target() => return Ok(WasmToolchain::Rustup),
        Ok(_) => String::from("rustup added it, but the compiler does not have it"),
        Err(error) => format!("{error:#}"),
    };
    if Path::new("/usr/lib/wasm32-wasi").is_dir() && Path::new("/usr/bin/cargo").is_file() {
        progress.say("compiling components with Debian's Rust: rustup cannot add the target");
        return Ok(WasmToolchain::Debian);
    }
    if !can_install() {
        bail!(
            "the Rust target {WASM_TARGET} is missing and could not be added: {failure}\n  \
             Run `rustup target add {WASM_TARGET}` where there is a network, or, on Debian:\n  \
             apt-get install --no-install-recommends {}",
            DEBIAN_PACKAGES.join(" ")
        );
    }
    progress.say("rustup cannot add the target; Debian's Rust compiles components instead");
    install(progress, "Debian's Rust", &DEBIAN_PACKAGES)?;
    Ok(WasmToolchain::Debian)
}

/// Whether Debian's packages can be installed on this machine.
pub(crate) fn can_install() -> bool {
    is_root() && find_program("apt-get").is_some()
}

/// Installs Debian's packages; the lists of packages may be missing or old.
pub(crate) fn install(progress: &Progress, what: &str, packages: &[&str]) -> Result<()> {
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages);
    let what = format!("installing {what}");
    if run(progress, &what, &mut install).is_ok() {
        return Ok(());
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    run(progress, "apt-get update", &mut update)?;
    run(progress, &what, &mut install)
}

fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn sysroot() -> Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    let printed = output_of(
        rustc
            .args(["--print", "sysroot"])
            .current_dir(workspace_dir()),
    )?;
    Ok(PathBuf::from(printed.trim()))
}

fn has_wasm_target() -> bool {
    sysroot().is_ok_and(|sysroot| {
        sysroot
            .join("lib/rustlib")
            .join(WASM_TARGET)
            .join("lib")
            .is_dir()
    })
}

/// The folder of the Helm chart.
pub(crate) fn chart_dir() -> PathBuf {
    workspace_dir().join("charts/operon")
}

/// Builds a package of the workspace as a component and returns the file.
pub(crate) fn build_wasm(progress: &Progress, package: &str) -> Result<PathBuf> {
    let toolchain = ensure_wasm_target(progress)?;
    let mut command = match toolchain {
        WasmToolchain::Rustup => cargo(),
        WasmToolchain::Debian => debian_cargo()?,
    };
    command.args([
        "build",
        "--quiet",
        "--package",
        package,
        "--target",
        WASM_TARGET,
        "--profile",
        "plugin",
    ]);
    run(
        progress,
        &format!("building the component {package}"),
        &mut command,
    )?;
    let target = match toolchain {
        WasmToolchain::Rustup => target_dir(),
        WasmToolchain::Debian => debian_target_dir(),
    };
    let file = target
        .join(WASM_TARGET)
        .join("plugin")
        .join(format!("{}.wasm", package.replace('-', "_")));
    if !file.is_file() {
        bail!(
            "package {package} built, but there is no {}: is its crate-type cdylib?",
            file.display()
        );
    }
    Ok(file)
}

/// A folder of its own: another compiler would make cargo build everything anew each time.
fn debian_target_dir() -> PathBuf {
    target_dir().join("debian")
}

/// Debian's cargo and compiler, with the linkers of the workspace's toolchain.
fn debian_cargo() -> Result<Command> {
    let host = output_of(
        Command::new("rustc")
            .args(["--print", "host-tuple"])
            .current_dir(workspace_dir()),
    )?;
    let linkers = sysroot()?.join("lib/rustlib").join(host.trim()).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(linkers).chain(std::env::split_paths(&path)))
        .context("PATH cannot be extended")?;
    let mut command = Command::new("/usr/bin/cargo");
    command
        .current_dir(workspace_dir())
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", debian_target_dir())
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            "-C link-self-contained=no -L /usr/lib/wasm32-wasi",
        )
        .env_remove("RUSTUP_TOOLCHAIN")
        .arg("-Zbuild-std=std,panic_abort");
    remove_package_variables(&mut command);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_inherits_the_configuration_and_no_description_of_a_package() {
        let names = ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_CRATE_NAME"];
        assert!(names.into_iter().all(describes_a_package));
        let settings = [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "PATH",
        ];
        assert!(!settings.into_iter().any(describes_a_package));
        // This test is run by cargo, which describes the package to it.
        let removed: Vec<_> = cargo()
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.to_owned())
            .collect();
        assert!(removed.iter().any(|name| name == "CARGO_MANIFEST_DIR"));
    }
}
