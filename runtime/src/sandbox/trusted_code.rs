//! The one place with `unsafe`: turning machine code that this runtime compiled earlier back into a component.
//!
//! `wasmtime` cannot check compiled code, so it is only loaded after [`super::cache`] has checked that the bytes
//! carry an authentication code under a key that only this user can read.
#![expect(unsafe_code, reason = "loading compiled code is unsafe by nature; see the module's comment")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes whose authentication code was found right. Made by [`super::cache`] only.
pub(super) struct Authenticated<'a>(pub(super) &'a [u8]);

/// Loads compiled code.
pub(super) fn load(engine: &Engine, code: &Authenticated<'_>) -> wasmtime::Result<Component> {
    // SAFETY: the bytes were written by `Engine::precompile_component` in this runtime: `Authenticated` is made
    // only where their HMAC under the cache's secret key was verified on this very buffer. wasmtime itself checks
    // that version and settings match.
    unsafe { Component::deserialize(engine, code.0) }
}
