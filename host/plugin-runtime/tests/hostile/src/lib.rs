//! A component that misbehaves on demand: the target's name selects how.
//!
//! It is a guest like any other, built against `wit/action.wit` without the SDK, so that the tests of
//! the runtime show what the host does with a component that keeps no rule of its own. Natively there
//! is nothing in it.

#[cfg(target_family = "wasm")]
mod attempts;
#[cfg(target_family = "wasm")]
mod careless;
#[cfg(target_family = "wasm")]
mod forbidden;
#[cfg(target_family = "wasm")]
mod guest;
