//! WASI p2 for components whose language cannot do without: an empty world.
//!
//! No file, no preopened folder, no environment, no argument, no standard input, no socket; what is written to
//! standard output goes nowhere. Each interface is linked only when it was granted by name.

use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::{self as p2, sync};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::module::manifest::Interface;
use crate::sandbox::state::JobState;

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
            sync::io::poll::add_to_linker::<_, Table>(linker, |s| &mut s.table)?;
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
        Interface::Study | Interface::Volumes | Interface::Findings | Interface::Log | Interface::Nn => {}
    }
    Ok(())
}

/// `wasi:io` works on the table alone.
struct Table;

impl wasmtime::component::HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}
