//! Lines for the host's log, which adds the action, the job and the target to them. Natively, as in
//! tests, they are printed. Too many are dropped by the host.

#[cfg(target_family = "wasm")]
use crate::bindings::operon::action::log::{Level, log};

/// Only of use to who debugs the action.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref());
}

/// Something worth knowing happened.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref());
}

/// Something is not as expected; the action continues.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref());
}

/// Something went wrong.
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message.as_ref());
}

#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Clone, Copy)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(not(target_family = "wasm"))]
fn log(level: Level, message: &str) {
    println!("{level:?}: {message}");
}
