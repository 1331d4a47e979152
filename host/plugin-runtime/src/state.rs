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
