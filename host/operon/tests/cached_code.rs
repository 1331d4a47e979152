//! What the host does with components that it has loaded before: they are compiled once, and code that can't be verified is
//! never run.

mod support;

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use operon_core::action::Limits;
use operon_plugin_runtime::{
    CacheFault, ChildLimits, ChildProgram, CodeSource, Loader, LoaderConfig,
};
use support::{Recorder, config, heavy, hostile, load, refusal};

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
        let loads = cache.loads().await?;
        assert_eq!(
            loads.code().first(),
            Some(&CodeSource::Compiler),
            "byte {position}"
        );
        assert_eq!(loads.faults(), [CacheFault::Read], "byte {position}");
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
        Ok(self.loads().await?.code())
    }

    /// The same, with all that was counted.
    async fn loads(&self) -> Result<Arc<Recorder>> {
        let recorder = Arc::new(Recorder::default());
        let observer = recorder.clone();
        let loader = Loader::new(LoaderConfig {
            cache_dir: Some(self.path()),
            observer,
            ..config()
        })?;
        let _first = load(&loader, hostile()?, &Limits::default()).await?;
        load(&loader, hostile()?, &Limits::default()).await?;
        Ok(recorder)
    }
}

/// Set in the process that the test starts: the same test, in an environment where no large file can be written.
const AGAIN: &str = "OPERON_TEST_AGAIN";

/// A limit of the size of files fails in the midst of a write, as a full disk does.
#[tokio::test]
async fn a_cache_on_a_full_disk_keeps_nothing_and_stops_no_action() -> Result<()> {
    if std::env::var_os(AGAIN).is_none() {
        return again("a_cache_on_a_full_disk_keeps_nothing_and_stops_no_action");
    }
    let cache = Cache::new()?;
    for _ in 0..2 {
        let loads = cache.loads().await?;
        assert_eq!(loads.code(), [CodeSource::Compiler, CodeSource::Memory]);
        assert_eq!(loads.faults(), [CacheFault::Write]);
        let mut left = std::fs::read_dir(cache.path())?;
        assert!(left.next().is_none(), "nothing is left over");
    }
    Ok(())
}

/// Runs the test of this name in a process of its own that cannot write large files.
fn again(name: &str) -> Result<()> {
    // Components that are built already: the other process could not build them.
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("operon_hostile_guest.wasm"), hostile()?)?;
    // 128 KiB: less than the code, and more than the image of a memory, which is a file too.
    let line = r#"trap '' XFSZ; ulimit -f 256; exec "$0" --exact "$1" --nocapture"#;
    let output = Command::new("sh")
        .args(["-c", line])
        .arg(std::env::current_exe()?)
        .arg(name)
        .env("OPERON_WASM_DIR", folder.path())
        .env(AGAIN, "1")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
