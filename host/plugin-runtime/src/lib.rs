//! Runs actions as WebAssembly components: the only crate that knows wasmtime.
//!
//! [`Loader`] turns bytes into an [`Action`](operon_core::action::Action): it has them compiled in a
//! child process (`compile`), checks what the component imports and exports (`world`), asks it to
//! set up, and validates its settings (`schema`). Each call then runs in a store of its own
//! (`call`), within limits of memory, time, host calls and data (`limits`). What the component reads
//! and logs goes through `cluster` and `log`; what it answers is checked and clamped where it enters
//! (`answer`). Nothing here talks to Kubernetes or decides what happens to a target.

mod action;
mod answer;
mod bindings;
mod call;
mod cluster;
mod compile;
mod convert;
mod engine;
mod fault;
mod limits;
mod loader;
mod log;
mod observer;
mod output;
mod schema;
mod state;
mod world;

pub use compile::{CompileArguments, compile_child};
pub use engine::MAX_MEMORY;
pub use loader::{Loader, LoaderConfig, StartError};
pub use observer::{CallObserver, CodeSource, NoObserver, Outcome};
pub use operon_compiled_code::{CompileCommand, CompileLimits};
