//! wasmtime's engine as Gantry needs it, and the clock that interrupts guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::Limits;

/// How often a running guest looks whether it must stop.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Makes the engine: instances come from a pool sized by `limits`.
pub(super) fn engine(limits: &Limits) -> wasmtime::Result<Engine> {
    let mut config = config(limits);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    Engine::new(&config)
}

/// Makes an engine that only compiles, and so needs no pool. Its code is for those of [`engine`]: where instances lie makes
/// none of it, and wasmtime refuses code of other settings.
pub(super) fn compiler(limits: &Limits) -> wasmtime::Result<Engine> {
    Engine::new(&config(limits))
}

/// All that code depends on: components only, interruptible.
fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(limits.guest_stack_kib << 10);
    // Guests are single-threaded, and shared memory would give them a clock.
    config.wasm_threads(false);
    config.memory_init_cow(true);
    config
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let jobs = limits.jobs_max;
    let each = limits.guest_instances_max;
    let memory = usize::try_from(limits.guest_memory_mib << 20).unwrap_or(usize::MAX);
    // A component has one memory in all but odd cases: a pool of four a job is roomy, and address space is cheap.
    let memories = jobs.saturating_mul(each.min(4));
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(jobs)
        .total_core_instances(jobs.saturating_mul(each))
        .total_memories(memories)
        .total_tables(jobs.saturating_mul(each))
        .max_core_instances_per_component(each)
        .max_memories_per_component(each.min(4))
        .max_tables_per_component(each)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .table_elements(limits.guest_table_elements_max)
        .max_memory_size(memory)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    pool
}

/// Advances the engine's epoch every [`TICK`] until dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, stopped) = (engine.weak(), stop.clone());
        let thread = std::thread::Builder::new().name("gantry-epoch".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and there is nothing to do if it had.
            let _ = thread.join();
        }
    }
}
