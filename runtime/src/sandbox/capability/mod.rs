//! What a guest can be given, one file each: host functions over [`JobState`](super::JobState).
//!
//! A capability that was not granted is not in the linker: its functions do not exist for the guest.

pub(super) mod findings;
pub(super) mod frames;
pub(super) mod log;
pub(super) mod marks;
pub(super) mod nn;
pub(super) mod priors;
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
    let has = |interface| grants.interfaces.contains(&interface);
    if has(Interface::Volumes) || has(Interface::Nn) {
        wasi_nn::tensor::add_to_linker::<_, State>(linker, |s| s)?;
    }
    for interface in grants.interfaces.iter().filter(|interface| world.offers(**interface)) {
        match interface {
            Interface::Study => gi::study::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Priors => gi::priors::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Volumes => gi::volumes::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Findings => gi::findings::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Marks => gi::marks::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Upstream => gi::upstream::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Frames => gi_frames::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Log => gi::log::add_to_linker::<_, State>(linker, |s| s)?,
            Interface::Nn => {
                wasi_nn::graph::add_to_linker::<_, State>(linker, |s| s)?;
                wasi_nn::inference::add_to_linker::<_, State>(linker, |s| s)?;
                wasi_nn::errors::add_to_linker::<_, State>(linker, |s| s)?;
            }
            other => wasi::link(linker, *other)?,
        }
    }
    Ok(())
}
