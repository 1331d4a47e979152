//! The two wasmtime engines: one that compiles (in the child), one that runs (in the host).
//!
//! Both share the settings that determine the machine code, so that the child's output runs here. Only the
//! running engine reserves memory for instances. A thread advances its epoch, by which a computing guest
//! yields the processor; it ends with the engine.

use std::{num::NonZeroUsize, time::Duration};

use wasmtime::{Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The most linear memory that an action may be allowed, in bytes.
pub const MAX_MEMORY: u64 = 256 << 20;

/// How often the epoch advances: how long a guest computes before it is interrupted.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How many frames of a trap's trace are kept: as many, and the guest's recursion is to blame.
pub(crate) const TRACE_FRAMES: usize = 64;

/// Instances, memories and tables that one component may consist of. A component of Rust has three
/// instances and one memory; one of Python has 38 instances, a library each.
pub(crate) const INSTANCES_PER_COMPONENT: u32 = 64;
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
pub(crate) const TABLES_PER_COMPONENT: u32 = 16;
/// Entries of all tables of a component: about as many as it has functions.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;

/// Up to so many bytes, a table is cleared in place. To give its pages back takes a call of the kernel, which interrupts
/// the other processors, and the next instance has the pages mapped again.
const TABLE_RESIDENT: usize = 16 << 10;

const STACK: usize = 512 << 10;
const ASYNC_STACK: usize = 1 << 20;

/// The settings that both engines share.
///
/// Each memory reserves the 4 GiB that 32 bits can address, however little an action may use: so machine code needs no
/// checks of its addresses, and is smaller and faster.
fn shared() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        // What only a debugger of machine code needs, and offsets in traces, whose functions have names. An idle plugin
        // takes less memory without them.
        .native_unwind_info(false)
        .generate_address_map(false)
        .max_wasm_stack(STACK)
        .async_stack_size(ASYNC_STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(TRACE_FRAMES));
    config
}

/// The engine of the compile child.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&shared())
}

/// The engine that runs at most `instances` calls at a time.
///
/// Assumption: address space is not limited (`ulimit -v`), because the slots reserve it.
pub(crate) fn running(instances: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(INSTANCES_PER_COMPONENT))
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(instances)
        .max_core_instances_per_component(INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_memory_size(usize::try_from(MAX_MEMORY).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(0)
        .table_keep_resident(TABLE_RESIDENT);
    let mut config = shared();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    tick(engine.weak())?;
    Ok(engine)
}

/// Advances the epoch until the engine is dropped.
fn tick(engine: EngineWeak) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}
