//! Checks the type of the bytes and the imports and exports of a component, so that a refusal names the
//! cause instead of a mismatch deep inside wasmtime.

use operon_core::{action::LoadError, action_plugin::status::INTERFACE_VERSION as VERSION};
use wasmtime::{Engine, component::Component};

/// What the component must export.
const HANDLER: &str = "operon:action/handler";
/// The package of the contract, as its interfaces' names begin.
const PACKAGE: &str = "operon:action/";
/// The interfaces of WASI that exist here, with nothing behind them.
const WASI: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Refuses what can't be a component, or is larger than `most` bytes, before it is passed to the compiler.
pub(crate) fn check_bytes(bytes: &[u8], most: usize) -> Result<(), LoadError> {
    const WASM: &[u8] = b"\0asm";
    if bytes.len() > most {
        let (size, limit) = (bytes.len().div_ceil(1 << 20), most >> 20);
        return refuse(
            "TooLarge",
            format!(
                "the component has {size} MiB; components.maxSizeMiB of the chart allows at most {limit} MiB"
            ),
        );
    }
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(WASM), Some([1, 0, 0, 0])) => refuse(
            "CoreModule",
            "this is a core WebAssembly module; build a component, for example for the target wasm32-wasip2",
        ),
        (Some(WASM), Some([_, _, 1, 0])) => Ok(()),
        (Some(WASM), Some(_)) => refuse(
            "Malformed",
            "this is WebAssembly of an unknown layer or version",
        ),
        (Some(WASM), None) => refuse("Truncated", "the component ends within its first 8 bytes"),
        _ => refuse(
            "NotWasm",
            "this is not WebAssembly: its first bytes are not those of a component",
        ),
    }
}

/// Refuses a component whose world is not the contract's.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    let world = component.component_type();
    let exports: Vec<_> = world
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let handler = exports.iter().find(|name| split(name).0 == HANDLER);
    let Some(handler) = handler else {
        let exports = if exports.is_empty() {
            "nothing".into()
        } else {
            exports.join(", ")
        };
        let message =
            format!("the component exports {exports}; this host needs {HANDLER}@{VERSION}");
        return refuse("WrongInterface", message);
    };
    if !compatible(handler) {
        let message = format!(
            "the component exports {handler}; this host runs {HANDLER}@{VERSION}: build the component again with that version of the contract"
        );
        return refuse("WrongInterface", message);
    }
    for (name, _) in world.imports(engine) {
        if name.starts_with(PACKAGE) && !compatible(name) {
            let known = split(name).0;
            let message = format!("the component imports {name}; this host has {known}@{VERSION}");
            return refuse("WrongInterface", message);
        }
        if !name.starts_with(PACKAGE) && !WASI.iter().any(|known| name.starts_with(known)) {
            let message = format!(
                "the component imports {name}, which is not available to actions: they can import {PACKAGE}cluster and {PACKAGE}log"
            );
            return refuse("UnknownImport", message);
        }
    }
    Ok(())
}

/// The refusal of a component that wasmtime could not link: the names match, so the types do not.
pub(crate) fn unlinkable(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    let reason = if text.contains("wasi:") {
        "UnknownImport"
    } else {
        "WrongInterface"
    };
    refusal(
        reason,
        format!("the component does not fit {PACKAGE}*@{VERSION}: {text}"),
    )
}

/// A refusal that trying again can't help.
pub(crate) fn refusal(reason: &'static str, message: impl Into<String>) -> LoadError {
    LoadError {
        reason,
        message: message.into(),
        transient: false,
    }
}

fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, LoadError> {
    Err(refusal(reason, message))
}

/// An interface's name, and its version.
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Versions before 1.0 are compatible if major and minor are the same.
fn compatible(name: &str) -> bool {
    let series = |version: &str| {
        let mut parts = version.splitn(3, '.').map(str::to_owned);
        (parts.next(), parts.next())
    };
    series(split(name).1) == series(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_component_are_told_apart() {
        for (bytes, reason) in [
            (b"".as_slice(), "NotWasm"),
            (b"apiVersion: v1", "NotWasm"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "NotWasm"),
            (b"\0as", "NotWasm"),
            (b"\0asm\x0d\0", "Truncated"),
            (b"\0asm\x01\0\0\0", "CoreModule"),
            (b"\0asm\x07\0\x02\0", "Malformed"),
        ] {
            let refused = check_bytes(bytes, 1 << 20).map_err(|error| error.reason);
            assert_eq!(refused, Err(reason), "{bytes:?}");
        }
        assert_eq!(check_bytes(b"\0asm\x0d\0\x01\0", 8), Ok(()));
        let large = check_bytes(b"\0asm\x0d\0\x01\0", 7).map_err(|error| error.reason);
        assert_eq!(large, Err("TooLarge"));
    }

    #[test]
    fn a_version_is_compatible_within_its_minor_version() {
        assert!(compatible("operon:action/log@0.2.0"));
        assert!(compatible("operon:action/log@0.2.7"));
        assert!(!compatible("operon:action/log@0.1.0"));
        assert!(!compatible("operon:action/log@1.2.0"));
        assert!(!compatible("operon:action/log"));
    }

    #[test]
    fn the_released_contract_is_the_one_that_this_host_runs() {
        let now = include_str!("../../../wit/action.wit");
        let released = include_str!("../../../wit/released/0.2.0/action.wit");
        assert!(now.contains(&format!("package operon:action@{VERSION};")));
        assert_eq!(
            now, released,
            "a released contract never changes: a change of wit/action.wit is a new version in wit/released"
        );
    }
}
