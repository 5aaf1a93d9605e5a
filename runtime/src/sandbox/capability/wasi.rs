//! WASI p2 for components whose language cannot do without: an empty world.
//!
//! No file, no preopened folder, no environment, no argument, no standard input, no socket; what is written to
//! standard output goes nowhere. Each interface is linked only when it was granted by name.

use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::{self as p2, sync};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::module::manifest::Interface;
use crate::sandbox::engine::TICK;
use crate::sandbox::state::{JobState, State};

/// The context behind the empty world.
pub(crate) struct EmptyWasi(WasiCtx);

impl EmptyWasi {
    pub(crate) fn new() -> Self {
        Self(WasiCtx::builder().allow_blocking_current_thread(true).build())
    }
}

impl WasiView for JobState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = &mut self.wasi.get_or_insert_with(EmptyWasi::new).0;
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Links one granted WASI interface.
pub(super) fn link(linker: &mut Linker<JobState>, interface: Interface) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
    use wasmtime_wasi::random::WasiRandom;
    match interface {
        Interface::Clocks => {
            p2::clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, JobState::clocks)?;
            p2::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, JobState::clocks)?;
        }
        Interface::Random => {
            p2::random::random::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
            p2::random::insecure::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
            p2::random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
        }
        Interface::Io => {
            p2::io::error::add_to_linker::<_, Table>(linker, |s| &mut s.table)?;
            sync::io::poll::add_to_linker::<_, State>(linker, |s| s)?;
            sync::io::streams::add_to_linker::<_, Table>(linker, |s| &mut s.table)?;
        }
        Interface::Cli => {
            p2::cli::exit::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::environment::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::stdin::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::stdout::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::stderr::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::terminal_input::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::terminal_output::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
            p2::cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
        }
        Interface::Filesystem => {
            sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, JobState::filesystem)?;
            p2::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, JobState::filesystem)?;
        }
        Interface::Study
        | Interface::Priors
        | Interface::Volumes
        | Interface::Findings
        | Interface::Marks
        | Interface::Upstream
        | Interface::Frames
        | Interface::Log
        | Interface::Nn => {}
    }
    Ok(())
}

/// `wasi:io` works on the table alone.
struct Table;

impl wasmtime::component::HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Waiting, in steps of [`TICK`]: a guest that sleeps for an hour ends at its deadline, or when it is cancelled.
impl sync::io::poll::Host for JobState {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        loop {
            let again = pollables.iter().map(|p| Resource::new_borrow(p.rep())).collect();
            let table = &mut self.table;
            let step = in_tokio(async { tokio::time::timeout(TICK, waiting::Host::poll(table, again)).await });
            match step {
                Ok(ready) => return ready,
                Err(_) => self.check_time()?,
            }
        }
    }
}

impl sync::io::poll::HostPollable for JobState {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        in_tokio(async { waiting::HostPollable::ready(&mut self.table, pollable).await })
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        sync::io::poll::Host::poll(self, vec![pollable]).map(|_| ())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting::HostPollable::drop(&mut self.table, pollable)
    }
}
