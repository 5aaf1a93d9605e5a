//! What a guest can be given, one file each: host functions over [`JobState`](super::JobState).
//!
//! A capability that was not granted is not in the linker: its functions do not exist for the guest.

pub(super) mod filters;
pub(super) mod findings;
pub(super) mod frames;
pub(super) mod log;
pub(super) mod marks;
pub(super) mod nn;
pub(super) mod patches;
pub(super) mod priors;
pub(super) mod stdio;
pub(super) mod study;
pub(super) mod upstream;
pub(super) mod volumes;
pub(super) mod wasi;

use wasmtime::component::Linker;

use super::bindings::gantry::imaging as gi;
use super::bindings::wasi::nn as wasi_nn;
use super::grants::Grants;
use super::state::{JobState, State};
use super::stream_bindings::gantry::imaging::frames as gi_frames;
use crate::module::manifest::Interface;
use crate::module::world::World;

/// Links exactly what was granted, of what there is in this world.
pub(super) fn link(linker: &mut Linker<JobState>, grants: &Grants, world: World) -> wasmtime::Result<()> {
    gi::types::add_to_linker::<_, State>(linker, |s| s)?;
    // A getter is a plain function, and wasmtime calls it once for each call of the guest: that is where they are counted.
    let has = |interface| grants.interfaces.contains(&interface);
    if has(Interface::Volumes) || has(Interface::Nn) {
        wasi_nn::tensor::add_to_linker::<_, State>(linker, |s| s.called(Interface::Nn))?;
    }
    for interface in grants.interfaces.iter().filter(|interface| world.offers(**interface)) {
        match interface {
            Interface::Study => gi::study::add_to_linker::<_, State>(linker, |s| s.called(Interface::Study))?,
            Interface::Priors => gi::priors::add_to_linker::<_, State>(linker, |s| s.called(Interface::Priors))?,
            Interface::Volumes => gi::volumes::add_to_linker::<_, State>(linker, |s| s.called(Interface::Volumes))?,
            Interface::Filters => gi::filters::add_to_linker::<_, State>(linker, |s| s.called(Interface::Filters))?,
            Interface::Patches => gi::patches::add_to_linker::<_, State>(linker, |s| s.called(Interface::Patches))?,
            Interface::Findings => gi::findings::add_to_linker::<_, State>(linker, |s| s.called(Interface::Findings))?,
            Interface::Marks => gi::marks::add_to_linker::<_, State>(linker, |s| s.called(Interface::Marks))?,
            Interface::Upstream => gi::upstream::add_to_linker::<_, State>(linker, |s| s.called(Interface::Upstream))?,
            Interface::Frames => gi_frames::add_to_linker::<_, State>(linker, |s| s.called(Interface::Frames))?,
            Interface::Log => gi::log::add_to_linker::<_, State>(linker, |s| s.called(Interface::Log))?,
            Interface::Nn => {
                wasi_nn::graph::add_to_linker::<_, State>(linker, |s| s.called(Interface::Nn))?;
                wasi_nn::inference::add_to_linker::<_, State>(linker, |s| s.called(Interface::Nn))?;
                wasi_nn::errors::add_to_linker::<_, State>(linker, |s| s)?;
            }
            // Below, together.
            Interface::Clocks
            | Interface::Random
            | Interface::Io
            | Interface::Cli
            | Interface::Filesystem
            | Interface::Empty => {}
        }
    }
    wasi::link(linker, grants)
}
