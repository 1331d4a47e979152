//! What the host does with bytes that are no action, or that are too heavy: every refusal has a reason of its own.

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use operon_plugin_runtime::{ChildLimits, ChildProgram, Loader, LoaderConfig};
use support::{config, heavy, hostile, refusal};

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
