//! WASI p2 for components whose language cannot do without: an empty world.
//!
//! No file, no preopened folder, no environment, no argument, no standard input, no socket and no name to look up; what is
//! written to standard output and standard error is in the log. Each interface is linked only when it was granted by
//! name, or all of them by `wasi:empty`. A clock and randomness are real only where they were granted by name: else the
//! clock stands at 0 and "random" bytes are the same in every job, so that a job that runs again finds the same.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::{self as p2, sync};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{Deterministic, WasiCtx, WasiCtxView, WasiView, async_trait};

use super::log::{JobLog, Printed};
use super::stdio::LogStream;
use crate::module::manifest::Interface;
use crate::sandbox::engine::TICK;
use crate::sandbox::grants::Grants;
use crate::sandbox::state::{JobState, State};

/// The context behind the empty world, made when a guest first needs it.
pub(crate) struct Wasi {
    made: Option<WasiCtx>,
    log: JobLog,
    is_random: bool,
}

impl Wasi {
    pub(crate) fn new(log: JobLog, grants: &Grants) -> Self {
        Self { made: None, log, is_random: grants.interfaces.contains(&Interface::Random) }
    }

    fn context(&mut self) -> &mut WasiCtx {
        let Self { made, log, is_random } = self;
        made.get_or_insert_with(|| {
            let stream = |stream| LogStream { log: log.clone(), stream };
            let mut context = WasiCtx::builder();
            context.allow_blocking_current_thread(true).allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
            context.stdout(stream(Printed::Out)).stderr(stream(Printed::Err));
            if !*is_random {
                // A number that is prime, so that whoever takes every second byte, or every fourth, meets all of them.
                let same = || Deterministic::new((0..251).map(|n: u8| n.wrapping_mul(167).wrapping_add(13)).collect());
                context.secure_random(same()).insecure_random(same()).insecure_random_seed(0x9e37_79b9_7f4a_7c15);
            }
            context.build()
        })
    }
}

impl WasiView for JobState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.context(), table: &mut self.table }
    }
}

/// Links what was granted of WASI.
pub(super) fn link(linker: &mut Linker<JobState>, grants: &Grants) -> wasmtime::Result<()> {
    use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
    use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
    use wasmtime_wasi::random::WasiRandom;
    let named = |interface| grants.interfaces.contains(&interface);
    let has = |interface| named(interface) || named(Interface::Empty);
    if named(Interface::Clocks) {
        p2::clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, JobState::clocks)?;
        p2::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, JobState::clocks)?;
    } else if named(Interface::Empty) {
        p2::clocks::wall_clock::add_to_linker::<_, Stopped>(linker, |s| StoppedClock(&mut s.table))?;
        p2::clocks::monotonic_clock::add_to_linker::<_, Stopped>(linker, |s| StoppedClock(&mut s.table))?;
    }
    if has(Interface::Random) {
        p2::random::random::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
        p2::random::insecure::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
        p2::random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |s| s.ctx().ctx.random())?;
    }
    if has(Interface::Io) {
        p2::io::error::add_to_linker::<_, Table>(linker, |s| &mut s.table)?;
        sync::io::poll::add_to_linker::<_, State>(linker, |s| s)?;
        sync::io::streams::add_to_linker::<_, Table>(linker, |s| &mut s.table)?;
    }
    if has(Interface::Cli) {
        link_cli(linker)?;
    }
    if has(Interface::Filesystem) {
        sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, JobState::filesystem)?;
        p2::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, JobState::filesystem)?;
    }
    if named(Interface::Empty) { link_sockets(linker) } else { Ok(()) }
}

fn link_cli(linker: &mut Linker<JobState>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
    p2::cli::exit::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::environment::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::stdin::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::stdout::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::stderr::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::terminal_input::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::terminal_output::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, JobState::cli)?;
    p2::cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, JobState::cli)
}

/// A socket is refused before there is one, and so is every name.
fn link_sockets(linker: &mut Linker<JobState>) -> wasmtime::Result<()> {
    use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
    p2::sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)?;
    p2::sockets::network::add_to_linker::<_, WasiSockets>(linker, &Default::default(), JobState::sockets)?;
    p2::sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)?;
    p2::sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)?;
    sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(linker, JobState::sockets)
}

/// A clock that stands still. Who waits has waited already: what would be over some time later would be a clock too.
struct Stopped;

impl HasData for Stopped {
    type Data<'a> = StoppedClock<'a>;
}

struct StoppedClock<'a>(&'a mut ResourceTable);

/// What it says its steps are, nanoseconds: 1 s.
const STOPPED_RESOLUTION_NS: u64 = 1_000_000_000;

impl p2::clocks::wall_clock::Host for StoppedClock<'_> {
    fn now(&mut self) -> wasmtime::Result<p2::clocks::wall_clock::Datetime> {
        Ok(p2::clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 0 })
    }

    fn resolution(&mut self) -> wasmtime::Result<p2::clocks::wall_clock::Datetime> {
        Ok(p2::clocks::wall_clock::Datetime { seconds: STOPPED_RESOLUTION_NS / 1_000_000_000, nanoseconds: 0 })
    }
}

impl p2::clocks::monotonic_clock::Host for StoppedClock<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(STOPPED_RESOLUTION_NS)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let over = self.0.push(Over)?;
        subscribe(self.0, over)
    }

    fn subscribe_duration(&mut self, _how_long: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_instant(0)
    }
}

/// A wait that is over.
struct Over;

#[async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

/// `wasi:io` works on the table alone.
struct Table;

impl HasData for Table {
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
