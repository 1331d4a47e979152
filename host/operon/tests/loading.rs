//! What the host does with bytes that are no action, that are too heavy, or that were loaded before:
//! every refusal has a reason of its own, and code that can't be verified is never run.

mod support;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use operon_core::action::Limits;
use operon_plugin_runtime::{ChildLimits, ChildProgram, CodeSource, Loader, LoaderConfig};
use support::{Recorder, config, hostile, load, refusal};

#[expect(clippy::too_many_lines, reason = "one table of all that is refused")]
#[tokio::test]
async fn bytes_that_are_no_action_are_refused_for_their_reason() -> Result<()> {
    let loader = Loader::new(config())?;
    let guest = hostile()?;
    let half = guest.get(..guest.len() / 2).context("half")?.to_vec();
    let mut garbled = guest.to_vec();
    for byte in garbled.iter_mut().skip(8).take(64) {
        *byte = 0xff;
    }
    let other_handler = renamed(
        guest,
        "operon:action/handler@0.2.0",
        "operon:action/handler@0.1.0",
    );
    let other_cluster = renamed(
        guest,
        "operon:action/cluster@0.2.0",
        "operon:action/cluster@0.3.0",
    );
    let empty = "(component)";
    let unknown = r#"(component (import "example:other/thing@1.0.0" (instance)) (instance $i)
        (export "operon:action/handler@0.2.0" (instance $i)))"#;
    let shape = r#"(component (instance $i) (export "operon:action/handler@0.2.0" (instance $i)))"#;
    for (what, bytes, reason, message) in [
        (
            "text",
            b"kind: ConfigMap".to_vec(),
            "NotWasm",
            "not WebAssembly",
        ),
        (
            "core module",
            wat::parse_str("(module)")?,
            "CoreModule",
            "wasm32-wasip2",
        ),
        ("half", half, "Truncated", "truncated"),
        ("garbled", garbled, "Malformed", "not a valid component"),
        (
            "too large",
            vec![0; (16 << 20) + 1],
            "TooLarge",
            "components.maxSizeMiB of the chart allows at most 16 MiB",
        ),
        (
            "other version",
            other_handler,
            "WrongInterface",
            "the component exports operon:action/handler@0.1.0; this host runs operon:action/handler@0.2.0",
        ),
        (
            "other import",
            other_cluster,
            "WrongInterface",
            "imports operon:action/cluster@0.3.0; this host has operon:action/cluster@0.2.0",
        ),
        (
            "no exports",
            wat::parse_str(empty)?,
            "WrongInterface",
            "exports nothing",
        ),
        (
            "unknown import",
            wat::parse_str(unknown)?,
            "UnknownImport",
            "example:other/thing@1.0.0",
        ),
        (
            "other shape",
            wat::parse_str(shape)?,
            "WrongInterface",
            "does not fit",
        ),
        (
            "a long name of a function",
            wat::parse_str(format!(
                "(component (core module (func ${})))",
                "f".repeat(8193)
            ))?,
            "Malformed",
            "the name of a function or module has 8193 bytes; at most 8192",
        ),
        (
            "a long name of a module",
            wat::parse_str(format!("(component (core module ${}))", "m".repeat(8193)))?,
            "Malformed",
            "the name of a function or module has 8193 bytes; at most 8192",
        ),
        (
            "an export of any length",
            wat::parse_str(format!(
                r#"(component (instance $i) (export "{}" (instance $i)))"#,
                "e".repeat(100_000)
            ))?,
            "WrongInterface",
            "exports eee",
        ),
    ] {
        let error = refusal(&loader, &bytes).await.context(what)?;
        assert_eq!(error.reason, reason, "{what}: {error:?}");
        assert!(error.message.contains(message), "{what}: {error:?}");
        assert!(!error.transient, "{what}");
        assert!(error.message.len() <= 1_100, "{what}");
        println!("{what}: {}: {}", error.reason, error.message);
    }
    Ok(())
}

#[tokio::test]
async fn compiling_ends_at_its_limits() -> Result<()> {
    let heavy = heavy()?;
    let normal = ChildLimits::COMPILE;
    for (what, limits, reason, message) in [
        (
            "memory",
            ChildLimits {
                memory: 192 << 20,
                ..normal
            },
            "CompileMemory",
            "more than 192 MiB of memory",
        ),
        (
            "processor time",
            ChildLimits {
                cpu: Duration::from_secs(1),
                memory: 4 << 30,
                ..normal
            },
            "CompileTimeout",
            "more than 1 s of processor time",
        ),
        (
            "time",
            ChildLimits {
                wall: Duration::from_millis(300),
                memory: 4 << 30,
                ..normal
            },
            "CompileTimeout",
            "longer than 0.3 s; raise components.compileSeconds of the chart",
        ),
        (
            "output",
            ChildLimits {
                output: 1 << 10,
                ..normal
            },
            "TooLarge",
            "larger than",
        ),
    ] {
        let loader = Loader::new(LoaderConfig {
            compile_limits: limits,
            ..config()
        })?;
        let started = Instant::now();
        let component = if what == "output" {
            hostile()?
        } else {
            heavy.as_slice()
        };
        let error = refusal(&loader, component).await.context(what)?;
        assert_eq!(error.reason, reason, "{what}: {error:?}");
        assert!(error.message.contains(message), "{what}: {error:?}");
        println!("{what}: {:?}: {}", started.elapsed(), error.message);
    }
    Ok(())
}

#[tokio::test]
async fn a_compiler_that_does_not_work_is_named() -> Result<()> {
    for (program, message) in [
        ("/nonexistent/operon", "/nonexistent/operon"),
        ("/bin/false", "the compiler failed"),
    ] {
        let child_program = Some(ChildProgram::at(program));
        let loader = Loader::new(LoaderConfig {
            child_program,
            ..config()
        })?;
        let error = refusal(&loader, hostile()?).await?;
        assert_eq!(
            (error.reason, error.transient),
            ("CompileFailed", true),
            "{error:?}"
        );
        assert!(error.message.contains(message), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_component_is_compiled_once() -> Result<()> {
    let cache = Cache::new()?;
    let first = cache.load().await?;
    assert_eq!(first, [CodeSource::Compiler, CodeSource::Memory]);
    let second = cache.load().await?;
    assert_eq!(second, [CodeSource::Cache, CodeSource::Memory]);
    Ok(())
}

#[tokio::test]
async fn a_component_that_was_refused_is_not_compiled_again() -> Result<()> {
    let cache = Cache::new()?;
    let little = ChildLimits {
        memory: 192 << 20,
        ..ChildLimits::COMPILE
    };
    let loader = |child_program, compile_limits| {
        Loader::new(LoaderConfig {
            cache_dir: Some(cache.path()),
            child_program,
            compile_limits,
            ..config()
        })
    };
    let heavy = heavy()?;
    let garbage = b"\0asm\x0d\0\x01\0garbage";
    let compiler = config().child_program;
    // A program that would fail, and is not started.
    let none = Some(ChildProgram::at("/bin/false"));
    for (component, reason) in [(heavy.as_slice(), "CompileMemory"), (garbage, "Truncated")] {
        let first = refusal(&loader(compiler.clone(), little)?, component).await?;
        assert_eq!(first.reason, reason);
        let second = refusal(&loader(none.clone(), little)?, component).await?;
        assert_eq!((second.reason, &second.message), (reason, &first.message));
    }
    let more = loader(none, ChildLimits::COMPILE)?;
    assert_eq!(refusal(&more, &heavy).await?.reason, "CompileFailed");
    Ok(())
}

#[tokio::test]
async fn cached_code_that_was_tampered_with_is_compiled_anew() -> Result<()> {
    let cache = Cache::new()?;
    cache.load().await?;
    let original = std::fs::read(cache.file()?)?;
    for position in [0, 20, 50, 80, original.len() / 2, original.len() - 1] {
        let mut forged = original.clone();
        if let Some(byte) = forged.get_mut(position) {
            *byte ^= 1;
        }
        std::fs::write(cache.file()?, forged)?;
        let source = cache.load().await?;
        assert_eq!(
            source.first(),
            Some(&CodeSource::Compiler),
            "byte {position}"
        );
        assert_eq!(std::fs::read(cache.file()?)?, original, "it was replaced");
    }
    std::fs::write(cache.file()?, &original[..50])?;
    assert_eq!(
        cache.load().await?.first(),
        Some(&CodeSource::Compiler),
        "cut off"
    );
    Ok(())
}

#[tokio::test]
async fn cached_code_that_others_may_touch_is_compiled_anew() -> Result<()> {
    let cache = Cache::new()?;
    cache.load().await?;
    let file = cache.file()?;
    assert_eq!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777,
        0o600
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o620))?;
    assert_eq!(cache.load().await?.first(), Some(&CodeSource::Compiler));
    let elsewhere = cache.directory.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere)?;
    std::os::unix::fs::symlink(&elsewhere, &file)?;
    assert_eq!(cache.load().await?.first(), Some(&CodeSource::Compiler));
    Ok(())
}

#[test]
fn a_cache_that_others_may_enter_is_refused() -> Result<()> {
    let cache = Cache::new()?;
    std::fs::create_dir(cache.path())?;
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o755))?;
    let loader = Loader::new(LoaderConfig {
        cache_dir: Some(cache.path()),
        ..config()
    });
    assert!(loader.is_err());
    Ok(())
}

/// A directory for compiled code that is removed after the test.
struct Cache {
    directory: tempfile::TempDir,
}

impl Cache {
    fn new() -> Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir()?,
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("compiled")
    }

    fn file(&self) -> Result<PathBuf> {
        let mut files = std::fs::read_dir(self.path())?;
        Ok(files.next().context("no file")??.path())
    }

    /// Loads the guest twice by a new loader, and returns the sources of the code.
    async fn load(&self) -> Result<Vec<CodeSource>> {
        let recorder = Arc::new(Recorder::default());
        let observer = recorder.clone();
        let loader = Loader::new(LoaderConfig {
            cache_dir: Some(self.path()),
            observer,
            ..config()
        })?;
        let _first = load(&loader, hostile()?, &Limits::default()).await?;
        load(&loader, hostile()?, &Limits::default()).await?;
        Ok(recorder.code())
    }
}

/// The component with one name replaced by another of the same length.
fn renamed(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut renamed = component.to_vec();
    let mut position = 0;
    while let Some(window) = renamed.get_mut(position..position + from.len()) {
        if window == from.as_bytes() {
            window.copy_from_slice(to.as_bytes());
        }
        position += 1;
    }
    renamed
}

/// A small component that takes long to compile: one function in which all values are live at the same
/// time.
fn heavy() -> Result<Vec<u8>> {
    use std::fmt::Write as _;
    let mut body = String::new();
    for number in 0..40_000 {
        let (left, right, local) = (number % 997, (number * 7 + 3) % 997, (number * 13) % 997);
        write!(
            body,
            "(if (local.get {left}) (then (local.set {local}
                (i32.add (local.get {right}) (i32.load (local.get {left}))))))"
        )?;
    }
    let text = format!(
        "(component (core module (memory 1) (func {} {body})))",
        "(local i32) ".repeat(1001)
    );
    wat::parse_str(text).context("heavy component")
}
