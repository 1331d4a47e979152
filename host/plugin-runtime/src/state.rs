//! The state of a store while a call runs: the budget, the view of the cluster, the log, and an empty WASI
//! world.

use std::sync::Arc;

use operon_core::action::ClusterView;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    budget::Budget,
    limits::{RANDOM_BYTES, WASI_HANDLES},
    log::LogLines,
    output::Output,
};

/// The data of one call's store.
pub(crate) struct State {
    /// What the call may use.
    pub(crate) budget: Budget,
    /// What it may read; nothing during `setup`.
    pub(crate) cluster: Option<Arc<dyn ClusterView>>,
    /// The fields of its log lines.
    pub(crate) log: LogLines,
    /// Its standard output and error.
    pub(crate) output: Output,
    wasi: WasiCtx,
    handles: ResourceTable,
}

impl State {
    /// The state of a call that has not begun.
    pub(crate) fn new(
        budget: Budget,
        cluster: Option<Arc<dyn ClusterView>>,
        log: LogLines,
    ) -> Self {
        let output = Output::default();
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(WASI_HANDLES);
        let wasi = WasiCtx::builder()
            .stdout(output.clone())
            .stderr(output.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(RANDOM_BYTES)
            .build();
        Self {
            budget,
            cluster,
            log,
            output,
            wasi,
            handles,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.handles,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p2::bindings::random::random::Host as _;

    use super::*;

    fn state() -> State {
        State::new(Budget::new(0, 1), None, LogLines::default())
    }

    #[test]
    fn a_call_holds_handles_of_wasi_up_to_their_number() {
        let mut state = state();
        let held = (0..1_000).map_while(|number| state.handles.push(number).ok());
        assert_eq!(held.count(), WASI_HANDLES);
    }

    #[test]
    fn a_call_is_given_random_bytes_up_to_their_number() {
        let mut state = state();
        let random = state.wasi.random();
        let most = random.get_random_bytes(RANDOM_BYTES);
        assert!(most.is_ok_and(|bytes| bytes.len() as u64 == RANDOM_BYTES));
        assert!(random.get_random_bytes(RANDOM_BYTES + 1).is_err());
    }
}
