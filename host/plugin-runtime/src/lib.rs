//! Runs actions as WebAssembly components: the only crate that knows wasmtime.
//!
//! [`Loader`] turns bytes into an [`Action`](operon_core::action::Action): it has them compiled in a child
//! process (`compile`), checks what the component imports and exports (`world`), calls its setup, and
//! validates its settings (`schema`, `values`). Each call then runs in a store of its own (`call`), in its share of the
//! processors (`slices`), within a budget of memory, time, host calls and data (`budget`). Reads and log lines of the component go
//! through `cluster` and `log`; its answers are checked and shortened where they enter (`answer`, `json`).
//! Every limit is in `limits`. Nothing here talks to Kubernetes or decides what happens to a target.

mod action;
mod answer;
mod bindings;
mod budget;
mod call;
mod child;
mod cluster;
mod compile;
mod convert;
mod describe;
mod engine;
mod fault;
mod json;
mod limits;
mod loader;
mod log;
mod observer;
mod output;
mod schema;
mod slices;
mod state;
mod symbols;
mod values;
mod world;

pub use child::ChildArguments;
pub use compile::{CompileArguments, compile_child};
pub use describe::{Description, Producer, describe};
pub use engine::MAX_MEMORY;
pub use limits::MOST_COMPONENT_BYTES;
pub use loader::{Loader, LoaderConfig, StartError};
pub use observer::{CacheFault, CallObserver, CodeSource, Function, NoObserver, Outcome};
pub use operon_compiled_code::{ChildLimits, ChildProgram};
pub use values::check_value_child;
