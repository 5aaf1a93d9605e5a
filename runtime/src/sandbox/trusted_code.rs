//! The one place with `unsafe`: turning machine code that this runtime compiled earlier back into a component.
//!
//! `wasmtime` cannot check compiled code, so it is only loaded after [`super::cache`] has checked that the bytes
//! carry an authentication code under a key that only this user can read, or when they just came from the compiler. That runs
//! in a worker, on a vendor's component: a compiler that was subverted by one could give code of another meaning, as it could in
//! this process.
#![expect(unsafe_code, reason = "loading compiled code is unsafe by nature; see the module's comment")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes whose authentication code was found right, or that the compiler just gave. Made by [`super::cache`] only.
pub(super) struct Authenticated<'a>(pub(super) &'a [u8]);

/// Loads compiled code.
pub(super) fn load(engine: &Engine, code: &Authenticated<'_>) -> wasmtime::Result<Component> {
    // SAFETY: the bytes were written by `Engine::precompile_component` of this runtime: `Authenticated` is made
    // only where they came from the compiler, into memory of ours, or where their HMAC under the cache's secret key was
    // verified on this very buffer. wasmtime itself checks that version and settings match.
    unsafe { Component::deserialize(engine, code.0) }
}
